//! What one pass over some images does: the launches and products in order, on arrays of one piece of memory. Everything
//! about a pass that can be wrong without a GPU; the tests run the same steps on the emulator.

use super::Network;
use super::weights::{ALIGNMENT, Block, Places, Projections};
use crate::vit::kernels::Outputs;
use crate::vit::kernels::cuda::plan::{Attention, Element, Launch, PatchRows, Rows};

/// One thing to do.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Launch(Launch),
    Product(Product),
}

/// Rows inside wider ones, in elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix {
    pub(super) address: u64,
    pub(super) stride: usize,
}

/// y = x·weightᵀ + bias + onto, of `x` `[rows, inputs]` and `weight` `[outputs, inputs]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub(super) element: Element,
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) x: Matrix,
    pub(super) weight: u64,
    pub(super) bias: Option<u64>,
    /// May be y itself.
    pub(super) onto: Option<Matrix>,
    pub(super) y: Matrix,
}

/// Places of the arrays of a pass.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) images: usize,
    /// Of an image: CLS and patches.
    pub(super) tokens: usize,
    /// For each image the number of its crop and of its patches, u32 `[images, tokens]`.
    pub(super) table: usize,
    /// As many crops as images at most; they follow the table, so that one copy brings both.
    pub(super) crops: usize,
    /// The residual stream `[images·tokens, D]`.
    x: usize,
    /// Between two maps `[images·tokens, D]`: what a LayerNorm or the attention gave.
    narrow: usize,
    /// The same where it is wider: patches, queries with keys and values, the inside of the MLP.
    wide: usize,
    /// CLS rows `[images, D]`, where the last block computes nothing else.
    cls: usize,
    /// Their queries.
    queries: usize,
    /// f32 `[images, D]`.
    features: usize,
    /// The same after the final LayerNorm.
    normalised: usize,
    /// Length of the whole.
    pub(super) bytes: usize,
}

impl Plan {
    /// Of `images` images that keep `tokens` − 1 patches each.
    pub(super) fn new(network: &Network, images: usize, tokens: usize) -> Self {
        let mut bytes = 0;
        let mut take = |length: usize| {
            let place = bytes;
            bytes += length.next_multiple_of(ALIGNMENT);
            place
        };
        let (rows, width, size) = (images * tokens, network.width, network.element.size());
        Self {
            images,
            tokens,
            table: take(rows * size_of::<u32>()),
            crops: take(images * network.crop_bytes()),
            x: take(rows * width * size),
            narrow: take(rows * width * size),
            wide: take(rows * network.widest() * size),
            cls: take(images * width * size),
            queries: take(images * width * size),
            features: take(images * width * size_of::<f32>()),
            normalised: take(images * width * size_of::<f32>()),
            bytes,
        }
    }

    /// Bytes that are given, from the first: table and crops.
    pub(super) fn given_bytes(&self) -> usize {
        self.x
    }

    /// Where the features are, f32 `[images, D]`.
    pub(super) fn output(&self, network: &Network) -> usize {
        if network.norm.is_some() { self.normalised } else { self.features }
    }

    /// The steps, given where the arrays and the weights begin.
    pub(super) fn steps(&self, network: &Network, arrays: u64, weights: u64) -> Vec<Step> {
        let mut pass = Pass { plan: self, network, arrays, weights, steps: Vec::new() };
        pass.embed_patches();
        for block in &network.blocks {
            pass.block(block);
        }
        pass.finish();
        pass.steps
    }
}

/// Steps being written down.
struct Pass<'a> {
    plan: &'a Plan,
    network: &'a Network,
    arrays: u64,
    weights: u64,
    steps: Vec<Step>,
}

/// Of the maps of a block, after the attention.
#[derive(Clone, Copy)]
struct Mixed {
    rows: usize,
    /// What they are added to.
    residual: Matrix,
    /// Where the sum goes.
    sum: Matrix,
}

