//! One step: forward, backward, clip, AdamW, moving average.

use super::head::Statistics;
use super::koleo::koleo;
use super::loss::{HeadOutputs, Loss, loss, targets};
use super::model::Msn;
use super::optimizer::Descent;
use super::views::Views;
use crate::Error;
use candle_core::{D, DType, Tensor};
use dozen_models::vit::reference::ForwardOptions;
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

/// Where the time of a step went. A CUDA device is not waited for: there it is the time that asking for the work took.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepTimes {
    /// Both networks and the loss.
    pub forward: Duration,
    /// Gradients.
    pub backward: Duration,
    /// Norms, clipping, AdamW and the moving average.
    pub update: Duration,
}

/// Loss and gradients of one micro-batch.
pub(super) struct Evaluation {
    /// Until the loss was there.
    forward: Duration,
    /// Loss, agreement, mean-entropy term, entropy, KoLeo term and largest target, as one tensor `[6]`.
    numbers: Tensor,
    /// Scalar.
    distinct_prototypes: Tensor,
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
    /// [`Self::take_step`], and its report at once.
    ///
    /// A loss or gradient that is not finite is an error, and then nothing has changed.
    pub fn step(&mut self, batches: &[Views], rates: &Rates) -> Result<StepReport, Error> {
        self.take_step(batches, rates)?.read()
    }

    /// One step over the micro-batches of `batches`, whose gradients are averaged. Each has its own BatchNorm, mean
    /// prediction and Sinkhorn balance: only a larger batch, or more ranks, widens those.
    ///
    /// A loss or gradient that is not finite is an error here on the CPU. On a CUDA device, which is not waited for, it is
    /// one when the report of this or a later step is read; no parameter, moment or average has changed since.
    pub fn take_step(&mut self, batches: &[Views], rates: &Rates) -> Result<PendingReport, Error> {
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
        let numbers = self.numbers(&evaluations)?;
        let backward_done = Instant::now();
        let (parameters, averages) = (&self.parameters, &self.targets);
        let loss = numbers.get(0)?;
        let descent = self.optimizer.step(parameters, averages, &gradients, &loss, rates, step)?;
        for evaluation in &evaluations {
            self.target.accept(&evaluation.target_statistics)?;
            evaluation.anchor_statistics.iter().try_for_each(|group| self.anchor.accept(group))?;
        }
        self.steps = step;
        let forward = evaluations.iter().map(|evaluation| evaluation.forward).sum();
        let backward = (backward_done - started).saturating_sub(forward);
        self.times = StepTimes { forward, backward, update: backward_done.elapsed() };
        PendingReport::new(&numbers, &evaluations, &descent, self.outer_qkv, step)
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

    /// Means over the micro-batches and ranks of [`Evaluation::numbers`], `[6]`.
    pub(super) fn numbers(&self, evaluations: &[Evaluation]) -> Result<Tensor, Error> {
        let numbers: Vec<&Tensor> = evaluations.iter().map(|one| &one.numbers).collect();
        let mean = self.ranks.mean_all(&[Tensor::stack(&numbers, 0)?.mean(0)?])?;
        Ok(Tensor::cat(&mean, 0)?)
    }
}

/// A report that has not been read: its numbers may still be in the making on the device.
#[derive(Debug)]
pub struct PendingReport {
    /// In the order of [`Self::read`].
    numbers: Tensor,
    step: u64,
}

impl PendingReport {
    pub(super) fn new(
        numbers: &Tensor,
        evaluations: &[Evaluation],
        descent: &Descent,
        outer_qkv: [usize; 2],
        step: u64,
    ) -> Result<Self, Error> {
        let [first, last] = outer_qkv.map(|position| descent.norms.narrow(0, position, 1));
        let distinct = match evaluations.last() {
            Some(evaluation) => evaluation.distinct_prototypes.reshape(1)?,
            None => return Err(Error::Tensor(candle_core::Error::Msg("a step needs a batch".into()))),
        };
        let dtype = descent.norms.dtype();
        let of_loss = [numbers.to_dtype(dtype)?, distinct.to_dtype(dtype)?];
        let of_gradients = [descent.control.clone(), first?, last?];
        let numbers = Tensor::cat(&[of_loss.as_slice(), &of_gradients].concat(), 0)?;
        Ok(Self { numbers, step })
    }

    /// Waits for the step and reports it.
    pub fn read(&self) -> Result<StepReport, Error> {
        Self::read_all(std::slice::from_ref(self))?
            .pop()
            .ok_or_else(|| Error::Tensor(candle_core::Error::Msg("one report was asked for".into())))
    }

    /// Reports several steps, waiting only once.
    pub fn read_all(pending: &[Self]) -> Result<Vec<StepReport>, Error> {
        if pending.is_empty() {
            return Ok(Vec::new());
        }
        let numbers: Vec<&Tensor> = pending.iter().map(|one| &one.numbers).collect();
        let rows = Tensor::stack(&numbers, 0)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        rows.iter().zip(pending).map(|(row, one)| report(row, one.step)).collect()
    }
}

fn report(numbers: &[f64], step: u64) -> Result<StepReport, Error> {
    let &[loss, agreement, memax, entropy, koleo, max_target, distinct, norm, clip, healthy, first, last] =
        numbers
    else {
        return Err(Error::Tensor(candle_core::Error::Msg("a step reports twelve numbers".into())));
    };
    if !loss.is_finite() {
        return Err(Error::NotFinite { what: "loss", step });
    }
    if healthy == 0.0 {
        return Err(Error::NotFinite { what: "gradient", step });
    }
    Ok(StepReport {
        loss,
        agreement,
        memax,
        entropy,
        koleo,
        distinct_prototypes: distinct as usize,
        max_target,
        gradient_norm: norm,
        clip_factor: clip,
        first_qkv_norm: first,
        last_qkv_norm: last,
    })
}

/// Mean over images and heads of the largest target, and the number of prototypes that are someone's largest; scalars.
fn winners(targets: &[Tensor]) -> Result<(Tensor, Tensor), Error> {
    let (mut largest, mut distinct) = (Vec::with_capacity(targets.len()), Vec::with_capacity(targets.len()));
    for of_head in targets {
        largest.push(of_head.max(D::Minus1)?.mean_all()?);
        let (images, prototypes) = of_head.dims2()?;
        let ones = Tensor::ones(images, of_head.dtype(), of_head.device())?;
        let wins = Tensor::zeros(prototypes, of_head.dtype(), of_head.device())?;
        let wins = wins.index_add(&of_head.argmax(D::Minus1)?, &ones, 0)?;
        distinct.push(wins.minimum(1.0)?.sum_all()?);
    }
    Ok((Tensor::stack(&largest, 0)?.mean(0)?, Tensor::stack(&distinct, 0)?.sum(0)?))
}

fn add(sums: &[Tensor], more: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    Ok(sums.iter().zip(more).map(|(sum, one)| sum + one).collect::<candle_core::Result<_>>()?)
}
