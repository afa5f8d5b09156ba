use std::collections::BTreeSet;
use std::ops::ControlFlow;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::means;

type Labelled = Vec<(ClassKey, Vec<f32>)>;

/// `each` vectors around one corner for each of six classes 0, 10, 20 …
fn clusters(each: usize, spread: f32, seed: u64) -> Labelled {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut labelled = Vec::new();
    for i in 0..6 * each {
        let mut vector: Vec<f32> = (0..32).map(|_| random.random_range(-spread..spread)).collect();
        vector[i / each] += 1.0;
        labelled.push(((i / each) as u64 * 10, vector));
    }
    labelled
}

fn examples(labelled: &Labelled) -> Examples {
    Examples::new(32, labelled.iter().map(|(class, vector)| (*class, vector.as_slice()))).unwrap()
}

fn audited(labelled: &Labelled, held_back: &[usize]) -> Vec<Finding> {
    let examples = examples(labelled);
    let held: Vec<bool> = (0..examples.len()).map(|i| held_back.contains(&i)).collect();
    // Cosines divided by a temperature, as a calibrated prototype head has them.
    let mut held_out = HeldOut::new(&examples);
    let cosines = means::held_out(&examples);
    for ((row, &position), &label) in cosines.rows().zip(cosines.examples()).zip(cosines.labels()) {
        held_out.push(position, label, &row.iter().map(|cosine| cosine / 0.1).collect::<Vec<_>>());
    }
    audit(&examples, &held_out, &held, &AuditOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap()
}

fn of_kind(findings: &[Finding], kind: Kind) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.kind == kind).collect()
}

#[test]
fn planted_mislabels_are_found() {
    for seed in 0..5 {
        let mut labelled = clusters(20, 0.35, seed);
        let planted: BTreeSet<usize> = (0..12).map(|i| i * 10 + i % 7).collect();
        for &position in &planted {
            labelled[position].0 = (labelled[position].0 + 10 * (1 + position as u64 % 5)) % 60;
        }
        let findings = audited(&labelled, &[]);
        let mislabels = of_kind(&findings, Kind::Mislabel);
        let found: BTreeSet<usize> = mislabels.iter().map(|finding| finding.examples[0]).collect();
        let hits = found.intersection(&planted).count() as f64;
        let (recall, precision) = (hits / planted.len() as f64, hits / found.len() as f64);
        assert!(recall >= 0.8 && precision >= 0.8, "{recall} {precision}");
        for finding in mislabels.iter().filter(|finding| planted.contains(&finding.examples[0])) {
            assert_eq!(finding.fix, Fix::Move { to: finding.examples[0] as u64 / 20 * 10 });
            assert!(
                finding.evidence.iter().all(|&near| labelled[near].0 == finding.examples[0] as u64 / 20 * 10)
            );
        }
    }
}

#[test]
fn planted_duplicates_are_always_found() {
    let mut labelled = clusters(30, 0.4, 9);
    let mut random = ChaCha8Rng::seed_from_u64(10);
    for i in 0..20 {
        let mut copy = labelled[i * 7].clone();
        // Every other one is another crop of the image, every third has another label.
        if i % 2 == 1 {
            copy.1.iter_mut().for_each(|x| *x += random.random_range(-0.02..0.02));
        }
        copy.0 = if i % 3 == 0 { (copy.0 + 10) % 60 } else { copy.0 };
        labelled.push(copy);
    }
    let findings = audited(&labelled, &[7, 187]);
    for (kind, rest) in [(Kind::ExactDuplicate, 0), (Kind::NearDuplicate, 1)] {
        let found = of_kind(&findings, kind);
        assert_eq!(found.len(), 10);
        for i in (0..20).filter(|i| i % 2 == rest) {
            let pair = [i * 7, 180 + i];
            let finding = found.iter().find(|finding| pair.contains(&finding.examples[0])).unwrap();
            assert_eq!((finding.examples.len(), finding.evidence.len(), finding.fix), (1, 1, Fix::Delete));
            assert!(pair.contains(&finding.evidence[0]));
            // The copy with the wrong label is the one to go.
            if i % 3 == 0 {
                assert_eq!(finding.examples[0], 180 + i);
            }
        }
    }
    let leaks = of_kind(&findings, Kind::Leakage);
    assert_eq!(leaks.len(), 2);
    assert!(leaks.iter().any(|leak| (&leak.examples[..], &leak.evidence[..]) == (&[7][..], &[181][..])));
    assert!(leaks.iter().any(|leak| (&leak.examples[..], &leak.evidence[..]) == (&[187][..], &[49][..])));
}

#[test]
fn a_stranger_in_a_class_is_an_outlier() {
    let mut labelled = clusters(12, 0.15, 3);
    labelled[17].1 = vec![0.0; 32];
    labelled[17].1[30] = 1.0;
    let findings = audited(&labelled, &[]);
    let outliers = of_kind(&findings, Kind::Outlier);
    assert_eq!(outliers.len(), 1);
    assert_eq!((&outliers[0].examples[..], outliers[0].fix), (&[17][..], Fix::Accept));
    assert!(outliers[0].score > 4.0);
}

/// Blocks and their remainder: all copies, over several blocks, are one group and no more.
#[test]
fn many_copies_are_one_finding() {
    let labelled: Labelled = (0..300).map(|_| (1, clusters(1, 0.3, 1)[0].1.clone())).collect();
    let findings = audited(&labelled, &[]);
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].kind, findings[0].examples.len()), (Kind::ExactDuplicate, 299));
    assert_eq!(findings[0].evidence, [0]);
}

#[test]
fn bad_input_has_an_answer() {
    assert!(audited(&Vec::new(), &[]).is_empty());
    assert!(audited(&clusters(1, 0.1, 1), &[]).is_empty(), "classes of one");
    let examples = examples(&clusters(2, 0.1, 1));
    let held_out = HeldOut::new(&examples);
    let run = |near_duplicate, held_back: &[bool], go: ControlFlow<()>| {
        audit(&examples, &held_out, held_back, &AuditOptions { near_duplicate }, &mut |_| go)
    };
    assert!(run(f64::NAN, &[false; 12], ControlFlow::Continue(())).is_err());
    assert!(run(0.98, &[false; 11], ControlFlow::Continue(())).is_err());
    assert_eq!(run(0.98, &[false; 12], ControlFlow::Break(())), Err(Error::Cancelled));
}
