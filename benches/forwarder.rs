//! The limit that the broker is compared with: the same frames between the same sockets on the same ring, and no MQTT.
//!
//! Set-up is answered as a broker would: CONNECT, SUBSCRIBE, PINGREQ. The first PUBLISH of a connection binds it to the
//! connections that have subscribed to exactly its topic. From then on every chunk that it sends is copied into the
//! out-buffers of those, whatever it holds, and each of them gets one send a turn. So it carries QoS 0 from one publisher
//! to each subscriber, which is what `ringmq bench p2p` and `fanout` with one publisher ask for, and nothing else.
//!
//! Always: ring, buffers, sleeping and sending are the broker's own, with the broker's settings, so the difference to the
//! broker is what MQTT costs. `scripts/limit` measures both.
//!
//! `cargo bench --bench forwarder -- --listen 127.0.0.1:0 --cpu 0` runs it until it is killed.

use std::{collections::HashMap, net::SocketAddr, process::ExitCode};

use ringmq::{
    config::Config,
    mqtt::{
        ConnAck, Encode, Packet, Peek, ProtocolVersion, Publish, ReasonCode, ReasonCodes, Sender, SubAck, frame, ping,
    },
    runtime::{
        Clock, CloseCause, ConnectionId, Uring, UringParameters, Wait, Wake, WireHandler, Wires, WiresParameters,
        executor::{Executor, Members},
        listener::Listeners,
        memory::refuse_huge_pages,
    },
    transport::OutBuffer,
};

/// The broker's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
forwarder: moves frames between sockets as fast as the ring does, without MQTT; see scripts/limit
Usage: cargo bench --bench forwarder -- --listen ADDRESS:PORT [--cpu N]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Every bench is started with the arguments that are meant for one of them.
    if !arguments.iter().any(|argument| argument == "--listen") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match parse(&arguments).and_then(|(address, cpu)| run(address, cpu)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forwarder: {error}");
            ExitCode::from(2)
        }
    }
}

fn parse(arguments: &[String]) -> Result<(SocketAddr, Option<usize>), String> {
    let (mut address, mut cpu) = (None, None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().ok_or(format!("{argument} wants a value"));
        match argument.as_str() {
            "--listen" => address = Some(value()?.parse().map_err(|_| "--listen wants ADDRESS:PORT")?),
            "--cpu" => cpu = Some(value()?.parse().map_err(|_| "--cpu wants a number")?),
            "--bench" => {}
            other => return Err(format!("unknown argument '{other}'\n{USAGE}")),
        }
    }
    Ok((address.ok_or("--listen is missing")?, cpu))
}

fn run(address: SocketAddr, cpu: Option<usize>) -> Result<(), String> {
    // As the broker does.
    refuse_huge_pages().map_err(|error| error.to_string())?;
    let limits = Config::default().runtime;
    let mut listeners = Listeners::bind(address, 1).map_err(|error| error.to_string())?;
    listeners.listen(limits.listen_backlog).map_err(|error| error.to_string())?;
    println!("listening on tcp {}\nready", listeners.address());
    let forward = move || async move {
        let parameters = UringParameters {
            submissions: limits.ring_entries,
            completions: limits.ring_entries.saturating_mul(16).max(limits.turn_completions_max),
            buffers: limits.receive_buffers as u16,
            buffer_bytes: limits.receive_buffer_bytes,
            drain: limits.enter_completions_min,
        };
        let wake = Wake::new().map_err(|error| error.to_string())?;
        let uring = Uring::new(parameters, wake).map_err(|error| error.to_string())?;
        let completions_per_turn_max = limits.turn_completions_max as usize;
        let mut wires = Wires::new(uring, WiresParameters { completions_per_turn_max, ..WiresParameters::default() });
        wires.add_listener(listeners.take().ok_or("no listener")?);
        let (clock, mut forwarder) = (Clock::start(), Forwarder::default());
        loop {
            wires.turn(&mut forwarder, Wait::Until(None), clock.now());
            forwarder.accepted.drain(..).for_each(|id| wires.receive(id));
            forwarder.out.send(&mut wires);
        }
    };
    Executor::start(Members::of(0), cpu, forward).and_then(Executor::join).map_err(|error| error.to_string())?
}

/// Who sends to whom. Places are slots of the wires.
#[derive(Default)]
struct Forwarder {
    inputs: Vec<Input>,
    out: Outgoing,
    /// Subscribers by filter.
    topics: HashMap<String, Vec<ConnectionId>>,
    accepted: Vec<ConnectionId>,
}

/// What happens to the bytes of a connection.
enum Input {
    /// They are packets, of which the last may be incomplete.
    SetUp(ProtocolVersion, Vec<u8>),
    /// They are copied.
    Forwarded(Vec<ConnectionId>),
}

/// What goes out.
#[derive(Default)]
struct Outgoing {
    places: Vec<Place>,
    dirty: Vec<ConnectionId>,
    #[allow(clippy::vec_box, reason = "the wires take and give back boxes")]
    spare: Vec<Box<OutBuffer>>,
}

struct Place {
    id: ConnectionId,
    out: Option<Box<OutBuffer>>,
    is_dirty: bool,
    is_sending: bool,
}

impl Outgoing {
    fn place(&mut self, id: ConnectionId) -> Option<&mut Place> {
        self.places.get_mut(id.slot as usize).filter(|place| place.id == id)
    }

