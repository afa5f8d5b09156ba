//! Parquet files with a column of encoded pictures, the layout of Hugging Face data sets.
//!
//! What fits the memory for encoded pictures is read at once. Of larger files only labels and names are, and a picture
//! costs reading and decompressing the page that holds it, for Parquet has no finer grain.

use super::find::{Found, Item, clean};
use super::location::{Budget, Location};
use super::table_columns::{Columns, Labels, Stored};
use crate::Error;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::serialized_reader::SerializedPageReader;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// First bytes of a Parquet file.
pub(super) const MAGIC: &[u8] = b"PAR1";

/// A file and its footer.
struct Table {
    path: PathBuf,
    metadata: ParquetMetaData,
    columns: Columns,
}

/// A picture in a table.
#[derive(Clone)]
pub(super) struct Row {
    table: Arc<Table>,
    group: usize,
    /// Within the group.
    place: usize,
}

/// The footer names thousands of offsets.
impl std::fmt::Debug for Row {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: group {}, row {}", self.table.path.display(), self.group, self.place)
    }
}

/// The pictures of a Parquet file.
pub(super) fn list(path: &Path, root_name: &str, budget: &mut Budget) -> Result<Found, Error> {
    let failed = |source| Error::Io { path: path.to_owned(), source };
    let file = Arc::new(File::open(path).map_err(failed)?);
    let length = file.metadata().map_err(failed)?.len();
    let damaged = |reason: String| Error::Unusable {
        path: path.to_owned(),
        reason: format!("is a damaged Parquet file, or was cut short ({reason}); fetch or make it again"),
    };
    let metadata = guarded(|| ParquetMetaDataReader::new().parse_and_finish(&*file)).map_err(damaged)?;
    // Every picture takes a byte at least: a footer that announces more rows lies, and lists are made from it.
    let rows = metadata.row_groups().iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(u64::MAX));
    let rows = rows.fold(0, u64::saturating_add);
    if rows > length {
        return Err(damaged(format!("it announces {rows} rows in {length} bytes")));
    }
    let columns = Columns::find(path, metadata.file_metadata())?;
    let table = Arc::new(Table { path: path.to_owned(), metadata, columns });
    let held = budget.try_take(table.image_bytes());
    let mut found = Vec::with_capacity(rows as usize);
    for group in 0..table.metadata.num_row_groups() {
        let labels = guarded(|| table.labels(&file, group)).map_err(damaged)?;
        let names = guarded(|| table.names(&file, group)).map_err(damaged)?;
        // A damaged page spoils its own pictures, not the file: each is named when it is read.
        let bytes = held.then(|| guarded(|| table.pictures(&file, group)).ok()).flatten();
        let mut bytes = bytes.unwrap_or_default().into_iter();
        for (place, (label, name)) in labels.into_iter().zip(names).enumerate() {
            let number = format!("{:08}", found.len());
            let name = name.map_or(number.clone(), |name| clean(&format!("{number}/{name}")));
            let item = Item { name, label: label.unwrap_or_else(|| root_name.to_owned()) };
            let location = match bytes.next().flatten() {
                Some(bytes) => Location::Memory(bytes.data().into()),
                None => Location::Row(Row { table: Arc::clone(&table), group, place }),
            };
            found.push((item, location));
        }
    }
    Ok(found)
}

impl Table {
    /// Size of the pictures, encoded.
    fn image_bytes(&self) -> u64 {
        let sizes = self.metadata.row_groups().iter().map(|group| {
            u64::try_from(group.column(self.columns.image).uncompressed_size()).unwrap_or(u64::MAX)
        });
        sizes.fold(0, u64::saturating_add)
    }

    fn rows(&self, group: usize) -> usize {
        self.metadata.row_group(group).num_rows() as usize
    }

    fn reader<T: DataType>(
        &self,
        file: &Arc<File>,
        group: usize,
        column: usize,
    ) -> Result<ColumnReaderImpl<T>, ParquetError> {
        let chunk = self.metadata.row_group(group).column(column);
        let pages = SerializedPageReader::new(Arc::clone(file), chunk, self.rows(group), None)?;
        Ok(ColumnReaderImpl::new(chunk.column_descr_ptr(), Box::new(pages)))
    }

