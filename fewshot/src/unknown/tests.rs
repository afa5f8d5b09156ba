use super::*;

/// Pseudo-random numbers from −0.5 to 0.5.
fn noise(count: usize) -> Vec<f64> {
    let mut state = 5u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

/// Classes 0, 1, … of so many examples each, around corners of the cube.
fn examples(counts: &[usize], dimensions: usize) -> Examples {
    let total: usize = counts.iter().sum();
    let noise = noise(total * dimensions);
    let classes = counts.iter().enumerate().flat_map(|(class, &count)| vec![class; count]);
    let rows: Vec<(ClassKey, Vec<f32>)> = classes
        .zip(noise.chunks_exact(dimensions))
        .map(|(class, noise)| {
            let mut row: Vec<f32> = noise.iter().map(|&x| x as f32).collect();
            row[class % dimensions] += 2.0;
            (class as ClassKey, row)
        })
        .collect();
    Examples::new(dimensions, rows.iter().map(|(class, row)| (*class, row.as_slice()))).unwrap()
}

#[test]
fn what_lies_elsewhere_is_unknown() {
    let test = UnknownTest::fit(&examples(&[12, 12, 12], 6)).unwrap();
    assert_eq!(test.reference_len(), 36);
    let known = test.typicality(&[0.1, 1.9, 0.0, -0.1, 0.1, 0.0]).unwrap();
    assert_eq!(known.nearest, 1);
    assert!(!known.is_unknown(0.05) && known.distance < 1.5, "{known:?}");
    let other = test.typicality(&[0.0, 0.0, 0.0, 0.0, 0.0, 1.0]).unwrap();
    assert!(other.is_unknown(0.05) && other.distance > 2.0, "{other:?}");
    assert!((other.p_value - 1.0 / 37.0).abs() < 1e-6);
}

/// Distances of left-out examples as defined: means, and the scatter with the same divisor, without the example.
#[test]
fn leaving_out_in_closed_form_is_leaving_out() {
    let (counts, dimensions) = ([4, 3, 1, 6], 5);
    let examples = examples(&counts, dimensions);
    let Centred { means, residuals } = Centred::new(&examples);
    let degrees = examples.len() - counts.len();
    let covariance = ShrunkCovariance::new(&residuals, dimensions, degrees).unwrap();
    let whitening = covariance.whitening();
    let white_means = whiten(&means, &whitening, dimensions);
    let left_out = LeftOut::new(&examples, &whitening, &white_means, covariance.share_of_one());
    let own = left_out.own_squares();
    left_out.for_each(|example, products| {
        let label = examples.labels()[example];
        let Some(own) = own[example] else {
            assert_eq!(counts[label], 1);
            return;
        };
        // Whitened, the covariance is the identity; the example's own part of it is taken out.
        let count = counts[label] as f64;
        let vector = &left_out.vectors[example * dimensions..][..dimensions];
        let residual: Vec<f64> =
            vector.iter().zip(&white_means[label * dimensions..]).map(|(x, m)| x - m).collect();
        let part = covariance.share_of_one() * count / (count - 1.0);
        let without: Vec<f64> = (0..dimensions * dimensions)
            .map(|place| {
                let (row, column) = (place / dimensions, place % dimensions);
                f64::from(u8::from(row == column)) - part * residual[row] * residual[column]
            })
            .collect();
        let cholesky = crate::matrix::Cholesky::new(&without, dimensions).unwrap();
        let square = |difference: &[f64]| {
            let mut solved = difference.to_vec();
            cholesky.solve(&mut solved);
            dot(difference, &solved)
        };
        let from_own: Vec<f64> = residual.iter().map(|r| r * count / (count - 1.0)).collect();
        let expected = square(&from_own) / (1.0 + 1.0 / (count - 1.0));
        assert!((own / expected - 1.0).abs() < 1e-9, "{own} {expected}");
        for (class, ours) in
            left_out.squares(example, products).enumerate().filter(|(class, _)| *class != label)
        {
            let mean = &white_means[class * dimensions..][..dimensions];
            let difference: Vec<f64> = vector.iter().zip(mean).map(|(x, m)| x - m).collect();
            let expected = square(&difference);
            assert!((ours / expected - 1.0).abs() < 1e-9, "{ours} {expected}");
        }
    });
}

#[test]
fn a_class_of_one_borrows_its_spread() {
    let test = UnknownTest::fit(&examples(&[1, 12, 12], 6)).unwrap();
    assert_eq!(test.reference_len(), 24);
    let near = test.typicality(&[1.9, 0.1, 0.0, 0.1, -0.1, 0.2]).unwrap();
    assert_eq!(near.nearest, 0);
    assert!(!near.is_unknown(0.05), "{near:?}");
}

#[test]
fn without_spread_nothing_is_unknown() {
    let same = [1.0, 0.0, 0.0];
    let duplicates = Examples::new(3, [(0, &same[..]), (0, &same), (1, &[0.0, 1.0, 0.0])]).unwrap();
    for examples in [examples(&[1, 1, 1], 3), duplicates] {
        let test = UnknownTest::fit(&examples).unwrap();
        assert_eq!(test.reference_len(), 0);
        let typicality = test.typicality(&[0.0, 1.0, 0.0]).unwrap();
        assert_eq!((typicality.nearest, typicality.is_unknown(0.99)), (1, false));
    }
    let none = Examples::new(3, []).unwrap();
    assert_eq!(UnknownTest::fit(&none), Err(Error::TooFewClasses { needed: 1, actual: 0 }));
}

#[test]
fn one_class_has_unknowns_too() {
    let test = UnknownTest::fit(&examples(&[20], 4)).unwrap();
    assert!(test.typicality(&[-1.0, 0.0, 0.0, 0.0]).unwrap().is_unknown(0.05));
    assert!(!test.typicality(&[1.0, 0.0, 0.0, 0.0]).unwrap().is_unknown(0.05));
}

#[test]
fn bad_queries_are_refused() {
    let test = UnknownTest::fit(&examples(&[3, 3], 2)).unwrap();
    assert_eq!(test.typicality(&[0.0, 0.0]), Err(Error::ZeroVector));
    assert_eq!(test.typicality(&[f32::NAN, 0.0]), Err(Error::NotFinite { position: 0 }));
    assert_eq!(test.typicality(&[1.0]), Err(Error::Dimensions { expected: 2, actual: 1 }));
}

#[test]
fn what_is_stored_is_checked() {
    let test = UnknownTest::fit(&examples(&[3, 4], 2)).unwrap();
    let text = serde_json::to_string(&test).unwrap();
    assert_eq!(serde_json::from_str::<UnknownTest>(&text).unwrap(), test);
    for (old, new) in [
        ("\"format\":1", "\"format\":2"),
        ("\"dimensions\":2", "\"dimensions\":3"),
        ("[0,1]", "[1,0]"),
        ("\"means\":[", "\"means\":[0.5,"),
        ("\"spreads\":[", "\"spreads\":[-"),
        ("\"reference\":[", "\"reference\":[1e9,"),
    ] {
        let broken = text.replacen(old, new, 1);
        assert_ne!(broken, text);
        assert!(serde_json::from_str::<UnknownTest>(&broken).is_err(), "{broken}");
    }
}
