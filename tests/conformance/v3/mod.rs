//! MQTT 3.1.1: one test for each numbered statement that binds a server, and what users rely on beyond them.

mod acceptance;
mod beyond;
mod connack;
mod connect_fields;
mod connect_flags;
mod delivery;
mod events;
mod keep_alive;
mod order;
mod packets;
mod publish;
mod retained;
mod sessions;
mod subscribe;
mod topics;
mod unsubscribe;
mod wills;

use crate::client::Client;
use crate::server::Server;
use crate::wire::{Connect, Version};

/// A clean session with a ClientId of its own.
fn connect(server: &Server, word: &str) -> Client {
    Client::connect(server, Connect::v311(&server.unique(word)))
}

/// The session of `client_id`, kept after the connection.
fn resume(server: &Server, client_id: &str) -> Client {
    Client::connect(server, Connect::v311(client_id).clean(false))
}

/// After a good CONNECT, `bytes` must close the connection, and nothing may be sent before the close.
fn assert_closes(server: &Server, what: &str, bytes: &[u8]) {
    let mut client = connect(server, "hostile").label(format!("{what} ({bytes:02x?})"));
    client.send_raw(bytes);
    let next = client.next_or_closed();
    assert_eq!(next, None, "{what} ({bytes:02x?}) was answered instead of closed");
}

/// These first bytes of a connection must close it, and nothing may be sent before the close.
fn assert_closes_unconnected(server: &Server, what: &str, bytes: &[u8]) {
    let mut client = Client::dial(server, Version::V311).label(format!("{what} ({bytes:02x?})"));
    client.send_raw(bytes);
    let next = client.next_or_closed();
    assert_eq!(next, None, "{what} ({bytes:02x?}) was answered instead of closed");
}

/// Byte sequences that are no UTF-8, or none that MQTT allows: each must be refused wherever a string stands.
const ILL_FORMED: [(&str, &[u8]); 9] = [
    ("a lone continuation byte", b"a\x80"),
    ("a start byte without its continuation", b"a\xC3("),
    ("a sequence cut off at the end", b"a\xE2\x82"),
    ("an overlong slash", b"a\xC0\xAF"),
    ("an overlong NUL", b"a\xC0\x80"),
    ("a high surrogate", b"a\xED\xA0\x80"),
    ("a surrogate pair", b"a\xED\xA0\x81\xED\xB0\x80"),
    ("a code point above U+10FFFF", b"a\xF4\x90\x80\x80"),
    ("a byte that never occurs", b"a\xFF"),
];
