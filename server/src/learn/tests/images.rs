//! The pool: what is in it, what is labelled, what is left after a restart or under another encoder.

use super::*;

/// An image of the pool whose content is this text and whose vector leans towards an axis.
fn new(content: &str, axis: usize, variant: usize) -> NewImage {
    let NewExample { image, vector } = image(content, axis, variant);
    NewImage { image, vector, views: Vec::new() }
}

async fn add(learner: &Learner, new: Vec<NewImage>) -> Vec<AddedImage> {
    learner.add_images(DEFAULT_COLLECTION, new).await.unwrap()
}

/// `count` images around each of the first three axes.
async fn fill_pool(learner: &Learner, count: usize) -> Vec<AddedImage> {
    let three = (0..3 * count).map(|i| new(&format!("pool {i}"), i % 3, i / 3)).collect();
    add(learner, three).await
}

async fn listed(learner: &Learner, labelled: Option<bool>, include_deleted: bool) -> Vec<Image> {
    let filter = ImageFilter { labelled, include_deleted };
    learner.images(DEFAULT_COLLECTION, filter, &all()).await.unwrap().data
}

async fn unlabelled(learner: &Learner) -> Vec<String> {
    listed(learner, Some(false), false).await.into_iter().map(|image| image.id).collect()
}

/// The pool as training reads it.
async fn pool(learner: &Learner, most: usize) -> super::super::suggest::Unlabelled {
    learner.core().pool(DEFAULT_COLLECTION, most).await.unwrap()
}

