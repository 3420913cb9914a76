//! What the scenarios of clients that come and go have found.

use serde::Serialize;

use super::{churn::ChurnReport, offline::OfflineReport, report::Table, retained::RetainedReport, storm::StormReport};

/// One of these; its fields stand in the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    Retained(RetainedReport),
    Offline(OfflineReport),
    Storm(StormReport),
    Hold(HoldReport),
    Churn(ChurnReport),
}

/// What became of connections that had nothing to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct HoldReport {
    #[serde(rename = "hold_seconds")]
    pub seconds: f64,
    pub connections_lost: u64,
    /// Of one CPU.
    #[serde(rename = "hold_broker_cpu_percent", skip_serializing_if = "Option::is_none")]
    pub broker_cpu_percent: Option<f64>,
}

impl Outcome {
    pub fn tell(&self, table: &mut Table) {
        match self {
            Outcome::Retained(report) => report.tell(table),
            Outcome::Offline(report) => report.tell(table),
            Outcome::Storm(report) => report.tell(table),
            Outcome::Churn(report) => report.tell(table),
            Outcome::Hold(report) => {
                table.line("held", format!("{:.1} s, {} connections lost", report.seconds, report.connections_lost));
                if let Some(percent) = report.broker_cpu_percent {
                    table.line("  broker CPU", format!("{percent:.3} % of a CPU"));
                }
            }
        }
    }
}
