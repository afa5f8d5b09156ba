//! An audit of the labels: what it looks at, and what becomes of its findings.

use super::failure::Failure;
use super::{JobStatus, Queue, append, finish};
use crate::learn::core::Core;
use crate::learn::labelled::LabelledSet;
use crate::learn::trained::TrainedHead;
use crate::learn::{AuditRequest, LearnError};
use crate::store::StoreError;
use crate::store::findings::{self, NewFinding};
use crate::store::jobs::JobRow;
use dozen_fewshot::heads::MsnHead;
use dozen_fewshot::hygiene::{self, AuditOptions, Finding, Fix, Kind};
use dozen_fewshot::{Pool, Reliability};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an audit works on, as it is when the job starts.
pub(super) struct Audit {
    labelled: LabelledSet,
    current: Option<Arc<TrainedHead>>,
    options: AuditOptions,
    pool: Pool,
}

/// What it found.
pub(super) struct Findings {
    examples: usize,
    findings: Vec<NewFinding>,
}

impl Audit {
    /// Reads labels and the head in use, whose method judges them.
    pub(super) async fn read(core: &Core, collection: &str, request: AuditRequest) -> Result<Self, Failure> {
        let labelled = LabelledSet::read(core, collection).await?;
        let current = core.active_head(collection).await?;
        let pool = core.pool(collection, MsnHead::MAX_POOL).await?.pool;
        let options = AuditOptions { near_duplicate: request.near_duplicate };
        Ok(Self { labelled, current, options, pool })
    }

    /// Judges every example by heads that have not seen it.
    pub(super) fn run(self, progress: dozen_fewshot::Progress<'_>) -> Result<Findings, Failure> {
        let Self { labelled, current, options, pool } = self;
        let examples = &labelled.vectors;
        examples.need_classes(1)?;
        let settings = TrainedHead::settings_of(current.as_deref());
        let held_out = settings.held_out(examples, &pool, &mut |share| progress(share / 2.0))?;
        let calibration = Reliability::fit(examples, &held_out)?.calibration().clone();
        let held_out = held_out.calibrated(&calibration);
        let found = hygiene::audit(examples, &held_out, &labelled.held_back, &options, &mut |share| {
            progress(0.5 + share / 2.0)
        })?;
        let findings = found.iter().map(|finding| stored(&labelled, finding)).collect();
        Ok(Findings { examples: examples.len(), findings })
    }
}

fn stored(labelled: &LabelledSet, finding: &Finding) -> NewFinding {
    let keys = |positions: &[usize]| positions.iter().map(|&position| labelled.keys[position]).collect();
    let (action, to_class) = match finding.fix {
        Fix::Move { to } => ("move", Some(to as i64)),
        Fix::Delete => ("delete", None),
        Fix::Accept => ("accept", None),
    };
    let kind = match finding.kind {
        Kind::Mislabel => "mislabel",
        Kind::ExactDuplicate => "exact_duplicate",
        Kind::NearDuplicate => "near_duplicate",
        Kind::Outlier => "outlier",
        Kind::Leakage => "leakage",
    };
    let (examples, evidence) = (keys(&finding.examples), keys(&finding.evidence));
    NewFinding { kind, score: finding.score, examples, evidence, action, to_class }
}

impl Findings {
    /// Stores them and ends the job, in one transaction.
    pub(super) async fn settle(self, queue: &Queue, job: &JobRow) -> Result<(), LearnError> {
        let mut write = queue.core.begin(&job.collection).await?;
        // Under the writer's transaction: a cancel is before this or finds the job ended.
        if super::find(&mut write.transaction, &job.id).await?.cancel_requested {
            drop(write);
            return queue.cancelled(job).await;
        }
        let collection = write.collection;
        let count = findings::create(&mut write.transaction, job.key, collection, &self.findings).await?;
        let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
        for finding in &self.findings {
            *by_kind.entry(finding.kind).or_default() += 1;
        }
        let accepted = self.findings.len() as i64 - count;
        let result = json!({ "examples": self.examples, "findings": count, "accepted_before": accepted, "by_kind": by_kind });
        let metric = append(&mut write.transaction, job, "metric", &result).await?;
        let (_, done) =
            finish(&mut write.transaction, job, JobStatus::Succeeded, Some(&result), None).await?;
        write.transaction.commit().await.map_err(StoreError::from)?;
        queue.publish(vec![metric, done]);
        Ok(())
    }
}
