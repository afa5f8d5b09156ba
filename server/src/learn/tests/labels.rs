//! What labelling, taking back, moving and renaming do to rows and answers.

use super::*;

#[tokio::test]
async fn the_next_answer_sees_an_added_example() {
    let place = Place::new();
    let learner = place.open().await;
    let nothing = learner.classify(DEFAULT_COLLECTION, &[towards(0, 0)], &everything()).await;
    assert!(matches!(nothing, Err(LearnError::NoExamples)));
    let added = fill(&learner, "daisy", 0, 3).await;
    assert_eq!(added.class.count, 3);
    assert_eq!(added.examples.iter().filter(|added| added.duplicate).count(), 0);
    let (head, answer) = ask(&learner, 1).await;
    assert_eq!(head, HeadUsed { version: 0, method: "prototype".to_owned() });
    assert_eq!(answer.label.as_deref(), Some("daisy"));
    fill(&learner, "rose", 1, 1).await;
    assert_eq!(label(&learner, 1).await, "rose");
    assert_eq!(label(&learner, 0).await, "daisy");
}

#[tokio::test]
async fn adding_is_idempotent_by_content_within_a_class() {
    let place = Place::new();
    let learner = place.open().await;
    let twice = vec![image("a", 0, 0), image("b", 0, 1), image("a", 0, 0)];
    let first = learner.add_examples(DEFAULT_COLLECTION, "daisy", twice).await.unwrap();
    assert_eq!(first.examples.iter().map(|added| added.duplicate).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(first.examples[0].example, first.examples[2].example);
    assert_eq!(first.class.count, 2);

    let again = learner.add_examples(DEFAULT_COLLECTION, "daisy", vec![image("a", 0, 0)]).await.unwrap();
    assert!(again.examples[0].duplicate);
    assert_eq!(again.examples[0].example, first.examples[0].example);
    assert_eq!(again.class, first.class, "nothing new, so no new revision");

    let other = learner.add_examples(DEFAULT_COLLECTION, "rose", vec![image("a", 0, 0)]).await.unwrap();
    assert!(!other.examples[0].duplicate, "another class is another label");
    assert_eq!(other.examples[0].example.content_hash, first.examples[0].example.content_hash);
    assert_eq!(place.image_files().len(), 2);
}

#[tokio::test]
async fn examples_given_as_vectors_have_no_image() {
    let place = Place::new();
    let learner = place.open().await;
    let example = || NewExample { image: None, vector: vec![2.0, 0.0, 0.0, 0.0] };
    let added = learner.add_examples(DEFAULT_COLLECTION, "daisy", vec![example(), example()]).await.unwrap();
    assert!(added.examples[1].duplicate);
    let stored = &added.examples[0].example;
    assert_eq!(stored.media_type, None);
    let image = learner.example_image(DEFAULT_COLLECTION, "daisy", &stored.id).await.unwrap();
    assert!(image.is_none());
    assert!(place.image_files().is_empty());
    let (_, answer) = ask(&learner, 0).await;
    assert!(answer.evidence[0].similarity > 0.9, "scaled to length 1");
}

#[tokio::test]
async fn a_refused_call_changes_nothing() {
    let place = Place::new();
    let learner = place.open().await;
    let bad = [vec![f32::NAN, 0.0, 0.0, 0.0], vec![f32::INFINITY, 0.0, 0.0, 0.0], vec![0.0; 4], vec![1.0; 3]];
    for vector in bad {
        let examples = vec![image("good", 0, 0), NewExample { image: None, vector }];
        let refused = learner.add_examples(DEFAULT_COLLECTION, "daisy", examples).await;
        assert!(matches!(refused, Err(LearnError::Vector(_))));
    }
    for name in ["", "Daisy", "a/b", "../etc", "-"] {
        let refused = learner.add_examples(DEFAULT_COLLECTION, name, vec![image("x", 0, 0)]).await;
        assert!(matches!(refused, Err(LearnError::InvalidName { .. })), "class {name:?}");
        let refused = learner.add_examples(name, "daisy", vec![image("x", 0, 0)]).await;
        assert!(matches!(refused, Err(LearnError::InvalidName { .. })), "collection {name:?}");
    }
    assert!(learner.classes(DEFAULT_COLLECTION, &all()).await.unwrap().data.is_empty());
    assert!(place.image_files().is_empty());
}

#[tokio::test]
async fn a_deleted_example_no_longer_counts_until_restored() {
    let place = Place::new();
    let learner = place.open().await;
    fill(&learner, "daisy", 0, 2).await;
    let rose = fill(&learner, "rose", 1, 1).await.examples.remove(0).example;
    let before = view(&learner).await;
    learner.delete_example(DEFAULT_COLLECTION, "rose", &rose.id).await.unwrap();
    assert_eq!(label(&learner, 1).await, "daisy");
    assert_eq!(learner.class(DEFAULT_COLLECTION, "rose").await.unwrap().count, 0);
    let live = learner.examples(DEFAULT_COLLECTION, "rose", false, &all()).await.unwrap();
    assert!(live.data.is_empty());
    let with_deleted = learner.examples(DEFAULT_COLLECTION, "rose", true, &all()).await.unwrap();
    assert!(with_deleted.data[0].deleted_at.is_some());
    let again = learner.delete_example(DEFAULT_COLLECTION, "rose", &rose.id).await;
    assert!(matches!(again, Err(LearnError::UnknownExample { .. })));
    let image = learner.example_image(DEFAULT_COLLECTION, "rose", &rose.id).await.unwrap();
    assert_eq!(image.unwrap().0, "rose 0", "the image of a deleted example can still be seen");

    let restored = learner.restore_example(DEFAULT_COLLECTION, "rose", &rose.id).await.unwrap();
    assert_eq!(restored, rose);
    let after = view(&learner).await;
    assert_eq!(after.answers, before.answers);
    assert_eq!(after.examples, before.examples);
    let unchanged = learner.restore_example(DEFAULT_COLLECTION, "rose", &rose.id).await.unwrap();
    assert_eq!(unchanged, rose);
    assert_eq!(view(&learner).await, after);
}

#[tokio::test]
async fn adding_deleted_content_again_restores_it() {
    let place = Place::new();
    let learner = place.open().await;
    let first = fill(&learner, "daisy", 0, 1).await.examples.remove(0).example;
    learner.delete_example(DEFAULT_COLLECTION, "daisy", &first.id).await.unwrap();
    let again = fill(&learner, "daisy", 0, 1).await;
    assert!(!again.examples[0].duplicate);
    assert_eq!(again.examples[0].example, first);
    assert_eq!(again.class.count, 1);
    assert_eq!(label(&learner, 0).await, "daisy");
}

#[tokio::test]
async fn a_deleted_class_is_gone_and_its_slug_free() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    let old = learner.examples(DEFAULT_COLLECTION, "rose", false, &all()).await.unwrap().data;
    learner.delete_class(DEFAULT_COLLECTION, "rose", None).await.unwrap();
    let (_, answer) = ask(&learner, 1).await;
    assert_eq!(answer.scores.iter().filter(|score| score.label == "rose").count(), 0);
    assert!(answer.evidence.iter().all(|near| near.label != "rose"));
    assert!(matches!(
        learner.class(DEFAULT_COLLECTION, "rose").await,
        Err(LearnError::UnknownClass { class }) if class == "rose"
    ));
    assert!(matches!(
        learner.restore_example(DEFAULT_COLLECTION, "rose", &old[0].id).await,
        Err(LearnError::UnknownClass { .. })
    ));
    let fresh = learner.create_class(DEFAULT_COLLECTION, "rose", Some("Rosa")).await.unwrap();
    assert_eq!((fresh.count, fresh.revision, fresh.name.as_str()), (0, 1, "Rosa"));
    let again = fill(&learner, "rose", 1, 3).await;
    assert!(again.examples.iter().all(|added| !added.duplicate), "a fresh class has nothing yet");
    assert_eq!(label(&learner, 1).await, "rose");
}

