//! Relative position bias, as BEiT (arXiv 2106.08254) and data2vec (arXiv 2202.03555) have it in place of position
//! embeddings: each head adds to the score of two patches a learned number that depends on their offset.

use super::interpolate::resize_bilinear;
use candle_core::{D, IndexOp, Result, Tensor};

/// Rows of a table beyond the offsets: from CLS to patches, from patches to CLS, from CLS to itself.
const CLS_ROWS: usize = 3;

/// Rows of the table of a square grid.
pub(super) fn table_rows(grid: usize) -> usize {
    (2 * grid - 1).pow(2) + CLS_ROWS
}

/// The bias `[heads, 1 + rows·columns, 1 + rows·columns]` out of the table `[(2g−1)² + 3, heads]` of a grid of g×g patches. For
/// another grid the table is resized bilinearly, as `transformers` does.
pub(super) fn bias(table: &Tensor, grid: usize, rows: usize, columns: usize) -> Result<Tensor> {
    let (offsets, span) = (table.dim(0)? - CLS_ROWS, 2 * grid - 1);
    let resized =
        resize_bilinear(&table.narrow(0, 0, offsets)?, (span, span), (2 * rows - 1, 2 * columns - 1))?;
    let table = Tensor::cat(&[&resized, &table.narrow(0, offsets, CLS_ROWS)?], 0)?;
    let tokens = 1 + rows * columns;
    let index = Tensor::from_vec(offset_index(rows, columns), tokens * tokens, table.device())?;
    table.index_select(&index, 0)?.reshape((tokens, tokens, ()))?.permute((2, 0, 1))?.contiguous()
}

/// Row of the table for each pair of tokens, row-major, CLS first.
fn offset_index(rows: usize, columns: usize) -> Vec<u32> {
    let last = (2 * rows - 1) * (2 * columns - 1) + CLS_ROWS;
    let patches = rows * columns;
    let mut index = Vec::with_capacity((1 + patches).pow(2));
    for from in 0..=patches {
        for to in 0..=patches {
            index.push(match (from, to) {
                (0, 0) => last - 1,
                (_, 0) => last - 2,
                (0, _) => last - 3,
                _ => {
                    let ((row, column), (other_row, other_column)) = (
                        ((from - 1) / columns, (from - 1) % columns),
                        ((to - 1) / columns, (to - 1) % columns),
                    );
                    (row + rows - 1 - other_row) * (2 * columns - 1) + column + columns - 1 - other_column
                }
            } as u32);
        }
    }
    index
}

/// The bias among CLS and the kept patches: `[heads, t, t]` for one list, `[B, heads, t, t]` for a list per image.
pub(super) fn keep(bias: &Tensor, kept: &[Vec<u32>]) -> Result<Tensor> {
    let of_image = |kept: &Vec<u32>| {
        let tokens: Vec<u32> = std::iter::once(0).chain(kept.iter().map(|patch| patch + 1)).collect();
        let tokens = Tensor::new(tokens, bias.device())?;
        bias.index_select(&tokens, 1)?.index_select(&tokens, 2)
    };
    match kept {
        [only] => of_image(only),
        _ => Tensor::stack(&kept.iter().map(of_image).collect::<Result<Vec<_>>>()?, 0),
    }
}

/// Multi-head self-attention from packed `[B, T, 3·D]`, as [`super::kernels::Kernels::attention`], with `bias`
/// `[heads, T, T]` or `[B, heads, T, T]` added to the scores. Differentiable in both.
pub(super) fn attention(qkv: &Tensor, heads: usize, bias: &Tensor) -> Result<Tensor> {
    let (batch, tokens, packed) = qkv.dims3()?;
    let width = packed / 3;
    let head = width / heads;
    let split = qkv.reshape((batch, tokens, 3, heads, head))?.permute((2, 0, 3, 1, 4))?;
    let part = |index: usize| split.i(index)?.contiguous();
    let scores = (part(0)?.matmul(&part(1)?.t()?)? / (head as f64).sqrt())?.broadcast_add(bias)?;
    let mixed = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&part(2)?)?;
    mixed.transpose(1, 2)?.reshape((batch, tokens, width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn offsets_are_from_the_second_patch_to_the_first() {
        // A grid of 1×2: offsets −1, 0, 1 are rows 0, 1, 2; then CLS to patches, patches to CLS, CLS to itself.
        assert_eq!(offset_index(1, 2), [5, 3, 3, 4, 1, 0, 4, 2, 1]);
        assert_eq!(table_rows(2), 12);
    }

    #[test]
    fn kept_patches_keep_their_bias() {
        let table = Tensor::arange(0_f32, 24.0, &Device::Cpu).unwrap().reshape((12, 2)).unwrap();
        let whole = bias(&table, 2, 2, 2).unwrap();
        assert_eq!(whole.dims(), [2, 5, 5]);
        let some = keep(&whole, &[vec![3, 0]]).unwrap().to_vec3::<f32>().unwrap();
        let whole = whole.to_vec3::<f32>().unwrap();
        assert!((some[1][1][2] - whole[1][4][1]).abs() < 1e-6);
        assert!((some[0][0][1] - whole[0][0][4]).abs() < 1e-6);
    }
}
