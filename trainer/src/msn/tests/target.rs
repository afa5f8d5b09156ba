//! The target encoder looked at by itself.

use super::*;

#[test]
fn images_are_described_by_the_prototype_their_targets_favour() {
    let config = MsnConfig { heads: 2, ..tiny() };
    let mut msn = lively(config.clone());
    msn.step(&[tiny_views(DType::F64)], &rates()).unwrap();
    let views = tiny_views(DType::F64);
    let state = msn.state().into_iter().collect();
    let encoder = TargetEncoder::new(&config, &state, &DEVICE).unwrap();
    let values = views.target.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap();
    let described = encoder.describe(values, 32).unwrap();
    let (targets, _) = msn.targets(&views, &rates()).unwrap();
    let mut favoured = Vec::new();
    for (head, targets) in targets.iter().enumerate() {
        let own = targets.argmax(1).unwrap().to_vec1::<u32>().unwrap();
        favoured.extend(own.into_iter().map(|own| (head * config.prototypes) as u32 + own));
    }
    assert_eq!(described.prototypes, favoured);
    for vector in &described.features {
        assert_near(f64::from(vector.iter().map(|value| value * value).sum::<f32>()), 1.0, 1e-5);
        assert_near(f64::from(vector.iter().sum::<f32>()), 0.0, 1e-5);
    }
    let mut cut = msn.state().into_iter().collect::<std::collections::HashMap<_, _>>();
    cut.remove("target.fc.1.bn1.running_mean");
    let error = TargetEncoder::new(&config, &cut, &DEVICE).err().unwrap().to_string();
    assert!(error.contains("fc.1.bn1.running_mean"), "{error}");
}
