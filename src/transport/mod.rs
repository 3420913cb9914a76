//! Bytes in, bytes out: the layers between a socket and MQTT frames.
//!
//! Owns: [`OutBuffer`], the bytes on their way to one connection, and [`Transport`], the stack of layers that a
//! connection's bytes pass through. What always holds: a layer is sans-io, it sees bytes and gives bytes; what it must
//! never do is own a socket, read a clock or keep a buffer while it has nothing partial in it.
//!
//! # How layers stack
//!
//! [`Transport`] is an enum and not a trait object, so that plain TCP costs nothing and each combination is one `match`:
//!
//! ```text
//!   received bytes ─► proxy header (once) ─► TLS (decrypts in place) ─► WebSocket (unmasks in place) ─► frames
//!   frames ─► WebSocket (header in front of each flush) ─► TLS (one record per flush) ─► OutBuffer ─► send
//! ```
//!
//! A later variant boxes its state (`Tls(Box<..>)`), so that [`Transport`] stays two words. Input passes through
//! [`Transport::open`], which hands each run of plain bytes to a sink, still in the buffer where it was received, and
//! appends to `reply` what the layer itself must answer (a handshake flight, a pong). Output is encoded by the shard as
//! plain frames into an [`OutBuffer`] and passes through [`Transport::seal`] once per flush, when all frames of a turn
//! are in it: one record and one send for many messages.

mod out_buffer;

pub use out_buffer::{KEPT_CAPACITY_MAX, OutBuffer, SHARED_BYTES_MIN};

/// The layers that the bytes of one connection pass through.
#[derive(Debug, Default)]
pub enum Transport {
    /// MQTT frames directly on TCP: nothing to do in either direction.
    #[default]
    Tcp,
}

/// What a peer can do wrong below MQTT. Plain TCP knows no violation; each layer adds one variant per violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {}

impl Transport {
    /// Passes received `bytes` up: each run of plain bytes goes to `plain`, in order and in place; what the layer must
    /// answer by itself is appended to `reply`, which the caller flushes.
    ///
    /// # Errors
    ///
    /// When the peer breaks a layer's rules; the connection must then be closed.
    #[inline]
    pub fn open(
        &mut self,
        bytes: &mut [u8],
        _reply: &mut OutBuffer,
        mut plain: impl FnMut(&mut [u8]),
    ) -> Result<(), TransportError> {
        match self {
            Transport::Tcp => plain(bytes),
        }
        Ok(())
    }

    /// Wraps the plain frames that `out` holds into what goes on the wire, in place where that is possible.
    ///
    /// # Errors
    ///
    /// When a layer can send no more; the connection must then be closed.
    #[inline]
    pub fn seal(&mut self, _out: &mut OutBuffer) -> Result<(), TransportError> {
        match self {
            Transport::Tcp => Ok(()),
        }
    }

    /// Whether the layers let bytes pass unchanged, so that a caller may skip [`Transport::open`] and
    /// [`Transport::seal`] and needs no reply buffer.
    #[inline]
    #[must_use]
    pub const fn is_transparent(&self) -> bool {
        matches!(self, Transport::Tcp)
    }
}
