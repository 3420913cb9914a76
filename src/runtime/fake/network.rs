//! The network in memory: listeners, connections, and the clients at their other ends.

use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
};

use crate::runtime::kernel::{Errno, Socket};

/// A network that kernels and clients of one thread share. Clones are the same network.
#[derive(Clone, Debug)]
pub struct FakeNetwork {
    state: Rc<RefCell<State>>,
}

/// The client's end of a connection.
#[derive(Clone, Debug)]
pub struct FakeClient {
    network: FakeNetwork,
    connection: usize,
}

/// How the connection looks to the client, once it read everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerView {
    /// The server may still send.
    Open,
    /// The server ended its side in order.
    Ended,
    /// The server reset the connection; what was not read by then is lost.
    Reset,
}

#[derive(Debug)]
struct State {
    random: u64,
    /// By descriptor.
    descriptors: Vec<Descriptor>,
    /// Free numbers below the end: the lowest is given out first.
    vacant: BTreeSet<usize>,
    descriptors_max: usize,
    connections: Vec<Connection>,
}

#[derive(Debug)]
enum Descriptor {
    Vacant,
    Listener { backlog: VecDeque<usize> },
    Stream { connection: usize },
}

#[derive(Debug)]
struct Connection {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// Bytes that fit on the way to the client until it reads.
    window: usize,
    client_ended: bool,
    client_reset: bool,
    server_ended: bool,
    server_reads_no_more: bool,
    server_resets_on_close: bool,
    server_reset: bool,
    /// The descriptor and the operations that hold the server's end.
    holders: usize,
    is_descriptor_closed: bool,
}

pub(super) enum ReadOutcome {
    Nothing,
    EndOfStream,
    Reset,
    Bytes(Vec<u8>),
}

pub(super) enum WriteOutcome {
    Full,
    Broken,
    Took(usize),
}

impl FakeNetwork {
    /// An empty network whose chances are drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: seed,
            descriptors: Vec::new(),
            vacant: BTreeSet::new(),
            descriptors_max: usize::MAX,
            connections: Vec::new(),
        };
        FakeNetwork { state: Rc::new(RefCell::new(state)) }
    }

    /// How many descriptors there may be; accepting one more fails with EMFILE.
    pub fn limit_descriptors(&self, max: usize) {
        self.state.borrow_mut().descriptors_max = max;
    }

    /// A new listener.
    #[must_use]
    pub fn listen(&self) -> Socket {
        self.state.borrow_mut().open(Descriptor::Listener { backlog: VecDeque::new() })
    }

    /// Connects a client to `listener`. The client takes `window` bytes until it reads.
    ///
    /// # Panics
    ///
    /// When `listener` doesn't listen.
    #[must_use]
    pub fn connect(&self, listener: Socket, window: usize) -> FakeClient {
        let mut state = self.state.borrow_mut();
        let connection = state.connections.len();
        state.connections.push(Connection::new(window));
        match state.descriptors.get_mut(listener.0 as usize) {
            Some(Descriptor::Listener { backlog }) => backlog.push_back(connection),
            other => panic!("{listener:?} is no listener but {other:?}"),
        }
        FakeClient { network: self.clone(), connection }
    }

    /// Descriptors in use.
    #[must_use]
    pub fn descriptors_in_use(&self) -> usize {
        let state = self.state.borrow();
        state.descriptors.len() - state.vacant.len()
    }

    /// A number below `bound` (0 for a bound of 0), drawn from the network's seed.
    #[must_use]
    pub fn draw(&self, bound: usize) -> usize {
        self.state.borrow_mut().draw(bound)
    }

    pub(super) fn chance(&self, percent: u8) -> bool {
        percent > 0 && self.draw(100) < usize::from(percent)
    }

    pub(super) fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.draw(last + 1));
        }
    }

    pub(super) fn has_waiting(&self, listener: Socket) -> bool {
        let state = self.state.borrow();
        matches!(state.descriptors.get(listener.0 as usize), Some(Descriptor::Listener { backlog }) if !backlog.is_empty())
    }

    pub(super) fn accept(&self, listener: Socket) -> Result<Socket, Errno> {
        let mut state = self.state.borrow_mut();
        let in_use = state.descriptors.len() - state.vacant.len();
        let is_full = in_use >= state.descriptors_max;
        let Some(Descriptor::Listener { backlog }) = state.descriptors.get_mut(listener.0 as usize) else {
            return Err(Errno(libc::EBADF));
        };
        if backlog.is_empty() {
            return Err(Errno(libc::EAGAIN));
        }
        if is_full {
            return Err(Errno(libc::EMFILE));
        }
        let connection = backlog.pop_front().ok_or(Errno(libc::EAGAIN))?;
        state.connections[connection].holders = 1;
        Ok(state.open(Descriptor::Stream { connection }))
    }

    pub(super) fn peer(&self, socket: Socket) -> Option<SocketAddr> {
        let connection = self.state.borrow().stream(socket)?;
        let port = 1024 + (connection % 60_000) as u16;
        Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), port))
    }

    /// An operation is submitted on this descriptor: it holds the connection from now on.
    pub(super) fn hold(&self, socket: Socket) -> Option<usize> {
        let mut state = self.state.borrow_mut();
        let connection = state.stream(socket)?;
        state.connections[connection].holders += 1;
        Some(connection)
    }

    pub(super) fn let_go(&self, connection: usize) {
        self.state.borrow_mut().connections[connection].let_go();
    }

    pub(super) fn shutdown(&self, socket: Socket, both: bool) {
        let mut state = self.state.borrow_mut();
        let Some(connection) = state.stream(socket) else { return };
        let connection = &mut state.connections[connection];
        connection.server_ended = true;
        connection.server_reads_no_more |= both;
    }

    pub(super) fn reset_on_close(&self, socket: Socket) {
        let mut state = self.state.borrow_mut();
        let Some(connection) = state.stream(socket) else { return };
        state.connections[connection].server_resets_on_close = true;
    }

    pub(super) fn close_server(&self, socket: Socket) {
        let mut state = self.state.borrow_mut();
        let number = socket.0 as usize;
        let Some(descriptor) = state.descriptors.get_mut(number) else { return };
        let closed = std::mem::replace(descriptor, Descriptor::Vacant);
        match closed {
            Descriptor::Vacant => panic!("{socket:?} is closed twice"),
            Descriptor::Listener { backlog } => {
                backlog.into_iter().for_each(|connection| state.connections[connection].server_reset = true);
            }
            Descriptor::Stream { connection } => {
                state.connections[connection].is_descriptor_closed = true;
                state.connections[connection].let_go();
            }
        }
        state.vacant.insert(number);
    }

    pub(super) fn is_readable(&self, connection: usize) -> bool {
        let state = self.state.borrow();
        let connection = &state.connections[connection];
        !connection.to_server.is_empty()
            || connection.client_ended
            || connection.client_reset
            || connection.server_reads_no_more
    }

    pub(super) fn is_writable(&self, connection: usize) -> bool {
        let state = self.state.borrow();
        let connection = &state.connections[connection];
        connection.client_reset || connection.server_ended || connection.to_client.len() < connection.window
    }

    pub(super) fn read_server(&self, connection: usize, length_max: usize) -> ReadOutcome {
        let mut state = self.state.borrow_mut();
        let connection = &mut state.connections[connection];
        if connection.client_reset {
            return ReadOutcome::Reset;
        }
        if !connection.to_server.is_empty() {
            let length = connection.to_server.len().min(length_max);
            return ReadOutcome::Bytes(connection.to_server.drain(..length).collect());
        }
        let is_over = connection.client_ended || connection.server_reads_no_more;
        if is_over { ReadOutcome::EndOfStream } else { ReadOutcome::Nothing }
    }

    pub(super) fn write_server(&self, connection: usize, bytes: &[u8]) -> WriteOutcome {
        let mut state = self.state.borrow_mut();
        let connection = &mut state.connections[connection];
        if connection.client_reset || connection.server_ended {
            return WriteOutcome::Broken;
        }
        let taken = bytes.len().min(connection.window.saturating_sub(connection.to_client.len()));
        if taken == 0 {
            return WriteOutcome::Full;
        }
        connection.to_client.extend(&bytes[..taken]);
        WriteOutcome::Took(taken)
    }
}

