//! Labelled examples: add, read, delete, restore, move.

use super::core::{Core, Write, detached};
use super::cursor::{self, List};
use super::state::Change;
use super::{Added, AddedExample, Example, LearnError, Learner, NewExample, Page, Paged, name};
use crate::store::blobs::{content_hash, public_hash};
use crate::store::classes::ClassRow;
use crate::store::examples::{self, ExampleRow, NewRow};
use crate::store::{blocking, vector_bytes};
use bytes::Bytes;
use dozen_fewshot::unit;
use serde_json::json;
use std::sync::Arc;

/// Checked content, its image on disk already.
pub(super) struct Prepared {
    pub(super) content_hash: String,
    pub(super) media_type: Option<String>,
    /// None where only another encoder has seen the image.
    pub(super) vector: Option<Vec<f32>>,
}

impl Learner {
    /// Adds examples, creating collection and class if absent; idempotent by content within the class.
    ///
    /// Content that the class has, or that comes twice in the call, is a duplicate. Content that was deleted from the class
    /// is restored and no duplicate. The same content in another class is another label, and is stored.
    pub async fn add_examples(
        &self,
        collection: &str,
        class: &str,
        examples: Vec<NewExample>,
    ) -> Result<Added, LearnError> {
        name::check(collection)?;
        name::check(class)?;
        let core = self.core();
        let (collection, class) = (collection.to_owned(), class.to_owned());
        detached(async move {
            let prepared = prepare(&core, examples).await?;
            let mut write = core.begin(&collection).await?;
            let row = write.class_or_create(&class).await?;
            let mut added = Vec::with_capacity(prepared.len());
            for example in prepared {
                added.push(add(&core, &mut write, &row, example).await?);
            }
            if added.iter().any(|added| !added.duplicate) {
                write.touch(row.key).await?;
            }
            let class = write.commit().await?.class(&row)?;
            Ok(Added { examples: added, class })
        })
        .await
    }

    /// Examples of a class, newest last; deleted ones only if asked for.
    pub async fn examples(
        &self,
        collection: &str,
        class: &str,
        include_deleted: bool,
        page: &Page,
    ) -> Result<Paged<Example>, LearnError> {
        let after = List::Examples.after(page)?.unwrap_or(0);
        let core = self.core();
        let key = core.class_row_key(collection, class).await?;
        let mut reader = core.store.read().await?;
        let limit = cursor::limit(page) + 1;
        let rows = examples::page(&mut reader, key, include_deleted, after, limit).await?;
        List::Examples.paged(rows, page, |row| row.key, |row| Ok(public(row, class)))
    }

    /// One live or deleted example's stored image.
    pub async fn example_image(
        &self,
        collection: &str,
        class: &str,
        example: &str,
    ) -> Result<Option<(Bytes, String)>, LearnError> {
        let core = self.core();
        let key = core.class_row_key(collection, class).await?;
        let row = {
            let mut reader = core.store.read().await?;
            examples::find(&mut reader, key, example).await?
        };
        let row = row.ok_or_else(|| unknown(class, example))?;
        match row.media_type {
            Some(media_type) => Ok(Some((core.store.read_blob(row.content_hash).await?, media_type))),
            None => Ok(None),
        }
    }

    /// Tombstones an example. One that is deleted already is unknown.
    pub async fn delete_example(
        &self,
        collection: &str,
        class: &str,
        example: &str,
    ) -> Result<(), LearnError> {
        let core = self.core();
        let (collection, class, example) = (collection.to_owned(), class.to_owned(), example.to_owned());
        detached(async move {
            let mut write = core.begin_class(&collection, &class).await?;
            let owner = write.class(&class).await?;
            let row = write.live_example(&owner, &example).await?;
            write.leave(&row).await?;
            write.record("example.deleted", &json!({ "example": row.id, "class": class })).await?;
            write.touch(owner.key).await?;
            write.commit().await?;
            Ok(())
        })
        .await
    }

