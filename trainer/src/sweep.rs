//! Several experiments that differ in a few keys, trained and evaluated one after the other.

use crate::Error;
use crate::config::Config;
use crate::data::ImageSet;
use crate::evaluate::{LowShotOptions, LowShotReport, ModelSource, Protocol, Shots, low_shot};
use crate::run::checkpoint::FILE;
use crate::run::{Event, Outcome, RunOptions, Start, checkpoint, pretrain};
use candle_core::Device;
use dozen_models::DeviceChoice;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A sweep file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Configuration every variant starts from; relative to the sweep file.
    config: PathBuf,
    /// What all variants change in it, as `section.key=value`.
    #[serde(default)]
    overrides: Vec<String>,
    /// Labelled images per class, or shares such as `1%`.
    shots: Vec<String>,
    /// Random draws of them.
    draws: usize,
    /// Seed of the draws.
    seed: u64,
    /// λ of the logistic regression, a column each.
    l2: Vec<f64>,
    /// The variants.
    #[serde(rename = "variant")]
    variants: Vec<Variant>,
}

/// One experiment.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Variant {
    /// Its name, and that of its folder.
    name: String,
    /// What it changes, as `section.key=value`.
    overrides: Vec<String>,
}

/// What a variant reached.
#[derive(Debug, Serialize)]
pub struct VariantResult {
    /// Its name.
    pub name: String,
    /// What it changed.
    pub overrides: Vec<String>,
    /// Its low-shot evaluation.
    pub report: serde_json::Value,
}

/// Name of a variant's result in its folder.
const RESULT: &str = "result.json";

impl Sweep {
    /// Reads a file and checks every variant's configuration.
    pub fn read(path: &Path) -> Result<(Self, Vec<Config>), Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let refuse = |reason: String| Error::Config { file: path.display().to_string(), reason };
        let sweep: Self = toml::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        let base = path.parent().unwrap_or(Path::new("")).join(&sweep.config);
        let mut configs = Vec::with_capacity(sweep.variants.len());
        for variant in &sweep.variants {
            let is_folder_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if variant.name.is_empty()
                || variant.name.starts_with('.')
                || !variant.name.chars().all(is_folder_name)
            {
                let reason = format!("variant `{}`: names are folders: letters, digits, - _ .", variant.name);
                return Err(refuse(reason));
            }
            let overrides = [&sweep.overrides[..], &variant.overrides].concat();
            configs.push(Config::read(&base, &overrides)?);
        }
        sweep.protocol()?;
        Ok((sweep, configs))
    }

    /// Names of the variants, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variants.iter().map(|variant| variant.name.as_str())
    }

    fn protocol(&self) -> Result<Protocol, Error> {
        let shots = self.shots.iter().map(|text| text.parse::<Shots>()).collect::<Result<_, _>>();
        let shots = shots.map_err(|reason| Error::Config { file: "shots".into(), reason })?;
        Ok(Protocol::Drawn { shots, draws: self.draws, seed: self.seed })
    }
}

