//! Names, buckets and the process's recorder. Base units, `_total` on counters, labels of low cardinality.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::{Mutex, PoisonError};

/// Histogram: request latency by method, route template and status.
pub const HTTP_REQUEST_DURATION_SECONDS: &str = "http_server_request_duration_seconds";
/// Gauge: requests being answered.
pub const HTTP_ACTIVE_REQUESTS: &str = "http_server_active_requests";
/// Counter: images by operation and outcome.
pub const IMAGES_TOTAL: &str = "dozen_images_total";
/// Gauge: images admitted and not yet done.
pub const QUEUE_DEPTH: &str = "dozen_queue_depth";
/// Histogram: a decoded crop's wait for the encoder.
pub const QUEUE_WAIT_SECONDS: &str = "dozen_queue_wait_seconds";
/// Histogram: crops per call of the encoder.
pub const BATCH_SIZE: &str = "dozen_batch_size";
/// Histogram: decode, resize and crop of one image by format.
pub const DECODE_SECONDS: &str = "dozen_decode_seconds";
/// Histogram: one call of the encoder.
pub const INFERENCE_SECONDS: &str = "dozen_inference_seconds";
/// Counter: images refused, by reason.
pub const REJECTED_TOTAL: &str = "dozen_rejected_total";
/// Counter: answers by whether the image was recognised.
pub const CLASSIFY_TOTAL: &str = "dozen_classify_total";
/// Gauge: live classes over all collections.
pub const CLASSES: &str = "dozen_classes";
/// Gauge: live examples over all collections.
pub const EXAMPLES: &str = "dozen_examples";
/// Gauge: live images over all pools, labelled or not.
pub const POOL_IMAGES: &str = "dozen_pool_images";
/// Gauge: jobs by state.
pub const JOBS: &str = "dozen_jobs";
/// Gauge, always 1: the loaded model.
pub const MODEL_INFO: &str = "dozen_model_info";
/// Gauge, always 1: this build.
pub const BUILD_INFO: &str = "dozen_build_info";

/// 1 ms to 20 min: requests that hit a cache and requests that wait for a slow disk are both visible.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
    1200.0,
];
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// The recorder is one per process by construction of the `metrics` crate; several servers in one process share it.
static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// Installs the recorder, or returns the one installed before.
pub fn recorder() -> Result<PrometheusHandle, BuildError> {
    let mut installed = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .set_buckets_for_metric(Matcher::Full(BATCH_SIZE.to_owned()), SIZES)?
        .install_recorder()?;
    describe();
    *installed = Some(handle.clone());
    Ok(handle)
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_histogram!(HTTP_REQUEST_DURATION_SECONDS, "Request latency by method, route and status.");
    describe_gauge!(HTTP_ACTIVE_REQUESTS, "Requests being answered.");
    describe_counter!(IMAGES_TOTAL, "Images by operation and outcome.");
    describe_gauge!(QUEUE_DEPTH, "Images admitted and not yet done.");
    describe_histogram!(QUEUE_WAIT_SECONDS, "A decoded image's wait for the encoder.");
    describe_histogram!(BATCH_SIZE, "Images per call of the encoder.");
    describe_histogram!(DECODE_SECONDS, "Decode, resize and crop of one image by format.");
    describe_histogram!(INFERENCE_SECONDS, "One call of the encoder.");
    describe_counter!(REJECTED_TOTAL, "Images refused, by reason.");
    describe_counter!(CLASSIFY_TOTAL, "Answers by whether the image was recognised.");
    describe_gauge!(CLASSES, "Live classes over all collections.");
    describe_gauge!(EXAMPLES, "Live examples over all collections.");
    describe_gauge!(POOL_IMAGES, "Live images over all pools, labelled or not.");
    describe_gauge!(JOBS, "Jobs by state.");
    describe_gauge!(MODEL_INFO, "Always 1; the labels name the loaded model.");
    describe_gauge!(BUILD_INFO, "Always 1; the label is this build's version.");
}

/// Counts refused images. Reasons: `queue_full`, `deadline`, `client_gone`, `too_large`, `bad_image`.
pub fn rejected(reason: &'static str, images: usize) {
    metrics::counter!(REJECTED_TOTAL, "reason" => reason).increment(images as u64);
}

/// Counts an operation's images by how they ended.
pub fn images(operation: &'static str, outcome: &'static str, count: usize) {
    if count > 0 {
        metrics::counter!(IMAGES_TOTAL, "op" => operation, "outcome" => outcome).increment(count as u64);
    }
}
