//! Options of a classification.

use super::*;

#[tokio::test]
async fn scores_are_probabilities_best_first_and_evidence_is_nearest_first() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    let (_, answer) = ask(&learner, 2).await;
    assert_eq!(answer.label.as_deref(), Some("tulip"));
    assert_eq!(answer.scores.len(), 3);
    assert!((answer.scores.iter().map(|score| score.probability).sum::<f32>() - 1.0).abs() < 1e-5);
    assert!(answer.scores.is_sorted_by(|a, b| a.probability >= b.probability));
    assert!((answer.probability - answer.scores[0].probability).abs() < f32::EPSILON);
    assert_eq!(answer.evidence.len(), 3);
    assert!(answer.evidence.is_sorted_by(|a, b| a.similarity >= b.similarity));
    assert!(answer.evidence.iter().all(|near| near.label == "tulip"));
}

#[tokio::test]
async fn top_k_and_evidence_limit_what_is_returned() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    let options = ClassifyOptions { top_k: 1, evidence: 0, ..everything() };
    let queries = [towards(0, 0), towards(1, 0)];
    let (_, answers) = learner.classify(DEFAULT_COLLECTION, &queries, &options).await.unwrap();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[1].label.as_deref(), Some("rose"));
    assert!(answers.iter().all(|answer| answer.scores.len() == 1 && answer.evidence.is_empty()));
}

#[tokio::test]
async fn below_the_minimum_the_answer_is_unknown() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    let between = vec![vec![0.5, 0.5, 0.5, 0.5]];
    let options = ClassifyOptions { min_confidence: Some(0.6), ..everything() };
    let (_, answers) = learner.classify(DEFAULT_COLLECTION, &between, &options).await.unwrap();
    assert_eq!((answers[0].doubt, answers[0].label.as_deref()), (Some(Doubt::LowConfidence), None));
    assert_eq!(answers[0].scores.len(), 3, "the candidates are still listed");
    let (_, answers) = learner.classify(DEFAULT_COLLECTION, &[towards(0, 5)], &options).await.unwrap();
    assert!(answers[0].doubt.is_none() && answers[0].label.is_some());
}

#[tokio::test]
async fn candidates_can_be_named() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    let among = |names: &[&str]| ClassifyOptions {
        classes: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        ..everything()
    };
    let query = [towards(2, 5)];
    let (_, answers) =
        learner.classify(DEFAULT_COLLECTION, &query, &among(&["daisy", "rose"])).await.unwrap();
    assert_eq!(answers[0].scores.len(), 2);
    assert!((answers[0].scores.iter().map(|score| score.probability).sum::<f32>() - 1.0).abs() < 1e-5);
    assert!(answers[0].evidence.iter().all(|near| near.label != "tulip"));
    let (_, answers) = learner.classify(DEFAULT_COLLECTION, &query, &among(&[])).await.unwrap();
    assert_eq!(answers[0].scores.len(), 3);
    assert!(matches!(
        learner.classify(DEFAULT_COLLECTION, &query, &among(&["daisy", "lily"])).await,
        Err(LearnError::UnknownClass { class }) if class == "lily"
    ));
    learner.create_class(DEFAULT_COLLECTION, "lily", None).await.unwrap();
    assert!(matches!(
        learner.classify(DEFAULT_COLLECTION, &query, &among(&["daisy", "lily"])).await,
        Err(LearnError::ClassNotInHead { class }) if class == "lily"
    ));
}

#[tokio::test]
async fn bad_queries_are_refused() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    for vector in [vec![f32::NAN, 0.0, 0.0, 0.0], vec![0.0; 4], vec![1.0; 5]] {
        let refused = learner.classify(DEFAULT_COLLECTION, &[vector], &everything()).await;
        assert!(matches!(refused, Err(LearnError::Vector(_))));
    }
    assert_eq!(label(&learner, 0).await, "daisy");
}

