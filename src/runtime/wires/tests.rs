//! Two shards of an echo server on a network in memory where everything that may go wrong does.
//!
//! A client sends letters, which come back. A `Q` ends the conversation: the server answers `BYE!` and lingers, whatever
//! the client still sends. Other clients end by closing their side, or by a reset.

use std::collections::HashMap;

use super::*;
use crate::runtime::fake::{FakeClient, FakeFaults, FakeKernel, FakeNetwork, PeerView};

const GOODBYE: &[u8] = b"BYE!";
const STRAY: &[u8] = b"stray";

/// What the handler notes.
#[derive(Debug)]
enum Note {
    Accepted(ConnectionId),
    Received(ConnectionId, Vec<u8>),
    Sent(ConnectionId),
    Closed(ConnectionId),
}

#[derive(Default)]
struct Notes(Vec<Note>);

impl WireHandler for Notes {
    fn on_accepted(&mut self, id: ConnectionId, _listener: u16, peer: SocketAddr) {
        assert_ne!(peer.port(), 0);
        self.0.push(Note::Accepted(id));
    }

    fn on_received(&mut self, id: ConnectionId, bytes: &mut [u8]) {
        assert!(!bytes.is_empty());
        self.0.push(Note::Received(id, bytes.to_vec()));
    }

    fn on_sent(&mut self, id: ConnectionId, buffer: Box<OutBuffer>, bytes: usize) {
        assert_eq!(bytes, buffer.len());
        self.0.push(Note::Sent(id));
    }

    fn on_closed(&mut self, id: ConnectionId, _cause: CloseCause, _buffer: Option<Box<OutBuffer>>) {
        self.0.push(Note::Closed(id));
    }
}

/// One shard of the echo server.
struct Shard {
    wires: Wires<FakeKernel>,
    notes: Notes,
    echoes: HashMap<ConnectionId, Echo>,
    gone: Vec<ConnectionId>,
}

/// A connection of the echo server.
#[derive(Default)]
struct Echo {
    pending: Vec<u8>,
    is_sending: bool,
    is_paused: bool,
    quits: bool,
    /// The first bytes come by a single-shot recv, so that the connection can move.
    has_begun: bool,
}

impl Shard {
    fn new(network: &FakeNetwork, faults: FakeFaults) -> Self {
        let kernel = FakeKernel::new(network.clone(), faults, 3, 16);
        Shard {
            wires: Wires::new(
                kernel,
                WiresParameters { completions_per_turn_max: 7, crowd_per_turn_max: 3, ..WiresParameters::default() },
            ),
            notes: Notes::default(),
            echoes: HashMap::new(),
            gone: Vec::new(),
        }
    }

    /// One turn with its effects. Returns sockets that move to the other shard.
    fn turn(&mut self, network: &FakeNetwork, now: Moment) -> Vec<(ReleasedSocket, Echo)> {
        self.wires.turn(&mut self.notes, Wait::No, now);
        let mut moving = Vec::new();
        for note in std::mem::take(&mut self.notes.0) {
            match note {
                Note::Accepted(id) => {
                    assert!(self.echoes.insert(id, Echo::default()).is_none());
                    self.wires.receive_once(id);
                }
                Note::Received(id, bytes) => {
                    let echo = self.echoes.get_mut(&id).expect("bytes of a connection that is open");
                    if !echo.quits {
                        let end = bytes.iter().position(|byte| *byte == b'Q').map(|at| at + 1);
                        echo.quits = end.is_some();
                        echo.pending.extend(&bytes[..end.unwrap_or(bytes.len())]);
                    }
                    if !std::mem::replace(&mut echo.has_begun, true) {
                        if network.draw(2) == 0 {
                            let socket = self.wires.release(id).expect("nothing is in flight");
                            moving.push((socket, self.echoes.remove(&id).expect("just seen")));
                        } else {
                            self.wires.receive(id);
                        }
                    }
                }
                Note::Sent(id) => self.echoes.get_mut(&id).expect("a send of an open connection").is_sending = false,
                Note::Closed(id) => {
                    self.echoes.remove(&id).expect("a connection closes once");
                    self.gone.push(id);
                }
            }
        }
        self.flush(network);
        moving
    }

