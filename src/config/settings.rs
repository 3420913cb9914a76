//! The sections and their keys: type, default, range, meaning, and what happens when a limit is reached.
//!
//! The documentation of a key is also its explanation in `ringmq.toml`, so it is written for the operator. A `Duration`
//! or number that may be `"unlimited"` then holds the largest value of its type, so that comparing is all it takes.

use std::time::Duration;

use super::{
    choice::{
        AllQueuesFull, AllowAnonymous, Durability, LogFormat, LogLevel, QueueFull, ShareStrategy, SlowSubscriber,
    },
    rule::{choice, count, cpus, duration, flag, size, text, topic_level, topic_prefix},
    schema::section,
    units::{DAY, KIB, MIB, UNLIMITED},
};

section! {
    /// Who this broker is.
    ["node"] NodeSettings {
        /// Name in $SYS topics and logs: 1 to 128 bytes without '/', '+', '#', spaces and control characters.
        name: String = "ringmq@127.0.0.1".to_owned(), topic_level(128);
    }
}

section! {
    /// Shards, rings and buffers, and the limits on connections. Read once at start.
    ["runtime"] RuntimeLimits {
        /// Shards; 0: one per CPU that RingMQ may use. Of more, those of one CPU share a thread and its ring, up to 16 of them.
        shards: u32 = 0, count(0..=256);
        /// CPUs to pin the shards to, such as "0-3,6"; empty: all that the process may use.
        cpus: Vec<u32> = Vec::new(), cpus();
        /// Submission entries of a ring, a power of two. When full, what it has is submitted early.
        ring_entries: u32 = 1024, count(64..=32_768).power_of_two();
        /// Receive buffers of a ring at most, a power of two; few are in use while few suffice or what they hold would leave the
        /// CPU's cache. When all are in use, receiving waits until some come back.
        receive_buffers: u32 = 512, count(4..=32_768).power_of_two();
        /// Bytes of one receive buffer. Longer input arrives in several pieces.
        receive_buffer_bytes: u32 = 4 * KIB, size(256..=1024 * KIB as u64);
        /// Completions that a shard handles in one turn; the rest waits for the next, so that a turn stays short.
        turn_completions_max: u32 = 1024, count(16..=65_536);
        /// Beginnings and ends of connections that a shard handles in one turn. More wait, behind the input of those that stay.
        turn_crowd_max: u32 = 64, count(1..=65_536);
        /// Deliveries after which a shard handles no more input in one turn, except PINGREQ; what came waits for the next.
        turn_deliveries_max: u32 = 4096, count(64..=1_048_576);
        /// Fan-outs to more than 1024 clients of a shard under way at once. With as many, no further input is handled.
        fan_out_jobs_max: u32 = 16, count(1..=65_536);
        /// Completions that a look at the ring tries to collect; 0: about 20, and more while the input of many flows
        /// together into the sends of few.
        enter_completions_min: u32 = 0, count(0..=4096);
        /// Microseconds that deliveries may wait for others to the same client, so that fewer sends take them; 0: none, they
        /// leave with the turn that made them. Whatever else a client is sent leaves at once and takes them along, and 16 KiB
        /// for one client do not wait.
        delivery_delay_us: u32 = 0, count(0..=1_000_000);
        /// Messages in flight between two shards per rank, a power of two; of deliveries a sixteenth as many, in each of which
        /// up to 64 small ones travel together. When full, the sending shard holds back.
        mesh_capacity: u32 = 1024, count(2..=65_536).power_of_two();
        /// Slots of the table of interest, a power of two, at best 16 per expected filter; 8 bytes each once in use.
        /// With fewer, shards are asked in vain more often.
        interest_slots: u32 = 1 << 20, count(1024..=1 << 28).power_of_two();
        /// Places clients, topics and share groups on shards, the same in each start; 0: another one with each start. Who
        /// knows it can choose the shard of a ClientId, as `ringmq bench p2p --homes` does: leave it 0 beside strangers.
        placement_seed: u64 = 0, count(0..=i64::MAX as u64);
        /// Connections, all shards together; 0: as many as the file descriptor limit allows. More are closed at once.
        connections_max: u32 = 0, count(0..=16_777_216);
        /// File descriptors that are kept for everything but clients when connections_max is 0.
        file_descriptors_reserved: u32 = 256, count(32..=65_536);
        /// Connections, all shards together, that have not sent CONNECT yet. More are closed at once.
        pending_connects_max: u32 = 65_536, count(1..=16_777_216);
        /// Bytes of CONNECTs that are not complete, per shard. With more, those above 4 KiB are closed.
        connect_bytes_max: u64 = 64 * MIB as u64, size(64 * KIB as u64..=1 << 40);
        /// Time from accept to a complete CONNECT. A client that takes longer is disconnected.
        connect_timeout: Duration = Duration::from_secs(10),
            duration(Duration::from_millis(100)..=Duration::from_secs(600));
        /// Time that a closing connection gets to read what was sent. After that it is reset.
        linger_timeout: Duration = Duration::from_secs(2), duration(Duration::ZERO..=Duration::from_secs(60));
        /// Input that a closing connection may still send; it is discarded. After more the connection is reset.
        linger_bytes_max: u32 = 64 * KIB, size(0..=1024 * MIB as u64);
        /// Closing connections of one shard. When there are more, the oldest is reset.
        lingering_max: u32 = 1024, count(1..=1_048_576);
        /// Connections that the kernel holds until they are accepted, per shard and address (also: net.core.somaxconn).
        listen_backlog: u32 = 4096, count(1..=65_535);
        /// Time for connections to drain after SIGTERM or SIGINT. After that they are closed and RingMQ exits.
        shutdown_grace: Duration = Duration::from_secs(10), duration(Duration::ZERO..=Duration::from_secs(3600));
    }
}

