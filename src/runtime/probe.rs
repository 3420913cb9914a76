//! What the machine can do: for the lines at start-up and for `ringmq doctor`.
//!
//! What always holds: a probe changes nothing and never fails; what can't be found out is said to be unknown.

use io_uring::{IoUring, Probe, opcode};

use super::{
    descriptors::descriptor_limit,
    executor::allowed_cpus,
    kernel::Errno,
    uring::{Uring, UringError, UringParameters},
    wake::Wake,
};

/// Something about the machine that RingMQ depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// What is needed, or recommended.
    pub required: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// What it means for the broker.
    pub meaning: &'static str,
    /// What to do when it isn't as it should be.
    pub remedy: &'static str,
}

/// How a finding compares with what is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// RingMQ runs, but not at its best.
    Poor,
    /// RingMQ can't run.
    Fatal,
}

impl Finding {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.verdict == Verdict::Fine
    }
}

/// A kernel's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
}

/// The oldest kernel with all that the ring uses: deferred task work came last.
pub const KERNEL_REQUIRED: KernelVersion = KernelVersion { major: 6, minor: 1 };

/// Kernel memory of a connection with an armed recv, in bytes (measured: 3.6 KB for the socket, 864 B for the recv).
pub const KERNEL_BYTES_PER_CONNECTION: u64 = 4_500;

/// Descriptors that the process needs besides its connections, as a rule of thumb per shard.
pub const DESCRIPTORS_PER_SHARD: u64 = 32;

/// Looks at everything. RingMQ can run when no finding is [`Verdict::Fatal`].
#[must_use]
pub fn probe() -> Vec<Finding> {
    let mut findings = vec![kernel_finding(), uring_finding()];
    findings.extend(feature_findings());
    findings.extend([
        cpu_finding(),
        descriptor_finding(),
        memlock_finding(),
        somaxconn_finding(),
        port_range_finding(),
    ]);
    findings
}

/// Whether RingMQ can run with these findings.
#[must_use]
pub fn can_run(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.verdict != Verdict::Fatal)
}

/// The running kernel's version; nothing when it can't be read.
#[must_use]
pub fn kernel_version() -> Option<KernelVersion> {
    parse_version(&read("/proc/sys/kernel/osrelease")?)
}

/// The running kernel's full name, like `6.12.9-amd64`.
#[must_use]
pub fn kernel_release() -> Option<String> {
    read("/proc/sys/kernel/osrelease")
}

/// The kernel's limit of a listener's backlog.
#[must_use]
pub fn somaxconn() -> Option<u64> {
    read("/proc/sys/net/core/somaxconn")?.parse().ok()
}

/// Whether a ring as a shard uses it can be made, and if not, why.
///
/// # Errors
///
/// What the kernel said.
pub fn try_ring() -> Result<(), UringError> {
    let wake = Wake::new().map_err(|error| UringError::Setup(Errno(error.raw_os_error().unwrap_or(libc::EIO))))?;
    let small = UringParameters { submissions: 8, completions: 16, buffers: 2, ..UringParameters::default() };
    Uring::new(small, wake).map(drop)
}

fn kernel_finding() -> Finding {
    let version = kernel_version();
    Finding {
        name: "kernel",
        found: kernel_release().unwrap_or_else(unknown),
        required: format!("{}.{} or newer", KERNEL_REQUIRED.major, KERNEL_REQUIRED.minor),
        verdict: match version {
            Some(version) if version < KERNEL_REQUIRED => Verdict::Fatal,
            Some(_) => Verdict::Fine,
            None => Verdict::Poor,
        },
        meaning: "the ring uses multishot operations, provided buffer rings and deferred task work",
        remedy: "boot a kernel 6.1 or newer",
    }
}

