//! The page.

use super::chart::{Chart, Series, sorted_bars};
use super::curves::curves;
use super::pictures::{Pictures, Thumbnail};
use super::text::{number, percent, thousands};
use super::{Story, facts, warnings};
use crate::run::{LogRecord, MonitorRecord};
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Rows of the table of the log.
const ROWS: usize = 40;

pub(super) fn page(story: &Story) -> Markup {
    let progress = &story.progress;
    let steps = progress.config.schedule.epochs * progress.steps_per_epoch;
    let epoch = progress.step as f64 / progress.steps_per_epoch as f64;
    let state = if progress.step >= steps { "finished" } else { "not finished" };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Pre-training report: epoch " (number(epoch)) " of " (progress.config.schedule.epochs) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body { main {
                h1 { "Pre-training report" }
                p class="soft wide" {
                    "Masked Siamese Networks, step " (thousands(progress.step)) " of " (thousands(steps)) ", epoch "
                    (number(epoch)) " of " (progress.config.schedule.epochs) " (" (state) "). Written " (facts::now()) "."
                }
                (findings(story))
                (run_facts(story))
                h2 { "Curves" }
                div class="charts" { @for chart in curves(story) { (chart.figure()) } }
                (log_table(&story.log))
                (accuracy(&story.monitor))
                (prototypes(story))
                (neighbours(story))
                h2 { "Configuration" }
                details { summary { "Every setting of this run" }
                    pre { (progress.config.to_toml().unwrap_or_else(|error| error.to_string())) }
                }
            } }
        }
    }
}

fn findings(story: &Story) -> Markup {
    let found = warnings::warnings(story);
    html! {
        h2 { "Warnings" }
        @if found.is_empty() {
            p class="note good" { "Nothing in the numbers shows trouble." }
        }
        @for warning in &found { p class="note" { (warning) } }
    }
}

/// What the configuration says, for people.
fn model_facts(story: &Story) -> Vec<(&'static str, String)> {
    let config = &story.progress.config;
    let counts = config.msn().parameter_counts();
    let model = &config.model;
    vec![
        (
            "Model",
            format!(
                "{} layers, width {}, {} attention heads, patches of {} pixels, images of {} pixels",
                model.num_hidden_layers,
                model.hidden_size,
                model.num_attention_heads,
                model.patch_size,
                config.views.random_size
            ),
        ),
        (
            "Parameters",
            format!(
                "{} in the trunk, {} in {}, {} in {} prototypes",
                thousands(counts.trunk),
                thousands(counts.head),
                if config.head.count == 1 {
                    "the head".to_owned()
                } else {
                    format!("{} heads", config.head.count)
                },
                thousands(counts.prototypes),
                config.head.count * config.loss.prototypes
            ),
        ),
        (
            "Views of an image",
            format!(
                "1 target, {} random of {} pixels with {} of the patches dropped, {} focal of {} pixels",
                config.views.random_views,
                config.views.random_size,
                percent(config.views.patch_drop),
                config.views.focal_views,
                config.views.focal_size
            ),
        ),
        (
            "Steps",
            format!(
                "{} images each, {} per epoch",
                thousands(images_per_step(story)),
                thousands(story.progress.steps_per_epoch)
            ),
        ),
    ]
}

/// As closely as the epochs tell: the last images of an epoch that fill no step are few.
fn images_per_step(story: &Story) -> usize {
    let config = &story.progress.config.optimisation;
    let of_one_rank = config.batch_size * config.accumulate;
    let ranks = story.progress.images / (story.progress.steps_per_epoch * of_one_rank).max(1);
    of_one_rank * ranks.max(1)
}

