//! A server in this process: the real router, engine and store; the encoder answers a crop's first colour.

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dozen::engine::{Backend, Engine, EngineOptions};
use dozen::http::auth::Access;
use dozen::http::{AppState, HttpOptions, Services, router};
use dozen::learn::Learner;
use dozen::telemetry::metrics;
use dozen_models::image::{Filter, Limits, Preprocessor, Resize, RgbImage};
use dozen_models::{Budget, Embedding, EncoderInfo};
use serde_json::Value;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Length of the stand-in's vectors.
pub(crate) const DIMENSIONS: usize = 4;

/// Answers the unit vector along (red, green, blue, 32) of a crop's first pixel; panics on pure black; waits for a word
/// before each batch if given a gate.
struct FirstColour {
    info: EncoderInfo,
    preprocessor: Preprocessor,
    gate: Option<Mutex<mpsc::Receiver<()>>>,
}

impl Backend for FirstColour {
    fn info(&self) -> &EncoderInfo {
        &self.info
    }
    fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }
    fn embed(&self, crops: &[RgbImage], _budget: &Budget) -> Result<Vec<Embedding>, String> {
        if let Some(gate) = &self.gate {
            gate.lock().unwrap().recv().map_err(|error| error.to_string())?;
        }
        let embedding = |crop: &RgbImage| Embedding {
            vector: colour_vector(crop.pixels[0], crop.pixels[1], crop.pixels[2]),
            keep: 1.0,
            spread: None,
        };
        Ok(crops.iter().map(embedding).collect())
    }
}

/// What the stand-in answers for a picture of one colour.
pub(crate) fn colour_vector(red: u8, green: u8, blue: u8) -> Vec<f32> {
    assert!((red, green, blue) != (0, 0, 0), "the stand-in panics on black");
    let vector = [red, green, blue, 32].map(f32::from);
    let length = vector.iter().map(|component| component * component).sum::<f32>().sqrt();
    vector.iter().map(|component| component / length).collect()
}

pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) state: AppState,
    pub(crate) services: Services,
    pub(crate) shutdown: CancellationToken,
    _data: TempDir,
}

/// How a test's server differs from the usual one.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) keys: Vec<&'static str>,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) max_queue: Option<usize>,
    pub(crate) gate: Option<mpsc::Receiver<()>>,
    /// Leave the services out, as while the model loads.
    pub(crate) loading: bool,
}

