//! The broker that is killed: the real binary on a directory that outlives it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use crate::{Plan, house::broker::Broker};

/// A data directory, and the broker that serves it, if one is running.
#[derive(Debug)]
pub struct Victim {
    arguments: Vec<String>,
    shards: usize,
    directory: PathBuf,
    running: Option<Broker>,
}

impl Victim {
    /// A fresh directory for the broker of `plan`. Nothing runs yet.
    pub fn new(plan: &Plan) -> Victim {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let place = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("crash-{}-{place}-{}-{}", std::process::id(), plan.durability, plan.shards);
        let directory = plan.place.join(name);
        fs::create_dir_all(&directory).expect("a directory for the data");
        // No queue may overflow: what is dropped there is lost by design.
        let mut arguments = vec!["--set".to_owned(), "mqtt.queue_messages_max=1000000".to_owned()];
        arguments.extend(["--set".to_owned(), "mqtt.queue_bytes_max=1GiB".to_owned()]);
        if has_durability() {
            arguments.extend(["--durability".to_owned(), plan.durability.clone()]);
            arguments.extend(["--data-dir".to_owned(), directory.display().to_string()]);
        }
        Victim { arguments, shards: plan.shards, directory, running: None }
    }

    /// Starts the broker, and waits until it is ready.
    ///
    /// # Errors
    /// With what it said if it ended instead.
    pub fn start(&mut self) -> Result<SocketAddr, String> {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let mut broker = Broker::try_start(self.shards, &["127.0.0.1"], &arguments)?;
        while !broker.log().lines().any(|line| line.ends_with(" ready")) {
            if !broker.is_running() {
                return Err(broker.log());
            }
            thread::sleep(Duration::from_millis(1));
        }
        let address = broker.address();
        self.running = Some(broker);
        Ok(address)
    }

    /// Kills the broker with SIGKILL after the disk is gone, when it may have ended already.
    ///
    /// # Errors
    /// With what it said if it panicked.
    pub fn kill_in_the_dark(&mut self) -> Result<(), String> {
        let Some(broker) = self.running.take() else { return Ok(()) };
        let log = broker.log();
        if log.contains("panicked") { Err(log) } else { Ok(()) }
    }

    /// What the broker has said.
    pub fn log(&self) -> String {
        self.running.as_ref().map(Broker::log).unwrap_or_default()
    }

    /// Kills the broker with SIGKILL.
    ///
    /// # Errors
    /// With what it said if it had ended or panicked before.
    pub fn kill(&mut self) -> Result<(), String> {
        let Some(mut broker) = self.running.take() else { return Ok(()) };
        let is_running = broker.is_running();
        let log = broker.log();
        if is_running && !log.contains("panicked") { Ok(()) } else { Err(log) }
    }

    /// Starts the broker and kills it `after` that, whether it is ready or not; `before` that, something else happens.
    pub fn kill_while_starting(&self, after: Duration, before: impl FnOnce()) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        command.args(["serve", "--allow-anonymous", "--listen", "127.0.0.1:0", "--shards", &self.shards.to_string()]);
        command.args(&self.arguments).current_dir(env!("CARGO_TARGET_TMPDIR"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the broker starts");
        thread::sleep(after);
        before();
        child.kill().expect("it can be killed, running or not");
        child.wait().expect("it ends");
    }

    /// Removes the directory.
    pub fn clean_up(self) {
        fs::remove_dir_all(&self.directory).expect("the directory can be removed");
    }

    /// Where its data are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Whether this broker keeps anything over a restart.
pub fn has_durability() -> bool {
    let help = Command::new(env!("CARGO_BIN_EXE_ringmq")).args(["serve", "--help"]).output();
    String::from_utf8_lossy(&help.expect("the broker tells its flags").stdout).contains("--durability")
}
