//! The loss (arXiv 2204.07141, §3): agreement with sharpened targets, and the entropy of the mean prediction.

use super::collective::Ranks;
use candle_core::{D, Result, Tensor};
use dozen_models::vit::Kernels;
use dozen_models::vit::kernels::log_softmax;

/// Iterations of Sinkhorn's balancing.
const SINKHORN_ITERATIONS: usize = 3;

/// What the loss is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossOptions {
    /// τ of the predictions.
    pub temperature: f64,
    /// λ of the mean-entropy maximisation term.
    pub memax_weight: f64,
    /// Weight of the mean entropy of single predictions; 0 only reports it.
    pub entropy_weight: f64,
    /// Weight of the Kozachenko–Leonenko term, which spreads the features of a batch; 0 leaves it out.
    pub koleo_weight: f64,
    /// ε: predictions and targets are mixed with this much of the uniform distribution.
    pub label_smoothing: f64,
    /// Balance the targets over the prototypes. With fewer images than prototypes this makes targets nearly uniform.
    pub sinkhorn: bool,
    /// How often prototypes are expected to be used: the k-th proportionally to k to the power of minus this (PMSN, arXiv
    /// 2210.07277). 0 expects all alike.
    pub prior_exponent: f64,
}

/// What one head makes of the views, and the prototypes it is compared with.
pub struct HeadOutputs {
    /// Of the anchors, `[M·B, d]`, view-major.
    pub anchors: Tensor,
    /// What they should be assigned to, `[B, K]`: see [`targets`].
    pub targets: Tensor,
    /// `[K, d]`.
    pub prototypes: Tensor,
}

/// The loss and its parts, each a scalar.
pub struct Loss {
    /// What is minimised, but for the term of the features.
    pub total: Tensor,
    /// Cross-entropy between targets and predictions.
    pub agreement: Tensor,
    /// KL divergence of the mean prediction from the prior. With the uniform prior that is log K − H(mean prediction): 0
    /// where all prototypes are used alike, log K where only one is.
    pub memax: Tensor,
    /// Mean entropy of single predictions.
    pub entropy: Tensor,
}

/// Logarithm of the assignment of `[n, d]` to the prototypes `[K, d]`, smoothed by ε.
pub(super) fn log_assignment(x: &Tensor, prototypes: &Tensor, options: &LossOptions) -> Result<Tensor> {
    // The fused kernels answer for what they cover; anything else is composed.
    let log_probabilities = Kernels::Fused.log_assignment(x, prototypes, options.temperature)?;
    if options.label_smoothing == 0.0 {
        return Ok(log_probabilities);
    }
    let uniform = options.label_smoothing / prototypes.dim(0)? as f64;
    log_probabilities.exp()?.affine(1.0 - options.label_smoothing, uniform)?.log()
}

/// Targets `[B, K]` from the target network's output `[B, d]`: assignments raised to the power 1/T and renormalised (in log
/// space: p⁴ of a small probability underflows), then balanced if asked for. Carries no gradient.
pub fn targets(
    output: &Tensor,
    prototypes: &Tensor,
    sharpen: f64,
    options: &LossOptions,
    ranks: &Ranks,
) -> Result<Tensor> {
    let log_probabilities = log_assignment(&output.detach(), &prototypes.detach(), options)?;
    let sharpened = log_softmax(&(log_probabilities / sharpen)?)?.exp()?;
    if options.sinkhorn { sinkhorn(&sharpened, ranks) } else { Ok(sharpened) }
}

/// Alternately gives every prototype the same mass and every image mass 1, ending with the images. Masses are of the whole
/// batch, over all ranks.
fn sinkhorn(targets: &Tensor, ranks: &Ranks) -> Result<Tensor> {
    let (rows, prototypes) = targets.dims2()?;
    let (count, images) = (ranks.count() as f64, (rows * ranks.count()) as f64);
    let mut balanced = targets.broadcast_div(&(ranks.mean(&targets.sum_all()?)? * count)?)?;
    for _ in 0..SINKHORN_ITERATIONS {
        // A prototype nobody is near must not become 0/0.
        let mass = (ranks.mean(&balanced.sum_keepdim(0)?)? * count)?.maximum(1e-30)?;
        balanced = (balanced.broadcast_div(&mass)? / prototypes as f64)?;
        balanced = (balanced.broadcast_div(&balanced.sum_keepdim(1)?)? / images)?;
    }
    balanced * images
}

