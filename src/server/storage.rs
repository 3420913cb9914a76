//! The store of a broker: opened and read before anything is served.
//!
//! Owns: the choice of the data directory, and the way of what was kept to the shards where it is at home now.
//! Always: shards serve nobody before all of them have taken over what is theirs. The number of shards, and where clients
//! and topics are at home, may differ from the last start.

use std::{path::PathBuf, time::Duration};

use crate::{
    config::{Config, Durability},
    message::ApplicationMessage,
    routing::{HashKey, home},
    runtime::Wake,
    shard::Shard,
    store::{
        DiskStore, Joiner, Journal, Keeper, KeeperHandle, KeeperPort, Lacking, OpenError, Pace, RecordsRead, Recovered,
        RecoveredSession, StoreError, doubt, recover_watched, remedy,
    },
    time::Moment,
};

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What is in it cannot be read.
    #[error("{}: {error}. {}", .directory.display(), remedy(.directory))]
    Read {
        /// The data directory.
        directory: PathBuf,
        /// Why.
        error: StoreError,
    },
    /// It cannot be noted in it what may be missing.
    #[error("{}: it cannot be noted that the last of what was told to clients may be missing: {error}", .directory.display())]
    Doubt {
        /// The data directory.
        directory: PathBuf,
        /// Why.
        error: StoreError,
    },
    /// There is no thread for it.
    #[error("the store's thread could not be started: {0}")]
    Thread(std::io::Error),
}

/// What one shard takes over.
#[derive(Debug)]
pub struct Share {
    /// The largest number in use.
    last_number: u64,
    /// The newest retained message of all was taken over then.
    newest: Moment,
    /// Sessions whose clients are at home there.
    sessions: Vec<RecoveredSession>,
    /// Retained messages whose topics are.
    retained: Vec<ApplicationMessage>,
}

impl Share {
    /// Gives everything to where it is at home among `shards` shards.
    #[must_use]
    pub fn of_each(recovered: Recovered, key: HashKey, shards: usize) -> Vec<Share> {
        let last_number = recovered.last_number;
        let newest = recovered.retained.iter().map(|message| message.envelope.stamp.micros).max();
        let newest = Moment::from_micros(newest.unwrap_or(0));
        let share = |_| Share { last_number, newest, sessions: Vec::new(), retained: Vec::new() };
        let mut shares: Vec<Share> = (0..shards).map(share).collect();
        for session in recovered.sessions {
            let at_home = home(key.client_id(&session.record.client_id), shards);
            if let Some(share) = shares.get_mut(at_home) {
                share.sessions.push(session);
            }
        }
        for message in recovered.retained {
            let at_home = home(key.topic(message.topic()).whole, shards);
            if let Some(share) = shares.get_mut(at_home) {
                share.retained.push(message);
            }
        }
        shares
    }

    /// Gives a shard, which has served nobody yet, what was kept for it. `started`: when the process began, the same moment
    /// for all shards.
    pub fn restore(self, shard: &mut Shard, started: Moment, now: Moment) {
        shard.stamp_behind(self.newest, started);
        shard.set_journal(Journal::on(shard.index(), self.last_number));
        for session in self.sessions {
            shard.restore_session(session, now);
        }
        for message in self.retained {
            shard.restore_retained(message, now);
        }
    }
}

/// The store and what it held, for each shard.
#[derive(Debug)]
pub struct Storage {
    /// The store's thread.
    pub keeper: KeeperHandle,
    /// What each shard takes over, and its way to the store.
    pub shares: Vec<(Share, KeeperPort)>,
    /// Where it is.
    pub directory: PathBuf,
    /// Sessions found.
    pub sessions: usize,
    /// Retained messages found.
    pub retained: usize,
    /// Queued messages found.
    pub queued: usize,
}

/// How far a start has come with reading what was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadSoFar {
    /// So many bytes of files were compared with their checksums.
    Bytes(u64),
    /// Files are whole; this was read from them.
    Records(RecordsRead),
    /// Everything was read.
    All,
}

