//! Affine transformations of square images of interleaved 8-bit RGB, with the sampling of Pillow's bilinear `transform`.

/// What is seen where an image ends: ImageNet's mean colour.
const FILL: [u8; 3] = [124, 116, 104];

/// The pixel at the output's (x, y) is taken from `[a·x + b·y + c, d·x + e·y + f]`, in pixels from the corner.
pub(super) fn transform(pixels: &mut [u8], side: usize, [a, b, c, d, e, f]: [f64; 6]) {
    let source = pixels.to_vec();
    let inside = |value: f64| (0.0..side as f64).contains(&value);
    for (index, pixel) in pixels.chunks_exact_mut(3).enumerate() {
        let (x, y) = ((index % side) as f64 + 0.5, (index / side) as f64 + 0.5);
        let (from_x, from_y) = (a * x + b * y + c, d * x + e * y + f);
        if inside(from_x) && inside(from_y) {
            sample(&source, side, from_x - 0.5, from_y - 0.5, pixel);
        } else {
            pixel.copy_from_slice(&FILL);
        }
    }
}

/// Bilinear, edges repeated, truncated to bytes.
fn sample(source: &[u8], side: usize, x: f64, y: f64, pixel: &mut [u8]) {
    let clamp = |value: f64| value.clamp(0.0, (side - 1) as f64) as usize;
    let columns = [clamp(x.floor()), clamp(x.floor() + 1.0)];
    let rows = [clamp(y.floor()), clamp(y.floor() + 1.0)];
    let (share_x, share_y) = (x - x.floor(), y - y.floor());
    for (channel, value) in pixel.iter_mut().enumerate() {
        let at = |row: usize, column: usize| f64::from(source[(row * side + column) * 3 + channel]);
        let along = |row: usize| at(row, columns[0]) + (at(row, columns[1]) - at(row, columns[0])) * share_x;
        *value = (along(rows[0]) + (along(rows[1]) - along(rows[0])) * share_y) as u8;
    }
}

/// Counter-clockwise about the centre.
pub(super) fn rotate(pixels: &mut [u8], side: usize, degrees: f64) {
    let (sin, cos) = (-degrees.to_radians()).sin_cos();
    let centre = side as f64 / 2.0;
    let offset = [centre - cos * centre - sin * centre, centre + sin * centre - cos * centre];
    transform(pixels, side, [cos, sin, offset[0], -sin, cos, offset[1]]);
}
