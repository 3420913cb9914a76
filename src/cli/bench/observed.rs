//! What the kernel tells of a process: CPU time, memory.

use std::fs;

/// A process on this machine: the broker, or this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Observed {
    pid: u32,
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
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.pid)) else { return 0 };
        let schedstats = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
        schedstats.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Bytes of physical memory that it uses.
    ///
    /// `smaps_rollup` walks the page tables; `status`, which is read without the right to look into the process, adds up
    /// counters of each CPU and may be off by some hundred kilobytes.
    pub fn resident_bytes(self) -> Option<u64> {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(format!("/proc/{}/{file}", self.pid)).ok()?;
            let value = text.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
        };
        field("smaps_rollup", "Rss:").or_else(|| field("status", "VmRSS:"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_cpu_and_memory_and_an_absent_one_is_not_observed() {
        assert!(Observed::new(std::process::id()).is_some());
        assert!(Observed::own().resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert_eq!(Observed::new(u32::MAX), None);
    }
}
