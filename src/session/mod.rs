//! What the broker keeps for one client: packet identifiers, windows, aliases, outbox, Will, session.
//!
//! Pure: no clock, no socket. The shard owns the sessions and tells them what happened.

mod acknowledgements;
mod aliases;
mod delivery;
mod outbox;
mod parked;
mod received;
mod reserve;
mod state;

pub use acknowledgements::{Acknowledgements, Answer, AnswerNumber, RetainedRequest};
pub use aliases::{AliasError, SentAlias, SentAliases, TopicAliases};
pub use delivery::{Delivery, ShareOrigin, Stored};
pub use outbox::{Acknowledged, Dropped, Outbox, Reached, Resend, Settled, Slice, Unparked};
pub use parked::{QueueSummary, SliceRange};
pub use received::{ReceivedIdentifiers, UNKNOWN_MESSAGE, fingerprint};
pub use reserve::{Reserve, ReserveRecord};
pub use state::{HeldSubscription, Kept, NO_CONNECTION, Session, Will};
