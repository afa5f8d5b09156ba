//! What cannot be what we wrote is an error that names it, never a panic.

use super::*;
use crate::store::StoreError;

fn damage<T>(result: Result<T, LearnError>) -> String {
    match result {
        Err(LearnError::Store(StoreError::Damaged(what))) => what,
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("no error"),
    }
}

#[tokio::test]
async fn damaged_rows_are_named() {
    let cases = [
        ("UPDATE embedding SET vector = X'0000803F' WHERE example_key = 1", "has 4 bytes, 16 are expected"),
        ("UPDATE embedding SET vector = X'0000C07F0000C07F0000C07F0000C07F'", "is not finite"),
        ("UPDATE example SET id = 'nonsense' WHERE key = 1", "`nonsense` is not the id of an example"),
        ("UPDATE head SET weights = X'7B7D'", "the weights of head version 1"),
        ("UPDATE head SET weights = '{\"format\":99}'", "the weights of head version 1"),
        ("DELETE FROM head", "head version 1 of collection `default` is missing"),
        ("UPDATE class SET deleted_at = 'now' WHERE key = 1", "is missing"),
    ];
    for (sql, expected) in cases {
        let place = Place::new();
        let learner = three_classes(&place).await;
        train(&learner).await;
        learner.close().await;
        place.execute(sql).await;
        let what = damage(place.try_open("encoder-1").await);
        assert!(what.contains(expected), "{sql}: {what}");
    }
}

#[tokio::test]
async fn a_damaged_image_is_named_and_the_rest_goes_on() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    for file in place.image_files() {
        std::fs::write(file, b"other bytes").unwrap();
    }
    let example = learner.examples(DEFAULT_COLLECTION, "daisy", false, &all()).await.unwrap().data.remove(0);
    let what = damage(learner.example_image(DEFAULT_COLLECTION, "daisy", &example.id).await);
    assert!(what.contains("has other content"), "{what}");
    assert_eq!(label(&learner, 0).await, "daisy");
}

#[tokio::test]
async fn a_damaged_job_is_named() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    let job = train(&learner).await;
    learner.close().await;
    place.execute("UPDATE job SET status = 'asleep'").await;
    let learner = place.open().await;
    assert!(damage(learner.jobs().get(&job.id).await).contains("is `asleep`"));
}
