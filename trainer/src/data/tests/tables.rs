//! Parquet files, written by the same crate in the layout of Hugging Face data sets, and by pyarrow.

use super::*;
use crate::data::SourceKind;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::sync::Arc;

const SCHEMA: &str =
    "message data { optional group image { optional binary bytes; optional binary path (UTF8); }
    optional int64 label; }";
const FEATURES: &str = r#"{"info": {"features": {"image": {"_type": "Image"},
    "label": {"_type": "ClassLabel", "names": ["heron", "swan"]}}}}"#;

/// A column's values and the definition level of those that are there.
enum Column {
    Binary(Vec<Option<Vec<u8>>>, i16),
    Numbers(Vec<Option<i64>>, i16),
}

/// Writes row groups of columns. Pages hold two rows, so that rows are looked for across pages.
fn write(
    path: &Path,
    schema: &str,
    features: Option<&str>,
    compression: Compression,
    groups: &[Vec<Column>],
) {
    let metadata =
        features.map(|features| vec![KeyValue::new("huggingface".to_owned(), features.to_owned())]);
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_data_page_row_count_limit(2)
        .set_write_batch_size(1)
        .set_key_value_metadata(metadata)
        .build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for columns in groups {
        let mut group = writer.next_row_group().unwrap();
        for column in columns {
            let mut out = group.next_column().unwrap().unwrap();
            match column {
                Column::Binary(values, level) => {
                    let levels: Vec<i16> =
                        values.iter().map(|value| if value.is_some() { *level } else { 0 }).collect();
                    let values: Vec<ByteArray> =
                        values.iter().flatten().cloned().map(ByteArray::from).collect();
                    out.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
                }
                Column::Numbers(values, level) => {
                    let levels: Vec<i16> =
                        values.iter().map(|value| if value.is_some() { *level } else { 0 }).collect();
                    let values: Vec<i64> = values.iter().flatten().copied().collect();
                    out.typed::<Int64Type>().write_batch(&values, Some(&levels), None).unwrap();
                }
            }
            out.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// Rows `first..first + 5`; the third has no picture, the fourth no name, the fifth a hidden label.
fn group(first: u8) -> Vec<Column> {
    let bytes = (first..first + 5).map(|row| (row % 5 != 2).then(|| picture("a.png", row))).collect();
    let names =
        (first..first + 5).map(|row| (row % 5 != 3).then(|| format!("{row}.png").into_bytes())).collect();
    let labels = [Some(0), Some(1), Some(5), None, Some(-1)].to_vec();
    vec![Column::Binary(bytes, 2), Column::Binary(names, 2), Column::Numbers(labels, 1)]
}

#[test]
fn rows_have_pictures_names_and_class_names() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("train-0.parquet");
    for compression in
        [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::try_new(3).unwrap())]
    {
        write(&path, SCHEMA, Some(FEATURES), compression, &[group(0), group(5)]);
        let set = open(path.clone(), &ROOMY).unwrap();
        assert!(set.in_memory());
        let expected = [
            ("00000000/0.png", "heron"),
            ("00000001/1.png", "swan"),
            ("00000003", "train-0"),
            ("00000004/4.png", "train-0"),
            ("00000005/5.png", "heron"),
            ("00000006/6.png", "swan"),
            ("00000008", "train-0"),
            ("00000009/9.png", "train-0"),
        ];
        assert_eq!(items(&set), expected);
        assert_eq!(levels(&set), [0, 1, 3, 4, 5, 6, 8, 9]);
        let skipped: Vec<&str> = set.skipped().iter().map(|skipped| skipped.name.as_str()).collect();
        assert_eq!(skipped, ["00000002/2.png", "00000007/7.png"]);
        assert!(set.skipped()[0].reason.contains("embed_external_files"), "{}", set.skipped()[0].reason);

        // Not held, so read row by row.
        let set = open(path.clone(), &TIGHT).unwrap();
        assert_eq!((set.len(), items(&set)[2].1), (10, "5"));
        for row in [9, 0, 6, 1, 5, 8, 3, 4] {
            assert_eq!(set.image(row).unwrap().pixels[0], row as u8);
        }
        assert!(set.image(2).is_err());
    }
}

#[test]
fn a_table_written_by_pyarrow_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parquet/pictures.parquet");
    for options in [ROOMY, TIGHT] {
        let set = open(path.clone(), &options).unwrap();
        let labels: Vec<&str> = items(&set).into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["heron", "swan", "heron", "pictures", "heron", "swan"]);
        assert_eq!(items(&set)[5].0, "00000005/5.png");
        assert_eq!(levels(&set), [0, 40, 80, 120, 160, 200]);
    }
}

