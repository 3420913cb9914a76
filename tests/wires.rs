//! The wires over the real ring and real sockets: an echo server that hostile and slow clients talk to.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says where")]

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ringmq::{
    runtime::{
        Clock, Close, CloseCause, ConnectionId, ReleasedSocket, Socket, Uring, UringParameters, Wait, Wake,
        WireHandler, Wires, WiresCounters, WiresParameters,
        executor::{Executor, Members},
        listener::Listeners,
    },
    transport::OutBuffer,
};

const LOCALHOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const PATIENCE: Duration = Duration::from_secs(20);

/// What the handler of all these servers notes.
#[derive(Default)]
struct Notes {
    accepted: Vec<ConnectionId>,
    received: Vec<(ConnectionId, Vec<u8>)>,
    sent: Vec<(ConnectionId, Box<OutBuffer>)>,
    closed: Vec<(ConnectionId, CloseCause)>,
}

impl WireHandler for Notes {
    fn on_accepted(&mut self, id: ConnectionId, listener: u16, peer: SocketAddr) {
        assert_eq!((listener, peer.ip().is_loopback()), (0, true));
        self.accepted.push(id);
    }

    fn on_received(&mut self, id: ConnectionId, bytes: &mut [u8]) {
        self.received.push((id, bytes.to_vec()));
    }

    fn on_sent(&mut self, id: ConnectionId, buffer: Box<OutBuffer>, bytes: usize) {
        assert_eq!(buffer.len(), bytes);
        self.sent.push((id, buffer));
    }

    fn on_closed(&mut self, id: ConnectionId, cause: CloseCause, _buffer: Option<Box<OutBuffer>>) {
        self.closed.push((id, cause));
    }
}

/// A ring with its wires, its notes, and its clock.
struct Server {
    wires: Wires<Uring>,
    notes: Notes,
    clock: Clock,
    wake: Wake,
    address: SocketAddr,
}

impl Server {
    fn new(ring: UringParameters, limits: WiresParameters) -> Self {
        let wake = Wake::new().unwrap();
        let mut wires = Wires::new(Uring::new(ring, wake.clone()).unwrap(), limits);
        let mut listeners = Listeners::bind(LOCALHOST, 1).unwrap();
        listeners.listen(4096).unwrap();
        let address = listeners.address();
        assert_eq!(wires.add_listener(listeners.take().unwrap()), 0);
        Server { wires, notes: Notes::default(), clock: Clock::start(), wake, address }
    }

    fn small() -> Self {
        let ring = UringParameters { submissions: 64, completions: 256, buffers: 16, ..UringParameters::default() };
        Server::new(ring, WiresParameters::default())
    }

    /// Turns until `is_done`, failing loudly instead of waiting for ever.
    fn turn_until(&mut self, mut is_done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_done(self) {
            assert!(Instant::now() < deadline, "this takes too long: {:?}", self.wires.counters());
            let now = self.clock.now();
            let until = now.after(Duration::from_millis(5));
            self.wires.turn(&mut self.notes, Wait::Until(Some(until)), now);
        }
    }

    fn accept_one(&mut self) -> (TcpStream, ConnectionId) {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        self.turn_until(|server| !server.notes.accepted.is_empty());
        (client, self.notes.accepted.pop().unwrap())
    }

    fn received_from(&mut self, id: ConnectionId) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.notes.received.retain(|(from, part)| {
            if *from == id {
                bytes.extend(part);
            }
            *from != id
        });
        bytes
    }
}

/// Runs an echo server on its own thread until it is stopped.
struct EchoServer {
    address: SocketAddr,
    wake: Wake,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<WiresCounters>,
}

impl EchoServer {
    fn start(ring: UringParameters) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, told) = mpsc::channel();
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut server = Server::new(ring, WiresParameters::default());
            tell.send((server.address, server.wake.clone())).unwrap();
            let mut echoes: HashMap<ConnectionId, (Vec<u8>, bool)> = HashMap::new();
            while !stopping.load(Ordering::Acquire) {
                let now = server.clock.now();
                server.wires.turn(&mut server.notes, Wait::Until(None), now);
                echo(&mut server, &mut echoes);
            }
            server.wires.counters()
        });
        let (address, wake) = told.recv().unwrap();
        EchoServer { address, wake, stop, thread }
    }

    fn stop(self) -> WiresCounters {
        self.stop.store(true, Ordering::Release);
        self.wake.wake();
        self.thread.join().unwrap()
    }
}

