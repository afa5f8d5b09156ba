//! Line charts as SVG, small enough to read in a diff.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
/// Left, right, top, bottom.
const MARGINS: [f64; 4] = [52.0, 190.0, 34.0, 44.0];
const COLOURS: [&str; 8] =
    ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1", "#9c755f", "#79706e"];

/// A line with its points, x ascending.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// Lines over a logarithmic x axis with ticks where asked for; y in percent from 0.
pub(super) fn chart(title: &str, x_title: &str, ticks: &[f64], lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| line.points.iter().copied());
    let (low, high) = all().fold((f64::INFINITY, 0.0_f64), |(low, high), (x, _)| (low.min(x), high.max(x)));
    let top = (all().map(|(_, y)| y).fold(0.0, f64::max) * 10.0).ceil().max(1.0) / 10.0;
    let [left, right, above, below] = MARGINS;
    let span = (high.ln() - low.ln()).max(f64::EPSILON);
    let x = |value: f64| left + (value.ln() - low.ln()) / span * (WIDTH - left - right);
    let y = |value: f64| HEIGHT - below - value / top * (HEIGHT - above - below);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{left}\" y=\"20\" font-size=\"14\">{title}</text>\n\
         <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{x_title}</text>\n",
        f64::midpoint(left, WIDTH - right),
        HEIGHT - 8.0
    );
    // Writing to a string cannot fail.
    for step in 0..=5 {
        let value = top * f64::from(step) / 5.0;
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {0:.1}H{1:.1}\" stroke=\"#ddd\"/><text x=\"{2:.1}\" y=\"{3:.1}\" \
             text-anchor=\"end\">{4:.0} %</text>",
            y(value),
            WIDTH - right,
            left - 6.0,
            y(value) + 4.0,
            100.0 * value
        );
    }
    for &tick in ticks {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>",
            x(tick),
            HEIGHT - below + 18.0
        );
    }
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points: Vec<String> =
            line.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py))).collect();
        let legend = above + 10.0 + 18.0 * number as f64;
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <path d=\"M{1:.0} {legend}h18\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{2:.0}\" y=\"{3}\">{4}</text>",
            points.join(" "),
            WIDTH - right + 12.0,
            WIDTH - right + 36.0,
            legend + 4.0,
            line.name
        );
    }
    svg + "</svg>\n"
}
