//! Flags, each also an environment variable: `--max-queue 64` or `DOZEN_MAX_QUEUE=64`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::engine::EngineOptions;
use crate::http::HttpOptions;
use crate::http::auth::Access;
use dozen_models::DtypeChoice;
use dozen_models::image::Limits;

/// Everything the server can be told. Its `Debug` form is safe to log.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Address to listen on. Anything but loopback needs --api-key or --allow-unauthenticated
    #[arg(long, env = "DOZEN_HOSTNAME", default_value = "127.0.0.1")]
    pub hostname: String,

    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "DOZEN_PORT", default_value_t = 3000)]
    pub port: u16,

    /// Folder of the database and the stored images; created if absent
    #[arg(long, env = "DOZEN_DATA_DIR", default_value = "./dozen-data", value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Model folder with model.safetensors, config.json and preprocessor_config.json; the weights compiled into this
    /// program unless given
    #[arg(long, env = "DOZEN_MODEL", value_name = "DIR")]
    pub model: Option<PathBuf>,

    /// Type of the arithmetic: f32; int8 on CPUs that multiply bytes; bf16, f16 or tf32 on CUDA devices; auto takes the
    /// faster type if the vectors of calibration photos stay what they are (mean cosine 0.998, least 0.99)
    #[arg(long, env = "DOZEN_DTYPE", default_value = "auto", value_name = "TYPE")]
    pub dtype: DtypeChoice,

    /// Key that callers have to send as `Authorization: Bearer KEY`; repeat it or separate with commas for several
    #[arg(
        long = "api-key",
        env = "DOZEN_API_KEY",
        value_name = "KEY",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub api_keys: Vec<Secret>,

    /// File with one API key per line
    #[arg(long, env = "DOZEN_API_KEY_FILE", value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,

    /// Serve anyone who can reach the address, without a key
    #[arg(long, env = "DOZEN_ALLOW_UNAUTHENTICATED")]
    pub allow_unauthenticated: bool,

    /// Images admitted at a time over all calls; beyond it calls are answered with 429
    #[arg(long, env = "DOZEN_MAX_QUEUE", default_value_t = 512, value_parser = positive, value_name = "IMAGES")]
    pub max_queue: usize,

    /// Images per call of the encoder
    #[arg(long, env = "DOZEN_MAX_BATCH_SIZE", default_value_t = 32, value_parser = positive, value_name = "IMAGES")]
    pub max_batch_size: usize,

    /// Images in one request
    #[arg(long, env = "DOZEN_MAX_CLIENT_BATCH_SIZE", default_value_t = 128, value_parser = positive, value_name = "IMAGES")]
    pub max_client_batch_size: usize,

    /// Longest wait in the queue in milliseconds; beyond it calls are answered with 504
    #[arg(long, env = "DOZEN_QUEUE_TIMEOUT_MS", default_value_t = 30_000, value_name = "MS")]
    pub queue_timeout_ms: u64,

    /// Bytes of one request body
    #[arg(long, env = "DOZEN_PAYLOAD_LIMIT", default_value_t = 64 << 20, value_parser = positive, value_name = "BYTES")]
    pub payload_limit: usize,

    /// Bytes of one archive or NDJSON body of images, as sent and unpacked; it passes through a file under --data-dir
    #[arg(long, env = "DOZEN_BULK_LIMIT", default_value_t = 2 << 30, value_parser = positive, value_name = "BYTES")]
    pub bulk_limit: usize,

    /// Width × height of one image
    #[arg(long, env = "DOZEN_MAX_IMAGE_PIXELS", default_value_t = Limits::default().max_pixels, value_name = "PIXELS")]
    pub max_image_pixels: u64,

    /// Width or height of one image
    #[arg(long, env = "DOZEN_MAX_IMAGE_SIDE", default_value_t = Limits::default().max_side, value_name = "PIXELS")]
    pub max_image_side: u32,

    /// Threads that decode images; one per core unless given
    #[arg(long, env = "DOZEN_DECODE_THREADS", value_parser = positive, value_name = "THREADS")]
    pub decode_threads: Option<usize>,

    /// Threads that the encoder computes with; one per core unless given
    #[arg(long, env = "DOZEN_INTRA_THREADS", value_parser = positive, value_name = "THREADS")]
    pub intra_threads: Option<usize>,

    /// Log as JSON, one object per line
    #[arg(long, env = "DOZEN_JSON_OUTPUT")]
    pub json_output: bool,

    /// Log level (error, warn, info, debug, trace) or filter (`info,dozen=debug`)
    #[arg(long, env = "DOZEN_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,

    /// Origin whose web pages may call, such as `https://label.example`, or `*`; repeat it for several
    #[arg(
        long = "cors-allow-origin",
        env = "DOZEN_CORS_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub cors_allow_origins: Vec<String>,
}

