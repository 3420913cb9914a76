//! Shards that sit at one ring: each hears of what it asked for itself, and of nothing else.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says where")]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use ringmq::{
    runtime::{
        Errno, Kernel, Seat, Socket, Table, Uring, UringParameters, Wake,
        kernel::{Completion, EnterWait, OperationKind, ReceiveMode, Reception, Tag},
    },
    transport::OutBuffer,
};

/// Longer than any wait that is meant to end, even on a busy machine.
const STUCK: Duration = Duration::from_secs(5);
/// The same for each seat: what differs is who asks.
const RECEIVE: Tag = Tag { kind: OperationKind::Receive, slot: 7, generation: 3 };
const SEND: Tag = Tag { kind: OperationKind::Send, ..RECEIVE };

/// A table with so many seats, and what wakes it.
fn table(seats: usize) -> (Table, Vec<Seat>, Vec<Wake>) {
    let wakes: Vec<_> = (0..seats).map(|_| Wake::new().unwrap()).collect();
    let parameters = UringParameters { submissions: 64, completions: 256, buffers: 16, ..UringParameters::default() };
    let mut ring = Uring::new(parameters, wakes[0].clone()).unwrap();
    wakes.iter().skip(1).for_each(|wake| ring.add_wake(wake.clone()));
    let (table, seats) = Table::new(ring, seats);
    (table, seats, wakes)
}

/// A client, and the end that a seat has.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn socket(stream: &impl AsRawFd) -> Socket {
    Socket(stream.as_raw_fd())
}

/// Enters until `seat` hears of something.
fn next(table: &Table, seat: &mut Seat) -> Completion {
    let begin = Instant::now();
    loop {
        match seat.next_completion() {
            Some(Completion::Woken) => {}
            Some(completion) => return completion,
            None => table.enter(EnterWait::For(Some(Duration::from_millis(100)))),
        }
        assert!(begin.elapsed() < STUCK, "nothing came");
    }
}

/// Whether a seat hears of nothing for a while.
fn is_quiet(table: &Table, seat: &mut Seat) -> bool {
    for _ in 0..3 {
        table.enter(EnterWait::For(Some(Duration::from_millis(5))));
    }
    std::iter::from_fn(|| seat.next_completion()).all(|completion| matches!(completion, Completion::Woken))
}

/// What came, as text.
fn text(seat: &mut Seat, completion: Completion) -> String {
    let Completion::Received { tag: RECEIVE, reception: Reception::Bytes { buffer, length }, more: true } = completion
    else {
        panic!("{completion:?}")
    };
    let text = String::from_utf8(seat.buffer(buffer, length).to_vec()).unwrap();
    seat.give_back(buffer);
    text
}

#[test]
fn what_comes_in_is_heard_at_the_seat_that_receives() {
    let (table, mut seats, _wakes) = table(3);
    let mut ends: Vec<_> = (0..3).map(|_| connection()).collect();
    for (seat, (_, end)) in seats.iter_mut().zip(&ends) {
        seat.receive(RECEIVE, socket(end), ReceiveMode::Multishot);
    }
    for round in 0..40 {
        for (number, (client, _)) in ends.iter_mut().enumerate() {
            client.write_all(format!("{round} for {number}").as_bytes()).unwrap();
        }
        // Taken in the other order, so that buffers of several seats are out at once.
        for (number, seat) in seats.iter_mut().enumerate().rev() {
            let completion = next(&table, seat);
            assert_eq!(text(seat, completion), format!("{round} for {number}"));
        }
    }
    // The end of one is none of the others'.
    seats[1].cancel_receive(RECEIVE);
    let ended = next(&table, &mut seats[1]);
    let cancelled = Reception::Failed(Errno(125));
    assert!(matches!(ended, Completion::Received { tag: RECEIVE, reception, more: false } if reception == cancelled));
    ends[2].0.write_all(b"still").unwrap();
    let completion = next(&table, &mut seats[2]);
    assert_eq!(text(&mut seats[2], completion), "still");
    assert!(seats.iter_mut().all(|seat| is_quiet(&table, seat)));
}

#[test]
fn what_goes_out_is_heard_at_the_seat_that_sends() {
    let (table, mut seats, _wakes) = table(2);
    let mut ends: Vec<_> = (0..2).map(|_| connection()).collect();
    for (number, (seat, (_, end))) in seats.iter_mut().zip(&ends).enumerate() {
        let mut buffer = Box::<OutBuffer>::default();
        buffer.bytes_mut().extend_from_slice(format!("from {number}").as_bytes());
        seat.send(SEND, socket(end), buffer, 0);
    }
    for ((number, seat), (client, _)) in seats.iter_mut().enumerate().zip(&mut ends) {
        let sent = next(&table, seat);
        let Completion::Sent { tag: SEND, result: Ok(6), buffer } = sent else { panic!("{sent:?}") };
        assert_eq!(buffer.len(), 6);
        let mut read = [0; 6];
        client.read_exact(&mut read).unwrap();
        assert_eq!(read, *format!("from {number}").as_bytes());
    }
}

#[test]
fn who_connects_is_accepted_at_the_seat_that_listens_there() {
    let (table, mut seats, _wakes) = table(2);
    let listeners: Vec<_> = (0..2).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    for (seat, listener) in seats.iter_mut().zip(&listeners) {
        seat.accept(0, socket(listener));
    }
    table.enter(EnterWait::No);
    let client = TcpStream::connect(listeners[1].local_addr().unwrap()).unwrap();
    let accepted = next(&table, &mut seats[1]);
    let Completion::Accepted { listener: 0, result: Ok(accepted), more: true } = accepted else {
        panic!("{accepted:?}")
    };
    let peer: Option<SocketAddr> = seats[1].peer(accepted);
    assert_eq!(peer, client.local_addr().ok());
    seats[1].close(accepted);
    assert!(is_quiet(&table, &mut seats[0]));
}

#[test]
fn each_wake_ends_the_wait() {
    let (table, mut seats, wakes) = table(3);
    table.enter(EnterWait::For(Some(Duration::from_millis(2))));
    for wake in &wakes {
        let begin = Instant::now();
        let waking = wake.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            waking.wake();
        });
        table.enter(EnterWait::For(Some(2 * STUCK)));
        assert!(begin.elapsed() < STUCK);
        thread.join().unwrap();
        while seats.iter_mut().any(|seat| seat.next_completion().is_some()) {}
    }
}

#[test]
fn there_is_no_wait_while_a_seat_has_something_to_take() {
    let (table, mut seats, wakes) = table(2);
    table.enter(EnterWait::No);
    wakes[0].wake();
    for _ in 0..2 {
        let begin = Instant::now();
        table.enter(EnterWait::For(Some(2 * STUCK)));
        assert!(begin.elapsed() < STUCK);
    }
    while seats.iter_mut().any(|seat| seat.next_completion().is_some()) {}
}
