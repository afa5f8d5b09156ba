//! Jobs from request to end, through cancels, restarts and failures.

use super::thread::Control;
use super::*;
use crate::learn::tests::{Place, all, ended, fill, three_classes, train};
use crate::learn::{DEFAULT_COLLECTION, Learner, TrainRequest};
use dozen_fewshot::training::Method;

/// A learner whose worker does nothing any more, with a job in the queue.
async fn queued(place: &Place) -> (Learner, Job) {
    let learner = three_classes(place).await;
    learner.jobs().stop().await;
    let job = learner.train(DEFAULT_COLLECTION, TrainRequest::default()).await.unwrap();
    assert_eq!(job.status, JobStatus::Queued);
    (learner, job)
}

/// A request that no fit can honour.
fn negative_penalty() -> TrainRequest {
    TrainRequest { method: Some(Method::Logistic), l2: Some(-1.0), ..TrainRequest::default() }
}

async fn newest_version(learner: &Learner) -> i64 {
    learner.heads(DEFAULT_COLLECTION, &all()).await.unwrap().data[0].version
}

#[tokio::test]
async fn a_job_ends_with_a_head_version_and_metrics() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    let mut live = learner.jobs().subscribe();
    let job = train(&learner).await;
    assert_eq!(job.status, JobStatus::Succeeded, "{:?}", job.error);
    assert_eq!((job.scope.as_str(), job.method.as_str()), ("head", "auto"));
    assert!((job.progress - 1.0).abs() < f64::EPSILON);
    assert!(job.created_at <= job.started_at.clone().unwrap() && job.started_at <= job.finished_at);
    let result = job.result.unwrap();
    assert_eq!(result["head_version"], 1);
    assert_eq!(result["metrics"]["classes"], 3);

    let events = learner.jobs().events_after(&job.id, 0).await.unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["progress", "progress", "metric", "done"]);
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(events[3].data["status"], "succeeded");
    for event in &events {
        assert_eq!(live.recv().await.unwrap(), (job.id.clone(), event.clone()), "live as stored");
    }
    assert_eq!(learner.jobs().events_after(&job.id, 2).await.unwrap(), events[2..]);
    assert!(learner.jobs().events_after(&job.id, 4).await.unwrap().is_empty());
    assert!(matches!(learner.jobs().events_after("nothing", 0).await, Err(LearnError::UnknownJob { .. })));
    assert!(matches!(learner.jobs().get("nothing").await, Err(LearnError::UnknownJob { .. })));
}

#[tokio::test]
async fn too_few_classes_make_no_job() {
    let place = Place::new();
    let learner = place.open().await;
    for actual in [0, 1] {
        let refused = learner.train(DEFAULT_COLLECTION, TrainRequest::default()).await;
        assert!(
            matches!(refused, Err(LearnError::TooFewClasses { needed: 2, actual: found }) if found == actual)
        );
        fill(&learner, "daisy", 0, 3).await;
    }
    assert!(learner.jobs().list(&all()).await.unwrap().data.is_empty());
}

