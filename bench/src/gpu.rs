//! Embedding images on a CUDA device beside PyTorch and ONNX Runtime. Everybody begins with the bytes of crops on the host
//! and ends with vectors there.

use crate::Options;
use crate::report::machine;
use crate::sides::{self, Group, Lineup, Programs, ROUNDS};
use anyhow::Result;

const LINEUP: Lineup = Lineup {
    bench: "gpu",
    device: "cuda",
    script: "gpu_peer.py",
    groups: &[
        Group {
            dtype: "bf16",
            engines: &["torch-eager-bf16", "torch-sdpa-bf16", "torch-compile-bf16"],
            least_agreement: 0.99,
        },
        Group { dtype: "f16", engines: &["torch-compile-f16"], least_agreement: 0.999 },
        Group { dtype: "tf32", engines: &["torch-compile-tf32", "onnxruntime-tf32"], least_agreement: 0.999 },
        Group { dtype: "f32", engines: &["torch-sdpa-f32"], least_agreement: 0.9999 },
    ],
    reference: "torch-sdpa-f32",
    batches: &[1, 8, 64, 256],
    quick_batches: &[1, 64],
    warm_up: 5,
    counts_memory: false,
};

pub(crate) fn run(options: &Options, programs: &Programs) -> Result<()> {
    sides::run(&LINEUP, options, programs, |device| {
        format!(
            "{device}, {}; images per second, medians of {ROUNDS} interleaved rounds (least–largest), from bytes of crops on \
             the host to vectors on the host; cosines to the vectors of PyTorch in f32, mean and least. `compile` is \
             `torch.compile(mode=\"max-autotune\")`. The share is that of an 8192³ bf16 product's rate that the network's \
             multiply-adds make, all tokens counted in all blocks.\n\n",
            machine()
        )
    })
}
