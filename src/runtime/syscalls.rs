//! Counts the system calls of another process, for the load generator.
//!
//! The kernel's tracepoint `raw_syscalls:sys_enter` is counted for each thread that the process has. That slows each of its
//! system calls a little, so nothing else should be measured meanwhile. It needs tracefs and the right to trace (root,
//! or `kernel.perf_event_paranoid` at -1); without them there is no counter.

#![allow(unsafe_code)]

use std::{
    fs::{self, File},
    io::Read,
    os::fd::FromRawFd,
};

/// Counts from the moment when it is made.
#[derive(Debug)]
pub struct SyscallCounter {
    threads: Vec<File>,
}

/// `struct perf_event_attr` of linux/perf_event.h in its first published size.
#[repr(C)]
#[derive(Default)]
struct EventAttributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

const _: () = assert!(size_of::<EventAttributes>() == 64, "PERF_ATTR_SIZE_VER0");

impl SyscallCounter {
    /// Counts the system calls of `pid` from now on; nothing where that is not permitted.
    #[must_use]
    pub fn start(pid: u32) -> Option<Self> {
        let tracepoint = TRACEPOINTS.iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())?;
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let threads = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse::<libc::pid_t>().ok());
        let threads: Option<Vec<File>> = threads.map(|thread| count_thread(thread, tracepoint)).collect();
        threads.filter(|threads| !threads.is_empty()).map(|threads| SyscallCounter { threads })
    }

    /// How many system calls there were since the start, by the threads that there were at the start.
    #[must_use]
    pub fn count(&self) -> u64 {
        let count = |mut thread: &File| {
            let mut bytes = [0; 8];
            thread.read_exact(&mut bytes).map_or(0, |()| u64::from_ne_bytes(bytes))
        };
        self.threads.iter().map(count).sum()
    }
}

fn count_thread(thread: libc::pid_t, tracepoint: u64) -> Option<File> {
    let attributes = EventAttributes {
        kind: TYPE_TRACEPOINT,
        size: size_of::<EventAttributes>() as u32,
        config: tracepoint,
        ..EventAttributes::default()
    };
    let (any_cpu, no_group) = (-1_i32, -1_i32);
    // SAFETY: the attributes live through the call and say their own size; the other arguments are integers.
    let descriptor = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attributes, thread, any_cpu, no_group, FLAG_CLOEXEC)
    };
    let descriptor = i32::try_from(descriptor).ok().filter(|&descriptor| descriptor >= 0)?;
    // SAFETY: the descriptor was just given to us and nobody else has it.
    Some(unsafe { File::from_raw_fd(descriptor) })
}

/// Where the tracepoint's number stands, by where tracefs is mounted.
const TRACEPOINTS: [&str; 2] = [
    "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id",
    "/sys/kernel/debug/tracing/events/raw_syscalls/sys_enter/id",
];
const TYPE_TRACEPOINT: u32 = 2;
const FLAG_CLOEXEC: libc::c_ulong = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_where_it_may() {
        let Some(counter) = SyscallCounter::start(std::process::id()) else {
            println!("counting system calls is not permitted here");
            return;
        };
        let before = counter.count();
        for _ in 0..100 {
            fs::metadata("/").unwrap();
        }
        assert!(counter.count() >= before + 100);
    }

    #[test]
    fn a_process_that_is_not_there_is_not_counted() {
        assert!(SyscallCounter::start(u32::MAX).is_none());
    }
}
