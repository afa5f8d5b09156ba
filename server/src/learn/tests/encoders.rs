//! Another encoder on the same data directory.

use super::*;

#[tokio::test]
async fn vectors_of_two_encoders_never_meet() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    train(&learner).await;
    let given = NewExample { image: None, vector: towards(0, 9) };
    learner.add_examples(DEFAULT_COLLECTION, "daisy", vec![given]).await.unwrap();
    let gone = fill(&learner, "gone", 3, 1).await.examples.remove(0).example;
    learner.delete_example(DEFAULT_COLLECTION, "gone", &gone.id).await.unwrap();
    assert!(learner.pending_embeddings(100).await.unwrap().is_empty());
    learner.close().await;

    let learner = place.try_open("encoder-2").await.unwrap();
    assert_eq!(learner.class(DEFAULT_COLLECTION, "daisy").await.unwrap().count, 4, "examples stay");
    let unanswerable = learner.classify(DEFAULT_COLLECTION, &[towards(0, 0)], &everything()).await;
    assert!(matches!(unanswerable, Err(LearnError::NoExamples)));
    assert!(matches!(
        learner.train(DEFAULT_COLLECTION, TrainRequest::default()).await,
        Err(LearnError::TooFewClasses { needed: 2, actual: 0 })
    ));
    assert!(matches!(
        learner.activate_head(DEFAULT_COLLECTION, 1).await,
        Err(LearnError::HeadOfOtherEncoder { version: 1 })
    ));
    let heads = learner.heads(DEFAULT_COLLECTION, &all()).await.unwrap().data;
    assert_eq!(heads.iter().map(|head| head.active).collect::<Vec<_>>(), [false, true]);
    assert_eq!((heads[0].encoder.as_str(), heads[1].encoder.as_str()), ("encoder-1", "encoder-2"));

    // The other encoder sees every class one axis further on.
    assert_eq!(learner.pending_embeddings(2).await.unwrap().len(), 2);
    let pending = learner.pending_embeddings(100).await.unwrap();
    assert_eq!(pending.len(), 9, "neither the vector nor the deleted image");
    let mut vectors: Vec<(String, Vec<f32>)> = pending
        .into_iter()
        .map(|(id, bytes)| {
            let axis =
                ["daisy", "rose", "tulip"].iter().position(|class| bytes.starts_with(class.as_bytes()));
            (id, towards(axis.unwrap() + 1, 0))
        })
        .collect();
    vectors.push(("01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(), towards(0, 0)));
    learner.set_embeddings(vectors.clone()).await.unwrap();
    assert!(learner.pending_embeddings(100).await.unwrap().is_empty());
    for (axis, class) in ["daisy", "rose", "tulip"].into_iter().enumerate() {
        assert_eq!(label(&learner, axis + 1).await, class);
    }
    let embedded = view(&learner).await;
    learner.set_embeddings(vectors).await.unwrap();
    assert_eq!(view(&learner).await, embedded, "a second time changes nothing");

    learner.restore_example(DEFAULT_COLLECTION, "gone", &gone.id).await.unwrap();
    assert_eq!(learner.pending_embeddings(100).await.unwrap().len(), 1);
    let again = fill(&learner, "gone", 0, 1).await;
    assert!(again.examples[0].duplicate);
    assert!(learner.pending_embeddings(100).await.unwrap().is_empty(), "the vector it lacked came with it");
    assert_eq!(label(&learner, 0).await, "gone");
    let last = view(&learner).await;
    learner.close().await;

    let learner = place.try_open("encoder-2").await.unwrap();
    assert_eq!(view(&learner).await, last);
    learner.close().await;
    let learner = place.open().await;
    assert_eq!(label(&learner, 0).await, "daisy", "the first encoder's vectors are still there");
    assert_eq!(learner.activate_head(DEFAULT_COLLECTION, 1).await.unwrap().version, 1);
}

#[tokio::test]
async fn bad_vectors_are_refused_whole() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    learner.close().await;
    let learner = place.try_open("encoder-2").await.unwrap();
    let pending = learner.pending_embeddings(2).await.unwrap();
    let vectors = vec![(pending[0].0.clone(), towards(0, 0)), (pending[1].0.clone(), vec![f32::NAN; 4])];
    assert!(matches!(learner.set_embeddings(vectors).await, Err(LearnError::Vector(_))));
    assert_eq!(learner.pending_embeddings(100).await.unwrap().len(), 9);
}

#[tokio::test]
async fn a_damaged_image_does_not_keep_the_others_waiting() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    learner.close().await;
    let learner = place.try_open("encoder-2").await.unwrap();
    let first: Vec<String> =
        learner.pending_embeddings(2).await.unwrap().into_iter().map(|(id, _)| id).collect();
    for file in place.image_files() {
        if matches!(std::fs::read(&file).unwrap().as_slice(), b"daisy 0" | b"daisy 1") {
            std::fs::write(file, b"damaged").unwrap();
        }
    }
    let pending = learner.pending_embeddings(2).await.unwrap();
    assert_eq!(pending.len(), 2);
    assert!(pending.iter().all(|(id, _)| !first.contains(id)));
    assert_eq!(learner.pending_embeddings(100).await.unwrap().len(), 7);
}
