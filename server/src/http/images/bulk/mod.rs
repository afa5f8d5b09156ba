//! Many images in one body: archives and NDJSON, read from a file.
//!
//! The file is gone through twice. First everything in it is counted, by what it says of itself and with nothing unpacked to
//! memory: what is damaged or beyond the limits is refused before an image of it is stored. Then a thread reads the images
//! and hands them over in batches, waiting for the encoder; at no time is more than three batches in memory.

mod lines;
mod tar;
mod zip;

use super::batch::Item;
use super::spool::disk;
use crate::http::payload::Input;
use crate::http::problem::{Code, Problem};
use crate::http::problem_from::{image_problem, too_many_images};
use crate::http::state::{AppState, Services};
use axum::body::Bytes;
use dozen_models::image::{Format, ImageError};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

/// A batch is full at so many bytes of images, whatever their number.
const BATCH_BYTES: usize = 16 << 20;

/// Bytes by which an image's format is recognised.
const HEAD: usize = 32;

/// A name from an archive is answered up to so many characters.
const LONGEST_NAME: usize = 255;

/// What a body with many images may be, by its Content-Type. Which archive it is its first bytes tell.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Archive,
    Lines,
}

impl Form {
    pub(super) fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines" => Some(Self::Lines),
            "application/zip"
            | "application/x-zip-compressed"
            | "application/x-tar"
            | "application/gzip"
            | "application/x-gzip"
            | "application/x-gtar"
            | "application/x-compressed-tar"
            | "application/zstd" => Some(Self::Archive),
            _ => None,
        }
    }
}

/// How many images there may be, and how large they are.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    images: usize,
    /// Bytes of everything, unpacked.
    bytes: u64,
    /// Bytes of one image.
    image: usize,
    /// Images of one batch.
    batch: usize,
}

impl Bounds {
    pub(super) fn of(services: &Services, state: &AppState) -> Self {
        let (http, engine) = (state.options(), services.engine.options());
        Self {
            images: http.max_bulk_images,
            bytes: http.bulk_limit as u64,
            image: engine.limits.max_bytes,
            batch: engine.max_batch_size.min(engine.max_queue),
        }
    }

    fn check_images(&self, images: usize) -> Result<(), Problem> {
        if images > self.images { Err(too_many_images(images, self.images)) } else { Ok(()) }
    }

    fn check_bytes(&self, bytes: u64) -> Result<(), Problem> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let limit = self.bytes;
        Err(Problem::new(
            Code::PayloadTooLarge,
            format!(
                "The archive unpacks to more than {limit} bytes. Split it, or start the server with a larger --bulk-limit."
            ),
        )
        .with_limit(limit, bytes))
    }
}

/// Checks the file, and starts to read it: its batches, and how the reading ended. Dropping the batches ends it.
pub(super) async fn open(
    form: Form,
    mut file: File,
    bounds: Bounds,
) -> Result<(mpsc::Receiver<Vec<Item>>, JoinHandle<Result<(), Problem>>), Problem> {
    let checking = spawn_blocking(move || {
        let container = Container::of(form, &mut file)?;
        container.check(&mut file, &bounds)?;
        file.seek(SeekFrom::Start(0)).map_err(disk)?;
        Ok::<_, Problem>((container, file))
    });
    let (container, file) = checking.await.map_err(|error| super::spool::broke_off(&error))??;
    let (sender, receiver) = mpsc::channel(1);
    Ok((receiver, spawn_blocking(move || container.read_batches(file, &bounds, &sender))))
}

/// What the file is.
#[derive(Clone, Copy)]
enum Container {
    Tar,
    TarGzip,
    TarZstd,
    Zip,
    Lines,
}

/// Takes images as they are read, until it breaks.
type Sink<'a> = &'a mut dyn FnMut(Item) -> ControlFlow<()>;

