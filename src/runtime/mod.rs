//! The only room that names glommio and io_uring.
//!
//! Owns: the executors (a thread per CPU, pinned), the ring of each, the listeners and sockets of shards, the mesh between
//! shards, the clock, the signals, and the probe of what the machine can do. What always holds: whatever is here and
//! not [`uring`], [`listener`], [`connector`], [`executor`], [`syscalls`], [`signals`], `filesystem` or [`probe`] is pure over [`kernel::Kernel`], so that the
//! simulation runs the same code as production. It must never know what the bytes mean.
//!
//! # How a shard parks
//!
//! The executor runs exactly one task of ours, and that task blocks in its own ring's `io_uring_enter`, which takes the
//! submissions along and returns with the first completion. The mesh wakes it by an eventfd that a poll on the same ring
//! watches, one for each shard that sits there. There is no second ring to wait on, so nothing can be missed between looking and sleeping: the kernel checks
//! its completion queue itself. The price is that no other task of the same executor ever runs, because ours never yields:
//! glommio parks when its preemption timer fires before it looks at its tasks, and one that has only woken itself stays
//! parked with it until something else happens.

pub mod clock;
pub mod connector;
pub mod descriptors;
mod drain;
pub mod executor;
pub mod fake;
mod filesystem;
pub mod kernel;
pub mod listener;
pub mod memory;
pub mod mesh;
pub mod probe;
pub mod signals;
mod slots;
pub mod syscalls;
mod system;
pub mod uring;
pub mod wake;
pub mod wires;

pub use self::{
    clock::Clock,
    filesystem::{hole_after, room_at},
    kernel::{Errno, Kernel, Socket},
    mesh::{Mesh, MeshPort},
    slots::ConnectionId,
    uring::{
        Uring, UringParameters,
        seat::{SEATS, Seat, Table},
    },
    wake::Wake,
    wires::{Close, CloseCause, ReleasedSocket, Wait, WireHandler, Wires, WiresCounters, WiresParameters},
};