    fn flush(&mut self, network: &FakeNetwork) {
        let mut ids: Vec<_> = self.echoes.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(echo) = self.echoes.get_mut(&id) else { continue };
            if echo.has_begun && !echo.quits && network.draw(8) == 0 {
                echo.is_paused = !echo.is_paused;
                if echo.is_paused { self.wires.pause(id) } else { self.wires.resume(id) }
            }
            let quits = echo.quits;
            if quits {
                echo.pending.extend(GOODBYE);
            }
            // What says goodbye may wait behind the send in flight.
            if !echo.pending.is_empty() && (!echo.is_sending || quits) {
                echo.is_sending = true;
                let buffer = OutBuffer::from(&std::mem::take(&mut echo.pending)[..]);
                self.wires.send(id, Box::new(buffer)).expect("the connection is open and one may wait");
            }
            if quits {
                self.wires.close(id, Close::Linger);
                self.echoes.remove(&id);
                self.gone.push(id);
            }
        }
        // Effects for a connection that is gone must reach nobody, whoever has the slot and the descriptor now.
        if let Some(id) = self.gone.get(network.draw(self.gone.len())).copied() {
            let _ = self.wires.send(id, Box::new(OutBuffer::from(STRAY)));
        }
    }

    fn adopt(&mut self, socket: ReleasedSocket, echo: Echo) {
        let id = self.wires.adopt(socket).expect("there is room");
        self.echoes.insert(id, echo);
        self.wires.receive(id);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Quit,
    HalfClose,
    Reset,
}

/// A client with a script.
struct Peer {
    client: FakeClient,
    to_write: Vec<u8>,
    written: usize,
    got: Vec<u8>,
    ending: Ending,
    is_over: bool,
}

impl Peer {
    fn new(network: &FakeNetwork, listener: Socket) -> Self {
        let ending = [Ending::Quit, Ending::Quit, Ending::HalfClose, Ending::Reset][network.draw(4)];
        let mut to_write: Vec<u8> = (0..network.draw(200) + 1).map(|_| b'a' + network.draw(16) as u8).collect();
        if ending == Ending::Quit {
            to_write.push(b'Q');
            to_write.extend(std::iter::repeat_n(b'z', network.draw(100)));
        }
        let client = network.connect(listener, network.draw(60) + 1);
        Peer { client, to_write, written: 0, got: Vec::new(), ending, is_over: false }
    }

    fn step(&mut self, network: &FakeNetwork) {
        if network.draw(3) == 0 {
            self.got.extend(self.client.read());
        }
        let chunk = network.draw(50).min(self.to_write.len() - self.written);
        self.client.write(&self.to_write[self.written..self.written + chunk]);
        self.written += chunk;
        if self.written < self.to_write.len() || self.is_over {
            return;
        }
        match self.ending {
            Ending::Quit => {
                if self.client.view() == PeerView::Ended {
                    self.client.finish();
                    self.is_over = true;
                }
            }
            Ending::HalfClose => {
                self.client.finish();
                self.is_over = true;
            }
            Ending::Reset => {
                self.got.extend(self.client.read());
                self.client.reset();
                self.is_over = true;
            }
        }
    }

    /// What must have arrived when everything is over.
    fn check(&mut self) {
        self.got.extend(self.client.read());
        if self.ending != Ending::Quit {
            assert!(self.to_write.starts_with(&self.got), "an echo that nobody sent");
            return;
        }
        let quit = self.to_write.iter().position(|byte| *byte == b'Q').expect("the script has one");
        let expected = [&self.to_write[..=quit], GOODBYE].concat();
        assert_eq!(String::from_utf8_lossy(&self.got), String::from_utf8_lossy(&expected), "the last bytes are lost");
        assert_eq!(self.client.view(), PeerView::Ended);
        assert!(self.is_over, "the server ended its side");
    }
}