impl Server {
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let data = tempfile::tempdir().unwrap();
        let info = EncoderInfo {
            name: "first-colour".to_owned(),
            id: "first-colour-1".to_owned(),
            dimensions: DIMENSIONS,
            image_size: 4,
            patch_size: 2,
            parameters: 0,
            device: "cpu".to_owned(),
            dtype: "f32".to_owned(),
            agreement: None,
        };
        let preprocessor = Preprocessor {
            resize: Resize::Squash { size: 4 },
            filter: Filter::Bilinear,
            mean: [0.0; 3],
            std: [1.0; 3],
        };
        let learner = Learner::open(data.path(), &info).await.unwrap();
        let backend = FirstColour { info, preprocessor, gate: setup.gate.map(Mutex::new) };
        let options = EngineOptions {
            max_queue: setup.max_queue.unwrap_or(512),
            max_batch_size: 8,
            queue_timeout: Duration::from_secs(30),
            decode_threads: 1,
            intra_threads: 1,
            limits: Limits { max_bytes: 1 << 20, max_side: 2000, max_pixels: 1_000_000 },
        };
        let engine = Engine::start(Arc::new(backend), options).unwrap();
        let http = HttpOptions {
            max_client_batch_size: 128,
            payload_limit: 2 << 20,
            bulk_limit: 4 << 20,
            max_bulk_images: 200,
            body_timeout: Duration::from_secs(10),
            access: Access::new(setup.keys, setup.cors_origins.clone(), false),
        };
        let shutdown = CancellationToken::new();
        let state = AppState::new(http, metrics::recorder().unwrap(), shutdown.clone());
        let services = Services { engine, learner };
        if !setup.loading {
            state.set_services(services.clone());
        }
        let router = router(&state, &setup.cors_origins);
        Self { router, state, services, shutdown, _data: data }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, content_type: &str, body: impl Into<Body>) -> Answer {
        let request =
            Request::post(path).header(header::CONTENT_TYPE, content_type).body(body.into()).unwrap();
        self.send(request).await
    }

    pub(crate) async fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        self.send(request).await
    }

    /// A form with one part `image` per picture.
    pub(crate) async fn form(&self, path: &str, pictures: &[Bytes], options: Option<&str>) -> Answer {
        let parts: Vec<_> = pictures.iter().map(|bytes| ("image", bytes.clone())).collect();
        self.post(path, FORM, form_body(&parts, options)).await
    }

    /// Adds pictures of one colour each as examples.
    pub(crate) async fn teach(&self, class: &str, colours: &[(u8, u8, u8)]) {
        let pictures: Vec<Bytes> =
            colours.iter().map(|&(red, green, blue)| picture(red, green, blue)).collect();
        let answer = self.form(&format!("/classes/{class}/examples"), &pictures, None).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.value());
    }

    /// Reds and blues, a few of each.
    pub(crate) async fn teach_two_classes(&self) {
        self.teach("red", &[(200, 10, 10), (220, 30, 20), (250, 5, 40)]).await;
        self.teach("blue", &[(10, 10, 200), (30, 20, 220), (5, 40, 250)]).await;
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| Value::String(self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The answer as (status, problem code).
    pub(crate) fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let value = self.value();
        assert_eq!(value["status"], self.status.as_u16());
        assert_eq!(value["instance"], self.header("x-request-id"));
        assert!(value["detail"].as_str().unwrap().len() > 20, "a problem says what to do: {value}");
        (self.status.as_u16(), value["code"].as_str().unwrap().to_owned())
    }
}

/// Content-Type of [`form_body`].
pub(crate) const FORM: &str = "multipart/form-data; boundary=edge";

/// A form's bytes.
pub(crate) fn form_body(parts: &[(&str, Bytes)], options: Option<&str>) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, bytes) in parts {
        let head =
            format!("--edge\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"a.bmp\"\r\n\r\n");
        body.extend(head.as_bytes());
        body.extend(bytes);
        body.extend(b"\r\n");
    }
    if let Some(options) = options {
        body.extend(
            format!("--edge\r\ncontent-disposition: form-data; name=\"options\"\r\n\r\n{options}\r\n")
                .as_bytes(),
        );
    }
    body.extend(b"--edge--\r\n");
    body
}

/// A 4×4 BMP of one colour.
pub(crate) fn picture(red: u8, green: u8, blue: u8) -> Bytes {
    bmp(4, 4, &[blue, green, red].repeat(16))
}

/// A 24-bit BMP with the sizes in its header and the pixel bytes as given, right or not.
pub(crate) fn bmp(width: i32, height: i32, pixels: &[u8]) -> Bytes {
    let mut bytes = Vec::from(*b"BM");
    bytes.extend((54 + pixels.len() as u32).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(54u32.to_le_bytes());
    bytes.extend(40u32.to_le_bytes());
    bytes.extend(width.to_le_bytes());
    bytes.extend(height.to_le_bytes());
    bytes.extend(1u16.to_le_bytes());
    bytes.extend(24u16.to_le_bytes());
    bytes.extend([0; 24]);
    bytes.extend(pixels);
    bytes.into()
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(crate) fn from_base64(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

/// Two vectors agree to f32 rounding.
pub(crate) fn assert_close(actual: &Value, expected: &[f32]) {
    let actual: Vec<f64> = actual.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    assert_eq!(actual.len(), expected.len());
    for (a, &e) in actual.iter().zip(expected) {
        assert!((a - f64::from(e)).abs() < 1e-6, "{actual:?} is not {expected:?}");
    }
}
