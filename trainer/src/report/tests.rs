//! Reports of runs written by hand.

use super::warnings::warnings;
use super::*;
use crate::config::Config;
use crate::run::Accuracy;

/// A run of the shipped configuration (64 prototypes, batches of 128, gradients clipped at 3) that goes well.
fn story() -> Story {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/shipped-cpu.toml");
    let config = Config::read(&path, &[]).unwrap();
    let log = (1..=100).map(healthy).collect();
    Story {
        progress: Progress::new(2000, 300, 38_400, config),
        facts: None,
        log,
        monitor: vec![evaluation(0, 0.30), evaluation(1000, 0.40), evaluation(2000, 0.45)],
        pictures: Err("the images are on another machine".into()),
    }
}

fn healthy(line: usize) -> LogRecord {
    let progress = line as f64 / 100.0;
    LogRecord {
        step: 20 * line,
        epoch: 20.0 * line as f64 / 300.0,
        learning_rate: 1e-3,
        weight_decay: 0.04,
        momentum: 0.99,
        loss: 4.1 - progress,
        msn: 4.0 - progress,
        me_max: 0.1,
        entropy: 3.0,
        koleo: 0.0,
        distinct_prototypes: 50,
        max_target: 0.3 + 0.5 * progress,
        gradient_norm: 1.5,
        first_qkv_gradient_norm: 0.2,
        last_qkv_gradient_norm: 0.3,
        images_per_second: 400.0,
        data_wait: 0.01,
    }
}

fn evaluation(step: usize, accuracy: f64) -> MonitorRecord {
    let one =
        |head: &str, shots, accuracy| Accuracy { head: head.into(), shots, accuracy, interval: Some(0.02) };
    MonitorRecord {
        step,
        epoch: step as f64 / 300.0,
        images: 2000,
        classes: 10,
        accuracies: vec![one("logistic", 1, 0.6 * accuracy), one("logistic", 5, accuracy)],
        seconds: 2.0,
    }
}

#[test]
fn a_healthy_run_has_no_warnings() {
    assert_eq!(warnings(&story()), Vec::<String>::new());
}

#[test]
fn each_kind_of_trouble_is_named() {
    type Trouble = fn(&mut LogRecord);
    let troubles: [(&str, Trouble); 6] = [
        ("one prototype", |record| record.me_max = 4.0),
        ("one prototype", |record| record.distinct_prototypes = 1),
        ("uniform targets", |record| (record.max_target, record.msn) = (0.017, 4.15)),
        ("Few prototypes", |record| record.distinct_prototypes = 5),
        ("clipped most of the time", |record| record.gradient_norm = 3.1),
        ("waits for data 20.0 %", |record| record.data_wait = 0.2),
    ];
    for (words, trouble) in troubles {
        let mut story = story();
        story.log.iter_mut().for_each(trouble);
        let found = warnings(&story);
        assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:?}");
    }
}

#[test]
fn trouble_that_passed_is_not_a_warning_and_two_lines_prove_nothing() {
    let mut story = story();
    for record in &mut story.log[..40] {
        (record.distinct_prototypes, record.data_wait, record.gradient_norm) = (1, 0.9, 100.0);
    }
    assert_eq!(warnings(&story), Vec::<String>::new());
    story.log.truncate(2);
    assert_eq!(warnings(&story), Vec::<String>::new());
}

#[test]
fn falling_accuracy_and_one_below_the_untrained_network_are_named() {
    let mut story = story();
    story.monitor.push(evaluation(2500, 0.38));
    let found = warnings(&story);
    assert!(found.len() == 1 && found[0].contains("falling: 38.0 %"), "{found:?}");
    assert!(found[0].contains("45.0 % ± 2.0 % at epoch 6.7"), "{found:?}");
    story.monitor = vec![evaluation(0, 0.30), evaluation(1000, 0.25)];
    let found = warnings(&story);
    assert!(found.iter().any(|warning| warning.contains("25.0 % now, 30.0 % untrained")), "{found:?}");
    // Within the intervals, a fall is no news.
    story.monitor = vec![evaluation(0, 0.30), evaluation(1000, 0.45), evaluation(2000, 0.42)];
    assert_eq!(warnings(&story), Vec::<String>::new());
}

#[test]
fn dead_prototypes_are_named_where_the_sample_is_large_enough() {
    let mut story = story();
    let mut wins = vec![0; 64];
    wins[..20].fill(10);
    let looked_at =
        |images: usize, wins: &[usize]| Ok(Pictures { images, wins: wins.to_vec(), sheets: Vec::new() });
    story.pictures = looked_at(200, &wins);
    assert!(warnings(&story)[0].starts_with("44 of 64 prototypes"));
    story.pictures = looked_at(100, &wins);
    assert_eq!(warnings(&story), Vec::<String>::new());
}

/// The elements of a page, as (name, attributes), after checking that they nest.
fn elements(page: &str) -> Vec<(String, String)> {
    const VOID: [&str; 4] = ["meta", "img", "br", "!DOCTYPE"];
    let (mut open, mut found) = (Vec::new(), Vec::new());
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap();
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        if !VOID.contains(&name) {
            open.push(name.to_owned());
        }
        found.push((name.to_owned(), attributes.to_owned()));
    }
    assert!(open.is_empty(), "{open:?} stay open");
    found
}

#[test]
fn the_page_is_whole_self_contained_and_described() {
    let mut story = story();
    story.facts = Some(RunFacts::gather(&["photos <2024> & more".into()], None, (38_400, 3), "cpu"));
    let page = page::page(&story).into_string();
    let elements = elements(&page);
    let named = |name: &str| elements.iter().filter(|element| element.0 == name).collect::<Vec<_>>();
    assert_eq!(named("h1").len(), 1);
    assert!(named("h2").len() >= 6);
    let charts: Vec<_> = named("svg").into_iter().filter(|svg| svg.1.contains("role=\"img\"")).collect();
    assert_eq!(charts.len(), 11);
    assert!(charts.iter().all(|svg| svg.1.contains("aria-label=\"")));
    for words in [
        "agreement: from 3.99 at epoch 0.06667 to 3 at epoch 6.667.",
        "Distinct prototypes over the epochs",
        "logistic, 5 shots: from 30 at epoch 0 to 45 at epoch 6.667.",
        "Nothing in the numbers shows trouble.",
        "38,400 images, 3 more cannot be read, from ",
        "photos &lt;2024&gt; &amp; more",
        "the images are on another machine",
        "34 of 100 lines",
        "45.0 ± 2.0",
    ] {
        assert!(page.contains(words), "{words} is missing");
    }
    // Nothing is fetched and nothing runs.
    assert!(named("script").is_empty() && named("link").is_empty());
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("url("));
    assert!(page.contains("prefers-color-scheme: dark"));
}

#[test]
fn a_run_without_records_has_a_page_too() {
    let mut story = story();
    (story.log, story.monitor) = (Vec::new(), Vec::new());
    let page = page::page(&story).into_string();
    elements(&page);
    assert!(page.contains("No numbers yet.") && page.contains("--monitor PATH"));
}