/// Runs a whole network from one seed.
fn run(seed: u64) {
    let network = FakeNetwork::new(seed);
    let mut shards = [Shard::new(&network, FakeFaults::SOME), Shard::new(&network, FakeFaults::SOME)];
    let listeners: Vec<_> = shards
        .iter_mut()
        .map(|shard| {
            let listener = network.listen();
            shard.wires.add_listener(listener);
            listener
        })
        .collect();
    let mut now = Moment::from_micros(1_000_000);
    let mut peers: Vec<Peer> = Vec::new();
    for round in 0..400 {
        now = now.after(Duration::from_millis(1));
        if round < 100 && network.draw(3) == 0 {
            network.limit_descriptors(if network.draw(4) == 0 { network.descriptors_in_use() } else { usize::MAX });
            peers.push(Peer::new(&network, listeners[network.draw(2)]));
        }
        peers.iter_mut().for_each(|peer| peer.step(&network));
        turn_both(&mut shards, &network, now);
    }
    // The weather clears; every connection must come to its end.
    network.limit_descriptors(usize::MAX);
    shards.iter_mut().for_each(|shard| shard.wires.kernel_mut().set_faults(FakeFaults::NONE));
    shards.iter_mut().for_each(|shard| shard.wires.stop_accepting());
    for _ in 0..2000 {
        now = now.after(Duration::from_micros(700));
        for peer in &mut peers {
            peer.got.extend(peer.client.read());
            peer.step(&network);
        }
        turn_both(&mut shards, &network, now);
    }
    for peer in &mut peers {
        peer.check();
    }
    for shard in &mut shards {
        let open = shard.wires.open_ids().count();
        assert_eq!(shard.wires.len(), open, "closing connections are over");
        assert!(!shard.wires.is_accepting());
        // Those whose client half-closed while paused are still open: an end of stream is read like bytes are.
        shard.wires.open_ids().collect::<Vec<_>>().into_iter().for_each(|id| shard.wires.close(id, Close::Reset));
    }
    for _ in 0..10 {
        turn_both(&mut shards, &network, now);
    }
    for shard in &mut shards {
        assert!(shard.wires.is_empty());
        assert_eq!(shard.wires.counters().lingering, 0);
        assert_eq!(shard.wires.counters().stale, 0);
        let kernel = shard.wires.kernel_mut();
        assert_eq!((kernel.operations_in_flight(), kernel.free_buffers()), (0, 3));
    }
    assert_eq!(network.descriptors_in_use(), 0);
}

fn turn_both(shards: &mut [Shard; 2], network: &FakeNetwork, now: Moment) {
    for index in 0..2 {
        for (socket, echo) in shards[index].turn(network, now) {
            shards[1 - index].adopt(socket, echo);
        }
    }
}