fn echo(server: &mut Server, echoes: &mut HashMap<ConnectionId, (Vec<u8>, bool)>) {
    for id in server.notes.accepted.drain(..) {
        echoes.insert(id, (Vec::new(), false));
        server.wires.receive(id);
    }
    let mut dirty = Vec::new();
    for (id, bytes) in server.notes.received.drain(..) {
        echoes.get_mut(&id).unwrap().0.extend(bytes);
        dirty.push(id);
    }
    for (id, _) in server.notes.sent.drain(..) {
        echoes.get_mut(&id).unwrap().1 = false;
        dirty.push(id);
    }
    for (id, _) in server.notes.closed.drain(..) {
        echoes.remove(&id).unwrap();
    }
    for id in dirty {
        let Some((pending, is_sending)) = echoes.get_mut(&id) else { continue };
        if !*is_sending && !pending.is_empty() {
            *is_sending = true;
            let buffer = OutBuffer::from(&std::mem::take(pending)[..]);
            server.wires.send(id, Box::new(buffer)).unwrap();
        }
    }
}

fn converse(address: SocketAddr, connections: usize, rounds: usize) {
    let mut clients: Vec<_> = (0..connections).map(|_| TcpStream::connect(address).unwrap()).collect();
    for round in 0..rounds {
        for (number, client) in clients.iter_mut().enumerate() {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(format!("{number:06}/{round:06}").as_bytes()).unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let mut answer = [0; 13];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, format!("{number:06}/{round:06}").as_bytes());
        }
    }
}

#[test]
fn a_thousand_connections_are_echoed() {
    let server = EchoServer::start(UringParameters::default());
    converse(server.address, 1000, 5);
    let counters = server.stop();
    assert_eq!((counters.accepted, counters.stale), (1000, 0));
    assert_eq!((counters.received_bytes, counters.sent_bytes), (65_000, 65_000));
}

#[test]
fn four_buffers_are_enough_for_64_connections() {
    let server = EchoServer::start(UringParameters { buffers: 4, buffer_bytes: 64, ..UringParameters::default() });
    converse(server.address, 64, 20);
    let counters = server.stop();
    assert!(counters.starved > 0, "the pool never ran out: {counters:?}");
}

#[test]
fn nobody_starves_while_the_shard_waits() {
    let ring = UringParameters { buffers: 2, buffer_bytes: 64, ..UringParameters::default() };
    let mut server = Server::new(ring, WiresParameters::default());
    let mut clients: Vec<_> = (0..40).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    server.turn_until(|server| server.notes.accepted.len() == 40);
    clients.iter_mut().for_each(|client| client.write_all(&[1; 200]).unwrap());
    for id in std::mem::take(&mut server.notes.accepted) {
        server.wires.receive(id);
    }
    let started = Instant::now();
    let mut got = 0;
    while got < 40 * 200 {
        // Nothing else happens that would end this wait.
        let now = server.clock.now();
        server.wires.turn(&mut server.notes, Wait::Until(Some(now.after(PATIENCE))), now);
        got += server.notes.received.drain(..).map(|(_, bytes)| bytes.len()).sum::<usize>();
    }
    assert!(started.elapsed() < PATIENCE / 2);
    assert!(server.wires.counters().starved > 0);
}

#[test]
fn a_queue_that_is_too_small_loses_nothing() {
    let server = EchoServer::start(UringParameters { submissions: 8, completions: 16, ..UringParameters::default() });
    converse(server.address, 300, 5);
    assert_eq!(server.stop().received_bytes, 300 * 5 * 13);
}

#[test]
fn a_connection_moves_between_rings_with_the_bytes_that_arrive_meanwhile() {
    let (mut first, mut second) = (Server::small(), Server::small());
    let (mut client, id) = first.accept_one();
    client.write_all(b"connect ").unwrap();
    first.wires.receive_once(id);
    first.turn_until(|server| !server.notes.received.is_empty());
    assert_eq!(first.received_from(id), b"connect ");
    // Nothing is armed now: what comes stays in the socket.
    client.write_all(b"while moving ").unwrap();
    let now = first.clock.now();
    first.wires.turn(&mut first.notes, Wait::No, now);
    assert!(first.notes.received.is_empty());
    let socket = first.wires.release(id).unwrap();
    assert_eq!(socket.peer, client.local_addr().unwrap());
    assert!(first.wires.is_empty());
    let id = second.wires.adopt(socket).unwrap();
    second.wires.receive(id);
    client.write_all(b"after").unwrap();
    let mut got = Vec::new();
    second.turn_until(|server| {
        got.extend(server.received_from(id));
        got == b"while moving after"
    });
    second.wires.send(id, Box::new(OutBuffer::from(&b"welcome"[..]))).unwrap();
    second.turn_until(|server| !server.notes.sent.is_empty());
    let mut answer = [0; 7];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"welcome");
    drop(client);
    second.turn_until(|server| server.notes.closed == [(id, CloseCause::EndOfStream)]);
}

