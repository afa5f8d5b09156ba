//! The data model over SQL, and blobs as files. The store is the truth; index and heads are rebuilt from it.

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
    Io { path: std::path::PathBuf, source: std::io::Error },
    /// A row or blob that cannot be what we wrote.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}