    /// Takes the tombstone off again; a live example is left as it is.
    ///
    /// An example that was deleted under another encoder has no vector of this one and counts as pending.
    pub async fn restore_example(
        &self,
        collection: &str,
        class: &str,
        example: &str,
    ) -> Result<Example, LearnError> {
        let core = self.core();
        let (collection, class, example) = (collection.to_owned(), class.to_owned(), example.to_owned());
        detached(async move {
            let mut write = core.begin_class(&collection, &class).await?;
            let owner = write.class(&class).await?;
            let row = write.example(&owner, &example).await?;
            if row.deleted_at.is_none() {
                return Ok(public(row, &class));
            }
            let row = write.restore(&row, &class).await?;
            write.touch(owner.key).await?;
            write.commit().await?;
            Ok(public(row, &class))
        })
        .await
    }

    /// Moves an example to another class, creating it if absent.
    ///
    /// Where the other class has this content already, live or deleted, the example there is (or becomes) the live one,
    /// this one is deleted, and that one is returned: a class never holds the same content twice.
    pub async fn move_example(
        &self,
        collection: &str,
        class: &str,
        example: &str,
        to: &str,
    ) -> Result<Example, LearnError> {
        let core = self.core();
        let (collection, class) = (collection.to_owned(), class.to_owned());
        let (example, to) = (example.to_owned(), to.to_owned());
        detached(async move {
            let mut write = core.begin_class(&collection, &class).await?;
            let owner = write.class(&class).await?;
            let row = write.live_example(&owner, &example).await?;
            if class == to {
                return Ok(public(row, &class));
            }
            let target = write.class_or_create(&to).await?;
            let moved = relabel(&mut write, row, &target).await?;
            let data = json!({ "example": example, "class": class, "to": to, "as": moved.id });
            write.record("example.moved", &data).await?;
            write.touch(owner.key).await?;
            write.touch(target.key).await?;
            write.commit().await?;
            Ok(public(moved, &to))
        })
        .await
    }
}

/// Checks vectors, then puts images on disk, before any lock is taken and off the async threads.
pub(super) async fn prepare(core: &Core, examples: Vec<NewExample>) -> Result<Vec<Prepared>, LearnError> {
    let dimensions = core.encoder.dimensions;
    let blobs = core.store.blobs.clone();
    blocking(move || {
        let mut images = Vec::new();
        let mut prepared = Vec::with_capacity(examples.len());
        for NewExample { image, vector } in examples {
            let (content_hash, media_type) = match image {
                Some((bytes, media_type)) => {
                    let hash = content_hash(&bytes);
                    images.push((hash.clone(), bytes));
                    (hash, Some(media_type))
                }
                None => (content_hash(&vector_bytes(&vector)), None),
            };
            let media_type = media_type.map(str::to_owned);
            prepared.push(Prepared { content_hash, media_type, vector: Some(unit(&vector, dimensions)?) });
        }
        blobs.write_all(&images)?;
        Ok(prepared)
    })
    .await?
}

/// Adds one example unless its content is there.
pub(super) async fn add(
    core: &Core,
    write: &mut Write,
    class: &ClassRow,
    new: Prepared,
) -> Result<AddedExample, LearnError> {
    let found = examples::find_content(&mut write.transaction, class.key, &new.content_hash).await?;
    let (row, duplicate) = match found {
        Some(row) if row.deleted_at.is_none() => {
            // Added under another encoder: the vector it lacks is at hand.
            if let Some(vector) = new.vector {
                write.complete(&row, vector).await?;
            }
            (row, true)
        }
        Some(row) => {
            if let Some(vector) = &new.vector {
                write.set_vector(row.key, vector).await?;
            }
            (write.restore(&row, &class.slug).await?, false)
        }
        None => {
            let id = core.store.new_id();
            let new_row = NewRow {
                id: &id,
                collection: write.collection,
                class: class.key,
                content_hash: &new.content_hash,
                media_type: new.media_type.as_deref(),
            };
            let row = examples::create(&mut write.transaction, &new_row).await?;
            if let Some(vector) = &new.vector {
                write.set_vector(row.key, vector).await?;
            }
            let data = json!({ "example": row.id, "class": class.slug, "content_hash": row.content_hash });
            write.record("example.added", &data).await?;
            write.enter(&row, new.vector);
            (row, false)
        }
    };
    Ok(AddedExample { example: public(row, &class.slug), duplicate })
}