#[test]
fn every_connection_gets_its_bytes_and_comes_to_its_end() {
    for seed in 0..128 {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[cfg(feature = "planted-bugs")]
#[test]
fn each_planted_bug_is_found() {
    for bug in [
        Bug::SlotFreedEarly,
        Bug::GenerationIgnored,
        Bug::CloseWithoutLinger,
        Bug::PartialSendForgotten,
        Bug::EnobufsForgotten,
    ] {
        crate::plant::plant(Some(bug));
        let found = (0..64).find(|seed| std::panic::catch_unwind(|| run(*seed)).is_err());
        crate::plant::plant(None);
        println!("{bug:?} is found by seed {found:?}");
        assert!(found.is_some(), "{bug:?} is not found");
    }
}

fn one_connection(window: usize) -> (FakeNetwork, Wires<FakeKernel>, Notes, FakeClient, ConnectionId) {
    let network = FakeNetwork::new(1);
    let kernel = FakeKernel::new(network.clone(), FakeFaults::NONE, 4, 4096);
    let parameters = WiresParameters { lingering_max: 2, ..WiresParameters::default() };
    let mut wires = Wires::new(kernel, parameters);
    let mut notes = Notes::default();
    let listener = network.listen();
    wires.add_listener(listener);
    let client = network.connect(listener, window);
    wires.turn(&mut notes, Wait::No, Moment::default());
    let Some(Note::Accepted(id)) = notes.0.pop() else { panic!("not accepted") };
    (network, wires, notes, client, id)
}

#[test]
fn a_lingerer_that_never_ends_is_reset_at_its_deadline() {
    let (_network, mut wires, mut notes, client, id) = one_connection(100);
    wires.receive(id);
    assert!(wires.send(id, Box::new(OutBuffer::from(GOODBYE))).is_ok());
    wires.close(id, Close::Linger);
    let start = Moment::from_micros(5);
    wires.turn(&mut notes, Wait::No, start);
    assert_eq!(client.read(), GOODBYE);
    for moment in [start, start.after(Duration::from_millis(1999))] {
        wires.turn(&mut notes, Wait::No, moment);
        assert_eq!((client.view(), wires.counters().lingering), (PeerView::Ended, 1));
    }
    for _ in 0..3 {
        wires.turn(&mut notes, Wait::No, start.after(Duration::from_millis(2001)));
    }
    assert_eq!((client.view(), wires.len(), wires.counters().resets), (PeerView::Reset, 0, 1));
}

#[test]
fn a_lingerer_that_sends_without_end_is_reset_at_its_limit() {
    let (_network, mut wires, mut notes, client, id) = one_connection(100);
    wires.receive(id);
    wires.close(id, Close::Linger);
    client.write(&[0; 80_000]);
    for _ in 0..40 {
        wires.turn(&mut notes, Wait::No, Moment::default());
    }
    assert_eq!((client.view(), wires.len(), wires.counters().resets), (PeerView::Reset, 0, 1));
    assert!(notes.0.is_empty(), "nothing is heard after close");
}

#[test]
fn with_too_many_lingerers_the_oldest_is_reset() {
    let (network, mut wires, mut notes, first, first_id) = one_connection(100);
    let listener = Socket(0);
    let others: Vec<_> = (0..2).map(|_| network.connect(listener, 100)).collect();
    for _ in 0..3 {
        wires.turn(&mut notes, Wait::No, Moment::default());
    }
    let ids: Vec<_> = wires.open_ids().collect();
    wires.close(first_id, Close::Linger);
    ids.iter().filter(|id| **id != first_id).for_each(|id| wires.close(*id, Close::Linger));
    for _ in 0..3 {
        wires.turn(&mut notes, Wait::No, Moment::default());
    }
    assert_eq!(first.view(), PeerView::Reset);
    assert!(others.iter().all(|client| client.view() == PeerView::Ended));
    assert_eq!(wires.counters().lingering, 2);
}

#[test]
fn release_waits_for_operations_in_flight() {
    let (_network, mut wires, mut notes, client, id) = one_connection(100);
    wires.receive_once(id);
    assert!(wires.release(id).is_none());
    wires.pause(id);
    wires.turn(&mut notes, Wait::No, Moment::default());
    client.write(b"for the next ring");
    let socket = wires.release(id).expect("the recv is cancelled");
    assert!(wires.release(id).is_none());
    assert!(wires.is_empty());
    let again = wires.adopt(socket).expect("there is room");
    assert_ne!(again, id);
    wires.receive(again);
    wires.turn(&mut notes, Wait::No, Moment::default());
    assert!(matches!(&notes.0[..], [Note::Received(_, bytes)] if bytes == b"for the next ring"));
}

#[test]
fn accepting_pauses_when_descriptors_run_out_and_goes_on_later() {
    let (network, mut wires, mut notes, _client, id) = one_connection(100);
    network.limit_descriptors(2);
    let _waiting = network.connect(Socket(0), 100);
    let start = Moment::from_micros(9);
    for _ in 0..3 {
        wires.turn(&mut notes, Wait::No, start);
    }
    assert_eq!((wires.counters().accepted, wires.counters().accept_pauses), (1, 1));
    wires.close(id, Close::Reset);
    wires.turn(&mut notes, Wait::No, start);
    assert_eq!(wires.counters().accepted, 1);
    wires.turn(&mut notes, Wait::No, start.after(Duration::from_millis(101)));
    assert_eq!(wires.counters().accepted, 2);
}

#[test]
fn one_connection_too_many_is_reset() {
    let network = FakeNetwork::new(3);
    let kernel = FakeKernel::new(network.clone(), FakeFaults::NONE, 4, 64);
    let mut wires = Wires::new(kernel, WiresParameters { connections_max: 1, ..WiresParameters::default() });
    let mut notes = Notes::default();
    let listener = network.listen();
    wires.add_listener(listener);
    let clients = [network.connect(listener, 9), network.connect(listener, 9)];
    for _ in 0..3 {
        wires.turn(&mut notes, Wait::No, Moment::default());
    }
    assert_eq!(clients.map(|client| client.view()), [PeerView::Open, PeerView::Reset]);
    assert_eq!((wires.counters().refused, wires.len()), (1, 1));
}

#[test]
fn send_gives_back_what_it_cannot_take() {
    let (_network, mut wires, mut notes, client, id) = one_connection(4);
    assert!(wires.send(id, Box::default()).is_err());
    assert!(wires.send(id, Box::new(OutBuffer::from(&b"first"[..]))).is_ok());
    assert!(wires.is_sending(id));
    assert!(wires.send(id, Box::new(OutBuffer::from(&b"second"[..]))).is_ok());
    let back = wires.send(id, Box::new(OutBuffer::from(&b"third"[..]))).expect_err("one waits already");
    assert_eq!(back.len(), 5);
    let mut got = Vec::new();
    for _ in 0..12 {
        wires.turn(&mut notes, Wait::No, Moment::default());
        got.extend(client.read());
    }
    assert_eq!(got, b"firstsecond");
    assert_eq!(notes.0.len(), 2);
    wires.close(id, Close::Reset);
    assert!(wires.send(id, back).is_err());
}

/// So many connections that begin or end at once are a crowd; of them a turn handles [`CROWD_PER_TURN`].
const CROWD: usize = 300;
const CROWD_PER_TURN: usize = 20;

/// A crowd that is connected, and one more that stays; nothing is received yet.
fn crowd() -> (Wires<FakeKernel>, Notes, Vec<FakeClient>, FakeClient) {
    crowd_with_buffers_of(64)
}

fn crowd_with_buffers_of(bytes: usize) -> (Wires<FakeKernel>, Notes, Vec<FakeClient>, FakeClient) {
    let network = FakeNetwork::new(5);
    let kernel = FakeKernel::new(network.clone(), FakeFaults::NONE, 512, bytes);
    let parameters = WiresParameters { crowd_per_turn_max: CROWD_PER_TURN, ..WiresParameters::default() };
    let (mut wires, mut notes) = (Wires::new(kernel, parameters), Notes::default());
    let listener = network.listen();
    wires.add_listener(listener);
    let stays = network.connect(listener, 100);
    let clients = (0..CROWD).map(|_| network.connect(listener, 100)).collect();
    while wires.len() <= CROWD {
        let accepted_before = wires.len();
        wires.turn(&mut notes, Wait::No, Moment::default());
        assert!(wires.len() - accepted_before <= CROWD_PER_TURN);
    }
    notes.0.clear();
    (wires, notes, clients, stays)
}

/// Turns until nothing is heard any more, and returns how much is heard in each. It would not sleep before.
fn heard_by_turn(wires: &mut Wires<FakeKernel>, notes: &mut Notes, counts: impl Fn(&Note) -> bool) -> Vec<usize> {
    let mut heard = Vec::new();
    loop {
        let may_sleep = wires.begin_turn(notes, Wait::Until(None), Moment::default());
        wires.finish_turn(notes, EnterWait::No);
        let count = std::mem::take(&mut notes.0).iter().filter(|note| counts(note)).count();
        if count == 0 {
            assert_eq!(may_sleep, EnterWait::For(None));
            return heard;
        }
        assert!(heard.is_empty() || may_sleep == EnterWait::No);
        heard.push(count);
    }
}

#[test]
fn those_who_stay_are_heard_before_a_crowd_that_leaves() {
    let (mut wires, mut notes, clients, stays) = crowd();
    receive_all(&mut wires, &mut notes, &stays);
    clients.iter().for_each(FakeClient::reset);
    stays.write(b"ping");
    wires.turn(&mut notes, Wait::No, Moment::default());
    let (heard, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut notes.0)
        .into_iter()
        .partition(|note| matches!(note, Note::Received(_, bytes) if bytes == b"ping"));
    assert_eq!((heard.len(), gone.len()), (1, CROWD_PER_TURN));
    let rest = heard_by_turn(&mut wires, &mut notes, |note| matches!(note, Note::Closed(_)));
    assert_eq!(rest, [CROWD_PER_TURN; CROWD / CROWD_PER_TURN - 1]);
    assert_eq!(wires.len(), 1);
}

/// Receives from all, and hears from the one that stays while nobody else says a thing. Returns the crowd.
fn receive_all(wires: &mut Wires<FakeKernel>, notes: &mut Notes, stays: &FakeClient) -> Vec<ConnectionId> {
    let mut ids: Vec<_> = wires.open_ids().collect();
    ids.iter().for_each(|id| wires.receive(*id));
    stays.write(b"hello");
    wires.turn(notes, Wait::No, Moment::default());
    let [Note::Received(staying, _)] = &notes.0[..] else { panic!("one word is heard") };
    ids.retain(|id| id != staying);
    notes.0.clear();
    ids
}

/// What each connection was heard to say, and who was heard to be gone, in order.
fn heard_of(notes: Vec<Note>) -> (HashMap<ConnectionId, Vec<u8>>, Vec<ConnectionId>) {
    let (mut said, mut gone) = (HashMap::<_, Vec<u8>>::new(), Vec::new());
    for note in notes {
        match note {
            Note::Received(id, bytes) => {
                assert!(!gone.contains(&id), "nothing is heard after the end");
                said.entry(id).or_default().extend(bytes);
            }
            Note::Closed(id) => gone.push(id),
            Note::Accepted(_) | Note::Sent(_) => unreachable!("nobody comes, and nothing is sent"),
        }
    }
    (said, gone)
}

#[test]
fn what_a_crowd_goes_on_to_say_waits_in_order_behind_those_who_stay() {
    let (mut wires, mut notes, clients, stays) = crowd();
    receive_all(&mut wires, &mut notes, &stays);
    let mut all = Vec::new();
    // More comes each turn than a turn has room for: what is said last comes while what was said first still waits.
    for (word, turn) in [&b"one "[..], b"two ", b"three "].into_iter().zip(1..) {
        clients.iter().for_each(|client| client.write(word));
        stays.write(b"ping ");
        wires.turn(&mut notes, Wait::No, Moment::default());
        let heard = std::mem::take(&mut notes.0);
        // Those who were heard are no newcomers any more.
        assert!(heard.len() <= turn * CROWD_PER_TURN + 1);
        assert!(heard.iter().any(|note| matches!(note, Note::Received(_, bytes) if bytes == b"ping ")));
        all.extend(heard);
    }
    assert_eq!(wires.kernel_mut().free_buffers(), 512, "what waits holds no buffer");
    clients.iter().for_each(FakeClient::finish);
    while wires.len() > 1 {
        let may_sleep = wires.begin_turn(&mut notes, Wait::Until(None), Moment::default());
        assert!(may_sleep == EnterWait::No || wires.crowd.is_empty());
        wires.finish_turn(&mut notes, EnterWait::No);
        all.append(&mut notes.0);
    }
    let (mut said, gone) = heard_of(all);
    assert_eq!((said.len(), gone.len()), (CROWD + 1, CROWD));
    assert!(gone.iter().all(|id| said.remove(id).is_some_and(|words| words == b"one two three ")));
}

#[test]
fn after_its_first_words_a_connection_is_no_newcomer_any_more() {
    let (mut wires, mut notes, clients, stays) = crowd();
    receive_all(&mut wires, &mut notes, &stays);
    clients.iter().for_each(|client| client.write(b"one"));
    let is_word = |note: &Note| matches!(note, Note::Received(..));
    assert_eq!(heard_by_turn(&mut wires, &mut notes, is_word), [CROWD_PER_TURN; CROWD / CROWD_PER_TURN]);
    clients.iter().for_each(|client| client.write(b"two"));
    let at_once = WiresParameters::default().completions_per_turn_max;
    assert_eq!(heard_by_turn(&mut wires, &mut notes, is_word), [at_once, CROWD - at_once]);
}

#[test]
fn one_that_is_closed_while_its_input_waits_is_not_heard_of_and_the_rest_is() {
    let (mut wires, mut notes, clients, stays) = crowd();
    let ids = receive_all(&mut wires, &mut notes, &stays);
    clients.iter().for_each(|client| client.write(b"word"));
    wires.turn(&mut notes, Wait::No, Moment::default());
    let (heard, _) = heard_of(std::mem::take(&mut notes.0));
    assert_eq!(heard.len(), CROWD_PER_TURN);
    let unheard = |id: &&ConnectionId| !heard.contains_key(*id);
    let closed: Vec<_> = ids.iter().filter(unheard).step_by(2).copied().collect();
    let ways = [Close::Reset, Close::Linger].into_iter().cycle();
    closed.iter().zip(ways).for_each(|(id, how)| wires.close(*id, how));
    clients.iter().for_each(FakeClient::finish);
    let mut rest = Vec::new();
    for _ in 0..CROWD {
        wires.turn(&mut notes, Wait::No, Moment::default());
        rest.append(&mut notes.0);
    }
    let (said, gone) = heard_of(rest);
    let left = ids.iter().filter(unheard).filter(|id| !closed.contains(id)).filter(|id| gone.contains(id));
    assert_eq!((said.len(), gone.len()), (left.count(), CROWD - closed.len()));
    assert!(said.keys().all(|id| !closed.contains(id)));
    assert_eq!(wires.len(), 1);
    assert_eq!(wires.counters().closed, CROWD as u64);
}

#[test]
fn input_that_waits_has_a_limit_and_loses_nothing_there() {
    const WORD_BYTES: usize = 16 * 1024;
    let (mut wires, mut notes, clients, stays) = crowd_with_buffers_of(WORD_BYTES);
    receive_all(&mut wires, &mut notes, &stays);
    clients.iter().for_each(|client| client.write(&[b'x'; WORD_BYTES]));
    wires.turn(&mut notes, Wait::No, Moment::default());
    assert!(wires.crowd.input_bytes() <= crowd::INPUT_BYTES_MAX);
    let mut all = std::mem::take(&mut notes.0);
    // As much was handled as there was no room for.
    assert_eq!(all.len(), CROWD - crowd::INPUT_BYTES_MAX / (WORD_BYTES + crowd::INPUT_EXTRA_BYTES));
    while !wires.crowd.is_empty() {
        wires.turn(&mut notes, Wait::No, Moment::default());
        all.append(&mut notes.0);
    }
    let (said, _) = heard_of(all);
    assert!(said.len() == CROWD && said.values().all(|word| word.len() == WORD_BYTES));
}

#[test]
fn first_input_of_a_crowd_waits_without_a_buffer() {
    let (mut wires, mut notes, clients, _stays) = crowd();
    let ids: Vec<_> = wires.open_ids().collect();
    ids.iter().for_each(|id| wires.receive_once(*id));
    clients.iter().for_each(|client| client.write(b"CONNECT"));
    wires.turn(&mut notes, Wait::No, Moment::default());
    assert_eq!(wires.kernel_mut().free_buffers(), 512);
    assert!(ids.iter().filter(|id| wires.release(**id).is_some()).count() <= CROWD_PER_TURN, "it is in flight still");
    let first = std::mem::take(&mut notes.0).len();
    let is_whole = |note: &Note| matches!(note, Note::Received(_, bytes) if bytes == b"CONNECT");
    let rest = heard_by_turn(&mut wires, &mut notes, is_whole);
    assert_eq!((first, rest), (CROWD_PER_TURN, vec![CROWD_PER_TURN; CROWD / CROWD_PER_TURN - 1]));
}

#[test]
fn a_crowd_that_is_told_to_go_is_shut_down_in_portions() {
    let (mut wires, mut notes, clients, _stays) = crowd();
    let ids: Vec<_> = wires.open_ids().collect();
    ids.into_iter().for_each(|id| wires.close(id, Close::Linger));
    let ended = || clients.iter().filter(|client| client.view() == PeerView::Ended).count();
    for turn in 1..=CROWD / CROWD_PER_TURN + 1 {
        let ended_before = ended();
        assert!(ended_before <= turn * CROWD_PER_TURN);
        wires.turn(&mut notes, Wait::No, Moment::default());
        assert!(ended() - ended_before <= CROWD_PER_TURN);
    }
    assert_eq!(ended(), CROWD);
    assert!(notes.0.is_empty(), "nothing is heard after close");
}

#[derive(Default)]
struct Busy {
    asked: usize,
    is_over: bool,
    closed: usize,
}

impl WireHandler for Busy {
    fn on_accepted(&mut self, _id: ConnectionId, _listener: u16, _peer: SocketAddr) {}

    fn on_received(&mut self, _id: ConnectionId, _bytes: &mut [u8]) {}

    fn is_over_without_input(&mut self, _id: ConnectionId) -> bool {
        self.asked += 1;
        self.is_over
    }

    fn on_sent(&mut self, _id: ConnectionId, _buffer: Box<OutBuffer>, _bytes: usize) {}

    fn on_closed(&mut self, _id: ConnectionId, _cause: CloseCause, _buffer: Option<Box<OutBuffer>>) {
        self.closed += 1;
    }
}

#[test]
fn a_send_that_fails_leaves_the_input_before_it_to_be_handled() {
    let (_network, mut wires, _notes, client, id) = one_connection(4);
    let mut busy = Busy::default();
    wires.send(id, Box::new(OutBuffer::from(&b"more than the client takes"[..]))).expect("nothing waits");
    wires.turn(&mut busy, Wait::No, Moment::default());
    client.reset();
    for _ in 0..3 {
        wires.turn(&mut busy, Wait::No, Moment::default());
    }
    assert_eq!((busy.asked, busy.closed), (1, 0));
    busy.is_over = true;
    wires.resume(id);
    for _ in 0..3 {
        wires.turn(&mut busy, Wait::No, Moment::default());
    }
    assert_eq!((busy.closed, wires.len()), (1, 0));
}