fn uring_finding() -> Finding {
    let disabled = read("/proc/sys/kernel/io_uring_disabled");
    let (found, verdict) = match try_ring() {
        Ok(()) => ("works".to_owned(), Verdict::Fine),
        Err(error) => (error.to_string(), Verdict::Fatal),
    };
    let remedy = match disabled.as_deref() {
        Some("1" | "2") => "sysctl kernel.io_uring_disabled=0",
        _ => "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile of the container",
    };
    Finding {
        name: "io_uring",
        found,
        required: "works".to_owned(),
        verdict,
        meaning: "all sockets are driven by a ring per shard; there is no other way in",
        remedy,
    }
}

/// One feature of the ring: its name, whether RingMQ can do without it, and what it is for.
struct Feature {
    name: &'static str,
    is_there: bool,
    is_required: bool,
    meaning: &'static str,
}

fn feature_findings() -> Vec<Finding> {
    let Ok(ring) = IoUring::new(4) else { return Vec::new() };
    let mut probe = Probe::new();
    let is_probed = ring.submitter().register_probe(&mut probe).is_ok();
    let operations = [
        opcode::AcceptMulti::CODE,
        opcode::Recv::CODE,
        opcode::Send::CODE,
        opcode::SendMsg::CODE,
        opcode::AsyncCancel::CODE,
        opcode::PollAdd::CODE,
    ];
    let parameters = ring.params();
    let features = [
        Feature {
            name: "io_uring operations",
            is_there: is_probed && operations.iter().all(|code| probe.is_supported(*code)),
            is_required: true,
            meaning: "accept, recv, send, sendmsg, cancel, poll",
        },
        Feature {
            name: "SINGLE_ISSUER, DEFER_TASKRUN",
            is_there: IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(4).is_ok_and(is_a_ring),
            is_required: true,
            meaning: "completions are worked out when the shard asks for them, on its own thread",
        },
        Feature {
            name: "EXT_ARG",
            is_there: parameters.is_feature_ext_arg(),
            is_required: true,
            meaning: "a wait on the ring takes a timeout along",
        },
        Feature {
            name: "NODROP",
            is_there: parameters.is_feature_nodrop(),
            is_required: true,
            meaning: "completions that don't fit into the queue are kept",
        },
        Feature {
            name: "bundles",
            is_there: parameters.is_feature_recvsend_bundle(),
            is_required: false,
            meaning: "one completion may carry several receive buffers (kernel 6.10); not used yet",
        },
    ];
    features.into_iter().map(Feature::finding).collect()
}

impl Feature {
    fn finding(self) -> Finding {
        let verdict = if self.is_required && !self.is_there { Verdict::Fatal } else { Verdict::Fine };
        Finding {
            name: self.name,
            found: if self.is_there { "there" } else { "missing" }.to_owned(),
            required: if self.is_required { "there" } else { "optional" }.to_owned(),
            verdict,
            meaning: self.meaning,
            remedy: "boot a kernel 6.1 or newer",
        }
    }
}

fn cpu_finding() -> Finding {
    let cpus = allowed_cpus();
    let list = cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    Finding {
        name: "cpus",
        found: format!("{} ({list})", cpus.len()),
        required: "1 or more".to_owned(),
        verdict: Verdict::Fine,
        meaning: "one shard runs on each CPU that the process is allowed to use",
        remedy: "widen the CPU affinity or the cpuset of the service",
    }
}

fn descriptor_finding() -> Finding {
    let limit = descriptor_limit();
    let (found, verdict) = match limit {
        Ok(limit) => {
            let connections = limit.hard.saturating_sub(DESCRIPTORS_PER_SHARD * allowed_cpus().len() as u64);
            let found = format!("{} (soft), {} (hard): about {connections} connections", limit.soft, limit.hard);
            (found, if limit.hard < NOFILE_GOOD { Verdict::Poor } else { Verdict::Fine })
        }
        Err(_) => (unknown(), Verdict::Poor),
    };
    Finding {
        name: "nofile",
        found,
        required: format!("{NOFILE_GOOD} (hard)"),
        verdict,
        meaning: "each connection takes a file descriptor; the soft limit is raised to the hard one at start",
        remedy: "LimitNOFILE=1048576 in the unit, --ulimit nofile=1048576 for a container, or /etc/security/limits.conf",
    }
}

