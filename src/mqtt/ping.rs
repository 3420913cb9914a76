//! PINGREQ and PINGRESP: two packets without a body, so without a type of their own.

use super::types::PacketType;

/// Appends a PINGREQ.
pub fn encode_request(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketType::PingReq.first_byte(), 0]);
}

/// Appends a PINGRESP.
pub fn encode_response(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketType::PingResp.first_byte(), 0]);
}
