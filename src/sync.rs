//! The atomics and cells of everything that shards share, so that loom can stand in for them (`--features loom`).

#[cfg(not(feature = "loom"))]
pub(crate) use std::{
    cell::UnsafeCell as StdUnsafeCell,
    sync::{Arc, atomic},
};

#[cfg(feature = "loom")]
pub(crate) use loom::sync::{Arc, atomic};

/// loom's cell has a closure interface; this is the same interface over the standard cell.
#[cfg(not(feature = "loom"))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(StdUnsafeCell<T>);

#[cfg(not(feature = "loom"))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(StdUnsafeCell::new(value))
    }

    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

#[cfg(feature = "loom")]
pub(crate) use loom::cell::UnsafeCell;