impl Pass<'_> {
    fn array(&self, place: usize) -> u64 {
        self.arrays + place as u64
    }

    fn weight(&self, place: usize) -> u64 {
        self.weights + place as u64
    }

    fn rows(&self) -> usize {
        self.plan.images * self.plan.tokens
    }

    /// A packed matrix of rows of D.
    fn matrix(&self, place: usize) -> Matrix {
        Matrix { address: self.array(place), stride: self.network.width }
    }

    fn launch(&mut self, launch: Launch) {
        self.steps.push(Step::Launch(launch));
    }

    fn embed_patches(&mut self) {
        let (network, plan) = (self.network, self.plan);
        let &Network { element, width, inputs, side, grid, line, middle, .. } = network;
        let (images, tokens) = (plan.images, plan.tokens);
        let patches = PatchRows { element, images, tokens, width, inputs, side, grid, line, middle };
        let [crops, table, wide, x] = [plan.crops, plan.table, plan.wide, plan.x].map(|at| self.array(at));
        let [cls, offsets] = [network.cls, network.offsets].map(|at| self.weight(at));
        self.launch(patches.embed([crops, table, cls, offsets, wide, x]));
        let x = self.matrix(plan.x);
        self.steps.push(Step::Product(Product {
            element,
            rows: self.rows(),
            inputs,
            outputs: width,
            x: Matrix { address: wide, stride: inputs },
            weight: self.weight(network.patches),
            bias: None,
            onto: Some(x),
            y: x,
        }));
    }

    fn block(&mut self, block: &Block) {
        let (plan, width, rows) = (self.plan, self.network.width, self.rows());
        let (x, narrow, wide) = (self.matrix(plan.x), self.matrix(plan.narrow), self.array(plan.wide));
        self.layer_norm(rows, x, block.norm1, narrow);
        let attention = Attention {
            element: self.network.element,
            batch: plan.images,
            tokens: plan.tokens,
            width,
            heads: self.network.heads,
        };
        let mixed = match block.projections {
            Projections::All(qkv) => {
                self.linear(rows, narrow, qkv, Matrix { address: wide, stride: 3 * width });
                self.launch(attention.forward([wide, narrow.address, 0]));
                Mixed { rows, residual: x, sum: x }
            }
            Projections::First { queries, answers } => {
                let asking = self.matrix(plan.queries);
                // CLS is the first row of each image.
                let first_rows = |matrix: Matrix| Matrix { stride: plan.tokens * width, ..matrix };
                self.linear(rows, narrow, answers, Matrix { address: wide, stride: 2 * width });
                self.linear(plan.images, first_rows(narrow), queries, asking);
                self.launch(attention.first([asking.address, wide, narrow.address]));
                Mixed { rows: plan.images, residual: first_rows(x), sum: self.matrix(plan.cls) }
            }
        };
        self.mix(block, mixed);
    }

    /// `sum = residual + projection(attended)`, then the MLP onto it.
    fn mix(&mut self, block: &Block, Mixed { rows, residual, sum }: Mixed) {
        let &Network { element, width, hidden, .. } = self.network;
        let (narrow, wide) = (self.matrix(self.plan.narrow), self.array(self.plan.wide));
        let wide = Matrix { address: wide, stride: hidden };
        let from_width = Product {
            element,
            rows,
            inputs: width,
            outputs: width,
            x: narrow,
            weight: self.weight(block.projection.weight),
            bias: Some(self.weight(block.projection.bias)),
            onto: Some(residual),
            y: sum,
        };
        self.steps.push(Step::Product(from_width));
        self.layer_norm(rows, sum, block.norm2, narrow);
        let into_hidden = Product {
            outputs: hidden,
            weight: self.weight(block.fc1.weight),
            bias: None,
            onto: None,
            y: wide,
            ..from_width
        };
        self.steps.push(Step::Product(into_hidden));
        let bias = self.weight(block.fc1.bias);
        self.launch(Rows { element, rows, width: hidden }.bias_gelu(wide.address, bias));
        let out_of_hidden = Product {
            inputs: hidden,
            x: wide,
            weight: self.weight(block.fc2.weight),
            bias: Some(self.weight(block.fc2.bias)),
            onto: Some(sum),
            ..from_width
        };
        self.steps.push(Step::Product(out_of_hidden));
    }

    /// The vectors, in f32: CLS or the mean of the patches, and the final LayerNorm where it is asked for.
    fn finish(&mut self) {
        let &Network { element, width, eps, norm, outputs, .. } = self.network;
        let plan = self.plan;
        let (images, features) = (plan.images, self.array(plan.features));
        let (x, tokens, skipped) = match outputs {
            Outputs::All => (plan.x, plan.tokens, 1),
            Outputs::First => (plan.cls, 1, 0),
        };
        let rows = Rows { element, rows: images * tokens, width };
        self.launch(rows.mean_of_rows(images, skipped, [self.array(x), features]));
        if let Some(norm) = norm {
            let arrays =
                [features, self.weight(norm.weight), self.weight(norm.bias), self.array(plan.normalised)];
            self.launch(Rows { element: Element::F32, rows: images, width }.layer_norm(arrays, eps));
        }
    }

    fn layer_norm(&mut self, rows: usize, x: Matrix, norm: Places, y: Matrix) {
        let &Network { element, width, eps, .. } = self.network;
        let arrays = [x.address, self.weight(norm.weight), self.weight(norm.bias), y.address];
        self.launch(Rows { element, rows, width }.layer_norm(arrays, eps));
    }

    /// A map of rows of D, as wide as `y`.
    fn linear(&mut self, rows: usize, x: Matrix, linear: Places, y: Matrix) {
        self.steps.push(Step::Product(Product {
            element: self.network.element,
            rows,
            inputs: self.network.width,
            outputs: y.stride,
            x,
            weight: self.weight(linear.weight),
            bias: Some(self.weight(linear.bias)),
            onto: None,
            y,
        }));
    }
}
