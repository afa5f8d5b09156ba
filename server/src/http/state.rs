//! What handlers share.

use super::problem::{Code, Problem};
use crate::engine::Engine;
use crate::learn::Learner;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Bounds and rules of the HTTP surface.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Images in one call.
    pub max_client_batch_size: usize,
    /// Bytes of one request body.
    pub payload_limit: usize,
    /// Bytes of one archive or NDJSON body, as sent and unpacked.
    pub bulk_limit: usize,
    /// Images in one archive or NDJSON body.
    pub max_bulk_images: usize,
    /// Longest time a request body may take to arrive; of an archive or NDJSON body, each piece of it.
    pub body_timeout: Duration,
    /// Who may call.
    pub access: super::auth::Access,
}

/// What answers calls once the model is loaded and the store is open.
#[derive(Clone)]
pub struct Services {
    /// Images to vectors.
    pub engine: Engine,
    /// Vectors to classes.
    pub learner: Learner,
}

/// State of the router; cheap to clone. The services arrive later than the first request can: until then the health
/// endpoints answer and everything else is 503.
#[derive(Clone)]
pub struct AppState {
    shared: Arc<Shared>,
}

struct Shared {
    services: OnceLock<Services>,
    options: HttpOptions,
    recorder: PrometheusHandle,
    shutdown: CancellationToken,
}

impl AppState {
    /// State without services. Cancelling `shutdown` makes the server unready and ends event streams.
    pub fn new(options: HttpOptions, recorder: PrometheusHandle, shutdown: CancellationToken) -> Self {
        Self { shared: Arc::new(Shared { services: OnceLock::new(), options, recorder, shutdown }) }
    }

    /// From here on calls are answered. Only the first call has an effect.
    pub fn set_services(&self, services: Services) {
        let _ = self.shared.services.set(services);
    }

    /// The services, or why there are none.
    pub(super) fn services(&self) -> Result<&Services, Problem> {
        if self.shared.shutdown.is_cancelled() {
            let detail = "The server is shutting down. Try again when it is back.";
            return Err(Problem::new(Code::Draining, detail).retry_after(5));
        }
        self.shared.services.get().ok_or_else(|| {
            let detail = "The server is loading its model. `GET /readyz` tells when it is done.";
            Problem::new(Code::NotReady, detail).retry_after(2)
        })
    }

    pub(super) fn options(&self) -> &HttpOptions {
        &self.shared.options
    }

    pub(super) fn recorder(&self) -> &PrometheusHandle {
        &self.shared.recorder
    }

    pub(super) fn shutdown(&self) -> &CancellationToken {
        &self.shared.shutdown
    }
}

impl FromRequestParts<AppState> for Services {
    type Rejection = Problem;

    async fn from_request_parts(_parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        state.services().cloned()
    }
}
