//! `sharedsub` and `composite`: who publishes and hears what where a message goes to one of a group, or where several
//! scenarios go on at once.

use clap::Args;

use super::{
    arguments::{CommonArgs, TrafficArgs, count, positive},
    traffic::Audience,
};

#[derive(Clone, Debug, Args)]
pub(super) struct SharedsubArgs {
    /// Publishers, each on a topic of its own.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = count())]
    pub publishers: u32,
    /// Subscribers of all share groups together.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count())]
    pub subscribers: u32,
    /// Share groups; each is sent every message once. Not more than subscribers.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count())]
    pub groups: u32,
    #[command(flatten)]
    pub traffic: TrafficArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

#[derive(Clone, Debug, Args)]
pub(super) struct CompositeArgs {
    /// Publishers of all parts together; each publishes as often as any other.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = count())]
    pub publishers: u32,
    /// Of these, how many hundredths each part has; what is left out has none.
    #[arg(long, value_name = "PART=N,..", default_value = "p2p=40,fanout=1,fanin=39,sharedsub=20", value_parser = shares)]
    pub shares: Shares,
    /// Subscribers that hear every publisher of the part fanout.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count())]
    pub fanout_subscribers: u32,
    /// Subscribers that hear every publisher of the part fanin.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count())]
    pub fanin_subscribers: u32,
    /// Subscribers in the one share group of the part sharedsub.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count())]
    pub sharedsub_subscribers: u32,
    /// Connections in the background, each with a subscription, that come and go.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count())]
    pub churn_clients: u32,
    /// How many of these leave and return in a second; 0: there are none.
    #[arg(long, value_name = "N", default_value = "10", value_parser = positive_or_zero)]
    pub churn: f64,
    #[command(flatten)]
    pub traffic: TrafficArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Hundredths of the publishers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shares {
    p2p: u32,
    fanout: u32,
    fanin: u32,
    sharedsub: u32,
}

/// Who is there.
#[derive(Debug, Default)]
pub(super) struct Cast {
    /// What each subscriber subscribes to, and whom it then hears.
    pub subscribers: Vec<(String, Audience)>,
    /// What each publisher publishes to.
    pub topics: Vec<String>,
    /// Pairs of a publisher and a subscriber, or a share group, that hears it.
    pub flows: usize,
    run: u64,
}

impl CompositeArgs {
    /// The traffic, open loop unless a window is asked for.
    pub fn traffic(&self) -> TrafficArgs {
        let mut traffic = self.traffic.clone();
        if traffic.window.is_none() && traffic.rate.is_none() {
            traffic.rate = Some(f64::from(self.publishers));
        }
        traffic
    }
}

impl Shares {
    /// How many publishers p2p, fanout, fanin and sharedsub have of `publishers`: each that has a share at least one.
    fn split(self, publishers: u32) -> [u32; 4] {
        let part = |share: u32| {
            let exact = u64::from(publishers) * u64::from(share) / 100;
            if share > 0 { (exact as u32).max(1) } else { 0 }
        };
        [part(self.p2p), part(self.fanout), part(self.fanin), part(self.sharedsub)]
    }
}

impl Cast {
    fn new(run: u64) -> Self {
        Cast { run, ..Cast::default() }
    }

    /// Pairs.
    fn pairs(&mut self, count: u32) {
        for _ in 0..count {
            let topic = format!("bench/{:06x}/p/{}", self.run, self.topics.len());
            self.hear(1, topic.clone(), 1, false);
            self.topics.push(topic);
        }
    }

    /// `publishers` on the topics of `part`, which `subscribers` hear through `filter`.
    fn many(&mut self, part: char, publishers: u32, subscribers: u32) {
        if publishers == 0 {
            return;
        }
        let base = format!("bench/{:06x}/{part}", self.run);
        self.hear(subscribers, format!("{base}/+"), publishers, false);
        for number in 0..publishers {
            self.topics.push(format!("{base}/{number}"));
        }
    }

