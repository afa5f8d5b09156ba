//! The encoder thread: drains the queue, forms batches, answers each image's caller.

use super::backend::Backend;
use super::batcher::Batcher;
use super::drain::DrainRate;
use super::{Embedded, EngineError, Timings};
use crate::telemetry::metrics as names;
use dozen_models::Budget;
use dozen_models::image::{Format, ImageError, RgbImage};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// The outer error fails the whole call, the inner one this image alone.
pub(super) type Reply = Result<Result<Embedded, ImageError>, EngineError>;

/// One admitted image: who waits for it, until when, and its place in the queue.
pub(super) struct Ticket {
    pub(super) reply: oneshot::Sender<Reply>,
    /// Held until the work ends, whether or not the caller still waits: admission counts work, not callers.
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) admitted: Instant,
    pub(super) deadline: Instant,
}

impl Ticket {
    /// Gives the place in the queue back, then answers; a caller that has gone is no error.
    pub(super) fn answer(self, reply: Reply) {
        drop(self.permit);
        let _ = self.reply.send(reply);
    }

    /// The ticket again, if its work is still worth doing.
    pub(super) fn if_wanted(self) -> Option<Self> {
        if self.reply.is_closed() {
            names::rejected("client_gone", 1);
            return None;
        }
        if Instant::now() >= self.deadline {
            names::rejected("deadline", 1);
            self.answer(Err(EngineError::Deadline));
            return None;
        }
        Some(self)
    }
}

/// A decoded image on its way to the encoder.
pub(super) struct Item {
    pub(super) ticket: Ticket,
    pub(super) crop: RgbImage,
    pub(super) format: Format,
    pub(super) budget: Budget,
    pub(super) decode: Duration,
    pub(super) decoded_at: Instant,
}

/// What travels to the encoder thread.
pub(super) enum Message {
    Item(Box<Item>),
    /// Nothing follows: the engine sends it only when every permit is back.
    Stop,
}

/// The thread's body: runs until [`Message::Stop`] or until every sender is gone.
pub(super) fn run(backend: &dyn Backend, queue: &Receiver<Message>, max_batch: usize, rate: &Arc<DrainRate>) {
    let mut batcher: Batcher<Budget, Item> = Batcher::new(max_batch);
    let mut idle_until = Instant::now();
    loop {
        // Wait only when nothing waits; then take whatever else has arrived meanwhile. No delay is added to fill a
        // batch: under load the queue fills while the encoder is busy, and without load waiting would only cost.
        if batcher.is_empty() {
            match queue.recv() {
                Ok(Message::Item(item)) => batcher.push(item.budget, *item),
                Ok(Message::Stop) | Err(_) => return,
            }
            idle_until = Instant::now();
        }
        while let Ok(Message::Item(item)) = queue.try_recv() {
            batcher.push(item.budget, *item);
        }
        if let Some((budget, items)) = batcher.next_batch() {
            let done = embed_batch(backend, &budget, items);
            if done > 0 {
                rate.record(done, idle_until.elapsed());
            }
            idle_until = Instant::now();
        }
    }
}

/// Embeds one batch and answers its callers; returns how many images went through the encoder.
fn embed_batch(backend: &dyn Backend, budget: &Budget, items: Vec<Item>) -> usize {
    let started = Instant::now();
    let mut crops = Vec::with_capacity(items.len());
    let mut callers = Vec::with_capacity(items.len());
    for Item { ticket, crop, format, decode, decoded_at, .. } in items {
        if let Some(ticket) = ticket.if_wanted() {
            let queue = (started - ticket.admitted).saturating_sub(decode);
            metrics::histogram!(names::QUEUE_WAIT_SECONDS).record((started - decoded_at).as_secs_f64());
            crops.push(crop);
            callers.push((ticket, format, Timings { queue, decode, infer: Duration::ZERO }));
        }
    }
    if crops.is_empty() {
        return 0;
    }
    metrics::histogram!(names::BATCH_SIZE).record(crops.len() as f64);

    let outcome = catch_unwind(AssertUnwindSafe(|| backend.embed(&crops, budget)))
        .unwrap_or_else(|panic| Err(format!("the encoder panicked: {}", panic_message(&*panic))));
    let infer = started.elapsed();
    let info = backend.info();
    metrics::histogram!(names::INFERENCE_SECONDS, "model" => info.name.clone(), "device" => info.device.clone())
        .record(infer.as_secs_f64());

    match outcome {
        Ok(embeddings) if embeddings.len() == callers.len() => {
            for ((ticket, format, timings), embedding) in callers.into_iter().zip(embeddings) {
                ticket.answer(Ok(Ok(Embedded { embedding, format, timings: Timings { infer, ..timings } })));
            }
        }
        Ok(embeddings) => {
            fail_batch(callers, &format!("{} vectors for {} crops", embeddings.len(), crops.len()));
        }
        Err(reason) => fail_batch(callers, &reason),
    }
    crops.len()
}

fn fail_batch(callers: Vec<(Ticket, Format, Timings)>, reason: &str) {
    tracing::error!(images = callers.len(), reason, "a batch failed in the encoder");
    for (ticket, _, _) in callers {
        ticket.answer(Err(EngineError::Unavailable { reason: reason.to_owned() }));
    }
}

/// The text of a panic, where it has one.
pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
