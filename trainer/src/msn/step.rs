//! One step: forward, backward, clip, AdamW, moving average.

use super::head::Statistics;
use super::koleo::koleo;
use super::loss::{HeadOutputs, Loss, loss, targets};
use super::model::Msn;
use super::optimizer::GradientNorms;
use super::update::blend;
use super::views::Views;
use crate::Error;
use candle_core::{D, DType, Tensor};
use dozen_models::vit::reference::ForwardOptions;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Values of the schedules at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Learning rate.
    pub learning_rate: f64,
    /// Weight decay of the decayed group.
    pub weight_decay: f64,
    /// Momentum of the target's moving average.
    pub momentum: f64,
    /// Sharpening T of the targets.
    pub sharpen: f64,
    /// Temperature of the weights of an ensemble's heads.
    pub ensemble_temperature: f64,
}

/// What to watch (the paper's code logs the same). Means over the micro-batches and the ranks, but for the prototypes.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct StepReport {
    /// What was minimised.
    pub loss: f64,
    /// Cross-entropy between targets and predictions.
    pub agreement: f64,
    /// log K − H(mean prediction); log K means one prototype takes all. With a prior, the divergence from it.
    pub memax: f64,
    /// Mean entropy of single predictions.
    pub entropy: f64,
    /// The Kozachenko–Leonenko term; 0 where its weight is.
    pub koleo: f64,
    /// Different prototypes among the targets' largest, of all heads, on this rank, in the last micro-batch.
    pub distinct_prototypes: usize,
    /// Mean of the targets' largest probabilities; 1/K means undecided.
    pub max_target: f64,
    /// Norm of the encoder's gradient before clipping.
    pub gradient_norm: f64,
    /// What it was multiplied by; 1 where it was short enough.
    pub clip_factor: f64,
    /// Norm of the first block's qkv gradient.
    pub first_qkv_norm: f64,
    /// Norm of the last block's qkv gradient.
    pub last_qkv_norm: f64,
}

/// Where the time of a step went. A device is waited for at the end of the first two parts.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepTimes {
    /// Both networks and the loss.
    pub forward: Duration,
    /// Gradients and their norms.
    pub backward: Duration,
    /// Clipping, AdamW and the moving average.
    pub update: Duration,
}

/// Loss and gradients of one micro-batch.
pub(super) struct Evaluation {
    /// Until the loss was there.
    forward: Duration,
    /// Loss, agreement, mean-entropy term, entropy, KoLeo term and largest target, as one tensor `[6]`.
    numbers: Tensor,
    distinct_prototypes: usize,
    /// One for each parameter.
    pub(super) gradients: Vec<Tensor>,
    target_statistics: Vec<Statistics>,
    /// Of each group of anchors.
    anchor_statistics: Vec<Vec<Statistics>>,
}

/// What is minimised, and its parts.
pub(super) struct Objective {
    pub(super) total: Tensor,
    parts: Loss,
    /// The KoLeo term.
    spread: Tensor,
    anchor_statistics: Vec<Vec<Statistics>>,
}

impl Msn {
    /// One step over the micro-batches of `batches`, whose gradients are averaged. Each has its own BatchNorm, mean
    /// prediction and Sinkhorn balance: only a larger batch, or more ranks, widens those.
    ///
    /// A loss or gradient that is not finite is an error, and then nothing has changed.
    pub fn step(&mut self, batches: &[Views], rates: &Rates) -> Result<StepReport, Error> {
        let step = self.steps + 1;
        let started = Instant::now();
        let mut evaluations = Vec::with_capacity(batches.len());
        let mut gradients: Vec<Tensor> = Vec::new();
        for views in batches {
            let mut evaluation = self.evaluate(views, rates)?;
            let new = std::mem::take(&mut evaluation.gradients);
            gradients = if gradients.is_empty() { new } else { add(&gradients, &new)? };
            evaluations.push(evaluation);
        }
        if batches.len() > 1 {
            let share = 1.0 / batches.len() as f64;
            gradients = gradients.iter().map(|sum| sum * share).collect::<candle_core::Result<_>>()?;
        }
        let gradients = self.ranks.mean_all(&gradients)?;
        let mut report = self.report(&evaluations)?;
        if !report.loss.is_finite() {
            return Err(Error::NotFinite { what: "loss", step });
        }
        let norms = GradientNorms::of(&self.parameters, &gradients)?;
        if !norms.are_finite() {
            return Err(Error::NotFinite { what: "gradient", step });
        }
        let backward_done = Instant::now();
        report.gradient_norm = norms.encoder;
        report.clip_factor = norms.clip_factor(self.config.clip_gradient);
        [report.first_qkv_norm, report.last_qkv_norm] = self.outer_qkv.map(|position| norms.each[position]);
        for (parameter, gradient) in self.parameters.iter().zip(&gradients) {
            parameter.update(gradient, report.clip_factor, rates, step)?;
        }
        for (parameter, (_, target)) in self.parameters.iter().zip(&self.targets) {
            blend(target, &parameter.value, rates.momentum, 1.0 - rates.momentum)?;
        }
        for evaluation in &evaluations {
            self.target.accept(&evaluation.target_statistics)?;
            evaluation.anchor_statistics.iter().try_for_each(|group| self.anchor.accept(group))?;
        }
        self.steps = step;
        let forward = evaluations.iter().map(|evaluation| evaluation.forward).sum();
        let backward = (backward_done - started).saturating_sub(forward);
        self.times = StepTimes { forward, backward, update: backward_done.elapsed() };
        Ok(report)
    }

