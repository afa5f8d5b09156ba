//! Images to vectors under load: admission, decode pool, queue, batcher, one encoder thread with a pool of its own.
//!
//! An image is admitted by a permit of one semaphore, decoded and cropped on a bounded pool, queued, batched with
//! whatever else waits, and embedded on the one thread that owns the encoder. Nothing heavy ever runs on an async
//! worker. The permit lives until the *work* ends, even when the caller has left, so that what is admitted is what the
//! machine really has to do. A call that does not fit is refused at once with the time the queue needs to drain.

mod backend;
pub mod batcher;
mod decode;
mod drain;
mod patient;
mod worker;

pub use backend::Backend;

use crate::telemetry::metrics as names;
use bytes::Bytes;
use dozen_models::image::{Format, ImageError, Limits, Preprocessor};
use dozen_models::{Budget, Embedding, EncoderInfo};
use drain::DrainRate;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, TryAcquireError, oneshot};
use worker::{Message, Ticket};

/// One image's way through the engine, in the caller's order.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// Its vector.
    pub embedding: Embedding,
    /// Format the bytes were recognised as.
    pub format: Format,
    /// Where the time went.
    pub timings: Timings,
}

/// Where one image's time went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Waiting, for a decoder and for the encoder.
    pub queue: Duration,
    /// Decoding, resizing and cropping.
    pub decode: Duration,
    /// In the encoder, with the rest of its batch.
    pub infer: Duration,
}

/// Why the engine did not embed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// One image is bad; the others are fine.
    #[error("image {index}: {source}")]
    Image {
        /// Position in the call.
        index: usize,
        /// What is wrong with it.
        source: ImageError,
    },
    /// No room for these images now.
    #[error("the queue is full")]
    QueueFull {
        /// Time the queue needs to drain, from the measured rate.
        retry_after_seconds: u64,
    },
    /// More images in one call than fit the queue at all.
    #[error("{actual} images in one call, the limit is {limit}")]
    TooManyImages {
        /// Images in the call.
        actual: usize,
        /// Images the queue holds.
        limit: usize,
    },
    /// Waited too long.
    #[error("the deadline passed in the queue")]
    Deadline,
    /// The encoder failed or is shutting down.
    #[error("the encoder is not available: {reason}")]
    Unavailable {
        /// For the log, not for callers.
        reason: String,
    },
}

/// Sizes of the engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Images admitted at a time: waiting, decoding or in the encoder.
    pub max_queue: usize,
    /// Images per call of the encoder.
    pub max_batch_size: usize,
    /// Longest wait from admission to the encoder.
    pub queue_timeout: Duration,
    /// Threads that decode.
    pub decode_threads: usize,
    /// Threads that the encoder computes with.
    pub intra_threads: usize,
    /// Bounds on each image, checked before its pixels are decoded.
    pub limits: Limits,
}

