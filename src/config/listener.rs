//! Where clients connect.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    choice::{AllowAnonymous, Durability, Protocol},
    rule::{address, anonymous_or_inherit, choice, count, durability_or_inherit, text},
    schema::section,
    units::UNLIMITED,
};

section! {
    /// An address that clients connect to; give as many as you like.
    /// When none is given, RingMQ listens on 127.0.0.1:1883 and `[::1]:1883`.
    ["listener"] Listener {
        /// IP address and port, such as "0.0.0.0:1883" or `"[::]:1883"` (IPv6 only). Required. Port 0: any.
        address: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)), address();
        /// What is spoken below MQTT: "tcp".
        protocol: Protocol = Protocol::Tcp, choice();
        /// A name for logs and metrics; when empty it is made of protocol and address.
        name: String = String::new(), text(0..=64);
        /// Whether clients without credentials are admitted: true, false, "loopback", or "inherit" from `[auth]`.
        allow_anonymous: Option<AllowAnonymous> = None, anonymous_or_inherit();
        /// What acknowledgements to those who connect here wait for: "inherit" as `[store]` has it, or less. "batched": it is
        /// written. "memory": nothing; a session made here is kept in memory only, for as long as it lasts, and what is
        /// published here is kept as ever for those sessions elsewhere that are. More than `[store]` gives is an error.
        durability: Option<Durability> = None, durability_or_inherit();
        /// Connections through this listener, all shards together, or "unlimited"; more are closed when accepted.
        connections_max: u32 = u32::MAX, count(1..=UNLIMITED).or_unlimited();
    }
}

impl Listener {
    /// A listener on `address` with every other key at its default.
    #[must_use]
    pub fn on(address: SocketAddr) -> Self {
        Self { address, ..Self::default() }
    }

    /// The listeners of a configuration that names none: port 1883 of both loopback addresses.
    #[must_use]
    pub fn loopback() -> Vec<Self> {
        vec![Self::on((Ipv4Addr::LOCALHOST, 1883).into()), Self::on((Ipv6Addr::LOCALHOST, 1883).into())]
    }

    /// The name that was given, or one made of protocol and address, such as `tcp:127.0.0.1:1883`.
    #[must_use]
    pub fn display_name(&self) -> String {
        use super::choice::Words;
        if self.name.is_empty() { format!("{}:{}", self.protocol.word(), self.address) } else { self.name.clone() }
    }
}
