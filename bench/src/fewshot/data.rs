//! Embedded image sets, and draws of labelled images from them.

use anyhow::{Context, Result, ensure};
use dozen_fewshot::index::{ExactIndex, VectorIndex};
use dozen_fewshot::{Examples, Pool};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use std::path::Path;
use std::process::Command;

/// Labelled images per class at most; queries are the same for fewer.
pub(super) const MOST_SHOTS: usize = 13;
/// Images that are asked about, or are in a pool, at most.
const MOST_OTHERS: usize = 1_000;
/// Views of each image with part of its patches hidden.
const VIEWS: usize = 2;

/// An image set as the encoder sees it.
pub(super) struct Set {
    pub(super) name: String,
    pub(super) dimensions: usize,
    pub(super) classes: usize,
    pub(super) labels: Vec<usize>,
    /// `[image][dimension]`.
    vectors: Vec<f32>,
    /// `[view][image][dimension]`.
    views: Vec<f32>,
}

/// Which images are labelled, which are asked about, and which are at hand without a label.
pub(super) struct Draw {
    /// In a random order of each class: the first k of each are the labelled ones at k shots.
    labelled: Vec<Vec<usize>>,
    pub(super) queries: Vec<usize>,
    /// No image of it is a query.
    pub(super) pool: Vec<usize>,
}

impl Set {
    /// Embeds a folder or archive of class folders with the shipped weights.
    pub(super) fn embed(trainer: &Path, images: &Path) -> Result<Self> {
        let exchange = tempfile::tempdir()?;
        let file = exchange.path().join("vectors.safetensors");
        let views = VIEWS.to_string();
        let mut command = Command::new(trainer);
        command.args(["embed", "--cpu", "--model", "shipped", "--keep", "0.3", "--views", &views, "--data"]);
        let status =
            command.arg(images).arg("--out").arg(&file).status().context("cannot start the trainer")?;
        ensure!(status.success(), "{} cannot be embedded", images.display());
        let bytes = std::fs::read(&file)?;
        let tensors = SafeTensors::deserialize(&bytes)?;
        let floats = |name: &str| -> Result<Vec<f32>> {
            let (chunks, _) = tensors.tensor(name)?.data().as_chunks::<4>();
            Ok(chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        };
        let (labels, _) = tensors.tensor("labels")?.data().as_chunks::<8>();
        let labels: Vec<usize> = labels.iter().map(|bytes| i64::from_le_bytes(*bytes) as usize).collect();
        let name = images.file_name().map_or_else(|| "images".into(), |name| name.to_string_lossy());
        let name = name.split('.').next().unwrap_or_default().to_owned();
        Ok(Self {
            name,
            dimensions: *tensors.tensor("vectors")?.shape().last().context("vectors have no width")?,
            classes: labels.iter().max().map_or(0, |most| most + 1),
            labels,
            vectors: floats("vectors")?,
            views: floats("views")?,
        })
    }

    pub(super) fn vector(&self, image: usize) -> &[f32] {
        &self.vectors[image * self.dimensions..][..self.dimensions]
    }

    /// Everything with its label.
    pub(super) fn examples(&self, images: &[usize]) -> Result<Examples> {
        let labelled = images.iter().map(|&image| (self.labels[image] as u64, self.vector(image)));
        Ok(Examples::new(self.dimensions, labelled)?)
    }

    /// Images without their labels.
    pub(super) fn unlabelled(&self, images: &[usize]) -> Result<Pool> {
        let view = |image: usize, view: usize| {
            &self.views[(view * self.labels.len() + image) * self.dimensions..][..self.dimensions]
        };
        let views = images.iter().flat_map(|&image| (0..VIEWS).map(move |number| view(image, number)));
        let vectors = images.iter().map(|&image| self.vector(image));
        Ok(Pool::new(self.dimensions, vectors)?.with_views(self.dimensions, views)?)
    }

    /// The images of a seed, among some classes.
    pub(super) fn draw(&self, seed: u64, classes: &[usize]) -> Draw {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut labelled = Vec::new();
        let mut others = Vec::new();
        for &class in classes {
            let mut images: Vec<usize> =
                (0..self.labels.len()).filter(|&image| self.labels[image] == class).collect();
            images.shuffle(&mut random);
            // A small class is labelled to two thirds at most.
            let first = MOST_SHOTS.min(images.len() * 2 / 3);
            others.extend_from_slice(&images[first..]);
            images.truncate(first);
            labelled.push(images);
        }
        others.shuffle(&mut random);
        others.truncate(2 * MOST_OTHERS);
        let pool = others.split_off(others.len() / 2);
        Draw { labelled, queries: others, pool }
    }

    /// Share of some images whose nearest other one is of their class: what a pool can know of classes without labels.
    pub(super) fn purity(&self, images: &[usize]) -> Result<f64> {
        let mut index = ExactIndex::new(self.dimensions);
        for &image in images {
            index.insert(image as u64, self.vector(image))?;
        }
        let mut same = 0;
        for &image in images {
            let near = index.search(self.vector(image), 1, &|other| other != image as u64)?;
            same += usize::from(near.iter().any(|near| self.labels[near.id as usize] == self.labels[image]));
        }
        Ok(same as f64 / images.len().max(1) as f64)
    }

    /// All classes.
    pub(super) fn all_classes(&self) -> Vec<usize> {
        (0..self.classes).collect()
    }
}

impl Draw {
    /// Up to so many labelled images of each class.
    pub(super) fn labelled(&self, shots: usize) -> Vec<usize> {
        self.labelled.iter().flat_map(|images| images.iter().copied().take(shots)).collect()
    }
}

/// Share of right answers, every class counting alike.
pub(super) fn balanced_accuracy(truths: &[usize], answers: &[usize]) -> f64 {
    let classes = truths.iter().max().map_or(0, |most| most + 1);
    let mut counts = vec![(0.0, 0.0); classes];
    for (&truth, &answer) in truths.iter().zip(answers) {
        counts[truth].0 += f64::from(u8::from(truth == answer));
        counts[truth].1 += 1.0;
    }
    let shares: Vec<f64> =
        counts.iter().filter(|(_, all)| *all > 0.0).map(|(right, all)| right / all).collect();
    shares.iter().sum::<f64>() / shares.len().max(1) as f64
}

/// Mean, and half the width of its 95 % interval by the normal distribution.
pub(super) fn mean_and_interval(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, 1.96 * (variance / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_count_alike() {
        let accuracy = balanced_accuracy(&[0, 0, 0, 0, 2], &[0, 0, 0, 2, 0]);
        assert!((accuracy - 0.375).abs() < 1e-12);
    }

    #[test]
    fn intervals_are_those_of_the_mean() {
        let (mean, interval) = mean_and_interval(&[1.0, 2.0, 3.0]);
        assert!((mean - 2.0).abs() < 1e-12 && (interval - 1.96 / 3f64.sqrt()).abs() < 1e-12);
    }
}