#[test]
fn a_folder_of_tables_is_one_set_and_columns_are_found_by_name_and_type() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("birds/data");
    std::fs::create_dir_all(&folder).unwrap();
    let schema = "message data { required int64 id; optional binary jpg; optional binary class (UTF8); }";
    let words = |words: [&str; 2]| words.map(|word| Some(word.as_bytes().to_vec())).to_vec();
    for (file, level) in [("a.parquet", 10), ("b.parquet", 50)] {
        let pictures = vec![Some(picture("a.png", level)), Some(picture("a.png", level + 1))];
        let columns = vec![
            Column::Numbers(vec![Some(1), Some(2)], 0),
            Column::Binary(pictures, 1),
            Column::Binary(words(["swan", "heron"]), 1),
        ];
        write(&folder.join(file), schema, None, Compression::SNAPPY, &[columns]);
    }
    let set = open(root.path().join("birds"), &ROOMY).unwrap();
    assert_eq!(set.sources()[0].kind, SourceKind::Parquet(2));
    assert_eq!(items(&set)[2..], [("data/b.parquet/00000000", "swan"), ("data/b.parquet/00000001", "heron")]);
    assert_eq!(levels(&set), [10, 11, 50, 51]);
}

#[test]
fn a_table_without_pictures_names_its_columns() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("text.parquet");
    let schema = "message data { optional binary text (UTF8); optional int64 label; }";
    let columns = vec![Column::Binary(vec![Some(b"a".to_vec())], 1), Column::Numbers(vec![Some(1)], 1)];
    write(&path, schema, None, Compression::SNAPPY, &[columns]);
    let reason = open(path, &ROOMY).err().unwrap().to_string();
    assert!(reason.contains("text (BYTE_ARRAY), label (INT64)") && reason.contains("`image`"), "{reason}");
}

#[test]
fn damaged_tables_are_errors_and_damaged_pages_lose_their_pictures_only() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.parquet");
    write(&path, SCHEMA, Some(FEATURES), Compression::SNAPPY, &[group(0), group(5)]);
    let whole = std::fs::read(&path).unwrap();
    for length in [4, 100, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let reason = open(path.clone(), &ROOMY).err().unwrap().to_string();
        assert!(reason.contains("damaged Parquet file") && reason.contains("cut short"), "{reason}");
    }
    // The first group's pictures.
    let mut damaged = whole.clone();
    damaged[8..120].fill(0xff);
    std::fs::write(&path, damaged).unwrap();
    for options in [ROOMY, TIGHT] {
        let set = open(path.clone(), &options).unwrap();
        let last = set.len() - 1;
        assert_eq!(set.image(last).unwrap().pixels[0], 9);
        let lost = if set.in_memory() {
            set.skipped().len()
        } else {
            (0..5).filter(|row| set.image(*row).is_err()).count()
        };
        assert!((2..=6).contains(&lost), "{lost}");
    }
    // Every byte of the footer in turn: an error or a set, never a panic.
    let footer = whole.len() - 300..whole.len() - 8;
    for place in footer.step_by(3) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x55;
        std::fs::write(&path, damaged).unwrap();
        if let Ok(set) = open(path.clone(), &ROOMY) {
            assert!(set.len() <= 10);
        }
    }
}
