//! Which kernels an operation launches, over how many threads and with which arguments: everything about a launch that
//! can be wrong without a GPU. Plans know arrays by their addresses alone, so that the tests run the same plans on the
//! emulator.

mod attention;
mod embedding;
mod rows;
mod update;
mod views;

pub(in crate::vit) use attention::Attention;
pub(in crate::vit) use embedding::PatchRows;
pub(in crate::vit) use rows::Rows;
pub(super) use rows::{Elements, stripes};
#[cfg_attr(not(feature = "cuda"), expect(unreachable_pub, reason = "public with the operations"))]
pub use update::Rates;
pub(super) use update::{CONTROL, UpdatedArrays, table, update};
#[cfg(test)]
pub(super) use views::view_colours;
pub(super) use views::{ImagePlace, view_table, views, views_at_a_time};

use half::{bf16, f16};

/// Threads of a block, where a kernel does not say otherwise.
const THREADS: u32 = 256;
const WARPS: usize = 8;
const WARP: usize = 32;

/// Blocks that keep every multiprocessor of a large GPU busy; kernels over elements walk on from there.
const MOST_BLOCKS: usize = 132 * 16;

/// Type of the activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vit) enum Element {
    F32,
    Bf16,
    /// Only what embedding takes has kernels.
    F16,
}

impl Element {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Numbers as they lie in memory.
    pub(in crate::vit) fn bytes_of(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        }
    }

    /// Bytes of one.
    pub(in crate::vit) fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(in crate::vit) enum Argument {
    /// Of an array on the device.
    Address(u64),
    Int(i32),
    Long(i64),
    Float(f32),
}

/// One launch of a kernel.
#[derive(Clone, Debug)]
pub(in crate::vit) struct Launch {
    pub(in crate::vit) kernel: String,
    pub(in crate::vit) grid: [u32; 3],
    pub(in crate::vit) threads: u32,
    pub(in crate::vit) arguments: Vec<Argument>,
}

impl Launch {
    fn new(kernel: String, grid: [usize; 3], threads: u32) -> Self {
        Self { kernel, grid: grid.map(|blocks| blocks as u32), threads, arguments: Vec::new() }
    }

    fn addresses<const N: usize>(mut self, addresses: [u64; N]) -> Self {
        self.arguments.extend(addresses.map(Argument::Address));
        self
    }

    fn ints<const N: usize>(mut self, values: [usize; N]) -> Self {
        self.arguments.extend(values.map(|value| Argument::Int(value as i32)));
        self
    }

    fn long(mut self, value: usize) -> Self {
        self.arguments.push(Argument::Long(value as i64));
        self
    }

    fn floats<const N: usize>(mut self, values: [f32; N]) -> Self {
        self.arguments.extend(values.map(Argument::Float));
        self
    }
}