#[tokio::test]
async fn queued_and_running_jobs_survive_a_restart() {
    let place = Place::new();
    let (learner, first) = queued(&place).await;
    let second = learner.train(DEFAULT_COLLECTION, TrainRequest::default()).await.unwrap();
    learner.close().await;
    // As a server leaves it that is killed in the middle of the first job.
    place.execute("UPDATE job SET status = 'running', started_at = created_at WHERE key = 1").await;

    let learner = place.open().await;
    let (first, second) = (ended(&learner, &first.id).await, ended(&learner, &second.id).await);
    assert_eq!(first.result.unwrap()["head_version"], 1);
    assert_eq!(second.result.unwrap()["head_version"], 2);
    let events = learner.jobs().events_after(&first.id, 0).await.unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["progress", "log", "progress", "metric", "done"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_at_any_moment_runs_a_job_exactly_once() {
    let place = Place::new();
    three_classes(&place).await.close().await;
    for round in 1..=8_i64 {
        let learner = place.open().await;
        let job = learner.train(DEFAULT_COLLECTION, TrainRequest::default()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(2 * round.unsigned_abs())).await;
        learner.close().await;
        let learner = place.open().await;
        assert_eq!(ended(&learner, &job.id).await.result.unwrap()["head_version"], round);
        assert_eq!(newest_version(&learner).await, round);
        learner.close().await;
    }
}

#[tokio::test]
async fn a_queued_job_is_cancelled_at_once() {
    let place = Place::new();
    let (learner, job) = queued(&place).await;
    let cancelled = learner.jobs().cancel(&job.id).await.unwrap();
    assert_eq!(cancelled.status, JobStatus::Cancelled);
    assert!(cancelled.finished_at.is_some());
    assert!(matches!(
        learner.jobs().cancel(&job.id).await,
        Err(LearnError::JobEnded { status, .. }) if status == "cancelled"
    ));
    assert!(matches!(learner.jobs().cancel("nothing").await, Err(LearnError::UnknownJob { .. })));
    learner.close().await;
    let learner = place.open().await;
    let next = train(&learner).await;
    assert_eq!(next.result.unwrap()["head_version"], 1, "the cancelled one made none");
    assert_eq!(learner.jobs().get(&job.id).await.unwrap().status, JobStatus::Cancelled);
}

#[tokio::test]
async fn a_running_job_is_cancelled_at_its_next_check() {
    let place = Place::new();
    let (learner, job) = queued(&place).await;
    let jobs = learner.jobs();
    let queue = &jobs.queue;
    let mut change = queue.begin().await.unwrap();
    let row = jobs::claim(&mut change.transaction).await.unwrap().unwrap();
    change.commit().await.unwrap();
    let control = Control::default();
    let work = Request::Head(TrainRequest::default()).start(queue, &row, &control).await.unwrap();
    let product = work.await.unwrap().unwrap();
    assert_eq!(jobs.cancel(&job.id).await.unwrap().status, JobStatus::Running);

    product.settle(queue, &row).await.unwrap();
    assert_eq!(jobs.get(&job.id).await.unwrap().status, JobStatus::Cancelled);
    assert_eq!(newest_version(&learner).await, 0, "nothing of it is stored");
}

#[tokio::test]
async fn a_cancel_survives_a_restart() {
    let place = Place::new();
    let (learner, job) = queued(&place).await;
    learner.close().await;
    place.execute("UPDATE job SET status = 'running'").await;
    let learner = place.open().await;
    learner.jobs().stop().await;
    learner.close().await;
    place.execute("UPDATE job SET status = 'running', cancel_requested = 1, result = NULL").await;
    let learner = place.open().await;
    assert_eq!(ended(&learner, &job.id).await.status, JobStatus::Cancelled);
}

#[tokio::test]
async fn failures_say_what_to_do() {
    let place = Place::new();
    let (learner, emptied) = queued(&place).await;
    let negative = learner.train(DEFAULT_COLLECTION, negative_penalty()).await.unwrap();
    learner.delete_class(DEFAULT_COLLECTION, "rose", None).await.unwrap();
    learner.delete_class(DEFAULT_COLLECTION, "tulip", None).await.unwrap();
    learner.close().await;

    let learner = place.open().await;
    let emptied = ended(&learner, &emptied.id).await;
    assert_eq!(emptied.status, JobStatus::Failed);
    let error = emptied.error.unwrap();
    assert_eq!(error["code"], "too_few_classes");
    assert!(error["message"].as_str().unwrap().starts_with("1 classes with examples"), "{error}");
    assert_eq!(ended(&learner, &negative.id).await.error.unwrap()["code"], "too_few_classes");
    assert_eq!(newest_version(&learner).await, 0);

    fill(&learner, "rose", 1, 3).await;
    let negative = learner.train(DEFAULT_COLLECTION, negative_penalty()).await.unwrap();
    assert_eq!(ended(&learner, &negative.id).await.error.unwrap()["code"], "invalid_option");
    let events = learner.jobs().events_after(&negative.id, 0).await.unwrap();
    assert_eq!(events.last().unwrap().data["error"]["code"], "invalid_option");
    assert_eq!(train(&learner).await.status, JobStatus::Succeeded, "the worker goes on");
}