/// Handle to the engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    info: EncoderInfo,
    preprocessor: Arc<Preprocessor>,
    options: EngineOptions,
    admission: Arc<Semaphore>,
    pool: rayon::ThreadPool,
    queue: SyncSender<Message>,
    rate: Arc<DrainRate>,
    draining: AtomicBool,
    encoder_thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Starts the decode pool and the encoder's threads.
    pub fn start(backend: Arc<dyn Backend>, options: EngineOptions) -> std::io::Result<Self> {
        let pool = threads("decode", options.decode_threads)?;
        let encoder_pool = threads("encode", options.intra_threads)?;
        // A place per permit, so that a decoder never blocks on the queue, and one for the final stop.
        let (queue, receiver) = sync_channel(options.max_queue + 1);
        let rate = Arc::new(DrainRate::new());
        let info = backend.info().clone();
        let preprocessor = Arc::new(backend.preprocessor().clone());
        let thread_rate = Arc::clone(&rate);
        let encoder_thread = std::thread::Builder::new()
            .name("encoder".to_owned())
            // On a thread of the pool: the encoder's own calls of it then start without waking another one first.
            .spawn(move || {
                encoder_pool
                    .install(move || worker::run(&*backend, &receiver, options.max_batch_size, &thread_rate));
            })?;
        let inner = Inner {
            info,
            preprocessor,
            options,
            admission: Arc::new(Semaphore::new(options.max_queue)),
            pool,
            queue,
            rate,
            draining: AtomicBool::new(false),
            encoder_thread: Mutex::new(Some(encoder_thread)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The loaded encoder.
    pub fn info(&self) -> &EncoderInfo {
        &self.inner.info
    }

    /// The sizes it was started with.
    pub fn options(&self) -> &EngineOptions {
        &self.inner.options
    }

    /// Images admitted and not yet done.
    pub fn depth(&self) -> usize {
        self.inner.options.max_queue.saturating_sub(self.inner.admission.available_permits())
    }

    /// Embeds images; every per-image failure is that image's own.
    ///
    /// Cancel safety: dropping the future drops images still queued; the admission permit lives until the work ends.
    pub async fn embed(
        &self,
        images: Vec<Bytes>,
        budget: Budget,
    ) -> Result<Vec<Result<Embedded, ImageError>>, EngineError> {
        let tickets = self.admit(images.len())?;
        let mut answers = Vec::with_capacity(images.len());
        for (bytes, (ticket, answer)) in images.into_iter().zip(tickets) {
            let queue = self.inner.queue.clone();
            let preprocessor = Arc::clone(&self.inner.preprocessor);
            let limits = self.inner.options.limits;
            self.inner
                .pool
                .spawn(move || decode::decode_one(&bytes, ticket, budget, &limits, &preprocessor, &queue));
            answers.push(answer);
        }
        let mut results = Vec::with_capacity(answers.len());
        for answer in answers {
            let gone = || EngineError::Unavailable { reason: "the encoder thread has ended".to_owned() };
            results.push(answer.await.map_err(|_| gone())??);
        }
        Ok(results)
    }

    /// A ticket and the other end of its reply channel for each image, or why there is no room.
    fn admit(&self, images: usize) -> Result<Vec<(Ticket, oneshot::Receiver<worker::Reply>)>, EngineError> {
        let inner = &*self.inner;
        if images > inner.options.max_queue {
            names::rejected("too_large", images);
            return Err(EngineError::TooManyImages { actual: images, limit: inner.options.max_queue });
        }
        if inner.draining.load(Ordering::Acquire) {
            return Err(EngineError::Unavailable { reason: "the server is shutting down".to_owned() });
        }
        let count = u32::try_from(images).unwrap_or(u32::MAX);
        let mut permits = match Arc::clone(&inner.admission).try_acquire_many_owned(count) {
            Ok(permits) => permits,
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                names::rejected("queue_full", images);
                // What has to leave before these fit: at most everything that is in.
                let excess = images.saturating_sub(inner.admission.available_permits());
                return Err(EngineError::QueueFull { retry_after_seconds: inner.rate.seconds_for(excess) });
            }
        };
        let admitted = Instant::now();
        let deadline = admitted + inner.options.queue_timeout;
        let mut tickets = Vec::with_capacity(images);
        while let Some(permit) = permits.split(1) {
            let (reply, answer) = oneshot::channel();
            tickets.push((Ticket { reply, permit, admitted, deadline }, answer));
        }
        Ok(tickets)
    }

    /// Refuses new images, waits until the admitted ones are done, and ends the encoder thread.
    pub async fn shutdown(&self) {
        let inner = &*self.inner;
        inner.draining.store(true, Ordering::Release);
        let all = u32::try_from(inner.options.max_queue).unwrap_or(u32::MAX);
        let _drained = inner.admission.acquire_many(all).await;
        let _ = inner.queue.send(Message::Stop);
        let thread = inner.encoder_thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// A pool of named threads.
fn threads(name: &'static str, count: usize) -> std::io::Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(count.max(1))
        .thread_name(move |number| format!("{name}-{number}"))
        .build()
        .map_err(std::io::Error::other)
}

#[cfg(test)]
pub(crate) mod tests;
