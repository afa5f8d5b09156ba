//! A pre-norm transformer block: `m = x + proj(attention(qkv(norm1(x))))`, `y = m + fc2(gelu(fc1(norm2(m))))`.

use super::attention::Head;
use super::dense::{Dense, floats};
use super::workspace::{Scratch, Sizes, Workspace};
use super::{Pool, Precision, Sharing};
use crate::Error;
use crate::vit::VitConfig;
use crate::vit::kernels::fused::{gelu, layer_norm};
use crate::vit::kernels::packed::{Instructions, Rows};
use crate::vit::kernels::{Affine, BlockParameters, Outputs};

/// One pass over some images.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) images: usize,
    /// Tokens of each.
    pub(super) tokens: usize,
    pub(super) sharing: Sharing,
    pub(super) scratches: &'a Pool<Scratch>,
    pub(super) sizes: &'a Sizes,
}

impl Pass<'_> {
    /// In how many pieces so many rows go through linear maps: of like size, as many for each thread.
    pub(super) fn pieces(&self, rows: usize) -> usize {
        let pieces = rows.div_ceil(self.sizes.rows);
        match self.sharing {
            Sharing::Alone => pieces,
            Sharing::Together => pieces.next_multiple_of(rayon::current_num_threads()),
        }
    }

    /// Lends a thread its working memory.
    pub(super) fn with_scratch(&self, body: impl FnOnce(&mut Scratch)) {
        self.scratches.with(|| Scratch::new(self.sizes), body);
    }
}

pub(super) struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl LayerNorm {
    pub(super) fn new(affine: &Affine, eps: f64) -> Result<Self, Error> {
        Ok(Self { weight: floats(&affine.weight)?, bias: floats(&affine.bias)?, eps: eps as f32 })
    }

    pub(super) fn forward(&self, y: &mut [f32], x: &[f32]) {
        layer_norm::forward(y, x, &self.weight, &self.bias, self.eps);
    }
}

/// A weight `[outputs, inputs]` and a bias.
struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    fn new(affine: &Affine) -> Result<Self, Error> {
        Ok(Self { weight: floats(&affine.weight)?, bias: floats(&affine.bias)? })
    }

    /// The first `outputs` and the rest.
    fn split(mut self, outputs: usize) -> (Self, Self) {
        let inputs = self.weight.len() / self.bias.len();
        let rest =
            Self { weight: self.weight.split_off(outputs * inputs), bias: self.bias.split_off(outputs) };
        (self, rest)
    }
}

/// Divides a LayerNorm's outputs, and multiplies what reads them, by factors that make channels of alike range: a few
/// large channels would leave the others few of a byte's levels (SmoothQuant, arXiv 2211.10438, with strength ½). A
/// normalised channel seldom leaves ±4, so its range is known without looking at data.
fn smooth(norm: &mut LayerNorm, weight: &mut [f32]) {
    let inputs = norm.weight.len();
    let mut largest = vec![0.0_f32; inputs];
    for row in weight.chunks_exact(inputs) {
        for (largest, value) in largest.iter_mut().zip(row) {
            *largest = largest.max(value.abs());
        }
    }
    let factors: Vec<f32> = (norm.weight.iter().zip(&norm.bias).zip(&largest))
        .map(|((weight, bias), &largest)| {
            let range = 4.0 * weight.abs() + bias.abs();
            if range > 0.0 && largest > 0.0 { (range / largest).sqrt() } else { 1.0 }
        })
        .collect();
    for row in weight.chunks_exact_mut(inputs) {
        row.iter_mut().zip(&factors).for_each(|(value, factor)| *value *= factor);
    }
    for values in [&mut norm.weight, &mut norm.bias] {
        values.iter_mut().zip(&factors).for_each(|(value, factor)| *value /= factor);
    }
}

/// How tokens ask and answer.
enum Projections {
    /// All of them ask.
    All(Dense),
    /// CLS asks, all answer.
    First { queries: Dense, keys_and_values: Dense },
}

pub(super) struct Block {
    norm1: LayerNorm,
    projections: Projections,
    projection: Dense,
    norm2: LayerNorm,
    fc1: Dense,
    fc2: Dense,
    heads: usize,
}

impl Block {
    pub(super) fn new(
        parameters: &BlockParameters,
        config: &VitConfig,
        outputs: Outputs,
        precision: Precision,
        instructions: Instructions,
    ) -> Result<Self, Error> {
        let BlockParameters { norm1, qkv, projection, norm2, fc1, fc2 } = parameters;
        let (eps, width) = (config.layer_norm_eps, config.hidden_size);
        let [mut norm1, mut norm2] = [LayerNorm::new(norm1, eps)?, LayerNorm::new(norm2, eps)?];
        let [mut qkv, mut fc1] = [Linear::new(qkv)?, Linear::new(fc1)?];
        if precision != Precision::F32 {
            smooth(&mut norm1, &mut qkv.weight);
            smooth(&mut norm2, &mut fc1.weight);
        }
        let dense = |linear: Linear| Dense::new(&linear.weight, linear.bias, precision, instructions);
        let of_fc2 = if precision == Precision::Mixed { Precision::F32 } else { precision };
        let fc2 = Linear::new(fc2)?;
        let projections = match outputs {
            Outputs::All => Projections::All(dense(qkv)),
            Outputs::First => {
                let (query, rest) = qkv.split(width);
                Projections::First { queries: dense(query), keys_and_values: dense(rest) }
            }
        };
        Ok(Self {
            norm1,
            projections,
            projection: dense(Linear::new(projection)?),
            norm2,
            fc1: dense(fc1),
            fc2: Dense::new(&fc2.weight, fc2.bias, of_fc2, instructions),
            heads: config.num_attention_heads,
        })
    }

