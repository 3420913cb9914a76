//! Who the clients are, and what each does when. A seed decides all but the timing.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use ringmq::mqtt::{ProtocolVersion, QoS};

use crate::{
    checker::{Checker, Kind, Rule},
    client::{Client, Profile},
    house::random::Random,
};

/// What a client does.
#[derive(Clone, Debug)]
enum Role {
    /// Publishes bursts to its topics.
    Publisher { qos: QoS, topics: usize },
    /// Writes the retained message of a topic, and clears it now and then if it `clears`.
    Writer { qos: QoS, clears: bool },
    /// Holds a durable subscription.
    Subscriber { filter: &'static str, qos: QoS, presence: Presence },
    /// Loses its connections, and leaves a Will.
    Mortal,
    /// Looks at all retained messages after each restart.
    Looker,
}

/// When a subscriber is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// Whenever there is a broker.
    Always,
    /// Whole lives of the broker, and others not.
    SomeLives,
    /// It comes and goes.
    Flapping,
    /// It comes and goes, sometimes with a clean start.
    Renewing,
    /// It is there, and subscribes and unsubscribes.
    Toggling,
}

/// A client and its habits.
#[derive(Debug)]
struct Actor {
    client: Client,
    role: Role,
    random: Random,
    /// Before this it does nothing new.
    next: Duration,
    /// It stays away in this life of the broker.
    is_away: bool,
    /// Messages that it may still publish in this life of the broker.
    budget: usize,
    /// A toggling subscriber wants its subscription.
    wants: bool,
}

/// What holds for all.
#[derive(Clone, Copy, Debug)]
struct Course {
    address: SocketAddr,
    is_draining: bool,
    large_once_in: usize,
}

/// All clients, and the clock that they go by.
#[derive(Debug)]
pub struct Load {
    /// In the order in which they take their turns.
    actors: Vec<Actor>,
    pub checker: Checker,
    began: Instant,
    address: SocketAddr,
    is_draining: bool,
    /// One message of so many is large.
    large_once_in: usize,
}

/// A client that holds a subscription: name, version, filter, QoS, presence, Receive Maximum.
type SubscriberRow = (&'static str, ProtocolVersion, &'static str, QoS, Presence, Option<u16>);

const SUBSCRIBERS: [SubscriberRow; 12] = [
    ("sub-always-1", V311, "t/#", QoS::AtLeastOnce, Presence::Always, None),
    ("sub-always-2", V5, "t/#", QoS::ExactlyOnce, Presence::Always, None),
    ("sub-some-lives-1", V5, "t/+/0", QoS::AtLeastOnce, Presence::SomeLives, None),
    ("sub-some-lives-2", V311, "t/#", QoS::ExactlyOnce, Presence::SomeLives, None),
    ("sub-flapping-1", V311, "t/+/1", QoS::AtLeastOnce, Presence::Flapping, None),
    ("sub-flapping-2", V5, "t/#", QoS::ExactlyOnce, Presence::Flapping, None),
    ("sub-narrow-1", V5, "t/+/1", QoS::AtLeastOnce, Presence::Always, Some(3)),
    ("sub-narrow-2", V5, "t/pub-2/#", QoS::ExactlyOnce, Presence::Flapping, Some(2)),
    ("sub-toggling-2", V311, "t/+/2", QoS::ExactlyOnce, Presence::Toggling, None),
    ("sub-renewing-1", V5, "t/+/2", QoS::AtLeastOnce, Presence::Renewing, None),
    ("sub-retained-2", V5, "retained/+", QoS::ExactlyOnce, Presence::Flapping, None),
    ("sub-wills-1", V311, "will/+", QoS::AtLeastOnce, Presence::Always, None),
];

/// Those that publish: version, QoS, messages under way at most.
const PUBLISHERS: [(ProtocolVersion, QoS, usize); 5] = [
    (V311, QoS::AtLeastOnce, 1),
    (V5, QoS::AtLeastOnce, 32),
    (V311, QoS::ExactlyOnce, 8),
    (V5, QoS::ExactlyOnce, 24),
    (V5, QoS::ExactlyOnce, 1),
];

