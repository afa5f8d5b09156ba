//! What audits found, and the one call that mends it.

use super::core::detached;
use super::cursor::{self, List};
use super::examples::relabel;
use super::{AuditRequest, Finding, FindingExample, LearnError, Learner, Page, Paged, Resolution, name};
use crate::jobs::{Job, Request};
use crate::store::findings::{self, FindingRow};
use crate::store::jobs::JobRow;
use crate::store::{StoreError, classes, examples, jobs, read_json};
use serde_json::json;
use sqlx::SqliteConnection;
use std::collections::BTreeSet;

impl Learner {
    /// Persists an audit and wakes the worker.
    pub async fn audit(&self, collection: &str, request: AuditRequest) -> Result<Job, LearnError> {
        name::check(collection)?;
        self.jobs.submit(collection, Request::Audit(request)).await
    }

    /// What an audit found, the most pressing first; only what nobody has resolved if asked so.
    pub async fn findings(
        &self,
        job: &str,
        open_only: bool,
        page: &Page,
    ) -> Result<Paged<Finding>, LearnError> {
        let after = List::Findings.after(page)?.unwrap_or(0);
        let core = self.core();
        let mut reader = core.store.read().await?;
        let job = audit_job(&mut reader, job).await?;
        let limit = cursor::limit(page) + 1;
        let rows = findings::page(&mut reader, job.key, open_only, after, limit).await?;
        let mut data = Vec::with_capacity(rows.len());
        for row in rows {
            data.push(public(&mut reader, row).await?);
        }
        List::Findings.paged(data, page, |finding| finding.number, Ok)
    }

    /// Does something about a finding: its examples that still exist are moved, deleted, or left alone, in which case no
    /// later audit asks about them again. `Move` without a class moves where the finding says.
    pub async fn resolve_finding(
        &self,
        job: &str,
        number: i64,
        resolution: Resolution,
    ) -> Result<Finding, LearnError> {
        let core = self.core();
        let job = job.to_owned();
        detached(async move {
            let collection = {
                let mut reader = core.store.read().await?;
                audit_job(&mut reader, &job).await?.collection
            };
            let unknown = || LearnError::UnknownFinding { job: job.clone(), number };
            let mut write = core.begin_existing(&collection).await?.ok_or_else(unknown)?;
            let row = audit_job(&mut write.transaction, &job).await?;
            let found = findings::find(&mut write.transaction, row.key, number).await?.ok_or_else(unknown)?;
            if let Some(done) = found.resolution {
                return Err(LearnError::FindingResolved { job: job.clone(), number, done });
            }
            let target = match &resolution {
                Resolution::Move { to: Some(slug) } => Some(write.class_or_create(slug).await?),
                Resolution::Move { to: None } => {
                    let key = found.to_class.ok_or(LearnError::NowhereToMove { number })?;
                    let class = classes::find_key(&mut write.transaction, key).await?;
                    Some(class.ok_or(LearnError::NowhereToMove { number })?)
                }
                Resolution::Delete | Resolution::Accept => None,
            };
            let mut touched = BTreeSet::new();
            for key in keys(&found.examples)? {
                let example = examples::find_key(&mut write.transaction, key).await?;
                let Some(example) = example.filter(|example| example.deleted_at.is_none()) else { continue };
                let owner = example.class_key;
                match (&resolution, &target) {
                    (Resolution::Move { .. }, Some(target)) if target.key != owner => {
                        relabel(&mut write, example, target).await?;
                        touched.extend([owner, target.key]);
                    }
                    (Resolution::Delete, _) => {
                        write.leave(&example).await?;
                        touched.insert(owner);
                    }
                    (Resolution::Move { .. } | Resolution::Accept, _) => {}
                }
            }
            for class in touched {
                write.touch(class).await?;
            }
            let done = resolution.word();
            let row = findings::resolve(&mut write.transaction, found.key, done).await?;
            write.record("finding.resolved", &json!({ "job": job, "number": number, "as": done })).await?;
            let finding = public(&mut write.transaction, row).await?;
            write.commit().await?;
            Ok(finding)
        })
        .await
    }
}

impl Resolution {
    fn word(&self) -> &'static str {
        match self {
            Self::Move { .. } => "moved",
            Self::Delete => "deleted",
            Self::Accept => "accepted",
        }
    }
}

/// The job of an audit.
async fn audit_job(connection: &mut SqliteConnection, id: &str) -> Result<JobRow, LearnError> {
    let job = jobs::find(connection, id).await?;
    job.filter(|job| job.scope == "audit").ok_or_else(|| LearnError::UnknownJob { job: id.to_owned() })
}

fn keys(text: &str) -> Result<Vec<i64>, StoreError> {
    read_json("the examples of a finding", text.as_bytes())
}

/// A finding as callers see it.
async fn public(connection: &mut SqliteConnection, row: FindingRow) -> Result<Finding, LearnError> {
    let mut named = Vec::new();
    for list in [&row.examples, &row.evidence] {
        let mut examples_of = Vec::new();
        for key in keys(list)? {
            if let Some((example, class)) = examples::find_with_class(connection, key).await? {
                examples_of.push(FindingExample {
                    id: example.id,
                    class,
                    deleted: example.deleted_at.is_some(),
                });
            }
        }
        named.push(examples_of);
    }
    let to = match row.to_class {
        Some(key) => classes::find_key(connection, key).await?.map(|class| class.slug),
        None => None,
    };
    let evidence = named.pop().unwrap_or_default();
    Ok(Finding {
        number: row.number,
        kind: row.kind,
        score: row.score,
        examples: named.pop().unwrap_or_default(),
        evidence,
        action: row.action,
        to,
        resolution: row.resolution,
        resolved_at: row.resolved_at,
    })
}
