//! What all calls share: the store, the collections in memory, and the one way to write.
//!
//! A write holds its collection's mutex from before its transaction until its changes are applied in memory, so memory
//! sees the changes in the order of the store. The state's own lock is held only while it is read or changed, never
//! across an await.

use super::state::{Change, State};
use super::trained::{StoredHead, TrainedHead};
use super::untrained::Untrained;
use super::{Class, LearnError, name};
use crate::store::classes::ClassRow;
use crate::store::collections::{self, CollectionRow};
use crate::store::examples::ExampleRow;
use crate::store::{Store, StoreError, blocking, classes, examples, heads, read_json, read_vector};
use dozen_fewshot::Reliability;
use dozen_models::EncoderInfo;
use futures_util::TryStreamExt;
use serde_json::Value;
use sqlx::{Sqlite, SqliteConnection, Transaction};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;
use tokio::sync::OwnedMutexGuard;
use tracing::Instrument;

/// A start tells of every so many examples that it has loaded: seconds apart.
const LOADING_STEP: usize = 100_000;

/// The open data directory and its collections in memory.
pub(crate) struct Core {
    pub(crate) store: Store,
    pub(crate) encoder: EncoderInfo,
    collections: RwLock<HashMap<String, Arc<Slot>>>,
}

/// A collection's place in memory.
struct Slot {
    name: String,
    /// Serialises writes.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// Serialises questions that take long.
    advising: Arc<tokio::sync::Mutex<()>>,
    state: Arc<RwLock<State>>,
    /// What makes the answers of the prototype head reliable.
    untrained: Untrained,
    /// A write failed half-way: memory may differ from the store and is rebuilt before the next write.
    stale: AtomicBool,
}

impl Core {
    /// Opens the store and rebuilds every collection. Active heads of another encoder are put aside for the prototype
    /// head.
    pub(crate) async fn open(data_dir: &Path, encoder: &EncoderInfo) -> Result<Arc<Self>, LearnError> {
        let store = Store::open(data_dir, encoder).await?;
        let mut transaction = store.begin().await?;
        if collections::find(&mut transaction, super::DEFAULT_COLLECTION).await?.is_none() {
            collections::create(&mut transaction, super::DEFAULT_COLLECTION).await?;
        }
        for row in collections::all(&mut transaction).await? {
            if row.active_head != 0 && active_head(&mut transaction, &row).await?.encoder_key != store.encoder
            {
                tracing::warn!(
                    collection = row.name,
                    version = row.active_head,
                    "the active head belongs to another encoder; the prototype head answers instead"
                );
                collections::set_active_head(&mut transaction, row.key, 0).await?;
            }
        }
        let rows = collections::all(&mut transaction).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        let core = Self { store, encoder: encoder.clone(), collections: RwLock::default() };
        for row in rows {
            let slot = core.slot_or_insert(&row.name);
            let started = Instant::now();
            let state = core.load(&row).await?;
            let (classes, examples) = state.sizes();
            let seconds = started.elapsed().as_secs_f64();
            tracing::info!(collection = row.name, classes, examples, seconds, "collection loaded");
            *slot.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        }
        Ok(Arc::new(core))
    }