/// Those that leave Wills: name, version, delay. The shortest waits until its Will has come, the longest comes back at once.
const MORTALS: [(&str, ProtocolVersion, u64); 4] =
    [("mortal-311", V311, 0), ("mortal-5", V5, 0), ("mortal-delayed", V5, 1), ("mortal-returning", V5, 3600)];

const V311: ProtocolVersion = ProtocolVersion::V311;
const V5: ProtocolVersion = ProtocolVersion::V5;

/// Messages that a publisher sends in one life of the broker at most.
const BUDGET: usize = 400;

impl Load {
    /// The clients of `seed`, who know of no broker yet. One message of `large_once_in` is large.
    pub fn new(seed: u64, large_once_in: usize) -> Load {
        let mut load = Load {
            actors: Vec::new(),
            checker: Checker::default(),
            began: Instant::now(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            is_draining: false,
            large_once_in,
        };
        for (name, version, filter, qos, presence, receive_maximum) in SUBSCRIBERS {
            let within = if receive_maximum.is_some() { 5 } else { 1 };
            let profile = Profile {
                receive_maximum,
                acknowledges_within: Duration::from_millis(within),
                ..profile(name, version)
            };
            load.add(seed, profile, Role::Subscriber { filter, qos, presence });
        }
        for (index, (version, qos, window)) in PUBLISHERS.into_iter().enumerate() {
            let profile = Profile { window, ..profile(&format!("pub-{index}"), version) };
            load.add(seed, profile, Role::Publisher { qos, topics: 3 });
        }
        for index in 0..4 {
            let (version, qos) = if index % 2 == 0 { (V311, QoS::AtLeastOnce) } else { (V5, QoS::ExactlyOnce) };
            let profile = Profile { window: 2, ..profile(&format!("writer-{index}"), version) };
            load.add(seed, profile, Role::Writer { qos, clears: index >= 2 });
        }
        for (name, version, delay_s) in MORTALS {
            let profile = Profile { will_delay: Some(Duration::from_secs(delay_s)), ..profile(name, version) };
            load.add(seed, profile, Role::Mortal);
        }
        load.add(seed, Profile { is_durable: false, ..profile("looker", V5) }, Role::Looker);
        load
    }

    fn add(&mut self, seed: u64, profile: Profile, role: Role) {
        let index = self.checker.client(&profile.name);
        let client = Client::new(profile, index, Random::part(seed, 2 * index as u64));
        let random = Random::part(seed, 2 * index as u64 + 1);
        let next = Duration::ZERO;
        self.actors.push(Actor { client, role, random, next, is_away: false, budget: 0, wants: true });
    }

    /// Whether the broker may refuse what clients ask for. They ask again.
    #[allow(dead_code, reason = "only disks that fail make publishers patient, which is another test")]
    pub fn set_patient(&mut self, is_patient: bool) {
        self.actors.iter_mut().for_each(|actor| actor.client.is_patient = is_patient);
    }

    /// A broker listens at `address`.
    pub fn restarted(&mut self, address: SocketAddr) {
        self.address = address;
        let now = self.began.elapsed();
        for actor in &mut self.actors {
            actor.begin_life(now);
        }
    }

    /// The broker was killed. Most clients still read what it had sent, some never do.
    pub fn killed(&mut self) {
        self.checker.killed();
        let deadline = Instant::now() + READ_PATIENCE;
        for actor in &mut self.actors {
            let reads = !actor.random.once_in(4);
            while reads && actor.client.has_connection() && Instant::now() < deadline {
                actor.client.poll(&mut self.checker, self.began.elapsed());
            }
            actor.client.vanish(&mut self.checker, self.began.elapsed());
        }
    }

    /// The power goes off now: what the broker says from here on is its own affair. Returns when something was acknowledged
    /// last: while a disk takes long to sync, nothing is.
    pub fn goes_dark(&mut self) -> Duration {
        self.checker.is_dark = true;
        self.checker.last_acknowledged()
    }

    /// What was acknowledged later than at `since` may be forgotten.
    pub fn rolls_back(&mut self, since: Duration) {
        let since = self.checker.moment_at(since);
        self.checker.rolls_back(since);
        self.actors.iter_mut().for_each(|actor| actor.client.doubts());
    }

    /// Lets everyone go on for so long.
    pub fn run(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.turn();
        }
    }