/// Gives a live example another label; returns the example that carries the content afterwards.
pub(super) async fn relabel(
    write: &mut Write,
    row: ExampleRow,
    to: &ClassRow,
) -> Result<ExampleRow, LearnError> {
    let there = examples::find_content(&mut write.transaction, to.key, &row.content_hash).await?;
    let vector = write.vector(&row).await?;
    let Some(there) = there else {
        let moved = examples::set_class(&mut write.transaction, row.key, to.key).await?;
        write.change(Change::Leave { example: row.key, vector: vector.clone() });
        write.enter(&moved, vector);
        return Ok(moved);
    };
    write.leave(&row).await?;
    if there.deleted_at.is_none() {
        return Ok(there);
    }
    if let Some(vector) = vector {
        write.set_vector(there.key, &vector).await?;
    }
    write.restore(&there, &to.slug).await
}

impl Write {
    /// An example of a class, live or deleted.
    async fn example(&mut self, class: &ClassRow, id: &str) -> Result<ExampleRow, LearnError> {
        examples::find(&mut self.transaction, class.key, id).await?.ok_or_else(|| unknown(&class.slug, id))
    }

    /// A live example of a class.
    async fn live_example(&mut self, class: &ClassRow, id: &str) -> Result<ExampleRow, LearnError> {
        let row = self.example(class, id).await?;
        if row.deleted_at.is_none() { Ok(row) } else { Err(unknown(&class.slug, id)) }
    }

    /// Gives a live example the vector it lacks, if it lacks it.
    pub(super) async fn complete(&mut self, row: &ExampleRow, vector: Vec<f32>) -> Result<(), LearnError> {
        if self.vector(row).await?.is_none() {
            self.set_vector(row.key, &vector).await?;
            self.change(Change::Vector { example: row.key, vector });
        }
        Ok(())
    }

    /// Takes a tombstone off.
    async fn restore(&mut self, row: &ExampleRow, class: &str) -> Result<ExampleRow, LearnError> {
        let restored = examples::set_deleted(&mut self.transaction, row.key, false).await?;
        self.record("example.restored", &json!({ "example": row.id, "class": class })).await?;
        let vector = self.vector(row).await?;
        self.enter(&restored, vector);
        Ok(restored)
    }

    /// Puts a tombstone on a live example.
    pub(super) async fn leave(&mut self, row: &ExampleRow) -> Result<(), LearnError> {
        let vector = self.vector(row).await?;
        examples::set_deleted(&mut self.transaction, row.key, true).await?;
        self.change(Change::Leave { example: row.key, vector });
        Ok(())
    }

    fn enter(&mut self, row: &ExampleRow, vector: Option<Vec<f32>>) {
        self.change(Change::Enter { example: row.key, id: row.id.clone(), class: row.class_key, vector });
    }
}

impl Core {
    /// Starts a write that needs a class to exist.
    pub(super) async fn begin_class(
        self: &Arc<Self>,
        collection: &str,
        class: &str,
    ) -> Result<Write, LearnError> {
        name::check(class)?;
        let write = self.begin_existing(collection).await?;
        write.ok_or_else(|| LearnError::UnknownClass { class: class.to_owned() })
    }

    /// The row key of a live class.
    async fn class_row_key(&self, collection: &str, class: &str) -> Result<i64, LearnError> {
        name::check(collection)?;
        name::check(class)?;
        let slug = class.to_owned();
        self.read(collection, move |state| state.class_key(&slug))
            .await?
            .map(|key| key as i64)
            .ok_or_else(|| LearnError::UnknownClass { class: class.to_owned() })
    }
}

fn unknown(class: &str, example: &str) -> LearnError {
    LearnError::UnknownExample { class: class.to_owned(), example: example.to_owned() }
}

/// An example as callers see it.
pub(super) fn public(row: ExampleRow, class: &str) -> Example {
    Example {
        id: row.id,
        class: class.to_owned(),
        content_hash: public_hash(&row.content_hash),
        media_type: row.media_type,
        created_at: row.created_at,
        deleted_at: row.deleted_at,
    }
}
