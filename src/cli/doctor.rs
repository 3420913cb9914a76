//! `ringmq doctor`: says what this machine allows, and what to do about what it doesn't.

use clap::Args;

use super::Exit;

/// Say what this machine allows: kernel, io_uring, limits; found, meaning, remedy.
///
/// Exit code 0: RingMQ can run here; 1: it can't.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {}

pub(super) fn doctor(_arguments: &DoctorArgs) -> Exit {
    Exit::CannotRun
}
