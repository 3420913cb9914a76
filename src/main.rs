//! The `ringmq` binary. Everything it does lives in the library's [`ringmq::cli`].

/// One allocator for the whole process: mimalloc keeps per-thread heaps, which fits a thread per core.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ringmq::cli::main()
}
