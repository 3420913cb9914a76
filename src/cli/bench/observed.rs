//! What the kernel tells of a process: CPU time, memory.

use std::{collections::BTreeMap, fs, time::Duration};

/// A process on this machine: the broker, or this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Observed {
    pid: u32,
}

/// The CPU time of a process's threads at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuTimes {
    threads: BTreeMap<u32, ThreadTimes>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ThreadTimes {
    ran_ns: u64,
    /// It could have run, and did not get a CPU.
    waited_ns: u64,
}

/// What a process did between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct CpuUse {
    pub ran_ns: u64,
    /// Its threads together could have run so much longer.
    pub waited_ns: u64,
    /// CPUs that it could have kept busy: as many as it may use, at most one for each thread that did something.
    pub cpus: usize,
}

/// The CPU time that goes into something, from its begin on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    broker: Option<(Observed, ThreadTimes)>,
    own_ns: u64,
}

/// What each of many things took, in microseconds of CPU time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CpuEach {
    pub broker_us: Option<f64>,
    pub generator_us: f64,
}

impl Span {
    pub fn begin(broker: Option<Observed>) -> Self {
        Span { broker: broker.map(|broker| (broker, broker.cpu_times().sum())), own_ns: Observed::own().cpu_ns() }
    }

    /// How long the broker's threads together could have run until now and got no CPU.
    pub fn broker_waited(self) -> Option<Duration> {
        let (broker, before) = self.broker?;
        Some(Duration::from_nanos(broker.cpu_times().sum().waited_ns.saturating_sub(before.waited_ns)))
    }

    /// What each of so many things took until now.
    pub fn each(self, count: u64) -> CpuEach {
        let each =
            |process: Observed, before: u64| process.cpu_ns().saturating_sub(before) as f64 / 1e3 / count.max(1) as f64;
        let broker_us = self.broker.map(|(broker, before)| each(broker, before.ran_ns));
        CpuEach { broker_us, generator_us: each(Observed::own(), self.own_ns) }
    }
}

impl Observed {
    /// The process of that number, if it runs and lets itself be looked at.
    pub fn new(pid: u32) -> Option<Self> {
        let observed = Observed { pid };
        (observed.cpu_ns() > 0).then_some(observed)
    }

    /// This process.
    pub fn own() -> Self {
        Observed { pid: std::process::id() }
    }

    /// Its number.
    pub fn pid(self) -> u32 {
        self.pid
    }

    /// Nanoseconds that its threads have run, in user space and in the kernel, softirq work on their time included.
    pub fn cpu_ns(self) -> u64 {
        self.cpu_times().sum().ran_ns
    }

    /// How long each of its threads has run.
    pub fn cpu_times(self) -> CpuTimes {
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.pid)) else { return CpuTimes::default() };
        let times = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let mut numbers = text.split(' ').map_while(|number| number.parse().ok());
            let times = ThreadTimes { ran_ns: numbers.next()?, waited_ns: numbers.next()? };
            Some((task.file_name().to_str()?.parse().ok()?, times))
        };
        CpuTimes { threads: tasks.flatten().filter_map(times).collect() }
    }

    /// What it did from `before` to `after`, which were so long apart.
    pub fn cpu_use(self, before: &CpuTimes, after: &CpuTimes, elapsed: Duration) -> CpuUse {
        let mut used = CpuUse::default();
        let mut busy = 0;
        let mut allowed = Vec::new();
        for (thread, times) in &after.threads {
            let then = before.threads.get(thread).copied().unwrap_or_default();
            let ran_ns = times.ran_ns.saturating_sub(then.ran_ns);
            used.ran_ns += ran_ns;
            used.waited_ns += times.waited_ns.saturating_sub(then.waited_ns);
            if u128::from(ran_ns) * IDLE_BELOW > elapsed.as_nanos() {
                busy += 1;
                allowed.extend(self.allowed_cpus(*thread));
            }
        }
        allowed.sort_unstable();
        allowed.dedup();
        used.cpus = busy.min(allowed.len().max(1)).max(1);
        used
    }

    /// The CPUs that one of its threads may use.
    fn allowed_cpus(self, thread: u32) -> Vec<u32> {
        let text = fs::read_to_string(format!("/proc/{}/task/{thread}/status", self.pid)).unwrap_or_default();
        let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
        };
        list.split(',').filter_map(range).flatten().collect()
    }

    /// Bytes of physical memory that it uses.
    ///
    /// `smaps_rollup` walks the page tables; `status`, which is read without the right to look into the process, adds up
    /// counters of each CPU and may be off by some hundred kilobytes.
    pub fn resident_bytes(self) -> Option<u64> {
        self.memory("smaps_rollup", "Rss:").or_else(|| self.resident_bytes_about())
    }

    /// The same from the kernel's counters alone: cheap enough to be read while messages flow.
    pub fn resident_bytes_about(self) -> Option<u64> {
        self.memory("status", "VmRSS:")
    }

    /// The most that it ever used.
    pub fn resident_peak_bytes(self) -> Option<u64> {
        self.memory("status", "VmHWM:")
    }

    fn memory(self, file: &str, name: &str) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.pid)).ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
    }
}

