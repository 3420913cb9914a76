//! Waits of the real ring: each ends, whatever its alarm and its sends do.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says where")]

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    thread::sleep,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ringmq::{
    runtime::{
        Kernel, Socket, Uring, UringParameters, Wake,
        kernel::{Completion, EnterWait, OperationKind, ReceiveMode, Tag},
    },
    transport::OutBuffer,
};

/// Longer than any wait that is meant to end, even on a busy machine.
const STUCK: Duration = Duration::from_secs(5);
const SUBMISSIONS: u32 = 64;
const SENDS: u32 = 4;
const SEND_BYTES: usize = 128 << 20;

fn ring() -> (Uring, Wake) {
    let wake = Wake::new().unwrap();
    let parameters =
        UringParameters { submissions: SUBMISSIONS, completions: 256, buffers: 16, ..UringParameters::default() };
    (Uring::new(parameters, wake.clone()).unwrap(), wake)
}

/// How long a wait takes, and its completions.
fn wait(ring: &mut Uring, longest: Option<Duration>) -> (Duration, Vec<Completion>) {
    let begin = Instant::now();
    ring.enter(EnterWait::For(longest));
    let took = begin.elapsed();
    (took, std::iter::from_fn(|| ring.next_completion()).collect())
}

/// Waits until nothing has happened for a while, so that what was armed is armed and the ring is sure of its sends.
fn settle(ring: &mut Uring) {
    for _ in 0..3 {
        wait(ring, Some(Duration::from_millis(2)));
    }
}

/// Connections whose peers read nothing.
fn connections() -> Vec<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let connect = || {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    };
    (0..SENDS).map(|_| connect()).collect()
}

/// Asks for sends of more than both ends of a connection hold.
fn ask_sends(ring: &mut Uring, connections: &[(TcpStream, TcpStream)]) {
    let bytes = Bytes::from(vec![0; SEND_BYTES]);
    for ((client, _), slot) in connections.iter().zip(0..) {
        let mut buffer = Box::<OutBuffer>::default();
        buffer.push_shared(bytes.clone());
        let tag = Tag { kind: OperationKind::Send, slot, generation: 1 };
        ring.send(tag, Socket(client.as_raw_fd()), buffer, 0);
    }
}

#[test]
fn a_wait_ends_at_its_deadline_although_the_alarm_was_set_for_another() {
    let (mut ring, wake) = ring();
    settle(&mut ring);
    // One that ends early leaves its alarm set.
    wake.wake();
    let (took, completions) = wait(&mut ring, Some(STUCK * 2));
    assert!(took < STUCK && matches!(completions[..], [Completion::Woken]), "{took:?}");
    for millis in [50, 20, 100] {
        let begin = Instant::now();
        let deadline = begin + Duration::from_millis(millis);
        // An alarm that goes off before it wakes in vain.
        while Instant::now() < deadline {
            wait(&mut ring, Some(deadline.duration_since(Instant::now())));
        }
        assert!(begin.elapsed() < STUCK, "{millis} ms took {:?}", begin.elapsed());
    }
}

#[test]
fn a_wait_with_sends_that_nobody_reads_ends_soon() {
    let (mut ring, _wake) = ring();
    let connections = connections();
    settle(&mut ring);
    ask_sends(&mut ring, &connections);
    let (took, completions) = wait(&mut ring, None);
    assert!(took < STUCK && completions.is_empty(), "{took:?}");
}

#[test]
fn a_wait_with_such_sends_ends_although_its_alarm_went_off_before_it() {
    let (mut ring, wake) = ring();
    let connections = connections();
    settle(&mut ring);
    // An alarm is set, and goes off while nobody waits.
    wake.wake();
    wait(&mut ring, Some(Duration::from_millis(30)));
    sleep(Duration::from_millis(60));
    ask_sends(&mut ring, &connections);
    let (took, _) = wait(&mut ring, None);
    assert!(took < STUCK, "{took:?}");
}

#[test]
fn an_alarm_for_which_the_submission_queue_has_no_room_is_not_relied_on() {
    let (mut ring, _wake) = ring();
    let connections = connections();
    settle(&mut ring);
    // As many requests as there is room for, none of which completes.
    let (silent, _) = &connections[0];
    for slot in 0..SUBMISSIONS {
        let tag = Tag { kind: OperationKind::Receive, slot, generation: 1 };
        ring.receive(tag, Socket(silent.as_raw_fd()), ReceiveMode::Multishot);
    }
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(30) {
        wait(&mut ring, Some(Duration::from_millis(30)));
    }
    assert!(begin.elapsed() < STUCK, "{:?}", begin.elapsed());
}

#[test]
fn a_wait_with_such_sends_is_no_longer_than_it_may_be() {
    let (mut ring, _wake) = ring();
    let connections = connections();
    settle(&mut ring);
    let shortest = (0..20).map(|_| {
        ask_sends(&mut ring, &connections);
        wait(&mut ring, Some(Duration::from_micros(100))).0
    });
    // A busy machine makes single ones longer.
    let shortest = shortest.min().unwrap();
    assert!(shortest < Duration::from_millis(1), "{shortest:?}");
}