fn memlock_finding() -> Finding {
    let limit = read("/proc/self/limits")
        .and_then(|limits| Some(limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?.to_owned()))
        .and_then(|line| line.split_whitespace().next().map(str::to_owned));
    let bytes = limit.as_deref().and_then(|limit| limit.parse::<u64>().ok());
    Finding {
        name: "memlock",
        found: limit.unwrap_or_else(unknown),
        required: format!("{MEMLOCK_REQUIRED} bytes"),
        // Without a number it is unlimited, or not known.
        verdict: if bytes.is_some_and(|bytes| bytes < MEMLOCK_REQUIRED) { Verdict::Fatal } else { Verdict::Fine },
        meaning: "the executors' rings are locked memory",
        remedy: "LimitMEMLOCK=64M in the unit, or --ulimit memlock=67108864 for a container",
    }
}

fn somaxconn_finding() -> Finding {
    let found = somaxconn();
    Finding {
        name: "somaxconn",
        found: found.map_or_else(unknown, |count| count.to_string()),
        required: SOMAXCONN_GOOD.to_string(),
        verdict: if found.is_some_and(|count| count < SOMAXCONN_GOOD) { Verdict::Poor } else { Verdict::Fine },
        meaning: "so many connections may wait for a shard to accept them; a reconnect storm needs room",
        remedy: "sysctl net.core.somaxconn=4096",
    }
}

fn port_range_finding() -> Finding {
    let range = read("/proc/sys/net/ipv4/ip_local_port_range");
    let ports = range.as_deref().and_then(|range| {
        let mut ends = range.split_whitespace().map(|end| end.parse::<u64>().ok());
        Some(ends.next()??.abs_diff(ends.next()??) + 1)
    });
    Finding {
        name: "port range",
        found: ports.map_or_else(unknown, |ports| format!("{ports} ports")),
        required: format!("{PORTS_GOOD} ports"),
        verdict: if ports.is_some_and(|ports| ports < PORTS_GOOD) { Verdict::Poor } else { Verdict::Fine },
        meaning: "a load generator on this machine opens at most so many connections per address",
        remedy: "sysctl net.ipv4.ip_local_port_range='1024 65535'",
    }
}

/// A million connections, less what fits in between.
const NOFILE_GOOD: u64 = 65_536;
/// What glommio asks for before it makes an executor.
const MEMLOCK_REQUIRED: u64 = 512 * 1024;
const SOMAXCONN_GOOD: u64 = 4_096;
/// Linux's own default has 28,232.
const PORTS_GOOD: u64 = 28_000;

fn is_a_ring(_ring: IoUring) -> bool {
    true
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn parse_version(release: &str) -> Option<KernelVersion> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some(KernelVersion { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let version = |release| parse_version(release);
        assert_eq!(version("6.1.0-18-amd64"), Some(KERNEL_REQUIRED));
        assert_eq!(version("6.12-rc3"), Some(KernelVersion { major: 6, minor: 12 }));
        assert!(version("5.15.0").unwrap() < KERNEL_REQUIRED);
        assert!(version("10.0.1").unwrap() > KERNEL_REQUIRED);
        assert_eq!(version("something"), None);
    }

    #[test]
    fn a_machine_that_runs_these_tests_can_run_the_broker() {
        let findings = probe();
        assert!(can_run(&findings), "{findings:#?}");
        for finding in &findings {
            assert!(!finding.found.is_empty() && !finding.meaning.is_empty() && !finding.remedy.is_empty());
        }
        assert!(findings.iter().any(|finding| finding.name == "io_uring" && finding.is_ok()));
    }
}
