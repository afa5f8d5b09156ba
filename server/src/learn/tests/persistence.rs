//! Memory follows the store: what is answered before a restart is answered after it.

use super::*;
use crate::store::StoreError;

/// A history with every kind of change in it.
async fn eventful(place: &Place) -> Learner {
    let learner = three_classes(place).await;
    let roses = learner.examples(DEFAULT_COLLECTION, "rose", false, &all()).await.unwrap().data;
    learner.delete_example(DEFAULT_COLLECTION, "rose", &roses[0].id).await.unwrap();
    learner.delete_example(DEFAULT_COLLECTION, "rose", &roses[1].id).await.unwrap();
    learner.restore_example(DEFAULT_COLLECTION, "rose", &roses[1].id).await.unwrap();
    learner.move_example(DEFAULT_COLLECTION, "rose", &roses[2].id, "peony").await.unwrap();
    learner.rename_class(DEFAULT_COLLECTION, "tulip", Some("tulipa"), Some("Tulipa"), None).await.unwrap();
    learner.create_class(DEFAULT_COLLECTION, "empty", None).await.unwrap();
    fill(&learner, "weed", 3, 2).await;
    learner.delete_class(DEFAULT_COLLECTION, "weed", None).await.unwrap();
    learner
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let place = Place::new();
    let learner = eventful(&place).await;
    let before = view(&learner).await;
    assert_eq!(before.head.as_ref().map(|head| head.version), Some(0));
    learner.close().await;
    let learner = place.open().await;
    assert_eq!(view(&learner).await, before);
    train(&learner).await;
    let trained = view(&learner).await;
    assert_eq!(trained.head.as_ref().map(|head| head.version), Some(1));
    assert_ne!(trained.answers, before.answers);
    learner.close().await;
    let learner = place.open().await;
    assert_eq!(view(&learner).await, trained);
    // And it can be written to.
    fill(&learner, "tulipa", 2, 6).await;
    assert_eq!(learner.class(DEFAULT_COLLECTION, "tulipa").await.unwrap().count, 9);
}

#[tokio::test]
async fn every_change_is_in_the_history() {
    let place = Place::new();
    let learner = eventful(&place).await;
    train(&learner).await;
    learner.close().await;
    let database = place.database().await;
    let counts: Vec<(String, i64)> =
        sqlx::query_as("SELECT kind, COUNT(*) FROM event GROUP BY kind ORDER BY kind")
            .fetch_all(&database)
            .await
            .unwrap();
    database.close().await;
    let expected = [
        ("class.created", 6),
        ("class.deleted", 1),
        ("class.renamed", 1),
        ("collection.created", 1),
        ("example.added", 11),
        ("example.deleted", 2),
        ("example.moved", 1),
        ("example.restored", 1),
        ("head.activated", 1),
        ("head.created", 1),
    ];
    assert_eq!(counts, expected.map(|(kind, count)| (kind.to_owned(), count)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_lose_nothing() {
    let place = Place::new();
    let learner = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..24_usize {
        let learner = learner.clone();
        tasks.spawn(async move {
            let class = format!("class-{}", task % 3);
            let collection = if task % 2 == 0 { DEFAULT_COLLECTION } else { "other" };
            // One image that all tasks of a class share, and two of its own.
            let examples = vec![
                image("shared", task % 3, 0),
                image(&format!("{task} a"), task % 3, 1),
                image(&format!("{task} b"), task % 3, 2),
            ];
            let added = learner.add_examples(collection, &class, examples).await.unwrap();
            let own = added.examples[1].example.id.clone();
            learner.delete_example(collection, &class, &own).await.unwrap();
            learner.classify(collection, &[towards(0, 0)], &everything()).await.unwrap();
            usize::from(!added.examples[0].duplicate)
        });
    }
    let new_shared: usize = tasks.join_all().await.into_iter().sum();
    assert_eq!(new_shared, 6, "the shared image is new once per class and collection");
    for collection in [DEFAULT_COLLECTION, "other"] {
        for class in ["class-0", "class-1", "class-2"] {
            assert_eq!(learner.class(collection, class).await.unwrap().count, 5, "{collection} {class}");
        }
    }
    let before = view(&learner).await;
    learner.close().await;
    assert_eq!(view(&place.open().await).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_caller_that_goes_away_leaves_memory_and_store_equal() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    for round in 0..30_u64 {
        let writer = learner.clone();
        let content = format!("round {round}");
        let task = tokio::spawn(async move {
            writer.add_examples(DEFAULT_COLLECTION, "daisy", vec![image(&content, 0, 0)]).await.map(|_| ())
        });
        tokio::time::sleep(std::time::Duration::from_micros(100 * round)).await;
        task.abort();
        let _ = task.await;
    }
    // Waits for its turn behind every write that went on.
    fill(&learner, "rose", 1, 4).await;
    let before = view(&learner).await;
    learner.close().await;
    assert_eq!(view(&place.open().await).await, before);
}

#[tokio::test]
async fn a_failed_write_is_taken_back_everywhere() {
    let place = Place::new();
    three_classes(&place).await.close().await;
    // A constraint in the database that the code does not know of.
    place.execute("CREATE TRIGGER refuse BEFORE INSERT ON event WHEN NEW.data LIKE '%poison%' BEGIN SELECT RAISE(ABORT, 'refused'); END; UPDATE collection SET name = name").await;
    let learner = place.open().await;
    let before = view(&learner).await;
    let refused = learner.add_examples(DEFAULT_COLLECTION, "poison", vec![image("x", 3, 0)]).await;
    assert!(matches!(refused, Err(LearnError::Store(StoreError::Sql(_)))));
    assert_eq!(view(&learner).await, before);
    fill(&learner, "rose", 1, 4).await;
    assert_eq!(learner.class(DEFAULT_COLLECTION, "rose").await.unwrap().count, 4);
}

#[tokio::test]
async fn one_server_per_data_directory() {
    let place = Place::new();
    let learner = place.open().await;
    let refused = place.try_open("encoder-1").await.err().unwrap();
    assert!(matches!(refused, LearnError::Store(StoreError::InUse { .. })));
    assert!(refused.to_string().contains("in use by another server"), "{refused}");
    fill(&learner, "daisy", 0, 1).await;
    learner.close().await;
    assert!(matches!(
        learner.create_class(DEFAULT_COLLECTION, "rose", None).await,
        Err(LearnError::Store(_))
    ));
    assert_eq!(label(&place.open().await, 1).await, "daisy");
}
