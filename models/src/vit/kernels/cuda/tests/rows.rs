//! LayerNorm, and what surrounds a linear layer's product.

use super::{ELEMENTS, Emulator, assert_agree, reference as compose, scaled, values, variable};
use crate::vit::kernels::cuda::plan::{Element, Elements, Rows, stripes};
use crate::vit::kernels::reference;

/// Rows and widths: one of each, odd ones, ones that packs divide, more than a stripe.
const SHAPES: [(usize, usize); 5] = [(1, 1), (3, 33), (9, 132), (70, 36), (2100, 7)];

#[test]
fn layer_norm() {
    for (rows, width) in SHAPES {
        for element in ELEMENTS {
            let count = rows * width;
            let mut x = element.rounded(scaled(1, count, 3.0));
            // A row far from 0 must not lose its variance.
            x[..width].iter_mut().for_each(|value| *value = element.rounded(vec![*value + 50.0])[0]);
            let (weight, bias) = (values(2, width), values(3, width));
            let gradient = element.rounded(values(4, count));
            let found = Emulator::run(|emulator| {
                let plan = Rows { element, rows, width };
                let [x, dy] = [&x, &gradient].map(|values| element.upload(emulator, values));
                let [weight, bias] = [&weight, &bias].map(|values| emulator.upload_floats(values));
                let [y, dx] = [0; 2].map(|_| element.allocate(emulator, count));
                let partial = emulator.floats(stripes(rows) * 2 * width);
                let sums = emulator.floats(2 * width);
                emulator.launch(&[plan.layer_norm([x, weight, bias, y], 1e-6)]);
                emulator.launch(&plan.layer_norm_backward([x, weight, dy, dx], partial, sums, 1e-6));
                let sums = emulator.download_floats(sums, 2 * width);
                let [y, dx] = [y, dx].map(|array| element.download(emulator, array, count));
                vec![y, dx, sums[..width].to_vec(), sums[width..].to_vec()]
            });
            let Some(found) = found else { return };
            let shape = [rows, width];
            let variables = [variable(&x, &shape), variable(&weight, &[width]), variable(&bias, &[width])];
            let expected =
                compose(&variables, &gradient, |v| reference::layer_norm(&v[0], &v[1], &v[2], 1e-6));
            // The row at 50 costs f32 three digits of the deviation, in the composition as here.
            let tolerance = element.tolerance().max(3e-4);
            assert_agree(&format!("{element:?} {rows}x{width}"), &found, &expected, tolerance);
        }
    }
}

#[test]
fn bias_and_gelu() {
    for (rows, width) in SHAPES {
        for element in ELEMENTS {
            let count = rows * width;
            let product = element.rounded(scaled(1, count, 2.0));
            let bias = values(2, width);
            let gradient = element.rounded(values(3, count));
            let found = Emulator::run(|emulator| {
                let plan = Rows { element, rows, width };
                let [h, plain, dy] = [&product, &product, &gradient].map(|v| element.upload(emulator, v));
                let bias = emulator.upload_floats(&bias);
                let [y, dh] = [0; 2].map(|_| element.allocate(emulator, count));
                let partial = emulator.floats(stripes(rows) * width);
                let [sums, plain_sums] = [0; 2].map(|_| emulator.floats(width));
                emulator.launch(&[plan.add_bias_gelu(h, bias, y), plan.add_bias(plain, bias)]);
                emulator.launch(&plan.gelu_column_sums([dy, h, dh], partial, sums));
                emulator.launch(&plan.column_sums(dy, partial, plain_sums));
                let mut arrays =
                    [y, dh, plain].map(|array| element.download(emulator, array, count)).to_vec();
                arrays.extend([sums, plain_sums].map(|array| emulator.download_floats(array, width)));
                arrays
            });
            let Some(found) = found else { return };
            let variables = [variable(&product, &[rows, width]), variable(&bias, &[width])];
            let activated = compose(&variables, &gradient, |v| reference::gelu(&v[0].broadcast_add(&v[1])?));
            let plain = compose(&variables, &gradient, |v| v[0].broadcast_add(&v[1]));
            let expected =
                [&activated[0], &activated[1], &plain[0], &activated[2], &plain[2]].map(Clone::clone);
            assert_agree(&format!("{element:?} {rows}x{width}"), &found, &expected, element.tolerance());
        }
    }
}

#[test]
fn gelu_alone() {
    for element in ELEMENTS {
        for count in [1, 5003, 5004] {
            let (x, gradient) = (element.rounded(scaled(1, count, 4.0)), element.rounded(values(2, count)));
            let found = Emulator::run(|emulator| {
                let plan = Elements { element, count };
                let [x, dy] = [&x, &gradient].map(|values| element.upload(emulator, values));
                let [y, dx] = [0; 2].map(|_| element.allocate(emulator, count));
                emulator.launch(&[plan.gelu([x, y]), plan.gelu_backward([x, dy, dx])]);
                [y, dx].map(|array| element.download(emulator, array, count)).to_vec()
            });
            let Some(found) = found else { return };
            let expected = compose(&[variable(&x, &[count])], &gradient, |v| reference::gelu(&v[0]));
            assert_agree(&format!("{element:?} {count}"), &found, &expected, element.tolerance());
        }
    }
}

/// More elements than the largest grid covers at once.
#[test]
fn a_grid_walks_over_what_it_does_not_cover() {
    let count = 132 * 16 * 256 + 5;
    let x = values(1, count);
    let found = Emulator::run(|emulator| {
        let (from, to) = (emulator.upload_floats(&x), emulator.floats(count));
        emulator.launch(&[Elements { element: Element::F32, count }.gelu([from, to])]);
        vec![emulator.download_floats(to, count)]
    });
    let Some(found) = found else { return };
    let expected = reference::gelu(variable(&x, &[count]).as_tensor()).unwrap().to_vec1().unwrap();
    assert_agree("gelu", &found, &[expected], 1e-5);
}
