//! The pool of images: add, read, delete, restore, label.
//!
//! Whether an image is labelled is not stored a second time: it is, while a live example of its collection has its content.
//! Labelling adds that example, from the file and the vector that are there, and deleting the example puts the image back
//! among the unlabelled. The pool stays on disk; nothing of it is kept in memory.

use super::core::{Core, Write, detached};
use super::cursor::{self, List};
use super::examples::{self as learn_examples, Prepared, prepare};
use super::{Example, LearnError, Learner, NewExample, Page, Paged, name};
use crate::store::blobs::{content_hash, public_hash};
use crate::store::images::{self, Filter, ImageRow, NewImageRow};
use crate::store::{blocking, collections, examples, read_vector};
use bytes::Bytes;
use dozen_fewshot::unit;
use dozen_models::{Budget, Keep, Selection};
use serde_json::json;
use sqlx::SqliteConnection;
use std::collections::{HashMap, HashSet};

/// An image to add: already decoded and embedded by the engine, or given as a vector.
pub struct NewImage {
    /// The image as sent, and its media type; `None` for a vector.
    pub image: Option<(Bytes, &'static str)>,
    /// Vector of the current encoder.
    pub vector: Vec<f32>,
    /// Vectors of the image with most of its patches hidden.
    pub views: Vec<Vec<f32>>,
}

/// What became of an added image.
#[derive(Clone, Debug, PartialEq)]
pub struct AddedImage {
    /// ULID: the new image's, or that of the one that was there.
    pub id: String,
    /// `blake3:<hex>` of the image bytes (or of the vector's bytes).
    pub content_hash: String,
    /// The pool had it.
    pub duplicate: bool,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// An image of the pool as callers see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// ULID.
    pub id: String,
    /// `blake3:<hex>` of the image bytes (or of the vector's bytes).
    pub content_hash: String,
    /// `image/jpeg`, …; `None` for an image given as a vector.
    pub media_type: Option<String>,
    /// The live examples with its content; none while it is unlabelled.
    pub labels: Vec<ImageLabel>,
    /// It has a vector of the current encoder.
    pub embedded: bool,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// Set while deleted and restorable.
    pub deleted_at: Option<String>,
}

/// A label of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageLabel {
    /// Slug.
    pub class: String,
    /// Id of the example.
    pub example: String,
}

/// Which images to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageFilter {
    /// Only those with, or without, a label.
    pub labelled: Option<bool>,
    /// Deleted ones too.
    pub include_deleted: bool,
}

/// Share of the patches that a view keeps: as few as MSN leaves its largest networks while it trains them (arXiv 2204.07141).
/// The less two views share, the more their agreement teaches.
const VIEW_KEEPS: f32 = 0.3;

/// What of an image is embedded for one of its views, which count from 1: another random choice of patches for each.
pub fn view_budget(view: usize) -> Budget {
    Budget { keep: Keep::Share(VIEW_KEEPS), selection: Selection::Random { seed: view as u64 }, masks: 1 }
}

impl Learner {
    /// Adds images to the pool, creating the collection if absent; idempotent by content. One transaction.
    ///
    /// Content that the pool has, or that comes twice, is a duplicate; vectors it lacked are added. Content that was deleted
    /// from the pool is restored and no duplicate. Content that an example has is a labelled image from the start.
    pub async fn add_images(
        &self,
        collection: &str,
        new: Vec<NewImage>,
    ) -> Result<Vec<AddedImage>, LearnError> {
        name::check(collection)?;
        let core = self.core();
        let collection = collection.to_owned();
        detached(async move {
            let mut contents = Vec::with_capacity(new.len());
            let mut views = Vec::with_capacity(new.len());
            for NewImage { image, vector, views: own } in new {
                contents.push(NewExample { image, vector });
                let own = own.iter().map(|view| unit(view, core.encoder.dimensions));
                views.push(own.collect::<Result<Vec<_>, _>>()?);
            }
            let prepared = prepare(&core, contents).await?;
            let mut write = core.begin(&collection).await?;
            let mut added = Vec::with_capacity(prepared.len());
            for (content, views) in prepared.into_iter().zip(views) {
                added.push(add(&core, &mut write, content, &views).await?);
            }
            let ids: Vec<&str> =
                added.iter().filter(|image| !image.duplicate).map(|image| image.id.as_str()).collect();
            if !ids.is_empty() {
                write.record("images.added", &json!({ "images": ids })).await?;
            }
            write.commit().await?;
            Ok(added)
        })
        .await
    }