impl FakeClient {
    /// Sends bytes to the server. They are lost when the server has reset the connection.
    pub fn write(&self, bytes: &[u8]) {
        self.with(|connection| connection.to_server.extend(bytes));
    }

    /// Takes everything that has arrived.
    #[must_use]
    pub fn read(&self) -> Vec<u8> {
        self.with(|connection| connection.to_client.drain(..).collect())
    }

    /// How the connection looks from here, given that everything was read.
    #[must_use]
    pub fn view(&self) -> PeerView {
        self.with(|connection| match (connection.server_reset, connection.server_ended) {
            (true, _) => PeerView::Reset,
            (false, true) if connection.to_client.is_empty() => PeerView::Ended,
            (false, _) => PeerView::Open,
        })
    }

    /// Bytes that this client sent and the server has not read.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.with(|connection| connection.to_server.len())
    }

    /// Sends no more, reads on.
    pub fn finish(&self) {
        self.with(|connection| connection.client_ended = true);
    }

    /// Resets the connection.
    pub fn reset(&self) {
        self.with(|connection| {
            connection.client_reset = true;
            connection.to_server.clear();
            connection.to_client.clear();
        });
    }

    /// Changes how many bytes fit on the way to this client until it reads. 0 blocks the server's sends.
    pub fn set_window(&self, window: usize) {
        self.with(|connection| connection.window = window);
    }

    fn with<R>(&self, change: impl FnOnce(&mut Connection) -> R) -> R {
        change(&mut self.network.state.borrow_mut().connections[self.connection])
    }
}

impl Connection {
    fn new(window: usize) -> Self {
        Connection {
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            window,
            client_ended: false,
            client_reset: false,
            server_ended: false,
            server_reads_no_more: false,
            server_resets_on_close: false,
            server_reset: false,
            holders: 0,
            is_descriptor_closed: false,
        }
    }

    /// One holder less. With the last, the connection ends for the client: in order, or by a reset.
    fn let_go(&mut self) {
        self.holders -= 1;
        if self.holders > 0 {
            return;
        }
        debug_assert!(self.is_descriptor_closed);
        self.server_ended = true;
        if self.server_resets_on_close || !self.to_server.is_empty() {
            self.server_reset = true;
            self.to_client.clear();
        }
    }
}

impl State {
    fn open(&mut self, descriptor: Descriptor) -> Socket {
        let number = self.vacant.pop_first().unwrap_or_else(|| {
            self.descriptors.push(Descriptor::Vacant);
            self.descriptors.len() - 1
        });
        self.descriptors[number] = descriptor;
        Socket(number as i32)
    }

    fn stream(&self, socket: Socket) -> Option<usize> {
        match self.descriptors.get(usize::try_from(socket.0).ok()?)? {
            Descriptor::Stream { connection } => Some(*connection),
            Descriptor::Vacant | Descriptor::Listener { .. } => None,
        }
    }

    /// SplitMix64: small, well spread, and the same everywhere.
    fn draw(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        if bound == 0 { 0 } else { (mixed % bound as u64) as usize }
    }
}
