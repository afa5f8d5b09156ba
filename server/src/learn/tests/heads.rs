//! Trained heads: versions, activation, classes they do not know.

use super::*;
use crate::learn::{ClassPrior, NewImage};
use crate::store::heads;
use dozen_fewshot::training::Method;

async fn versions(learner: &Learner) -> Vec<(i64, bool)> {
    let heads = learner.heads(DEFAULT_COLLECTION, &all()).await.unwrap();
    heads.data.iter().map(|head| (head.version, head.active)).collect()
}

#[tokio::test]
async fn training_adds_an_active_version() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    assert_eq!(versions(&learner).await, [(0, true)]);
    train(&learner).await;
    assert_eq!(versions(&learner).await, [(1, true), (0, false)]);
    train(&learner).await;
    let heads = learner.heads(DEFAULT_COLLECTION, &all()).await.unwrap().data;
    assert_eq!(versions(&learner).await, [(2, true), (1, false), (0, false)]);
    assert_eq!((heads[0].parent, heads[1].parent, heads[2].parent), (Some(1), Some(0), None));
    let method = heads[0].method.clone();
    assert_eq!(heads[0].metrics["method"], method.as_str());
    assert_eq!(heads[0].parameters["method"], method.as_str());
    assert_eq!(heads[0].encoder, "encoder-1");
    assert_eq!(heads[0].metrics["classes"], 3);
    assert_eq!(heads[0].metrics["examples"], 9);
    assert_eq!(heads[0].metrics["held_out"]["accuracy"], 1.0);
    assert_eq!(heads[0].metrics["trials"].as_array().unwrap().len(), Method::ALL.len());
    assert_eq!(heads[0].metrics["promotion"]["against"], 1);
    let (head, answer) = ask(&learner, 1).await;
    assert_eq!(head, HeadUsed { version: 2, method });
    assert_eq!(answer.label.as_deref(), Some("rose"));
    assert_eq!(answer.evidence.len(), 3);
}

#[tokio::test]
async fn a_version_can_be_activated() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    train(&learner).await;
    train(&learner).await;
    for version in [1, 0, 0, 2] {
        let head = learner.activate_head(DEFAULT_COLLECTION, version).await.unwrap();
        assert_eq!((head.version, head.active), (version, true));
        assert_eq!(ask(&learner, 0).await.0.version, version);
        assert_eq!(versions(&learner).await.into_iter().find(|(_, active)| *active), Some((version, true)));
    }
    for version in [3, -1] {
        assert!(matches!(
            learner.activate_head(DEFAULT_COLLECTION, version).await,
            Err(LearnError::UnknownHead { version: unknown }) if unknown == version
        ));
    }
    assert!(matches!(
        learner.activate_head("elsewhere", 0).await,
        Err(LearnError::UnknownHead { version: 0 })
    ));
}

#[tokio::test]
async fn a_class_the_head_does_not_know_is_answered_by_the_prototypes() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    train(&learner).await;
    learner.create_class(DEFAULT_COLLECTION, "lily", None).await.unwrap();
    assert_eq!(ask(&learner, 3).await.0.version, 1, "an empty class is no candidate");
    fill(&learner, "lily", 3, 2).await;
    let (head, answer) = ask(&learner, 3).await;
    assert_eq!((head.version, answer.label.as_deref()), (0, Some("lily")));
    let known =
        ClassifyOptions { classes: Some(vec!["daisy".to_owned(), "rose".to_owned()]), ..everything() };
    let (head, _) = learner.classify(DEFAULT_COLLECTION, &[towards(3, 0)], &known).await.unwrap();
    assert_eq!(head.version, 1, "it knows all candidates");
    train(&learner).await;
    let (head, answer) = ask(&learner, 3).await;
    assert_eq!((head.version, answer.label.as_deref()), (2, Some("lily")));
}

#[tokio::test]
async fn a_deleted_class_takes_no_probability() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    train(&learner).await;
    learner.rename_class(DEFAULT_COLLECTION, "tulip", Some("tulipa"), None, None).await.unwrap();
    learner.delete_class(DEFAULT_COLLECTION, "rose", None).await.unwrap();
    let (head, answer) = ask(&learner, 2).await;
    assert_eq!(head.version, 1);
    assert_eq!(answer.label.as_deref(), Some("tulipa"));
    assert_eq!(answer.scores.len(), 2);
    assert!((answer.scores.iter().map(|score| score.probability).sum::<f32>() - 1.0).abs() < 1e-5);
    // The slug again, but a class the head has never seen.
    fill(&learner, "rose", 1, 1).await;
    assert_eq!(ask(&learner, 1).await.0.version, 0);
}

