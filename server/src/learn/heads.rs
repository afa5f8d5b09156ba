//! Head versions: list and activate.

use super::core::{Core, detached, trained_head};
use super::cursor::{self, List};
use super::state::Change;
use super::{HeadVersion, LearnError, Learner, Page, Paged, name};
use crate::store::collections::{self, CollectionRow};
use crate::store::heads::{self, HeadRow};
use crate::store::{StoreError, read_json};
use dozen_fewshot::training::Method;
use serde_json::{Value, json};

impl Learner {
    /// Head versions, newest first. The built-in prototype head, version 0, is the last of every existing collection.
    pub async fn heads(&self, collection: &str, page: &Page) -> Result<Paged<HeadVersion>, LearnError> {
        name::check(collection)?;
        // Versions count from 1, so the list goes on below 1 with version 0 only.
        let before = List::Heads.after(page)?.unwrap_or(i64::MAX);
        let core = self.core();
        let mut reader = core.store.read().await?;
        let Some(row) = collections::find(&mut reader, collection).await? else {
            return Ok(Paged { data: Vec::new(), next: None });
        };
        let limit = cursor::limit(page) + 1;
        let trained = heads::page(&mut reader, row.key, before, limit).await?;
        let mut versions =
            trained.into_iter().map(|head| public(head, &row)).collect::<Result<Vec<_>, _>>()?;
        if versions.len() < limit && before > 0 {
            versions.push(prototype(&core, &row));
        }
        List::Heads.paged(versions, page, |version| version.version, Ok)
    }

    /// Makes a version (0 = prototype) answer from now on.
    pub async fn activate_head(&self, collection: &str, version: i64) -> Result<HeadVersion, LearnError> {
        name::check(collection)?;
        let core = self.core();
        let collection = collection.to_owned();
        detached(async move {
            let unknown = || LearnError::UnknownHead { version };
            let mut write = core.begin_existing(&collection).await?.ok_or_else(unknown)?;
            let (trained, head) = if version == 0 {
                (None, None)
            } else {
                let key = write.collection;
                let head = heads::find(&mut write.transaction, key, version).await?.ok_or_else(unknown)?;
                if head.encoder_key != core.store.encoder {
                    return Err(LearnError::HeadOfOtherEncoder { version });
                }
                (Some(trained_head(&mut write.transaction, key, version).await?), Some(head))
            };
            let row = collections::find(&mut write.transaction, &collection).await?.ok_or_else(unknown)?;
            if row.active_head != version {
                collections::set_active_head(&mut write.transaction, row.key, version).await?;
                write.change(Change::Head(trained));
                write.commit().await?;
            }
            let row = CollectionRow { active_head: version, ..row };
            match head {
                Some(head) => Ok(public(head, &row)?),
                None => Ok(prototype(&core, &row)),
            }
        })
        .await
    }
}

/// The built-in version 0.
fn prototype(core: &Core, row: &CollectionRow) -> HeadVersion {
    HeadVersion {
        version: 0,
        method: Method::Prototype.word().to_owned(),
        active: row.active_head == 0,
        parameters: json!({}),
        metrics: json!({}),
        parent: None,
        encoder: core.encoder.id.clone(),
        created_at: row.created_at.clone(),
    }
}

/// A version as callers see it.
fn public(head: HeadRow, row: &CollectionRow) -> Result<HeadVersion, StoreError> {
    let what = |column: &str| format!("{column} of head version {}", head.version);
    let parameters: Value = read_json(&what("the parameters"), head.parameters.as_bytes())?;
    let metrics: Value = read_json(&what("the metrics"), head.metrics.as_bytes())?;
    Ok(HeadVersion {
        version: head.version,
        method: head.method,
        active: row.active_head == head.version,
        parameters,
        metrics,
        parent: Some(head.parent),
        encoder: head.encoder,
        created_at: head.created_at,
    })
}