    /// Reads a collection; one that does not exist reads as empty. Off the async threads, because a write may hold the
    /// state while its index rebuilds.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        collection: &str,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let slot = self.slot(collection);
        let dimensions = self.encoder.dimensions;
        blocking(move || match slot {
            Some(slot) => look(&slot.state.read().unwrap_or_else(PoisonError::into_inner)),
            None => look(&State::new(dimensions)),
        })
        .await
    }

    /// The trained head that a collection answers with, if it does; in the store, not only in memory, it is the same.
    pub(crate) async fn active_head(&self, collection: &str) -> Result<Option<Arc<TrainedHead>>, LearnError> {
        Ok(self.read(collection, |state| state.trained.clone()).await?)
    }

    /// A version of a collection's head that this encoder can use; `None` is the prototype head, version 0.
    pub(super) async fn head(
        &self,
        collection: &str,
        version: i64,
    ) -> Result<Option<Arc<TrainedHead>>, LearnError> {
        if version == 0 {
            return Ok(None);
        }
        let unknown = || LearnError::UnknownHead { version };
        let mut reader = self.store.read().await?;
        let row = collections::find(&mut reader, collection).await?.ok_or_else(unknown)?;
        let head = heads::find(&mut reader, row.key, version).await?.ok_or_else(unknown)?;
        if head.encoder_key != self.store.encoder {
            return Err(LearnError::HeadOfOtherEncoder { version });
        }
        Ok(Some(trained_head(&mut reader, row.key, version).await?))
    }

    /// A turn to compute advice for callers, one at a time in a collection, so that slow questions do not pile up.
    pub(super) async fn advising(&self, collection: &str) -> Option<OwnedMutexGuard<()>> {
        match self.slot(collection) {
            Some(slot) => Some(Arc::clone(&slot.advising).lock_owned().await),
            None => None,
        }
    }

    /// What makes the answers of a collection's prototype head reliable; `None` where a trained head answers, or without
    /// examples.
    pub(super) async fn untrained(&self, collection: &str) -> Result<Option<Arc<Reliability>>, LearnError> {
        match self.slot(collection) {
            Some(slot) => slot.untrained.get(&slot.state).await,
            None => Ok(None),
        }
    }

    /// Numbers of live classes and examples over all collections.
    pub(crate) async fn sizes(&self) -> Result<(usize, usize), StoreError> {
        let slots: Vec<Arc<Slot>> =
            self.collections.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        blocking(move || {
            let sizes =
                slots.iter().map(|slot| slot.state.read().unwrap_or_else(PoisonError::into_inner).sizes());
            sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
        })
        .await
    }

    /// Starts a write, creating the collection if absent.
    pub(crate) async fn begin(self: &Arc<Self>, collection: &str) -> Result<Write, LearnError> {
        name::check(collection)?;
        self.begin_in(self.slot_or_insert(collection)).await
    }

    /// Starts a write in a collection if it exists.
    pub(crate) async fn begin_existing(
        self: &Arc<Self>,
        collection: &str,
    ) -> Result<Option<Write>, LearnError> {
        name::check(collection)?;
        match self.slot(collection) {
            Some(slot) => Ok(Some(self.begin_in(slot).await?)),
            None => Ok(None),
        }
    }

    async fn begin_in(self: &Arc<Self>, slot: Arc<Slot>) -> Result<Write, LearnError> {
        let guard = Arc::clone(&slot.writing).lock_owned().await;
        if slot.stale.load(Ordering::Acquire) {
            self.reload(&slot).await?;
        }
        let mut transaction = self.store.begin().await?;
        let mut changes = Vec::new();
        let known = slot.state.read().unwrap_or_else(PoisonError::into_inner).key;
        let collection = if let Some(key) = known {
            key
        } else {
            let key = collections::create(&mut transaction, &slot.name).await?;
            changes.push(Change::Collection { key });
            key
        };
        Ok(Write { core: Arc::clone(self), slot, guard, transaction, collection, changes })
    }

    fn slot(&self, collection: &str) -> Option<Arc<Slot>> {
        self.collections.read().unwrap_or_else(PoisonError::into_inner).get(collection).cloned()
    }

    fn slot_or_insert(&self, collection: &str) -> Arc<Slot> {
        let mut collections = self.collections.write().unwrap_or_else(PoisonError::into_inner);
        let slot = collections.entry(collection.to_owned()).or_insert_with(|| {
            Arc::new(Slot {
                name: collection.to_owned(),
                writing: Arc::default(),
                advising: Arc::default(),
                state: Arc::new(RwLock::new(State::new(self.encoder.dimensions))),
                untrained: Untrained::default(),
                stale: AtomicBool::new(false),
            })
        });
        Arc::clone(slot)
    }

    /// Builds a collection's state from the store.
    async fn load(&self, row: &CollectionRow) -> Result<State, LearnError> {
        let mut state = State::new(self.encoder.dimensions);
        state.apply(Change::Collection { key: row.key })?;
        let mut reader = self.store.read().await?;
        for class in classes::live(&mut reader, row.key).await? {
            state.apply(Change::Class(class))?;
        }
        let mut rows = examples::embedded(&mut reader, row.key, self.store.encoder);
        while let Some(example) = rows.try_next().await.map_err(StoreError::from)? {
            let vector = example
                .vector
                .map(|bytes| read_vector(&example.id, &bytes, self.encoder.dimensions))
                .transpose()?;
            state.apply(Change::Enter {
                example: example.key,
                id: example.id,
                class: example.class_key,
                vector,
            })?;
            let (_, examples) = state.sizes();
            if examples.is_multiple_of(LOADING_STEP) {
                tracing::info!(collection = row.name, examples, "loading");
            }
        }
        drop(rows);
        if row.active_head != 0 {
            let trained = trained_head(&mut reader, row.key, row.active_head).await?;
            state.apply(Change::Head(Some(trained)))?;
        }
        Ok(state)
    }

    /// Rebuilds a collection in memory after a write that failed half-way. The caller holds the collection's mutex.
    async fn reload(&self, slot: &Slot) -> Result<(), LearnError> {
        let row = {
            let mut reader = self.store.read().await?;
            collections::find(&mut reader, &slot.name).await?
        };
        let state = match row {
            Some(row) => self.load(&row).await?,
            None => State::new(self.encoder.dimensions),
        };
        *slot.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        slot.stale.store(false, Ordering::Release);
        Ok(())
    }
}