    /// Those of some contents that the pool has, with a vector of the current encoder and at least so many views: what would
    /// be a duplicate in [`Learner::add_images`], found before it is decoded and embedded again.
    pub async fn known_images(
        &self,
        collection: &str,
        contents: Vec<Bytes>,
        views: usize,
    ) -> Result<Vec<Option<AddedImage>>, LearnError> {
        name::check(collection)?;
        let core = self.core();
        let hashes: Vec<String> =
            blocking(move || contents.iter().map(|bytes| content_hash(bytes)).collect()).await?;
        let mut reader = core.store.read().await?;
        let Some(row) = collections::find(&mut reader, collection).await? else {
            return Ok(vec![None; hashes.len()]);
        };
        let mut known = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let found = images::find_embedded(&mut reader, row.key, core.store.encoder, &hash, views).await?;
            known.push(found.map(|row| added(row, true)));
        }
        Ok(known)
    }

    /// Images of the pool, newest last.
    pub async fn images(
        &self,
        collection: &str,
        filter: ImageFilter,
        page: &Page,
    ) -> Result<Paged<Image>, LearnError> {
        name::check(collection)?;
        let after = List::Images.after(page)?.unwrap_or(0);
        let core = self.core();
        let mut reader = core.store.read().await?;
        let Some(row) = collections::find(&mut reader, collection).await? else {
            return Ok(Paged { data: Vec::new(), next: None });
        };
        let ImageFilter { labelled, include_deleted } = filter;
        let filter = Filter { labelled, include_deleted };
        let rows = images::page(&mut reader, row.key, filter, after, cursor::limit(page) + 1).await?;
        let Paged { data, next } = List::Images.paged(rows, page, |row| row.key, Ok)?;
        Ok(Paged { data: core.public_images(&mut reader, row.key, data).await?, next })
    }

    /// One image of the pool, live or deleted.
    pub async fn image(&self, collection: &str, image: &str) -> Result<Image, LearnError> {
        let core = self.core();
        let mut reader = core.store.read().await?;
        let (collection, row) = image_row(&mut reader, collection, image).await?;
        core.public_image(&mut reader, collection, row).await
    }

    /// The stored bytes of an image, live or deleted, and their media type; `None` for one given as a vector.
    pub async fn image_bytes(
        &self,
        collection: &str,
        image: &str,
    ) -> Result<Option<(Bytes, String)>, LearnError> {
        let core = self.core();
        let (_, row) = image_row(&mut *core.store.read().await?, collection, image).await?;
        match row.media_type {
            Some(media_type) => Ok(Some((core.store.read_blob(row.content_hash).await?, media_type))),
            None => Ok(None),
        }
    }

    /// Tombstones an image: it leaves the pool, its labels stay. One that is deleted already is unknown.
    pub async fn delete_image(&self, collection: &str, image: &str) -> Result<(), LearnError> {
        let core = self.core();
        let (collection, image) = (collection.to_owned(), image.to_owned());
        detached(async move {
            let (mut write, row) = core.begin_image(&collection, &image).await?;
            live(&row)?;
            images::set_deleted(&mut write.transaction, row.key, true).await?;
            write.record("image.deleted", &json!({ "image": row.id })).await?;
            write.commit().await?;
            Ok(())
        })
        .await
    }

    /// Takes the tombstone off again; a live image is left as it is.
    pub async fn restore_image(&self, collection: &str, image: &str) -> Result<Image, LearnError> {
        let core = self.core();
        let (collection, image) = (collection.to_owned(), image.to_owned());
        detached(async move {
            let (mut write, row) = core.begin_image(&collection, &image).await?;
            let restored = match row.deleted_at {
                Some(_) => restore(&mut write, &row).await?,
                None => row,
            };
            let key = write.collection;
            let image = core.public_image(&mut write.transaction, key, restored).await?;
            write.commit().await?;
            Ok(image)
        })
        .await
    }

    /// Gives an image this label and no other, creating the class if absent; the example, and whether anything changed.
    ///
    /// Examples of other classes with its content are moved to this one.
    pub async fn label_image(
        &self,
        collection: &str,
        image: &str,
        class: &str,
    ) -> Result<(Example, bool), LearnError> {
        name::check(class)?;
        let core = self.core();
        let (collection, image, class) = (collection.to_owned(), image.to_owned(), class.to_owned());
        detached(async move {
            let (mut write, row) = core.begin_image(&collection, &image).await?;
            live(&row)?;
            let target = write.class_or_create(&class).await?;
            let there =
                examples::live_content(&mut write.transaction, write.collection, &row.content_hash).await?;
            let (mut here, elsewhere): (Vec<_>, Vec<_>) =
                there.into_iter().partition(|example| example.class_key == target.key);
            let changed = here.is_empty() || !elsewhere.is_empty();
            let labels =
                images::labels(&mut write.transaction, write.collection, &[&row.content_hash]).await?;
            for example in elsewhere {
                let (id, owner) = (example.id.clone(), example.class_key);
                let from = labels.iter().find(|label| label.example == id).map(|label| &label.class);
                let moved = learn_examples::relabel(&mut write, example, &target).await?;
                let data = json!({ "example": id, "class": from, "to": class, "as": moved.id });
                write.record("example.moved", &data).await?;
                write.touch(owner).await?;
                here = vec![moved];
            }
            let example = if let Some(example) = here.pop() {
                learn_examples::public(example, &class)
            } else {
                let bytes = images::vector(&mut write.transaction, row.key, core.store.encoder).await?;
                let read = |bytes: Vec<u8>| read_vector(&row.id, &bytes, core.encoder.dimensions);
                let vector = bytes.map(read).transpose()?;
                let content = Prepared { content_hash: row.content_hash, media_type: row.media_type, vector };
                learn_examples::add(&core, &mut write, &target, content).await?.example
            };
            if changed {
                write.touch(target.key).await?;
            }
            write.commit().await?;
            Ok((example, changed))
        })
        .await
    }

    /// Live images of a collection's pool.
    pub async fn image_count(&self, collection: &str) -> Result<usize, LearnError> {
        let core = self.core();
        let mut reader = core.store.read().await?;
        match collections::find(&mut reader, collection).await? {
            Some(row) => Ok(images::count(&mut reader, row.key).await? as usize),
            None => Ok(0),
        }
    }

    /// Live images of all pools.
    pub async fn image_total(&self) -> Result<usize, LearnError> {
        Ok(images::count_all(&mut *self.core().store.read().await?).await? as usize)
    }

    /// A file without a name under the data directory, for what is too large for memory.
    pub async fn scratch_file(&self) -> Result<std::fs::File, LearnError> {
        let blobs = self.core().store.blobs.clone();
        Ok(blocking(move || blobs.scratch()).await??)
    }
}

