//! The optimiser's step over several tensors at once.

use super::{Emulator, assert_agree, values};
use crate::vit::kernels::cuda::plan::{CONTROL, Rates, UpdatedArrays, table, update};

const LENGTHS: [usize; 4] = [1, 4096, 5000, 9001];

/// Values, moments and averages of all tensors after `losses.len()` steps, with norms and control last.
fn run(losses: &[f32], gradient_of: impl Fn(usize, usize) -> Vec<f32>, limit: f64) -> Option<Vec<Vec<f32>>> {
    Emulator::run(|emulator| {
        let arrays: Vec<[u64; 4]> = LENGTHS
            .iter()
            .enumerate()
            .map(|(index, &length)| {
                let value = values(index as u64, length);
                let zeros = vec![0.0; length];
                [&value, &zeros, &zeros, &value].map(|values| emulator.upload_floats(values))
            })
            .collect();
        let norms = emulator.floats(LENGTHS.len());
        let control = emulator.upload_floats(&[0.0, 0.0, 1.0]);
        for (step, &loss) in losses.iter().enumerate() {
            let tensors: Vec<UpdatedArrays> = (0..LENGTHS.len())
                .map(|index| UpdatedArrays {
                    value: arrays[index][0],
                    first_moment: arrays[index][1],
                    second_moment: arrays[index][2],
                    // The last has no moving average, and is neither decayed nor clipped: prototypes.
                    average: if index == 3 { 0 } else { arrays[index][3] },
                    gradient: emulator.upload_floats(&gradient_of(step, index)),
                    length: LENGTHS[index],
                    decayed: index % 2 == 0,
                    clipped: index < 3,
                })
                .collect();
            let (words, chunks) = table(&tensors);
            assert_eq!(chunks, 1 + 1 + 2 + 3);
            let squares = emulator.floats(chunks);
            let loss = emulator.upload_floats(&[loss]);
            let arrays = [emulator.upload_words(&words), squares, loss, norms, control];
            emulator.launch(&update(LENGTHS.len(), chunks, arrays, &rates(step, limit)));
        }
        let mut out = Vec::new();
        for (arrays, &length) in arrays.iter().zip(&LENGTHS) {
            out.extend(arrays.map(|array| emulator.download_floats(array, length)));
        }
        out.push(emulator.download_floats(norms, LENGTHS.len()));
        out.push(emulator.download_floats(control, CONTROL));
        out
    })
}

fn rates(step: usize, limit: f64) -> Rates {
    Rates {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        learning_rate: 1e-2,
        weight_decay: 0.1,
        momentum: 0.99,
        step: step as u64 + 1,
        limit,
    }
}

fn gradient(step: usize, index: usize) -> Vec<f32> {
    values((10 * step + index + 100) as u64, LENGTHS[index])
}

/// The same in f64 from the formulas of arXiv 1711.05101.
#[expect(clippy::suboptimal_flops, reason = "as the paper writes it")]
fn expected(steps: usize, limit: f64) -> Vec<Vec<f32>> {
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
    let start = |index: usize| wide(values(index as u64, LENGTHS[index]));
    let mut state: Vec<[Vec<f64>; 4]> = (0..LENGTHS.len())
        .map(|index| [start(index), vec![0.0; LENGTHS[index]], vec![0.0; LENGTHS[index]], start(index)])
        .collect();
    let (mut norms, mut norm, mut clip) = (Vec::new(), 0.0, 1.0);
    for step in 0..steps {
        let gradients: Vec<Vec<f64>> = (0..LENGTHS.len()).map(|index| wide(gradient(step, index))).collect();
        norms = gradients.iter().map(|g| g.iter().map(|x| x * x).sum::<f64>().sqrt()).collect();
        norm = norms[..3].iter().map(|norm| norm * norm).sum::<f64>().sqrt();
        clip = if limit > 0.0 { (limit / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let Rates { beta1, beta2, eps, learning_rate, weight_decay, momentum, step, .. } = rates(step, limit);
        for (index, [value, first, second, average]) in state.iter_mut().enumerate() {
            for at in 0..value.len() {
                let g = gradients[index][at] * if index < 3 { clip } else { 1.0 };
                first[at] = beta1 * first[at] + (1.0 - beta1) * g;
                second[at] = beta2 * second[at] + (1.0 - beta2) * g * g;
                let first = first[at] / (1.0 - beta1.powi(step as i32));
                let second = second[at] / (1.0 - beta2.powi(step as i32));
                let keep = if index % 2 == 0 { 1.0 - learning_rate * weight_decay } else { 1.0 };
                value[at] = keep * value[at] - learning_rate * first / (second.sqrt() + eps);
                if index < 3 {
                    average[at] = momentum * average[at] + (1.0 - momentum) * value[at];
                }
            }
        }
    }
    let mut out: Vec<Vec<f64>> = state.into_iter().flatten().collect();
    out.push(norms);
    out.push(vec![norm, clip, 1.0]);
    out.into_iter().map(|array| array.into_iter().map(|value| value as f32).collect()).collect()
}

#[test]
fn three_steps() {
    for limit in [0.0, 2.5] {
        let Some(found) = run(&[1.0; 3], gradient, limit) else { return };
        assert_agree(&format!("limit {limit}"), &found, &expected(3, limit), 2e-6);
    }
}

/// A step with an infinite gradient or loss, and all after it, change nothing.
#[test]
fn what_is_not_finite_stops_the_run_and_spares_the_parameters() {
    let bad = |step: usize, index: usize| {
        let mut values = gradient(step, index);
        if step == 1 && index == 2 {
            values[4500] = f32::INFINITY;
        }
        values
    };
    let parameters = 4 * LENGTHS.len();
    let Some(one) = run(&[1.0], gradient, 1.0) else { return };
    for stopped in [run(&[1.0; 3], bad, 1.0), run(&[1.0, f32::NAN, 1.0], gradient, 1.0)] {
        let stopped = stopped.unwrap();
        assert_eq!(stopped[..parameters], one[..parameters]);
        let healthy = |arrays: &[Vec<f32>]| arrays[parameters + 1][2] > 0.5;
        assert!(!healthy(&stopped) && healthy(&one));
    }
}
