//! The arithmetic of one training step, counted from its configuration.

use serde::Deserialize;

/// The parts of a training configuration that decide what a step computes.
#[derive(Debug, Deserialize)]
pub(super) struct Configuration {
    views: ViewPlan,
    model: Model,
    head: Head,
    pub(super) optimisation: Optimisation,
}

#[derive(Debug, Deserialize)]
struct ViewPlan {
    random_views: usize,
    random_size: usize,
    focal_views: usize,
    focal_size: usize,
    patch_drop: f64,
}

#[derive(Debug, Deserialize)]
struct Model {
    hidden_size: usize,
    num_hidden_layers: usize,
    intermediate_size: usize,
    patch_size: usize,
}

#[derive(Debug, Deserialize)]
struct Head {
    hidden: usize,
    output: usize,
}

#[derive(Debug, Deserialize)]
pub(super) struct Optimisation {
    pub(super) batch_size: usize,
}

impl Configuration {
    /// Multiply-adds of all matrix products of one step: a backward pass is two products per product of the forward pass,
    /// but pixels get no gradient. Nothing computed twice counts twice; the loss is too small to count.
    pub(super) fn multiply_adds(&self) -> f64 {
        let patches = |size: usize| (size / self.model.patch_size).pow(2);
        let (large, small) = (patches(self.views.random_size), patches(self.views.focal_size));
        let (random, focal) = (self.views.random_views, self.views.focal_views);
        let kept = |patches: usize| (patches as f64 * (1.0 - self.views.patch_drop)) as usize;
        // Only the first group of anchors is masked; views of one size form one group.
        let small_kept = if random == 0 || large == small { kept(small) } else { small };
        let target = self.embedding(large) + self.encoder(large);
        let anchors = [(random, kept(large)), (focal, small_kept)].map(|(views, patches)| {
            views as f64 * (2.0 * self.embedding(patches) + 3.0 * self.encoder(patches))
        });
        self.optimisation.batch_size as f64 * (target + anchors.iter().sum::<f64>())
    }

    fn embedding(&self, patches: usize) -> f64 {
        (patches * 3 * self.model.patch_size.pow(2) * self.model.hidden_size) as f64
    }

    /// Blocks and head, one view, forward.
    fn encoder(&self, patches: usize) -> f64 {
        let Model { hidden_size: width, intermediate_size: hidden, num_hidden_layers: blocks, .. } =
            self.model;
        let tokens = patches + 1;
        let block = tokens * (4 * width * width + 2 * width * hidden) + 2 * tokens * tokens * width;
        let Head { hidden, output } = self.head;
        (blocks * block + hidden * (width + hidden + output)) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ViT-S/16 forward on 224 pixels is known as 4.6 G multiply-adds; the step adds 10 small views and two backward passes.
    #[test]
    fn vit_small_costs_what_is_known_of_it() {
        let configuration = Configuration {
            views: ViewPlan {
                random_views: 1,
                random_size: 224,
                focal_views: 10,
                focal_size: 96,
                patch_drop: 0.0,
            },
            model: Model { hidden_size: 384, num_hidden_layers: 12, intermediate_size: 1536, patch_size: 16 },
            head: Head { hidden: 0, output: 0 },
            optimisation: Optimisation { batch_size: 1 },
        };
        let forward = configuration.embedding(196) + configuration.encoder(196);
        assert!((forward / 4.6e9 - 1.0).abs() < 0.01, "{forward}");
        // By hand: 3·(4.55 + 10·0.80) + 4.6 and the embeddings' two products.
        let step = configuration.multiply_adds();
        assert!((step / 42.6e9 - 1.0).abs() < 0.02, "{step}");
    }
}