fn run_facts(story: &Story) -> Markup {
    let mut rows = model_facts(story);
    let mut images = vec![format!("{} images", thousands(story.progress.images))];
    if let Some(facts) = &story.facts {
        if facts.unreadable > 0 {
            images.push(format!("{} more cannot be read", thousands(facts.unreadable)));
        }
        let paths: Vec<String> = facts.data.iter().map(|path| path.display().to_string()).collect();
        images.push(format!("from {}", paths.join(", ")));
        rows.push((
            "Machine",
            format!("{}, {} threads, trained on {}", facts.machine, facts.processors, facts.device),
        ));
        if let Some(monitor) = &facts.monitor {
            rows.push(("Labelled images", monitor.display().to_string()));
        }
        rows.push(("Started or resumed", facts.started.clone()));
        rows.push(("Program", format!("dozen-train {}", facts.version)));
    }
    rows.insert(0, ("Data", images.join(", ")));
    html! {
        h2 { "The run" }
        div class="scroll" tabindex="0" { table class="facts" { tbody {
            @for (name, value) in rows { tr { th scope="row" { (name) } td { (value) } } }
        } } }
    }
}

/// The log in numbers: every nth line.
fn log_table(log: &[LogRecord]) -> Markup {
    type Column = (&'static str, fn(&LogRecord) -> f64);
    let columns: [Column; 14] = [
        ("step", |record| record.step as f64),
        ("epoch", |record| record.epoch),
        ("loss", |record| record.loss),
        ("agreement", |record| record.msn),
        ("mean entropy", |record| record.me_max),
        ("entropy", |record| record.entropy),
        ("prototypes", |record| record.distinct_prototypes as f64),
        ("confidence", |record| record.max_target),
        ("gradient", |record| record.gradient_norm),
        ("learning rate", |record| record.learning_rate),
        ("weight decay", |record| record.weight_decay),
        ("momentum", |record| record.momentum),
        ("images/s", |record| record.images_per_second),
        ("data wait", |record| record.data_wait),
    ];
    let rows = newest_and_every(log);
    html! {
        details { summary { "The curves in numbers" }
            div class="scroll" tabindex="0" { table class="numbers" {
                caption { (rows.len()) " of " (log.len()) " lines of the log" }
                thead { tr { @for (name, _) in &columns { th scope="col" { (name) } } } }
                tbody { @for record in rows { tr { @for (_, value) in &columns { td { (number(value(record))) } } } } }
            } }
        }
    }
}

/// At most [`ROWS`] records at equal distances, counted from the end, so that the newest is among them.
fn newest_and_every<T>(records: &[T]) -> Vec<&T> {
    let stride = records.len().div_ceil(ROWS).max(1);
    let mut rows: Vec<&T> = records.iter().rev().step_by(stride).collect();
    rows.reverse();
    rows
}

fn accuracy(monitor: &[MonitorRecord]) -> Markup {
    let Some(last) = monitor.last() else {
        return html! {
            h2 { "Few-shot accuracy" }
            p { "Not measured. Give " code { "dozen-train pretrain --monitor PATH" } " a folder of labelled images, one \
                 subfolder per class, to have 1- and 5-shot accuracy measured every "
                code { "run.monitor_epochs" } ". They may be few: six images of each of two classes are enough." }
        };
    };
    let kinds: Vec<(String, &str, usize)> = last
        .accuracies
        .iter()
        .map(|one| {
            let shots = if one.shots == 1 { "1 shot".to_owned() } else { format!("{} shots", one.shots) };
            (format!("{}, {shots}", one.head), one.head.as_str(), one.shots)
        })
        .collect();
    let find = |record: &MonitorRecord, head: &str, shots: usize| {
        record.accuracies.iter().find(|one| one.head == head && one.shots == shots).cloned()
    };
    let series = kinds.iter().map(|(name, head, shots)| {
        let accuracy =
            |record: &MonitorRecord| Some((record.epoch, 100.0 * find(record, head, *shots)?.accuracy));
        Series { name: name.clone(), points: monitor.iter().filter_map(accuracy).collect() }
    });
    let mut chart = Chart::new(
        "Accuracy in percent",
        format!(
            "Of the target encoder on {} images of {} classes that are told apart from 1 or 5 labelled images each; mean over \
             the classes and five draws.",
            thousands(last.images),
            last.classes
        ),
        series.collect(),
    );
    chart.references.push(("guessing".into(), 100.0 / last.classes as f64));
    let rows = newest_and_every(monitor);
    html! {
        h2 { "Few-shot accuracy" }
        div class="pair" { (chart.figure()) div class="scroll" tabindex="0" { table class="numbers" {
            caption { "Accuracy in percent, ± half the 95 % interval of the mean over the draws" }
            thead { tr { th scope="col" { "epoch" } @for (name, _, _) in &kinds { th scope="col" { (name) } } th scope="col" { "seconds" } } }
            tbody { @for record in rows { tr {
                td { (number(record.epoch)) }
                @for (_, head, shots) in &kinds {
                    td { @if let Some(one) = find(record, head, *shots) {
                        (format!("{:.1}", 100.0 * one.accuracy))
                        @if let Some(interval) = one.interval { (format!(" ± {:.1}", 100.0 * interval)) }
                    } }
                }
                td { (format!("{:.1}", record.seconds)) }
            } } }
        } } }
    }
}

fn missing(reason: &str) -> Markup {
    html! {
        p { "Not shown: " (reason) ". " code { "dozen-train report --run DIR --data PATH" } " makes this report again with \
             the images found at PATH." }
    }
}

fn prototypes(story: &Story) -> Markup {
    let body = match &story.pictures {
        Ok(pictures) => usage(pictures),
        Err(reason) => missing(reason),
    };
    html! { h2 { "Prototypes" } (body) }
}

fn usage(pictures: &Pictures) -> Markup {
    let (images, wins) = (pictures.images, &pictures.wins);
    let dead: Vec<String> = (0..wins.len())
        .filter(|&prototype| wins[prototype] == 0)
        .map(|prototype| prototype.to_string())
        .collect();
    // Each image has a nearest prototype in every head.
    let total: usize = wins.iter().sum();
    let largest = wins.iter().copied().max().unwrap_or_default();
    let shares = wins.iter().filter(|&&wins| wins > 0).map(|&wins| wins as f64 / total as f64);
    let effective = shares.map(|share| -share * share.ln()).sum::<f64>().exp();
    let even = total as f64 / wins.len() as f64;
    let used = wins.len() - dead.len();
    let description = format!(
        "Images per prototype, most used first: {used} of {} prototypes are nearest to at least one of {images} images, the \
         most used to {largest}.",
        wins.len()
    );
    html! {
        div class="pair" { figure {
            figcaption { "Images per prototype" small {
                "How many of " (thousands(images)) " training images, drawn at random, are nearest to each prototype. The dashed \
                 line is an even use."
            } }
            (sorted_bars(wins, even, &description))
        } div class="scroll" tabindex="0" { table class="facts" { tbody {
            tr { th scope="row" { "Prototypes" } td { (thousands(wins.len())) } }
            tr { th scope="row" { "In use" } td { (thousands(used)) " by these images" } }
            tr { th scope="row" { "Effective number" } td { (number(effective)) " (exponential of the entropy of their use)" } }
            tr { th scope="row" { "Most used" } td { (largest) " images, " (percent(largest as f64 / images as f64)) } }
            tr { th scope="row" { "Dead" } td { (thousands(dead.len())) " nearest to none of these images" } }
        } } } }
        @if !dead.is_empty() {
            details { summary { "Which are dead" } p class="soft" { (dead.join(", ")) } }
        }
    }
}

fn neighbours(story: &Story) -> Markup {
    let body = match &story.pictures {
        Ok(pictures) => html! {
            p { "In each row, an image and those of the sample that the target encoder finds most like it, with their cosine \
                 similarity. What the rows have in common is what it has learnt to see: things, one hopes, not colours." }
            @for sheet in &pictures.sheets {
                ul class="sheet" {
                    li { (thumbnail(&sheet.query)) (folder(&sheet.query)) }
                    @for (neighbour, similarity) in &sheet.neighbours {
                        li { (thumbnail(neighbour)) (format!("{similarity:.3}")) br; (folder(neighbour)) }
                    }
                }
            }
        },
        Err(reason) => missing(reason),
    };
    html! { h2 { "Nearest neighbours" } (body) }
}

fn thumbnail(picture: &Thumbnail) -> Markup {
    html! { img src=(picture.address) alt=(picture.name) title=(picture.name) width="80" height="80"; }
}

/// The folder that holds the picture, which is its class where there are class folders; else its own name.
fn folder(picture: &Thumbnail) -> &str {
    picture.name.rsplit('/').nth(1).unwrap_or(&picture.name)
}
