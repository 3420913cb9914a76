//! ClientIds by the shard of RingMQ that they belong to, so that pairs can be put on one shard or on two.
//!
//! Owns: the choice. It works where the broker's `runtime.placement_seed` is known, which no broker of strangers' tells.

use clap::{Args, ValueEnum};

use super::{BenchError, fleet::LinkPlan};
use crate::routing::{HashKey, home};

/// Where pairs are at home.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct HomesArgs {
    /// Choose ClientIds so that publisher and subscriber of each pair are at home on the same shard of RingMQ, or on two.
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
    /// Gives each pair its shards, one pair after the other, if that was asked for.
    pub fn choose(&self, links: &mut [LinkPlan]) -> Result<(), BenchError> {
        let (Some(homes), Some(placement)) = (self.homes, self.placement) else { return Ok(()) };
        if homes == Homes::Apart && placement.shards == 1 {
            return Err(BenchError::OneShard);
        }
        for link in links {
            let pair = link.publisher.unwrap_or(link.audience.first_publisher);
            let step = u32::from(homes == Homes::Apart && link.publisher.is_some());
            let shard = ((pair + step) % u32::from(placement.shards)) as u16;
            link.home = Some(Home { placement, shard });
        }
        Ok(())
    }
}

impl Home {
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
    use crate::cli::bench::traffic::Audience;

    fn shards_of_pairs(homes: Homes, shards: u16) -> Vec<(u16, u16)> {
        let placement = placement(&format!("7,{shards}")).unwrap();
        let arguments = HomesArgs { homes: Some(homes), placement: Some(placement) };
        let subscriber = |pair: u32| LinkPlan {
            audience: Audience { first_publisher: pair, publishers: 1, ..Audience::default() },
            ..LinkPlan::default()
        };
        let publisher = |pair: u32| LinkPlan { publisher: Some(pair), ..LinkPlan::default() };
        let mut links: Vec<_> = (0..6).map(subscriber).chain((0..6).map(publisher)).collect();
        arguments.choose(&mut links).unwrap();
        let at = |link: &LinkPlan| {
            let chosen = link.home.unwrap().client_id("bench-000001-0000007");
            home(placement.key.client_id(&chosen), usize::from(shards)) as u16
        };
        links[..6].iter().zip(&links[6..]).map(|(subscriber, publisher)| (at(subscriber), at(publisher))).collect()
    }

    #[test]
    fn pairs_are_at_home_where_they_were_wanted() {
        assert!(shards_of_pairs(Homes::Same, 1).iter().all(|&pair| pair == (0, 0)));
        assert_eq!(shards_of_pairs(Homes::Same, 3), [(0, 0), (1, 1), (2, 2), (0, 0), (1, 1), (2, 2)]);
        assert_eq!(shards_of_pairs(Homes::Apart, 3), [(0, 1), (1, 2), (2, 0), (0, 1), (1, 2), (2, 0)]);
    }

    #[test]
    fn one_shard_has_no_pairs_apart() {
        let arguments = HomesArgs { homes: Some(Homes::Apart), placement: Some(placement("7,1").unwrap()) };
        assert!(matches!(arguments.choose(&mut []), Err(BenchError::OneShard)));
    }

    #[test]
    fn placements_are_read() {
        for wrong in ["", "7", "0,2", "7,0", "7,257", "-1,2", "7,2,2"] {
            assert!(placement(wrong).is_err(), "{wrong}");
        }
    }
}
