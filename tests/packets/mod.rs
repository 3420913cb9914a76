//! The packet table: bytes, the packet that they are, or the error that they deserve.
//!
//! Owns: one list of cases for all who need packets: codec tests, broker tests, benchmarks. Bytes are written in a small
//! language, so that a case reads like the packet:
//!
//! | token | bytes |
//! |---|---|
//! | `1F A0` | these bytes |
//! | `'text'` | the bytes of the text |
//! | `[ ... ]` | two bytes of length, then what is inside |
//! | `{ ... }` | a variable byte integer of length, then what is inside |
//! | `* ...` | the remaining length, then all the rest |

#![allow(dead_code, reason = "each test takes what it needs of the table")]

pub mod arbitrary;
pub mod invalid;
pub mod valid;

use ringmq::mqtt::{DecodeError, Packet, ProtocolVersion, Sender};

/// One case of the table.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the case shows.
    pub name: &'static str,
    /// The version of the connection.
    pub version: ProtocolVersion,
    /// Who sends the packet.
    pub sender: Sender,
    /// The whole packet, its fixed header included.
    pub bytes: Vec<u8>,
    /// What it is.
    pub expected: Expected,
}

/// What the bytes of a case are.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// This packet, and these are the bytes that the encoder writes for it.
    Canonical(Packet<'static>),
    /// This packet, though the encoder writes it otherwise.
    Decoded(Packet<'static>),
    /// Not a packet.
    Error(DecodeError),
}

impl Case {
    /// The packet of a valid case.
    pub fn packet(&self) -> Option<Packet<'static>> {
        match self.expected {
            Expected::Canonical(packet) | Expected::Decoded(packet) => Some(packet),
            Expected::Error(_) => None,
        }
    }
}

/// Every case.
pub fn cases() -> Vec<Case> {
    let mut cases = valid::cases();
    cases.extend(invalid::cases());
    cases
}

/// The bytes that `text` says.
pub fn bytes(text: &str) -> Vec<u8> {
    let mut rest = text;
    let bytes = parse(&mut rest, None);
    assert!(rest.is_empty(), "`{text}` closes what it did not open");
    bytes
}

fn parse(rest: &mut &str, closer: Option<char>) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        *rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            assert!(closer.is_none(), "a bracket is not closed");
            return out;
        };
        if Some(first) == closer {
            *rest = &rest[1..];
            return out;
        }
        match first {
            '\'' => {
                let (text, behind) = rest[1..].split_once('\'').expect("a text ends with a quote");
                out.extend_from_slice(text.as_bytes());
                *rest = behind;
            }
            '[' => {
                *rest = &rest[1..];
                let inside = parse(rest, Some(']'));
                out.extend_from_slice(&u16::try_from(inside.len()).expect("a field fits").to_be_bytes());
                out.extend(inside);
            }
            '{' => {
                *rest = &rest[1..];
                let inside = parse(rest, Some('}'));
                out.extend(variable_integer(inside.len()));
                out.extend(inside);
            }
            '*' => {
                *rest = &rest[1..];
                let inside = parse(rest, closer);
                out.extend(variable_integer(inside.len()));
                out.extend(inside);
                return out;
            }
            _ => {
                out.push(u8::from_str_radix(&rest[..2], 16).expect("two hexadecimal digits"));
                *rest = &rest[2..];
            }
        }
    }
}

/// A variable byte integer, written apart from the codec's own.
pub fn variable_integer(value: usize) -> Vec<u8> {
    let mut groups = vec![(value % 128) as u8];
    let mut rest = value / 128;
    while rest > 0 {
        *groups.last_mut().expect("there is a group") |= 0x80;
        groups.push((rest % 128) as u8);
        rest /= 128;
    }
    groups
}

/// Lists in expected packets live for ever.
pub fn leak<T>(list: Vec<T>) -> &'static [T] {
    list.leak()
}
