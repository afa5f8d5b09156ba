//! The Kozachenko–Leonenko regulariser (arXiv 1806.03198; its use for features: DINOv2, arXiv 2304.07193): the features of
//! a batch repel their nearest neighbours and so spread over the sphere.

use candle_core::{D, Result, Tensor};
use dozen_models::vit::kernels::unit_rows;

/// Added to differences before a distance is taken, so that its derivative is finite between equal features.
const EPS: f64 = 1e-8;

/// −(1/n) Σ_i log min_{j≠i} ‖x̂_i − x̂_j‖ over the rows of `[n, d]`; 0 for a single row, which has no neighbour.
pub(super) fn koleo(features: &Tensor) -> Result<Tensor> {
    let unit = unit_rows(features)?;
    let rows = unit.dim(0)?;
    if rows < 2 {
        return unit.sum_all()? * 0.0;
    }
    let nearest = {
        let fixed = unit.detach();
        // Cosines lie above −1: on the diagonal −2 takes every row out of its own neighbourhood.
        let own = (Tensor::eye(rows, unit.dtype(), unit.device())? * 4.0)?;
        (fixed.matmul(&fixed.t()?)? - own)?.argmax(D::Minus1)?
    };
    let difference = (&unit - unit.index_select(&nearest, 0)?)?;
    let distance = (difference.sqr()?.sum(D::Minus1)? + EPS)?.sqrt()?;
    distance.log()?.mean_all()?.neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn number(tensor: &Tensor) -> f64 {
        tensor.to_scalar::<f64>().unwrap()
    }

    #[test]
    fn it_is_the_log_distance_to_the_nearest() {
        // On the unit circle at 0°, 90° and 180°, whatever their lengths: all are √2 from their nearest.
        let rows = Tensor::new(&[[2.0, 0.0], [0.0, 0.5], [-1.0, 0.0]], &Device::Cpu).unwrap();
        assert!((number(&koleo(&rows).unwrap()) + 2.0_f64.sqrt().ln()).abs() < 1e-7);
        let close = Tensor::new(&[[1.0, 0.0], [1.0, 0.001], [-1.0, 0.0]], &Device::Cpu).unwrap();
        assert!(number(&koleo(&close).unwrap()) > 3.0);
        let single = Tensor::new(&[[1.0, 0.0]], &Device::Cpu).unwrap();
        assert!(number(&koleo(&single).unwrap()).abs() < 1e-12);
    }

    #[test]
    fn its_gradient_is_the_finite_difference() {
        let values: Vec<f64> = (0..20).map(|n| (1.3 * f64::from(n) + 0.4).sin()).collect();
        let at = |values: &[f64]| Tensor::from_slice(values, (5, 4), &Device::Cpu).unwrap();
        let rows = Var::from_tensor(&at(&values)).unwrap();
        let gradients = koleo(&rows).unwrap().backward().unwrap();
        let gradient = gradients.get(&rows).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for (index, gradient) in gradient.into_iter().enumerate() {
            let shifted = |by: f64| {
                let mut values = values.clone();
                values[index] += by;
                number(&koleo(&at(&values)).unwrap())
            };
            let slope = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
            assert!((gradient - slope).abs() < 1e-7, "{index}: {gradient} instead of {slope}");
        }
    }

    #[test]
    fn equal_features_have_a_finite_gradient() {
        let rows =
            Var::from_tensor(&Tensor::ones((3, 4), candle_core::DType::F64, &Device::Cpu).unwrap()).unwrap();
        let gradients = koleo(&rows).unwrap().backward().unwrap();
        let square = gradients.get(&rows).unwrap().sqr().unwrap().sum_all().unwrap();
        assert!(number(&square).is_finite());
    }
}
