//! `unreadable.txt`: the pictures a run had to leave out, each once.

use super::Skipped;
use crate::Error;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Name of the list in a run's folder.
pub const FILE: &str = "unreadable.txt";

/// The list, one line per picture: name, tab, reason. The file is made with the first line.
pub struct UnreadableList {
    path: PathBuf,
    known: BTreeSet<String>,
    file: Option<File>,
}

impl UnreadableList {
    /// Goes on with the list in `dir`, or starts one.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let old = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|source| Error::Io { path: path.clone(), source })?,
        };
        let known = old.lines().filter_map(|line| Some(line.split_once('\t')?.0.to_owned())).collect();
        Ok(Self { path, known, file: None })
    }

    /// Adds pictures that are not in the list yet.
    pub fn add(&mut self, skipped: &[Skipped]) -> Result<(), Error> {
        for Skipped { name, reason } in skipped {
            let [name, reason] = [name, reason].map(|text| text.replace(['\t', '\n', '\r'], " "));
            if self.known.insert(name.clone()) {
                self.write(&format!("{name}\t{reason}\n"))
                    .map_err(|source| Error::Io { path: self.path.clone(), source })?;
            }
        }
        Ok(())
    }

    fn write(&mut self, line: &str) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().create(true).append(true).open(&self.path)?),
        };
        file.write_all(line.as_bytes())
    }
}