/// The row of a collection's active trained head.
async fn active_head(
    connection: &mut SqliteConnection,
    row: &CollectionRow,
) -> Result<heads::HeadRow, StoreError> {
    heads::find(connection, row.key, row.active_head).await?.ok_or_else(|| {
        StoreError::Damaged(format!(
            "head version {} of collection `{}` is missing",
            row.active_head, row.name
        ))
    })
}

/// Reads a version's fitted head.
pub(crate) async fn trained_head(
    connection: &mut SqliteConnection,
    collection: i64,
    version: i64,
) -> Result<Arc<TrainedHead>, StoreError> {
    let weights = heads::weights(connection, collection, version).await?;
    let stored: StoredHead = read_json(&format!("the weights of head version {version}"), &weights)?;
    Ok(Arc::new(TrainedHead::new(version, stored.checked(version)?)))
}

/// A write in progress: one transaction and what it will change in memory. Dropping it takes everything back.
pub(crate) struct Write {
    core: Arc<Core>,
    slot: Arc<Slot>,
    guard: OwnedMutexGuard<()>,
    pub(crate) transaction: Transaction<'static, Sqlite>,
    pub(crate) collection: i64,
    changes: Vec<Change>,
}

impl Write {
    /// A live class.
    pub(super) async fn class(&mut self, slug: &str) -> Result<ClassRow, LearnError> {
        classes::find(&mut self.transaction, self.collection, slug)
            .await?
            .ok_or_else(|| LearnError::UnknownClass { class: slug.to_owned() })
    }

    /// Creates a class whose slug is free.
    pub(super) async fn create_class(&mut self, slug: &str, display: &str) -> Result<ClassRow, LearnError> {
        let row = classes::create(&mut self.transaction, self.collection, slug, display).await?;
        self.record("class.created", &serde_json::json!({ "class": slug, "name": display })).await?;
        self.change(Change::Class(row.clone()));
        Ok(row)
    }

    /// A live class, created if absent.
    pub(super) async fn class_or_create(&mut self, slug: &str) -> Result<ClassRow, LearnError> {
        name::check(slug)?;
        match classes::find(&mut self.transaction, self.collection, slug).await? {
            Some(row) => Ok(row),
            None => self.create_class(slug, slug).await,
        }
    }