section! {
    /// Who may connect.
    ["auth"] AuthSettings {
        /// true, false or "loopback": whether clients without credentials are admitted on every listener, on none, or
        /// on those bound to a loopback address. A client that isn't admitted is refused with 0x87 (3.x: 5).
        allow_anonymous: AllowAnonymous = AllowAnonymous::Loopback, choice();
    }
}

section! {
    /// What clients may ask of the broker. MQTT 5 clients are told in CONNACK where the protocol provides for it.
    ["mqtt"] MqttLimits {
        /// Largest packet that a client may send. A larger one closes the connection (0x95).
        packet_bytes_max: u32 = MIB, size(128..=268_435_460);
        /// Longest ClientId. A longer one is refused (0x85, 3.x: 2).
        client_id_bytes_max: u32 = 256, size(23..=65_535);
        /// Whether a client may leave its ClientId empty and get one from the broker. If not: 0x85, 3.x: 2.
        client_id_empty_allowed: bool = true, flag();
        /// Longest TopicName or TopicFilter. A longer one is refused (0x90, 0x8F; 3.x: SUBACK 0x80 or closed).
        topic_bytes_max: u32 = 65_535, size(1..=65_535);
        /// Most levels of a TopicName or TopicFilter. More are refused (0x90, 0x8F; 3.x: SUBACK 0x80 or closed).
        topic_levels_max: u32 = 128, count(1..=65_535);
        /// Longest KeepAlive, in whole seconds; 0: any. A v5 client that asks for more or none is told to use this one.
        keep_alive_max: Duration = Duration::ZERO,
            duration(Duration::ZERO..=Duration::from_secs(65_535)).whole_seconds();
        /// Longest Session Expiry Interval of a v5 client, or "unlimited". A client that asks for more gets this one.
        session_expiry_max: Duration = 7 * DAY,
            duration(Duration::ZERO..=100 * 365 * DAY).whole_seconds().or_unlimited();
        /// How long a session of an MQTT 3.x client with CleanSession 0 outlives its connection, or "unlimited".
        session_expiry_v3: Duration = 7 * DAY,
            duration(Duration::ZERO..=100 * 365 * DAY).whole_seconds().or_unlimited();
        /// Sessions, connected or not, all shards together. A CONNECT that needs one more is refused (0x97, 3.x: 3).
        sessions_max: u32 = 2_000_000, count(1..=UNLIMITED).or_unlimited();
        /// QoS 1 and 2 messages that a v5 client may have in flight to the broker; one that sends more is disconnected
        /// (0x93). A 3.x client, which can't be told, isn't read from while that many wait for their acknowledgement.
        receive_maximum: u16 = 1024, count(1..=65_535);
        /// QoS 1 and 2 messages in flight to one client (a v5 client may ask for fewer). More wait in its queue.
        inflight_max: u16 = 256, count(1..=65_535);
        /// Topic Aliases that a v5 client may set; 0: none. A larger one closes the connection (0x94).
        topic_alias_max: u16 = 64, count(0..=65_535);
        /// Topic Aliases that the broker uses towards a v5 client that allows some; 0: none. The first topics of 4 to
        /// 1024 bytes that it is sent get one.
        topic_alias_out_max: u16 = 16, count(0..=65_535);
        /// Filters that one client may have subscribed to. More are refused in SUBACK (0x97, 3.x: 0x80).
        filters_per_client_max: u32 = 10_000, count(1..=16_777_216);
        /// Messages queued for one session, offline or behind its window. See queue_full.
        queue_messages_max: u32 = 10_000, count(1..=16_777_216);
        /// Bytes of topic and payload queued for one session. See queue_full.
        queue_bytes_max: u64 = 16 * MIB as u64, size(KIB as u64..=1 << 40);
        /// Messages of a durable session's queue that are kept in memory while its client is connected (and 1 MiB of them); the
        /// others are in the store only. While it is away all are.
        queue_memory_messages: u32 = 1024, count(1..=16_777_216);
        /// What a full queue does: "drop-oldest", "drop-newest", or "disconnect" (drop the newest, close with 0x97).
        queue_full: QueueFull = QueueFull::DropOldest, choice();
        /// Messages queued for all sessions together, on all shards, or "unlimited". See all_queues_full. A connected session
        /// whose queue is empty takes one in any case.
        all_queues_messages_max: u64 = 100_000_000, count(1..=UNLIMITED).or_unlimited();
        /// Bytes of topic and payload queued for all sessions together, charged to each, or "unlimited". As above.
        all_queues_bytes_max: u64 = 16 * 1024 * MIB as u64, size(KIB as u64..=UNLIMITED).or_unlimited();
        /// What happens then: "drop-oldest" (in the queue of the session that a message is for; when nothing is left there,
        /// the message itself), "drop-newest", or "refuse": until there is room no QoS 1 or 2 PUBLISH is taken over, whoever it
        /// is for. v5 clients are told (0x97). 3.x clients, which an acknowledgement would lie to, are disconnected
        /// without one, so that they send it again. QoS 0 that would wait is dropped.
        all_queues_full: AllQueuesFull = AllQueuesFull::DropOldest, choice();
        /// Whether QoS 0 messages are queued for clients that are offline; if not they are dropped.
        queue_qos0_offline: bool = false, flag();
        /// Whether clients may publish retained messages. If not: 0x9A, 3.x: the connection is closed.
        retained_available: bool = true, flag();
        /// Retained messages, all shards together, or "unlimited". More are delivered, but not retained (0x97).
        retained_messages_max: u64 = 1_000_000, count(0..=UNLIMITED).or_unlimited();
        /// Bytes of topics and payloads of retained messages, all shards together, or "unlimited". As above.
        retained_bytes_max: u64 = 1024 * MIB as u64, size(0..=UNLIMITED).or_unlimited();
        /// Whether TopicFilters may hold wildcards. If not they are refused in SUBACK (0xA2, 3.x: 0x80).
        wildcard_available: bool = true, flag();
        /// Whether $share subscriptions are served. If not they are refused in SUBACK (0x9E, 3.x: 0x80).
        shared_available: bool = true, flag();
        /// Highest QoS: 0, 1 or 2. A PUBLISH above it closes the connection (0x9B), a subscription is granted this one.
        maximum_qos: u8 = 2, count(0..=2);
        /// Bytes that wait for a slow client's socket; one packet is always taken. Then QoS 0 is dropped and counted.
        out_buffer_bytes_max: u32 = MIB, size(4 * KIB as u64..=1024 * MIB as u64);
        /// Bytes of answers (PINGRESP, acknowledgements) that a client may leave unread, on top of out_buffer_bytes_max and
        /// two of the largest packets. One that asks on and never reads is disconnected (0x97).
        unread_bytes_max: u32 = 64 * KIB, size(KIB as u64..=1024 * MIB as u64);
        /// QoS 1 and 2 for a client whose out-buffer is full: "queue" (in its session), or also "disconnect" it (0x97).
        slow_subscriber: SlowSubscriber = SlowSubscriber::Queue, choice();
        /// Prefix of the Response Information for v5 clients that ask for it, up to 256 bytes; empty: none is given.
        response_information: String = String::new(), topic_prefix(256);
        /// Longest Will Delay, or "unlimited" (as long as the session). A client that asks for more gets this one.
        will_delay_max: Duration = Duration::MAX,
            duration(Duration::ZERO..=100 * 365 * DAY).whole_seconds().or_unlimited();
        /// Longest life of a message in a queue or retained, or "unlimited". Messages without expiry get this one.
        message_expiry_max: Duration = Duration::MAX,
            duration(Duration::from_secs(1)..=100 * 365 * DAY).whole_seconds().or_unlimited();
        /// Whether payloads that are declared to be UTF-8 are checked. If one isn't: 0x99, and it is not delivered.
        payload_format_check: bool = false, flag();
    }
}