/// Adds one image unless its content is there.
async fn add(
    core: &Core,
    write: &mut Write,
    new: Prepared,
    views: &[Vec<f32>],
) -> Result<AddedImage, LearnError> {
    let found = images::find_content(&mut write.transaction, write.collection, &new.content_hash).await?;
    let (row, duplicate) = match found {
        Some(row) if row.deleted_at.is_none() => (row, true),
        Some(row) => (restore(write, &row).await?, false),
        None => {
            let id = core.store.new_id();
            let new_row = NewImageRow {
                id: &id,
                collection: write.collection,
                content_hash: &new.content_hash,
                media_type: new.media_type.as_deref(),
            };
            (images::create(&mut write.transaction, &new_row).await?, false)
        }
    };
    if let Some(vector) = new.vector {
        embed(core, write, row.key, &new.content_hash, vector, views).await?;
    }
    Ok(added(row, duplicate))
}

/// Stores an image's vectors of the current encoder, as far as it lacks them, and completes examples of the same content.
pub(super) async fn embed(
    core: &Core,
    write: &mut Write,
    image: i64,
    content_hash: &str,
    vector: Vec<f32>,
    views: &[Vec<f32>],
) -> Result<(), LearnError> {
    let encoder = core.store.encoder;
    images::add_vector(&mut write.transaction, image, encoder, 0, &vector).await?;
    for (number, view) in (1..).zip(views) {
        images::add_vector(&mut write.transaction, image, encoder, number, view).await?;
    }
    for example in examples::live_content(&mut write.transaction, write.collection, content_hash).await? {
        write.complete(&example, vector.clone()).await?;
    }
    Ok(())
}

