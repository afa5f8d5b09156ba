//! Exports models with inputs and our outputs, for `xtask/python/interop/load_exported.py` to repeat in `transformers`:
//! `cargo run -p dozen-models --example export_for_interop -- DIR`.

use candle_core::{Device, Tensor};
use dozen_models::checkpoint::{ModelConfig, StoredDtype, export, load_safetensors};
use dozen_models::image::{Filter, Preprocessor, Resize};
use dozen_models::vit::{Family, Positions, Vit, VitConfig};
use dozen_models::{Error, ModelFiles};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Error> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(Error::Input("give the directory to write to".into()));
    };
    let config = VitConfig {
        hidden_size: 48,
        num_hidden_layers: 3,
        num_attention_heads: 6,
        intermediate_size: 96,
        patch_size: 7,
        image_size: 28,
        num_channels: 3,
        layer_norm_eps: 1e-6,
        family: Family::Msn,
        positions: Positions::default(),
    };
    let preprocessor = Preprocessor {
        resize: Resize::Squash { size: 28 },
        filter: Filter::Bicubic,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };
    write_case(&directory.join("random"), &config, &preprocessor, &random_parameters(&config)?)?;

    let shipped = ModelFiles::shipped();
    let config = ModelConfig::from_json(&shipped.config)?.vit;
    let parameters = load_safetensors(&shipped.weights, &Device::Cpu)?;
    write_case(
        &directory.join("shipped"),
        &config,
        &Preprocessor::from_json(&shipped.preprocessor)?,
        &parameters,
    )
}

/// A model folder, and beside it inputs at the native and at a larger size with our hidden states.
fn write_case(
    folder: &Path,
    config: &VitConfig,
    preprocessor: &Preprocessor,
    parameters: &HashMap<String, Tensor>,
) -> Result<(), Error> {
    export(folder, "interop", config, preprocessor, parameters, StoredDtype::F32)?;
    let vit = Vit::new(config, parameters)?;
    let mut exchange = HashMap::new();
    for (name, side) in [("native", config.image_size), ("larger", config.image_size + 3 * config.patch_size)]
    {
        let pixels = wave(&[2, 3, side, side], side, 1.5)?;
        let before = vit.forward(&pixels, None)?;
        exchange.insert(format!("{name}.after_norm"), vit.final_norm(&before)?);
        exchange.insert(format!("{name}.before_norm"), before);
        exchange.insert(format!("{name}.pixel_values"), pixels);
    }
    Ok(candle_core::safetensors::save(&exchange, folder.join("exchange.safetensors"))?)
}

/// Large enough that every parameter shows in the output.
fn random_parameters(config: &VitConfig) -> Result<HashMap<String, Tensor>, Error> {
    let shapes = Vit::parameter_shapes(config).into_iter().enumerate();
    shapes.map(|(salt, (name, shape))| Ok((name, wave(&shape, salt, 0.25)?))).collect()
}

/// Reproducible numbers in −amplitude..amplitude without visible pattern.
fn wave(shape: &[usize], salt: usize, amplitude: f64) -> Result<Tensor, Error> {
    let count = shape.iter().product::<usize>();
    let values =
        (0..count).map(|index| (amplitude * ((index * 7919 + salt * 104_729 + 1) as f64).sin()) as f32);
    Ok(Tensor::from_vec(values.collect(), shape, &Device::Cpu)?)
}
