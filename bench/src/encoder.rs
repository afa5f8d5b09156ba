//! Embedding images on the CPU beside the usual engines, with a thread per core.

use crate::Options;
use crate::report::machine;
use crate::sides::{self, Group, Lineup, Programs, ROUNDS};
use anyhow::Result;

const LINEUP: Lineup = Lineup {
    bench: "encoder",
    device: "cpu",
    script: "encoder_peer.py",
    groups: &[
        Group { dtype: "f32", engines: &["torch", "onnxruntime", "openvino"], least_agreement: 0.9999 },
        // Some engines' bytes are far off; the table says how far.
        Group { dtype: "int8", engines: &["onnxruntime-int8", "openvino-int8"], least_agreement: -1.0 },
    ],
    reference: "torch",
    batches: &[1, 8, 32],
    quick_batches: &[1, 8],
    warm_up: 1,
    counts_memory: true,
};

pub(crate) fn run(options: &Options, programs: &Programs) -> Result<()> {
    sides::run(&LINEUP, options, programs, |_| {
        format!(
            "{}; images per second, medians of {ROUNDS} interleaved rounds (least–largest); cosines to PyTorch's vectors, mean \
             and least; the largest resident memory of each process over all its batch sizes. The share is that of the \
             rate of a 2048³ f32 product, in candle or PyTorch, whichever is faster, that the network's multiply-adds make; all \
             tokens are counted in all blocks, though of the last one only CLS is computed to the end.\n\n",
            machine()
        )
    })
}
