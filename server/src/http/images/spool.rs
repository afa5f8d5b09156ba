//! From the body of a call to a file: what is too large for memory, and what has to be read more than once.

use crate::http::extract::{body_problem, within_time};
use crate::http::problem::{Code, Problem};
use crate::http::state::{AppState, Services};
use crate::store::StoreError;
use axum::body::{Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use futures_util::StreamExt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};

/// Pieces of the body that wait for the disk.
const WAITING: usize = 16;

/// Receives a body within the limit, each piece in time. The file has no name and goes with its handle.
///
/// Cancel safety: dropping the future drops the file once the disk has taken what it was given.
pub(super) async fn receive(
    services: &Services,
    state: &AppState,
    request: Request,
) -> Result<File, Problem> {
    let limit = state.options().bulk_limit as u64;
    let announced = request.headers().get(header::CONTENT_LENGTH);
    match announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok()) {
        Some(0) => return Err(empty()),
        Some(length) if length > limit => return Err(too_large(limit, length)),
        _ => {}
    }
    if request.body().is_end_stream() {
        return Err(empty());
    }
    let file = services.learner.scratch_file().await?;
    let (pieces, waiting) = mpsc::channel(WAITING);
    let writing = spawn_blocking(move || write(file, waiting));
    let mut body = request.into_body().into_data_stream();
    let mut length = 0;
    while let Some(piece) = within_time(state, body.next()).await? {
        let piece: Bytes =
            piece.map_err(|error| body_problem(StatusCode::BAD_REQUEST, &error.to_string(), state))?;
        length += piece.len() as u64;
        if length > limit {
            return Err(too_large(limit, length));
        }
        if pieces.send(piece).await.is_err() {
            // The disk failed; it says so below.
            break;
        }
    }
    drop(pieces);
    let file = writing.await.map_err(|error| broke_off(&error))?.map_err(disk)?;
    if length == 0 { Err(empty()) } else { Ok(file) }
}

/// Writes pieces as they come and goes back to the beginning.
fn write(mut file: File, mut pieces: mpsc::Receiver<Bytes>) -> io::Result<File> {
    while let Some(piece) = pieces.blocking_recv() {
        file.write_all(&piece)?;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// The disk under the file failed.
pub(super) fn disk(source: io::Error) -> Problem {
    StoreError::Io { path: "a scratch file under the data directory".into(), source }.into()
}

/// A thread that worked on the file panicked, or the server ends.
pub(super) fn broke_off(error: &JoinError) -> Problem {
    tracing::error!(%error, "reading images broke off");
    Problem::new(
        Code::Internal,
        "Reading the images broke off. Look for this request id in the server's log.",
    )
}

fn empty() -> Problem {
    Problem::new(
        Code::EmptyBody,
        "The body is empty. With curl, `-T photos.zip` with `-X POST` sends a file.",
    )
}

fn too_large(limit: u64, actual: u64) -> Problem {
    Problem::new(
        Code::PayloadTooLarge,
        format!(
            "The body is larger than {limit} bytes. Split it, or start the server with a larger --bulk-limit."
        ),
    )
    .with_limit(limit, actual)
}