/// Opens the store of `config`, if anything is to be kept, for shards that are woken by `wakes`. `watch` is told how far it
/// has come.
///
/// # Errors
/// When the data directory cannot be used or read.
pub fn open(
    config: &Config,
    key: HashKey,
    wakes: Vec<Wake>,
    watch: &mut dyn FnMut(ReadSoFar),
) -> Result<Option<Storage>, StorageError> {
    let sync_interval = match config.store.durability {
        Durability::Memory => return Ok(None),
        Durability::Sync => None,
        Durability::Batched => Some(config.store.sync_interval),
    };
    let directory = data_directory(config);
    let mut bytes_read = 0;
    let mut store = DiskStore::open_watched(&directory, &mut |bytes| {
        bytes_read += bytes;
        watch(ReadSoFar::Bytes(bytes_read));
    })?;
    let lacking = store.lacking();
    store.promise(sync_interval.is_none())?;
    let window = config.mqtt.inflight_max.into();
    let recovered = recover_watched(&store, window, &mut |records| watch(ReadSoFar::Records(records)));
    let mut recovered = recovered.map_err(|error| StorageError::Read { directory: directory.clone(), error })?;
    if let Some(lacking) = lacking {
        warn_of(lacking, config.store.sync_interval);
    }
    // Who came through a listener that promises less than the store may have been told what is not there, unless the broker had
    // the time to keep it.
    let given = config.store.durability;
    let promises_less =
        config.listeners.iter().any(|listener| given.promises_more_than(config.durability_of(listener)));
    if lacking.is_some() || (promises_less && !store.ended_well()) {
        let noted = doubt(&mut recovered, &mut store);
        noted.map_err(|error| StorageError::Doubt { directory: directory.clone(), error })?;
    }
    let shards = wakes.len();
    let (sessions, retained) = (recovered.sessions.len(), recovered.retained.len());
    let queues = recovered.sessions.iter().filter_map(|session| session.queue);
    let queued = queues.map(|queue| (queue.sent + queue.count) as usize).sum();
    let (queues, ended) = (std::mem::take(&mut recovered.queues), std::mem::take(&mut recovered.ended));
    let joiner = Joiner::new(shards as u16, recovered.commit_number, queues, ended);
    let wakes = wakes.into_iter().map(|wake| Box::new(move || wake.wake()) as Box<dyn Fn() + Send>).collect();
    let says_written = config.listeners.iter().any(|listener| config.durability_of(listener) == Durability::Batched);
    let free_bytes_min = config.store.disk_free_bytes_min;
    let pace = Pace { sync_interval, says_written, free_bytes_min, ..Pace::default() };
    let medium = Box::new(store.medium());
    let (keeper, ports) = Keeper::start(Box::new(store), medium, joiner, pace, wakes).map_err(StorageError::Thread)?;
    let shares = Share::of_each(recovered, key, shards).into_iter().zip(ports).collect();
    watch(ReadSoFar::All);
    Ok(Some(Storage { keeper, shares, directory, sessions, retained, queued }))
}

/// Says what may be missing.
fn warn_of(Lacking { found, made }: Lacking, sync_interval: Duration) {
    let commits = match made {
        Some(made) => format!("commit {found} is the last that is there, and {made} was made"),
        None => format!("commit {found} is the last that is there"),
    };
    tracing::warn!(
        "the machine ended while the store was \"batched\": what was acknowledged in the last {sync_interval:?}, or what \
         store.sync_interval was, may be missing; {commits}"
    );
}

/// Where things are kept.
fn data_directory(config: &Config) -> PathBuf {
    if !config.store.data_dir.is_empty() {
        return PathBuf::from(&config.store.data_dir);
    }
    // systemd may name several, separated by colons.
    let named = std::env::var("STATE_DIRECTORY").unwrap_or_default();
    match named.split(':').next() {
        Some(first) if !first.is_empty() => PathBuf::from(first),
        _ => PathBuf::from("ringmq-data"),
    }
}
