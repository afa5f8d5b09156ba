//! Every key of a configuration: its type, what it may be, what it does and where that comes from. The one table behind
//! the checks, their messages, and `docs/configuration.md`.

use super::key::{
    Key, Kind, NO_BOUNDS, POSITIVE_SHARE, SHARE, SHARE_BELOW_ONE, above, at_least, between, key,
};

/// Pictures are no larger.
const SIDE: f64 = 65_535.0;

/// Every key, in the order of the sections and of the shipped files.
pub(super) const KEYS: &[Key] = &[
    key(
        "data.memory_mib",
        Kind::Count,
        at_least(0.0),
        "Decoded sets up to this size, in MiB, are kept in memory, on a GPU in the GPU's, where their views are made too; \
         larger ones are decoded batch by batch.",
    ),
    key(
        "data.shrink_short_side",
        Kind::Count,
        between(0.0, SIDE),
        "Pictures whose short side is longer, in pixels, are shrunk to it when read; 0 keeps them as they are.",
    ),
    key(
        "data.threads",
        Kind::Count,
        at_least(0.0),
        "Threads that decode and augment; 0 is one per processor. Does not change what is computed.",
    ),
    key(
        "views.random_views",
        Kind::Count,
        at_least(0.0),
        "Large anchors per image; the target view comes on top. They are the masked ones. Paper: 1.",
    )
    .from("§3, appendix A"),
    key(
        "views.random_size",
        Kind::Count,
        between(1.0, SIDE),
        "Side of target and random views in pixels, a multiple of model.patch_size; the exported encoder's image size. Paper: 224.",
    )
    .from("appendix A"),
    key(
        "views.random_area",
        Kind::Pair,
        POSITIVE_SHARE,
        "Share of the image's area that target and random views show, drawn from this range. Paper's code: 0.3 to 1.",
    ),
    key(
        "views.focal_views",
        Kind::Count,
        at_least(0.0),
        "Small anchors per image, which see little of it and are not masked. Paper: 10; they dominate the cost of a step.",
    )
    .from("§3, appendix A"),
    key(
        "views.focal_size",
        Kind::Count,
        between(1.0, SIDE),
        "Side of focal views in pixels. Paper: 96.",
    )
    .from("appendix A"),
    key(
        "views.focal_area",
        Kind::Pair,
        POSITIVE_SHARE,
        "Share of the image's area that focal views show. Paper's code: 0.05 to 0.3.",
    ),
    key(
        "views.patch_drop",
        Kind::Number,
        SHARE_BELOW_ONE,
        "Share of the patches of the random views that is dropped. Paper: 0.15 for ViT-S/16, 0.3 for B/16, 0.7 for L/7; larger \
         models need more.",
    )
    .from("§3, appendix A, table 8"),
    key(
        "views.masks",
        Kind::Word(&["batch", "rank", "image", "content"]),
        NO_BOUNDS,
        "How the patches that stay are chosen: at random, one list for the whole batch on all ranks (paper's code), one per \
         rank, or one per view; or at random per view with patches of much contrast likelier to stay.",
    ),
    key("views.distortion.flip_probability", Kind::Number, SHARE, "Probability of a horizontal flip. Paper's code: 0.5."),
    key(
        "views.distortion.jitter_probability",
        Kind::Number,
        SHARE,
        "Probability of colour jitter. Without it, targets and anchors are matched by their colours. Paper's code: 0.8.",
    )
    .from("table 9"),
    key(
        "views.distortion.jitter_strength",
        Kind::Number,
        between(0.0, 2.5),
        "Brightness, contrast and saturation vary by 0.8 times this, hue by 0.2 times. Paper's code: 0.5.",
    ),
    key("views.distortion.grey_probability", Kind::Number, SHARE, "Probability of losing all colour. Paper's code: 0.2."),
    key(
        "views.distortion.blur_probability",
        Kind::Number,
        SHARE,
        "Probability of a Gaussian blur. Paper's code: 0.5; 0 is better for images of 32 pixels.",
    ),
    key(
        "views.distortion.blur_sigma",
        Kind::Pair,
        above(0.0),
        "Standard deviation of the blur in pixels, drawn from this range. Paper's code: 0.1 to 2.",
    ),
    key("model.hidden_size", Kind::Count, at_least(1.0), "Width of the Vision Transformer, a multiple of the heads."),
    key("model.num_hidden_layers", Kind::Count, at_least(1.0), "Its depth."),
    key("model.num_attention_heads", Kind::Count, at_least(1.0), "Attention heads per layer."),
    key("model.intermediate_size", Kind::Count, at_least(1.0), "Hidden width of its MLPs; four times the width as a rule."),
    key(
        "model.patch_size",
        Kind::Count,
        between(1.0, SIDE),
        "Side of a patch in pixels. Smaller patches cost more and do better with few labels.",
    )
    .from("§5, table 1"),
    key(
        "model.drop_path",
        Kind::Number,
        SHARE_BELOW_ONE,
        "Stochastic depth: the last block's branches are left out this often while training, the first block's never. Paper's \
         code: 0.",
    ),
    key(
        "head.count",
        Kind::Count,
        at_least(1.0),
        "Number of projection heads, each with prototypes of its own; more than one form an ensemble weighted, image by image, \
         by how sure their targets are. Paper: 1.",
    )
    .from("arXiv 2211.09981"),
    key(
        "head.hidden",
        Kind::Count,
        at_least(1.0),
        "Width of the projection head's two hidden layers. Paper's code: 2048; a smaller head leaves more for the trunk when \
         labels are few.",
    )
    .from("arXiv 2211.09981"),
    key("head.output", Kind::Count, at_least(1.0), "Width of its output, which the prototypes share. Paper: 256.")
        .from("appendix A"),
    key(
        "loss.prototypes",
        Kind::Count,
        at_least(2.0),
        "Number of prototypes K of each head. Paper: 1024 with 1024 images per step; more than twice the batch stay unused.",
    )
    .from("§3, appendix A"),
    key("loss.temperature", Kind::Number, above(0.0), "Temperature τ of the predictions. Paper: 0.1.").from("§3, appendix A"),
    key(
        "loss.start_sharpen",
        Kind::Number,
        above(0.0),
        "Sharpening T of the targets at the start: their temperature is τ·T. Paper: 0.25, so 0.025.",
    )
    .from("§3, appendix A"),
    key("loss.final_sharpen", Kind::Number, above(0.0), "Sharpening at the end; linear in between.").from("§3, appendix A"),
    key(
        "loss.start_ensemble_temperature",
        Kind::Number,
        above(0.0),
        "Temperature of the weights of several heads at the start.",
    )
    .from("arXiv 2211.09981"),
    key("loss.final_ensemble_temperature", Kind::Number, above(0.0), "The same at the end; linear in between.")
        .from("arXiv 2211.09981"),
    key(
        "loss.temperature_epochs",
        Kind::Number,
        at_least(0.0),
        "Epochs in which sharpening and ensemble temperature go from start to end, at most schedule.epochs; 0 takes the whole \
         schedule.",
    ),
    key(
        "loss.memax_weight",
        Kind::Number,
        NO_BOUNDS,
        "Weight λ of the mean-entropy maximisation term, which keeps all prototypes in use. Paper: 1 with Sinkhorn, 5 without.",
    )
    .from("§3, table 11"),
    key(
        "loss.entropy_weight",
        Kind::Number,
        NO_BOUNDS,
        "Weight of the mean entropy of single predictions; 0 only logs it. Paper's code: 0.",
    ),
    key(
        "loss.koleo_weight",
        Kind::Number,
        at_least(0.0),
        "Weight of the Kozachenko–Leonenko term, which spreads the features of a batch; 0 leaves it out. Not in the paper.",
    )
    .from("DINOv2, arXiv 2304.07193"),
    key(
        "loss.prior_exponent",
        Kind::Number,
        at_least(0.0),
        "How unevenly prototypes are expected to be used: the k-th proportionally to k to the power of minus this; 0 expects \
         all alike. For data whose classes differ in size; needs loss.sinkhorn = false.",
    )
    .from("PMSN, arXiv 2210.07277"),
    key(
        "loss.label_smoothing",
        Kind::Number,
        SHARE,
        "Share of the uniform distribution mixed into predictions and targets. Paper's code: 0.",
    ),
    key(
        "loss.sinkhorn",
        Kind::Flag,
        NO_BOUNDS,
        "Balance the targets over the prototypes by three Sinkhorn iterations. Only with more images per step than prototypes: \
         otherwise targets become nearly uniform.",
    )
    .from("§3, table 11"),
    key(
        "optimisation.batch_size",
        Kind::Count,
        at_least(2.0),
        "Images per forward pass on each rank; BatchNorm and the mean-entropy term need many. Paper: 1024 per step.",
    )
    .from("appendix A"),
    key(
        "optimisation.accumulate",
        Kind::Count,
        at_least(1.0),
        "Batches whose gradients are averaged into one step. Each keeps its own BatchNorm, mean prediction and Sinkhorn \
         balance, so this is not the same as a larger batch.",
    ),
    key(
        "optimisation.recompute",
        Kind::Flag,
        NO_BOUNDS,
        "Compute activations again in the backward pass instead of keeping them: less memory, a forward pass more.",
    ),
    key(
        "optimisation.precision",
        Kind::Word(&["bf16", "f32"]),
        NO_BOUNDS,
        "Type of the trunk's activations on a CUDA device; parameters, gradients, heads and losses are f32 in any case, and on \
         a CPU everything is.",
    ),
    key(
        "optimisation.start_learning_rate",
        Kind::Number,
        at_least(0.0),
        "Learning rate at the first step. Paper: 2e-4.",
    )
    .from("appendix A"),
    key(
        "optimisation.learning_rate",
        Kind::Number,
        above(0.0),
        "Learning rate after the warm-up. Paper: 1e-3 for 1024 images per step.",
    )
    .from("appendix A"),
    key(
        "optimisation.final_learning_rate",
        Kind::Number,
        at_least(0.0),
        "Learning rate at the end of the cosine. Paper's code: 1e-6.",
    ),
    key(
        "optimisation.warmup_epochs",
        Kind::Number,
        at_least(0.0),
        "Epochs of linear warm-up, at most schedule.epochs. Paper: 15.",
    )
    .from("appendix A"),
    key(
        "optimisation.weight_decay",
        Kind::Number,
        at_least(0.0),
        "Weight decay at the start; not of biases, norms and prototypes. Paper: 0.04.",
    )
    .from("appendix A"),
    key(
        "optimisation.final_weight_decay",
        Kind::Number,
        at_least(0.0),
        "Weight decay at the end of its cosine. Paper: 0.4.",
    )
    .from("appendix A"),
    key(
        "optimisation.clip_gradient",
        Kind::Number,
        at_least(0.0),
        "Largest norm of the encoder's gradient; 0 does not clip. Paper's code: 3.",
    ),
    key(
        "optimisation.start_momentum",
        Kind::Number,
        SHARE,
        "Momentum of the target's moving average at the start. Paper: 0.996.",
    )
    .from("appendix A"),
    key(
        "optimisation.final_momentum",
        Kind::Number,
        SHARE,
        "Momentum at the end; linear in between. Paper: 1.",
    )
    .from("appendix A"),
    key(
        "schedule.epochs",
        Kind::Count,
        at_least(1.0),
        "Passes over the data. Paper: 800 for ViT-S/16, 600 for B/16. Matters more than anything else here.",
    )
    .from("appendix A"),
    key(
        "schedule.stretch",
        Kind::Number,
        at_least(1.0),
        "Schedules are computed for this many times the epochs, so that they stop before their end. Paper's code: 1.25; 1 runs \
         them out.",
    ),
    key("run.seed", Kind::Count, at_least(0.0), "Seed of everything random."),
    key(
        "run.checkpoint_minutes",
        Kind::Number,
        above(0.0),
        "Minutes between checkpoints, each with a report; one more is written at the end.",
    ),
    key("run.log_steps", Kind::Count, at_least(1.0), "Steps between lines of the log and of the progress told to programs."),
    key(
        "run.monitor_epochs",
        Kind::Number,
        above(0.0),
        "Epochs between few-shot evaluations on the labelled pictures of --monitor; one more is made before the first step and \
         at the end.",
    ),
];