    /// The out-buffer of a connection, which is sent in this turn, or behind what is being sent.
    fn buffer(&mut self, id: ConnectionId) -> Option<&mut OutBuffer> {
        let place = self.places.get_mut(id.slot as usize).filter(|place| place.id == id)?;
        if !place.is_dirty {
            place.is_dirty = true;
            self.dirty.push(id);
        }
        let spare = &mut self.spare;
        Some(place.out.get_or_insert_with(|| spare.pop().unwrap_or_default()))
    }

    fn append(&mut self, id: ConnectionId, bytes: &[u8]) {
        if let Some(out) = self.buffer(id) {
            out.bytes_mut().extend_from_slice(bytes);
        }
    }

    fn send(&mut self, wires: &mut Wires<Uring>) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let Some(place) = self.place(id) else { continue };
            place.is_dirty = false;
            if place.is_sending {
                continue;
            }
            let Some(buffer) = place.out.take() else { continue };
            place.is_sending = true;
            if let Err(buffer) = wires.send(id, buffer) {
                self.recycle(buffer);
            }
        }
        self.dirty = dirty;
    }

    fn recycle(&mut self, mut buffer: Box<OutBuffer>) {
        buffer.clear();
        self.spare.push(buffer);
    }
}

impl Forwarder {
    /// Handles the packets of a connection that has not published yet; the connection ends up as it is to go on.
    fn set_up(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(input) = self.inputs.get_mut(id.slot as usize) else { return };
        let Input::SetUp(version, stash) = input else { return };
        let (mut version, mut stash) = (*version, std::mem::take(stash));
        stash.extend_from_slice(bytes);
        let mut used = 0;
        while let Ok(Peek::Complete(header)) = frame::peek(&stash[used..], u32::MAX) {
            let rest = &stash[used..];
            let body = &rest[usize::from(header.header_len)..header.total_len()];
            match Packet::decode(header, body, version, Sender::Client) {
                Ok(Packet::Publish(Publish { topic, .. })) => {
                    let targets = self.topics.get(topic).cloned().unwrap_or_default();
                    targets.iter().for_each(|&target| self.out.append(target, rest));
                    self.inputs[id.slot as usize] = Input::Forwarded(targets);
                    return;
                }
                Ok(packet) => {
                    if let Packet::Connect(connect) = packet {
                        version = connect.version;
                    }
                    self.answer(id, version, packet);
                }
                Err(error) => eprintln!("forwarder: {error}"),
            }
            used += header.total_len();
        }
        stash.drain(..used);
        self.inputs[id.slot as usize] = Input::SetUp(version, stash);
    }

    fn answer(&mut self, id: ConnectionId, version: ProtocolVersion, packet: Packet<'_>) {
        let Some(out) = self.out.buffer(id) else { return };
        let out = out.bytes_mut();
        let encoded = match packet {
            Packet::Connect(_) => ConnAck::new(false, ReasonCode::Success).encode(version, out),
            Packet::Subscribe(subscribe) => {
                for filter in subscribe.filters().filter_map(|(filter, _)| filter.ok()) {
                    self.topics.entry(filter.as_str().to_owned()).or_default().push(id);
                }
                let granted = vec![ReasonCode::Success; subscribe.filters_len()];
                SubAck::new(subscribe.packet_identifier, ReasonCodes::new(&granted)).encode(version, out)
            }
            Packet::PingReq => {
                ping::encode_response(out);
                Ok(())
            }
            _ => Ok(()),
        };
        encoded.expect("these answers fit into a packet");
    }
}

impl WireHandler for Forwarder {
    fn on_accepted(&mut self, id: ConnectionId, _listener: u16, _peer: SocketAddr) {
        let slot = id.slot as usize;
        let place = Place { id, out: None, is_dirty: false, is_sending: false };
        let input = Input::SetUp(ProtocolVersion::V311, Vec::new());
        if slot < self.inputs.len() {
            (self.inputs[slot], self.out.places[slot]) = (input, place);
        } else {
            assert_eq!(slot, self.inputs.len(), "slots are given out without gaps");
            self.inputs.push(input);
            self.out.places.push(place);
        }
        self.accepted.push(id);
    }

    fn on_received(&mut self, id: ConnectionId, bytes: &mut [u8]) {
        let Some(Input::Forwarded(targets)) = self.inputs.get(id.slot as usize) else {
            return self.set_up(id, bytes);
        };
        // DISCONNECT, which ends a run; no PUBLISH is that short.
        if bytes.len() == 2 {
            return;
        }
        for &target in targets {
            self.out.append(target, bytes);
        }
    }

    fn on_sent(&mut self, id: ConnectionId, buffer: Box<OutBuffer>, _bytes: usize) {
        self.out.recycle(buffer);
        let Some(place) = self.out.place(id) else { return };
        place.is_sending = false;
        if place.out.is_some() && !place.is_dirty {
            place.is_dirty = true;
            self.out.dirty.push(id);
        }
    }

    fn on_closed(&mut self, id: ConnectionId, _cause: CloseCause, buffer: Option<Box<OutBuffer>>) {
        buffer.into_iter().for_each(|buffer| self.out.recycle(buffer));
        self.topics.retain(|_, subscribers| {
            subscribers.retain(|&subscriber| subscriber != id);
            !subscribers.is_empty()
        });
    }
}