    /// Counts a class's revision up.
    pub(super) async fn touch(&mut self, class: i64) -> Result<(), LearnError> {
        let row = classes::touch(&mut self.transaction, class).await?;
        self.change(Change::Class(row));
        Ok(())
    }

    /// The example's vector of the current encoder.
    pub(super) async fn vector(&mut self, example: &ExampleRow) -> Result<Option<Vec<f32>>, LearnError> {
        let bytes = examples::vector(&mut self.transaction, example.key, self.core.store.encoder).await?;
        let dimensions = self.core.encoder.dimensions;
        Ok(bytes.map(|bytes| read_vector(&example.id, &bytes, dimensions)).transpose()?)
    }

    /// Stores an example's vector of the current encoder.
    pub(super) async fn set_vector(&mut self, example: i64, vector: &[f32]) -> Result<(), LearnError> {
        Ok(examples::set_vector(&mut self.transaction, example, self.core.store.encoder, vector).await?)
    }

    /// Appends to the history.
    pub(crate) async fn record(&mut self, kind: &str, data: &Value) -> Result<(), LearnError> {
        Ok(collections::record(&mut self.transaction, self.collection, kind, data).await?)
    }

    /// Notes what is to change in memory.
    pub(crate) fn change(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Commits and changes memory. Whatever fails, memory follows the store: it is rebuilt from it.
    pub(crate) async fn commit(self) -> Result<Committed, LearnError> {
        let Self { core, slot, guard, transaction, changes, .. } = self;
        // Set first: should this task end in between, the next write knows.
        slot.stale.store(true, Ordering::Release);
        let committed = transaction.commit().await.map_err(|error| LearnError::from(StoreError::from(error)));
        let applied = match &committed {
            Ok(()) => apply(&slot, changes).await,
            Err(_) => false,
        };
        if applied {
            slot.stale.store(false, Ordering::Release);
        } else if let Err(error) = core.reload(&slot).await {
            tracing::error!(collection = slot.name, %error, "cannot rebuild the collection after a failed write");
        }
        committed.map(|()| Committed { slot, _guard: guard })
    }
}

/// Applies the changes of a committed transaction; false if one failed. Off the async threads: the index may rebuild.
async fn apply(slot: &Arc<Slot>, changes: Vec<Change>) -> bool {
    let target = Arc::clone(slot);
    let applied = tokio::task::spawn_blocking(move || {
        let mut state = target.state.write().unwrap_or_else(PoisonError::into_inner);
        changes.into_iter().try_for_each(|change| state.apply(change))
    })
    .await;
    match applied {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::error!(collection = slot.name, %error, "a stored change does not fit memory; rebuilding");
            false
        }
        Err(error) => {
            tracing::error!(collection = slot.name, %error, "applying a stored change panicked; rebuilding");
            false
        }
    }
}

/// A finished write, still holding the collection's mutex, so that what is read is what was written.
pub(crate) struct Committed {
    slot: Arc<Slot>,
    _guard: OwnedMutexGuard<()>,
}

impl Committed {
    /// A class as it is after the write.
    pub(super) fn class(&self, row: &ClassRow) -> Result<Class, LearnError> {
        let state = self.slot.state.read().unwrap_or_else(PoisonError::into_inner);
        state
            .class(super::state::class_key(row.key))
            .ok_or_else(|| LearnError::UnknownClass { class: row.slug.clone() })
    }
}

/// Runs a write to its end even when the caller goes away: a transaction without its change in memory would part the two.
pub(crate) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, LearnError>> + Send + 'static,
) -> Result<T, LearnError> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(result) => result,
        Err(failure) => match failure.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only the end of the runtime cancels the task.
            Err(_) => Err(StoreError::Sql(sqlx::Error::PoolClosed).into()),
        },
    }
}
