//! Fine-tuning: the whole network trained on labelled images, with the recipe of arXiv 2204.07141, appendix A.4 and A.5.

mod classifier;
mod mix;

use super::report::{Report, ReportRow};
use crate::Error;
use crate::data::ImageSet;
use crate::data::order::{Purpose, keyed_rng};
use crate::msn::branch_scales;
use crate::views::{ViewRenderer, randaugment};
use candle_core::{D, Device, Tensor};
use classifier::Classifier;
use dozen_models::ModelFiles;
use dozen_models::checkpoint::{ModelConfig, load_safetensors};
use dozen_models::image::{Preprocessor, RgbImage};
use dozen_models::vit::reference::ForwardOptions;
use mix::Batch;
use rand::seq::SliceRandom as _;
use rayon::prelude::*;
use std::f64::consts::PI;

/// The recipe.
#[derive(Clone, Copy, Debug)]
pub struct FinetuneOptions {
    /// Passes over the training images.
    pub epochs: usize,
    /// Of these, linear warm-up.
    pub warmup_epochs: f64,
    /// Images per step; fewer where there are fewer.
    pub batch_size: usize,
    /// Learning rate of the last layer after the warm-up, for 256 images per step; it grows with the batch.
    pub learning_rate: f64,
    /// Factor of the rate from each layer to the one before it.
    pub layer_decay: f64,
    /// Of the weights of linear maps.
    pub weight_decay: f64,
    /// How often the last block's branches are left out.
    pub drop_path: f64,
    /// α of mixup, at most 1; 0 turns it off.
    pub mixup: f64,
    /// α of cutmix, at most 1; 0 turns it off.
    pub cutmix: f64,
    /// Share of the uniform distribution in the targets.
    pub label_smoothing: f64,
    /// RandAugment on top of crop and flip.
    pub randaugment: bool,
    /// Seed of everything random.
    pub seed: u64,
}

impl FinetuneOptions {
    /// The paper's for transfer (A.5), with a rate and a length for thousands of images instead of millions.
    pub const RECIPE: Self = Self {
        epochs: 30,
        warmup_epochs: 5.0,
        batch_size: 64,
        learning_rate: 1e-3,
        layer_decay: 0.65,
        weight_decay: 0.05,
        drop_path: 0.1,
        mixup: 0.8,
        cutmix: 1.0,
        label_smoothing: 0.1,
        randaugment: true,
        seed: 0,
    };
}

/// Range of a training crop's share of the area.
const CROP_AREA: (f64, f64) = (0.08, 1.0);
/// Images classified in one call.
const QUERIES: usize = 64;

/// Images with the numbers of their classes.
struct Labelled<'a> {
    set: &'a ImageSet,
    /// Of those that can be read, position in the set.
    positions: Vec<usize>,
    labels: Vec<usize>,
    preprocessor: &'a Preprocessor,
}

/// Trains on `train` and classifies `queries`; `progress` is told every epoch's number and mean loss.
pub fn finetune(
    files: &ModelFiles<'_>,
    [train, queries]: [&ImageSet; 2],
    options: &FinetuneOptions,
    device: &Device,
    progress: &mut dyn FnMut(usize, f64),
) -> Result<Report, Error> {
    let config = ModelConfig::from_json(&files.config)?;
    let preprocessor = Preprocessor::from_json(&files.preprocessor)?;
    let parameters = load_safetensors(&files.weights, &Device::Cpu)?;
    let classes = classes(train)?;
    let train = Labelled::new(train, &classes, &preprocessor)?;
    let queries = Labelled::new(queries, &classes, &preprocessor)?;
    let mut rng = keyed_rng(options.seed, Purpose::Probe, u64::MAX, 0, 0);
    let decay = (options.layer_decay, options.weight_decay);
    let mut classifier = Classifier::new(&config, &parameters, classes.len(), decay, device, &mut rng)?;

    let batch_size = options.batch_size.clamp(1, train.labels.len());
    let steps_per_epoch = train.labels.len() / batch_size;
    let peak = options.learning_rate * batch_size as f64 / 256.0;
    let warmup = options.warmup_epochs * steps_per_epoch as f64;
    let steps = (options.epochs * steps_per_epoch) as f64;
    for epoch in 0..options.epochs {
        let mut order: Vec<usize> = (0..train.labels.len()).collect();
        order.shuffle(&mut keyed_rng(options.seed, Purpose::Probe, epoch as u64, 0, 0));
        let mut sum = 0.0;
        for (number, positions) in order.chunks_exact(batch_size).enumerate() {
            let step = epoch * steps_per_epoch + number;
            let batch = train.batch(positions, classes.len(), epoch, step, options)?;
            sum += train_step(
                &mut classifier,
                batch,
                rate(step as f64, warmup, steps, peak),
                step,
                &config,
                options,
                device,
            )?;
        }
        progress(epoch + 1, sum / steps_per_epoch as f64);
    }
    let right = queries.right_answers(&classifier, device)?;
    Ok(report(
        config.name.unwrap_or_else(|| files.name.clone()),
        &train,
        &queries,
        classes.len(),
        right,
        options,
    ))
}