#[tokio::test]
async fn collections_do_not_see_each_other() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    let reading = learner.classes("elsewhere", &all()).await.unwrap();
    assert!(reading.data.is_empty());
    assert!(learner.heads("elsewhere", &all()).await.unwrap().data.is_empty());
    assert!(matches!(
        learner.classify("elsewhere", &[towards(0, 0)], &everything()).await,
        Err(LearnError::NoExamples)
    ));
    assert!(matches!(
        learner.delete_class("elsewhere", "daisy", None).await,
        Err(LearnError::UnknownClass { .. })
    ));
    learner.add_examples("elsewhere", "daisy", vec![image("daisy 0", 3, 0)]).await.unwrap();
    assert_eq!(learner.class("elsewhere", "daisy").await.unwrap().count, 1);
    assert_eq!(learner.class(DEFAULT_COLLECTION, "daisy").await.unwrap().count, 3);
    let (_, answers) = learner.classify("elsewhere", &[towards(1, 0)], &everything()).await.unwrap();
    assert_eq!(answers[0].label.as_deref(), Some("daisy"));
    assert_eq!(label(&learner, 1).await, "rose");
}

#[tokio::test]
async fn what_is_unlike_the_examples_is_unknown_at_the_rate_asked_for() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    for (axis, class) in ["daisy", "rose", "tulip"].into_iter().enumerate() {
        fill(&learner, class, axis, 12).await;
    }
    let ask = async |vector: Vec<f32>, rate: f32| {
        let options = ClassifyOptions { false_rejection_rate: rate, ..everything() };
        learner.classify(DEFAULT_COLLECTION, &[vector], &options).await.unwrap().1.remove(0)
    };
    // Nothing has leant towards the fourth axis.
    let stranger = vec![0.0, 0.0, 0.0, 1.0];
    let answer = ask(stranger.clone(), 0.05).await;
    assert_eq!((answer.doubt, answer.label.as_deref()), (Some(Doubt::UnlikeExamples), None));
    let likeness = answer.likeness.unwrap();
    assert!(likeness.p_value <= 0.05 && likeness.distance > 1.5, "{likeness:?}");
    assert!(ask(stranger, 0.0).await.doubt.is_none(), "a rate of 0 rejects nothing");
    let known = ask(towards(1, 4), 0.05).await;
    assert_eq!(known.label.as_deref(), Some("rose"));
    let likeness = known.likeness.unwrap();
    assert!(likeness.p_value > 0.05 && likeness.nearest.as_deref() == Some("rose"), "{likeness:?}");
}

#[tokio::test]
async fn a_set_is_as_wide_as_its_promise() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    let among = async |coverage: f64| {
        let options = ClassifyOptions { coverage: Some(coverage), ..everything() };
        let mut answers = learner.classify(DEFAULT_COLLECTION, &[towards(1, 5)], &options).await.unwrap().1;
        answers.remove(0).set.unwrap()
    };
    let narrow = among(0.5).await;
    assert_eq!((narrow.labels.as_slice(), narrow.examples), (&["rose".to_owned()][..], 9));
    let wide = among(1.0).await;
    assert_eq!(wide.labels.len(), 3, "certainty is all candidates");
    assert!(ask(&learner, 1).await.1.set.is_none());
}

/// The prototype head's probabilities come from examples left out, and follow the labels.
#[tokio::test]
async fn the_untrained_head_is_calibrated_by_the_labels_it_has() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    let sure = ask(&learner, 0).await.1.probability;
    assert!(sure > 0.8, "{sure}");
    // Half of the labels become nonsense.
    for variant in 0..6 {
        let content = format!("mixed up {variant}");
        let example = image(&content, 1 + variant % 2, variant);
        learner.add_examples(DEFAULT_COLLECTION, "daisy", vec![example]).await.unwrap();
    }
    let doubtful = ask(&learner, 0).await.1.probability;
    assert!(doubtful < sure, "{doubtful} {sure}");
}
