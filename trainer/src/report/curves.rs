//! The curves of a run: what is drawn, with what one should see in it.

use super::Story;
use super::chart::{Chart, Series};
use super::text::number;
use crate::run::LogRecord;

/// All charts of the log, the most telling first.
pub(super) fn curves(story: &Story) -> Vec<Chart> {
    let mut charts = Vec::from(losses(story));
    charts.extend(targets(story));
    charts.push(gradients(story));
    charts.extend(speed(story));
    charts.extend(schedules(story));
    charts
}

fn series(story: &Story, name: &str, value: fn(&LogRecord) -> f64) -> Series {
    let points = story.log.iter().map(|record| (record.epoch, value(record))).collect();
    Series { name: name.to_owned(), points }
}

fn losses(story: &Story) -> [Chart; 2] {
    let log_k = (story.progress.config.loss.prototypes as f64).ln();
    let mut loss = Chart::new(
        "Loss",
        "Agreement is the cross-entropy between targets and predictions; it cannot fall below the targets' own entropy.",
        vec![
            series(story, "total", |record| record.loss),
            series(story, "agreement", |record| record.msn),
            series(story, "entropy of single predictions", |record| record.entropy),
        ],
    );
    if story.progress.config.loss.koleo_weight > 0.0 {
        loss.series.push(series(story, "Kozachenko–Leonenko term", |record| record.koleo));
    }
    let mut spread = Chart::new(
        "Mean-entropy term",
        format!("0: all prototypes are used alike; log K = {}: one takes all.", number(log_k)),
        vec![series(story, "mean-entropy term", |record| record.me_max)],
    );
    spread.include = vec![0.0];
    [loss, spread]
}

fn targets(story: &Story) -> [Chart; 2] {
    let config = &story.progress.config;
    let mut confidence = Chart::new(
        "Confidence of the targets",
        "Mean of their largest probability. Healthy runs rise from 1/K towards 1.",
        vec![series(story, "largest probability", |record| record.max_target)],
    );
    confidence.references.push(("1/K".into(), 1.0 / config.loss.prototypes as f64));
    confidence.include = vec![0.0, 1.0];
    let mut distinct = Chart::new(
        "Distinct prototypes",
        "Different prototypes among the targets of one batch. Near 1, the run has collapsed.",
        vec![series(story, "distinct prototypes", |record| record.distinct_prototypes as f64)],
    );
    distinct.references.push(("most possible".into(), config.distinct_prototypes() as f64));
    distinct.include = vec![0.0];
    [confidence, distinct]
}

fn gradients(story: &Story) -> Chart {
    let mut gradients = Chart::new(
        "Gradient norms",
        "Before clipping; a first block far below the last learns nothing.",
        vec![
            series(story, "encoder", |record| record.gradient_norm),
            series(story, "first block, qkv", |record| record.first_qkv_gradient_norm),
            series(story, "last block, qkv", |record| record.last_qkv_gradient_norm),
        ],
    );
    gradients.logarithmic = true;
    let limit = story.progress.config.optimisation.clip_gradient;
    if limit > 0.0 {
        gradients.references.push(("clipped above".into(), limit));
    }
    gradients
}

fn speed(story: &Story) -> [Chart; 2] {
    let mut speed = Chart::new(
        "Speed",
        "Images per second, without checkpoints and evaluations.",
        vec![series(story, "images per second", |record| record.images_per_second)],
    );
    speed.include = vec![0.0];
    let mut wait = Chart::new(
        "Waiting for data",
        "Share of the time, in percent.",
        vec![series(story, "waiting", |record| 100.0 * record.data_wait)],
    );
    wait.references.push(("too much above".into(), 5.0));
    wait.include = vec![0.0];
    [speed, wait]
}

fn schedules(story: &Story) -> [Chart; 3] {
    let chart = |title, note: &str, name, value| Chart::new(title, note, vec![series(story, name, value)]);
    [
        chart("Learning rate", "Linear warm-up, then half a cosine.", "learning rate", |record| {
            record.learning_rate
        }),
        chart("Weight decay", "Half a cosine.", "weight decay", |record| record.weight_decay),
        chart("Momentum", "How slowly the target encoder follows; linear.", "momentum", |record| {
            record.momentum
        }),
    ]
}
