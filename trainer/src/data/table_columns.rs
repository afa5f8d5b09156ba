//! Which columns of a Parquet file hold pictures, names and labels.

use crate::Error;
use parquet::basic::{ConvertedType, Type as Physical};
use parquet::file::metadata::FileMetaData;
use parquet::schema::types::ColumnDescriptor;
use serde_json::Value;
use std::path::Path;

/// Leaf columns by number.
pub(super) struct Columns {
    /// The encoded pictures.
    pub(super) image: usize,
    /// The files they came from.
    pub(super) path: Option<usize>,
    /// Their labels.
    pub(super) labels: Option<Labels>,
}

/// A column of labels.
pub(super) struct Labels {
    pub(super) column: usize,
    pub(super) stored: Stored,
    /// What the numbers stand for, where the file says so.
    pub(super) names: Vec<String>,
}

/// How labels are stored.
#[derive(Clone, Copy)]
pub(super) enum Stored {
    Int32,
    Int64,
    Text,
}

impl Stored {
    fn of(leaf: &ColumnDescriptor) -> Option<Self> {
        let known = [
            (Physical::INT32, Self::Int32),
            (Physical::INT64, Self::Int64),
            (Physical::BYTE_ARRAY, Self::Text),
        ];
        let found = known.into_iter().find(|(physical, _)| *physical == leaf.physical_type());
        found.map(|(_, stored)| stored)
    }
}

/// Names of picture columns, in the order they are asked where the file does not say which it is.
const IMAGE_NAMES: [&str; 5] = ["image", "img", "picture", "photo", "jpg"];

/// Names of label columns, likewise.
const LABEL_NAMES: [&str; 6] = ["label", "labels", "class", "cls", "fine_label", "target"];

impl Columns {
    /// Looks for them: what the `huggingface` metadata declares, otherwise by name and type.
    pub(super) fn find(path: &Path, file: &FileMetaData) -> Result<Self, Error> {
        let features = features(file);
        let leaves = file.schema_descr().columns();
        let is_root = |leaf: &ColumnDescriptor, name: &str| leaf.path().parts()[0] == name;
        let pictures: Vec<(usize, &str)> = leaves
            .iter()
            .enumerate()
            .filter(|(_, leaf)| holds_pictures(leaf))
            .map(|(number, leaf)| (number, leaf.path().parts()[0].as_str()))
            .collect();
        let declared = |name: &str| features.get(name).is_some_and(|feature| feature["_type"] == "Image");
        let named = |wanted: &str| pictures.iter().find(|(_, name)| name.eq_ignore_ascii_case(wanted));
        let chosen = pictures.iter().find(|(_, name)| declared(name));
        let chosen =
            IMAGE_NAMES.iter().find_map(|name| named(name).filter(|(_, name)| declared(name))).or(chosen);
        let chosen = chosen.or_else(|| IMAGE_NAMES.iter().find_map(|name| named(name)));
        let Some(&(image, root)) = chosen.or(if pictures.len() == 1 { pictures.first() } else { None })
        else {
            let columns =
                leaves.iter().map(|leaf| format!("{} ({})", leaf.path().string(), leaf.physical_type()));
            return Err(Error::NoImageColumn { path: path.to_owned(), columns: columns.collect() });
        };
        let beside = leaves.iter().position(|leaf| {
            let is_text = leaf.physical_type() == Physical::BYTE_ARRAY && leaf.max_rep_level() == 0;
            is_text && is_root(leaf, root) && leaf.path().parts()[1..] == ["path"]
        });
        Ok(Self { image, path: beside, labels: labels(file, &features) })
    }
}

/// `{"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": […]}}`, or nothing.
fn features(file: &FileMetaData) -> Value {
    let stored = file.key_value_metadata().into_iter().flatten().find(|entry| entry.key == "huggingface");
    let parsed = stored.and_then(|entry| serde_json::from_str::<Value>(entry.value.as_deref()?).ok());
    parsed.map(|mut value| value["info"]["features"].take()).unwrap_or_default()
}

/// Binary, once per row, on its own or as the member `bytes` of a group.
fn holds_pictures(leaf: &ColumnDescriptor) -> bool {
    let parts = leaf.path().parts();
    let plain = leaf.converted_type() == ConvertedType::NONE && leaf.logical_type_ref().is_none();
    let placed = parts.len() == 1 || (parts.len() == 2 && parts[1] == "bytes");
    placed && plain && leaf.physical_type() == Physical::BYTE_ARRAY && leaf.max_rep_level() == 0
}

fn labels(file: &FileMetaData, features: &Value) -> Option<Labels> {
    let is_class = |name: &str| features.get(name).is_some_and(|feature| feature["_type"] == "ClassLabel");
    let candidates = || {
        file.schema_descr().columns().iter().enumerate().filter(|(_, leaf)| {
            let known = Stored::of(leaf).is_some();
            known && leaf.path().parts().len() == 1 && leaf.max_rep_level() == 0 && !holds_pictures(leaf)
        })
    };
    let named = |wanted: &str| candidates().find(|(_, leaf)| leaf.name().eq_ignore_ascii_case(wanted));
    let by_name = || LABEL_NAMES.iter().find_map(|name| named(name));
    let declared = by_name().filter(|(_, leaf)| is_class(leaf.name()));
    let declared = declared.or_else(|| candidates().find(|(_, leaf)| is_class(leaf.name())));
    let (column, leaf) = declared.or_else(by_name)?;
    let names = features.get(leaf.name()).and_then(|feature| feature["names"].as_array());
    let names = names.into_iter().flatten().map(|name| name.as_str().unwrap_or_default().to_owned());
    Some(Labels { column, stored: Stored::of(leaf)?, names: names.collect() })
}
