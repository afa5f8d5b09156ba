//! Matrix products on row-major slices: `gemm` picks AVX-512, AVX2 or plain code at run time.
//!
//! One thread each, so that the result is the same on every run on one machine.

use crate::Error;

/// A row-major matrix borrowed from a slice.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T = f64> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    transposed: bool,
}

/// Numbers that `gemm` multiplies: f32 or f64.
pub(crate) trait Number: Copy + 'static {
    const ONE: Self;
}

impl Number for f32 {
    const ONE: Self = 1.0;
}

impl Number for f64 {
    const ONE: Self = 1.0;
}

impl<'a, T: Number> View<'a, T> {
    pub(crate) fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a matrix fills its slice");
        Self { data, rows, columns, transposed: false }
    }

    pub(crate) fn transposed(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Rows and columns as used in the product.
    fn shape(self) -> (usize, usize) {
        if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) }
    }

    /// Distance in elements between neighbouring columns and neighbouring rows.
    fn strides(self) -> (isize, isize) {
        let row = self.columns as isize;
        if self.transposed { (row, 1) } else { (1, row) }
    }
}

/// `out = left · right`, row-major.
pub(crate) fn multiply<T: Number>(out: &mut [T], left: View<'_, T>, right: View<'_, T>) {
    product(out, false, left, right);
}

/// `out += left · right`, row-major.
pub(crate) fn add_product<T: Number>(out: &mut [T], left: View<'_, T>, right: View<'_, T>) {
    product(out, true, left, right);
}

fn product<T: Number>(out: &mut [T], is_added: bool, left: View<'_, T>, right: View<'_, T>) {
    let (rows, depth) = left.shape();
    let (right_rows, columns) = right.shape();
    assert_eq!(depth, right_rows, "inner dimensions agree");
    assert_eq!(out.len(), rows * columns, "the product fills its slice");
    let (left_column, left_row) = left.strides();
    let (right_column, right_row) = right.strides();
    #[expect(unsafe_code, reason = "gemm works on raw pointers")]
    // SAFETY: `View::new` and the assertions above tie every shape to the length of its slice, the strides follow from
    // the shapes, and `out` is borrowed mutably, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            out.as_mut_ptr(),
            1,
            columns as isize,
            is_added,
            left.data.as_ptr(),
            left_column,
            left_row,
            right.data.as_ptr(),
            right_column,
            right_row,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Rows multiplied at a time: enough for `gemm` to reach its speed, few enough to stay small beside 10,000 columns.
const BLOCK: usize = 256;

/// Calls `each` with every row of `left · rightᵀ` in turn, both `[row][depth]`; only a block of them exists at a time.
pub(crate) fn for_each_row(
    left: &[f64],
    right: &[f64],
    depth: usize,
    mut each: impl FnMut(usize, &mut [f64]) -> Result<(), Error>,
) -> Result<(), Error> {
    if left.is_empty() || right.is_empty() {
        return Ok(());
    }
    let columns = right.len() / depth;
    let mut products = vec![0.0; BLOCK.min(left.len() / depth) * columns];
    for (block, left) in left.chunks(BLOCK * depth).enumerate() {
        let rows = left.len() / depth;
        let products = &mut products[..rows * columns];
        multiply(products, View::new(left, rows, depth), View::new(right, columns, depth).transposed());
        for (row, products) in products.chunks_exact_mut(columns).enumerate() {
            each(block * BLOCK + row, products)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shapes that leave remainders in every blocking, in all four orientations.
    #[test]
    fn products_agree_with_the_definition() {
        for (rows, depth, columns) in [(1, 1, 1), (3, 5, 7), (17, 33, 9), (40, 2, 65)] {
            let left: Vec<f64> = (0..rows * depth).map(|i| ((i * 37 % 19) as f64) - 9.0).collect();
            let right: Vec<f64> = (0..depth * columns).map(|i| ((i * 23 % 17) as f64) - 8.0).collect();
            let transpose = |data: &[f64], rows: usize, columns: usize| -> Vec<f64> {
                (0..rows * columns).map(|i| data[(i % rows) * columns + i / rows]).collect()
            };
            let left_t = transpose(&left, rows, depth);
            let right_t = transpose(&right, depth, columns);
            let expected: Vec<f64> = (0..rows * columns)
                .map(|i| {
                    let (row, column) = (i / columns, i % columns);
                    (0..depth).map(|k| left[row * depth + k] * right[k * columns + column]).sum()
                })
                .collect();
            let lefts = [View::new(&left, rows, depth), View::new(&left_t, depth, rows).transposed()];
            let rights =
                [View::new(&right, depth, columns), View::new(&right_t, columns, depth).transposed()];
            for left in lefts {
                for right in rights {
                    let mut out = vec![f64::NAN; rows * columns];
                    multiply(&mut out, left, right);
                    assert_eq!(out, expected);
                    add_product(&mut out, left, right);
                    let twice: Vec<f64> = expected.iter().map(|once| 2.0 * once).collect();
                    assert_eq!(out, twice);
                }
            }
        }
    }

    #[test]
    fn every_row_is_seen_once_in_order() {
        let (rows, depth) = (2 * BLOCK + 3, 2);
        let left: Vec<f64> = (0..rows * depth).map(|i| i as f64).collect();
        let mut seen = 0;
        for_each_row(&left, &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], depth, |row, products| {
            let first = (2 * row) as f64;
            assert_eq!((row, &*products), (seen, &[first, first + 1.0, 2.0 * first + 1.0][..]));
            seen += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, rows);
        for_each_row(&[], &[], 0, |_, _| Err(Error::Cancelled)).unwrap();
    }
}