    /// Lets publishers finish and everybody come, until all has arrived or nothing has happened for `patience`.
    pub fn drain(&mut self, patience: Duration) {
        self.is_draining = true;
        self.actors.iter_mut().for_each(|actor| actor.is_away = false);
        if !self.turn_until(patience, |load| load.is_settled() && load.checker.owes_nothing()) {
            self.tell_unfinished();
        }
        // What is retained now stays.
        for actor in self.actors.iter_mut().filter(|actor| matches!(actor.role, Role::Looker)) {
            actor.client.disconnect(&mut self.checker, self.began.elapsed());
        }
        self.turn_until(patience, |load| load.is_settled() && load.checker.has_seen_all_retained());
        self.checker.gives_up();
        self.is_draining = false;
        self.restarted(self.address);
    }

    /// Whether it came to be within `patience` of the last thing that happened.
    fn turn_until(&mut self, patience: Duration, is_reached: impl Fn(&Load) -> bool) -> bool {
        let mut last = Instant::now();
        while !is_reached(self) {
            if self.turn() {
                last = Instant::now();
            }
            if last.elapsed() > patience {
                return false;
            }
        }
        true
    }

    /// Every client once. Returns whether anything came or went.
    fn turn(&mut self) -> bool {
        let mut did = false;
        self.checker.is_now(self.began.elapsed());
        for actor in &mut self.actors {
            let now = self.began.elapsed();
            did |= actor.client.poll(&mut self.checker, now);
            if now >= actor.next {
                let course =
                    Course { address: self.address, is_draining: self.is_draining, large_once_in: self.large_once_in };
                actor.act(course, &mut self.checker, now);
            }
        }
        if !did {
            thread::sleep(Duration::from_micros(200));
        }
        did
    }

    fn is_settled(&self) -> bool {
        self.actors.iter().all(Actor::is_settled)
    }

    fn tell_unfinished(&mut self) {
        for actor in self.actors.iter().filter(|actor| !actor.is_settled()) {
            self.checker.violate(Rule::Unfinished, actor.client.index, actor.client.describe());
        }
    }
}

impl Actor {
    /// The broker has been started.
    fn begin_life(&mut self, now: Duration) {
        self.budget = BUDGET;
        let wait_ms = match self.role {
            // What was retained before is seen before it is replaced.
            Role::Writer { .. } => self.random.between(20, 100),
            _ if self.random.once_in(4) => self.random.below(50),
            _ => 0,
        };
        self.next = now + Duration::from_millis(wait_ms as u64);
        if let Role::Subscriber { presence: Presence::SomeLives, .. } = self.role {
            self.is_away = !self.random.once_in(3);
        }
    }

    /// Does what it wants to, which may be nothing.
    fn act(&mut self, course: Course, checker: &mut Checker, now: Duration) {
        let Course { address, is_draining, large_once_in } = course;
        if !self.client.has_connection() {
            return self.come(address, is_draining, checker, now);
        }
        if !self.client.is_up() {
            return;
        }
        match self.role.clone() {
            Role::Publisher { qos, topics } if !is_draining => self.publish(qos, topics, large_once_in, checker, now),
            Role::Writer { qos, clears } if !is_draining => self.write(qos, clears, checker, now),
            Role::Subscriber { filter, qos, presence } => self.attend(filter, qos, presence, is_draining, checker, now),
            Role::Mortal if !is_draining => {
                self.part(checker, now);
                self.pause(now, 1, 50);
            }
            Role::Looker if !self.client.is_subscribed(LOOK) && !self.client.has_asked() => {
                checker.begins_to_look(self.client.index);
                self.client.subscribe(LOOK, QoS::AtLeastOnce, checker);
            }
            Role::Publisher { .. } | Role::Writer { .. } | Role::Mortal | Role::Looker => {}
        }
    }

