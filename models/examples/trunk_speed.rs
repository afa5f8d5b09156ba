//! Forward and backward speed of a small ViT trunk on this machine: `cargo run --release -p dozen-models --example trunk_speed`.

use candle_core::{Device, Tensor, Var};
use dozen_models::vit::reference::Vit;
use dozen_models::vit::{Kernels, VitConfig};
use std::collections::HashMap;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let width = 128;
    let config = VitConfig {
        hidden_size: width,
        num_hidden_layers: 6,
        num_attention_heads: 4,
        intermediate_size: 4 * width,
        patch_size: 8,
        image_size: 64,
        num_channels: 3,
        layer_norm_eps: 1e-6,
    };
    let batch: usize = std::env::args().nth(1).map_or(Ok(256), |argument| argument.parse())?;
    let mut parameters = HashMap::new();
    for (name, shape) in Vit::parameter_shapes(&config) {
        let value = if name.contains("norm") && name.ends_with("weight") {
            Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu)?
        } else {
            Tensor::randn(0f32, 0.02, shape, &Device::Cpu)?
        };
        parameters.insert(name, Var::from_tensor(&value)?.as_tensor().clone());
    }
    let pixels = Tensor::randn(0f32, 1.0, (batch, 3, config.image_size, config.image_size), &Device::Cpu)?;
    let tokens = (config.grid() * config.grid() + 1) as f64;
    let block = 24.0 * (width * width) as f64 + 4.0 * tokens * width as f64;
    let forward_flop = tokens * config.num_hidden_layers as f64 * block * batch as f64;
    for kernels in [Kernels::Fused, Kernels::Reference] {
        let vit = Vit::with_kernels(&config, &parameters, kernels)?;
        for _ in 0..3 {
            let start = Instant::now();
            let hidden = vit.forward(&pixels, None)?;
            let loss = vit.final_norm(&hidden)?.sqr()?.mean_all()?;
            let forward = start.elapsed().as_secs_f64();
            let _gradients = loss.backward()?;
            let total = start.elapsed().as_secs_f64();
            println!(
                "{kernels:?}: forward {:.0} ms, both {:.0} ms: {:.0} images/s, {:.0} GFLOP/s",
                forward * 1e3,
                total * 1e3,
                batch as f64 / total,
                3.0 * forward_flop / total / 1e9,
            );
        }
    }
    Ok(())
}
