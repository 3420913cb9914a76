//! A power cut in the mode in which what was acknowledged last may be forgotten.
//!
//! Owns: what may be missing afterwards, what may come again, and the order in which it may be missing: of what one
//! publisher sent to one topic at one QoS, a client may lack what came last, and nothing before that.

use std::collections::BTreeMap;

use super::{Checker, Kind, Moment, Number, Rule, Session, Watched, Will, matches};

/// What a client may have lost or get again.
#[derive(Debug, Default)]
pub(super) struct Forgiven {
    /// Messages that need not come, with the power cut that may have taken them.
    missing: BTreeMap<Number, Moment>,
    /// Messages of QoS 2 that the broker may have forgotten to have sent.
    repeated: Vec<Number>,
    /// When messages of QoS 2 came or were released, whichever was later.
    settled: BTreeMap<Number, Moment>,
}

impl Forgiven {
    /// The client's application has the message, or the broker knows that it has.
    pub fn settles(&mut self, number: Number, now: Moment) {
        self.settled.insert(number, now);
    }

    /// Whether a message of QoS 2 may come once more.
    pub fn may_repeat(&mut self, number: Number) -> bool {
        let place = self.repeated.iter().position(|&repeated| repeated == number);
        place.map(|place| self.repeated.swap_remove(place)).is_some()
    }

    /// What is wanted no longer.
    pub fn retain(&mut self, is_wanted: impl Fn(Number) -> bool) {
        self.missing.retain(|&number, _| is_wanted(number));
    }
}

impl Checker {
    /// The power was cut, and what was acknowledged later than `since` may be forgotten, with all that came of it. What is not
    /// acknowledged yet is sent again, and a broker that has forgotten that its identifier is free tells it from what was.
    pub fn rolls_back(&mut self, since: Moment) {
        let cut = self.tick();
        let mut floors: BTreeMap<&str, Number> = BTreeMap::new();
        for message in &mut self.messages {
            message.is_forgiven |= message.acknowledged.is_some_and(|acknowledged| acknowledged > since);
        }
        for (number, message) in self.messages.iter().enumerate() {
            let is_value = matches!(message.kind, Kind::Retained | Kind::Clear);
            if is_value && message.acknowledged.is_some() && !message.is_forgiven {
                floors.insert(&message.topic, number);
            }
        }
        for (topic, value) in &mut self.values {
            value.acknowledged = floors.get(topic.as_str()).copied();
        }
        let mut open = Vec::new();
        for client in &mut self.clients {
            open.extend(client.forgets_wills(since));
            client.forgets_subscriptions(since, cut);
            if client.session == Session::Present && client.session_since > since {
                client.session = Session::Possible;
            }
            let forgiven = &mut client.forgiven;
            forgiven.settled.retain(|_, settled| *settled > since);
            forgiven.repeated.extend(forgiven.settled.keys());
        }
        let messages = &self.messages;
        for client in &mut self.clients {
            let Watched { owed, held, forgiven, .. } = client;
            owed.retain(|&number| {
                let message = &messages[number];
                let stands = held.iter().any(|held| held.leaving.is_none() && matches(&held.filter, &message.topic));
                let is_kept = match message.kind {
                    Kind::Will(_) => !open.contains(&number),
                    _ => !message.is_forgiven,
                };
                if stands && !is_kept {
                    forgiven.missing.insert(number, cut);
                }
                stands && is_kept
            });
        }
    }

    /// A message has come for the first time: what was sent before it and acknowledged before the same power cut must not be
    /// missing any more.
    pub(super) fn check_tail(&mut self, client: usize, number: Number) {
        let message = &self.messages[number];
        let is_hole = |(&earlier, &cut): (&Number, &Moment)| {
            let missing = &self.messages[earlier];
            let is_same =
                (missing.publisher, &missing.topic, missing.qos) == (message.publisher, &message.topic, message.qos);
            is_same && message.acknowledged.is_some_and(|acknowledged| acknowledged < cut)
        };
        let hole = self.clients[client].forgiven.missing.range(..number).find(|&forgiven| is_hole(forgiven));
        let hole = hole.map(|(&earlier, _)| earlier);
        self.clients[client].forgiven.missing.remove(&number);
        if let Some(earlier) = hole {
            self.clients[client].forgiven.missing.remove(&earlier);
            let what = format!("{} came, and {} was lost before it", self.describe(number), self.describe(earlier));
            self.violate(Rule::Loss, client, what);
        }
    }
}

impl Watched {
    /// Wills that the broker may not know, or publish though it should know better. Returns those.
    fn forgets_wills(&mut self, since: Moment) -> Vec<Number> {
        let mut open = Vec::new();
        for (&number, state) in &mut self.wills {
            let is_new = self.armed.get(&number).is_some_and(|&armed| armed > since);
            if is_new || *state == Will::Forbidden {
                *state = Will::Open;
                open.push(number);
            }
        }
        open
    }

    /// Subscriptions that may be gone owe nothing any more; those that had ended may be there again.
    fn forgets_subscriptions(&mut self, since: Moment, cut: Moment) {
        let is_back = |moment: Option<Moment>| moment.is_some_and(|moment| moment > since);
        if self.held.iter().any(|held| is_back(held.ended) || is_back(held.gone)) {
            // What had been queued for one comes late.
            self.latest.clear();
        }
        for held in &mut self.held {
            if held.stands.is_none_or(|stands| stands > since) {
                held.leaving.get_or_insert(cut);
            }
            held.ended = held.ended.filter(|&ended| ended <= since);
            held.gone = held.gone.filter(|&gone| gone <= since);
        }
    }
}