    fn come(&mut self, address: SocketAddr, is_draining: bool, checker: &mut Checker, now: Duration) {
        // With a short delay its Will is waited for.
        let is_waiting = self.client.profile.will_delay == Some(Duration::from_secs(1))
            && self.client.will.is_some_and(|number| checker.is_owed(number));
        if self.is_away || is_waiting {
            return;
        }
        let is_renewing = matches!(self.role, Role::Subscriber { presence: Presence::Renewing, .. });
        let clean_start = is_renewing && !is_draining && self.random.once_in(4);
        self.client.connect(address, clean_start, checker, now);
        match self.role {
            Role::Mortal => self.pause(now, 30, 600),
            Role::Subscriber { presence: Presence::Flapping | Presence::Renewing, .. } => self.pause(now, 5, 10),
            _ if self.client.is_patient => self.pause(now, 20, 60),
            _ => {}
        }
    }

    fn publish(&mut self, qos: QoS, topics: usize, large_once_in: usize, checker: &mut Checker, now: Duration) {
        let burst = self.random.between(1, 40).min(self.budget);
        for _ in 0..burst {
            if !self.client.can_publish() {
                return;
            }
            let topic = format!("t/{}/{}", self.client.profile.name, self.random.below(topics));
            let payload_bytes = if self.random.once_in(large_once_in) { 8 << 10 } else { self.random.between(9, 120) };
            self.client.publish(&topic, qos, Kind::Live, payload_bytes, checker);
            self.budget -= 1;
        }
        self.pause(now, 0, 15);
    }

    fn write(&mut self, qos: QoS, clears: bool, checker: &mut Checker, now: Duration) {
        if self.client.can_publish() {
            let topic = format!("retained/{}", self.client.profile.name);
            let kind = if clears && self.random.once_in(3) { Kind::Clear } else { Kind::Retained };
            self.client.publish(&topic, qos, kind, 32, checker);
            self.pause(now, 0, 40);
        }
    }

    fn attend(
        &mut self,
        filter: &str,
        qos: QoS,
        presence: Presence,
        is_draining: bool,
        checker: &mut Checker,
        now: Duration,
    ) {
        self.wants |= is_draining;
        let has = self.client.is_subscribed(filter);
        if self.client.has_asked() {
            return;
        }
        if self.wants && !has {
            self.client.subscribe(filter, qos, checker);
        } else if !self.wants && has {
            self.client.unsubscribe(filter, checker);
        } else if is_draining {
            return;
        } else if presence == Presence::Toggling && self.random.once_in(2) {
            self.wants = !self.wants;
        } else if matches!(presence, Presence::Flapping | Presence::Renewing) && self.random.once_in(2) {
            self.part(checker, now);
            return self.pause(now, 1, 60);
        }
        self.pause(now, 5, 150);
    }

    /// Ends its connection, with DISCONNECT or without.
    fn part(&mut self, checker: &mut Checker, now: Duration) {
        if self.random.once_in(3) {
            self.client.disconnect(checker, now);
        } else {
            self.client.vanish(checker, now);
        }
    }

    fn pause(&mut self, now: Duration, low_ms: usize, high_ms: usize) {
        self.next = now + Duration::from_millis(self.random.between(low_ms, high_ms) as u64);
    }

    fn is_settled(&self) -> bool {
        let is_subscribed = match self.role {
            Role::Subscriber { filter, .. } => self.client.is_subscribed(filter),
            Role::Looker => self.client.is_subscribed(LOOK),
            Role::Publisher { .. } | Role::Writer { .. } | Role::Mortal => true,
        };
        is_subscribed && self.client.is_settled()
    }
}

fn profile(name: &str, version: ProtocolVersion) -> Profile {
    Profile {
        name: name.to_owned(),
        version,
        is_durable: true,
        receive_maximum: None,
        acknowledges_within: Duration::ZERO,
        will_delay: None,
        window: 1,
    }
}

/// The filter of all retained messages.
const LOOK: &str = "retained/+";

/// What a broker sent before it was killed is read for no longer than this.
const READ_PATIENCE: Duration = Duration::from_secs(2);
