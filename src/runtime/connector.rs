//! Connecting to a server, for the load generator: outside the ring.
//!
//! A connect is only begun here: the ring waits for its answer, so that thousands are under way at once. What always
//! holds: nothing here waits, and a socket that is returned has TCP_NODELAY and blocks. On loopback it does without a
//! congestion control that measures and paces: there is nothing to find out about a path without a bottleneck, and what
//! that costs with each send would be the load generator's own.

#![allow(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use super::{
    kernel::{Errno, Socket},
    system,
    wires::ReleasedSocket,
};

/// Begins to connect to `to`, from the local address `from` if one is given. A recv and a send of the ring wait until the
/// server has answered, and fail with what went wrong.
///
/// # Errors
///
/// What the kernel knows at once.
pub fn begin(to: SocketAddr, from: Option<IpAddr>) -> Result<ReleasedSocket, Errno> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket(2) takes three integers.
    let socket = Socket(system::checked(unsafe { libc::socket(family, kind, 0) })?);
    match prepare(socket, to, from).and_then(|()| begin_on(socket, to)) {
        Ok(()) => Ok(ReleasedSocket { socket, peer: to, listener: 0 }),
        Err(errno) => {
            system::close(socket);
            Err(errno)
        }
    }
}

fn begin_on(socket: Socket, to: SocketAddr) -> Result<(), Errno> {
    match system::connect(socket, to) {
        Ok(()) | Err(Errno(libc::EINPROGRESS)) => {
            // SAFETY: fcntl(2) with F_SETFL takes integers. Of the flags that it clears, a new socket has O_NONBLOCK only.
            system::checked(unsafe { libc::fcntl(socket.0, libc::F_SETFL, 0) }).map(drop)
        }
        Err(errno) => Err(errno),
    }
}

fn prepare(socket: Socket, to: SocketAddr, from: Option<IpAddr>) -> Result<(), Errno> {
    if let Some(from) = from {
        // The port is chosen at connect, so that it need be free towards this server only.
        system::set_option(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        system::bind(socket, SocketAddr::new(from, 0))?;
    }
    if to.ip().is_loopback() {
        // A kernel that has none by this name, or does not allow it, leaves the socket with its own choice.
        let _ = system::set_option(socket, libc::IPPROTO_TCP, libc::TCP_CONGESTION, SIMPLE_CONGESTION_CONTROL);
    }
    system::set_option(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// The one that every Linux kernel has, and lets anybody choose unless it was told otherwise.
const SIMPLE_CONGESTION_CONTROL: [u8; 4] = *b"reno";

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::{TcpListener, TcpStream},
        os::fd::FromRawFd,
    };

    use super::*;

    #[test]
    fn it_connects_from_the_address_that_was_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let from = "127.0.0.7".parse().unwrap();
        let begun = begin(to, Some(from)).unwrap();
        let (_accepted, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), from);
        assert_eq!(begun.peer, to);
        system::close(begun.socket);
        drop(listener);
        let refused = begin(to, None).and_then(|begun| {
            // SAFETY: the descriptor is open and nobody else has it.
            let mut stream = unsafe { TcpStream::from_raw_fd(begun.socket.0) };
            stream.read(&mut [0]).map_err(|error| Errno(error.raw_os_error().unwrap()))
        });
        assert_eq!(refused, Err(Errno(libc::ECONNREFUSED)));
    }
}