section! {
    /// What outlives the process: sessions that do not end with their connection, with their subscriptions, queues and
    /// Wills, and retained messages.
    ["store"] StoreSettings {
        /// What an acknowledgement promises: "sync" (it is on the disk), "batched" (it is written, and on the disk after
        /// sync_interval; survives the end of the process, not a power cut), or "memory" (nothing is kept).
        durability: Durability = Durability::Sync, choice();
        /// Where it is kept; empty: the state directory that systemd names, else ringmq-data in the working directory. One
        /// process at a time.
        data_dir: String = String::new(), text(0..=4096);
        /// With "batched": time after which what was written is on the disk.
        sync_interval: Duration = Duration::from_millis(200),
            duration(Duration::from_millis(1)..=Duration::from_secs(60));
        /// Room on the disk, at most a twentieth of it, below which nothing new is kept until there is a quarter more: QoS 1 and
        /// 2, new sessions and subscriptions are refused (0x97; 3.x: closed, 3, 0x80). What is kept leaves as before. 0: none.
        disk_free_bytes_min: u64 = 256 * MIB as u64, size(0..=1 << 40);
    }
}

section! {
    /// Shared subscriptions.
    ["share"] ShareSettings {
        /// How the member that receives a message is picked: "round-robin".
        strategy: ShareStrategy = ShareStrategy::RoundRobin, choice();
    }
}

section! {
    /// What the broker publishes about itself under `$SYS/brokers/<node name>/`.
    ["sys"] SysSettings {
        /// Whether anything is published there.
        enabled: bool = true, flag();
        /// Time between two publications of version, uptime and counters.
        interval: Duration = Duration::from_secs(10), duration(Duration::from_secs(1)..=DAY);
        /// Whether each connect and disconnect is published: `clients/<ClientId>/connected`, `.../disconnected`.
        client_events: bool = true, flag();
    }
}

section! {
    /// What is logged (to standard error) and how. Messages are never logged.
    ["log"] LogSettings {
        /// "off", "error", "warn", "info", "debug" or "trace".
        level: LogLevel = LogLevel::Info, choice();
        /// "text", or "json" (an object per line).
        format: LogFormat = LogFormat::Text, choice();
        /// Whether each connect and disconnect is logged, at level "info": a line each, which costs as much as the connect.
        connections: bool = false, flag();
    }
}