/// Every method answers, survives a restart, and those that follow the labels do.
#[tokio::test]
async fn every_method_can_be_asked_for() {
    let place = Place::new();
    let mut learner = three_classes(&place).await;
    for method in Method::ALL {
        let request = TrainRequest { method: Some(method), force: true, ..TrainRequest::default() };
        let job = learner.train(DEFAULT_COLLECTION, request).await.unwrap();
        assert_eq!(job.method, method.word());
        assert_eq!(ended(&learner, &job.id).await.status, JobStatus::Succeeded, "{method:?}");
        let before = view(&learner).await;
        assert_eq!(ask(&learner, 2).await.0.method, method.word());
        assert_eq!(ask(&learner, 2).await.1.label.as_deref(), Some("tulip"));
        learner.close().await;
        learner = place.open().await;
        assert_eq!(view(&learner).await, before, "{method:?}");
    }
}

/// Twenty-five examples of each class, of which five are held back; then all the others get a wrong label.
#[tokio::test]
async fn a_head_that_does_worse_on_the_slice_is_kept_but_not_activated() {
    const CLASSES: [&str; 3] = ["daisy", "rose", "tulip"];
    let place = Place::new();
    let learner = place.open().await;
    for (axis, class) in CLASSES.into_iter().enumerate() {
        fill(&learner, class, axis, 25).await;
    }
    let train = async |force: bool| {
        let request = TrainRequest { method: Some(Method::Logistic), force, ..TrainRequest::default() };
        let job = learner.train(DEFAULT_COLLECTION, request).await.unwrap();
        ended(&learner, &job.id).await.result.unwrap()
    };
    let good = train(false).await;
    assert_eq!((&good["activated"], &good["metrics"]["promotion"]["judged"]), (&true.into(), &15.into()));

    let mut reader = learner.core().store.read().await.unwrap();
    let stored = heads::weights(&mut reader, 1, 1).await.unwrap();
    let stored: serde_json::Value = serde_json::from_slice(&stored).unwrap();
    let held_back: Vec<i64> = serde_json::from_value(stored["held_back"].clone()).unwrap();
    assert_eq!(held_back.len(), 15);
    let rows: Vec<(i64, String)> =
        sqlx::query_as("SELECT key, id FROM example ORDER BY key").fetch_all(&mut *reader).await.unwrap();
    drop(reader);
    for (place, (key, id)) in rows.iter().enumerate() {
        if !held_back.contains(key) {
            let (own, next) = (CLASSES[place / 25], CLASSES[(place / 25 + 1) % 3]);
            learner.move_example(DEFAULT_COLLECTION, own, id, next).await.unwrap();
        }
    }

    let bad = train(false).await;
    let promotion = &bad["metrics"]["promotion"];
    assert_eq!((&bad["head_version"], &bad["activated"]), (&2.into(), &false.into()), "{promotion}");
    assert_eq!((&promotion["against"], &promotion["worse"]), (&1.into(), &true.into()));
    assert!(promotion["judged"].as_u64().unwrap() >= 5, "{promotion}");
    assert_eq!(ask(&learner, 0).await.0.version, 1);
    assert_eq!(train(true).await["activated"], true, "unless forced");
    assert_eq!(ask(&learner, 0).await.0.version, 3);
    learner.activate_head(DEFAULT_COLLECTION, 1).await.unwrap();
    assert_eq!(ask(&learner, 0).await.1.label.as_deref(), Some("daisy"), "and back");
}

