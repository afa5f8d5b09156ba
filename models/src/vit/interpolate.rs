//! Bicubic resizing of position embeddings as a constant matrix (spec §1.1).

/// The 1-D weights `[n_out, n_in]`, row-major: bicubic (a = −0.75), `align_corners = false`, border taps clamped, no antialias.
pub fn bicubic_weights(_n_in: usize, _n_out: usize) -> Vec<f64> {
    todo!()
}

/// The 2-D matrix `[n_out², n_in²]`, row-major: the Kronecker square of [`bicubic_weights`].
pub fn bicubic_matrix(_n_in: usize, _n_out: usize) -> Vec<f64> {
    todo!()
}