#[tokio::test]
async fn the_same_content_is_added_once() {
    let place = Place::new();
    let learner = place.open().await;
    let first = add(&learner, vec![new("a", 0, 0), new("b", 1, 0), new("a", 0, 0)]).await;
    assert_eq!(first.iter().map(|image| image.duplicate).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(first[0].id, first[2].id);
    let again = add(&learner, vec![new("b", 1, 0)]).await;
    assert!(again[0].duplicate);
    assert_eq!(again[0].id, first[1].id);
    assert_eq!(learner.image_count(DEFAULT_COLLECTION).await.unwrap(), 2);
    let elsewhere = learner.add_images("other", vec![new("a", 0, 0)]).await.unwrap();
    assert!(!elsewhere[0].duplicate, "another collection is another pool");
    assert_eq!(learner.image_total().await.unwrap(), 3);
    assert_eq!(place.image_files().len(), 2, "the same file");
    let bytes = learner.image_bytes(DEFAULT_COLLECTION, &first[1].id).await.unwrap().unwrap();
    assert_eq!(bytes, (Bytes::from_static(b"b"), "image/png".to_owned()));
}

#[tokio::test]
async fn known_content_is_recognised_before_it_is_embedded() {
    let place = Place::new();
    let learner = place.open().await;
    let contents = || vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
    let known = |views| learner.known_images(DEFAULT_COLLECTION, contents(), views);
    assert_eq!(known(0).await.unwrap(), [None, None]);
    let views = vec![towards(0, 1), towards(0, 2)];
    let added = add(&learner, vec![NewImage { views, ..new("a", 0, 0) }]).await.remove(0);
    let seen = AddedImage { duplicate: true, ..added.clone() };
    assert_eq!(known(0).await.unwrap(), [Some(seen.clone()), None]);
    assert_eq!(known(2).await.unwrap(), [Some(seen), None]);
    assert_eq!(known(3).await.unwrap(), [None, None], "it lacks a view");
    learner.delete_image(DEFAULT_COLLECTION, &added.id).await.unwrap();
    assert_eq!(known(0).await.unwrap(), [None, None]);
}

#[tokio::test]
async fn an_image_is_labelled_while_a_live_example_has_its_content() {
    let place = Place::new();
    let learner = place.open().await;
    let images = add(&learner, vec![new("a", 0, 0), new("b", 1, 0)]).await;
    let id = &images[0].id;
    let (example, changed) = learner.label_image(DEFAULT_COLLECTION, id, "daisy").await.unwrap();
    assert!(changed);
    assert_eq!((example.class.as_str(), &example.content_hash), ("daisy", &images[0].content_hash));
    assert_eq!(example.media_type.as_deref(), Some("image/png"));
    assert_eq!(label(&learner, 0).await, "daisy", "the next answer knows it");
    let image = learner.image(DEFAULT_COLLECTION, id).await.unwrap();
    assert_eq!(image.labels, [ImageLabel { class: "daisy".to_owned(), example: example.id.clone() }]);
    assert_eq!(unlabelled(&learner).await, [images[1].id.clone()]);
    assert_eq!(listed(&learner, Some(true), false).await, [image]);

    let (again, changed) = learner.label_image(DEFAULT_COLLECTION, id, "daisy").await.unwrap();
    assert_eq!((again, changed), (example.clone(), false));
    assert_eq!(learner.class(DEFAULT_COLLECTION, "daisy").await.unwrap().count, 1);

    learner.delete_example(DEFAULT_COLLECTION, "daisy", &example.id).await.unwrap();
    assert_eq!(unlabelled(&learner).await.len(), 2);
    let (back, changed) = learner.label_image(DEFAULT_COLLECTION, id, "daisy").await.unwrap();
    assert!(changed && back.id == example.id, "the deleted example is restored");
}

#[tokio::test]
async fn another_label_takes_the_place_of_all_others() {
    let place = Place::new();
    let learner = place.open().await;
    let id = add(&learner, vec![new("a", 0, 0)]).await.remove(0).id;
    let (first, _) = learner.label_image(DEFAULT_COLLECTION, &id, "daisy").await.unwrap();
    let (moved, changed) = learner.label_image(DEFAULT_COLLECTION, &id, "rose").await.unwrap();
    assert!(changed);
    assert_eq!((&moved.id, moved.class.as_str()), (&first.id, "rose"));
    // The same content in several classes is several labels, until it is labelled through the pool.
    for class in ["daisy", "tulip"] {
        learner.add_examples(DEFAULT_COLLECTION, class, vec![image("a", 0, 0)]).await.unwrap();
    }
    assert_eq!(learner.image(DEFAULT_COLLECTION, &id).await.unwrap().labels.len(), 3);
    let (kept, changed) = learner.label_image(DEFAULT_COLLECTION, &id, "tulip").await.unwrap();
    assert!(changed);
    let labels = learner.image(DEFAULT_COLLECTION, &id).await.unwrap().labels;
    assert_eq!(labels, [ImageLabel { class: "tulip".to_owned(), example: kept.id }]);
    for (class, count) in [("daisy", 0), ("rose", 0), ("tulip", 1)] {
        assert_eq!(learner.class(DEFAULT_COLLECTION, class).await.unwrap().count, count, "{class}");
    }
    let before = view(&learner).await;
    learner.close().await;
    assert_eq!(view(&place.open().await).await, before);
}

#[tokio::test]
async fn content_that_is_an_example_is_labelled_from_the_start() {
    let place = Place::new();
    let learner = place.open().await;
    fill(&learner, "daisy", 0, 1).await;
    add(&learner, vec![new("daisy 0", 0, 0), new("b", 1, 0)]).await;
    assert_eq!(unlabelled(&learner).await.len(), 1);
    assert_eq!(pool(&learner, 10).await.total, 1);
    learner.delete_class(DEFAULT_COLLECTION, "daisy", None).await.unwrap();
    assert_eq!(pool(&learner, 10).await.total, 2, "its label went with the class");
}

#[tokio::test]
async fn a_deleted_image_is_out_of_the_pool_until_restored() {
    let place = Place::new();
    let learner = place.open().await;
    let images = fill_pool(&learner, 1).await;
    let id = &images[1].id;
    learner.label_image(DEFAULT_COLLECTION, id, "rose").await.unwrap();
    learner.delete_image(DEFAULT_COLLECTION, id).await.unwrap();
    assert_eq!(label(&learner, 1).await, "rose", "the label stays");
    assert_eq!(listed(&learner, None, false).await.len(), 2);
    assert!(listed(&learner, None, true).await[1].deleted_at.is_some());
    let unknown = |result: LearnError| matches!(result, LearnError::UnknownImage { .. });
    assert!(unknown(learner.delete_image(DEFAULT_COLLECTION, id).await.unwrap_err()));
    assert!(unknown(learner.label_image(DEFAULT_COLLECTION, id, "rose").await.unwrap_err()));
    assert!(learner.image_bytes(DEFAULT_COLLECTION, id).await.unwrap().is_some());
    let restored = learner.restore_image(DEFAULT_COLLECTION, id).await.unwrap();
    assert_eq!((restored.deleted_at, restored.labels.len()), (None, 1));
    learner.restore_image(DEFAULT_COLLECTION, id).await.unwrap();

    learner.delete_image(DEFAULT_COLLECTION, &images[0].id).await.unwrap();
    let again = add(&learner, vec![new("pool 0", 0, 0)]).await.remove(0);
    assert_eq!((again.id.as_str(), again.duplicate), (images[0].id.as_str(), false));
    assert_eq!(learner.image_count(DEFAULT_COLLECTION).await.unwrap(), 3);
}

#[tokio::test]
async fn what_is_not_there_is_unknown_and_what_is_wrong_changes_nothing() {
    let place = Place::new();
    let learner = place.open().await;
    let id = add(&learner, vec![new("a", 0, 0)]).await.remove(0).id;
    for (collection, image) in [(DEFAULT_COLLECTION, "nothing"), ("other", id.as_str())] {
        let refused = [
            learner.image(collection, image).await.err(),
            learner.image_bytes(collection, image).await.err(),
            learner.delete_image(collection, image).await.err(),
            learner.restore_image(collection, image).await.err(),
            learner.label_image(collection, image, "daisy").await.err(),
        ];
        for error in refused {
            assert!(matches!(error, Some(LearnError::UnknownImage { .. })), "{error:?}");
        }
    }
    let bad = learner.label_image(DEFAULT_COLLECTION, &id, "Not A Slug").await;
    assert!(matches!(bad, Err(LearnError::InvalidName { .. })));
    assert!(learner.classes(DEFAULT_COLLECTION, &all()).await.unwrap().data.is_empty());
    for vector in [vec![f32::NAN; 4], vec![0.0; 4], vec![1.0; 3]] {
        let bad =
            vec![new("good", 0, 1), NewImage { image: None, vector: vector.clone(), views: Vec::new() }];
        assert!(matches!(learner.add_images(DEFAULT_COLLECTION, bad).await, Err(LearnError::Vector(_))));
        let bad = vec![NewImage { views: vec![vector], ..new("good", 0, 1) }];
        assert!(matches!(learner.add_images(DEFAULT_COLLECTION, bad).await, Err(LearnError::Vector(_))));
    }
    assert_eq!(learner.image_count(DEFAULT_COLLECTION).await.unwrap(), 1);
}

#[tokio::test]
async fn pages_are_the_pool_in_pieces() {
    let place = Place::new();
    let learner = place.open().await;
    let images = fill_pool(&learner, 4).await;
    for image in images.iter().step_by(3) {
        learner.label_image(DEFAULT_COLLECTION, &image.id, "daisy").await.unwrap();
    }
    learner.delete_image(DEFAULT_COLLECTION, &images[5].id).await.unwrap();
    for (labelled, include_deleted, expected) in
        [(None, false, 11), (None, true, 12), (Some(true), true, 4), (Some(false), false, 7)]
    {
        let whole = listed(&learner, labelled, include_deleted).await;
        assert_eq!(whole.len(), expected);
        assert!(whole.is_sorted_by(|a, b| a.id < b.id), "in order of creation");
        for limit in [1, 3, 11, 12] {
            let (mut pieces, mut after) = (Vec::new(), None);
            loop {
                let filter = ImageFilter { labelled, include_deleted };
                let page = Page { limit, after };
                let piece = learner.images(DEFAULT_COLLECTION, filter, &page).await.unwrap();
                assert!(piece.data.len() <= limit);
                pieces.extend(piece.data);
                after = piece.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(pieces, whole);
        }
    }
    let next = learner.images(DEFAULT_COLLECTION, ImageFilter::default(), &Page { limit: 1, after: None });
    let page = Page { limit: 1, after: next.await.unwrap().next };
    assert!(matches!(learner.classes(DEFAULT_COLLECTION, &page).await, Err(LearnError::InvalidCursor)));
}

#[tokio::test]
async fn the_pool_is_read_evenly_spaced_and_in_order() {
    let place = Place::new();
    let learner = place.open().await;
    assert_eq!(pool(&learner, 5).await.total, 0);
    let images = fill_pool(&learner, 4).await;
    let ids = |numbers: &[usize]| numbers.iter().map(|&i| images[i].id.clone()).collect::<Vec<_>>();
    let whole = pool(&learner, 100).await;
    assert_eq!((whole.ids, whole.total), (ids(&(0..12).collect::<Vec<_>>()), 12));
    assert_eq!(whole.pool.vectors()[..DIMENSIONS], towards(0, 0));
    let few = pool(&learner, 5).await;
    assert_eq!((few.ids, few.total), (ids(&[0, 2, 4, 7, 9]), 12));
    assert_eq!(few.pool.len(), 5);
    assert_eq!(few.pool.vectors()[DIMENSIONS..2 * DIMENSIONS], towards(2, 0));
    learner.close().await;
    assert_eq!(pool(&place.open().await, 100).await.total, 12, "after a restart");
}

#[tokio::test]
async fn views_come_where_all_images_have_them() {
    let place = Place::new();
    let learner = place.open().await;
    let two = || vec![towards(1, 0), towards(2, 0)];
    add(&learner, vec![NewImage { views: two(), ..new("a", 0, 0) }]).await;
    add(&learner, vec![NewImage { views: two()[..1].to_vec(), ..new("b", 1, 0) }]).await;
    let both = pool(&learner, 10).await.pool;
    assert_eq!(both.views(), [towards(1, 0), towards(1, 0)].concat());
    // What was sent without views is completed by sending it again with them.
    add(&learner, vec![NewImage { views: two(), ..new("b", 1, 0) }]).await;
    assert_eq!(pool(&learner, 10).await.pool.views(), [two().concat(), two().concat()].concat());
    add(&learner, vec![new("c", 2, 0)]).await;
    let some = pool(&learner, 10).await.pool;
    assert_eq!((some.len(), some.views().len()), (3, 0));
}

#[tokio::test]
async fn the_pool_of_another_encoder_is_empty_until_embedded_again() {
    let place = Place::new();
    let learner = place.open().await;
    let given = NewImage { image: None, vector: towards(0, 9), views: Vec::new() };
    let views = vec![towards(1, 0)];
    let added =
        add(&learner, vec![NewImage { views, ..new("a", 0, 0) }, new("b", 1, 0), new("c", 2, 0), given])
            .await;
    learner.delete_image(DEFAULT_COLLECTION, &added[2].id).await.unwrap();
    assert!(learner.pending_images(0, 10).await.unwrap().is_empty());
    learner.close().await;

    let learner = place.try_open("encoder-2").await.unwrap();
    let empty = pool(&learner, 10).await;
    assert_eq!((empty.total, empty.pending), (0, 3));
    assert!(!learner.image(DEFAULT_COLLECTION, &added[0].id).await.unwrap().embedded);
    // Labelled before it has a vector: the label counts once it has.
    let (example, _) = learner.label_image(DEFAULT_COLLECTION, &added[1].id, "rose").await.unwrap();
    assert_eq!(example.class, "rose");
    let unanswerable = learner.classify(DEFAULT_COLLECTION, &[towards(3, 0)], &everything()).await;
    assert!(matches!(unanswerable, Err(LearnError::NoExamples)));

    let first = learner.pending_images(0, 1).await.unwrap();
    assert_eq!((first.len(), first[0].views, &first[0].image[..]), (1, 1, &b"a"[..]));
    let second = learner.pending_images(first[0].key(), 10).await.unwrap();
    assert_eq!(second.len(), 1, "neither the deleted image nor the vector");
    let vectors = first.into_iter().map(|image| (image, towards(2, 0), vec![towards(3, 0)]));
    let vectors = vectors.chain(second.into_iter().map(|image| (image, towards(3, 0), Vec::new())));
    learner.set_image_vectors(vectors.collect()).await.unwrap();
    assert_eq!(label(&learner, 3).await, "rose");
    let embedded = pool(&learner, 10).await;
    assert_eq!((embedded.total, embedded.pending), (1, 1), "the vector stays out");
    assert_eq!(embedded.pool.vectors(), towards(2, 0));
    assert_eq!(embedded.pool.views(), towards(3, 0));
    learner.close().await;
    let learner = place.open().await;
    assert_eq!(pool(&learner, 10).await.total, 2, "the first encoder's vectors are still there");
}

#[tokio::test]
async fn a_damaged_image_does_not_keep_the_others_waiting() {
    let place = Place::new();
    let learner = place.open().await;
    fill_pool(&learner, 2).await;
    learner.close().await;
    let learner = place.try_open("encoder-2").await.unwrap();
    for file in place.image_files() {
        if std::fs::read(&file).unwrap() == b"pool 0" {
            std::fs::write(file, b"damaged").unwrap();
        }
    }
    let pending = learner.pending_images(0, 2).await.unwrap();
    assert_eq!(pending.iter().map(|image| &image.image[..]).collect::<Vec<_>>(), [b"pool 1", b"pool 2"]);
    assert_eq!(learner.pending_images(pending[1].key(), 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn suggestions_begin_with_the_kinds_there_are() {
    let place = Place::new();
    let learner = place.open().await;
    assert_eq!(learner.suggest("nowhere", 5).await.unwrap(), Suggestions::default());
    assert_eq!(learner.suggest(DEFAULT_COLLECTION, 5).await.unwrap(), Suggestions::default());
    let images = fill_pool(&learner, 3).await;
    let kind = |id: &str| images.iter().position(|image| image.id == id).unwrap() % 3;
    let suggested = learner.suggest(DEFAULT_COLLECTION, 3).await.unwrap();
    assert_eq!((suggested.pool, suggested.considered, suggested.pending), (9, 9, 0));
    let mut kinds: Vec<_> = suggested.images.iter().map(|suggestion| kind(&suggestion.image)).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [0, 1, 2], "one of each");
    assert!(suggested.images.is_sorted_by(|a, b| a.gain >= b.gain));
    assert!(suggested.images.iter().all(|suggestion| suggestion.uncertainty > 0.99));
    assert_eq!(learner.suggest(DEFAULT_COLLECTION, 3).await.unwrap(), suggested, "the same again");

    let first = &suggested.images[0].image;
    learner.label_image(DEFAULT_COLLECTION, first, "daisy").await.unwrap();
    let next = learner.suggest(DEFAULT_COLLECTION, 9).await.unwrap();
    assert_eq!(next.pool, 8);
    assert_ne!(kind(&next.images[0].image), kind(first), "what is labelled is covered");
    let alike: Vec<_> = next.images.iter().map(|suggestion| kind(&suggestion.image)).collect();
    assert!(alike.len() < 8, "near-duplicates never come together: {alike:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn suggestions_wait_for_each_other_and_not_for_callers_that_left() {
    let place = Place::new();
    let learner = place.open().await;
    fill_pool(&learner, 3).await;
    let expected = learner.suggest(DEFAULT_COLLECTION, 3).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for round in 0..12_u64 {
        let learner = learner.clone();
        let left = tokio::spawn(async move { learner.suggest(DEFAULT_COLLECTION, 3).await });
        tokio::time::sleep(std::time::Duration::from_micros(50 * round)).await;
        left.abort();
    }
    for _ in 0..6 {
        let learner = learner.clone();
        tasks.spawn(async move { learner.suggest(DEFAULT_COLLECTION, 3).await.unwrap() });
    }
    assert!(tasks.join_all().await.iter().all(|suggested| *suggested == expected));
}
