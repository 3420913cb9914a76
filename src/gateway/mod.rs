//! Bridge and cluster.
//!
//! Empty: the broker connects to nobody, so a client's rules do not bind it [v3 MQTT-7.0.0-1]. What a bridge or a cluster
//! will need is reserved below: shard numbers and interest bits, and each message's origin and hop count.
