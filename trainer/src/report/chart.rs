//! Curves and bars as inline SVG. Colours come from the page's style sheet, so that they follow light and dark.

use super::text::number;
use maud::{Markup, html};
use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
/// Room for the tick labels.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// Points per curve; longer ones are averaged in stretches.
const POINTS: usize = 300;
/// Curves with fewer points show each as a dot.
const DOTS: usize = 40;

/// One curve.
pub(super) struct Series {
    pub(super) name: String,
    /// (epoch, value).
    pub(super) points: Vec<(f64, f64)>,
}

/// One curve as it is drawn: what is left of its points.
struct Drawn<'a> {
    colour: usize,
    name: &'a str,
    points: Vec<(f64, f64)>,
}

/// A figure of curves over the epochs.
pub(super) struct Chart {
    pub(super) title: &'static str,
    /// What to see in it.
    pub(super) note: String,
    pub(super) series: Vec<Series>,
    /// Dashed horizontal lines.
    pub(super) references: Vec<(String, f64)>,
    /// Logarithmic values; what is not positive is left out.
    pub(super) logarithmic: bool,
    /// Values the axis must include.
    pub(super) include: Vec<f64>,
}

impl Chart {
    pub(super) fn new(title: &'static str, note: impl Into<String>, series: Vec<Series>) -> Self {
        let (references, include) = (Vec::new(), Vec::new());
        Self { title, note: note.into(), series, references, logarithmic: false, include }
    }

    /// The figure: caption, curves, key.
    pub(super) fn figure(&self) -> Markup {
        let series: Vec<Drawn<'_>> = self
            .series
            .iter()
            .enumerate()
            .map(|(colour, series)| Drawn { colour, name: &series.name, points: self.drawn(&series.points) })
            .filter(|drawn| !drawn.points.is_empty())
            .collect();
        html! {
            figure {
                figcaption { (self.title) small { (self.note) } }
                @if series.is_empty() { p class="soft" { "No numbers yet." } }
                @else {
                    (self.svg(&series))
                    @if series.len() + self.references.len() > 1 { (self.key(&series)) }
                }
            }
        }
    }

    fn drawn(&self, points: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let usable = |&(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (!self.logarithmic || y > 0.0);
        thin(&points.iter().copied().filter(usable).collect::<Vec<_>>(), POINTS)
    }

    fn svg(&self, series: &[Drawn<'_>]) -> Markup {
        let xs = series.iter().flat_map(|one| one.points.iter().map(|point| point.0));
        let ys = series.iter().flat_map(|one| one.points.iter().map(|point| point.1));
        let references = self.references.iter().map(|reference| reference.1);
        let x_axis = Axis::new(xs, false);
        let y_axis = Axis::new(ys.chain(references).chain(self.include.iter().copied()), self.logarithmic);
        let x = |value: f64| LEFT + x_axis.place(value) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - y_axis.place(value) * (HEIGHT - TOP - BOTTOM);
        html! {
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(self.description(series)) {
                @for &tick in &y_axis.ticks {
                    line class="grid" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(round(y(tick))) y2=(round(y(tick))) {}
                    text x=(LEFT - 8.0) y=(round(y(tick) + 4.5)) text-anchor="end" { (number(tick)) }
                }
                @for &tick in &x_axis.ticks {
                    text x=(round(x(tick))) y=(HEIGHT - BOTTOM + 18.0) text-anchor="middle" { (number(tick)) }
                }
                text x=(WIDTH - RIGHT) y=(HEIGHT - 4.0) text-anchor="end" { "epochs" }
                @for (_, value) in &self.references {
                    line class="reference" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(round(y(*value))) y2=(round(y(*value))) {}
                }
                @for Drawn { colour, points, .. } in series {
                    path class={ "line c" (colour) } d=(path(points.iter().map(|&(a, b)| (x(a), y(b))))) {}
                    @if points.len() < DOTS {
                        @for &(a, b) in points {
                            circle class={ "dot c" (colour) } cx=(round(x(a))) cy=(round(y(b))) r="3.5" {}
                        }
                    }
                }
            }
        }
    }

    /// The figure in words: where each curve begins and ends.
    fn description(&self, series: &[Drawn<'_>]) -> String {
        let mut words = format!("{} over the epochs.", self.title);
        for Drawn { name, points, .. } in series {
            if let (Some(first), Some(last)) = (points.first(), points.last()) {
                // Writing to a string cannot fail.
                let _ = write!(
                    words,
                    " {name}: from {} at epoch {} to {} at epoch {}.",
                    number(first.1),
                    number(first.0),
                    number(last.1),
                    number(last.0)
                );
            }
        }
        words
    }

    fn key(&self, series: &[Drawn<'_>]) -> Markup {
        let sample = |class: &str| {
            html! {
                svg viewBox="0 0 38 12" aria-hidden="true" { path class=(class) d="M0 6H38" {} }
            }
        };
        html! {
            ul class="key" {
                @for Drawn { colour, name, .. } in series { li { (sample(&format!("line c{colour}"))) (name) } }
                @for (name, value) in &self.references { li { (sample("reference")) (name) " = " (number(*value)) } }
            }
        }
    }
}

/// Bars from the tallest to the shortest, drawn as one area, with a dashed line at `even`.
pub(super) fn sorted_bars(heights: &[usize], even: f64, description: &str) -> Markup {
    let mut heights = heights.to_vec();
    heights.sort_unstable_by(|a, b| b.cmp(a));
    let tallest = heights.first().copied().unwrap_or_default() as f64;
    let axis = Axis::new([0.0, tallest, even].into_iter(), false);
    let bar = (WIDTH - LEFT - RIGHT) / heights.len().max(1) as f64;
    let y = |value: f64| HEIGHT - BOTTOM - axis.place(value) * (HEIGHT - TOP - BOTTOM);
    let mut outline = vec![(LEFT, y(0.0))];
    for (rank, &height) in heights.iter().enumerate() {
        // A gap between bars as long as they are wide enough to show one.
        let gap = if bar > 4.0 { 1.0 } else { 0.0 };
        let (left, right) = (LEFT + rank as f64 * bar, LEFT + (rank + 1) as f64 * bar - gap);
        let top = y(height as f64);
        outline.extend([(left, y(0.0)), (left, top), (right, top), (right, y(0.0))]);
    }
    let whole_ticks = axis.ticks.iter().copied().filter(|tick| tick.fract() == 0.0);
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(description) {
            @for tick in whole_ticks {
                line class="grid" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(round(y(tick))) y2=(round(y(tick))) {}
                text x=(LEFT - 8.0) y=(round(y(tick) + 4.5)) text-anchor="end" { (number(tick)) }
            }
            path class="area" d={ (path(outline.into_iter())) "Z" } {}
            line class="reference" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(round(y(even))) y2=(round(y(even))) {}
            text x=(WIDTH - RIGHT) y=(HEIGHT - BOTTOM + 18.0) text-anchor="end" { "prototypes, most used first" }
        }
    }
}

/// Averages of equal stretches where there are more than `most` points.
fn thin(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most {
        return points.to_vec();
    }
    (0..most)
        .map(|part| {
            let stretch = &points[part * points.len() / most..(part + 1) * points.len() / most];
            let sum = stretch.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
            (sum.0 / stretch.len() as f64, sum.1 / stretch.len() as f64)
        })
        .collect()
}

/// One place behind the point: finer than a screen shows.
fn round(value: f64) -> f64 {
    (10.0 * value).round() / 10.0
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut d = String::new();
    for (position, (x, y)) in points.enumerate() {
        let command = if position == 0 { 'M' } else { 'L' };
        // Writing to a string cannot fail.
        let _ = write!(d, "{command}{} {}", round(x), round(y));
    }
    d
}

/// A stretch of values with round ticks.
struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<f64>,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, logarithmic: bool) -> Self {
        let scale = |value: f64| if logarithmic { value.log10() } else { value };
        let finite = values.map(scale).filter(|value| value.is_finite());
        let (mut low, mut high) = finite
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let spread = high - low;
        if spread <= 1e-9 * high.abs().max(1e-300) {
            let room = if high == 0.0 { 1.0 } else { 0.1 * high.abs() };
            (low, high) = (low - room, high + room);
        }
        let ticks = if logarithmic { log_ticks(low, high) } else { linear_ticks(low, high) };
        Self { low, high, logarithmic, ticks }
    }

    /// 0 at the lower end, 1 at the upper.
    fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }
}