impl Container {
    fn of(form: Form, file: &mut File) -> Result<Self, Problem> {
        let mut head = [0; 512];
        let mut length = 0;
        while length < head.len() {
            match file.read(&mut head[length..]).map_err(disk)? {
                0 => break,
                read => length += read,
            }
        }
        file.seek(SeekFrom::Start(0)).map_err(disk)?;
        if matches!(form, Form::Lines) {
            return Ok(Self::Lines);
        }
        let head = &head[..length];
        if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
            Ok(Self::Zip)
        } else if head.starts_with(b"\x1f\x8b") {
            Ok(Self::TarGzip)
        } else if head.starts_with(b"\x28\xb5\x2f\xfd") {
            Ok(Self::TarZstd)
        } else if head.get(257..262) == Some(b"ustar") {
            Ok(Self::Tar)
        } else {
            Err(Problem::new(
                Code::UnsupportedMediaType,
                "The body is no archive, judged by its first bytes. Send a zip or tar file, or a tar file packed by gzip or zstd.",
            ))
        }
    }

    /// Refuses what is damaged or too much, without a change anywhere.
    fn check(self, file: &mut File, bounds: &Bounds) -> Result<(), Problem> {
        match self {
            Self::Zip => zip::check(file, bounds),
            Self::Lines => lines::check(BufReader::new(file), bounds),
            Self::Tar | Self::TarGzip | Self::TarZstd => tar::check(self.unpacked(file)?, bounds),
        }
    }

    fn read(self, file: &mut File, bounds: &Bounds, sink: Sink<'_>) -> Result<(), Problem> {
        match self {
            Self::Zip => zip::read(file, bounds, sink),
            Self::Lines => lines::read(BufReader::new(file), bounds, sink),
            Self::Tar | Self::TarGzip | Self::TarZstd => tar::read(self.unpacked(file)?, bounds, sink),
        }
    }

    fn unpacked<'f>(self, file: &'f mut File) -> Result<Box<dyn Read + 'f>, Problem> {
        let reader = BufReader::with_capacity(1 << 16, file);
        Ok(match self {
            Self::TarGzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
            Self::TarZstd => Box::new(::zstd::Decoder::with_buffer(reader).map_err(disk)?),
            Self::Tar | Self::Zip | Self::Lines => Box::new(reader),
        })
    }

    fn read_batches(
        self,
        mut file: File,
        bounds: &Bounds,
        batches: &mpsc::Sender<Vec<Item>>,
    ) -> Result<(), Problem> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        self.read(&mut file, bounds, &mut |item| {
            if let Ok(Input::Image(image)) = &item.input {
                bytes += image.len();
            }
            batch.push(item);
            if batch.len() < bounds.batch && bytes < BATCH_BYTES {
                return ControlFlow::Continue(());
            }
            bytes = 0;
            match batches.blocking_send(std::mem::take(&mut batch)) {
                Ok(()) => ControlFlow::Continue(()),
                // The caller has gone.
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        if !batch.is_empty() {
            let _ = batches.blocking_send(batch);
        }
        Ok(())
    }
}

/// The image in an archive's file, `size` bytes long by what the archive says. Only an image is read to its end.
fn image(reader: &mut impl Read, size: u64, index: usize, bounds: &Bounds) -> Result<Input, Problem> {
    let mut bytes = Vec::new();
    let mut take = |limit: u64, bytes: &mut Vec<u8>| {
        reader.take(limit).read_to_end(bytes).map_err(|error| not_unpacked(index, &error.to_string()))
    };
    take(HEAD as u64, &mut bytes)?;
    if bytes.is_empty() {
        return Err(image_problem(index, &ImageError::Empty));
    }
    if Format::sniff(&bytes).is_none() {
        return Err(image_problem(index, &ImageError::UnsupportedFormat));
    }
    if size > bounds.image as u64 {
        let bytes = usize::try_from(size).unwrap_or(usize::MAX);
        return Err(image_problem(index, &ImageError::TooManyBytes { bytes, limit: bounds.image }));
    }
    // One byte more would show that the archive says too little.
    let rest = (size + 1).saturating_sub(bytes.len() as u64);
    take(rest, &mut bytes)?;
    if bytes.len() as u64 > size {
        return Err(not_unpacked(index, &format!("it is longer than the {size} bytes the archive gives it")));
    }
    Ok(Input::Image(Bytes::from(bytes)))
}

/// A file of an archive that does not come out.
fn not_unpacked(index: usize, reason: &str) -> Problem {
    let detail = format!("it cannot be unpacked: {reason}");
    Problem::new(
        Code::UndecodableImage,
        format!("Image {index}: {detail}. Pack it again, or send it by itself."),
    )
    .at_image(index, detail)
}

/// A file's name as it is answered: for people, and never a path to anything.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(LONGEST_NAME).collect()
}

/// An archive that cannot be read, and where.
fn damaged(place: &str, reason: &str) -> Problem {
    Problem::new(
        Code::MalformedBody,
        format!(
            "The archive cannot be read {place}: {reason}. Nothing of it was stored; pack it again, or send it again, whole."
        ),
    )
}