    /// Replaces `workspace.x`, or writes `workspace.cls` where CLS alone is asked for.
    pub(super) fn forward(&self, workspace: &mut Workspace, pass: &Pass<'_>) {
        let (width, rows) = (self.projection.outputs(), pass.images * pass.tokens);
        let Workspace { x, qkv, attended, cls, queries, .. } = workspace;
        let x = &mut x[..rows * width];
        match &self.projections {
            Projections::All(projections) => {
                let qkv = &mut qkv[..rows * 3 * width];
                self.project(qkv, x, projections, pass);
                let attended = &mut attended[..rows * width];
                self.attend(attended, Rows { values: qkv, stride: 3 * width }, (qkv, width), pass);
                self.mix(x, attended, pass.tokens, pass);
            }
            Projections::First { queries: asking, keys_and_values } => {
                let answers = &mut qkv[..rows * 2 * width];
                self.project(answers, x, keys_and_values, pass);
                let cls = &mut cls[..pass.images * width];
                for (cls, x) in cls.chunks_exact_mut(width).zip(x.chunks_exact(pass.tokens * width)) {
                    cls.copy_from_slice(&x[..width]);
                }
                let queries = &mut queries[..cls.len()];
                self.project(queries, cls, asking, pass);
                let attended = &mut attended[..cls.len()];
                self.attend(attended, Rows { values: queries, stride: width }, (answers, 0), pass);
                self.mix(cls, attended, 1, pass);
            }
        }
    }

    /// `y = projections(norm1(x))`.
    fn project(&self, y: &mut [f32], x: &[f32], projections: &Dense, pass: &Pass<'_>) {
        let (inputs, outputs) = (projections.inputs(), projections.outputs());
        let pieces = pass.pieces(y.len() / outputs);
        pass.sharing.rows(y, outputs, pieces, &|first, y| {
            let x = &x[first * inputs..][..y.len() / outputs * inputs];
            pass.with_scratch(|scratch| {
                let normalised = &mut scratch.rows[..x.len()];
                self.norm1.forward(normalised, x);
                projections.forward(y, normalised, &mut scratch.bytes);
            });
        });
    }

    /// Every head of every image: `[images, heads, queries, D / heads]`. Keys begin at `offset` of the rows of `answers`,
    /// values a width later.
    fn attend(
        &self,
        out: &mut [f32],
        queries: Rows<'_>,
        (answers, offset): (&[f32], usize),
        pass: &Pass<'_>,
    ) {
        let width = self.projection.inputs();
        let head_width = width / self.heads;
        let asking = out.len() / (pass.images * width);
        let stride = offset + 2 * width;
        pass.sharing.chunks(out, asking * head_width, |number, out| {
            let (image, head) = (number / self.heads, number % self.heads * head_width);
            let answers = &answers[image * pass.tokens * stride + offset + head..];
            let head = Head {
                queries: Rows {
                    values: &queries.values[image * asking * queries.stride + head..],
                    ..queries
                },
                keys: Rows { values: answers, stride },
                values: Rows { values: &answers[width..], stride },
                tokens: pass.tokens,
                width: head_width,
            };
            pass.with_scratch(|scratch| head.attend(out, scratch));
        });
    }

    /// `x += projection(attended)`, then the MLP; x has `tokens` rows of each image.
    fn mix(&self, x: &mut [f32], attended: &[f32], tokens: usize, pass: &Pass<'_>) {
        let width = self.projection.outputs();
        let head_width = width / self.heads;
        let pieces = pass.pieces(x.len() / width);
        pass.sharing.rows(x, width, pieces, &|first, x| {
            pass.with_scratch(|scratch| {
                let rows = &mut scratch.rows[..x.len()];
                for (place, row) in rows.chunks_exact_mut(width).enumerate() {
                    let (image, token) = ((first + place) / tokens, (first + place) % tokens);
                    for (head, row) in row.chunks_exact_mut(head_width).enumerate() {
                        let from = ((image * self.heads + head) * tokens + token) * head_width;
                        row.copy_from_slice(&attended[from..from + head_width]);
                    }
                }
                self.projection.add(x, rows, &mut scratch.bytes);
                self.norm2.forward(rows, x);
                let hidden = &mut scratch.hidden[..x.len() / width * self.fc1.outputs()];
                self.fc1.forward(hidden, rows, &mut scratch.bytes);
                gelu::in_place(hidden);
                self.fc2.add(x, hidden, &mut scratch.bytes);
            });
        });
    }
}
