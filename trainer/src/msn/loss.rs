//! The loss (arXiv 2204.07141, §3): agreement with sharpened targets, and the entropy of the mean prediction.

use candle_core::{D, Result, Tensor};

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
    /// ε: predictions and targets are mixed with this much of the uniform distribution.
    pub label_smoothing: f64,
    /// Balance the targets over the prototypes. With fewer images than prototypes this makes targets nearly uniform.
    pub sinkhorn: bool,
}

/// The loss and its parts, each a scalar.
pub struct Loss {
    /// What is minimised.
    pub total: Tensor,
    /// Cross-entropy between targets and predictions.
    pub agreement: Tensor,
    /// log K − H(mean prediction): 0 where all prototypes are used alike, log K where only one is.
    pub memax: Tensor,
    /// Mean entropy of single predictions.
    pub entropy: Tensor,
}

/// Rows divided by their length, or by 1e-12 if that is larger. The square is bounded, not the root: the root's derivative
/// at 0 is infinite, and a row of zeros must not turn every gradient into NaN.
pub(super) fn unit_rows(x: &Tensor) -> Result<Tensor> {
    let square = x.sqr()?.sum_keepdim(D::Minus1)?.maximum(1e-24)?;
    x.broadcast_div(&square.sqrt()?)
}

/// Logarithm of the softmax over the last dimension.
fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// Logarithm of the assignment of `[n, d]` to the prototypes `[K, d]`, smoothed by ε.
pub(super) fn log_assignment(x: &Tensor, prototypes: &Tensor, options: &LossOptions) -> Result<Tensor> {
    let cosines = unit_rows(x)?.matmul(&unit_rows(prototypes)?.t()?)?;
    let log_probabilities = log_softmax(&(cosines / options.temperature)?)?;
    if options.label_smoothing == 0.0 {
        return Ok(log_probabilities);
    }
    let uniform = options.label_smoothing / prototypes.dim(0)? as f64;
    log_probabilities.exp()?.affine(1.0 - options.label_smoothing, uniform)?.log()
}

/// Targets `[B, K]` from the target network's output `[B, d]`: assignments raised to the power 1/T and renormalised (in log
/// space: p⁴ of a small probability underflows), then balanced if asked for. Carries no gradient.
pub fn targets(output: &Tensor, prototypes: &Tensor, sharpen: f64, options: &LossOptions) -> Result<Tensor> {
    let log_probabilities = log_assignment(&output.detach(), &prototypes.detach(), options)?;
    let sharpened = log_softmax(&(log_probabilities / sharpen)?)?.exp()?;
    if options.sinkhorn { sinkhorn(&sharpened) } else { Ok(sharpened) }
}

/// Alternately gives every prototype the same mass and every image mass 1, ending with the images.
fn sinkhorn(targets: &Tensor) -> Result<Tensor> {
    let (images, prototypes) = targets.dims2()?;
    let mut balanced = targets.broadcast_div(&targets.sum_all()?)?;
    for _ in 0..SINKHORN_ITERATIONS {
        // A prototype nobody is near must not become 0/0.
        let mass = balanced.sum_keepdim(0)?.maximum(1e-30)?;
        balanced = (balanced.broadcast_div(&mass)? / prototypes as f64)?;
        balanced = (balanced.broadcast_div(&balanced.sum_keepdim(1)?)? / images as f64)?;
    }
    balanced * images as f64
}

/// The loss of anchors `[M·B, d]`, view-major, against targets `[B, K]`.
pub fn loss(anchors: &Tensor, targets: &Tensor, prototypes: &Tensor, options: &LossOptions) -> Result<Loss> {
    let (rows, images) = (anchors.dim(0)?, targets.dim(0)?);
    let log_probabilities = log_assignment(anchors, prototypes, options)?;
    let probabilities = log_probabilities.exp()?;
    let tiled = targets.repeat((rows / images, 1))?;
    let agreement = ((tiled * &log_probabilities)?.sum_all()? * (-1.0 / rows as f64))?;
    let mean = probabilities.mean(0)?;
    let memax = ((&mean * mean.maximum(1e-30)?.log()?)?.sum_all()? + (prototypes.dim(0)? as f64).ln())?;
    let entropy = ((probabilities * log_probabilities)?.sum_all()? * (-1.0 / rows as f64))?;
    let total = ((&agreement + (&memax * options.memax_weight)?)? + (&entropy * options.entropy_weight)?)?;
    Ok(Loss { total, agreement, memax, entropy })
}
