//! What a run found, as a picture: the latencies by percentile, and the throughput over time.

use std::{fmt::Display, fs, io, ops::Range, path::Path};

use hdrhistogram::Histogram;
use plotters::{
    coord::{
        Shift,
        ranged1d::{DefaultFormatting, KeyPointHint, Ranged},
    },
    prelude::{
        BLACK, ChartBuilder, Color, DrawingArea, IntoDrawingArea, IntoFont, LineSeries, RGBColor, SVGBackend, WHITE,
    },
};

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlotError {
    #[error("it cannot be written: {0}")]
    Write(#[from] io::Error),
    #[error("it cannot be drawn: {0}")]
    Draw(String),
}

/// Draws into the file of that name. `latency` is in microseconds, `rates` are seconds and messages a second.
pub(super) fn draw(title: &str, path: &Path, latency: &Histogram<u64>, rates: &[(f64, f64)]) -> Result<(), PlotError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let area = area.titled(title, ("sans-serif", 20).into_font()).map_err(failed)?;
        let (upper, lower) = area.split_vertically(SIZE.1 / 2);
        draw_latency(&upper, latency)?;
        draw_rates(&lower, rates)?;
        area.present().map_err(failed)?;
    }
    Ok(fs::write(path, svg)?)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The percentile axis gives each further nine the same room; the latency axis is logarithmic.
fn draw_latency(area: &Area<'_>, latency: &Histogram<u64>) -> Result<(), PlotError> {
    let nines_max = (latency.len().max(10) as f64).log10().floor().clamp(1.0, NINES_MAX);
    let points: Vec<(f64, f64)> = (0..=POINTS)
        .map(|point| {
            let nines = nines_max * f64::from(point) / f64::from(POINTS);
            let micros = latency.value_at_quantile(1.0 - 0.1_f64.powf(nines)).max(1);
            (nines, (micros as f64).log10())
        })
        .collect();
    let highest = points.last().map_or(1.0, |point| point.1);
    let lowest = points.first().map_or(0.0, |point| point.1);
    let marks = logarithmic_marks(lowest, highest);
    // The median has a place of its own between 0 and 90 %.
    let mut percentiles: Vec<f64> = (0..=nines_max as u32).map(f64::from).collect();
    percentiles.insert(1, 2.0_f64.log10());
    let mut chart = ChartBuilder::on(area)
        .caption("Latency by percentile", CAPTION)
        .margin(MARGIN)
        .margin_right(3 * MARGIN)
        .x_label_area_size(50)
        .y_label_area_size(90)
        .build_cartesian_2d(Axis(percentiles), Axis(marks))
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE.mix(0.0))
        .bold_line_style(BLACK.mix(0.15))
        .label_style(LABEL)
        .axis_desc_style(LABEL)
        .x_desc("percentile of deliveries")
        .y_desc("latency")
        .x_label_formatter(&|nines| percentile(*nines))
        .y_label_formatter(&|exponent| time(10_f64.powf(*exponent)))
        .draw()
        .map_err(failed)?;
    chart.draw_series(LineSeries::new(points, LINE.stroke_width(2))).map_err(failed)?;
    Ok(())
}

fn draw_rates(area: &Area<'_>, rates: &[(f64, f64)]) -> Result<(), PlotError> {
    let end = rates.last().map_or(1.0, |rate| rate.0);
    let highest = rates.iter().map(|rate| rate.1).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("Deliveries over time", CAPTION)
        .margin(MARGIN)
        .margin_right(3 * MARGIN)
        .x_label_area_size(50)
        .y_label_area_size(90)
        .build_cartesian_2d(0.0..end, 0.0..highest * 1.1)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE.mix(0.0))
        .bold_line_style(BLACK.mix(0.15))
        .x_labels(10)
        .y_labels(6)
        .label_style(LABEL)
        .axis_desc_style(LABEL)
        .x_desc("seconds measured")
        .y_desc("messages a second")
        .x_label_formatter(&|seconds| short(*seconds))
        .y_label_formatter(&|rate| scaled(*rate, &[(1e6, " M"), (1e3, " k"), (1.0, "")]))
        .draw()
        .map_err(failed)?;
    // Each step is drawn as long as it lasted.
    let starts = std::iter::once(0.0).chain(rates.iter().map(|rate| rate.0));
    let steps: Vec<_> =
        rates.iter().zip(starts).flat_map(|(&(end, rate), start)| [(start, rate), (end, rate)]).collect();
    chart.draw_series(LineSeries::new(steps, LINE.stroke_width(2))).map_err(failed)?;
    Ok(())
}

