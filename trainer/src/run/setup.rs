//! From the configuration file to what the mathematics and the exporter need.

use crate::config::Config;
use crate::msn::{LossOptions, MsnConfig, ScheduleOptions, Schedules};
use dozen_models::image::{Filter, Preprocessor, Resize};
use dozen_models::vit::{Family, Kernels, Positions, VitConfig};

impl Config {
    /// The trunk.
    pub fn vit(&self) -> VitConfig {
        VitConfig {
            hidden_size: self.model.hidden_size,
            num_hidden_layers: self.model.num_hidden_layers,
            num_attention_heads: self.model.num_attention_heads,
            intermediate_size: self.model.intermediate_size,
            patch_size: self.model.patch_size,
            image_size: self.views.random_size,
            num_channels: 3,
            layer_norm_eps: 1e-6,
            family: Family::Msn,
            positions: Positions::default(),
        }
    }

    /// What is trained and against which loss.
    pub fn msn(&self) -> MsnConfig {
        MsnConfig {
            vit: self.vit(),
            heads: self.head.count,
            head_hidden: self.head.hidden,
            head_output: self.head.output,
            prototypes: self.loss.prototypes,
            loss: LossOptions {
                temperature: self.loss.temperature,
                memax_weight: self.loss.memax_weight,
                entropy_weight: self.loss.entropy_weight,
                koleo_weight: self.loss.koleo_weight,
                label_smoothing: self.loss.label_smoothing,
                sinkhorn: self.loss.sinkhorn,
                prior_exponent: self.loss.prior_exponent,
            },
            clip_gradient: self.optimisation.clip_gradient,
            kernels: Kernels::Fused,
            recompute: self.optimisation.recompute,
            precision: self.optimisation.precision,
        }
    }

    /// How many prototypes the targets of one micro-batch can differ in, over all heads.
    pub fn distinct_prototypes(&self) -> usize {
        self.head.count * self.loss.prototypes.min(self.optimisation.batch_size)
    }

    /// The schedules of a run with this many steps per epoch.
    pub fn schedules(&self, steps_per_epoch: usize) -> Schedules {
        let optimisation = &self.optimisation;
        Schedules::new(ScheduleOptions {
            steps: self.schedule.epochs * steps_per_epoch,
            warmup_steps: (optimisation.warmup_epochs * steps_per_epoch as f64) as usize,
            stretch: self.schedule.stretch,
            learning_rate: (
                optimisation.start_learning_rate,
                optimisation.learning_rate,
                optimisation.final_learning_rate,
            ),
            weight_decay: (optimisation.weight_decay, optimisation.final_weight_decay),
            momentum: (optimisation.start_momentum, optimisation.final_momentum),
            sharpen: (self.loss.start_sharpen, self.loss.final_sharpen),
            ensemble_temperature: (
                self.loss.start_ensemble_temperature,
                self.loss.final_ensemble_temperature,
            ),
            temperature_steps: (self.loss.temperature_epochs * steps_per_epoch as f64) as usize,
        })
    }

    /// The preprocessing of an encoder trained like this: the largest square in the middle, at the training size.
    pub fn preprocessor(&self) -> Preprocessor {
        let size = self.views.random_size as u32;
        Preprocessor {
            resize: Resize::ShortSideThenCrop { short_side: size, crop: size },
            filter: Filter::Bilinear,
            mean: crate::views::MEAN,
            std: crate::views::STD,
        }
    }
}
