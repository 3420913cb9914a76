"""MQTT 5 on the wire, as much of it as the load needs."""

import struct

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, DISCONNECT = 8, 9, 14
# Nobody has to be heard of again.
KEEP_ALIVE_OFF = b"\0\0"
_PROPERTY_SESSION_EXPIRY = 0x11


class Malformed(Exception):
    """The broker sent what is no packet."""


def connect(client_id, clean_start, session_expiry_s):
    properties = struct.pack(">BI", _PROPERTY_SESSION_EXPIRY, session_expiry_s) if session_expiry_s else b""
    body = _text("MQTT") + bytes([5, 2 if clean_start else 0]) + KEEP_ALIVE_OFF
    return _packet(CONNECT << 4, body + _length(len(properties)) + properties + _text(client_id))


def publish(topic, payload, qos=0, identifier=None, again=False, retain=False):
    first = PUBLISH << 4 | (8 if again else 0) | qos << 1 | (1 if retain else 0)
    place = struct.pack(">H", identifier) if qos else b""
    return _packet(first, _text(topic) + place + b"\0" + payload)


def acknowledgement(kind, identifier):
    return struct.pack(">BBH", kind << 4 | (2 if kind == PUBREL else 0), 2, identifier)


def subscribe(identifier, topic_filter, qos):
    return _packet(SUBSCRIBE << 4 | 2, struct.pack(">H", identifier) + b"\0" + _text(topic_filter) + bytes([qos]))


def disconnect():
    return bytes([DISCONNECT << 4, 0])


def take(buffer):
    """Removes the whole packets from the start of a bytearray: their first bytes and bodies."""
    packets, at = [], 0
    while True:
        length, width = 0, 0
        while True:
            if at + 1 + width >= len(buffer):
                del buffer[:at]
                return packets
            digit = buffer[at + 1 + width]
            length |= (digit & 127) << 7 * width
            width += 1
            if digit < 128:
                break
            if width == 4:
                raise Malformed("a length of more than four bytes")
        begin = at + 1 + width
        if begin + length > len(buffer):
            del buffer[:at]
            return packets
        packets.append((buffer[at], bytes(buffer[begin : begin + length])))
        at = begin + length


def read_connack(body):
    """Whether a session is present, and the reason code."""
    return bool(body[0] & 1), body[1]


def read_acknowledgement(body):
    """The identifier and the reason code."""
    return struct.unpack_from(">H", body)[0], body[2] if len(body) > 2 else 0


def read_publish(first, body):
    """Topic, payload, QoS, whether it is retained, identifier."""
    qos = first >> 1 & 3
    end = 2 + struct.unpack_from(">H", body)[0]
    topic = body[2:end].decode()
    identifier = None
    if qos:
        identifier = struct.unpack_from(">H", body, end)[0]
        end += 2
    length, width = 0, 0
    while True:
        digit = body[end + width]
        length |= (digit & 127) << 7 * width
        width += 1
        if digit < 128:
            break
    return topic, body[end + width + length :], qos, bool(first & 1), identifier


def _packet(first, body):
    return bytes([first]) + _length(len(body)) + body


def _length(value):
    digits = bytearray()
    while True:
        value, digit = value >> 7, value & 127
        digits.append(digit | (128 if value else 0))
        if not value:
            return bytes(digits)


def _text(text):
    data = text.encode()
    return struct.pack(">H", len(data)) + data
