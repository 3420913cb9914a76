//! Marries the runtime to the pure rooms.
