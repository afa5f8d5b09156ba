//! The target encoder looked at by itself.

use super::*;

#[test]
fn images_are_described_by_the_prototype_their_targets_favour() {
    let mut msn = lively(tiny());
    msn.step(&tiny_views(DType::F64), &KEEP, &rates()).unwrap();
    let views = tiny_views(DType::F64);
    let state = msn.state().into_iter().collect();
    let encoder = TargetEncoder::new(&tiny(), &state, &DEVICE).unwrap();
    let values = views.target.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap();
    let described = encoder.describe(values, 32).unwrap();
    let favoured = msn.prototype_targets(&views, 0.25).argmax(1).unwrap().to_vec1::<u32>().unwrap();
    assert_eq!(described.prototypes, favoured);
    for vector in &described.features {
        assert_near(f64::from(vector.iter().map(|value| value * value).sum::<f32>()), 1.0, 1e-5);
        assert_near(f64::from(vector.iter().sum::<f32>()), 0.0, 1e-5);
    }
    let mut cut = msn.state().into_iter().collect::<std::collections::HashMap<_, _>>();
    cut.remove("target.fc.bn1.running_mean");
    let error = TargetEncoder::new(&tiny(), &cut, &DEVICE).err().unwrap().to_string();
    assert!(error.contains("fc.bn1.running_mean"), "{error}");
}
