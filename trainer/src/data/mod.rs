//! Pictures on disk: class folders, flat folders, `.tar` and `.tar.zst` archives.
//!
//! [`ImageSet::open`] finds them, sorts them by name and keeps them decoded in memory where they fit; otherwise every
//! batch decodes its own. [`order`] says which images make which batch. Labels are folder names; only the evaluation
//! reads them.

mod archive;
mod find;
pub mod order;
mod set;

pub use find::Item;
pub use set::{DataOptions, ImageSet, Skipped};

#[cfg(test)]
mod tests;
