//! The parts of an assignment to prototypes.

use super::{Emulator, assert_agree, reference as compose, scaled, values, variable};
use crate::vit::kernels::cuda::plan::{Element, Rows};
use crate::vit::kernels::reference;

#[test]
fn unit_rows() {
    for (rows, width) in [(1, 1), (9, 33), (17, 256)] {
        let mut x = scaled(1, rows * width, 5.0);
        let last = (rows - 1) * width;
        if rows > 2 {
            // Nothing at all, and something shorter than the bound on lengths.
            x[..width].fill(0.0);
            x[last..].iter_mut().for_each(|value| *value *= 1e-15);
        }
        let gradient = values(2, rows * width);
        let found = Emulator::run(|emulator| {
            let plan = Rows { element: Element::F32, rows, width };
            let [x, dy] = [&x, &gradient].map(|values| emulator.upload_floats(values));
            let [unit, dx] = [0; 2].map(|_| emulator.floats(rows * width));
            let inverse = emulator.floats(rows);
            emulator.launch(&[
                plan.unit_rows([x, unit, inverse]),
                plan.unit_rows_backward([unit, inverse, dy, dx]),
            ]);
            [unit, dx].map(|array| emulator.download_floats(array, rows * width)).to_vec()
        });
        let Some(found) = found else { return };
        let expected = compose(&[variable(&x, &[rows, width])], &gradient, |v| reference::unit_rows(&v[0]));
        // Row by row: the gradients of the bounded rows are 1e12 times the others'.
        for row in 0..rows {
            let part = |arrays: &[Vec<f32>]| -> Vec<Vec<f32>> {
                arrays.iter().map(|array| array[row * width..][..width].to_vec()).collect()
            };
            assert_agree(&format!("row {row} of {rows}x{width}"), &part(&found), &part(&expected), 1e-4);
        }
    }
}

#[test]
fn log_softmax() {
    for (rows, width, factor) in [(1, 1, 1.0), (11, 37, 1.0), (9, 1030, 30.0)] {
        let scale = 10.0;
        let logits = scaled(1, rows * width, factor);
        let gradient = values(2, rows * width);
        let found = Emulator::run(|emulator| {
            let plan = Rows { element: Element::F32, rows, width };
            let [out, dy] = [&logits, &gradient].map(|values| emulator.upload_floats(values));
            let dx = emulator.floats(rows * width);
            emulator.launch(&[plan.log_softmax(out, scale), plan.log_softmax_backward([out, dy, dx], scale)]);
            [out, dx].map(|array| emulator.download_floats(array, rows * width)).to_vec()
        });
        let Some(found) = found else { return };
        let expected = compose(&[variable(&logits, &[rows, width])], &gradient, |v| {
            reference::log_softmax(&(v[0].as_tensor() * f64::from(scale))?)
        });
        assert_agree(&format!("{rows}x{width}"), &found, &expected, 1e-4);
    }
}
