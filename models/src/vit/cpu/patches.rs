//! From bytes to tokens.

use super::block::Pass;
use super::dense::{Dense, floats};
use super::workspace::Workspace;
use super::{Kept, Precision};
use crate::Error;
use crate::image::RgbImage;
use crate::vit::Vit;
use crate::vit::kernels::packed::Instructions;

/// The patch embedding with normalisation folded in, and what is added to its tokens.
pub(super) struct PatchEmbedding {
    dense: Dense,
    /// Position of each patch, `[grid², D]`; none where the network has none.
    positions: Option<Vec<f32>>,
    /// CLS with its position.
    cls: Vec<f32>,
    side: usize,
    grid: usize,
    /// Every patch.
    all: Vec<u32>,
}

impl PatchEmbedding {
    /// Bytes v are normalised to (v/255 − mean)/deviation: W·x + b over normalised pixels is W'·v + b' over bytes, with
    /// W' = W/(255·deviation) and b' = b − Σ W·mean/deviation.
    pub(super) fn new(
        vit: &Vit,
        grid: usize,
        mean: [f32; 3],
        deviation: [f32; 3],
        instructions: Instructions,
    ) -> Result<Self, Error> {
        let side = vit.config().patch_size;
        let affine = vit.patch_embedding();
        let (planar, mut bias) = (floats(&affine.weight)?, floats(&affine.bias)?);
        let area = side * side;
        let mut weight = vec![0.0; planar.len()];
        for ((planar, weight), bias) in
            planar.chunks_exact(3 * area).zip(weight.chunks_exact_mut(3 * area)).zip(&mut bias)
        {
            let mut shift = 0.0;
            for (place, &value) in planar.iter().enumerate() {
                let (channel, pixel) = (place / area, place % area);
                let value = f64::from(value) / f64::from(deviation[channel]);
                // Pixels of a crop are interleaved.
                weight[3 * pixel + channel] = (value / 255.0) as f32;
                shift += value * f64::from(mean[channel]);
            }
            *bias = (f64::from(*bias) - shift) as f32;
        }
        let (cls, positions) = vit.token_positions(grid)?;
        Ok(Self {
            dense: Dense::new(&weight, bias, Precision::F32, instructions),
            positions: positions.as_ref().map(floats).transpose()?,
            cls: floats(&cls)?,
            side,
            grid,
            all: (0..(grid * grid) as u32).collect(),
        })
    }

    /// Numbers of a patch.
    pub(super) fn inputs(&self) -> usize {
        self.dense.inputs()
    }

    /// Writes `workspace.x`: CLS and the kept patches of each image. Where there are several lists for a crop, its patches
    /// are embedded once.
    pub(super) fn forward(
        &self,
        workspace: &mut Workspace,
        crops: &[RgbImage],
        kept: Kept<'_>,
        pass: &Pass<'_>,
    ) {
        let width = self.dense.outputs();
        let lists = pass.images / crops.len();
        let Workspace { x, patches, .. } = workspace;
        if lists > 1 {
            patches.resize(self.all.len() * width, 0.0);
        }
        let images = x[..pass.images * pass.tokens * width].chunks_exact_mut(pass.tokens * width);
        for (image, x) in images.enumerate() {
            let (cls, tokens) = x.split_at_mut(width);
            cls.copy_from_slice(&self.cls);
            let (crop, kept) = (&crops[image / lists], kept.of(image));
            if lists == 1 {
                self.embed(tokens, crop, kept, pass);
                continue;
            }
            if image % lists == 0 {
                self.embed(patches, crop, &self.all, pass);
            }
            for (token, &patch) in tokens.chunks_exact_mut(width).zip(kept) {
                token.copy_from_slice(&patches[patch as usize * width..][..width]);
            }
        }
    }

    /// Writes the tokens of some patches of a crop.
    fn embed(&self, tokens: &mut [f32], crop: &RgbImage, kept: &[u32], pass: &Pass<'_>) {
        let (width, inputs) = (self.dense.outputs(), self.inputs());
        pass.sharing.rows(tokens, width, pass.pieces(kept.len()), &|first, tokens| {
            let kept = &kept[first..][..tokens.len() / width];
            pass.with_scratch(|scratch| {
                let pixels = &mut scratch.hidden[..kept.len() * inputs];
                for (pixels, &patch) in pixels.chunks_exact_mut(inputs).zip(kept) {
                    self.gather(pixels, crop, patch as usize);
                }
                let Some(positions) = &self.positions else {
                    return self.dense.forward(tokens, pixels, &mut scratch.bytes);
                };
                for (token, &patch) in tokens.chunks_exact_mut(width).zip(kept) {
                    token.copy_from_slice(&positions[patch as usize * width..][..width]);
                }
                self.dense.add(tokens, pixels, &mut scratch.bytes);
            });
        });
    }

    /// The bytes of a patch, row by row.
    fn gather(&self, pixels: &mut [f32], crop: &RgbImage, patch: usize) {
        let (row, column) = (patch / self.grid * self.side, patch % self.grid * self.side);
        let line = crop.width as usize * 3;
        for (y, pixels) in pixels.chunks_exact_mut(3 * self.side).enumerate() {
            let from = (row + y) * line + column * 3;
            for (pixel, &byte) in pixels.iter_mut().zip(&crop.pixels[from..from + 3 * self.side]) {
                *pixel = f32::from(byte);
            }
        }
    }
}
