//! Finding what is wrong with a configuration, and saying it so that it can be put right.

use super::Config;
use super::key::{Key, Kind};
use super::keys::KEYS;
use toml::{Table, Value};

/// Below this likeness, a known key is no suggestion for an unknown one.
const ALIKE: f64 = 0.5;

/// Checks a table key by key: none unknown, none missing, every value of its type and within its bounds.
pub(super) fn check_table(table: &Table) -> Result<(), String> {
    let mut leaves = Vec::new();
    collect("", table, &mut leaves);
    for (path, value) in &leaves {
        let key = KEYS.iter().find(|key| key.path == path).ok_or_else(|| unknown(path))?;
        check_value(key, value)?;
    }
    match KEYS.iter().find(|key| !leaves.iter().any(|(path, _)| path == key.path)) {
        Some(key) => {
            let example = super::docs::default_of(key.path);
            Err(format!("{} is missing; configs/default.toml has {example}", key.path))
        }
        None => Ok(()),
    }
}

fn collect<'a>(prefix: &str, table: &'a Table, leaves: &mut Vec<(String, &'a Value)>) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        // A table where a key is expected is a wrong value, not a section.
        match value.as_table().filter(|_| !KEYS.iter().any(|key| key.path == path)) {
            Some(section) => collect(&path, section, leaves),
            None => leaves.push((path, value)),
        }
    }
}

/// What to say of a key that does not exist.
pub(super) fn unknown(path: &str) -> String {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let place = if section.is_empty() { "outside any section".to_owned() } else { format!("in [{section}]") };
    let name_of = |path: &'static str| path.rsplit_once('.').map_or(path, |(_, name)| name);
    // A right name in the wrong section is as near as a slip of the pen in the right one.
    let likeness = |key: &Key| {
        let whole = strsim::normalized_damerau_levenshtein(path, key.path);
        whole.max(0.95 * strsim::normalized_damerau_levenshtein(name, name_of(key.path)))
    };
    let nearest = KEYS.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let suggestion = nearest.filter(|key| likeness(key) >= ALIKE);
    let suggestion = suggestion.map_or_else(String::new, |key| format!("; did you mean {}?", key.path));
    format!("there is no key `{name}` {place}{suggestion}")
}

fn check_value(key: &Key, value: &Value) -> Result<(), String> {
    let number = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
    let fits = match key.kind {
        Kind::Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        Kind::Flag => value.is_bool(),
        Kind::Count => value.as_integer().is_some_and(|whole| key.bounds.allow(whole as f64)),
        Kind::Number => number(value).is_some_and(|number| key.bounds.allow(number)),
        Kind::Pair => match value.as_array().map(Vec::as_slice) {
            Some([low, high]) => match (number(low), number(high)) {
                (Some(low), Some(high)) => key.bounds.allow(low) && key.bounds.allow(high) && low <= high,
                _ => false,
            },
            _ => false,
        },
    };
    if fits {
        return Ok(());
    }
    Err(format!("{} = {value}: must be {}", key.path, key.allowed()))
}

/// Checks what keys must be to each other.
pub(super) fn check_together(config: &Config) -> Result<(), String> {
    let (views, model) = (&config.views, &config.model);
    let (epochs, warmup) = (config.schedule.epochs, config.optimisation.warmup_epochs);
    let patch = model.patch_size;
    let rules = [
        (
            views.random_views + views.focal_views > 0,
            "views.random_views = 0 and views.focal_views = 0: at least one anchor is needed".to_owned(),
        ),
        (
            views.random_size.is_multiple_of(patch),
            format!(
                "views.random_size = {}: must be a multiple of model.patch_size = {patch}",
                views.random_size
            ),
        ),
        (
            views.focal_views == 0 || views.focal_size >= patch,
            format!("views.focal_size = {}: must be at least model.patch_size = {patch}", views.focal_size),
        ),
        (
            model.hidden_size.is_multiple_of(model.num_attention_heads),
            format!(
                "model.hidden_size = {}: must be a multiple of model.num_attention_heads = {}",
                model.hidden_size, model.num_attention_heads
            ),
        ),
        (
            config.loss.prior_exponent == 0.0 || !config.loss.sinkhorn,
            format!(
                "loss.prior_exponent = {}: needs loss.sinkhorn = false, which would enforce the uniform prior",
                config.loss.prior_exponent
            ),
        ),
        (
            config.loss.temperature_epochs <= epochs as f64,
            format!(
                "loss.temperature_epochs = {}: must be at most schedule.epochs = {epochs}",
                config.loss.temperature_epochs
            ),
        ),
        (
            warmup <= epochs as f64,
            format!("optimisation.warmup_epochs = {warmup}: must be at most schedule.epochs = {epochs}"),
        ),
    ];
    rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, reason)| Err(reason))
}