    /// Loss and gradients of one micro-batch; changes nothing.
    pub(super) fn evaluate(&self, views: &Views, rates: &Rates) -> Result<Evaluation, Error> {
        let started = Instant::now();
        let (targets, target_statistics) = self.targets(views, rates)?;
        let (largest, distinct_prototypes) = winners(&targets)?;
        let Objective { total, parts, spread, anchor_statistics } = self.objective(views, targets, rates)?;
        let numbers = [&total, &parts.agreement, &parts.memax, &parts.entropy, &spread, &largest];
        let numbers = Tensor::stack(&numbers.map(Tensor::detach), 0)?;
        let forward = started.elapsed();
        let gradients = total.backward()?;
        let gradients = self.parameters.iter().map(|parameter| parameter.gradient(&gradients));
        Ok(Evaluation {
            forward,
            numbers,
            distinct_prototypes,
            gradients: gradients.collect::<Result<_, _>>()?,
            target_statistics,
            anchor_statistics,
        })
    }

    /// What each head's anchors should be assigned to, and the statistics of the target network's norms.
    pub(super) fn targets(
        &self,
        views: &Views,
        rates: &Rates,
    ) -> Result<(Vec<Tensor>, Vec<Statistics>), Error> {
        let whole = self.target.forward(&views.target, &ForwardOptions::default())?;
        let of_head = |(output, prototypes): (&Tensor, &Tensor)| {
            targets(output, prototypes, rates.sharpen, &self.config.loss, &self.ranks)
        };
        let targets = whole.heads.iter().zip(&self.prototypes).map(of_head);
        Ok((targets.collect::<candle_core::Result<_>>()?, whole.statistics))
    }

    /// What is minimised, given the targets.
    pub(super) fn objective(
        &self,
        views: &Views,
        targets: Vec<Tensor>,
        rates: &Rates,
    ) -> Result<Objective, Error> {
        let options = &self.config.loss;
        let mut groups = Vec::with_capacity(views.anchors.len());
        for group in &views.anchors {
            groups.push(group.with_options(|options| self.anchor.forward(&group.pixels, options))?);
        }
        let mut heads = Vec::with_capacity(targets.len());
        for (head, (targets, prototypes)) in targets.into_iter().zip(&self.prototypes).enumerate() {
            let of_groups: Vec<&Tensor> = groups.iter().map(|group| &group.heads[head]).collect();
            let anchors = Tensor::cat(&of_groups, 0)?;
            heads.push(HeadOutputs { anchors, targets, prototypes: prototypes.clone() });
        }
        let parts = loss(&heads, rates.ensemble_temperature, options, &self.ranks)?;
        // As DINOv2 does, over the large views only, and each batch by itself: neighbours on other ranks do not count.
        let spread = match groups.first() {
            Some(group) if options.koleo_weight > 0.0 => koleo(&group.cls)?,
            _ => parts.total.zeros_like()?,
        };
        let total = (&parts.total + (&spread * options.koleo_weight)?)?;
        let anchor_statistics = groups.into_iter().map(|group| group.statistics).collect();
        Ok(Objective { total, parts, spread, anchor_statistics })
    }

    /// The report of a step, without what follows from the gradients.
    pub(super) fn report(&self, evaluations: &[Evaluation]) -> Result<StepReport, Error> {
        let numbers: Vec<&Tensor> = evaluations.iter().map(|one| &one.numbers).collect();
        let mean = self.ranks.mean_all(&[Tensor::stack(&numbers, 0)?.mean(0)?])?;
        let mean = Tensor::cat(&mean, 0)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let [loss, agreement, memax, entropy, koleo, max_target] = mean[..] else {
            return Err(Error::Tensor(candle_core::Error::Msg("a step reports six numbers".into())));
        };
        let distinct_prototypes = evaluations.last().map_or(0, |one| one.distinct_prototypes);
        Ok(StepReport {
            loss,
            agreement,
            memax,
            entropy,
            koleo,
            max_target,
            distinct_prototypes,
            clip_factor: 1.0,
            ..StepReport::default()
        })
    }
}

/// Mean over images and heads of the largest target, and the number of prototypes that are someone's largest.
fn winners(targets: &[Tensor]) -> Result<(Tensor, usize), Error> {
    let (mut largest, mut distinct) = (Vec::with_capacity(targets.len()), 0);
    for of_head in targets {
        largest.push(of_head.max(D::Minus1)?.mean_all()?);
        let winners = of_head.argmax(D::Minus1)?.to_vec1::<u32>()?;
        distinct += winners.into_iter().collect::<HashSet<_>>().len();
    }
    Ok((Tensor::stack(&largest, 0)?.mean(0)?, distinct))
}

fn add(sums: &[Tensor], more: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    Ok(sums.iter().zip(more).map(|(sum, one)| sum + one).collect::<candle_core::Result<_>>()?)
}
