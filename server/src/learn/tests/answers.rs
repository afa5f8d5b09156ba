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
    let options = ClassifyOptions { min_confidence: Some(0.9), ..everything() };
    let (_, answers) = learner.classify(DEFAULT_COLLECTION, &between, &options).await.unwrap();
    assert!(answers[0].unknown && answers[0].label.is_none());
    assert_eq!(answers[0].scores.len(), 3, "the candidates are still listed");
    let (_, answers) = learner.classify(DEFAULT_COLLECTION, &[towards(0, 5)], &options).await.unwrap();
    assert!(!answers[0].unknown && answers[0].label.is_some());
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
