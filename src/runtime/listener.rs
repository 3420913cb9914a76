//! Listening sockets: one per shard and address, between which the kernel spreads connections (SO_REUSEPORT).
//!
//! What always holds: all sockets of one address listen on the same port, accepted sockets have TCP_NODELAY (they inherit
//! it), and an IPv6 address doesn't take IPv4 along. A port that somebody else listens on is refused, when it is bound and
//! when it is listened on: SO_REUSEPORT alone would let two brokers of one user share their connections without a word.

#![allow(unsafe_code)]

use std::net::SocketAddr;

use super::{
    kernel::{Errno, Socket},
    system,
};

/// Why an address can't be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// No socket of that family could be made.
    #[error("no socket for {0}: {1}")]
    Socket(SocketAddr, Errno),
    /// An option of the socket was refused.
    #[error("{0}: a socket option was refused: {1}")]
    Option(SocketAddr, Errno),
    /// The address is in use, not ours, or not allowed.
    #[error("cannot bind {0}: {1}")]
    Bind(SocketAddr, Errno),
    /// The socket doesn't listen.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, Errno),
}

/// The sockets of one address, which listen when they are told to. Dropping them closes those that were not taken.
#[derive(Debug)]
pub struct Listeners {
    address: SocketAddr,
    sockets: Vec<Socket>,
}

impl Listeners {
    /// Binds one socket per shard to `address`. Port 0 takes a free one, the same for all shards. Who connects is refused by
    /// the kernel until [`Listeners::listen`].
    ///
    /// # Errors
    ///
    /// When the address can't be bound, also when another process listens there.
    pub fn bind(address: SocketAddr, shards: usize) -> Result<Self, ListenError> {
        // A port of the kernel's choice is nobody else's already, and is held from here on.
        if address.port() != 0 {
            check_unheard(address)?;
        }
        let first = Owned::bind(address, true)?;
        let address = system::local(first.0).map_err(|errno| ListenError::Bind(address, errno))?;
        let others = (1..shards).map(|_| Owned::bind(address, true)).collect::<Result<Vec<_>, _>>()?;
        let mut sockets: Vec<_> = std::iter::once(first).chain(others).map(Owned::into_socket).collect();
        // The first shard takes the first.
        sockets.reverse();
        Ok(Listeners { address, sockets })
    }

    /// From now on the kernel accepts connections. `backlog` is the number of them that may wait to be accepted by one
    /// shard; the kernel cuts it to `somaxconn`.
    ///
    /// # Errors
    ///
    /// When another process has begun to listen on the address meanwhile, or the kernel refuses.
    pub fn listen(&self, backlog: u32) -> Result<(), ListenError> {
        check_unheard(self.address)?;
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        for socket in self.sockets.iter().rev() {
            // SAFETY: listen(2) takes two integers.
            let listening = system::checked(unsafe { libc::listen(socket.0, backlog) });
            listening.map_err(|errno| ListenError::Listen(self.address, errno))?;
        }
        Ok(())
    }

    /// The address, with the port that was found when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the socket of the next shard; [`Wires::add_listener`](super::Wires::add_listener) owns it from there.
    #[must_use]
    pub fn take(&mut self) -> Option<Socket> {
        self.sockets.pop()
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.sockets.drain(..).for_each(system::close);
    }
}

/// An error when anybody listens on `address`: without SO_REUSEPORT it can't be bound then.
fn check_unheard(address: SocketAddr) -> Result<(), ListenError> {
    Owned::bind(address, false).map(drop)
}

/// A socket that is closed when it is dropped.
struct Owned(Socket);

impl Owned {
    fn bind(address: SocketAddr, reuse_port: bool) -> Result<Self, ListenError> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: socket(2) takes three integers.
        // [v3 MQTT-7.1.1-1] [v5 MQTT-4.2-1]
        let made = system::checked(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) });
        let owned = Owned(Socket(made.map_err(|errno| ListenError::Socket(address, errno))?));
        owned.set_options(address, reuse_port).map_err(|errno| ListenError::Option(address, errno))?;
        system::bind(owned.0, address).map_err(|errno| ListenError::Bind(address, errno))?;
        Ok(owned)
    }

    fn set_options(&self, address: SocketAddr, reuse_port: bool) -> Result<(), Errno> {
        let on: libc::c_int = 1;
        system::set_option(self.0, libc::SOL_SOCKET, libc::SO_REUSEADDR, on)?;
        if reuse_port {
            system::set_option(self.0, libc::SOL_SOCKET, libc::SO_REUSEPORT, on)?;
        }
        if address.is_ipv6() {
            system::set_option(self.0, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, on)?;
        }
        // Linux lets accepted sockets inherit it: no system call per connection.
        system::set_option(self.0, libc::IPPROTO_TCP, libc::TCP_NODELAY, on)
    }

    fn into_socket(self) -> Socket {
        let socket = self.0;
        std::mem::forget(self);
        socket
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        system::close(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn listening(address: &str, shards: usize) -> Listeners {
        let listeners = Listeners::bind(address.parse().unwrap(), shards).unwrap();
        listeners.listen(16).unwrap();
        listeners
    }

    #[test]
    fn all_shards_listen_on_the_port_that_the_first_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let mut listeners = listening(address, 3);
            let port = listeners.address().port();
            assert_ne!(port, 0);
            let sockets: Vec<_> = std::iter::from_fn(|| listeners.take()).collect();
            assert_eq!(sockets.len(), 3);
            for socket in &sockets {
                assert_eq!(system::local(*socket).unwrap(), listeners.address());
            }
            TcpStream::connect(listeners.address()).unwrap();
            sockets.into_iter().for_each(system::close);
        }
    }

    #[test]
    fn who_connects_before_they_listen_is_refused() {
        let listeners = Listeners::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let refused = TcpStream::connect(listeners.address()).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        listeners.listen(16).unwrap();
        TcpStream::connect(listeners.address()).unwrap();
    }

    #[test]
    fn a_port_that_is_listened_on_is_refused() {
        let first = listening("127.0.0.1:0", 1);
        let second = Listeners::bind(first.address(), 1);
        assert_eq!(second.unwrap_err(), ListenError::Bind(first.address(), Errno(libc::EADDRINUSE)));
    }

    #[test]
    fn of_two_that_bound_a_port_the_second_to_listen_is_refused() {
        let first = Listeners::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let second = Listeners::bind(first.address(), 2).unwrap();
        second.listen(16).unwrap();
        assert_eq!(first.listen(16), Err(ListenError::Bind(first.address(), Errno(libc::EADDRINUSE))));
    }

    #[test]
    fn ipv4_and_ipv6_have_the_same_port_side_by_side() {
        let four = listening("0.0.0.0:0", 1);
        let six = Listeners::bind(SocketAddr::new("::".parse().unwrap(), four.address().port()), 1);
        assert_eq!(six.and_then(|six| six.listen(16)), Ok(()));
    }
}
