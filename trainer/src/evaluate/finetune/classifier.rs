//! A trunk and a linear classifier on top, trained together: the rate falls from layer to layer towards the input.

use crate::Error;
use crate::random::normal;
use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW};
use dozen_models::checkpoint::{Feature, ModelConfig};
use dozen_models::vit::reference::{ForwardOptions, Vit};
use dozen_models::vit::{Kernels, Parameters};
use rand::Rng;
use std::collections::BTreeMap;

/// Standard deviation of the classifier's initial weights: answers start undecided.
const DEVIATION: f64 = 2e-5;

/// Trunk, classifier and one AdamW for every layer and kind of parameter.
pub(super) struct Classifier {
    vit: Vit,
    feature: Feature,
    weight: Var,
    bias: Var,
    /// With the factor of the learning rate.
    optimizers: Vec<(f64, AdamW)>,
}

impl Classifier {
    pub(super) fn new(
        config: &ModelConfig,
        parameters: &Parameters,
        classes: usize,
        (layer_decay, weight_decay): (f64, f64),
        device: &Device,
        rng: &mut impl Rng,
    ) -> Result<Self, Error> {
        let depth = config.vit.num_hidden_layers;
        // Parameters by layer and whether they are decayed.
        let mut groups: BTreeMap<(usize, bool), Vec<Var>> = BTreeMap::new();
        let mut trunk = Parameters::new();
        let mut names: Vec<&String> = parameters.keys().collect();
        names.sort_unstable();
        for name in names {
            let variable = Var::from_tensor(&parameters[name].to_device(device)?.copy()?)?;
            trunk.insert(name.clone(), variable.as_tensor().clone());
            groups.entry((layer(name, depth), is_decayed(name, &variable))).or_default().push(variable);
        }
        let width = config.vit.hidden_size;
        let weights = (0..classes * width).map(|_| (DEVIATION * normal(rng)) as f32);
        let weights: Vec<f32> = weights.collect();
        let weight = Var::from_tensor(&Tensor::from_vec(weights, (classes, width), device)?)?;
        let bias = Var::zeros(classes, DType::F32, device)?;
        groups.entry((depth + 1, true)).or_default().push(weight.clone());
        groups.entry((depth + 1, false)).or_default().push(bias.clone());
        let optimizer = |((layer, decayed), variables): ((usize, bool), Vec<Var>)| {
            let weight_decay = if decayed { weight_decay } else { 0.0 };
            let settings = ParamsAdamW { weight_decay, ..ParamsAdamW::default() };
            Ok((rate_factor(layer, depth, layer_decay), AdamW::new(variables, settings)?))
        };
        Ok(Self {
            vit: Vit::with_kernels(&config.vit, &trunk, Kernels::Fused)?,
            feature: config.feature,
            weight,
            bias,
            optimizers: groups.into_iter().map(optimizer).collect::<candle_core::Result<_>>()?,
        })
    }

    /// Pixels `[B, 3, s, s]` to scores `[B, classes]`: of the mean patch where the model describes images by it, otherwise of
    /// CLS; after the final norm.
    pub(super) fn logits(&self, pixels: &Tensor, options: &ForwardOptions<'_>) -> Result<Tensor, Error> {
        let vector = match self.feature {
            Feature::ClsBeforeNorm | Feature::ClsAfterNorm => self.vit.forward_cls(pixels, options)?,
            Feature::MeanPatches => {
                let hidden = self.vit.forward_with(pixels, options)?;
                hidden.narrow(1, 1, hidden.dim(1)? - 1)?.mean(1)?
            }
        };
        Ok(Kernels::Fused.linear(&self.vit.final_norm(&vector)?, &self.weight, &self.bias)?)
    }

    /// Cross-entropy with soft targets `[B, classes]`.
    pub(super) fn loss(
        &self,
        pixels: &Tensor,
        targets: &Tensor,
        options: &ForwardOptions<'_>,
    ) -> Result<Tensor, Error> {
        let log_probabilities = candle_nn::ops::log_softmax(&self.logits(pixels, options)?, D::Minus1)?;
        Ok((targets * log_probabilities)?.sum(D::Minus1)?.mean_all()?.neg()?)
    }

    pub(super) fn step(&mut self, gradients: &GradStore, learning_rate: f64) -> Result<(), Error> {
        for (factor, optimizer) in &mut self.optimizers {
            optimizer.set_learning_rate(*factor * learning_rate);
            optimizer.step(gradients)?;
        }
        Ok(())
    }
}

/// 0 for embeddings, i + 1 for block i, depth + 1 for what comes after the blocks.
fn layer(name: &str, depth: usize) -> usize {
    let block = name.strip_prefix("blocks.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    match block {
        Some(block) => block + 1,
        None if name.starts_with("norm.") => depth + 1,
        None => 0,
    }
}

/// Weights of linear maps alone: not biases, norms, CLS and positions.
fn is_decayed(name: &str, value: &Tensor) -> bool {
    value.rank() > 1
        && !["cls_token", "pos_embed"].contains(&name)
        && !name.ends_with("relative_position_bias_table")
}

fn rate_factor(layer: usize, depth: usize, layer_decay: f64) -> f64 {
    layer_decay.powi((depth + 1 - layer) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_fall_towards_the_input() {
        for (name, expected) in [
            ("norm.weight", 1.0),
            ("blocks.1.mlp.fc2.bias", 0.5),
            ("blocks.0.attn.qkv.weight", 0.25),
            ("patch_embed.proj.weight", 0.125),
            ("pos_embed", 0.125),
        ] {
            let factor = rate_factor(layer(name, 2), 2, 0.5);
            assert!((factor - expected).abs() < 1e-12, "{name}: {factor}");
        }
    }

    #[test]
    fn decay_falls_on_matrices() {
        let tensor = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        assert!(is_decayed("blocks.0.attn.qkv.weight", &tensor(&[6, 2])));
        assert!(is_decayed("patch_embed.proj.weight", &tensor(&[2, 3, 4, 4])));
        for (name, shape) in [("cls_token", &[1, 1, 2][..]), ("pos_embed", &[1, 5, 2]), ("norm.weight", &[2])]
        {
            assert!(!is_decayed(name, &tensor(shape)), "{name}");
        }
    }
}