fn train_step(
    classifier: &mut Classifier,
    batch: Batch,
    rate: f64,
    step: usize,
    config: &ModelConfig,
    options: &FinetuneOptions,
    device: &Device,
) -> Result<f64, Error> {
    let images = batch.targets.len() / batch.classes;
    let pixels = Tensor::from_vec(batch.pixels, (images, 3, batch.side, batch.side), device)?;
    let targets = Tensor::from_vec(batch.targets, (images, batch.classes), device)?;
    let scales = if options.drop_path > 0.0 {
        let mut rng = keyed_rng(options.seed, Purpose::Probe, step as u64, 0, 3);
        let depth = config.vit.num_hidden_layers;
        Some(branch_scales(depth, images, options.drop_path, &mut rng, device)?)
    } else {
        None
    };
    let forward = ForwardOptions { keep: None, branch_scales: scales.as_ref() };
    let loss = classifier.loss(&pixels, &targets, &forward)?;
    let value = f64::from(loss.to_scalar::<f32>()?);
    if !value.is_finite() {
        return Err(Error::NotFinite { what: "loss", step: step as u64 + 1 });
    }
    classifier.step(&loss.backward()?, rate)?;
    Ok(value)
}

/// Linear warm-up, then half a cosine to 0.
fn rate(step: f64, warmup: f64, steps: f64, peak: f64) -> f64 {
    if step < warmup {
        return peak * (step + 1.0) / warmup;
    }
    peak * 0.5 * (1.0 + (PI * (step - warmup) / (steps - warmup).max(1.0)).cos())
}

fn classes(set: &ImageSet) -> Result<Vec<String>, Error> {
    let mut classes: Vec<String> = set.items().iter().map(|item| item.label.clone()).collect();
    classes.sort_unstable();
    classes.dedup();
    if classes.len() < 2 {
        return Err(Error::Evaluation("two classes or more are needed: one folder of images each".into()));
    }
    Ok(classes)
}

impl<'a> Labelled<'a> {
    /// Looks at every image that is not held decoded, to leave out what cannot be read.
    fn new(set: &'a ImageSet, classes: &[String], preprocessor: &'a Preprocessor) -> Result<Self, Error> {
        let all = (0..set.len()).into_par_iter();
        let positions: Vec<usize> =
            all.filter(|&position| set.in_memory() || set.image(position).is_ok()).collect();
        let label = |&position: &usize| {
            let item = &set.items()[position];
            classes.binary_search(&item.label).map_err(|_| {
                let class = &item.label;
                Error::Evaluation(format!(
                    "class {class} is among the queries, but there are no training images of it"
                ))
            })
        };
        let labels = positions.iter().map(label).collect::<Result<_, _>>()?;
        Ok(Self { set, positions, labels, preprocessor })
    }

