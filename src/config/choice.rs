//! Settings that are one of a few words, and the words.

/// An enum whose variants are words in the configuration.
pub trait Words: Sized + Copy + PartialEq + 'static {
    /// The words, in the order in which they are offered.
    const WORDS: &'static [&'static str];

    /// The word for this variant.
    fn word(self) -> &'static str;

    /// The variant for `word`.
    ///
    /// # Errors
    /// [`UnknownWord`] when no variant has this word.
    fn from_word(word: &str) -> Result<Self, UnknownWord>;
}

/// A word that is none of [`Words::WORDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownWord;

macro_rules! words {
    (
        $(#[doc = $doc:literal])+
        $name:ident { $($(#[doc = $variant_doc:literal])+ $variant:ident = $word:literal,)+ }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $variant_doc])+ $variant,)+
        }

        impl Words for $name {
            const WORDS: &'static [&'static str] = &[$($word),+];

            fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }

            fn from_word(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok($name::$variant),)+
                    _ => Err(UnknownWord),
                }
            }
        }
    };
}

words! {
    /// Which clients without credentials are admitted.
    AllowAnonymous {
        /// On every listener.
        Everywhere = "true",
        /// On none.
        Nowhere = "false",
        /// On listeners bound to a loopback address only.
        Loopback = "loopback",
    }
}

words! {
    /// What a listener speaks below MQTT.
    Protocol {
        /// Plain TCP.
        Tcp = "tcp",
    }
}

words! {
    /// What an acknowledgement of QoS 1 or 2 promises, the most first.
    Durability {
        /// It is on the disk: it survives the death of the machine.
        Sync = "sync",
        /// It is written: it survives the death of the process, and after the sync interval that of the machine.
        Batched = "batched",
        /// It is in memory: it lasts as long as the process.
        Memory = "memory",
    }
}

impl Durability {
    /// How many there are.
    pub const COUNT: usize = Self::WORDS.len();

    /// Whether this survives more than `other` does.
    #[must_use]
    pub fn promises_more_than(self, other: Durability) -> bool {
        (self as u8) < (other as u8)
    }
}

words! {
    /// What happens to a message for a session whose queue is full.
    QueueFull {
        /// The oldest queued message is dropped and counted, the new one is queued.
        DropOldest = "drop-oldest",
        /// The new message is dropped and counted.
        DropNewest = "drop-newest",
        /// The new message is dropped and counted, and a connected client is disconnected (v5 reason code 0x97).
        Disconnect = "disconnect",
    }
}

words! {
    /// What happens to a message that is to wait when the queues of all sessions together are full.
    AllQueuesFull {
        /// The oldest messages that wait in its session's queue are dropped and counted until there is room; when none is
        /// left there, the new message is.
        DropOldest = "drop-oldest",
        /// The new message is dropped and counted.
        DropNewest = "drop-newest",
        /// No QoS 1 or 2 PUBLISH is taken over until there is room (v5 reason code 0x97; a 3.x client is disconnected).
        Refuse = "refuse",
    }
}

words! {
    /// What happens to QoS 1 and 2 messages for a connected client whose out-buffer is full. QoS 0 is always dropped
    /// and counted.
    SlowSubscriber {
        /// They wait in the session's queue, within its limits.
        Queue = "queue",
        /// They wait in the session's queue, and the client is disconnected (v5 reason code 0x97).
        Disconnect = "disconnect",
    }
}

words! {
    /// How a share group picks the member that receives a message.
    ShareStrategy {
        /// Each member that is online and has room in turn.
        RoundRobin = "round-robin",
    }
}

words! {
    /// The least severe event that is logged.
    LogLevel {
        /// Nothing is logged.
        Off = "off",
        /// What the broker can't do and should.
        Error = "error",
        /// What an operator should look at.
        Warn = "warn",
        /// Starts, stops and connections.
        Info = "info",
        /// What the broker decides and why.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

words! {
    /// How an event is written.
    LogFormat {
        /// A line of text.
        Text = "text",
        /// A JSON object on a line.
        Json = "json",
    }
}