impl CpuTimes {
    fn sum(&self) -> ThreadTimes {
        let add = |sum: ThreadTimes, thread: &ThreadTimes| ThreadTimes {
            ran_ns: sum.ran_ns + thread.ran_ns,
            waited_ns: sum.waited_ns + thread.waited_ns,
        };
        self.threads.values().fold(ThreadTimes::default(), add)
    }
}

impl CpuUse {
    /// Percent of one CPU that it had.
    pub fn percent(&self, seconds: f64) -> f64 {
        self.ran_ns as f64 / 1e7 / seconds
    }

    /// Percent of one CPU that it waited for.
    pub fn wait_percent(&self, seconds: f64) -> f64 {
        self.waited_ns as f64 / 1e7 / seconds
    }

    /// Whether it had nearly all of the CPUs that it could use: only then is a rate of messages the most that it can do.
    pub fn is_saturated(&self, seconds: f64) -> bool {
        self.percent(seconds) >= SATURATED_PERCENT * self.cpus as f64
    }
}

/// A thread that ran less than this part of the time is no worker.
const IDLE_BELOW: u128 = 50;
const SATURATED_PERCENT: f64 = 95.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_cpu_and_memory_and_an_absent_one_is_not_observed() {
        assert!(Observed::new(std::process::id()).is_some());
        assert!(Observed::own().resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(Observed::own().resident_bytes_about().is_some_and(|bytes| bytes > 100_000));
        assert!(Observed::own().resident_peak_bytes().is_some_and(|bytes| bytes > 100_000));
        assert_eq!(Observed::new(u32::MAX), None);
        assert!(!Observed::own().allowed_cpus(std::process::id()).is_empty());
    }

    #[test]
    fn a_process_is_saturated_when_its_busy_threads_had_their_cpus() {
        let times = |ran_ms: [u64; 2], waited_ms: u64| {
            let thread = |ran_ms| ThreadTimes { ran_ns: ran_ms * 1_000_000, waited_ns: waited_ms * 1_000_000 };
            CpuTimes { threads: BTreeMap::from([(1, thread(ran_ms[0])), (2, thread(ran_ms[1]))]) }
        };
        let (before, second) = (times([500, 500], 0), Duration::from_secs(1));
        let used = |ran_ms, waited_ms| Observed::own().cpu_use(&before, &times(ran_ms, waited_ms), second);
        let one = used([1460, 510], 20);
        assert_eq!((one.cpus, one.percent(1.0), one.wait_percent(1.0)), (1, 97.0, 4.0));
        assert!(one.is_saturated(1.0));
        assert!(!used([1300, 505], 200).is_saturated(1.0), "it wanted more and didn't get it");
        // Threads that have ended may use any CPU that a test could ask for; two CPUs are one at least.
        let two = used([1460, 1460], 0);
        assert!(two.is_saturated(1.0) && (1..=2).contains(&two.cpus));
    }
}
