//! What only embedding launches, at sizes that whole passes do not reach.

use super::{Emulator, assert_agree, scaled, values, variable};
use crate::vit::kernels::cuda::plan::{Attention, Element, Rows};
use crate::vit::kernels::reference;

const ELEMENTS: [Element; 3] = [Element::F32, Element::Bf16, Element::F16];

/// The first token's attention is the first row of everybody's.
#[test]
fn attention_of_the_first_token() {
    for element in ELEMENTS {
        for (batch, tokens, head) in [(1, 1, 32), (2, 3, 64), (3, 4, 32), (2, 131, 64)] {
            let (heads, width) = (2, 2 * head);
            let qkv = element.rounded(scaled(1, batch * tokens * 3 * width, 2.0));
            let packed: Vec<&[f32]> = qkv.chunks_exact(3 * width).collect();
            let queries: Vec<f32> =
                packed.iter().step_by(tokens).flat_map(|row| row[..width].to_vec()).collect();
            let answers: Vec<f32> = packed.iter().flat_map(|row| row[width..].to_vec()).collect();
            let found = Emulator::run(|emulator| {
                let [queries, answers] = [&queries, &answers].map(|values| element.upload(emulator, values));
                let out = element.allocate(emulator, batch * width);
                let attention = Attention { element, batch, tokens, width, heads };
                emulator.launch(&[attention.first([queries, answers, out])]);
                vec![element.download(emulator, out, batch * width)]
            });
            let Some(found) = found else { return };
            let all = reference::attention(&variable(&qkv, &[batch, tokens, 3 * width]), heads).unwrap();
            let first = all.narrow(1, 0, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert_agree(&format!("{element:?}, {tokens} tokens"), &found, &[first], element.tolerance());
        }
    }
}

/// The forward pass of all tokens in half precision, and without what a backward pass would want.
#[test]
fn attention_that_nothing_follows() {
    for element in ELEMENTS {
        let attention = Attention { element, batch: 2, tokens: 67, width: 64, heads: 2 };
        let qkv = element.rounded(scaled(1, 2 * 67 * 192, 2.0));
        let found = Emulator::run(|emulator| {
            let (packed, out) = (element.upload(emulator, &qkv), element.allocate(emulator, 2 * 67 * 64));
            emulator.launch(&[attention.forward([packed, out, 0])]);
            vec![element.download(emulator, out, 2 * 67 * 64)]
        });
        let Some(found) = found else { return };
        let expected = reference::attention(&variable(&qkv, &[2, 67, 192]), 2).unwrap();
        let expected = expected.flatten_all().unwrap().to_vec1().unwrap();
        assert_agree(&format!("{element:?}"), &found, &[expected], element.tolerance());
    }
}

#[test]
fn bias_and_gelu_in_place() {
    // The last is more than the largest grid covers at once.
    for (rows, width) in [(1, 8), (7, 264), (4400, 1008)] {
        for element in ELEMENTS {
            if rows > 1000 && element != Element::F32 {
                continue;
            }
            let (h, bias) = (element.rounded(scaled(1, rows * width, 2.0)), values(2, width));
            let found = Emulator::run(|emulator| {
                let (h, bias) = (element.upload(emulator, &h), emulator.upload_floats(&bias));
                emulator.launch(&[Rows { element, rows, width }.bias_gelu(h, bias)]);
                vec![element.download(emulator, h, rows * width)]
            });
            let Some(found) = found else { return };
            let (h, bias) = (variable(&h, &[rows, width]), variable(&bias, &[width]));
            let expected = reference::gelu(&h.broadcast_add(&bias).unwrap()).unwrap();
            let expected = expected.flatten_all().unwrap().to_vec1().unwrap();
            assert_agree(&format!("{element:?} {rows}x{width}"), &found, &[expected], element.tolerance());
        }
    }
}

#[test]
fn means_of_rows() {
    for element in ELEMENTS {
        for (images, rows, skipped, width) in [(1, 1, 0, 32), (3, 7, 1, 300), (2, 40, 1, 64)] {
            let x = element.rounded(values(1, images * rows * width));
            let found = Emulator::run(|emulator| {
                let (from, out) = (element.upload(emulator, &x), emulator.floats(images * width));
                let matrix = Rows { element, rows: images * rows, width };
                emulator.launch(&[matrix.mean_of_rows(images, skipped, [from, out])]);
                vec![emulator.download_floats(out, images * width)]
            });
            let Some(found) = found else { return };
            let x = variable(&x, &[images, rows, width]);
            let means = x.narrow(1, skipped, rows - skipped).unwrap().mean(1).unwrap();
            let means = means.flatten_all().unwrap().to_vec1().unwrap();
            assert_agree(&format!("{element:?} {rows}x{width}"), &found, &[means], 1e-5);
        }
    }
}