/// Trains variant number `number` in a folder below `out`, or goes on where it was left, and evaluates it on `labelled`.
/// `None` where it was stopped. A variant that has its result already is not run again.
pub fn run_variant(
    (sweep, configs): &(Sweep, Vec<Config>),
    number: usize,
    out: &Path,
    [set, labelled]: [&Arc<ImageSet>; 2],
    device: &Device,
    options: &RunOptions,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Option<VariantResult>, Error> {
    let (variant, config) = (&sweep.variants[number], &configs[number]);
    let dir = out.join(&variant.name);
    let result =
        |report| VariantResult { name: variant.name.clone(), overrides: variant.overrides.clone(), report };
    let path = dir.join(RESULT);
    let io = |source| Error::Io { path: path.clone(), source };
    if path.exists() {
        let text = std::fs::read_to_string(&path).map_err(io)?;
        let report = serde_json::from_str(&text).map_err(|error| Error::checkpoint(&path, &error))?;
        return Ok(Some(result(report)));
    }
    let start = if checkpoint::exists_in(&dir) { Start::Resume } else { Start::Fresh };
    let options = RunOptions { out: dir.clone(), start, ..options.clone() };
    if pretrain(config, set, device, &options, observe)? != Outcome::Finished {
        return Ok(None);
    }
    let report = evaluate(sweep, &dir, labelled)?;
    let text = serde_json::to_string_pretty(&report).map_err(|error| Error::checkpoint(&path, &error))?;
    std::fs::write(&path, text + "\n").map_err(io)?;
    let report = serde_json::to_value(&report).map_err(|error| Error::checkpoint(&path, &error))?;
    Ok(Some(result(report)))
}

fn evaluate(sweep: &Sweep, dir: &Path, labelled: &ImageSet) -> Result<LowShotReport, Error> {
    let source = ModelSource::Checkpoint(dir.join(FILE)).load(DeviceChoice::Auto)?;
    let (features, _) = source.embed(labelled, |_| ())?;
    let options = LowShotOptions { protocol: sweep.protocol()?, l2: sweep.l2.clone() };
    low_shot(&source.name(), &features, &options)
}

/// All results as one table in Markdown, accuracies in percent.
pub fn to_markdown(results: &[VariantResult]) -> String {
    let mut columns: Vec<(String, String)> = Vec::new();
    let cell = |row: &serde_json::Value| {
        let text = |key: &str| row[key].to_string().trim_matches('"').to_owned();
        let head = match row["l2"].as_f64() {
            Some(l2) => format!("{}, λ = {l2}", text("head")),
            None => text("head"),
        };
        (head, text("shots"))
    };
    let rows = |result: &VariantResult| result.report["rows"].as_array().cloned().unwrap_or_default();
    for row in results.iter().flat_map(rows) {
        if !columns.contains(&cell(&row)) {
            columns.push(cell(&row));
        }
    }
    let mut text = String::from("| variant | changes |");
    for (head, shots) in &columns {
        let _ = write!(text, " {head}, {shots} |");
    }
    let _ = writeln!(text, "\n|---|---|{}", "---|".repeat(columns.len()));
    for result in results {
        let changes = result.overrides.join(", ");
        let _ = write!(text, "| {} | {} |", result.name, if changes.is_empty() { "–" } else { &changes });
        for column in &columns {
            let found = rows(result).into_iter().find(|row| cell(row) == *column);
            let number = |key: &str| found.as_ref().and_then(|row| row[key].as_f64());
            // Writing to a string cannot fail.
            let _ = match (number("accuracy"), number("interval")) {
                (Some(accuracy), Some(half)) => {
                    write!(text, " {:.1} ± {:.1} |", 100.0 * accuracy, 100.0 * half)
                }
                (Some(accuracy), None) => write!(text, " {:.1} |", 100.0 * accuracy),
                (None, _) => write!(text, " |"),
            };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_sweeps_are_sound() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
        let (sweep, configs) = Sweep::read(&folder.join("ablations.toml")).unwrap();
        assert_eq!(sweep.names().count(), configs.len());
        let named = |name: &str| &configs[sweep.names().position(|one| one == name).unwrap()];
        assert_eq!((named("random-only").views.focal_views, named("focal-only").views.random_views), (0, 0));
        assert!(named("no-masks").views.patch_drop.abs() < 1e-12);
        assert!(!named("no-sinkhorn-5").loss.sinkhorn && named("sinkhorn-1").loss.sinkhorn);
        let (sweep, configs) = Sweep::read(&folder.join("shipped-sweep.toml")).unwrap();
        let chosen = sweep.names().position(|one| one == "koleo-0.1").unwrap();
        let shipped =
            Config::read(&folder.join("shipped-cpu.toml"), &["schedule.epochs=2".to_owned()]).unwrap();
        assert_eq!(configs[chosen], shipped, "the weights are trained by the recipe that was chosen");
    }

    #[test]
    fn mistakes_name_the_variant_or_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/shipped-cpu.toml");
        let read = |variants: &str| {
            let path = dir.path().join("sweep.toml");
            let text =
                format!("config = {base:?}\nshots = [\"5\"]\ndraws = 2\nseed = 0\nl2 = [0.0025]\n{variants}");
            std::fs::write(&path, text).unwrap();
            Sweep::read(&path).err().unwrap().to_string()
        };
        let message = read("[[variant]]\nname = \"../x\"\noverrides = []");
        assert!(message.contains("`../x`"), "{message}");
        let message = read("[[variant]]\nname = \"x\"\noverrides = [\"loss.lamda=1\"]");
        assert!(message.contains("lamda"), "{message}");
    }

    #[test]
    fn the_table_has_a_column_for_each_head_and_number_of_shots() {
        let report = |accuracy: f64| serde_json::json!({"rows": [{"head": "logistic", "l2": 0.3, "shots": 5, "accuracy": accuracy, "interval": 0.01}]});
        let result = |name: &str, accuracy| VariantResult {
            name: name.into(),
            overrides: vec!["loss.memax_weight=5.0".into()],
            report: report(accuracy),
        };
        let table = to_markdown(&[result("a", 0.123), result("b", 0.2)]);
        assert!(table.contains("| variant | changes | logistic, λ = 0.3, 5 |"), "{table}");
        assert!(table.contains("| a | loss.memax_weight=5.0 | 12.3 ± 1.0 |"), "{table}");
    }
}
