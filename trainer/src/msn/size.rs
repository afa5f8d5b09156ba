//! How large a model is.

use super::MsnConfig;
use super::model::encoder_shapes;
use dozen_models::vit::reference::Vit;

/// Numbers of trained parameters. The target encoder has trunk and head once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterCounts {
    /// The Vision Transformer.
    pub trunk: usize,
    /// The projection heads.
    pub head: usize,
    /// The prototypes.
    pub prototypes: usize,
}

impl MsnConfig {
    /// Counts the parameters without making them.
    pub fn parameter_counts(&self) -> ParameterCounts {
        let count = |shapes: Vec<(String, Vec<usize>)>| -> usize {
            shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
        };
        let trunk = count(Vit::parameter_shapes(&self.vit));
        let prototypes = self.heads * self.prototypes * self.head_output;
        ParameterCounts { trunk, head: count(encoder_shapes(self)) - trunk, prototypes }
    }
}