#[test]
fn a_paused_connection_is_not_read_and_resumes_where_it_stopped() {
    let mut server = Server::small();
    let (mut client, id) = server.accept_one();
    server.wires.receive(id);
    client.write_all(b"one").unwrap();
    server.turn_until(|server| !server.notes.received.is_empty());
    server.wires.pause(id);
    for _ in 0..3 {
        let now = server.clock.now();
        server.wires.turn(&mut server.notes, Wait::No, now);
    }
    assert_eq!(server.received_from(id), b"one");
    // More than all receive buffers hold: had the recv stayed armed, it would be seen.
    client.set_nonblocking(true).unwrap();
    let block = [7_u8; 64 * 1024];
    let mut written = 0;
    loop {
        match client.write(&block) {
            Ok(count) => written += count,
            Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    let now = server.clock.now();
    server.wires.turn(&mut server.notes, Wait::No, now);
    assert!(server.notes.received.is_empty());
    // Pausing and resuming at once changes nothing either.
    server.wires.resume(id);
    server.wires.pause(id);
    server.wires.resume(id);
    let mut got = 0;
    server.turn_until(|server| {
        got += server.received_from(id).len();
        got == written
    });
}

#[test]
fn pausing_in_the_middle_of_a_stream_loses_and_mixes_nothing() {
    let mut server = Server::small();
    let (mut client, id) = server.accept_one();
    let total = 4_000_000_u32;
    let writing = std::thread::spawn(move || {
        let bytes: Vec<u8> = (0..total).flat_map(u32::to_be_bytes).collect();
        client.write_all(&bytes).unwrap();
    });
    server.wires.receive(id);
    let mut got: Vec<u8> = Vec::new();
    let mut pauses = 0;
    server.turn_until(|server| {
        got.extend(server.received_from(id));
        pauses += 1;
        // A paused connection goes silent before it is resumed, every other time.
        server.wires.pause(id);
        if pauses % 2 == 0 {
            for _ in 0..2 {
                let now = server.clock.now();
                server.wires.turn(&mut server.notes, Wait::No, now);
            }
        }
        server.wires.resume(id);
        got.len() == 4 * total as usize
    });
    assert!(got.chunks(4).zip(0..total).all(|(bytes, number)| bytes == number.to_be_bytes()));
    writing.join().unwrap();
}

#[test]
fn the_last_bytes_arrive_although_input_is_unread() {
    for round in 0..20 {
        let mut server = Server::small();
        let (mut client, id) = server.accept_one();
        server.wires.receive_once(id);
        client.write_all(&[1; 3000]).unwrap();
        server.turn_until(|server| !server.notes.received.is_empty());
        // This stays unread in the server's socket, and more follows after the end.
        client.write_all(&[2; 9000]).unwrap();
        let last_words = vec![round; 100];
        server.wires.send(id, Box::new(OutBuffer::from(&last_words[..]))).unwrap();
        server.wires.close(id, Close::Linger);
        let now = server.clock.now();
        server.wires.turn(&mut server.notes, Wait::No, now);
        client.write_all(&[3; 9000]).unwrap();
        let reading = std::thread::spawn(move || {
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            got
        });
        server.turn_until(|server| server.wires.is_empty());
        assert_eq!(reading.join().unwrap(), last_words);
        assert_eq!(server.wires.counters().resets, 0);
        assert!(server.notes.closed.is_empty());
    }
}

#[test]
fn a_slow_reader_gets_every_byte_of_large_and_shared_payloads() {
    let mut server = Server::small();
    let (mut client, id) = server.accept_one();
    let mut buffer = OutBuffer::new();
    let mut expected = Vec::new();
    for part in 0..300_u32 {
        let own = part.to_be_bytes();
        let shared = Bytes::from(vec![part as u8; 20_000]);
        buffer.bytes_mut().extend_from_slice(&own);
        buffer.push_payload(&shared);
        expected.extend_from_slice(&own);
        expected.extend_from_slice(&shared);
    }
    server.wires.send(id, Box::new(buffer)).unwrap();
    let last = vec![9; 3_000_000];
    server.wires.send(id, Box::new(OutBuffer::from(&last[..]))).unwrap();
    expected.extend_from_slice(&last);
    let reading = std::thread::spawn(move || {
        let mut got = Vec::new();
        let mut block = [0; 30_000];
        while let Ok(count @ 1..) = client.read(&mut block) {
            got.extend_from_slice(&block[..count]);
        }
        got
    });
    server.turn_until(|server| server.notes.sent.len() == 2);
    server.wires.close(id, Close::Linger);
    server.turn_until(|server| server.wires.is_empty());
    assert_eq!(reading.join().unwrap(), expected);
    // 601 slices don't fit into one sendmsg.
    assert!(server.wires.counters().partial_sends >= 4);
}

#[test]
fn a_listener_that_stops_accepts_what_waits() {
    let mut server = Server::small();
    let mut clients: Vec<_> = (0..50).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    server.wires.stop_accepting();
    server.turn_until(|server| !server.wires.is_accepting());
    server.turn_until(|server| server.notes.accepted.len() == 50);
    assert!(TcpStream::connect(server.address).is_err());
    for id in std::mem::take(&mut server.notes.accepted) {
        server.wires.send(id, Box::new(OutBuffer::from(&b"here"[..]))).unwrap();
    }
    server.turn_until(|server| server.notes.sent.len() == 50);
    for client in &mut clients {
        let mut answer = [0; 4];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"here");
    }
}

#[test]
fn a_reset_is_seen_by_the_client_and_a_clients_reset_by_us() {
    let mut server = Server::small();
    let (mut client, id) = server.accept_one();
    server.wires.receive(id);
    server.wires.close(id, Close::Reset);
    server.turn_until(|server| server.wires.is_empty());
    assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);

    let (client, id) = server.accept_one();
    server.wires.receive(id);
    server.wires.send(id, Box::new(OutBuffer::from(&b"unread"[..]))).unwrap();
    server.turn_until(|server| !server.notes.sent.is_empty());
    drop(client); // With unread input, which resets.
    server.turn_until(|server| !server.notes.closed.is_empty());
    assert!(server.wires.is_empty());
}

