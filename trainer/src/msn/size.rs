//! How large a model is.

use super::MsnConfig;
use super::head::parameter_shapes;
use dozen_models::vit::reference::Vit;

/// Numbers of trained parameters. The target encoder has trunk and head once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterCounts {
    /// The Vision Transformer.
    pub trunk: usize,
    /// The projection head.
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
        ParameterCounts {
            trunk: count(Vit::parameter_shapes(&self.vit)),
            head: count(parameter_shapes(self.vit.hidden_size, self.head_hidden, self.head_output)),
            prototypes: self.prototypes * self.head_output,
        }
    }
}
