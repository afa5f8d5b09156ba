//! Puts the server together, runs it, and takes it apart again.

use crate::catch_up;
use crate::config::{Config, ConfigError};
use crate::engine::{Backend, Engine};
use crate::http::{self, AppState, Services};
use crate::learn::{LearnError, Learner};
use crate::telemetry::metrics as names;
use bytes::Bytes;
use dozen_models::{Budget, DeviceChoice, DtypeChoice, Encoder, EncoderInfo, ModelFiles};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Images embedded at a time when the encoder has changed.
const REEMBED_BATCH: usize = 64;
/// How long answers under way may take once the server shuts down.
const GRACE: Duration = Duration::from_secs(30);
/// The exporter keeps raw samples until told to sort them into buckets.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The flags do not fit together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The model cannot be used.
    #[error("the model cannot be loaded: {0}")]
    Model(#[from] dozen_models::Error),
    /// The data directory cannot be used.
    #[error("the data directory {path} cannot be opened: {source}")]
    Data {
        /// As given.
        path: std::path::PathBuf,
        /// Why.
        source: LearnError,
    },
    /// The address is taken or not of this machine.
    #[error("cannot listen on {address}: {source}; choose another --port (0 takes a free one) or --hostname")]
    Bind {
        /// As given.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The engine's threads did not start.
    #[error("the engine's threads cannot be started: {0}")]
    Threads(std::io::Error),
    /// The metrics recorder did not start.
    #[error("the metrics recorder cannot be installed: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// Loading broke off.
    #[error("loading the model broke off: {0}")]
    Loading(#[from] tokio::task::JoinError),
}

/// A server that answers.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// The loaded model.
    pub model: EncoderInfo,
    shutdown: CancellationToken,
    services: Services,
    serving: JoinHandle<()>,
    /// Embeds what the encoder has not seen of the pool.
    catching_up: JoinHandle<()>,
}

impl Running {
    /// Stops accepting, lets calls under way finish, drains the queue and closes the store.
    pub async fn shutdown(self) {
        self.shutdown.cancel();
        let mut serving = self.serving;
        if tokio::time::timeout(GRACE, &mut serving).await.is_err() {
            tracing::warn!(seconds = GRACE.as_secs(), "some calls did not end in time and are cut off");
            serving.abort();
        }
        let _ = self.catching_up.await;
        self.services.engine.shutdown().await;
        self.services.learner.close().await;
    }
}

/// Starts a server in this process and returns once it is ready.
///
/// It listens before the model is loaded, so that probes tell a slow start from a dead server; until it is ready it
/// answers calls with 503.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let address = config.address()?;
    let options = config.http_options()?;
    let recorder = names::recorder()?;
    let listener = TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, source })?;
    let address = listener.local_addr().map_err(|source| StartError::Bind { address, source })?;
    let shutdown = CancellationToken::new();
    // Until the server is handed over, any way out of this function stops what it has started.
    let stop_on_error = shutdown.clone().drop_guard();

    let upkeep = recorder.clone();
    let ended = shutdown.clone();
    tokio::spawn(async move {
        while tokio::time::timeout(METRICS_UPKEEP, ended.cancelled()).await.is_err() {
            upkeep.run_upkeep();
        }
    });
    let state = AppState::new(options, recorder, shutdown.clone());
    let router = http::router(&state, &config.cors_allow_origins);
    let stopped = shutdown.clone().cancelled_owned();
    let serving = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "the server ended");
        }
    });

    let services = open(&config).await?;
    let model = services.engine.info().clone();
    describe_build(&model);
    state.set_services(services.clone());
    stop_on_error.disarm();
    let Services { engine, learner } = services.clone();
    let catching_up = tokio::spawn(catch_up::run(engine, learner, shutdown.clone()));
    Ok(Running { address, model, shutdown, services, serving, catching_up })
}

/// Loads the model and opens the store, with every stored example embedded by this model.
async fn open(config: &Config) -> Result<Services, StartError> {
    let (folder, dtype) = (config.model.clone(), config.dtype);
    let encoder = tokio::task::spawn_blocking(move || load_encoder(folder.as_deref(), dtype)).await??;
    let learner =
        Learner::open(&config.data_dir, encoder.info()).await.map_err(|error| data_error(config, error))?;
    let backend: Arc<dyn Backend> = Arc::new(encoder);
    let engine = Engine::start(backend, config.engine_options()).map_err(StartError::Threads)?;
    reembed(&engine, &learner).await.map_err(|error| data_error(config, error))?;
    Ok(Services { engine, learner })
}

fn data_error(config: &Config, source: LearnError) -> StartError {
    StartError::Data { path: config.data_dir.clone(), source }
}

fn load_encoder(folder: Option<&Path>, dtype: DtypeChoice) -> Result<Encoder, dozen_models::Error> {
    let files = match folder {
        Some(folder) => ModelFiles::read(folder)?,
        None => ModelFiles::shipped(),
    };
    Encoder::load_as(&files, DeviceChoice::Auto, dtype)
}

/// Gives examples that another encoder embedded a vector of this one. Vectors of different encoders never meet, so the
/// server is not ready before.
async fn reembed(engine: &Engine, learner: &Learner) -> Result<(), LearnError> {
    let mut failed = HashSet::new();
    loop {
        // Those that failed before come again: ask for more than they are.
        let mut pending = learner.pending_embeddings(REEMBED_BATCH + failed.len()).await?;
        pending.retain(|(id, _)| !failed.contains(id));
        // A small queue takes them in smaller pieces.
        pending.truncate(engine.options().max_queue);
        if pending.is_empty() {
            return Ok(());
        }
        tracing::info!(examples = pending.len(), "embedding stored examples with the new encoder");
        let vectors = embed_stored(engine, pending, &mut failed).await;
        learner.set_embeddings(vectors).await?;
    }
}

/// Vectors of stored images; what fails is remembered in `failed`.
async fn embed_stored(
    engine: &Engine,
    pending: Vec<(String, Bytes)>,
    failed: &mut HashSet<String>,
) -> Vec<(String, Vec<f32>)> {
    let (ids, images): (Vec<String>, Vec<Bytes>) = pending.into_iter().unzip();
    let embedded = match engine.embed(images, Budget::default()).await {
        Ok(embedded) => embedded,
        Err(error) => {
            tracing::error!(%error, "stored examples cannot be embedded; they stay out of the answers");
            failed.extend(ids);
            return Vec::new();
        }
    };
    let mut vectors = Vec::with_capacity(ids.len());
    for (id, result) in ids.into_iter().zip(embedded) {
        match result {
            Ok(embedded) => vectors.push((id, embedded.embedding.vector)),
            Err(error) => {
                tracing::warn!(example = id, %error, "a stored example cannot be embedded; it stays out of the answers");
                failed.insert(id);
            }
        }
    }
    vectors
}

fn describe_build(model: &EncoderInfo) {
    metrics::gauge!(names::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    metrics::gauge!(
        names::MODEL_INFO,
        "model" => model.name.clone(), "id" => model.id.clone(),
        "dtype" => model.dtype.clone(), "device" => model.device.clone()
    )
    .set(1.0);
}
