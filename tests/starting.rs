//! The start of the broker on what it kept: what it says in which order, and from when on clients are let in.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A directory of its own for each test.
fn room(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("starting-{name}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("room on the disk");
    path
}

/// A broker that ends with its test.
struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Broker {
    fn start(address: SocketAddr, directory: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        command.args(["serve", "--allow-anonymous", "--shards", "2", "--listen", &address.to_string(), "--data-dir"]);
        command.arg(directory).current_dir(env!("CARGO_TARGET_TMPDIR"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().expect("the broker"))
    }

    /// What it says up to the line that begins with `last`, or to its end.
    fn said_until(&mut self, last: &str) -> Vec<String> {
        let output = self.0.stdout.as_mut().expect("piped, and read once");
        let mut lines = Vec::new();
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let is_last = line.starts_with(last);
            lines.push(line);
            if is_last {
                break;
            }
        }
        lines
    }

    /// Its exit code, and its errors, once it has ended.
    fn ended(&mut self) -> (Option<i32>, String) {
        let mut errors = String::new();
        self.0.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
        (self.0.wait().expect("a child").code(), errors)
    }
}

fn place_of(lines: &[String], beginning: &str) -> usize {
    let place = lines.iter().position(|line| line.starts_with(beginning));
    place.unwrap_or_else(|| panic!("{beginning}: {lines:?}"))
}

/// A data directory that a broker has used.
fn used(room: &Path) -> PathBuf {
    let directory = room.join("data");
    let mut broker = Broker::start(SocketAddr::from(([127, 0, 0, 1], 0)), &directory);
    let lines = broker.said_until("ready");
    assert!(place_of(&lines, "store: ") < place_of(&lines, "listening on tcp "), "{lines:?}");
    directory
}

#[test]
fn who_connects_is_refused_until_everything_is_read() {
    let directory = used(&room("refused"));
    // A start that reads this file waits until somebody writes it.
    let format = directory.join("format");
    let version = fs::read(&format).expect("readable");
    fs::remove_file(&format).expect("there");
    assert!(Command::new("mkfifo").arg(&format).status().expect("mkfifo, from coreutils").success());
    // Nobody else uses an address of the loopback network such as this.
    let port = TcpListener::bind("127.77.3.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let address = SocketAddr::from(([127, 77, 3, 1], port));
    let mut broker = Broker::start(address, &directory);
    let mut writer = File::options().write(true).open(&format).expect("the broker opens it for reading");
    assert_eq!(TcpStream::connect(address).expect_err("not yet").kind(), ErrorKind::ConnectionRefused);
    writer.write_all(&version).expect("the broker reads it");
    drop(writer);
    let lines = broker.said_until("listening");
    assert!(lines.last().is_some_and(|line| line.contains(&address.to_string())), "{lines:?}");
    let before = |line: &str| assert!(place_of(&lines, line) < place_of(&lines, "listening on tcp "), "{lines:?}");
    ["RingMQ ", "limits: ", "store: "].into_iter().for_each(before);
    TcpStream::connect(address).expect("it listens");
}

#[test]
fn a_store_that_cannot_be_used_ends_the_start_without_listening() {
    let directory = used(&room("locked"));
    let lock = File::open(directory.join("lock")).expect("readable");
    lock.lock().expect("the broker is gone");
    let mut broker = Broker::start(SocketAddr::from(([127, 0, 0, 1], 0)), &directory);
    let lines = broker.said_until("listening");
    let (code, errors) = broker.ended();
    assert!(code == Some(1) && errors.contains("another process uses this data directory"), "{code:?} {errors}");
    assert!(!lines.iter().any(|line| line.starts_with("listening")), "{lines:?}");
}

#[test]
fn a_port_in_use_is_told_before_the_store_is_touched() {
    let directory = room("port").join("data");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut broker = Broker::start(taken.local_addr().expect("bound"), &directory);
    let (code, errors) = broker.ended();
    assert!(code == Some(1) && errors.contains("cannot listen on 127.0.0.1:"), "{code:?} {errors}");
    assert!(!directory.exists());
}
