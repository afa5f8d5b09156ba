//! What embedding allocates: its answer, and nothing that grows with the network or the calls.
//!
//! A binary of its own, with one test: the allocator that counts is everybody's.

#![expect(unsafe_code, reason = "an allocator")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dozen_models::checkpoint::{StoredDtype, export};
use dozen_models::image::{Filter, Preprocessor, Resize, RgbImage};
use dozen_models::vit::{Family, Parameters, Positions, Vit, VitConfig};
use dozen_models::{DeviceChoice, DtypeChoice, Encoder, ModelFiles};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::SeqCst);
        LIVE_BYTES.fetch_add(layout.size() as isize, Ordering::SeqCst);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as isize, Ordering::SeqCst);
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Pixels of a patch's side, and patches of a crop's.
const PATCH: usize = 7;
const GRID: usize = 3;

fn encoder(depth: usize, dtype: DtypeChoice) -> Encoder {
    let config = VitConfig {
        hidden_size: 24,
        num_hidden_layers: depth,
        num_attention_heads: 3,
        intermediate_size: 96,
        patch_size: PATCH,
        image_size: PATCH * GRID,
        num_channels: 3,
        layer_norm_eps: 1e-6,
        family: Family::Msn,
        positions: Positions::default(),
    };
    let mut parameters = Parameters::new();
    for (index, (name, shape)) in Vit::parameter_shapes(&config).into_iter().enumerate() {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|n| ((n + index) as f32 * 0.7).sin() * 0.3).collect();
        let tensor = candle_core::Tensor::from_vec(values, shape, &candle_core::Device::Cpu).unwrap();
        parameters.insert(name, tensor);
    }
    let size = (PATCH * GRID) as u32;
    let preprocessor = Preprocessor {
        resize: Resize::Squash { size },
        filter: Filter::Bilinear,
        mean: [0.5; 3],
        std: [0.2; 3],
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    export(&path, "counted", &config, &preprocessor, &parameters, StoredDtype::F32).unwrap();
    Encoder::load_as(&ModelFiles::read(&path).unwrap(), DeviceChoice::Cpu, dtype).unwrap()
}

fn crops(count: usize) -> Vec<RgbImage> {
    let side = (PATCH * GRID) as u32;
    let pixels = |salt: usize| (0..(side * side * 3) as usize).map(|at| (at * (salt + 3)) as u8).collect();
    (0..count).map(|salt| RgbImage { width: side, height: side, pixels: pixels(salt) }).collect()
}

/// The least number of allocations of a call: threads that start or sleep may now and then add their own.
fn allocations(encoder: &Encoder, crops: &[RgbImage]) -> usize {
    let one_call = |_| {
        let before = CALLS.load(Ordering::SeqCst);
        drop(encoder.embed(crops, 1.0).unwrap());
        CALLS.load(Ordering::SeqCst) - before
    };
    (0..50).map(one_call).min().unwrap()
}

#[test]
fn calls_allocate_their_answers_only_and_leave_nothing_behind() {
    for dtype in [DtypeChoice::F32, DtypeChoice::Int8] {
        let [shallow, deep] = [1, 12].map(|depth| encoder(depth, dtype));
        for images in [1, 2, 9] {
            let crops = crops(images);
            let [of_shallow, of_deep] = [&shallow, &deep].map(|encoder| allocations(encoder, &crops));
            assert_eq!(of_shallow, of_deep, "{dtype:?}: eleven more blocks allocate nothing");
            // Which patches, all features, the vectors and their list.
            assert!(of_deep <= 5 + 2 * images, "{dtype:?}: {of_deep} allocations for {images} images");
        }
        let crops = crops(2);
        let mut live = Vec::new();
        for _ in 0..3 {
            for _ in 0..5000 {
                drop(shallow.embed(&crops, 1.0).unwrap());
            }
            live.push(LIVE_BYTES.load(Ordering::SeqCst));
        }
        // Rayon's queue of jobs comes in blocks of a few kilobytes, one more or less.
        assert!((live[2] - live[0]).abs() < 8192, "{dtype:?}: bytes in use: {live:?}");
    }
}
