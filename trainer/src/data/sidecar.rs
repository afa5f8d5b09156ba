//! Labels that lie beside the pictures in WebDataset shards.
//!
//! The files of a sample share their path up to the first dot of the file name: `0001.jpg`, `0001.cls`, `0001.json`.

use std::collections::HashMap;
use std::io::{self, Read};

/// Members of a JSON file that hold a label, in the order they are asked.
const MEMBERS: [&str; 3] = ["label", "class", "cls"];

/// Longer files hold something else.
const MOST_BYTES: u64 = 1 << 20;

/// Labels by sample.
#[derive(Default)]
pub(super) struct Sidecars(HashMap<String, String>);

impl Sidecars {
    /// Reads the entry if it is a label.
    pub(super) fn offer<R: Read>(&mut self, name: &str, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
        let (key, extension) = split(name);
        if !matches!(extension, "cls" | "json") || entry.size() > MOST_BYTES {
            return Ok(());
        }
        let mut text = String::new();
        // A file that is not text is no label.
        match entry.read_to_string(&mut text) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(()),
            read => read?,
        };
        let label = if extension == "cls" { Some(text.trim().to_owned()) } else { in_json(&text) };
        match label.filter(|label| !label.is_empty()) {
            // `.cls` is WebDataset's own, JSON a guess.
            Some(label) if extension == "cls" => {
                self.0.insert(key.to_owned(), label);
            }
            Some(label) => {
                self.0.entry(key.to_owned()).or_insert(label);
            }
            None => {}
        }
        Ok(())
    }

    /// The label of a sample's picture.
    pub(super) fn label(&self, picture: &str) -> Option<&str> {
        self.0.get(split(picture).0).map(String::as_str)
    }
}

/// A sample's key and a file's extension, everything after the first dot of its name.
fn split(name: &str) -> (&str, &str) {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[start..].find('.') {
        Some(dot) => (&name[..start + dot], &name[start + dot + 1..]),
        None => (name, ""),
    }
}

fn in_json(text: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    MEMBERS.iter().find_map(|member| {
        let label = value.get(member)?;
        let text = label.as_str().map(|label| label.trim().to_owned());
        text.or_else(|| label.is_number().then(|| label.to_string()))
    })
}
