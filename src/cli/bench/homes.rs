//! ClientIds by the shard of RingMQ that they belong to, so that pairs can be put on one shard or on two.
//!
//! Owns: the choice, and with it the thread of each client: that of its shard's number, so that threads and shards that are
//! pinned alike are beside each other, and what crosses CPUs crosses in the broker. It works where the broker's
//! `runtime.placement_seed` is known, which no broker of strangers' tells.

use clap::{Args, ValueEnum};

use super::BenchError;
use crate::routing::{HashKey, home};

/// Where pairs are at home.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct HomesArgs {
    /// Choose ClientIds so that publisher and subscriber of each pair are at home on the same shard of RingMQ, or on two;
    /// clients of shard k are on thread k of the load generator, going round.
    #[arg(long, value_name = "WHERE", requires = "placement")]
    homes: Option<Homes>,
    /// The broker's runtime.placement_seed (not 0) and its number of shards.
    #[arg(long, value_name = "SEED,SHARDS", value_parser = placement, requires = "homes")]
    placement: Option<Placement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Homes {
    /// Publisher and subscriber of a pair are at home on the same shard.
    Same,
    /// They are at home on different shards.
    Apart,
    /// Those of every other pair.
    Half,
}

/// An end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Subscriber,
    Publisher,
}

/// How a broker places its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placement {
    key: HashKey,
    shards: u16,
}

/// A shard of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Home {
    placement: Placement,
    shard: u16,
}

impl HomesArgs {
    /// Where an end of a pair is at home, if that was asked for.
    ///
    /// # Errors
    ///
    /// With one shard no pair is apart.
    pub fn home(&self, pair: u32, end: End) -> Result<Option<Home>, BenchError> {
        let (Some(homes), Some(placement)) = (self.homes, self.placement) else { return Ok(None) };
        if homes != Homes::Same && placement.shards == 1 {
            return Err(BenchError::OneShard);
        }
        let shards = u32::from(placement.shards);
        // Halves go round the shards by twos, so that each shard has as many pairs of either kind.
        let (first, is_apart) = match homes {
            Homes::Same => (pair, false),
            Homes::Apart => (pair, true),
            Homes::Half => (pair / 2, pair % 2 == 1),
        };
        let step = u32::from(is_apart && end == End::Publisher);
        Ok(Some(Home { placement, shard: ((first + step) % shards) as u16 }))
    }
}

impl Home {
    /// Of so many threads, the one that is beside it.
    pub fn thread(self, threads: u32) -> u32 {
        u32::from(self.shard) % threads
    }

    /// The first text that begins with `start` and belongs here.
    pub fn client_id(self, start: &str) -> String {
        let Placement { key, shards } = self.placement;
        let mut candidates = (0_u32..).map(|number| format!("{start}-{number}"));
        let found =
            candidates.find(|candidate| home(key.client_id(candidate), usize::from(shards)) == usize::from(self.shard));
        found.expect("each shard has its share of the texts")
    }
}

fn placement(text: &str) -> Result<Placement, &'static str> {
    const WRONG: &str = "a seed from 1 on and a number of shards from 1 to 256, such as 7,2, are wanted";
    let (seed, shards) = text.split_once(',').ok_or(WRONG)?;
    match (seed.parse::<u64>(), shards.parse::<u16>()) {
        (Ok(seed @ 1..), Ok(shards @ 1..=256)) => Ok(Placement { key: HashKey::from_seed(u128::from(seed)), shards }),
        _ => Err(WRONG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards_of_pairs(homes: Homes, shards: u16) -> Vec<(u16, u16)> {
        let placement = placement(&format!("7,{shards}")).unwrap();
        let arguments = HomesArgs { homes: Some(homes), placement: Some(placement) };
        let at = |pair, end| {
            let chosen = arguments.home(pair, end).unwrap().unwrap().client_id("bench-000001-0000007");
            home(placement.key.client_id(&chosen), usize::from(shards)) as u16
        };
        (0..6).map(|pair| (at(pair, End::Subscriber), at(pair, End::Publisher))).collect()
    }

    #[test]
    fn pairs_are_at_home_where_they_were_wanted() {
        assert!(shards_of_pairs(Homes::Same, 1).iter().all(|&pair| pair == (0, 0)));
        assert_eq!(shards_of_pairs(Homes::Same, 3), [(0, 0), (1, 1), (2, 2), (0, 0), (1, 1), (2, 2)]);
        assert_eq!(shards_of_pairs(Homes::Apart, 3), [(0, 1), (1, 2), (2, 0), (0, 1), (1, 2), (2, 0)]);
        assert_eq!(shards_of_pairs(Homes::Half, 2), [(0, 0), (0, 1), (1, 1), (1, 0), (0, 0), (0, 1)]);
    }

    #[test]
    fn a_client_is_on_the_thread_of_its_shard() {
        let home = |shard| Home { placement: placement("7,8").unwrap(), shard };
        assert_eq!([0, 1, 2, 7].map(|shard| home(shard).thread(2)), [0, 1, 0, 1]);
        assert_eq!(home(5).thread(1), 0);
    }

    #[test]
    fn one_shard_has_no_pairs_apart() {
        for homes in [Homes::Apart, Homes::Half] {
            let arguments = HomesArgs { homes: Some(homes), placement: Some(placement("7,1").unwrap()) };
            assert!(matches!(arguments.home(0, End::Subscriber), Err(BenchError::OneShard)));
        }
        let nowhere = HomesArgs { homes: None, placement: None };
        assert_eq!(nowhere.home(0, End::Publisher).unwrap(), None);
    }

    #[test]
    fn placements_are_read() {
        for wrong in ["", "7", "0,2", "7,0", "7,257", "-1,2", "7,2,2"] {
            assert!(placement(wrong).is_err(), "{wrong}");
        }
    }
}