#[tokio::test]
async fn a_renamed_class_answers_under_its_new_name() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    let before = learner.class(DEFAULT_COLLECTION, "rose").await.unwrap();
    let renamed = learner.rename_class(DEFAULT_COLLECTION, "rose", Some("rosa"), None, None).await.unwrap();
    assert_eq!(
        renamed,
        Class { id: "rosa".to_owned(), name: "rosa".to_owned(), revision: before.revision + 1, ..before }
    );
    assert_eq!(label(&learner, 1).await, "rosa");
    let named =
        learner.rename_class(DEFAULT_COLLECTION, "rosa", None, Some("Rosa alba"), None).await.unwrap();
    assert_eq!((named.id.as_str(), named.name.as_str()), ("rosa", "Rosa alba"));
    let moved = learner.rename_class(DEFAULT_COLLECTION, "rosa", Some("rose"), None, None).await.unwrap();
    assert_eq!(moved.name, "Rosa alba", "a name of its own stays");
    assert!(matches!(
        learner.rename_class(DEFAULT_COLLECTION, "rose", Some("tulip"), None, None).await,
        Err(LearnError::ClassExists { class }) if class == "tulip"
    ));
    assert!(matches!(
        learner.rename_class(DEFAULT_COLLECTION, "rose", Some("Not A Slug"), None, None).await,
        Err(LearnError::InvalidName { .. })
    ));
    let same = learner.rename_class(DEFAULT_COLLECTION, "rose", Some("rose"), None, None).await.unwrap();
    assert_eq!(same.id, "rose");
    assert_eq!(label(&learner, 1).await, "rose");
    assert!(matches!(
        learner.create_class(DEFAULT_COLLECTION, "rose", None).await,
        Err(LearnError::ClassExists { .. })
    ));
}