#[test]
fn a_half_closed_client_still_gets_what_is_in_flight() {
    let mut server = Server::small();
    let (mut client, id) = server.accept_one();
    server.wires.receive(id);
    let large = vec![5; 4_000_000];
    server.wires.send(id, Box::new(OutBuffer::from(&large[..]))).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    server.turn_until(|server| !server.notes.closed.is_empty());
    let reading = std::thread::spawn(move || {
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        got
    });
    server.turn_until(|server| server.wires.is_empty());
    assert_eq!(reading.join().unwrap(), large);
}

#[test]
fn another_threads_socket_is_adopted() {
    let listener = std::net::TcpListener::bind(LOCALHOST).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let socket = ReleasedSocket::from_stream(listener.accept().unwrap().0, 0).unwrap();
    let mut server = Server::small();
    let id = server.wires.adopt(socket).unwrap();
    server.wires.receive(id);
    client.write_all(b"hello").unwrap();
    server.turn_until(|server| !server.notes.received.is_empty());
    assert_eq!(server.received_from(id), b"hello");
    let unknown = ReleasedSocket { socket: Socket(-1), peer: LOCALHOST, listener: 0 };
    server.wires.discard(unknown);
}

#[test]
fn a_million_parks_leave_nothing_behind() {
    let parks = Executor::start(Members::of(0), None, || async {
        let mut server = Server::small();
        let wake = server.wake.clone();
        let mut before = (0, 0);
        for park in 0..1_000_000_u32 {
            // Once warm, so that first uses don't count.
            if park == 10_000 {
                before = (resident_kib(), open_descriptors());
            }
            wake.wake();
            let now = server.clock.now();
            server.wires.turn(&mut server.notes, Wait::Until(Some(now.after(PATIENCE))), now);
            assert!(server.clock.now() < now.after(PATIENCE), "wake-up {park} was lost");
        }
        let grown_kib = resident_kib().saturating_sub(before.0);
        (grown_kib, open_descriptors().saturating_sub(before.1), server.wires.enters())
    });
    let (grown_kib, grown_descriptors, enters) = parks.unwrap().join().unwrap();
    // Other tests run beside this one, in the same process: their sockets come and go.
    assert!(grown_kib < 64 * 1024, "{grown_kib} KiB");
    assert!(grown_descriptors < 20_000);
    assert!(enters >= 1_000_000);
}

#[test]
fn a_parked_shard_is_woken_by_another_thread() {
    let mut server = Server::small();
    let turns = Arc::new(AtomicU64::new(0));
    let (wake, seen) = (server.wake.clone(), turns.clone());
    let waking = std::thread::spawn(move || {
        for round in 0..1000 {
            wake.wake();
            let deadline = Instant::now() + PATIENCE;
            while seen.load(Ordering::Acquire) <= round {
                assert!(Instant::now() < deadline, "wake-up {round} was lost");
                std::thread::yield_now();
            }
        }
    });
    while turns.load(Ordering::Acquire) < 1000 {
        let now = server.clock.now();
        server.wires.turn(&mut server.notes, Wait::Until(Some(now.after(PATIENCE))), now);
        turns.fetch_add(1, Ordering::AcqRel);
    }
    waking.join().unwrap();
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
