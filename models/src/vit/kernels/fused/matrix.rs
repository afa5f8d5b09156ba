//! Safe matrix products over strided slices, single-threaded: callers share the rows out among threads.

/// A matrix inside a slice, addressed through strides counted in elements.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major and packed.
    pub(super) fn packed(data: &'a [f32], columns: usize) -> Self {
        Self::strided(data, data.len() / columns, columns, columns)
    }

    /// Row-major, with rows `row_stride` apart.
    pub(super) fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert_in_bounds(data.len(), rows, columns, row_stride);
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The same elements with rows and columns exchanged.
    pub(super) fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// The row-major destination of a product.
pub(super) struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// Row-major and packed.
    pub(super) fn packed(data: &'a mut [f32], columns: usize) -> Self {
        let rows = data.len() / columns;
        Self::strided(data, rows, columns, columns)
    }

    /// Row-major, with rows `row_stride` apart.
    pub(super) fn strided(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert_in_bounds(data.len(), rows, columns, row_stride);
        assert!(rows < 2 || row_stride >= columns, "rows of a destination must not overlap");
        Self { data, rows, columns, row_stride }
    }
}

fn assert_in_bounds(length: usize, rows: usize, columns: usize, row_stride: usize) {
    let end = if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + columns };
    assert!(end <= length, "a {rows}x{columns} matrix does not fit into {length} elements");
}

/// `destination = scale · left · right`.
pub(super) fn multiply(destination: MatrixMut, scale: f32, left: Matrix, right: Matrix) {
    product(destination, false, scale, left, right);
}

/// `destination += left · right`.
pub(super) fn multiply_add(destination: MatrixMut, left: Matrix, right: Matrix) {
    product(destination, true, 1.0, left, right);
}

fn product(destination: MatrixMut, accumulate: bool, scale: f32, left: Matrix, right: Matrix) {
    let MatrixMut { data, rows, columns, row_stride } = destination;
    assert!(
        left.rows == rows && right.columns == columns && left.columns == right.rows,
        "matrix product of {}x{} and {}x{} into {}x{}",
        left.rows,
        left.columns,
        right.rows,
        right.columns,
        rows,
        columns,
    );
    #[expect(unsafe_code, reason = "the gemm crate takes raw pointers")]
    // SAFETY: the constructors checked that the last element of each matrix lies within its slice, the shapes agree,
    // the destination is borrowed mutably (so it overlaps neither operand), and its rows do not overlap.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            left.columns,
            data.as_mut_ptr(),
            1,
            row_stride as isize,
            accumulate,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