#[tokio::test]
async fn a_moved_example_is_another_label() {
    let place = Place::new();
    let learner = place.open().await;
    fill(&learner, "daisy", 0, 2).await;
    let wrong = learner.add_examples(DEFAULT_COLLECTION, "daisy", vec![image("rose!", 1, 0)]).await.unwrap();
    let id = wrong.examples[0].example.id.clone();
    let moved = learner.move_example(DEFAULT_COLLECTION, "daisy", &id, "rose").await.unwrap();
    assert_eq!((moved.id.as_str(), moved.class.as_str()), (id.as_str(), "rose"));
    assert_eq!(label(&learner, 1).await, "rose");
    assert_eq!(learner.class(DEFAULT_COLLECTION, "daisy").await.unwrap().count, 2);
    assert!(matches!(
        learner.move_example(DEFAULT_COLLECTION, "daisy", &id, "tulip").await,
        Err(LearnError::UnknownExample { .. })
    ));
    assert!(matches!(learner.class(DEFAULT_COLLECTION, "tulip").await, Err(LearnError::UnknownClass { .. })));
    let same = learner.move_example(DEFAULT_COLLECTION, "rose", &id, "rose").await.unwrap();
    assert_eq!(same, moved);
}

#[tokio::test]
async fn moving_onto_the_same_content_merges() {
    let place = Place::new();
    let learner = place.open().await;
    let here = learner.add_examples(DEFAULT_COLLECTION, "daisy", vec![image("same", 0, 0)]).await.unwrap();
    let there = learner.add_examples(DEFAULT_COLLECTION, "rose", vec![image("same", 0, 0)]).await.unwrap();
    let (here, there) = (&here.examples[0].example, &there.examples[0].example);
    learner.delete_example(DEFAULT_COLLECTION, "rose", &there.id).await.unwrap();
    let moved = learner.move_example(DEFAULT_COLLECTION, "daisy", &here.id, "rose").await.unwrap();
    assert_eq!(&moved, there);
    assert_eq!(learner.class(DEFAULT_COLLECTION, "daisy").await.unwrap().count, 0);
    assert_eq!(learner.class(DEFAULT_COLLECTION, "rose").await.unwrap().count, 1);
    assert_eq!(label(&learner, 0).await, "rose");

    let back = learner.restore_example(DEFAULT_COLLECTION, "daisy", &here.id).await.unwrap();
    let merged = learner.move_example(DEFAULT_COLLECTION, "daisy", &back.id, "rose").await.unwrap();
    assert_eq!(&merged, there, "the live one there stays");
    assert_eq!(learner.class(DEFAULT_COLLECTION, "rose").await.unwrap().count, 1);
}
