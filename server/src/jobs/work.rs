//! The kinds of work that jobs do.

use super::Queue;
use super::audit::{Audit, Findings};
use super::failure::Failure;
use super::thread::{self, Control};
use super::train::{NewVersion, Training};
use crate::learn::{AuditRequest, LearnError, TrainRequest};
use crate::store::jobs::JobRow;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// What a caller asks for, as a job's row keeps it.
#[derive(Deserialize, Serialize)]
#[serde(tag = "scope", rename_all = "snake_case")]
pub(crate) enum Request {
    /// A head from the stored labels.
    Head(TrainRequest),
    /// What may be wrong with the stored labels.
    Audit(AuditRequest),
}

/// What came of it, not stored yet.
pub(super) enum Product {
    Head(Box<NewVersion>),
    Audit(Findings),
}

impl Request {
    /// What is worked on, in the words of the API.
    pub(super) fn scope(&self) -> &'static str {
        match self {
            Self::Head(_) => "head",
            Self::Audit(_) => "audit",
        }
    }

    /// How, in the words of the API.
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Head(request) => request.word(),
            // By the method of the head in use.
            Self::Audit(_) => "auto",
        }
    }

    /// Reads what the work needs and starts it on a thread of its own. Nothing is stored.
    pub(super) async fn start(
        self,
        queue: &Queue,
        job: &JobRow,
        control: &Control,
    ) -> Result<oneshot::Receiver<Result<Product, Failure>>, Failure> {
        match self {
            Self::Head(request) => {
                let training = Training::read(&queue.core, &job.collection, request).await?;
                thread::start(control, |progress| Ok(Product::Head(Box::new(training.run(progress)?))))
            }
            Self::Audit(request) => {
                let audit = Audit::read(&queue.core, &job.collection, request).await?;
                thread::start(control, |progress| Ok(Product::Audit(audit.run(progress)?)))
            }
        }
    }
}

impl Product {
    /// Stores it and ends the job, in one transaction.
    pub(super) async fn settle(self, queue: &Queue, job: &JobRow) -> Result<(), LearnError> {
        match self {
            Self::Head(version) => version.settle(queue, job).await,
            Self::Audit(findings) => findings.settle(queue, job).await,
        }
    }
}