/// Longest time a request body may take to arrive: a full payload at about 1 MB/s.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);

/// Images in one archive or NDJSON body: the answer names each of them.
const MOST_BULK_IMAGES: usize = 100_000;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not an address of this machine.
    #[error(
        "--hostname {hostname} is neither an IP address nor `localhost`; name the address to listen on, such as 127.0.0.1 or 0.0.0.0"
    )]
    Hostname {
        /// As given.
        hostname: String,
    },
    /// Open to the network without a key.
    #[error(
        "--hostname {hostname} can be reached from other machines, and there is no API key. Set one with --api-key KEY \
         (or DOZEN_API_KEY, or --api-key-file FILE), or say --allow-unauthenticated if anyone who reaches it may use it"
    )]
    Unprotected {
        /// As given.
        hostname: String,
    },
    /// An empty key would match an empty header.
    #[error("an API key is empty; leave it out or give it a value")]
    EmptyKey,
    /// The file of keys is not readable.
    #[error("the file of API keys {path} cannot be read: {source}")]
    KeyFile {
        /// As given.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of keys has none.
    #[error("the file of API keys {path} has no key; write one per line, or leave --api-key-file out")]
    KeyFileEmpty {
        /// As given.
        path: PathBuf,
    },
    /// More per call than the queue holds.
    #[error(
        "--max-client-batch-size {client} is above --max-queue {queue}: such a call could never be admitted; raise the queue or lower the call"
    )]
    ClientBatch {
        /// Images per request.
        client: usize,
        /// Images admitted.
        queue: usize,
    },
}

impl Config {
    /// The address to listen on.
    pub fn address(&self) -> Result<SocketAddr, ConfigError> {
        let address = match self.hostname.as_str() {
            "localhost" => IpAddr::from([127, 0, 0, 1]),
            other => other.trim_matches(['[', ']']).parse().map_err(|_| self.bad_hostname())?,
        };
        Ok(SocketAddr::new(address, self.port))
    }

    fn bad_hostname(&self) -> ConfigError {
        ConfigError::Hostname { hostname: self.hostname.clone() }
    }

    /// Who may call, or why the server must not start: open to the network, it needs a key or an explicit word.
    pub fn access(&self) -> Result<Access, ConfigError> {
        let mut keys = self.api_keys.clone();
        if let Some(path) = &self.api_key_file {
            keys.extend(keys_of(path)?);
        }
        if keys.iter().any(|key| key.0.is_empty()) {
            return Err(ConfigError::EmptyKey);
        }
        let loopback = self.address()?.ip().is_loopback();
        if !loopback && keys.is_empty() && !self.allow_unauthenticated {
            return Err(ConfigError::Unprotected { hostname: self.hostname.clone() });
        }
        let keys = keys.iter().map(|key| key.0.as_str());
        Ok(Access::new(keys, self.cors_allow_origins.clone(), loopback && !self.allow_unauthenticated))
    }

    /// Callers have to send a key.
    pub fn has_keys(&self) -> bool {
        !self.api_keys.is_empty() || self.api_key_file.is_some()
    }

