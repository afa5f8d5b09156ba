//! The data model over SQL, and blobs as files. The store is the truth; index and heads are rebuilt from it.
//!
//! SQL lives in this module only, one file per table or two. Its functions take a connection, so that the caller decides
//! what belongs to one transaction. All writes go through one connection: SQLite has one writer at a time anyway, and
//! waiting for a connection is fair where waiting for SQLite's lock is not. Readers see the last commit (WAL).

pub(crate) mod blobs;
pub(crate) mod classes;
pub(crate) mod collections;
pub(crate) mod examples;
pub(crate) mod findings;
pub(crate) mod heads;
pub(crate) mod images;
pub(crate) mod jobs;
mod time;

pub(crate) use time::now;

use blobs::Blobs;
use dozen_models::EncoderInfo;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Connections for reading. SQLite reads in parallel under WAL; more than this only costs memory.
const READERS: u32 = 4;

/// How long SQLite itself waits for a lock, such as one held by a backup tool.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The database or a blob file failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQL.
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
    /// Schema migration.
    #[error("database schema: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A file under the data directory.
    #[error("{path}: {source}")]
    Io {
        /// What could not be read or written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A row or blob that cannot be what we wrote.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// Another server has the data directory open.
    #[error("{path} is in use by another server; stop it or choose another --data-dir")]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
}

/// An open data directory.
pub(crate) struct Store {
    writer: SqlitePool,
    reader: SqlitePool,
    /// Images. Its methods block.
    pub(crate) blobs: Blobs,
    ids: Mutex<ulid::Generator>,
    /// Held open, and so locked, as long as the store is open.
    lock: Mutex<Option<File>>,
    /// The row of the encoder whose vectors are in use.
    pub(crate) encoder: i64,
}

impl Store {
    /// Opens or creates the store under `data_dir`, brings its schema up to date and registers the encoder.
    pub(crate) async fn open(data_dir: &Path, encoder: &EncoderInfo) -> Result<Self, StoreError> {
        let folder = data_dir.to_owned();
        let (lock, blobs) = blocking(move || -> Result<_, StoreError> {
            std::fs::create_dir_all(&folder).map_err(blobs::at(&folder))?;
            let lock = lock(&folder)?;
            Ok((lock, Blobs::open(folder.join("blobs"))?))
        })
        .await??;
        let options = SqliteConnectOptions::new()
            .filename(data_dir.join("dozen.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        sqlx::migrate!().run(&writer).await?;
        let reader = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.pragma("query_only", "on"))
            .await?;
        let encoder = collections::register_encoder(&mut *writer.acquire().await?, encoder).await?;
        Ok(Self {
            writer,
            reader,
            blobs,
            ids: Mutex::new(ulid::Generator::new()),
            lock: Mutex::new(Some(lock)),
            encoder,
        })
    }

    /// A connection for reading.
    pub(crate) async fn read(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        Ok(self.reader.acquire().await?)
    }

    /// Starts a write; dropping it without a commit takes everything back.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin().await?)
    }

    /// A new identifier, greater than every one given out before by this process.
    pub(crate) fn new_id(&self) -> String {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        match ids.generate() {
            Ok(id) => id,
            Err(overflow) => overflow.commit_overflow_increment(),
        }
        .to_string()
    }

    /// Reads and checks a blob, off the async threads.
    pub(crate) async fn read_blob(&self, hash: String) -> Result<bytes::Bytes, StoreError> {
        let blobs = self.blobs.clone();
        blocking(move || blobs.read(&hash)).await?
    }

    /// Waits for open transactions, closes the database and lets the next server have the data directory.
    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Takes the data directory's lock; the system releases it when the process ends, however it ends.
fn lock(data_dir: &Path) -> Result<File, StoreError> {
    let path = data_dir.join("lock");
    let file = File::create(&path).map_err(blobs::at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: data_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(StoreError::Io { path, source }),
    }
}

/// Runs blocking or long work off the async threads; a panic in it continues here.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result),
        Err(failure) => match failure.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only the end of the runtime cancels blocking work.
            Err(_) => Err(StoreError::Sql(sqlx::Error::PoolClosed)),
        },
    }
}

/// A vector as stored: little-endian f32.
pub(crate) fn vector_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|component| component.to_le_bytes()).collect()
}

/// The stored vector of an example or image, checked for its length and finiteness.
pub(crate) fn read_vector(id: &str, bytes: &[u8], dimensions: usize) -> Result<Vec<f32>, StoreError> {
    if bytes.len() != dimensions * size_of::<f32>() {
        let (actual, expected) = (bytes.len(), dimensions * size_of::<f32>());
        let what = format!("the vector of {id} has {actual} bytes, {expected} are expected");
        return Err(StoreError::Damaged(what));
    }
    let vector: Vec<f32> =
        bytes.as_chunks::<4>().0.iter().map(|component| f32::from_le_bytes(*component)).collect();
    if vector.iter().all(|component| component.is_finite()) {
        Ok(vector)
    } else {
        Err(StoreError::Damaged(format!("the vector of {id} is not finite")))
    }
}

/// Reads a JSON column.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(text).map_err(|error| StoreError::Damaged(format!("{what}: {error}")))
}