/// Unlabelled images of the pool take part, and a given spread over classes is checked before there is a job.
#[tokio::test]
async fn the_pool_teaches_and_its_spread_can_be_given() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    let unlabelled = (0..12).map(|variant| NewImage {
        image: Some((bytes::Bytes::from(format!("unlabelled {variant}")), "image/png")),
        vector: towards(variant % 3, variant),
        views: Vec::new(),
    });
    learner.add_images(DEFAULT_COLLECTION, unlabelled.collect()).await.unwrap();
    let train = async |shares: &[(&str, f64)]| {
        let shares = shares.iter().map(|(slug, share)| ((*slug).to_owned(), *share)).collect();
        let request = TrainRequest {
            method: Some(Method::Msn),
            class_prior: ClassPrior::Given(shares),
            ..TrainRequest::default()
        };
        learner.train(DEFAULT_COLLECTION, request).await
    };
    let job = train(&[("daisy", 1.0), ("rose", 2.0), ("tulip", 1.0)]).await.unwrap();
    let ended = ended(&learner, &job.id).await;
    let result = ended.result.unwrap_or_else(|| panic!("{:?}", ended.error));
    assert_eq!((&result["metrics"]["pool"], &result["metrics"]["method"]), (&12.into(), &"msn".into()));
    assert_eq!(ask(&learner, 1).await.1.label.as_deref(), Some("rose"));
    assert!(matches!(
        train(&[("lily", 1.0)]).await,
        Err(LearnError::UnknownClass { class }) if class == "lily"
    ));
}

#[tokio::test]
async fn two_versions_are_compared_on_the_same_examples() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    train(&learner).await;
    let same = learner.diff_heads(DEFAULT_COLLECTION, [1, 1], 10).await.unwrap();
    assert_eq!((same.compared, same.differing, same.a_right), (9, 0, 9));
    let job = learner.train(DEFAULT_COLLECTION, TrainRequest::default()).await.unwrap();
    ended(&learner, &job.id).await;
    // One example changes sides: the frozen head may stay with the old label, both are told.
    let example = learner.examples(DEFAULT_COLLECTION, "daisy", false, &all()).await.unwrap().data.remove(0);
    learner.move_example(DEFAULT_COLLECTION, "daisy", &example.id, "rose").await.unwrap();
    let diff = learner.diff_heads(DEFAULT_COLLECTION, [0, 2], 10).await.unwrap();
    assert_eq!((diff.a.version, diff.b.version, diff.compared), (0, 2, 9));
    assert_eq!(diff.differing, diff.data.len());
    assert!(matches!(
        learner.diff_heads(DEFAULT_COLLECTION, [0, 7], 10).await,
        Err(LearnError::UnknownHead { version: 7 })
    ));
}

/// A fitted head knows a class by its old name, the prototype head by its new one.
#[tokio::test]
async fn two_versions_are_compared_on_images_without_a_label() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    let pool = (0..9).map(|i| NewImage { image: None, vector: towards(i % 3, i + 7), views: Vec::new() });
    let images = learner.add_images(DEFAULT_COLLECTION, pool.collect()).await.unwrap();
    let request = TrainRequest { method: Some(Method::Logistic), force: true, ..TrainRequest::default() };
    let job = learner.train(DEFAULT_COLLECTION, request).await.unwrap();
    ended(&learner, &job.id).await;
    let same = learner.diff_heads(DEFAULT_COLLECTION, [0, 1], 10).await.unwrap().pool;
    assert_eq!((same.compared, same.differing, same.data.len()), (9, 0, 0));
    for example in learner.examples(DEFAULT_COLLECTION, "rose", false, &all()).await.unwrap().data {
        learner.move_example(DEFAULT_COLLECTION, "rose", &example.id, "lily").await.unwrap();
    }
    let diff = learner.diff_heads(DEFAULT_COLLECTION, [0, 1], 2).await.unwrap().pool;
    assert_eq!((diff.compared, diff.differing, diff.data.len()), (9, 3, 2));
    for PoolDifference { image, a, b } in &diff.data {
        assert_eq!((a.0.as_str(), b.0.as_str()), ("lily", "rose"));
        assert_eq!(images.iter().position(|other| other.id == *image).unwrap() % 3, 1);
    }
    let sureness = |difference: &PoolDifference| difference.a.1.min(difference.b.1);
    assert!(sureness(&diff.data[0]) >= sureness(&diff.data[1]), "{:?}", diff.data);
    for class in ["daisy", "lily", "tulip"] {
        learner.delete_class(DEFAULT_COLLECTION, class, None).await.unwrap();
    }
    let nothing = learner.diff_heads(DEFAULT_COLLECTION, [0, 1], 2).await.unwrap();
    assert_eq!((nothing.compared, nothing.pool.compared), (0, 0));
}
