//! Filters, interest, share groups and retained messages.
//!
//! Owns the question *who wants this topic*: within a shard ([`FilterTable`]), across shards ([`InterestTable`]), for a
//! share group ([`ShareGroups`]) and for those who come later ([`RetainedStore`]), and the hash that gives clients,
//! topics and groups their homes ([`HashKey`]).
//!
//! Always holds: texts that come in are valid TopicNames and TopicFilters (`mqtt` has parsed them; nothing here checks
//! again, and nothing here panics or loops when that is broken), and a structure grows and shrinks in steps of less than
//! about a millisecond. Must never do: read a clock, block, or touch a socket. What shards share is atomics only.

pub mod filter_table;
pub mod grace;
pub mod hash;
pub mod interest;
pub mod last_topic;
pub mod levels;
pub mod retained;
pub mod share;
pub mod slab;
pub mod split_table;
pub mod subscribers;
mod trie;

pub use filter_table::{FilterIndex, FilterTable, Inserted, Matches, Removed};
pub use grace::{Grace, TurnClocks};
pub use hash::{FilterHash, HashKey, Prefixes, TopicHash, home};
pub use interest::{InterestCounts, InterestTable};
pub use last_topic::{KnownFilters, LastTopic, Reach};
pub use retained::{Clear, Cursor, HasTopic, Put, RetainedStore, Stamp};
pub use share::{GroupIdentifier, Joined, Left, Member, MemberState, ShareGroups};
pub use slab::ChunkedSlab;
pub use split_table::SplitTable;
pub use subscribers::{Subscriber, Subscribers};
