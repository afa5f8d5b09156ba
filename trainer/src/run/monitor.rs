//! Few-shot accuracy of the target encoder while it is being trained.
//!
//! The loss says little about what the encoder is good for; a labelled set that training does not learn from says it
//! directly. It must cost little: at most 2,000 images are taken, cropped once and kept, and their features are
//! those of the network in memory.

use crate::Error;
use crate::config::Config;
use crate::data::ImageSet;
use crate::data::order::{Purpose, keyed_rng};
use crate::evaluate::{Features, LowShotOptions, Protocol, Shots, low_shot};
use crate::msn::{Described, TargetEncoder};
use dozen_models::image::{Preprocessor, RgbImage};
use rand::seq::SliceRandom as _;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// Name of the file of [`MonitorRecord`]s in a run's folder.
pub const FILE: &str = "monitor.jsonl";

/// Images taken at most.
const MAX_IMAGES: usize = 2000;
/// Classes taken at most: more would leave too few queries of each.
const MAX_CLASSES: usize = 100;
/// Labelled images per class.
const SHOTS: [usize; 2] = [1, 5];
/// Random draws of the labelled images per number of shots.
const DRAWS: usize = 5;
/// λ of the logistic regression: the evaluation's default.
const L2: f64 = 0.0025;
/// Images described in one forward pass.
const BATCH: usize = 64;

/// A labelled set, ready to be described again and again.
#[derive(Debug)]
pub struct Monitor {
    preprocessor: Preprocessor,
    names: Vec<String>,
    labels: Vec<usize>,
    classes: Vec<String>,
    crops: Vec<RgbImage>,
    seed: u64,
}

/// One evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MonitorRecord {
    /// Steps taken.
    pub step: usize,
    /// Epochs passed, with the fraction.
    pub epoch: f64,
    /// Images evaluated, labelled and queries together.
    pub images: usize,
    /// Classes among them.
    pub classes: usize,
    /// What was found.
    pub accuracies: Vec<Accuracy>,
    /// How long it took.
    pub seconds: f64,
}

/// Class-balanced accuracy of one head with one number of labelled images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// `prototype` (nearest class mean) or `logistic` (regression).
    pub head: String,
    /// Labelled images per class.
    pub shots: usize,
    /// Mean over the draws, 0–1.
    pub accuracy: f64,
    /// Half the width of the 95 % interval of that mean.
    pub interval: Option<f64>,
}

impl Monitor {
    /// Takes equally many images of each class, drawn with the run's seed: of at most 100 classes, at most
    /// 2,000 in all. Classes with too few readable images are left out.
    ///
    /// # Errors
    /// Where the images cannot be found, or fewer than two classes are large enough.
    pub fn open(paths: &[PathBuf], config: &Config) -> Result<Self, Error> {
        let set = ImageSet::open_undecoded(paths, &config.data)?;
        let needed = SHOTS.iter().max().copied().unwrap_or_default() + 1;
        let mut by_class: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (position, item) in set.items().iter().enumerate() {
            by_class.entry(&item.label).or_default().push(position);
        }
        let mut drawn: Vec<(&str, Vec<usize>)> =
            by_class.into_iter().filter(|(_, positions)| positions.len() >= needed).collect();
        let mut rng = keyed_rng(config.run.seed, Purpose::Monitor, 0, 0, 0);
        drawn.shuffle(&mut rng);
        drawn.truncate(MAX_CLASSES);
        let per_class = MAX_IMAGES / drawn.len().max(1);
        let preprocessor = config.preprocessor();
        let mut monitor = Self {
            names: Vec::new(),
            labels: Vec::new(),
            classes: Vec::new(),
            crops: Vec::new(),
            seed: config.run.seed,
            preprocessor,
        };
        for (class, mut positions) in drawn {
            positions.shuffle(&mut rng);
            positions.truncate(per_class);
            let readable: Vec<(usize, RgbImage)> = positions
                .into_par_iter()
                .filter_map(|position| {
                    let image = set.image(position).ok()?;
                    Some((position, monitor.preprocessor.crop(&image)))
                })
                .collect();
            if readable.len() >= needed {
                let label = monitor.classes.len();
                monitor.classes.push(class.to_owned());
                for (position, crop) in readable {
                    monitor.names.push(set.items()[position].name.clone());
                    monitor.labels.push(label);
                    monitor.crops.push(crop);
                }
            }
        }
        if monitor.classes.len() < 2 {
            let reason =
                format!("--monitor needs two class folders or more with {needed} readable images each");
            return Err(Error::Evaluation(reason));
        }
        Ok(monitor)
    }

    /// Images that are evaluated.
    pub fn images(&self) -> usize {
        self.crops.len()
    }

    /// Classes among them.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Accuracy of the encoder as it is after `step` steps.
    pub(super) fn evaluate(
        &self,
        encoder: &TargetEncoder,
        step: usize,
        epoch: f64,
    ) -> Result<MonitorRecord, Error> {
        let started = Instant::now();
        let features = Features {
            names: self.names.clone(),
            labels: self.labels.clone(),
            classes: self.classes.clone(),
            vectors: describe_crops(encoder, &self.preprocessor, &self.crops)?.features,
        };
        let protocol =
            Protocol::Drawn { shots: SHOTS.map(Shots::PerClass).to_vec(), draws: DRAWS, seed: self.seed };
        let report = low_shot("target encoder", &features, &LowShotOptions { protocol, l2: vec![L2] })?;
        let accuracies = report.rows.iter().filter_map(|row| {
            let head = row.head.name().to_owned();
            let Some(Shots::PerClass(shots)) = row.shots else { return None };
            Some(Accuracy { head, shots, accuracy: row.accuracy, interval: row.interval })
        });
        Ok(MonitorRecord {
            step,
            epoch,
            images: self.images(),
            classes: self.classes(),
            accuracies: accuracies.collect(),
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}

/// Describes crops in batches of nearly equal size, so that none is too small for the head's BatchNorm.
pub(crate) fn describe_crops(
    encoder: &TargetEncoder,
    preprocessor: &Preprocessor,
    crops: &[RgbImage],
) -> Result<Described, Error> {
    let mut all = Described { features: Vec::new(), prototypes: Vec::new() };
    let batches = crops.len().div_ceil(BATCH);
    for batch in 0..batches {
        let part = &crops[batch * crops.len() / batches..(batch + 1) * crops.len() / batches];
        let size = preprocessor.crop_size() as usize;
        let mut described = encoder.describe(preprocessor.normalise(part), size)?;
        all.features.append(&mut described.features);
        all.prototypes.append(&mut described.prototypes);
    }
    Ok(all)
}
