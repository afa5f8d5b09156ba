//! The features a run is watched by are those of the model it exports.

use crate::micro;
use candle_core::Device;
use dozen_models::checkpoint::StoredDtype;
use dozen_models::{DeviceChoice, Encoder, ModelFiles};
use dozen_trainer::export::export;
use dozen_trainer::msn::{Ranks, TargetEncoder};
use dozen_trainer::run::{Checkpoint, RunOptions, Start, pretrain};
use std::sync::Arc;

#[test]
fn described_features_are_those_of_the_exported_encoder() {
    let root = tempfile::tempdir().unwrap();
    let config = micro::config(&[]);
    let set = micro::pictures(&root.path().join("pictures"), &config);
    let (out, model) = (root.path().join("run"), root.path().join("model"));
    let options = RunOptions {
        out: out.clone(),
        start: Start::Fresh,
        initial: None,
        ranks: Ranks::alone(),
        time_limit: None,
        stop: Arc::default(),
        monitor: None,
    };
    pretrain(&config, &set, &Device::Cpu, &options, &mut |_| {}).unwrap();
    let checkpoint = Checkpoint::load_latest(&out, &Device::Cpu).unwrap();
    export(&checkpoint, &model, "micro", StoredDtype::F32).unwrap();

    let preprocessor = config.preprocessor();
    let crops: Vec<_> = (0..5).map(|position| preprocessor.crop(&set.image(position).unwrap())).collect();
    let encoder = TargetEncoder::new(&config.msn(), &checkpoint.tensors, &Device::Cpu).unwrap();
    let ours = encoder.describe(preprocessor.normalise(&crops), 16).unwrap().features;
    let exported = Encoder::load(&ModelFiles::read(&model).unwrap(), DeviceChoice::Cpu).unwrap();
    for (ours, theirs) in ours.iter().zip(exported.embed(&crops, 1.0).unwrap()) {
        let apart = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5, "{apart}");
    }
}
