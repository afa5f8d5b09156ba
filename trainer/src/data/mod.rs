//! Pictures on disk: folders, `.tar` and `.tar.zst` archives, WebDataset shards, Parquet files.
//!
//! [`ImageSet::open`] finds them, sorts them by name and keeps them decoded in memory where they fit; otherwise every
//! batch decodes its own. [`order`] says which images make which batch. [`check`] looks a data set over before a run.
//! Labels are folder names or are stored beside the pictures; only the evaluation reads them.
//!
//! Single pictures that cannot be read are left out and named. Archives and tables that are damaged or cut short are
//! errors: nobody wants to find out after a week that half of the data was missing.

mod archive;
mod braces;
pub mod check;
mod find;
mod folder;
mod location;
pub mod order;
mod set;
mod sidecar;
mod source;
mod table;
mod table_columns;
mod unreadable;

pub use find::Item;
pub use set::{DataOptions, ImageSet, Skipped};
pub use source::{Source, SourceKind};
pub use unreadable::{FILE as UNREADABLE_FILE, UnreadableList};

#[cfg(test)]
mod tests;
