//! The start of the broker on what it kept: what it says in which order, from when on clients are let in, and what is there
//! again, by the listener that it came through.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
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
        Self::start_with(&["--shards", "2", "--listen", &address.to_string()], directory)
    }

    fn start_with(arguments: &[&str], directory: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        command.args(["serve", "--allow-anonymous"]).args(arguments).arg("--data-dir");
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

/// A broker of one shard with a listener for each durability, and where they listen: sync, batched, memory.
fn with_listeners(directory: &Path) -> (Broker, Vec<SocketAddr>) {
    let mut arguments = vec!["--shards".to_owned(), "1".to_owned()];
    for (number, durability) in ["inherit", "batched", "memory"].into_iter().enumerate() {
        for set in ["address=127.0.0.1:0".to_owned(), format!("durability={durability}")] {
            arguments.extend(["--set".to_owned(), format!("listener.{number}.{set}")]);
        }
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut broker = Broker::start_with(&arguments, directory);
    let lines = broker.said_until("ready");
    let said: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("listening on tcp ")).collect();
    let address = |line: &&str| line.split(' ').next().and_then(|address| address.parse().ok()).expect("an address");
    assert!(!said[0].contains("sync") && said[1].contains("batched") && said[2].contains("memory"), "{said:?}");
    (broker, said.iter().map(address).collect())
}

/// A client of MQTT 3.1.1 that resumes its session, and whether there was one.
fn connect(address: SocketAddr, client_id: &str) -> (TcpStream, bool) {
    let mut client = TcpStream::connect(address).expect("it listens");
    client.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let length = client_id.len() as u8;
    let mut packet = vec![0x10, 12 + length, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 60, 0, length];
    packet.extend(client_id.bytes());
    let connack = ask(&mut client, &packet, 4);
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:?}");
    (client, connack[2] == 1)
}

/// Sends a packet, and reads so many bytes of answer.
fn ask(client: &mut TcpStream, packet: &[u8], bytes: usize) -> Vec<u8> {
    client.write_all(packet).expect("it is there");
    let mut answer = vec![0; bytes];
    client.read_exact(&mut answer).expect("an answer");
    answer
}

#[test]
fn what_comes_through_a_listener_is_kept_as_it_promises() {
    let directory = room("listeners").join("data");
    let (broker, addresses) = with_listeners(&directory);
    let names = ["sync", "batched", "memory"];
    for (name, &address) in names.into_iter().zip(&addresses) {
        let (mut client, is_present) = connect(address, name);
        assert!(!is_present);
        assert_eq!(ask(&mut client, &[0x82, 6, 0, 1, 0, 1, b't', 1], 5), [0x90, 3, 0, 1, 1], "SUBACK");
        client.write_all(&[0xE0, 0]).expect("it is there");
    }
    // The one that nobody waits for comes before those that somebody does.
    for (payload, &address) in (b'0'..).zip(addresses.iter().rev()) {
        let (mut client, _) = connect(address, "publisher");
        let published = [0x32, 6, 0, 1, b't', 0, 9, payload];
        assert_eq!(ask(&mut client, &published, 4), [0x40, 2, 0, 9], "PUBACK");
    }
    // Killed with SIGKILL.
    drop(broker);
    let (_broker, addresses) = with_listeners(&directory);
    for (name, is_kept) in names.into_iter().zip([true, true, false]) {
        // Through a listener that promises nothing, too.
        let (mut client, is_present) = connect(addresses[2], name);
        assert_eq!(is_present, is_kept, "{name}");
        if is_kept {
            let told = ask(&mut client, &[], 3 * 8);
            let payloads: Vec<u8> = told.chunks(8).filter_map(|packet| packet.last().copied()).collect();
            assert_eq!(payloads, b"012", "{name}");
        }
    }
}
