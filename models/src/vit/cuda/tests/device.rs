//! On a CUDA device, where there is one: what the emulator cannot show.

use super::{all_patches, assert_close, task, tolerance};
use crate::vit::Vit;
use crate::vit::cpu::Kept;
use crate::vit::cpu::tests::{cls_rows, config, crops, expected, network};
use crate::vit::cuda::{CudaVit, Precision};
use crate::vit::kernels::Outputs;
use crate::vit::kernels::cuda::plan::Element;
use crate::vit::reference::Keep;
use candle_core::{CudaDevice, Device, Tensor};

fn device() -> Option<CudaDevice> {
    match Device::new_cuda(0) {
        Ok(Device::Cuda(device)) => Some(device),
        Ok(Device::Cpu | Device::Metal(_)) | Err(_) => {
            println!("SKIPPED: there is no CUDA device");
            None
        }
    }
}

const WIDTH: usize = 64;
/// Patches in a row.
const GRID: usize = 3;

/// A network, and the side of its crops.
fn example() -> (Vit, usize) {
    (network(&config(2, WIDTH, 2, 7, GRID)), 7 * GRID + 3)
}

/// One by one, captured and replayed, in one pass and in several: the reference, and the same bits every time.
#[test]
fn a_device_gives_the_references_vectors() {
    let Some(device) = device() else { return };
    let ((vit, side), kept) = (example(), all_patches(GRID));
    for (precision, tolerance) in [
        (Precision::F32, tolerance(Element::F32)),
        (Precision::Tf32, tolerance(Element::F16)),
        (Precision::F16, tolerance(Element::F16)),
        (Precision::Bf16, tolerance(Element::Bf16)),
    ] {
        let task = task(side, Outputs::First, false);
        let trunk = CudaVit::new(&vit, &device, &task, precision).unwrap().unwrap();
        for count in [1, 5, 40, 150] {
            let crops = crops(count, side);
            let expected = cls_rows(&expected(&vit, &crops, None), count, WIDTH);
            let runs = [(); 4].map(|()| trunk.run(&crops, Kept::Shared(&kept)).unwrap());
            assert_close(&format!("{precision:?}, {count} images"), &runs[0], &expected, tolerance);
            assert!(runs.iter().all(|run| *run == runs[0]), "{precision:?}, {count} images");
        }
    }
}

/// More numbers of images and patches than a slot keeps prepared.
#[test]
fn patches_that_are_dropped_on_a_device() {
    let Some(device) = device() else { return };
    let (vit, side) = example();
    let trunk = CudaVit::new(&vit, &device, &task(side, Outputs::First, false), Precision::F32);
    let trunk = trunk.unwrap().unwrap();
    let sizes = (1..9_usize).flat_map(|images| (1..10_u32).map(move |patches| (images, patches)));
    for (images, patches) in sizes.clone().chain(sizes) {
        let crops = crops(images, side);
        let list = |image: u32| (0..patches).map(|number| (5 * image + 7 * number) % 9).collect();
        let lists: Vec<Vec<u32>> = (0..images as u32).map(list).collect();
        let indices = Tensor::new(lists.concat(), &Device::Cpu).unwrap();
        let indices = indices.reshape((images, patches as usize)).unwrap();
        let expected = expected(&vit, &crops, Some(Keep::PerImage(&indices)));
        let found = trunk.run(&crops, Kept::PerImage(&lists)).unwrap();
        let name = format!("{images} images of {patches} patches");
        assert_close(&name, &found, &cls_rows(&expected, images, WIDTH), tolerance(Element::F32));
    }
}

/// More threads than slots, with batches of one pass and of several.
#[test]
fn threads_share_a_device() {
    let Some(device) = device() else { return };
    let ((vit, side), kept) = (example(), all_patches(GRID));
    let trunk = CudaVit::new(&vit, &device, &task(side, Outputs::First, false), Precision::F32);
    let trunk = trunk.unwrap().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..5 {
            let (trunk, kept) = (&trunk, &kept);
            let crops = crops(1 + 23 * thread, side);
            scope.spawn(move || {
                let alone = trunk.run(&crops, Kept::Shared(kept)).unwrap();
                for _ in 0..5 {
                    assert!(trunk.run(&crops, Kept::Shared(kept)).unwrap() == alone, "thread {thread}");
                }
            });
        }
    });
}
