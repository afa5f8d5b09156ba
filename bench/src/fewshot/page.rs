//! The tables and figures of docs/label-efficiency.md.

use super::answers::COVERAGES;
use super::data::mean_and_interval;
use super::labels::{budgets, labels_for, random_budgets};
use super::plot::{Line, chart};
use super::{Outcome, SHOTS};
use crate::report::{Row, machine, write_page};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

const PAGE: &str = "label-efficiency";
/// Shots at which answers have to be calibrated.
const CALIBRATED_SHOTS: [usize; 2] = [5, 13];

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn percent(values: &[f64]) -> String {
    let (mean, interval) = mean_and_interval(values);
    format!("{:.1} ± {:.1}", 100.0 * mean, 100.0 * interval)
}

/// The page's tables.
pub(super) fn tables(outcomes: &[Outcome], draws: usize, update_microseconds: f64) -> String {
    let versions = outcomes.first().map_or("", |outcome| outcome.peer_version.as_str());
    let mut page = format!(
        "{}; means over {draws} draws, ± half of the 95 % interval of the mean; scikit-learn {versions}. Taking \
         in one example of 384 dimensions costs the running class means {update_microseconds:.1} µs.\n\n",
        machine()
    );
    accuracy(&mut page, outcomes);
    honesty(&mut page, outcomes);
    strangers(&mut page, outcomes);
    labels(&mut page, outcomes);
    page
}

fn accuracy(page: &mut String, outcomes: &[Outcome]) {
    page.push_str("### Accuracy\n\nClass-balanced, in percent, by labelled images per class.\n\n");
    for outcome in outcomes {
        let _ = write!(page, "| {}, {} classes |", outcome.set, outcome.classes);
        for shots in SHOTS {
            let _ = write!(page, " {shots} |");
        }
        page.push_str("\n|---|---:|---:|---:|---:|\n");
        for (name, by_shots) in &outcome.heads {
            accuracy_row(page, name, by_shots, |marks| marks.accuracy);
        }
        for (name, by_shots) in &outcome.peers {
            accuracy_row(page, name, by_shots, |marks| marks.accuracy);
        }
        let _ = writeln!(
            page,
            "\nOf the images in the pool {:.0} % have one of their own class nearest.\n",
            100.0 * outcome.purity
        );
        let _ =
            writeln!(page, "![Accuracy by labelled images per class]({PAGE}/accuracy-{}.svg)\n", outcome.set);
    }
}

/// A line of the table; empty where a head cannot be fitted on so few.
fn accuracy_row<M>(
    page: &mut String,
    name: &str,
    by_shots: &BTreeMap<usize, Vec<M>>,
    accuracy: impl Fn(&M) -> f64,
) {
    let _ = write!(page, "| {name} |");
    for shots in SHOTS {
        let cell = by_shots
            .get(&shots)
            .map_or_else(String::new, |marks| percent(&marks.iter().map(&accuracy).collect::<Vec<_>>()));
        let _ = write!(page, " {cell} |");
    }
    page.push('\n');
}

fn honesty(page: &mut String, outcomes: &[Outcome]) {
    page.push_str(
        "### Probabilities and prediction sets\n\nMeans over the sets and draws. Expected calibration error over 15 bins, and in \
         brackets what as many answers would show if their probabilities were true; Brier score; coverage of the sets in \
         percent, with the classes per set in brackets.\n\n| | images per class | calibration error | Brier |",
    );
    for coverage in COVERAGES {
        let _ = write!(page, " sets of {:.0} % |", 100.0 * coverage);
    }
    page.push_str("\n|---|---:|---:|---:|---:|---:|---:|\n");
    let Some(first) = outcomes.first() else { return };
    for (place, (name, _)) in first.heads.iter().enumerate() {
        for shots in CALIBRATED_SHOTS {
            let marks: Vec<_> =
                outcomes.iter().filter_map(|outcome| outcome.heads[place].1.get(&shots)).flatten().collect();
            if marks.is_empty() {
                continue;
            }
            let _ = write!(
                page,
                "| {name} | {shots} | {:.3} ({:.3}) | {:.3} |",
                mean(marks.iter().map(|marks| marks.calibration_error)),
                mean(marks.iter().map(|marks| marks.chance_error)),
                mean(marks.iter().map(|marks| marks.brier))
            );
            for number in 0..COVERAGES.len() {
                let _ = write!(
                    page,
                    " {:.1} ({:.1}) |",
                    100.0 * mean(marks.iter().map(|marks| marks.sets[number].0)),
                    mean(marks.iter().map(|marks| marks.sets[number].1))
                );
            }
            page.push('\n');
        }
    }
    for name in first.peers.keys() {
        for shots in CALIBRATED_SHOTS {
            let marks: Vec<_> =
                outcomes.iter().filter_map(|outcome| outcome.peers[name].get(&shots)).flatten().collect();
            if marks.is_empty() {
                continue;
            }
            let _ = writeln!(
                page,
                "| {name} | {shots} | {:.3} | {:.3} | | | |",
                mean(marks.iter().map(|marks| marks.calibration_error)),
                mean(marks.iter().map(|marks| marks.brier))
            );
        }
    }
    page.push('\n');
}