    fn column<T: DataType>(
        &self,
        file: &Arc<File>,
        group: usize,
        column: usize,
    ) -> Result<Vec<Option<T::T>>, ParquetError> {
        let rows = self.rows(group);
        let values = take(&mut self.reader::<T>(file, group, column)?, rows, self.most_defined(column))?;
        if values.len() == rows {
            return Ok(values);
        }
        Err(ParquetError::General(format!("a column has {} of {rows} rows", values.len())))
    }

    /// The definition level of a value that is there.
    fn most_defined(&self, column: usize) -> i16 {
        self.metadata.file_metadata().schema_descr().column(column).max_def_level()
    }

    fn pictures(&self, file: &Arc<File>, group: usize) -> Result<Vec<Option<ByteArray>>, ParquetError> {
        self.column::<ByteArrayType>(file, group, self.columns.image)
    }

    fn names(&self, file: &Arc<File>, group: usize) -> Result<Vec<Option<String>>, ParquetError> {
        let Some(column) = self.columns.path else { return Ok(vec![None; self.rows(group)]) };
        let names = self.column::<ByteArrayType>(file, group, column)?;
        Ok(names
            .into_iter()
            .map(|name| name.map(|name| text(&name)).filter(|name| !name.is_empty()))
            .collect())
    }

    fn labels(&self, file: &Arc<File>, group: usize) -> Result<Vec<Option<String>>, ParquetError> {
        let Some(Labels { column, stored, names }) = &self.columns.labels else {
            return Ok(vec![None; self.rows(group)]);
        };
        // Test splits whose labels are kept secret have -1.
        let class = |number: i64| {
            let number = u64::try_from(number).ok()?;
            Some(names.get(number as usize).cloned().unwrap_or_else(|| number.to_string()))
        };
        Ok(match stored {
            Stored::Int32 => {
                let numbers = self.column::<Int32Type>(file, group, *column)?;
                numbers.into_iter().map(|number| class(i64::from(number?))).collect()
            }
            Stored::Int64 => {
                let numbers = self.column::<Int64Type>(file, group, *column)?;
                numbers.into_iter().map(|number| class(number?)).collect()
            }
            Stored::Text => {
                let words = self.column::<ByteArrayType>(file, group, *column)?;
                words.into_iter().map(|word| Some(text(&word?))).collect()
            }
        })
    }
}

impl Row {
    /// Reads the encoded picture.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        // A file of its own for each read: copies of a handle share their position, and many threads read.
        let file = Arc::new(File::open(&self.table.path)?);
        let column = self.table.columns.image;
        let read = guarded(|| {
            let mut reader = self.table.reader::<ByteArrayType>(&file, self.group, column)?;
            reader.skip_records(self.place)?;
            take(&mut reader, 1, self.table.most_defined(column))
        });
        let bytes = read.map_err(|reason| io::Error::other(format!("damaged Parquet page: {reason}")))?;
        bytes.into_iter().next().flatten().map(|bytes| bytes.data().to_owned()).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the row holds no picture; embed the files when writing the data set (embed_external_files=True)",
            )
        })
    }
}

/// The next `rows` values; `None` where there is none.
fn take<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    most_defined: i16,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    reader.read_records(rows, Some(&mut levels), None, &mut values)?;
    if most_defined == 0 {
        return Ok(values.into_iter().map(Some).collect());
    }
    let mut values = values.into_iter();
    Ok(levels.into_iter().map(|level| if level == most_defined { values.next() } else { None }).collect())
}

fn text(bytes: &ByteArray) -> String {
    String::from_utf8_lossy(bytes.data()).into_owned()
}

/// The reader is written for files from writers, and these come from anywhere: a panic must stay an error. Nothing
/// outlives one here, so nothing can be seen half-changed.
fn guarded<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the reader failed on it".to_owned()),
    }
}
