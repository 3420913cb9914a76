//! The few system calls on sockets that don't go through the ring, each wrapped once.

#![allow(unsafe_code)]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::IntoRawFd,
};

use super::kernel::{Errno, Socket};

/// The error number of the call that just failed.
pub(super) fn last_errno() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Fails with the error number when a call returned -1.
pub(super) fn checked(returned: libc::c_int) -> Result<libc::c_int, Errno> {
    if returned < 0 { Err(last_errno()) } else { Ok(returned) }
}

pub(super) fn shutdown(socket: Socket, how: libc::c_int) -> Result<(), Errno> {
    // SAFETY: shutdown(2) takes two integers.
    checked(unsafe { libc::shutdown(socket.0, how) }).map(drop)
}

pub(super) fn close(socket: Socket) {
    // SAFETY: close(2) takes an integer; the caller owns the descriptor. Linux frees the descriptor whatever it returns.
    unsafe { libc::close(socket.0) };
}

pub(super) fn set_option<T>(socket: Socket, level: libc::c_int, name: libc::c_int, value: T) -> Result<(), Errno> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `value`, which lives through the call.
    checked(unsafe { libc::setsockopt(socket.0, level, name, (&raw const value).cast(), length) }).map(drop)
}

/// Makes close(2) reset the connection.
pub(super) fn reset_on_close(socket: Socket) -> Result<(), Errno> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_LINGER, libc::linger { l_onoff: 1, l_linger: 0 })
}

/// Takes a stream's descriptor, in blocking mode: on a socket that doesn't block a recv of the ring fails instead of
/// waiting.
pub(super) fn take_stream(stream: std::net::TcpStream) -> std::io::Result<Socket> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    Ok(Socket(stream.into_raw_fd()))
}

pub(super) fn set_nonblocking(socket: Socket, is_nonblocking: bool) -> Result<(), Errno> {
    // SAFETY: fcntl(2) with F_GETFL and F_SETFL takes integers.
    let flags = checked(unsafe { libc::fcntl(socket.0, libc::F_GETFL) })?;
    let flags = if is_nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    // SAFETY: as above.
    checked(unsafe { libc::fcntl(socket.0, libc::F_SETFL, flags) }).map(drop)
}

pub(super) fn accept_now(listener: Socket) -> Result<Socket, Errno> {
    let none = std::ptr::null_mut();
    // SAFETY: accept4(2) may be given null for an address that nobody wants.
    checked(unsafe { libc::accept4(listener.0, none, none.cast(), libc::SOCK_CLOEXEC) }).map(Socket)
}

/// The address of the other side.
pub(super) fn peer(socket: Socket) -> Result<SocketAddr, Errno> {
    // SAFETY: the address and its length live through the call, and the length is the address's size.
    address_of(|address, length| unsafe { libc::getpeername(socket.0, address, length) })
}

/// The address that a socket is bound to.
pub(super) fn local(socket: Socket) -> Result<SocketAddr, Errno> {
    // SAFETY: as above.
    address_of(|address, length| unsafe { libc::getsockname(socket.0, address, length) })
}

fn address_of(
    call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int,
) -> Result<SocketAddr, Errno> {
    // SAFETY: all zeros is a valid `sockaddr_storage`, which is plain old data.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    checked(call((&raw mut storage).cast(), &raw mut length))?;
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage holds a `sockaddr_in`, and the storage is aligned for it.
            let address = unsafe { &*(&raw const storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
            Ok(SocketAddr::new(IpAddr::V4(ip), u16::from_be(address.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the storage holds a `sockaddr_in6`, and the storage is aligned for it.
            let address = unsafe { &*(&raw const storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            Ok(SocketAddr::new(IpAddr::V6(ip), u16::from_be(address.sin6_port)))
        }
        _ => Err(Errno(libc::EAFNOSUPPORT)),
    }
}

/// Binds `socket` to `address`.
pub(super) fn bind(socket: Socket, address: SocketAddr) -> Result<(), Errno> {
    // SAFETY: the address and its length are valid through the call.
    with_raw_address(address, |raw, length| checked(unsafe { libc::bind(socket.0, raw, length) }).map(drop))
}

/// Connects `socket` to `address`; waits as its SO_SNDTIMEO says.
pub(super) fn connect(socket: Socket, address: SocketAddr) -> Result<(), Errno> {
    // SAFETY: the address and its length are valid through the call.
    with_raw_address(address, |raw, length| checked(unsafe { libc::connect(socket.0, raw, length) }).map(drop))
}

/// Gives `call` the address as the kernel wants it, and its length.
fn with_raw_address<T>(address: SocketAddr, call: impl FnOnce(*const libc::sockaddr, libc::socklen_t) -> T) -> T {
    match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                sin_zero: [0; 8],
            };
            call((&raw const raw).cast(), size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            call((&raw const raw).cast(), size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        }
    }
}
