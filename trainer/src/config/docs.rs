//! `docs/configuration.md`, written from the table of keys.

use super::key::Key;
use super::keys::KEYS;
use std::fmt::Write as _;
use toml::Table;

/// The file whose values the page gives as defaults.
const DEFAULTS: &str = include_str!("../../configs/default.toml");

/// What each section is about.
const SECTIONS: &[(&str, &str)] = &[
    ("data", "How pictures are read and held."),
    (
        "views",
        "What the network sees of a picture: a target view, large random anchors, small focal anchors.",
    ),
    ("views.distortion", "How views are distorted, all in the same way."),
    ("model", "The Vision Transformer, in the words of Hugging Face's `config.json`."),
    ("head", "The projection heads, which are thrown away after training."),
    ("loss", "Prototypes and the terms of the loss."),
    ("optimisation", "AdamW, its schedules, and the target's moving average."),
    ("schedule", "Length and shape of the schedules."),
    ("run", "Seed, checkpoints, log, evaluation."),
];

/// The page, as `dozen-train config docs` prints it.
pub fn documentation() -> String {
    let mut page = String::from(
        "<!-- Written by `cargo run -p dozen-trainer -- config docs > docs/configuration.md`; a test compares them. -->\n\n\
         # Configuration of a pre-training run\n\n\
         One TOML file per experiment. Every key is required and no other is allowed, so that a file says everything about \
         its run; `dozen-train pretrain --set section.key=value` overrides one. The defaults are those of \
         [`trainer/configs/default.toml`](../trainer/configs/default.toml), a starting point for one GPU. Sections, tables and \
         appendices are those of the paper (arXiv 2204.07141) where nothing else is named; \"paper's code\" is what its authors \
         published with it.\n",
    );
    for (section, about) in SECTIONS {
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "\n## `[{section}]`\n\n{about}\n\n| key | allowed | default | what it does |\n|---|---|---|---|\n"
        );
        for key in KEYS.iter().filter(|key| section_of(key) == *section) {
            page.push_str(&row(key));
        }
    }
    page
}

fn section_of(key: &Key) -> &'static str {
    key.path.rsplit_once('.').map_or("", |(section, _)| section)
}

fn row(key: &Key) -> String {
    let name = key.path.rsplit_once('.').map_or(key.path, |(_, name)| name);
    let source = key.source.map_or_else(String::new, |source| format!(" ({source})"));
    format!("| `{name}` | {} | `{}` | {}{source} |\n", key.allowed(), default_of(key.path), key.about)
}

/// The value in the default configuration, as TOML.
pub(super) fn default_of(path: &str) -> String {
    let table: Table = DEFAULTS.parse().unwrap_or_default();
    let mut parts = path.split('.');
    let first = parts.next().and_then(|section| table.get(section));
    let value = parts.try_fold(first, |inner, part| Some(inner?.get(part))).flatten();
    value.map_or_else(|| "none".to_owned(), ToString::to_string)
}