    /// `publishers` on topics of their own, which `subscribers` in `groups` share groups hear.
    fn shared(&mut self, publishers: u32, subscribers: u32, groups: u32) {
        if publishers == 0 {
            return;
        }
        let base = format!("bench/{:06x}/s", self.run);
        for group in 0..groups {
            let members = subscribers / groups + u32::from(group < subscribers % groups);
            let filter = format!("$share/bench-{:06x}-{group}/{base}/+", self.run);
            self.hear(members, filter, publishers, true);
        }
        for number in 0..publishers {
            self.topics.push(format!("{base}/{number}"));
        }
    }

    /// Subscribers of the publishers that come next. Those of a share group have their flows in common.
    fn hear(&mut self, subscribers: u32, filter: String, publishers: u32, is_shared: bool) {
        let first_publisher = self.topics.len() as u32;
        for number in 0..subscribers {
            if number == 0 || !is_shared {
                self.flows += publishers as usize;
            }
            let first_flow = self.flows - publishers as usize;
            let audience = Audience { first_publisher, publishers, first_flow, is_shared };
            self.subscribers.push((filter.clone(), audience));
        }
    }
}

pub(super) fn sharedsub(arguments: &SharedsubArgs, run: u64) -> Cast {
    let mut cast = Cast::new(run);
    cast.shared(arguments.publishers, arguments.subscribers, arguments.groups.min(arguments.subscribers));
    cast
}

pub(super) fn composite(arguments: &CompositeArgs, run: u64) -> Cast {
    let [p2p, fanout, fanin, sharedsub] = arguments.shares.split(arguments.publishers);
    let mut cast = Cast::new(run);
    cast.pairs(p2p);
    cast.many('o', fanout, arguments.fanout_subscribers);
    cast.many('i', fanin, arguments.fanin_subscribers);
    cast.shared(sharedsub, arguments.sharedsub_subscribers, 1);
    cast
}

fn shares(text: &str) -> Result<Shares, &'static str> {
    let mut shares = Shares::default();
    for part in text.split(',') {
        let (name, share) = part.split_once('=').ok_or(SHARES_WANTED)?;
        let share: u32 = share.parse().ok().filter(|share| *share <= 100).ok_or(SHARES_WANTED)?;
        *match name {
            "p2p" => &mut shares.p2p,
            "fanout" => &mut shares.fanout,
            "fanin" => &mut shares.fanin,
            "sharedsub" => &mut shares.sharedsub,
            _ => return Err("there are p2p, fanout, fanin and sharedsub"),
        } = share;
    }
    let sum = shares.p2p + shares.fanout + shares.fanin + shares.sharedsub;
    (sum == 100).then_some(shares).ok_or("the shares are to add up to 100")
}

fn positive_or_zero(text: &str) -> Result<f64, &'static str> {
    if text.parse() == Ok(0_u8) { Ok(0.0) } else { positive(text) }
}

const SHARES_WANTED: &str = "shares such as p2p=50,fanin=50 are wanted";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_split() {
        let even = shares("p2p=50,fanin=50").unwrap();
        assert_eq!(even.split(1000), [500, 0, 500, 0]);
        assert_eq!(shares("p2p=99,fanout=1").unwrap().split(10), [9, 1, 0, 0], "at least one");
        for wrong in ["", "p2p", "p2p=100,x=0", "p2p=50", "p2p=-1", "p2p=101", "p2p=60,fanin=60"] {
            assert!(shares(wrong).is_err(), "{wrong}");
        }
        assert_eq!((positive_or_zero("0"), positive_or_zero("2.5")), (Ok(0.0), Ok(2.5)));
        assert!(positive_or_zero("-1").is_err());
    }

    #[test]
    fn those_of_a_group_have_their_flows_in_common_and_no_others() {
        let mut cast = Cast::new(1);
        cast.pairs(2);
        cast.many('o', 3, 2);
        cast.shared(4, 5, 2);
        let audiences: Vec<_> = cast.subscribers.iter().map(|(_, audience)| audience).collect();
        let places: Vec<_> = audiences.iter().map(|audience| (audience.first_publisher, audience.first_flow)).collect();
        assert_eq!(places, [(0, 0), (1, 1), (2, 2), (2, 5), (5, 8), (5, 8), (5, 8), (5, 12), (5, 12)]);
        assert_eq!(cast.topics.len(), 2 + 3 + 4);
        assert_eq!(cast.subscribers[8].0, "$share/bench-000001-1/bench/000001/s/+");
    }
}