/// An axis from the first of its marks to the last.
struct Axis(Vec<f64>);

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (low, high): (i32, i32)) -> i32 {
        let Range { start, end } = self.range();
        low + (f64::from(high - low) * (value - start) / (end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.0.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.0.first().copied().unwrap_or(0.0)..self.0.last().copied().unwrap_or(1.0)
    }
}

fn failed(error: impl Display) -> PlotError {
    PlotError::Draw(error.to_string())
}

/// Logarithms of round numbers from below `lowest` to above `highest`, with about five to ten between.
fn logarithmic_marks(lowest: f64, highest: f64) -> Vec<f64> {
    let factors: &[f64] = if highest - lowest > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let decades = lowest.floor() as i32..=highest.floor() as i32 + 1;
    let all: Vec<f64> =
        decades.flat_map(|decade| factors.iter().map(move |factor| f64::from(decade) + factor.log10())).collect();
    let first = all.iter().rposition(|mark| *mark <= lowest).unwrap_or(0);
    let last = all.iter().position(|mark| *mark > highest).unwrap_or(all.len() - 1);
    all.get(first..=last).unwrap_or_default().to_vec()
}

/// `90 %` for 1, `99.9 %` for 3.
fn percentile(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 0.1_f64.powf(nines));
    let digits = (nines.round() as usize).saturating_sub(2);
    format!("{percent:.digits$} %")
}

fn time(micros: f64) -> String {
    scaled(micros, &[(1e6, " s"), (1e3, " ms"), (1.0, " µs")])
}

/// In the largest unit that leaves a number of 1 or more.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let unit = units.iter().find(|unit| value >= unit.0 * 0.999).or(units.last());
    unit.map_or_else(|| short(value), |(size, name)| format!("{}{name}", short(value / size)))
}

/// With as many digits as it needs, at most two behind the point.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

const SIZE: (u32, u32) = (900, 760);
const MARGIN: u32 = 12;
const CAPTION: (&str, u32) = ("sans-serif", 18);
const LABEL: (&str, u32) = ("sans-serif", 14);
const LINE: RGBColor = RGBColor(31, 105, 165);
/// Points of the latency curve.
const POINTS: u32 = 400;
/// 99.9999 %: beyond, single messages would be drawn.
const NINES_MAX: f64 = 6.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_units() {
        assert_eq!([time(1.0), time(250.0), time(1500.0), time(2e6)], ["1 µs", "250 µs", "1.5 ms", "2 s"]);
        assert_eq!([percentile(0.0), percentile(2.0_f64.log10()), percentile(1.0)], ["0 %", "50 %", "90 %"]);
        assert_eq!([percentile(2.0), percentile(3.0), percentile(4.0)], ["99 %", "99.9 %", "99.99 %"]);
        assert_eq!([short(0.5), short(10.0), short(0.25)], ["0.5", "10", "0.25"]);
    }

    #[test]
    fn marks_enclose_the_values() {
        for (lowest, highest) in [(0.0, 0.0), (1.2, 1.3), (2.0, 5.9), (0.4, 2.2)] {
            let marks = logarithmic_marks(lowest, highest);
            assert!(marks.first().is_some_and(|mark| *mark <= lowest), "{lowest} {highest} {marks:?}");
            assert!(marks.last().is_some_and(|mark| *mark > highest), "{lowest} {highest} {marks:?}");
            assert!((2..=12).contains(&marks.len()) && marks.is_sorted(), "{marks:?}");
        }
    }
}