fn strangers(page: &mut String, outcomes: &[Outcome]) {
    page.push_str(
        "### Unknowns\n\nA third of the classes is held out whole. AUROC of the distance to the examples and of the best \
         probability; shares rejected where 5 % false rejections are asked for.\n\n| | images per class | AUROC | of the best \
         probability | known rejected | unknown rejected |\n|---|---:|---:|---:|---:|---:|\n",
    );
    for outcome in outcomes {
        for (shots, tellings) in &outcome.strangers {
            let of = |what: fn(&super::strangers::Telling) -> f64| mean(tellings.iter().map(what));
            let _ = writeln!(
                page,
                "| {} | {shots} | {:.3} | {:.3} | {:.1} % | {:.1} % |",
                outcome.set,
                of(|telling| telling.auroc),
                of(|telling| telling.auroc_of_confidence),
                100.0 * of(|telling| telling.false_rejections),
                100.0 * of(|telling| telling.rejections)
            );
        }
    }
    page.push('\n');
}

/// Mean curves of an outcome: suggested, k-means, random.
fn mean_curves(outcome: &Outcome) -> [Vec<f64>; 3] {
    let at = |of: fn(&super::labels::Curves) -> &Vec<f64>| -> Vec<f64> {
        let points = outcome.curves.first().map_or(0, |curves| of(curves).len());
        (0..points).map(|point| mean(outcome.curves.iter().map(|curves| of(curves)[point]))).collect()
    };
    [at(|curves| &curves.suggested), at(|curves| &curves.k_means), at(|curves| &curves.random)]
}

fn labels(page: &mut String, outcomes: &[Outcome]) {
    page.push_str(
        "### Which image to label next\n\nClass-balanced accuracy, in percent, of class means of the images chosen from the \
         pool, and the share of the labels that random ones need for what suggestions reach.\n\n| | labels | suggested | \
         k-means | random | suggested ÷ random labels needed |\n|---|---:|---:|---:|---:|---:|\n",
    );
    for outcome in outcomes {
        let [suggested, k_means, random] = mean_curves(outcome);
        let at_random = random_budgets(outcome.classes);
        for (place, budget) in budgets(outcome.classes).into_iter().enumerate() {
            let needed = labels_for(suggested[place], &at_random, &random);
            let share =
                needed.map_or_else(String::new, |needed| format!("{:.0} %", 100.0 * budget as f64 / needed));
            let same = at_random.iter().position(|&other| other >= budget).unwrap_or(0);
            let _ = writeln!(
                page,
                "| {} | {budget} | {:.1} | {:.1} | {:.1} | {share} |",
                outcome.set,
                100.0 * suggested[place],
                100.0 * k_means[place],
                100.0 * random[same]
            );
        }
    }
    page.push('\n');
    for outcome in outcomes {
        let _ = writeln!(page, "![Accuracy by labels spent]({PAGE}/labels-{}.svg)\n", outcome.set);
    }
}

/// Writes page and figures under docs/.
pub(super) fn write(outcomes: &[Outcome], tables: &str) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(PAGE);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for outcome in outcomes {
        let lines: Vec<Line> = outcome
            .heads
            .iter()
            .map(|(name, by_shots)| Line {
                name: name.clone(),
                points: by_shots
                    .iter()
                    .map(|(&shots, marks)| (shots as f64, mean(marks.iter().map(|marks| marks.accuracy))))
                    .collect(),
            })
            .filter(|line| line.points.len() > 1)
            .collect();
        let shots = SHOTS.map(|shots| shots as f64);
        let title = format!("{}: accuracy", outcome.set);
        let figure = chart(&title, "labelled images per class", &shots, &lines);
        std::fs::write(folder.join(format!("accuracy-{}.svg", outcome.set)), figure)?;

        let [suggested, k_means, random] = mean_curves(outcome);
        let spent: Vec<f64> = budgets(outcome.classes).into_iter().map(|budget| budget as f64).collect();
        let line = |name: &str, xs: &[f64], ys: &[f64]| Line {
            name: name.to_owned(),
            points: xs.iter().copied().zip(ys.iter().copied()).collect(),
        };
        let at_random: Vec<f64> = random_budgets(outcome.classes).into_iter().map(|b| b as f64).collect();
        let lines = [
            line("suggested", &spent, &suggested),
            line("k-means", &spent, &k_means),
            line("random", &at_random, &random),
        ];
        let title = format!("{}: accuracy by labels spent", outcome.set);
        let figure = chart(&title, "labels", &spent, &lines);
        std::fs::write(folder.join(format!("labels-{}.svg", outcome.set)), figure)?;
    }
    write_page(&format!("docs/{PAGE}.md"), "fewshot", tables)
}

/// The best of ours beside the best peer, by set and shots.
pub(super) fn rows(outcomes: &[Outcome]) -> Vec<Row> {
    let mut rows = Vec::new();
    for outcome in outcomes {
        for (name, by_shots) in &outcome.heads {
            for (shots, marks) in by_shots {
                let ours = mean(marks.iter().map(|marks| marks.accuracy));
                let peers = outcome.peers.iter().filter_map(|(peer, by_shots)| {
                    Some((peer, mean(by_shots.get(shots)?.iter().map(|marks| marks.accuracy))))
                });
                let best = peers.reduce(|best, next| if next.1 > best.1 { next } else { best });
                let (peer, peer_value) =
                    best.map_or(("none".to_owned(), f64::NAN), |(peer, value)| (peer.clone(), value));
                rows.push(Row {
                    bench: "fewshot",
                    case: format!("{}, {name}, {shots} per class", outcome.set),
                    unit: "class-balanced accuracy",
                    ours,
                    peer,
                    peer_value,
                    ratio: ours / peer_value,
                    agreement: 1.0,
                });
            }
        }
    }
    rows
}
