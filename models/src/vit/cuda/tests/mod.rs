//! Whole passes, their kernels on the emulator and their products written out, against the reference.

#[cfg(feature = "cuda")]
mod device;

use super::batch::{self, Images, bucket};
use super::plan::{Matrix, Plan, Product, Step};
use super::weights::{Task, lay_out};
use super::{MOST_BYTES, MOST_IMAGES, Network};
use crate::image::RgbImage;
use crate::vit::Vit;
use crate::vit::cpu::Kept;
use crate::vit::cpu::tests::{DEVIATION, MEAN, cls_rows, config, crops, expected, network};
use crate::vit::kernels::Outputs;
use crate::vit::kernels::cuda::plan::Element;
use crate::vit::kernels::cuda::tests::emulator::Emulator;
use crate::vit::reference::Keep;
use candle_core::{Device, Tensor};

const ELEMENTS: [Element; 3] = [Element::F32, Element::Bf16, Element::F16];

/// Of the largest number of a result, through a whole network.
fn tolerance(element: Element) -> f32 {
    match element {
        Element::F32 => 5e-5,
        Element::Bf16 => 4e-2,
        Element::F16 => 5e-3,
    }
}

fn task(side: usize, outputs: Outputs, normalised: bool) -> Task {
    Task { side, mean: MEAN, deviation: DEVIATION, outputs, normalised }
}

/// What cuBLASLt does: sums in f32, of which the result is rounded once.
fn multiply(emulator: &Emulator, product: &Product) {
    let &Product { element, rows, inputs, outputs, x, weight, bias, onto, y } = product;
    let download = |matrix: Matrix, columns: usize| {
        element.download(emulator, matrix.address, (rows - 1) * matrix.stride + columns)
    };
    let weight = element.download(emulator, weight, outputs * inputs);
    let bias = bias.map(|bias| element.download(emulator, bias, outputs));
    let (of_x, of_onto) = (download(x, inputs), onto.map(|onto| (onto.stride, download(onto, outputs))));
    for row in 0..rows {
        let x = &of_x[row * x.stride..][..inputs];
        let sums = weight.chunks_exact(inputs).enumerate().map(|(column, weight)| {
            let sum = x.iter().zip(weight).map(|(x, weight)| x * weight).sum::<f32>();
            let bias = bias.as_ref().map_or(0.0, |bias| bias[column]);
            sum + bias + of_onto.as_ref().map_or(0.0, |(stride, onto)| onto[row * stride + column])
        });
        let sums = element.bytes_of(&sums.collect::<Vec<_>>());
        emulator.write(y.address + (row * y.stride * element.size()) as u64, &sums);
    }
}

/// The vectors of all images in one pass, which may be of more; `None` without a C++ compiler.
fn emulate(
    vit: &Vit,
    task: &Task,
    element: Element,
    images: Images<'_>,
    in_pass: usize,
) -> Option<(Network, Vec<f32>)> {
    let (network, memory) = lay_out(vit, task, element).unwrap().unwrap();
    let plan = Plan::new(&network, in_pass, 1 + images.kept.of(0).len());
    let part = 0..images.crops.len() * images.lists;
    let mut input = vec![0; batch::filled(&plan, &part, images.lists, network.crop_bytes())];
    batch::fill(&mut input, &plan, images, &part);
    let found = Emulator::run(|emulator| {
        let (weights, arrays) = (emulator.upload(&memory), emulator.allocate(plan.bytes));
        emulator.write(arrays, &input);
        for step in plan.steps(&network, arrays, weights) {
            match step {
                Step::Launch(launch) => emulator.launch(&[launch]),
                Step::Product(product) => multiply(emulator, &product),
            }
        }
        vec![emulator.download_floats(arrays + plan.output(&network) as u64, in_pass * network.width)]
    });
    let mut found = found?.remove(0);
    found.truncate(part.len() * network.width);
    Some((network, found))
}

fn assert_close(name: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        // Written so that NaN fails.
        assert!((found - expected).abs() < tolerance * largest, "{name}: {place}: {found}, not {expected}");
    }
}

fn all_patches(grid: usize) -> Vec<u32> {
    (0..(grid * grid) as u32).collect()
}

/// Networks of odd sizes: depth, width, heads, side of a patch, patches in a row, pixels beyond the last.
const SHAPES: [[usize; 6]; 2] = [[1, 96, 3, 7, 5, 3], [2, 64, 1, 4, 3, 0]];