/// Multiples of 1, 2 or 5 times a power of ten, about five of them.
fn linear_ticks(low: f64, high: f64) -> Vec<f64> {
    let raw = (high - low) / 5.0;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= raw);
    let step = step.unwrap_or(raw);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|multiple| multiple as f64 * step).collect()
}

/// Powers of ten, with their doubles and fivefolds where there are few.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let factors: &[f64] = if high - low > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let powers = low.floor() as i32..=high.ceil() as i32;
    let ticks = powers.flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)));
    ticks.filter(|tick| (low..=high).contains(&tick.log10())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(
            linear_ticks(0.0, 1.0),
            [0.0, 0.2, 0.4, 0.6, 0.8, 1.0].map(|tick: f64| (tick / 0.2).round() * 0.2)
        );
        assert_eq!(linear_ticks(-3.0, 17.0), [0.0, 5.0, 10.0, 15.0]);
        assert_eq!(log_ticks(-0.5, 1.2), [0.5, 1.0, 2.0, 5.0, 10.0]);
        assert_eq!(log_ticks(-3.0, 1.0), [0.001, 0.01, 0.1, 1.0, 10.0]);
        // A constant has an axis around it.
        let axis = Axis::new([3.0, 3.0].into_iter(), false);
        assert!((axis.place(3.0) - 0.5).abs() < 1e-12 && !axis.ticks.is_empty());
    }

    #[test]
    fn long_curves_are_averaged_in_stretches() {
        let points: Vec<(f64, f64)> = (0..1000).map(|x| (f64::from(x), f64::from(x % 2))).collect();
        let thinned = thin(&points, 100);
        assert_eq!(thinned.len(), 100);
        assert!(thinned.iter().all(|point| (point.1 - 0.5).abs() < 1e-12));
        assert!((thinned[0].0 - 4.5).abs() < 1e-12);
        assert_eq!(thin(&points[..5], 100), points[..5]);
    }

    #[test]
    fn figures_are_described_in_words_and_leave_out_what_cannot_be_drawn() {
        let points = vec![(0.0, 0.0), (1.0, 10.0), (2.0, f64::NAN), (3.0, 100.0)];
        let mut chart = Chart::new("Norm", "note", vec![Series { name: "encoder".into(), points }]);
        chart.logarithmic = true;
        chart.references.push(("clipped at".into(), 30.0));
        let figure = chart.figure().into_string();
        assert!(figure.contains("encoder: from 10 at epoch 1 to 100 at epoch 3."), "{figure}");
        assert!(figure.contains("clipped at = 30") && !figure.contains("NaN"), "{figure}");
    }
}
