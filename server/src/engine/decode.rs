//! From bytes to a crop, on the decode pool. Everything that can fail for one image fails here, for that image alone.

use super::worker::{Item, Message, Ticket, panic_message};
use crate::telemetry::metrics as names;
use bytes::Bytes;
use dozen_models::Budget;
use dozen_models::image::{Format, ImageError, Limits, Preprocessor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

/// Decodes and crops one image, then queues it or answers with what is wrong with it.
pub(super) fn decode_one(
    bytes: &Bytes,
    ticket: Ticket,
    budget: Budget,
    limits: &Limits,
    preprocessor: &Preprocessor,
    queue: &SyncSender<Message>,
) {
    let Some(ticket) = ticket.if_wanted() else { return };
    let started = Instant::now();
    // Decoders read hostile bytes; a panic in one is that image's failure, not the pool's.
    let outcome =
        catch_unwind(AssertUnwindSafe(|| preprocessor.decode_crop(bytes, limits))).unwrap_or_else(|panic| {
            tracing::error!(reason = panic_message(&*panic), "a decoder panicked");
            let format = Format::sniff(bytes).map_or("image", Format::media_type);
            Err(ImageError::Undecodable { format, reason: "the decoder gave up".to_owned() })
        });
    match outcome {
        Ok((crop, format)) => {
            let decode = started.elapsed();
            metrics::histogram!(names::DECODE_SECONDS, "format" => format.media_type())
                .record(decode.as_secs_f64());
            let item = Item { ticket, crop, format, budget, decode, decoded_at: Instant::now() };
            // The queue has a place per permit, so this never blocks; if the encoder thread has gone, dropping the
            // item drops its reply channel and the caller learns of it.
            let _ = queue.send(Message::Item(Box::new(item)));
        }
        Err(error) => {
            names::rejected(rejection_reason(&error), 1);
            ticket.answer(Ok(Err(error)));
        }
    }
}

fn rejection_reason(error: &ImageError) -> &'static str {
    match error {
        ImageError::TooManyBytes { .. }
        | ImageError::SideTooLong { .. }
        | ImageError::TooManyPixels { .. } => "too_large",
        ImageError::Empty | ImageError::UnsupportedFormat | ImageError::Undecodable { .. } => "bad_image",
    }
}
