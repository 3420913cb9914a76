//! Packet identifiers, windows, aliases, outbox, Will and session.
