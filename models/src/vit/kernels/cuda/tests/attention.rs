//! Attention, and the warp products it is made of.

use super::{ELEMENTS, Emulator, assert_agree, reference as compose, scaled, values, variable};
use crate::vit::kernels::cuda::plan::{Argument, Attention, Element, Launch};
use crate::vit::kernels::reference;

fn check(shape: Attention, factor: f32, tolerance: f32) {
    let Attention { element, batch, tokens, width, heads } = shape;
    assert!(shape.is_supported());
    let (packed, count) = (3 * batch * tokens * width, batch * tokens * width);
    let qkv = element.rounded(scaled(1, packed, factor));
    let gradient = element.rounded(values(2, count));
    let found = Emulator::run(|emulator| {
        let [qkv, dy] = [&qkv, &gradient].map(|values| element.upload(emulator, values));
        let (out, dqkv) = (element.allocate(emulator, count), element.allocate(emulator, packed));
        let [logsums, deltas] = [0; 2].map(|_| emulator.floats(shape.rows()));
        emulator.launch(&[shape.forward([qkv, out, logsums])]);
        emulator.launch(&shape.backward(qkv, [out, dy, logsums, deltas], dqkv));
        vec![element.download(emulator, out, count), element.download(emulator, dqkv, packed)]
    });
    let Some(found) = found else { return };
    let variables = [variable(&qkv, &[batch, tokens, 3 * width])];
    let expected = compose(&variables, &gradient, |v| reference::attention(&v[0], heads));
    assert_agree(&format!("{shape:?}, values of {factor}"), &found, &expected, tolerance);
}

#[test]
fn any_number_of_tokens() {
    for element in ELEMENTS {
        for (tokens, head) in [(1, 32), (7, 64), (16, 32), (64, 32), (65, 64), (130, 32)] {
            let shape = Attention { element, batch: 2, tokens, width: 2 * head, heads: 2 };
            check(shape, 1.0, element.tolerance());
        }
    }
}

/// Scores of several hundred: without the running maximum the exponentials would overflow.
#[test]
fn large_values() {
    let shape = Attention { element: Element::F32, batch: 1, tokens: 70, width: 96, heads: 3 };
    check(shape, 12.0, 1e-3);
}

#[test]
fn shapes_without_kernels_are_named() {
    let shape = Attention { element: Element::F32, batch: 1, tokens: 3, width: 96, heads: 2 };
    assert!(!shape.is_supported());
    assert!(!Attention { heads: 5, ..shape }.is_supported());
    assert!(!Attention { heads: 3, batch: 65_536, ..shape }.is_supported());
    assert!(Attention { heads: 3, ..shape }.is_supported());
}

/// The emulated tensor cores and the shuffles that stand in for them against a plain product.
#[test]
fn products_of_one_warp() {
    for element in [Element::F32, Element::Bf16, Element::F16] {
        let (a, b) = (element.rounded(values(1, 256)), element.rounded(values(2, 128)));
        let found = Emulator::run(|emulator| {
            let [a, b] = [&a, &b].map(|values| emulator.upload_floats(values));
            let product = |shuffles: i32| {
                let d = emulator.floats(128);
                let kernel = match element {
                    Element::F32 => "product_of_one_warp_f32",
                    Element::Bf16 => "product_of_one_warp_bf16",
                    Element::F16 => "product_of_one_warp_f16",
                };
                let arguments = [a, b, d].map(Argument::Address).into_iter().chain([Argument::Int(shuffles)]);
                let arguments = arguments.collect();
                emulator.launch(&[Launch { kernel: kernel.into(), grid: [1; 3], threads: 32, arguments }]);
                emulator.download_floats(d, 128)
            };
            vec![product(0), product(1)]
        });
        let Some(found) = found else { return };
        let expected =
            |row: usize, column: usize| -> f32 { (0..16).map(|k| a[row * 16 + k] * b[k * 8 + column]).sum() };
        let expected: Vec<f32> = (0..128).map(|at| expected(at / 8, at % 8)).collect();
        assert_agree(&format!("{element:?}"), &found, &[expected.clone(), expected], 1e-5);
    }
}
