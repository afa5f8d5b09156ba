use super::*;
use crate::Examples;
use crate::heads::rank;

/// Judgements of examples of classes 10, 20, …
fn held_out(classes: usize, rows: &[(Vec<f64>, usize)]) -> HeldOut {
    let examples = Examples::new(1, (1..=classes).map(|class| (class as u64 * 10, &[1.0][..]))).unwrap();
    let mut held_out = HeldOut::new(&examples);
    for (position, (logits, label)) in rows.iter().enumerate() {
        held_out.push(position, *label, logits);
    }
    held_out
}

fn logits(values: &[f64]) -> Vec<Logit> {
    let logit =
        |(class, &logit): (usize, &f64)| Logit { class: (class as u64 + 1) * 10, logit, similarity: 0.0 };
    values.iter().enumerate().map(logit).collect()
}

fn confidence(calibration: &Calibration, values: &[f64]) -> f32 {
    let mut logits = logits(values);
    calibration.apply(&mut logits);
    rank(logits)[0].probability
}

#[test]
fn nothing_judged_changes_nothing() {
    let calibration = Calibration::fit(&held_out(2, &[]));
    assert_eq!(calibration, Calibration::identity());
    let mut same = logits(&[3.0, f64::NEG_INFINITY]);
    calibration.apply(&mut same);
    assert_eq!(same, logits(&[3.0, f64::NEG_INFINITY]));
}

#[test]
fn a_few_right_answers_are_no_certainty() {
    for margin in [0.5, 20.0, 1e6] {
        let right =
            |i: usize| if i.is_multiple_of(2) { (vec![margin, 0.0], 0) } else { (vec![0.0, margin], 1) };
        let calibration = Calibration::fit(&held_out(2, &(0..5).map(right).collect::<Vec<_>>()));
        // Of two classes the uniform sixth gives half back to the label.
        assert!(
            (confidence(&calibration, &[margin, 0.0]) - 11.0 / 12.0).abs() < 1e-4,
            "{margin} {calibration:?}"
        );
    }
}

#[test]
fn wrong_answers_take_confidence_away() {
    let rows: Vec<_> = (0..12).map(|i| (vec![9.0, 0.0], usize::from(i % 3 == 0))).collect();
    let calibration = Calibration::fit(&held_out(2, &rows));
    // Two of three right, and a thirteenth drawn at random.
    let expected = (8.0 * 12.0 / 13.0 + 12.0 / 13.0 / 2.0) / 12.0;
    assert!((f64::from(confidence(&calibration, &[9.0, 0.0])) - expected).abs() < 1e-6);
    assert!(!calibration.is_per_class());
}

/// Logits that lie about one class: it gets 3 too much.
fn biased(per_class: usize) -> Vec<(Vec<f64>, usize)> {
    let row = |i: usize| {
        let label = i % 3;
        let noise = |class: usize| ((i * 31 + class * 17 + i * i * 7) % 23) as f64 / 8.0;
        let mut logits: Vec<f64> = (0..3).map(noise).collect();
        logits[label] += 2.0;
        logits[0] += 3.0;
        (logits, label)
    };
    (0..3 * per_class).map(row).collect()
}

#[test]
fn classes_get_their_own_scale_where_it_proves_better() {
    let calibration = Calibration::fit(&held_out(3, &biased(20)));
    assert!(calibration.is_per_class() && calibration.uniform_share().abs() < f64::EPSILON);
    let mut moved = logits(&[3.5, 2.0, 0.0]);
    calibration.apply(&mut moved);
    assert_eq!(rank(moved)[0].class, 20);
    assert!(!Calibration::fit(&held_out(3, &biased(19))).is_per_class(), "too few to try");
}

#[test]
fn classes_share_a_temperature_where_nothing_tells_them_apart() {
    let fair: Vec<_> = biased(20)
        .into_iter()
        .map(|(mut logits, label)| {
            logits[0] -= 3.0;
            (logits, label)
        })
        .collect();
    assert!(!Calibration::fit(&held_out(3, &fair)).is_per_class());
}

#[test]
fn a_class_unknown_to_the_fit_gets_the_shared_temperature() {
    let calibration = Calibration::fit(&held_out(3, &biased(20)));
    let mut other = [Logit { class: 77, logit: 5.0, similarity: 0.0 }];
    calibration.apply(&mut other);
    assert!((other[0].logit - 5.0 / calibration.temperature()).abs() < 1e-12);
}

#[test]
fn what_is_stored_is_checked() {
    let calibration = Calibration::fit(&held_out(3, &biased(20)));
    let text = serde_json::to_string(&calibration).unwrap();
    let mut ours = logits(&[3.5, 2.0, 0.0]);
    let mut theirs = ours.clone();
    calibration.apply(&mut ours);
    serde_json::from_str::<Calibration>(&text).unwrap().apply(&mut theirs);
    // JSON keeps all but the last bit.
    assert!(ours.iter().zip(&theirs).all(|(a, b)| (a.logit - b.logit).abs() < 1e-12));
    for (old, new) in [
        ("\"format\":1", "\"format\":2"),
        ("\"uniform_share\":", "\"uniform_share\":1"),
        ("\"temperature\":", "\"temperature\":-"),
        ("[10,20,30]", "[10,20]"),
        ("[10,20,30]", "[20,10,30]"),
    ] {
        let broken = text.replacen(old, new, 1);
        assert_ne!(broken, text);
        assert!(serde_json::from_str::<Calibration>(&broken).is_err(), "{broken}");
    }
}

/// Heads that are the surer the more often they are right, but for one example in six, of which they know nothing.
#[test]
fn a_truth_that_was_thought_impossible_does_not_flatten_all_answers() {
    let row = |i: usize| {
        let mut logits = vec![0.0; 5];
        logits[i % 5] = [1.0, 2.0, 4.0, 8.0, 12.0][i / 5 % 5];
        let wrong = i.is_multiple_of(6) || (logits[i % 5] < 3.0 && i.is_multiple_of(4));
        (logits, if wrong { i / 7 % 5 } else { i % 5 })
    };
    let calibration = Calibration::fit(&held_out(5, &(0..95).map(row).collect::<Vec<_>>()));
    assert!((0.05..0.25).contains(&calibration.uniform_share()), "{calibration:?}");
    let mut ours = logits(&[12.0, 0.0, 0.0, 0.0, 0.0]);
    calibration.apply(&mut ours);
    assert!(rank(ours).iter().all(|score| score.probability > 0.01));
    // Shared among those asked about, and nothing for a class that the head does not know.
    let mut two = logits(&[12.0, 0.0, f64::NEG_INFINITY]);
    calibration.apply(&mut two);
    let scores = rank(two);
    assert!((f64::from(scores[1].probability) - 0.5 * calibration.uniform_share()).abs() < 0.02);
    assert!(scores[2].probability.abs() < f32::EPSILON);
    let old = serde_json::to_string(&calibration).unwrap().replace("uniform_share", "another");
    assert!(serde_json::from_str::<Calibration>(&old).unwrap().uniform_share().abs() < f64::EPSILON);
}
