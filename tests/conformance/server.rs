//! Starts the broker under test: the real binary on a free port, or whatever `RINGMQ_TEST_BROKER` names.
//!
//! A test binary starts one shared broker per shard count, and further ones for scripts that need settings of their
//! own. No broker outlives the tests: dropping a [`Server`] kills its process, and the kernel kills those that are
//! never dropped (the shared ones) when the test binary dies.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use crate::client::{Client, PATIENCE};
use crate::wire::Connect;

/// A running broker.
pub struct Server {
    address: String,
    process: Option<Process>,
    markers: OnceLock<String>,
}

struct Process {
    child: Child,
    log: Log,
}

/// The last lines that a broker printed, for the message of a test that fails.
type Log = Arc<Mutex<VecDeque<String>>>;

/// Runs `script` against the shared broker of one shard and the one of four, both at once.
///
/// The threads are named after the shard count, so that a panic says which broker it met.
pub fn on_each_shard_count(script: impl Fn(&Server) + Sync) {
    if let Some(server) = external() {
        return script(server);
    }
    run_twice(|shards| script(shared(shards)));
}

/// As [`on_each_shard_count`], with brokers of this test's own that have `settings` (`section.key=value`).
///
/// A broker from outside cannot be given settings: against one, such a script is left out.
pub fn on_each_shard_count_with(settings: &[&str], script: impl Fn(&Server) + Sync) {
    if external().is_some() {
        println!("left out: an external broker cannot be given {settings:?}");
        return;
    }
    run_twice(|shards| script(&Server::start(shards, settings)));
}

/// Tells the data directories of this process's brokers apart.
static NEXT_DIRECTORY: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// Starts a broker with `shards` shards and `settings` on a free port, and waits until it listens.
    pub fn start(shards: usize, settings: &[&str]) -> Server {
        // The guard is the kernel's: it kills the broker when its parent thread, which lives as long as this process, is gone.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_ringmq"), "serve", "--allow-anonymous"]);
        command.args(["--listen", "127.0.0.1:0", "--shards", &shards.to_string()]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        // What is kept makes no difference to what is said: one broker of each pair keeps everything.
        if shards > 1 {
            let directory =
                format!("conformance-{}-{}", std::process::id(), NEXT_DIRECTORY.fetch_add(1, Ordering::Relaxed));
            command.args(["--durability", "sync", "--data-dir", &directory]);
        } else {
            command.args(["--durability", "memory"]);
        }
        // Away from the repository, where a ringmq.toml lies.
        command.current_dir(Path::new(env!("CARGO_TARGET_TMPDIR")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(command);

        let log = Log::default();
        let (found, address) = mpsc::channel();
        watch(child.stdout.take().unwrap(), log.clone(), found.clone());
        watch(child.stderr.take().unwrap(), log.clone(), found);
        let process = Process { child, log };
        let Ok(address) = address.recv_timeout(PATIENCE) else {
            panic!("the broker with {settings:?} does not say `listening on tcp`:\n{}", process.log_text());
        };
        Server { address, process: Some(process), markers: OnceLock::new() }
    }

    /// `host:port` of the TCP listener.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the broker came from outside: then it may differ from ours where the specification allows it.
    pub fn is_external(&self) -> bool {
        self.process.is_none()
    }

    /// A word that nothing else in this run uses: 1 to 23 letters and digits if `word` has at most 10.
    pub fn unique(&self, word: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("{word}{:x}n{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// A filter that matches [`MARKERS`] retained messages, so many that every shard is the home of some.
    pub fn marker_filter(&self) -> String {
        let base = self.markers.get_or_init(|| {
            let base = self.unique("markers");
            let mut client = Client::connect(self, Connect::v311(&self.unique("marker")));
            for number in 0..MARKERS {
                client.publish_retained(&format!("{base}/{number}"), "marker", 1);
            }
            base
        });
        format!("{base}/+")
    }

    /// The process id of the broker, if this harness started it.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }
}

/// How many retained messages [`Server::marker_filter`] matches.
pub const MARKERS: usize = 48;

impl Process {
    fn log_text(&self) -> String {
        self.log.lock().unwrap().iter().map(|line| format!("  | {line}\n")).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Killing what has died already fails, and that is what we wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the broker's last lines:\n{}", self.log_text());
        }
    }
}

fn run_twice(script: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for shards in [1, 4] {
            let name = format!("{shards} shards");
            let script = &script;
            thread::Builder::new().name(name).spawn_scoped(scope, move || script(shards)).unwrap();
        }
    });
}

fn shared(shards: usize) -> &'static Server {
    static ONE: OnceLock<Server> = OnceLock::new();
    static FOUR: OnceLock<Server> = OnceLock::new();
    let cell = if shards == 1 { &ONE } else { &FOUR };
    cell.get_or_init(|| Server::start(shards, &[]))
}

fn external() -> Option<&'static Server> {
    static EXTERNAL: OnceLock<Option<Server>> = OnceLock::new();
    let named = || std::env::var("RINGMQ_TEST_BROKER").ok();
    EXTERNAL.get_or_init(|| named().map(|address| Server { address, process: None, markers: OnceLock::new() })).as_ref()
}

/// Spawns from one thread that never ends: the death signal follows the parent *thread*, and test threads end early.
fn spawn(command: Command) -> Child {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, incoming) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in incoming {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (reply, child) = mpsc::channel();
    spawner.lock().unwrap().send((command, reply)).unwrap();
    child.recv().unwrap().expect("setpriv (util-linux) starts the broker")
}

/// Reads a broker's output to its end, so that the broker never blocks on it, and reports the address it listens on.
fn watch(output: impl Read + Send + 'static, log: Log, found: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("listening on tcp ") {
                let _ = found.send(rest.split_whitespace().next().unwrap_or_default().to_owned());
            }
            if line.contains("panicked") {
                eprintln!("the broker says: {line}");
            }
            let mut log = log.lock().unwrap();
            if log.len() == LOG_LINES_MAX {
                log.pop_front();
            }
            log.push_back(line);
        }
    });
}

const LOG_LINES_MAX: usize = 100;
