//! What the ring itself costs: CPU time of one shard's thread per message, and system calls per message, for an echo and
//! for a fan-out of 64-byte frames that knows nothing of MQTT. The time is the thread's own (`schedstat`), softirq that runs
//! on it included, so it can be compared between runs on a busy machine.
//!
//! `cargo bench --bench wires`, with `DRAIN=64` for deep drains and `RUN_SECONDS=4` for longer runs.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use ringmq::{
    runtime::{
        Clock, CloseCause, ConnectionId, Uring, UringParameters, Wait, Wake, WireHandler, Wires, WiresParameters,
        executor::{Executor, Members, allowed_cpus},
        listener::Listeners,
    },
    transport::OutBuffer,
};

const FRAME: usize = 64;

/// Sends each frame back, or to all connections.
#[derive(Default)]
struct Frames {
    is_fan_out: bool,
    connections: Vec<(ConnectionId, Vec<u8>, bool)>,
    #[allow(clippy::vec_box, reason = "the wires take and give back boxes")]
    spare: Vec<Box<OutBuffer>>,
    accepted: Vec<ConnectionId>,
    frames: u64,
}

impl Frames {
    fn place(&self, id: ConnectionId) -> Option<usize> {
        let slot = id.slot as usize;
        self.connections.get(slot).is_some_and(|connection| connection.0 == id).then_some(slot)
    }

    fn flush(&mut self, wires: &mut Wires<Uring>) {
        for (id, pending, is_sending) in &mut self.connections {
            if *is_sending || pending.is_empty() {
                continue;
            }
            self.frames += (pending.len() / FRAME) as u64;
            let mut buffer = self.spare.pop().unwrap_or_default();
            buffer.bytes_mut().append(pending);
            *is_sending = wires.send(*id, buffer).is_ok();
        }
    }
}

impl WireHandler for Frames {
    fn on_accepted(&mut self, id: ConnectionId, _listener: u16, _peer: SocketAddr) {
        assert_eq!(id.slot as usize, self.connections.len(), "nobody leaves before the end");
        self.connections.push((id, Vec::new(), false));
        self.accepted.push(id);
    }

    fn on_received(&mut self, id: ConnectionId, bytes: &mut [u8]) {
        if self.is_fan_out {
            self.connections.iter_mut().for_each(|connection| connection.1.extend_from_slice(bytes));
        } else if let Some(place) = self.place(id) {
            self.connections[place].1.extend_from_slice(bytes);
        }
    }

    fn on_sent(&mut self, id: ConnectionId, mut buffer: Box<OutBuffer>, _bytes: usize) {
        buffer.clear();
        self.spare.push(buffer);
        if let Some(place) = self.place(id) {
            self.connections[place].2 = false;
        }
    }

    fn on_closed(&mut self, _id: ConnectionId, _cause: CloseCause, _buffer: Option<Box<OutBuffer>>) {}
}

struct Measured {
    frames: u64,
    cpu_us: f64,
    enters: u64,
    completions: u64,
}

/// Runs a shard until it is told to stop; measures between the moment that all are connected and the end.
async fn serve(
    is_fan_out: bool,
    drain: u32,
    wake: Wake,
    stop: Arc<AtomicBool>,
    told: mpsc::Sender<SocketAddr>,
) -> Measured {
    let parameters = UringParameters { drain, ..UringParameters::default() };
    let ring = Uring::new(parameters, wake).expect("a ring");
    let mut wires = Wires::new(ring, WiresParameters::default());
    let mut listeners = Listeners::bind("127.0.0.1:0".parse().expect("an address"), 1).expect("a port");
    listeners.listen(4096).expect("the port is ours");
    wires.add_listener(listeners.take().expect("one"));
    told.send(listeners.address()).expect("somebody wants to know");
    let (clock, mut frames) = (Clock::start(), Frames { is_fan_out, ..Frames::default() });
    let (mut start, mut idle) = ((0.0, 0, 0), false);
    while !stop.load(Ordering::Acquire) {
        let wait = if idle { Wait::Until(None) } else { Wait::No };
        let handled = wires.turn(&mut frames, wait, clock.now());
        idle = handled == 0;
        for id in frames.accepted.drain(..) {
            wires.receive(id);
            frames.frames = 0;
            start = (thread_cpu_us(), wires.enters(), wires.counters().completions);
        }
        frames.flush(&mut wires);
    }
    Measured {
        frames: frames.frames,
        cpu_us: thread_cpu_us() - start.0,
        enters: wires.enters() - start.1,
        completions: wires.counters().completions - start.2,
    }
}

fn run(name: &str, connections: usize, is_fan_out: bool, drain: u32, duration: Duration) {
    let (told, address) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let wake = Wake::new().expect("an eventfd");
    let (stopping, waking) = (stop.clone(), wake.clone());
    let cpu = allowed_cpus().first().copied();
    let server = Executor::start(Members::of(0), cpu, move || serve(is_fan_out, drain, waking, stopping, told))
        .expect("an executor");
    let address = address.recv().expect("the server's address");
    let mut clients: Vec<_> = (0..connections).map(|_| TcpStream::connect(address).expect("a connection")).collect();
    for client in &clients {
        client.set_nodelay(true).expect("TCP_NODELAY");
    }
    let (started, mut frame) = (Instant::now(), [7_u8; FRAME]);
    if !is_fan_out {
        clients.iter_mut().for_each(|client| client.write_all(&frame).expect("a write"));
    }
    while started.elapsed() < duration {
        if is_fan_out {
            clients[0].write_all(&frame).expect("a write");
        }
        for client in &mut clients {
            client.read_exact(&mut frame).expect("a read");
            if !is_fan_out {
                client.write_all(&frame).expect("a write");
            }
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Release);
    wake.wake();
    let measured = server.join().expect("the server ends well");
    let frames = measured.frames as f64;
    println!(
        "{name:<20} drain {drain:>3}: {:.2} us CPU, {:.3} enters, {:.2} completions a frame; {:.0} frames/s",
        measured.cpu_us / frames,
        measured.enters as f64 / frames,
        measured.completions as f64 / frames,
        frames / elapsed,
    );
}

/// CPU time of the calling thread.
fn thread_cpu_us() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos: f64 = schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default();
    nanos / 1000.0
}

fn main() {
    let setting = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok()).unwrap_or(default)
    };
    let duration = Duration::from_secs(setting("RUN_SECONDS", 2));
    let drain = setting("DRAIN", 0) as u32;
    run("echo, 64", 64, false, drain, duration);
    run("echo, 1", 1, false, drain, duration);
    run("fan-out 1 to 100", 100, true, drain, duration);
    run("fan-out 1 to 1000", 1000, true, drain, duration);
}
