//! Trained heads: versions, activation, classes they do not know.

use super::*;

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
    assert_eq!(heads[0].method, "logistic");
    assert_eq!(heads[0].encoder, "encoder-1");
    assert_eq!(heads[0].metrics["classes"], 3);
    assert_eq!(heads[0].metrics["examples"], 9);
    assert_eq!(heads[0].metrics["training_accuracy"], 1.0);
    assert!(heads[0].parameters["l2"].is_number());
    let (head, answer) = ask(&learner, 1).await;
    assert_eq!(head, HeadUsed { version: 2, method: "logistic".to_owned() });
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
