//! What the demo tells its user.
#![expect(clippy::print_stdout, reason = "the demo's product is what it prints")]

use super::ClassOutcome;
use super::client::Prediction;
use std::path::Path;

/// Answers shown in full per class.
const SHOWN: usize = 1;

/// One line of progress.
pub(super) fn say(line: &str) {
    println!("{line}");
}

/// The table, a few answers with their evidence, and what to try next.
pub(super) fn print(outcomes: &[ClassOutcome], folder: Option<&Path>) {
    println!();
    println!("{:<16} {:>8} {:>10} {:>12} {:>12}", "class", "labelled", "classified", "prototype", "trained");
    for outcome in outcomes {
        println!(
            "{:<16} {:>8} {:>10} {:>12} {:>12}",
            outcome.class,
            outcome.labelled,
            outcome.names.len(),
            percent(accuracy(&outcome.class, &outcome.prototype)),
            percent(accuracy(&outcome.class, &outcome.trained)),
        );
    }
    let mean = |of: fn(&ClassOutcome) -> &Vec<Prediction>| {
        let sum: f64 = outcomes.iter().map(|outcome| accuracy(&outcome.class, of(outcome))).sum();
        sum / outcomes.len() as f64
    };
    let (prototype, trained) = (mean(|outcome| &outcome.prototype), mean(|outcome| &outcome.trained));
    println!(
        "{:<16} {:>8} {:>10} {:>12} {:>12}",
        "mean accuracy",
        "",
        "",
        percent(prototype),
        percent(trained)
    );
    println!("{:<16} {:>8} {:>10} {:>12}", "by chance", "", "", percent(1.0 / outcomes.len() as f64));
    println!("\nSome answers:");
    for outcome in outcomes {
        for (name, prediction) in outcome.names.iter().zip(&outcome.trained).take(SHOWN) {
            println!("  {name}: {}", explain(prediction));
        }
    }
    println!("\nNext:");
    if folder.is_none() {
        println!("  Your own pictures, one subfolder per class:  cargo run --release -- demo --images DIR");
    }
    println!("  A stronger encoder (any ViTMSNModel folder): cargo run --release -- demo --model DIR");
    println!("  Keep a server running:                       cargo run --release");
}

fn explain(prediction: &Prediction) -> String {
    let evidence = prediction.nearest.as_ref().map_or_else(String::new, |(label, similarity)| {
        format!("; nearest labelled photo: {label} (cosine {similarity:.2})")
    });
    let label = prediction.label.as_deref().unwrap_or("unknown, unlike the labelled photos; best guess");
    format!("{label} with probability {:.2}{evidence}", prediction.probability)
}

fn accuracy(class: &str, predictions: &[Prediction]) -> f64 {
    let right = predictions.iter().filter(|prediction| prediction.label.as_deref() == Some(class)).count();
    right as f64 / predictions.len().max(1) as f64
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