#[test]
fn a_pass_is_the_reference() {
    for ([depth, width, heads, patch, grid, rest], element) in
        SHAPES.into_iter().flat_map(|shape| ELEMENTS.map(|element| (shape, element)))
    {
        let (vit, kept) = (network(&config(depth, width, heads, patch, grid)), all_patches(grid));
        let side = patch * grid + rest;
        for (count, in_pass) in [(1, 1), (5, 6)] {
            let crops = crops(count, side);
            let images = Images { crops: &crops, kept: Kept::Shared(&kept), lists: 1 };
            let task = task(side, Outputs::First, false);
            let Some((_, found)) = emulate(&vit, &task, element, images, in_pass) else { return };
            let expected = cls_rows(&expected(&vit, &crops, None), count, width);
            let name = format!("{element:?}, width {width}, {count} images");
            assert_close(&name, &found, &expected, tolerance(element));
        }
    }
}

#[test]
fn means_of_patches_and_the_final_norm() {
    let (width, patch, grid) = (64, 4, 3);
    let (vit, crops) = (network(&config(1, width, 2, patch, grid)), crops(3, patch * grid));
    let kept = all_patches(grid);
    let images = Images { crops: &crops, kept: Kept::Shared(&kept), lists: 1 };
    let hidden = Tensor::from_vec(expected(&vit, &crops, None), (3, 10, width), &Device::Cpu).unwrap();
    let means = hidden.narrow(1, 1, 9).unwrap().mean(1).unwrap();
    let cls = hidden.narrow(1, 0, 1).unwrap().squeeze(1).unwrap();
    for element in ELEMENTS {
        for (outputs, vectors) in [(Outputs::All, &means), (Outputs::First, &cls)] {
            let task = task(patch * grid, outputs, true);
            let Some((_, found)) = emulate(&vit, &task, element, images, 3) else { return };
            let expected = vit.final_norm(vectors).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert_close(&format!("{element:?}, {outputs:?}"), &found, &expected, tolerance(element));
        }
    }
}

#[test]
fn dropped_patches_are_never_seen() {
    let (width, patch, grid) = (64, 7, 4);
    let (vit, crops) = (network(&config(2, width, 2, patch, grid)), crops(2, patch * grid));
    let task = task(patch * grid, Outputs::First, false);
    let shared = [15, 2, 7, 9, 5];
    let images = Images { crops: &crops, kept: Kept::Shared(&shared), lists: 1 };
    let Some((_, found)) = emulate(&vit, &task, Element::F32, images, 2) else { return };
    let reference = cls_rows(&expected(&vit, &crops, Some(Keep::Shared(&shared))), 2, width);
    assert_close("shared", &found, &reference, tolerance(Element::F32));
    // Three masks of each crop.
    let lists = [[0, 7, 15], [3, 2, 1], [10, 11, 12], [4, 5, 6], [15, 0, 8], [9, 1, 14]];
    let indices = Tensor::new(&lists, &Device::Cpu).unwrap();
    let repeated: Vec<RgbImage> = crops.iter().flat_map(|crop| [(); 3].map(|()| crop.clone())).collect();
    let reference = cls_rows(&expected(&vit, &repeated, Some(Keep::PerImage(&indices))), 6, width);
    let lists = lists.map(|list| list.to_vec());
    let images = Images { crops: &crops, kept: Kept::PerImage(&lists), lists: 3 };
    let Some((_, found)) = emulate(&vit, &task, Element::F32, images, 8) else { return };
    assert_close("of each image", &found, &reference, tolerance(Element::F32));
}

/// In half precision too, where numbers end at 65504.
#[test]
fn black_and_white_images_are_numbers() {
    let (patch, grid) = (7, 3);
    let vit = network(&config(2, 96, 3, patch, grid));
    let side = patch * grid;
    let crops = [0, 255].map(|level| RgbImage {
        width: side as u32,
        height: side as u32,
        pixels: vec![level; side * side * 3],
    });
    let kept = all_patches(grid);
    let images = Images { crops: &crops, kept: Kept::Shared(&kept), lists: 1 };
    for element in ELEMENTS {
        let task = task(side, Outputs::First, false);
        let Some((_, found)) = emulate(&vit, &task, element, images, 2) else { return };
        assert!(found.iter().all(|value| value.is_finite()), "{element:?}");
    }
}

#[test]
fn heads_without_kernels_are_left_to_others() {
    let vit = network(&config(1, 48, 2, 4, 3));
    assert!(lay_out(&vit, &task(12, Outputs::First, false), Element::Bf16).unwrap().is_none());
}

