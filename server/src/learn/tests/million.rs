//! A pool of a million images: it is counted, paged, suggested from, learned from and labelled.

use super::*;
use crate::store::vector_bytes;
use dozen_fewshot::training::Method;

/// Writes the rows as `add_images` does, in two statements: through it, image by image, they would take half an hour. Of
/// vectors there are 999, and the images have them in turn.
async fn fill_at_once(place: &Place) {
    let database = place.database().await;
    sqlx::query("CREATE TABLE some (number INTEGER PRIMARY KEY, vector BLOB)")
        .execute(&database)
        .await
        .unwrap();
    for number in 0..999 {
        let vector = vector_bytes(&towards(number % 3, number / 3));
        let insert = sqlx::query("INSERT INTO some VALUES ($1, $2)").bind(number as i64).bind(vector);
        insert.execute(&database).await.unwrap();
    }
    for statement in [
        "INSERT INTO image (id, collection_key, content_hash, created_at)
         WITH RECURSIVE counter (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < 1000000)
         SELECT printf('01JZ%022d', n), 1, printf('%064x', n), '2026-01-01T00:00:00.000Z' FROM counter",
        "INSERT INTO image_embedding
         SELECT image.key, encoder.key, 0, some.vector FROM image, encoder
         JOIN some ON some.number = image.key % 999",
        "DROP TABLE some",
    ] {
        sqlx::query(statement).execute(&database).await.unwrap();
    }
    database.close().await;
}

#[tokio::test]
async fn a_million_images_are_a_pool_like_any_other() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    learner.close().await;
    fill_at_once(&place).await;

    let learner = place.open().await;
    assert_eq!(learner.image_count(DEFAULT_COLLECTION).await.unwrap(), 1_000_000);
    let filter = ImageFilter { labelled: Some(false), include_deleted: false };
    let first = learner.images(DEFAULT_COLLECTION, filter, &all()).await.unwrap();
    assert_eq!(first.data.len(), 1000);
    let next = Page { limit: 1, after: first.next };
    let next = learner.images(DEFAULT_COLLECTION, filter, &next).await.unwrap().data.remove(0);
    assert!(next.embedded && next.id > first.data[999].id);

    let suggested = learner.suggest(DEFAULT_COLLECTION, 3).await.unwrap();
    assert_eq!((suggested.pool, suggested.considered), (1_000_000, 8192));
    assert!(!suggested.images.is_empty());

    let request = TrainRequest { method: Some(Method::Msn), force: true, ..TrainRequest::default() };
    let job = learner.train(DEFAULT_COLLECTION, request).await.unwrap();
    let job = ended(&learner, &job.id).await;
    assert_eq!(job.status, JobStatus::Succeeded, "{:?}", job.error);
    assert_eq!(label(&learner, 1).await, "rose");
    assert_eq!(learner.readiness(DEFAULT_COLLECTION, 4).await.unwrap().overall.right, 9);

    learner.label_image(DEFAULT_COLLECTION, &next.id, "tulip").await.unwrap();
    assert_eq!(learner.suggest(DEFAULT_COLLECTION, 3).await.unwrap().pool, 999_999);
    learner.delete_image(DEFAULT_COLLECTION, &first.data[0].id).await.unwrap();
    assert_eq!(learner.suggest(DEFAULT_COLLECTION, 3).await.unwrap().pool, 999_998);
}
