//! What shards say to each other.
//!
//! Owns: the messages of the mesh and their ranks.
//! Always: handling a message of one rank emits messages of higher ranks only, and rank 2 asks for nothing. So no cycle
//! of full rings can stand: rank 2 is always taken, hence rank 1 is, hence rank 0 is.
//! Never: an order between ranks. Messages of one rank from one shard to another keep theirs.

use crate::{
    config::Durability,
    message::{ApplicationMessage, RetainedMessage, Stamp},
    mqtt::ReasonCode,
    routing::{Cursor, GroupIdentifier, Member, MemberState},
    runtime::ReleasedSocket,
    shard::parcel::Parcel,
    store::Group,
};

/// Ranks of mesh messages.
pub const RANKS: usize = 3;
/// To the home of a client, a topic or a share group.
pub const RANK_HOME: usize = 0;
/// To the subscribers of a topic.
pub const RANK_DELIVERY: usize = 1;
/// Answers, acknowledgements, refusals.
pub const RANK_REPLY: usize = 2;

/// What one shard says to another.
#[derive(Debug)]
pub enum MeshMessage {
    /// A client whose home is there has connected here.
    Arrival(Box<Arrival>),
    /// Retain this message, whose topic is at home there; with an empty payload: clear.
    Retain(Taken, ApplicationMessage),
    /// Which retained messages match?
    RetainedQuestion(Box<RetainedQuestion>),
    /// Pick a member of each share group that matches and is at home there.
    SharePublish(Taken, ApplicationMessage),
    /// A client joins a share group, or its membership changes.
    ShareJoin(Box<ShareJoin>),
    /// A client leaves a share group.
    ShareLeave(Box<ShareLeave>),
    /// A client that is a member of a share group has come or gone.
    ShareState(Box<ShareState>),
    /// Deliver this to the subscribers there.
    Deliver(Taken, ApplicationMessage),
    /// The same for several that are small.
    Parcel(Parcel),
    /// Deliver this to the one member that was picked.
    ShareDeliver(Box<ShareDelivery>),
    /// Every message of a rank up to this one, counted from the first, has been handled there.
    Handled {
        /// Of this rank.
        rank: u8,
        /// So many in all.
        count: u64,
        /// What can be promised of what they changed.
        promise: Durability,
    },
    /// One message of a rank could not be handled as asked.
    Refused {
        /// Of this rank.
        rank: u8,
        /// Which, counted from the first.
        count: u64,
        /// Why.
        reason: ReasonCode,
    },
    /// As `Handled`, but the store has failed before what that changed was durable: nobody may be told that it is done.
    Undone {
        /// The rank that is counted.
        rank: u8,
        /// How many messages were handled since the start.
        count: u64,
    },
    /// The answer to a `RetainedQuestion`.
    RetainedAnswer(Box<RetainedAnswer>),
    /// The member that was picked cannot take it: pick another.
    ShareRefused(Box<ShareDelivery>),
    /// The session of a member has ended before these were delivered, or its queue was full: pick others. They leave the
    /// member's queue with the sender's group.
    ShareReturned(Taken, Vec<(GroupIdentifier, ApplicationMessage)>),
}

/// Whether the sender waits to hear that a message was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It does.
    Report,
    /// It does, and what this changes is committed together with what the publication changes elsewhere: the number of the
    /// sender's group.
    Together(u64),
    /// It does not.
    Ignore,
}

impl Taken {
    /// Whether the sender waits.
    #[must_use]
    pub fn is_awaited(self) -> bool {
        self != Taken::Ignore
    }

    /// Whether the message belongs to a group.
    #[must_use]
    pub fn is_grouped(self) -> bool {
        matches!(self, Taken::Together(_))
    }

    /// The group of shard `from` that the message belongs to.
    #[must_use]
    pub fn group(self, from: u16) -> Option<Group> {
        match self {
            Taken::Together(number) => Some(Group { origin: from, number }),
            Taken::Report | Taken::Ignore => None,
        }
    }
}