/// Every array of a pass begins where cuBLASLt and 16-byte loads want it, and ends before the next one.
#[test]
fn products_stay_within_aligned_arrays() {
    let vit = network(&config(2, 96, 3, 7, 5));
    for (element, outputs) in
        ELEMENTS.into_iter().flat_map(|one| [(one, Outputs::First), (one, Outputs::All)])
    {
        let (network, memory) = lay_out(&vit, &task(38, outputs, true), element).unwrap().unwrap();
        let plan = Plan::new(&network, 3, 26);
        let (arrays, weights) = (1 << 30, 1 << 40);
        let mut products = 0;
        for step in plan.steps(&network, arrays, weights) {
            let Step::Product(product) = step else { continue };
            products += 1;
            let Product { rows, inputs, outputs, x, weight, bias, onto, y, .. } = product;
            let ends = |matrix: Matrix, columns: usize| {
                matrix.address + (((rows - 1) * matrix.stride + columns) * element.size()) as u64
            };
            let matrices = [(x, inputs), (y, outputs)].into_iter().chain(onto.map(|onto| (onto, outputs)));
            for (matrix, columns) in matrices {
                assert!(matrix.address.is_multiple_of(256) && (matrix.stride * element.size()) % 16 == 0);
                assert!(matrix.stride >= columns && ends(matrix, columns) <= arrays + plan.bytes as u64);
            }
            assert!(weight.is_multiple_of(256) && bias.is_none_or(|bias| bias.is_multiple_of(256)));
            assert!(weight + (outputs * inputs * element.size()) as u64 <= weights + memory.len() as u64);
            // What is read is not what is written, but for the sum that is added to in place.
            assert!(ends(x, inputs) <= y.address || ends(y, outputs) <= x.address);
        }
        let of_last = if outputs == Outputs::First { 5 } else { 4 };
        assert_eq!(products, 1 + 4 + of_last);
    }
}

#[test]
fn images_are_shared_out_among_prepared_passes() {
    let buckets: Vec<usize> = (1..=64).filter(|&images| bucket(images) == images).collect();
    assert_eq!(buckets, [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]);
    for images in 1..=300 {
        for most in [1, 5, 24, MOST_IMAGES] {
            let parts = batch::parts(images, most);
            assert!(parts.iter().all(|part| !part.is_empty() && bucket(part.len()) <= most));
            assert_eq!(parts.iter().map(ExactSizeIterator::len).sum::<usize>(), images);
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }
    // A small batch is one pass, a large one at least two.
    assert_eq!(batch::parts(31, MOST_IMAGES).len(), 1);
    assert_eq!(batch::parts(32, MOST_IMAGES), [0..16, 16..32]);
    assert_eq!(batch::parts(64, MOST_IMAGES), [0..32, 32..64]);
}

/// A part that begins in the middle of a crop's masks.
#[test]
fn the_table_names_crops_and_patches() {
    let vit = network(&config(1, 64, 2, 4, 3));
    let (network, _) = lay_out(&vit, &task(12, Outputs::First, false), Element::F32).unwrap().unwrap();
    let crops = crops(3, 12);
    let lists: Vec<Vec<u32>> = (0..6).map(|list| vec![list, 8 - list]).collect();
    let images = Images { crops: &crops, kept: Kept::PerImage(&lists), lists: 2 };
    let (plan, part) = (Plan::new(&network, 4, 3), 1..4);
    let mut memory = vec![0; batch::filled(&plan, &part, 2, network.crop_bytes())];
    batch::fill(&mut memory, &plan, images, &part);
    let words: Vec<u32> =
        memory[plan.table..].as_chunks().0[..12].iter().map(|&word| u32::from_le_bytes(word)).collect();
    assert_eq!(words, [0, 1, 7, 1, 2, 6, 1, 3, 5, 1, 3, 5]);
    assert_eq!(memory[plan.crops..], [&crops[0].pixels[..], &crops[1].pixels].concat());
}

/// The more tokens, the fewer images; what is given to a pass lies before all it computes.
#[test]
fn passes_fit_into_memory() {
    let vit = network(&config(1, 384, 6, 8, 56));
    let task = task(448, Outputs::First, false);
    let (network, _) = lay_out(&vit, &task, Element::F32).unwrap().unwrap();
    let mut before = MOST_IMAGES;
    for tokens in [2, 500, 1500, 3137] {
        let images = network.most_images(tokens);
        let plan = Plan::new(&network, images, tokens);
        assert!(images <= before && plan.bytes <= MOST_BYTES && bucket(images) == images);
        assert!(plan.given_bytes() >= batch::filled(&plan, &(0..images), 1, network.crop_bytes()));
        assert!(plan.given_bytes() <= plan.output(&network));
        before = images;
    }
    assert!(before < MOST_IMAGES);
}