    /// Bounds and rules of the HTTP surface.
    pub fn http_options(&self) -> Result<HttpOptions, ConfigError> {
        if self.max_client_batch_size > self.max_queue {
            return Err(ConfigError::ClientBatch {
                client: self.max_client_batch_size,
                queue: self.max_queue,
            });
        }
        Ok(HttpOptions {
            max_client_batch_size: self.max_client_batch_size,
            payload_limit: self.payload_limit,
            bulk_limit: self.bulk_limit,
            max_bulk_images: MOST_BULK_IMAGES,
            body_timeout: BODY_TIMEOUT,
            access: self.access()?,
        })
    }

    /// Sizes of the engine.
    pub fn engine_options(&self) -> EngineOptions {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        EngineOptions {
            max_queue: self.max_queue,
            max_batch_size: self.max_batch_size,
            queue_timeout: Duration::from_millis(self.queue_timeout_ms),
            decode_threads: self.decode_threads.unwrap_or_else(cores),
            intra_threads: self.intra_threads.unwrap_or_else(cores),
            limits: Limits {
                max_side: self.max_image_side,
                max_pixels: self.max_image_pixels,
                ..Limits::default()
            },
        }
    }
}

fn keys_of(path: &Path) -> Result<Vec<Secret>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::KeyFile { path: path.to_owned(), source })?;
    let keys: Vec<Secret> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| Secret(line.to_owned()))
        .collect();
    if keys.is_empty() {
        return Err(ConfigError::KeyFileEmpty { path: path.to_owned() });
    }
    Ok(keys)
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it has to be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("it is not a whole number".to_owned()),
    }
}

/// A text that never shows itself.
#[derive(Clone)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        config: Config,
    }

    fn config(flags: &[&str]) -> Config {
        Flags::try_parse_from(std::iter::once(&"dozen").chain(flags)).unwrap().config
    }

    #[test]
    fn only_loopback_may_be_served_without_a_key_or_a_word() {
        assert!(config(&[]).access().is_ok());
        assert!(config(&["--hostname", "::1"]).access().is_ok());
        let open = config(&["--hostname", "0.0.0.0"]).access().unwrap_err();
        let text = open.to_string();
        assert!(text.contains("--api-key") && text.contains("--allow-unauthenticated"), "{text}");
        assert!(config(&["--hostname", "0.0.0.0", "--api-key", "k"]).access().is_ok());
        assert!(config(&["--hostname", "0.0.0.0", "--allow-unauthenticated"]).access().is_ok());
    }

    #[test]
    fn keys_come_from_flags_and_files_and_are_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        std::fs::write(&file, "three-secret\n\n four-secret \n").unwrap();
        let config =
            config(&["--api-key", "one-secret,two-secret", "--api-key-file", file.to_str().unwrap()]);
        let shown = format!("{config:?} {:?}", config.access().unwrap());
        assert!(!shown.contains("-secret"), "{shown}");
        assert!(shown.contains("keys: 4"), "{shown}");
        std::fs::write(&file, "\n").unwrap();
        assert!(matches!(config.access(), Err(ConfigError::KeyFileEmpty { .. })));
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(config.access(), Err(ConfigError::KeyFile { .. })));
    }

    #[test]
    fn unusable_values_are_refused() {
        assert!(matches!(config(&["--hostname", "nowhere"]).address(), Err(ConfigError::Hostname { .. })));
        assert!(matches!(config(&["--api-key", ""]).access(), Err(ConfigError::EmptyKey)));
        let tight = config(&["--max-queue", "8"]);
        assert!(matches!(tight.http_options(), Err(ConfigError::ClientBatch { client: 128, queue: 8 })));
        for flags in [["--max-queue", "0"], ["--max-batch-size", "-1"], ["--payload-limit", "many"]] {
            assert!(Flags::try_parse_from(std::iter::once("dozen").chain(flags)).is_err(), "{flags:?}");
        }
    }
}