    /// Cropped, flipped, distorted and mixed; a function of the seed, the epoch and each image's position.
    fn batch(
        &self,
        positions: &[usize],
        classes: usize,
        epoch: usize,
        step: usize,
        options: &FinetuneOptions,
    ) -> Result<Batch, Error> {
        let side = self.preprocessor.crop_size() as usize;
        let crops = positions.par_iter().map_init(ViewRenderer::default, |renderer, &position| {
            let mut rng = keyed_rng(options.seed, Purpose::Probe, epoch as u64, position as u32, 1);
            let image = self.image(position)?;
            let mut pixels = renderer.crop_and_flip(&image, side, CROP_AREA, 0.5, &mut rng)?;
            if options.randaugment {
                randaugment(&mut pixels, side, &mut rng);
            }
            Ok(RgbImage { width: side as u32, height: side as u32, pixels })
        });
        let crops = crops.collect::<Result<Vec<_>, Error>>()?;
        let labels: Vec<usize> = positions.iter().map(|&position| self.labels[position]).collect();
        let pixels = self.preprocessor.normalise(&crops);
        let mut batch = Batch::new(pixels, &labels, side, classes, options.label_smoothing as f32);
        batch.mix(
            options.mixup,
            options.cutmix,
            &mut keyed_rng(options.seed, Purpose::Probe, step as u64, 0, 2),
        );
        Ok(batch)
    }

    fn image(&self, index: usize) -> Result<std::borrow::Cow<'_, RgbImage>, Error> {
        self.set.image(self.positions[index]).map_err(|skipped| {
            Error::Evaluation(format!("{}: {}; take it out of the set", skipped.name, skipped.reason))
        })
    }

    fn right_answers(&self, classifier: &Classifier, device: &Device) -> Result<usize, Error> {
        let side = self.preprocessor.crop_size() as usize;
        let positions: Vec<usize> = (0..self.labels.len()).collect();
        let mut right = 0;
        for positions in positions.chunks(QUERIES) {
            let crop = |&position: &usize| Ok(self.preprocessor.crop(&*self.image(position)?));
            let crops = positions.par_iter().map(crop).collect::<Result<Vec<_>, Error>>()?;
            let pixels = self.preprocessor.normalise(&crops);
            let pixels = Tensor::from_vec(pixels, (positions.len(), 3, side, side), device)?;
            let answers = classifier
                .logits(&pixels, &ForwardOptions::default())?
                .argmax(D::Minus1)?
                .to_vec1::<u32>()?;
            let is_right = |(position, answer): (&usize, u32)| self.labels[*position] == answer as usize;
            right += positions.iter().zip(answers).filter(|pair| is_right(*pair)).count();
        }
        Ok(right)
    }
}

fn report(
    model: String,
    train: &Labelled<'_>,
    queries: &Labelled<'_>,
    classes: usize,
    right: usize,
    options: &FinetuneOptions,
) -> Report {
    Report {
        evaluation: "fine-tuning",
        model,
        queries: queries.labels.len(),
        classes,
        settings: vec![
            ("training images", train.labels.len().to_string()),
            ("epochs", options.epochs.to_string()),
            ("batch", options.batch_size.to_string()),
            ("learning rate", options.learning_rate.to_string()),
            ("layer decay", options.layer_decay.to_string()),
            ("drop path", options.drop_path.to_string()),
            ("mixup", options.mixup.to_string()),
            ("cutmix", options.cutmix.to_string()),
            ("label smoothing", options.label_smoothing.to_string()),
            ("seed", options.seed.to_string()),
        ],
        rows: vec![ReportRow::of_proportion("fine-tuned".into(), right, queries.labels.len())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls() {
        assert!((rate(0.0, 10.0, 110.0, 2.0) - 0.2).abs() < 1e-12);
        assert!((rate(9.0, 10.0, 110.0, 2.0) - 2.0).abs() < 1e-12);
        assert!((rate(60.0, 10.0, 110.0, 2.0) - 1.0).abs() < 1e-12);
        assert!(rate(109.0, 10.0, 110.0, 2.0) < 0.01);
    }
}
