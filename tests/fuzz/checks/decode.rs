//! Every decoder: no bytes make it panic, and what it makes of them can be written and read again.

use ringmq::mqtt::{
    Packet, ProtocolVersion, Sender,
    frame::{FrameHeader, Peek, peek},
};

use super::VERSIONS;

/// `data` begins with a packet, or does not.
pub fn check(data: &[u8]) {
    let header = match peek(data, u32::MAX) {
        Err(_) => return,
        Ok(Peek::Incomplete { need }) => {
            assert!(need > data.len(), "{} bytes are enough, says peek, and there are {}", need, data.len());
            return;
        }
        Ok(Peek::Complete(header)) => header,
    };
    let body = &data[usize::from(header.header_len)..header.total_len()];
    for version in VERSIONS {
        for sender in [Sender::Client, Sender::Server] {
            check_body(header, body, version, sender);
        }
    }
}

fn check_body(header: FrameHeader, body: &[u8], version: ProtocolVersion, sender: Sender) {
    let Ok(packet) = Packet::decode(header, body, version, sender) else { return };
    // CONNECT names its own version.
    let version = if let Packet::Connect(connect) = &packet { connect.version } else { version };
    let mut written = Vec::new();
    if let Err(error) = packet.encode(version, &mut written) {
        // A filter that is none is refused in the answer, not by the decoder, and is never written.
        let is_refused_later = match &packet {
            Packet::Subscribe(subscribe) => subscribe.filters().any(|(filter, _)| filter.is_err()),
            Packet::Unsubscribe(unsubscribe) => unsubscribe.filters().any(|filter| filter.is_err()),
            _ => false,
        };
        if is_refused_later {
            return;
        }
        panic!("{version:?}, {sender:?}: {error}: {packet:?}");
    }
    let Ok(Peek::Complete(header)) = peek(&written, u32::MAX) else { panic!("not whole: {written:02X?}") };
    assert_eq!(header.total_len(), written.len());
    let again = Packet::decode(header, &written[usize::from(header.header_len)..], version, sender);
    assert_eq!(again, Ok(packet), "{version:?}, {sender:?}: written as {written:02X?}");
}