/// A client on its way to its home shard.
#[derive(Debug)]
pub struct Arrival {
    /// Its socket; absent until the driver has taken it off its ring.
    pub socket: Option<ReleasedSocket>,
    /// The listener that it came through.
    pub listener: u16,
    /// CONNECT and whatever was received behind it.
    pub bytes: Vec<u8>,
    /// When CONNECT was parsed.
    pub stamp: Stamp,
    /// The ClientId that was assigned, when CONNECT has none.
    pub assigned_client_id: Option<Box<str>>,
}

/// Which retained messages match a filter?
#[derive(Debug)]
pub struct RetainedQuestion {
    /// Who asks.
    pub asker: u16,
    /// Names the question there.
    pub number: u64,
    /// The filter, without `$share`.
    pub filter: Box<str>,
    /// Where the previous slice ended.
    pub cursor: Option<Cursor>,
}

/// A slice of the retained messages that match.
#[derive(Debug)]
pub struct RetainedAnswer {
    /// Names the question.
    pub number: u64,
    /// Who answers.
    pub home: u16,
    /// The messages.
    pub messages: Vec<RetainedMessage>,
    /// Where to go on, when there is more.
    pub cursor: Option<Cursor>,
}

/// A client joins a share group, or its entry changes.
#[derive(Clone, Debug)]
pub struct ShareJoin {
    /// The whole filter, `$share/NAME/` included: it names the group.
    pub filter: Box<str>,
    /// The entry.
    pub member: Member,
    /// Whether the sender waits to hear that this was handled.
    pub taken: Taken,
}

/// A client leaves a share group.
#[derive(Clone, Debug)]
pub struct ShareLeave {
    /// The whole filter.
    pub filter: Box<str>,
    /// The number of the membership.
    pub number: u64,
}

/// A member of a share group has come or gone.
#[derive(Clone, Debug)]
pub struct ShareState {
    /// The whole filter.
    pub filter: Box<str>,
    /// The number of the membership.
    pub number: u64,
    /// What it can take now.
    pub state: MemberState,
}

/// A message for one member of a share group.
#[derive(Clone, Debug)]
pub struct ShareDelivery {
    /// The home of the group.
    pub home: u16,
    /// The group there.
    pub group: GroupIdentifier,
    /// The member that was picked.
    pub member: Member,
    /// Memberships that have refused it.
    pub refused: Vec<u64>,
    /// One of those that refused only because its client had just gone: its session queues the message when nobody
    /// else takes it.
    pub asleep: Option<Member>,
    /// The group of the home that the delivery is committed with.
    pub taken: Taken,
    /// The message.
    pub message: ApplicationMessage,
}

impl MeshMessage {
    /// The rank that the message travels at.
    #[must_use]
    pub fn rank(&self) -> usize {
        match self {
            Self::Arrival(_)
            | Self::Retain(..)
            | Self::RetainedQuestion(_)
            | Self::SharePublish(..)
            | Self::ShareJoin(_)
            | Self::ShareLeave(_)
            | Self::ShareState(_) => RANK_HOME,
            Self::Deliver(..) | Self::Parcel(_) | Self::ShareDeliver(_) => RANK_DELIVERY,
            Self::Handled { .. }
            | Self::Undone { .. }
            | Self::Refused { .. }
            | Self::RetainedAnswer(_)
            | Self::ShareRefused(_)
            | Self::ShareReturned(..) => RANK_REPLY,
        }
    }

    /// Whether the sender waits to hear that the message was handled.
    #[must_use]
    pub fn wants_report(&self) -> bool {
        match self {
            Self::Retain(taken, _) | Self::SharePublish(taken, _) | Self::Deliver(taken, _) => taken.is_awaited(),
            Self::Parcel(parcel) => parcel.wants_report(),
            Self::ShareJoin(join) => join.taken.is_awaited(),
            _ => false,
        }
    }

    /// How many messages it stands for.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Parcel(parcel) => parcel.len(),
            _ => 1,
        }
    }
}
