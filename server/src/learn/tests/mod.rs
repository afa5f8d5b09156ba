//! The loop on hand-made vectors: no encoder, no HTTP.

mod advice;
mod answers;
mod damage;
mod encoders;
mod heads;
mod images;
mod labels;
mod million;
mod paging;
mod persistence;

use super::*;
use crate::jobs::JobStatus;
use bytes::Bytes;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

/// Length of the vectors in these tests.
pub(crate) const DIMENSIONS: usize = 4;

/// An encoder that exists in name only.
pub(crate) fn encoder(id: &str) -> EncoderInfo {
    EncoderInfo {
        name: "hand-made".to_owned(),
        id: id.to_owned(),
        dimensions: DIMENSIONS,
        image_size: 8,
        patch_size: 8,
        parameters: 0,
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        agreement: None,
    }
}

/// A data directory that outlives the learners opened on it.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) async fn open(&self) -> Learner {
        self.try_open("encoder-1").await.unwrap()
    }

    pub(crate) async fn try_open(&self, encoder_id: &str) -> Result<Learner, LearnError> {
        Learner::open(self.folder.path(), &encoder(encoder_id)).await
    }

    /// The database of a closed learner, to break or look into.
    pub(crate) async fn database(&self) -> SqlitePool {
        let path = self.folder.path().join("dozen.sqlite");
        SqlitePool::connect_with(SqliteConnectOptions::new().filename(path).foreign_keys(true)).await.unwrap()
    }

    /// Runs one statement on the database of a closed learner.
    pub(crate) async fn execute(&self, sql: &'static str) {
        let database = self.database().await;
        let done = sqlx::query(sql).execute(&database).await.unwrap();
        assert!(done.rows_affected() > 0, "`{sql}` changed nothing");
        database.close().await;
    }

    /// The stored image files.
    pub(crate) fn image_files(&self) -> Vec<std::path::PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().join("blobs")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files
    }
}

/// A vector that leans towards an axis, a little different for every `variant`.
pub(crate) fn towards(axis: usize, variant: usize) -> Vec<f32> {
    let mut vector = vec![0.02 * (1.0 + variant as f32); DIMENSIONS];
    vector[axis] = 1.0;
    vector[(axis + 1 + variant) % DIMENSIONS] += 0.05;
    dozen_fewshot::unit(&vector, DIMENSIONS).unwrap()
}

/// An example whose content is this text and whose vector leans towards an axis.
pub(crate) fn image(content: &str, axis: usize, variant: usize) -> NewExample {
    NewExample {
        image: Some((Bytes::copy_from_slice(content.as_bytes()), "image/png")),
        vector: towards(axis, variant),
    }
}

/// Adds `count` images of a class named after its axis.
pub(crate) async fn fill(learner: &Learner, class: &str, axis: usize, count: usize) -> Added {
    let examples = (0..count).map(|variant| image(&format!("{class} {variant}"), axis, variant)).collect();
    learner.add_examples(DEFAULT_COLLECTION, class, examples).await.unwrap()
}

/// A learner with three classes of three.
pub(crate) async fn three_classes(place: &Place) -> Learner {
    let learner = place.open().await;
    for (axis, class) in ["daisy", "rose", "tulip"].into_iter().enumerate() {
        fill(&learner, class, axis, 3).await;
    }
    learner
}

/// All scores and three pieces of evidence.
pub(crate) fn everything() -> ClassifyOptions {
    ClassifyOptions {
        top_k: 10,
        classes: None,
        min_confidence: None,
        false_rejection_rate: 0.0,
        coverage: None,
        evidence: 3,
    }
}

/// The answer for one vector that leans towards an axis.
pub(crate) async fn ask(learner: &Learner, axis: usize) -> (HeadUsed, Answer) {
    let (head, mut answers) =
        learner.classify(DEFAULT_COLLECTION, &[towards(axis, 5)], &everything()).await.unwrap();
    (head, answers.remove(0))
}

/// The label for one vector that leans towards an axis.
pub(crate) async fn label(learner: &Learner, axis: usize) -> String {
    ask(learner, axis).await.1.label.unwrap()
}

pub(crate) fn all() -> Page {
    Page { limit: 1000, after: None }
}

/// Trains and waits.
pub(crate) async fn train(learner: &Learner) -> Job {
    let job = learner.train(DEFAULT_COLLECTION, TrainRequest::default()).await.unwrap();
    ended(learner, &job.id).await
}

/// Waits for a job's end.
pub(crate) async fn ended(learner: &Learner, id: &str) -> Job {
    let waiting = async {
        loop {
            let job = learner.jobs().get(id).await.unwrap();
            if job.status.ended() {
                return job;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), waiting).await.expect("the job does not end")
}

/// Label, scores as (label, probability, similarity), ids of the evidence.
type SeenAnswer = (String, Vec<(String, i64, i64)>, Vec<String>);

/// All that callers can see of the default collection, for comparison.
#[derive(Debug, PartialEq)]
pub(crate) struct View {
    classes: Vec<Class>,
    examples: Vec<Example>,
    head: Option<HeadUsed>,
    answers: Vec<SeenAnswer>,
}

/// What callers see now. Probabilities and similarities are in millionths: sums may be added up in another order.
pub(crate) async fn view(learner: &Learner) -> View {
    let classes = learner.classes(DEFAULT_COLLECTION, &all()).await.unwrap().data;
    let mut examples = Vec::new();
    for class in &classes {
        examples.extend(learner.examples(DEFAULT_COLLECTION, &class.id, true, &all()).await.unwrap().data);
    }
    let millionths = |value: f32| (f64::from(value) * 1e6).round() as i64;
    let mut answers = Vec::new();
    let mut head = None;
    for axis in 0..DIMENSIONS {
        let asked = learner.classify(DEFAULT_COLLECTION, &[towards(axis, 5)], &everything()).await;
        let Ok((used, answered)) = asked else { continue };
        head = Some(used);
        for answer in answered {
            let scores = answer
                .scores
                .iter()
                .map(|score| {
                    (score.label.clone(), millionths(score.probability), millionths(score.similarity))
                })
                .collect();
            let evidence = answer.evidence.into_iter().map(|near| near.example).collect();
            answers.push((answer.label.unwrap(), scores, evidence));
        }
    }
    View { classes, examples, head, answers }
}
