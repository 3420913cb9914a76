//! Connecting to a server, for the load generator: outside the ring.
//!
//! On loopback and in a data centre a connect takes tens of microseconds, so one blocking call at a time is enough, until
//! the server is slow to accept: then [`begin`] leaves the waiting to the ring. What always holds: the wait for an answer
//! has a limit or belongs to the caller, and a socket that is returned has TCP_NODELAY and blocks.

#![allow(unsafe_code)]

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    kernel::{Errno, Socket},
    system,
    wires::ReleasedSocket,
};

/// Connects to `to`, from the local address `from` if one is given, and waits at most `patience` for the answer.
///
/// # Errors
///
/// `EINPROGRESS` when the patience ran out, else what the kernel says.
pub fn connect(to: SocketAddr, from: Option<IpAddr>, patience: Duration) -> Result<ReleasedSocket, Errno> {
    make(to, from, |socket| {
        send_timeout(socket, patience)?;
        system::connect(socket, to)?;
        // The ring's own sends wait as long as it takes.
        send_timeout(socket, Duration::ZERO)
    })
}

/// Begins to connect to `to`, from the local address `from` if one is given. A recv and a send of the ring wait until the
/// server has answered, and fail with what went wrong.
///
/// # Errors
///
/// What the kernel knows at once.
pub fn begin(to: SocketAddr, from: Option<IpAddr>) -> Result<ReleasedSocket, Errno> {
    make(to, from, |socket| {
        system::set_nonblocking(socket, true)?;
        match system::connect(socket, to) {
            Ok(()) | Err(Errno(libc::EINPROGRESS)) => system::set_nonblocking(socket, false),
            Err(errno) => Err(errno),
        }
    })
}

/// A socket that `connects`; it is closed if that fails.
fn make(
    to: SocketAddr,
    from: Option<IpAddr>,
    connects: impl FnOnce(Socket) -> Result<(), Errno>,
) -> Result<ReleasedSocket, Errno> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: socket(2) takes three integers.
    let socket = Socket(system::checked(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?);
    match prepare(socket, from).and_then(|()| connects(socket)) {
        Ok(()) => Ok(ReleasedSocket { socket, peer: to, listener: 0 }),
        Err(errno) => {
            system::close(socket);
            Err(errno)
        }
    }
}

fn prepare(socket: Socket, from: Option<IpAddr>) -> Result<(), Errno> {
    if let Some(from) = from {
        // The port is chosen at connect, so that it need be free towards this server only.
        system::set_option(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        system::bind(socket, SocketAddr::new(from, 0))?;
    }
    system::set_option(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// The limit of a blocking connect or send; zero is none.
fn send_timeout(socket: Socket, limit: Duration) -> Result<(), Errno> {
    let limit = libc::timeval {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: libc::suseconds_t::from(limit.subsec_micros()),
    };
    system::set_option(socket, libc::SOL_SOCKET, libc::SO_SNDTIMEO, limit)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn it_connects_from_the_address_that_was_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let from = "127.0.0.7".parse().unwrap();
        let connected = connect(to, Some(from), Duration::from_secs(5)).unwrap();
        let (_accepted, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), from);
        assert_eq!(connected.peer, to);
        system::close(connected.socket);
        let begun = begin(to, Some(from)).unwrap();
        let (_accepted, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), from);
        system::close(begun.socket);
        drop(listener);
        assert_eq!(connect(to, None, Duration::from_secs(5)), Err(Errno(libc::ECONNREFUSED)));
    }
}
