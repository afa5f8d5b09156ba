//! Unknowns: a third of the classes is held out whole, and nothing of them is labelled.

use super::answers::Answerer;
use super::data::Set;
use anyhow::Result;
use dozen_fewshot::training::Method;
use dozen_fewshot::{Pool, measures};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Share of known images that may be rejected.
const RATE: f32 = 0.05;

/// How well strangers are told from images of known classes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Telling {
    /// Chance that a stranger seems stranger than a known image, by the distance to the examples.
    pub(super) auroc: f64,
    /// The same by the best probability: what an answer without a test of its own could do.
    pub(super) auroc_of_confidence: f64,
    /// Share of known images called unknown, 0.05 being asked for.
    pub(super) false_rejections: f64,
    /// Share of strangers called unknown.
    pub(super) rejections: f64,
}

pub(super) fn telling(set: &Set, seed: u64, shots: usize) -> Result<Telling> {
    let mut classes = set.all_classes();
    classes.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let strange = classes.split_off(classes.len() - classes.len() / 3);
    let draw = set.draw(seed, &classes);
    let answerer = Answerer::train(set, &draw.labelled(shots), &Pool::default(), Some(Method::Prototype))?;
    let strangers = set.draw(seed, &strange).queries;
    let look = |images: &[usize]| -> Result<(Vec<f64>, Vec<f64>, f64)> {
        let (mut distances, mut doubts, mut rejected) = (Vec::new(), Vec::new(), 0);
        for &image in images {
            let typicality = answerer.reliability.typicality(set.vector(image))?;
            distances.push(f64::from(typicality.distance));
            doubts.push(-f64::from(answerer.scores(set.vector(image))?[0].probability));
            rejected += usize::from(typicality.is_unknown(RATE));
        }
        let share = rejected as f64 / images.len().max(1) as f64;
        Ok((distances, doubts, share))
    };
    let (known_distances, known_doubts, false_rejections) = look(&draw.queries)?;
    let (distances, doubts, rejections) = look(&strangers)?;
    let auroc = |strange: &[f64], known: &[f64]| measures::auroc(strange, known).unwrap_or(f64::NAN);
    Ok(Telling {
        auroc: auroc(&distances, &known_distances),
        auroc_of_confidence: auroc(&doubts, &known_doubts),
        false_rejections,
        rejections,
    })
}