/// The loss over one or several heads.
///
/// Several heads form an ensemble that each image weights by how sure the heads' targets are: softmax over the heads of
/// −H(target) / `ensemble_temperature` (arXiv 2211.09981); the other terms are means over the heads.
pub fn loss(
    heads: &[HeadOutputs],
    ensemble_temperature: f64,
    options: &LossOptions,
    ranks: &Ranks,
) -> Result<Loss> {
    let weights = ensemble_weights(heads, ensemble_temperature)?;
    let mut parts = Vec::with_capacity(heads.len());
    for (head, HeadOutputs { anchors, targets, prototypes }) in heads.iter().enumerate() {
        let (rows, images) = (anchors.dim(0)?, targets.dim(0)?);
        let weighted = match &weights {
            Some(weights) => targets.broadcast_mul(&weights.narrow(1, head, 1)?)?,
            None => targets.clone(),
        };
        let log_probabilities = log_assignment(anchors, prototypes, options)?;
        let probabilities = log_probabilities.exp()?;
        let per_row = -1.0 / rows as f64;
        let agreement = (weighted.repeat((rows / images, 1))? * &log_probabilities)?.sum_all()?;
        let mean = ranks.mean(&probabilities.mean(0)?)?;
        let memax = divergence_from_prior(&mean, options.prior_exponent)?;
        let entropy = (probabilities * log_probabilities)?.sum_all()?;
        parts.push([(agreement * per_row)?, memax, (entropy * per_row)?]);
    }
    let mean_over_heads = |part: usize| -> Result<Tensor> {
        let of_heads: Vec<&Tensor> = parts.iter().map(|head| &head[part]).collect();
        Tensor::stack(&of_heads, 0)?.mean(0)
    };
    // The weights of an image already sum to 1 over the heads.
    let agreement = (mean_over_heads(0)? * if weights.is_some() { heads.len() as f64 } else { 1.0 })?;
    let (memax, entropy) = (mean_over_heads(1)?, mean_over_heads(2)?);
    let total = ((&agreement + (&memax * options.memax_weight)?)? + (&entropy * options.entropy_weight)?)?;
    Ok(Loss { total, agreement, memax, entropy })
}

/// `[B, m]`, rows summing to 1; `None` for a single head.
fn ensemble_weights(heads: &[HeadOutputs], temperature: f64) -> Result<Option<Tensor>> {
    if heads.len() < 2 {
        return Ok(None);
    }
    let negative_entropy =
        |head: &HeadOutputs| (&head.targets * head.targets.maximum(1e-30)?.log()?)?.sum(D::Minus1);
    let certainty: Vec<Tensor> = heads.iter().map(negative_entropy).collect::<Result<_>>()?;
    log_softmax(&(Tensor::stack(&certainty, 1)? / temperature)?)?.exp().map(Some)
}

/// KL(mean ‖ prior) of a mean prediction `[K]`.
fn divergence_from_prior(mean: &Tensor, exponent: f64) -> Result<Tensor> {
    let log_ratio = mean.maximum(1e-30)?.log()?;
    if exponent == 0.0 {
        return (mean * log_ratio)?.sum_all()? + (mean.dim(0)? as f64).ln();
    }
    let masses: Vec<f64> = (1..=mean.dim(0)?).map(|k| (k as f64).powf(-exponent)).collect();
    let sum: f64 = masses.iter().sum();
    let log_prior: Vec<f64> = masses.into_iter().map(|mass| (mass / sum).ln()).collect();
    let log_prior = Tensor::from_vec(log_prior, mean.dims(), &candle_core::Device::Cpu)?;
    let log_prior = log_prior.to_dtype(mean.dtype())?.to_device(mean.device())?;
    (mean * (log_ratio - log_prior)?)?.sum_all()
}
