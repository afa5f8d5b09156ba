//! The kernels' sources, run on the CPU by plans the GPU gets too, against the reference compositions: values and
//! gradients, at shapes that do not fill tiles, packs or stripes.

mod assignment;
mod attention;
mod embedding;
pub(in crate::vit) mod emulator;
mod rows;
mod update;
mod views;

use super::plan::Element;
use candle_core::{Device, Result, Tensor, Var};
use emulator::Emulator;
use half::{bf16, f16};

/// Values of about unit size from a counter, stirred by the finaliser of SplitMix64.
fn values(seed: u64, count: usize) -> Vec<f32> {
    let uniform = |counter: u64| {
        let mut bits = (seed << 40 | counter).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count as u64).map(|i| uniform(3 * i) + uniform(3 * i + 1) + uniform(3 * i + 2)).collect()
}

fn scaled(seed: u64, count: usize, factor: f32) -> Vec<f32> {
    values(seed, count).into_iter().map(|value| value * factor).collect()
}

fn variable(values: &[f32], shape: &[usize]) -> Var {
    Var::from_tensor(&Tensor::from_slice(values, shape, &Device::Cpu).unwrap()).unwrap()
}

/// The value of `function`, and the gradients of its variables given that of the value.
fn reference(
    variables: &[Var],
    gradient: &[f32],
    function: impl FnOnce(&[Var]) -> Result<Tensor>,
) -> Vec<Vec<f32>> {
    let value = function(variables).unwrap();
    let gradient = Tensor::from_slice(gradient, value.dims(), &Device::Cpu).unwrap();
    let gradients = (&value * gradient).unwrap().sum_all().unwrap().backward().unwrap();
    let gradients = variables.iter().map(|variable| gradients.get(variable).unwrap().clone());
    std::iter::once(value).chain(gradients).map(|t| t.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

/// Arrays agree within `tolerance` of the largest element of each.
fn assert_agree(name: &str, found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (array, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len(), "{name}: array {array}");
        let largest = expected.iter().fold(1e-3_f32, |largest, value| largest.max(value.abs()));
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            let error = (found - expected).abs() / largest;
            // Written so that NaN fails.
            assert!(error < tolerance, "{name}: array {array}, element {at}: {found} instead of {expected}");
        }
    }
}

/// Activations of either type on the emulator.
impl Element {
    /// Of the largest element: f32 sums in another order; bf16 rounds each result, and the factors of second products.
    pub(in crate::vit) fn tolerance(self) -> f32 {
        match self {
            Self::F32 => 2e-5,
            Self::Bf16 => 1.2e-2,
            Self::F16 => 1.5e-3,
        }
    }

    /// What an array of this type can hold of `values`.
    pub(in crate::vit) fn rounded(self, values: Vec<f32>) -> Vec<f32> {
        match self {
            Self::F32 => values,
            Self::Bf16 => values.into_iter().map(|value| bf16::from_f32(value).to_f32()).collect(),
            Self::F16 => values.into_iter().map(|value| f16::from_f32(value).to_f32()).collect(),
        }
    }

    fn upload(self, emulator: &Emulator, values: &[f32]) -> u64 {
        emulator.upload(&self.bytes_of(values))
    }

    fn allocate(self, emulator: &Emulator, length: usize) -> u64 {
        emulator.allocate(self.size() * length)
    }

    pub(in crate::vit) fn download(self, emulator: &Emulator, address: u64, length: usize) -> Vec<f32> {
        let bytes = emulator.download(address, self.size() * length);
        match self {
            Self::F32 => bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect(),
            Self::Bf16 => bytes.as_chunks().0.iter().map(|&two| bf16::from_le_bytes(two).to_f32()).collect(),
            Self::F16 => bytes.as_chunks().0.iter().map(|&two| f16::from_le_bytes(two).to_f32()).collect(),
        }
    }
}

const ELEMENTS: [Element; 2] = [Element::F32, Element::Bf16];
