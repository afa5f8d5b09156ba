//! Vectors of weights: in f32, which halves the memory and its traffic, with sums in f64.

const LANES: usize = 16;

pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f64; LANES];
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            sums[lane] += f64::from(x[lane]) * f64::from(y[lane]);
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(&x, &y)| f64::from(x) * f64::from(y));
    sums.iter().sum::<f64>() + rest.sum::<f64>()
}

/// `target += scale · addend`.
pub(super) fn add_scaled(target: &mut [f32], scale: f64, addend: &[f32]) {
    let scale = scale as f32;
    for (target, addend) in target.iter_mut().zip(addend) {
        *target += scale * addend;
    }
}

pub(super) fn largest(vector: &[f32]) -> f64 {
    vector.iter().fold(0.0, |largest, component| f64::from(component.abs()).max(largest))
}