async fn restore(write: &mut Write, row: &ImageRow) -> Result<ImageRow, LearnError> {
    let restored = images::set_deleted(&mut write.transaction, row.key, false).await?;
    write.record("image.restored", &json!({ "image": row.id })).await?;
    Ok(restored)
}

impl Core {
    /// Starts a write that needs an image to exist, live or deleted.
    async fn begin_image(
        self: &std::sync::Arc<Self>,
        collection: &str,
        image: &str,
    ) -> Result<(Write, ImageRow), LearnError> {
        let unknown = || unknown(image);
        let mut write = self.begin_existing(collection).await?.ok_or_else(unknown)?;
        let row = images::find(&mut write.transaction, write.collection, image).await?;
        Ok((write, row.ok_or_else(unknown)?))
    }

    async fn public_image(
        &self,
        connection: &mut SqliteConnection,
        collection: i64,
        row: ImageRow,
    ) -> Result<Image, LearnError> {
        let unknown = unknown(&row.id);
        self.public_images(connection, collection, vec![row]).await?.pop().ok_or(unknown)
    }

    /// Images as callers see them.
    async fn public_images(
        &self,
        connection: &mut SqliteConnection,
        collection: i64,
        rows: Vec<ImageRow>,
    ) -> Result<Vec<Image>, LearnError> {
        let hashes: Vec<&str> = rows.iter().map(|row| row.content_hash.as_str()).collect();
        let mut labels: HashMap<String, Vec<ImageLabel>> = HashMap::new();
        for row in images::labels(connection, collection, &hashes).await? {
            let label = ImageLabel { class: row.class, example: row.example };
            labels.entry(row.content_hash).or_default().push(label);
        }
        let keys: Vec<i64> = rows.iter().map(|row| row.key).collect();
        let embedded: HashSet<i64> =
            images::embedded(connection, self.store.encoder, &keys).await?.into_iter().collect();
        let public = |row: ImageRow| Image {
            id: row.id,
            labels: labels.remove(&row.content_hash).unwrap_or_default(),
            content_hash: public_hash(&row.content_hash),
            media_type: row.media_type,
            embedded: embedded.contains(&row.key),
            created_at: row.created_at,
            deleted_at: row.deleted_at,
        };
        Ok(rows.into_iter().map(public).collect())
    }
}

/// An image's row, live or deleted, and the key of its collection.
async fn image_row(
    reader: &mut SqliteConnection,
    collection: &str,
    image: &str,
) -> Result<(i64, ImageRow), LearnError> {
    name::check(collection)?;
    let Some(collection) = collections::find(reader, collection).await? else { return Err(unknown(image)) };
    let row = images::find(reader, collection.key, image).await?.ok_or_else(|| unknown(image))?;
    Ok((collection.key, row))
}

fn live(row: &ImageRow) -> Result<(), LearnError> {
    if row.deleted_at.is_none() { Ok(()) } else { Err(unknown(&row.id)) }
}

fn unknown(image: &str) -> LearnError {
    LearnError::UnknownImage { image: image.to_owned() }
}

fn added(row: ImageRow, duplicate: bool) -> AddedImage {
    let ImageRow { id, content_hash, created_at, .. } = row;
    AddedImage { id, content_hash: public_hash(&content_hash), duplicate, created_at }
}
