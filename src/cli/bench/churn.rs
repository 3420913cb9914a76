//! Connections that come and go while a run goes on, on a thread of their own.

use serde::{Serialize, Serializer};

use super::{
    BenchError,
    companion::{Beside, Companion, Phase},
    crew::{Crew, Listener, News, identities},
    progress::Progress,
    report::{Quantiles, Table},
    setting::Setting,
};
use crate::time::Moment;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct ChurnReport {
    /// Connections that were open at any moment.
    #[serde(rename = "churn_clients")]
    pub clients: u32,
    /// That left and returned.
    #[serde(rename = "churn_reconnects")]
    pub reconnects: u64,
    /// Connections that were refused or lost.
    #[serde(rename = "churn_failures")]
    pub failures: u64,
    /// Clients that had not returned yet when it was their turn to leave again.
    #[serde(rename = "churn_late")]
    pub late: u64,
    #[serde(flatten, serialize_with = "churn_connect_quantiles")]
    pub opening_us: Quantiles,
}

#[derive(Debug, Default)]
struct Times {
    opening_us: Vec<u32>,
}

/// Starts it: of `clients` with a subscription each, `rate` a second leave and return.
pub(super) fn start(setting: &Setting, clients: u32, rate: f64) -> Result<Companion<ChurnReport>, BenchError> {
    let setting = setting.clone();
    Companion::start(move |beside| run(&setting, clients, rate, beside))
}

fn run(setting: &Setting, clients: u32, rate: f64, beside: &Beside) -> Result<ChurnReport, BenchError> {
    let prefix = &setting.introduction.client_identifier_prefix;
    let members = identities(prefix, 'c', clients, |number| Some(format!("{}/churn", setting.topic(number))));
    let progress = Progress::new(true);
    let mut crew =
        Crew::new(setting.target.clone(), setting.introduction.clone(), members, Times::default(), progress)?;
    crew.open(0..clients, None)?;
    crew.listener_mut().opening_us.clear();
    let mut report = ChurnReport { clients, ..ChurnReport::default() };
    beside.ready();
    let (started, mut turns) = (crew.now(), 0_u64);
    while beside.phase() != Phase::Over {
        let due = started.after(std::time::Duration::from_secs_f64((turns + 1) as f64 / rate));
        if crew.now() < due {
            crew.turn(due);
            continue;
        }
        let member = (turns % u64::from(clients)) as u32;
        turns += 1;
        if crew.is_opening(member) {
            report.late += 1;
            continue;
        }
        crew.leave(member);
        match crew.begin(member) {
            Ok(()) => report.reconnects += 1,
            Err(_) => report.failures += 1,
        }
    }
    report.failures += crew.lost();
    report.opening_us = Quantiles::of(&crew.listener().opening_us);
    crew.leave_all();
    Ok(report)
}

impl Listener for Times {
    fn hear(&mut self, _member: u32, news: News<'_>, _at: Moment) {
        if let News::Ready { took, .. } = news
            && self.opening_us.len() < TIMES_MAX
        {
            self.opening_us.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
    }
}

impl ChurnReport {
    pub fn tell(&self, table: &mut Table) {
        let ChurnReport { clients, reconnects, failures, late, .. } = self;
        table.line("came and went", format!("{reconnects} of {clients} more, {failures} failed, {late} late"));
        table.line("  opening, us", self.opening_us.text());
    }
}

fn churn_connect_quantiles<S: Serializer>(quantiles: &Quantiles, serializer: S) -> Result<S::Ok, S::Error> {
    quantiles.serialize_as("churn_connect", serializer)
}

/// Opening times that are kept; those of later connections are not told.
const TIMES_MAX: usize = 1 << 20;
