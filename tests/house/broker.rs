//! A broker to test: the real binary on free ports, or one that runs already.

use std::{
    collections::VecDeque,
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

/// How long a broker may take to say that it listens. A loaded machine is slow; a broken broker exits at once.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How many of its last lines are shown when a test fails.
const LOG_LINES_MAX: usize = 60;

/// The variable that names a broker that runs already, as `127.0.0.1:1883`; with it, none is started.
const EXTERNAL: &str = "RINGMQ_TEST_BROKER";

/// A broker that lives as long as this value, which must not outlive the thread that started it.
#[derive(Debug)]
pub struct Broker {
    /// Where it listens, in the order in which the addresses were given.
    pub addresses: Vec<SocketAddr>,
    process: Option<Child>,
    log: Log,
}

type Log = Arc<Mutex<VecDeque<String>>>;

impl Broker {
    /// Starts `ringmq serve` with `shards` shards on a free port of each of `hosts`, with further `arguments`.
    pub fn start(shards: usize, hosts: &[&str], arguments: &[&str]) -> Broker {
        Broker::start_in(shards, hosts, arguments, &[])
    }

    /// The same, with these variables in its environment.
    pub fn start_in(shards: usize, hosts: &[&str], arguments: &[&str], variables: &[(&str, &str)]) -> Broker {
        Self::try_start_in(shards, hosts, arguments, variables)
            .unwrap_or_else(|log| panic!("the broker does not say where it listens:\n{log}"))
    }

    /// The same.
    ///
    /// # Errors
    /// With what it said when it does not come to listening.
    pub fn try_start(shards: usize, hosts: &[&str], arguments: &[&str]) -> Result<Broker, String> {
        Self::try_start_in(shards, hosts, arguments, &[])
    }

    fn try_start_in(
        shards: usize,
        hosts: &[&str],
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Broker, String> {
        if let Ok(address) = std::env::var(EXTERNAL) {
            let address = address.parse().unwrap_or_else(|_| panic!("{EXTERNAL} is no address: {address:?}"));
            return Ok(Broker { addresses: vec![address], process: None, log: Log::default() });
        }
        // setpriv lets the kernel kill the broker when this thread ends in a way that runs no destructor.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_ringmq"), "serve", "--allow-anonymous"]);
        command.args(["--shards", &shards.to_string()]);
        for host in hosts {
            command.args(["--listen", &format!("{host}:0")]);
        }
        // In a directory of its own, because a ringmq.toml beside it is not what is tested.
        // Nothing outlives a test, unless it asks for that.
        if !arguments.contains(&"--durability") {
            command.args(["--durability", "memory"]);
        }
        command.args(arguments).current_dir(Path::new(env!("CARGO_TARGET_TMPDIR")));
        let mut child = command
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("setpriv, from the package util-linux, starts the broker");
        let log = Log::default();
        let (sender, found) = mpsc::channel();
        follow(child.stdout.take().expect("piped"), Arc::clone(&log), sender.clone());
        follow(child.stderr.take().expect("piped"), Arc::clone(&log), sender);
        let mut broker = Broker { addresses: Vec::new(), process: Some(child), log };
        for _ in hosts {
            match found.recv_timeout(START_PATIENCE) {
                Ok(address) => broker.addresses.push(address),
                Err(_) => return Err(broker.log()),
            }
        }
        Ok(broker)
    }

    /// Where it listens first.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Whether it still runs; a broker from outside is taken to.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_none_or(|child| child.try_wait().is_ok_and(|exit| exit.is_none()))
    }

    /// Its process; nothing for a broker from outside.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Bytes of physical memory that it uses; nothing for a broker from outside.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.as_ref()?.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
    }

    /// How many file descriptors it has open; nothing for a broker from outside.
    pub fn open_descriptors(&self) -> Option<usize> {
        Some(fs::read_dir(format!("/proc/{}/fd", self.process.as_ref()?.id())).ok()?.count())
    }

    /// The last lines that it printed.
    pub fn log(&self) -> String {
        let lines = self.log.lock().expect("no holder of the lock panics");
        lines.iter().map(|line| format!("  broker: {line}\n")).collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let Some(child) = &mut self.process else { return };
        // Both fail only if it is gone already, and that is all that is wanted here.
        let _ = child.kill();
        let _ = child.wait();
        if thread::panicking() {
            println!("the last lines of the broker:\n{}", self.log());
        }
    }
}

/// Reads `output` to its end, so that the broker never waits for room in the pipe.
fn follow(output: impl Read + Send + 'static, log: Log, found: Sender<SocketAddr>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let address = line.split_once("listening on tcp ").and_then(|(_, rest)| rest.split_whitespace().next());
            if let Some(address) = address.and_then(|address| address.parse().ok()) {
                // Nobody listens any more once all addresses are known.
                let _ = found.send(address);
            }
            let mut lines = log.lock().expect("no holder of the lock panics");
            if lines.len() == LOG_LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
}
