//! The only room that names glommio and io_uring.
