//! The calls the demo makes, as any HTTP client would.

use super::photos::Photo;
use anyhow::{Context, Result, bail};
use reqwest::multipart::{Form, Part};
use serde_json::Value;
use std::time::Duration;

/// Speaks to one server.
pub(super) struct Client {
    base: String,
    http: reqwest::Client,
}

/// The server's answer for one photo.
pub(super) struct Prediction {
    /// Best class; none where the photo is unlike all.
    pub(super) label: Option<String>,
    /// Its probability.
    pub(super) probability: f64,
    /// Nearest labelled example: its class and cosine.
    pub(super) nearest: Option<(String, f64)>,
}

impl Client {
    pub(super) fn new(base: &str) -> Self {
        Self { base: base.to_owned(), http: reqwest::Client::new() }
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Name and size of the model that serves.
    pub(super) async fn model(&self) -> Result<String> {
        let answer = self.ask(self.http.get(self.url("/info"))).await?;
        let model = &answer["model"];
        Ok(format!("model {}, {} dimensions", text(&model["name"])?, model["dimensions"]))
    }

    pub(super) async fn add_examples(&self, class: &str, photos: &[Photo]) -> Result<()> {
        self.ask(self.http.post(self.url(&format!("/classes/{class}/examples"))).multipart(form(photos)))
            .await?;
        Ok(())
    }

    pub(super) async fn classify(&self, photos: &[Photo]) -> Result<Vec<Prediction>> {
        let answer = self.ask(self.http.post(self.url("/classify")).multipart(form(photos))).await?;
        answer["data"].as_array().context("the answer has no data")?.iter().map(prediction).collect()
    }

    /// Puts photos into the pool, without labels.
    pub(super) async fn add_images(&self, photos: &[Photo]) -> Result<()> {
        self.ask(self.http.post(self.url("/images")).multipart(form(photos))).await?;
        Ok(())
    }

    /// Trains whatever suits best, waits for the job and says what it did.
    pub(super) async fn train(&self) -> Result<String> {
        let job = self.ask(self.http.post(self.url("/train"))).await?;
        let path = format!("/jobs/{}", text(&job["id"])?);
        loop {
            let job = self.ask(self.http.get(self.url(&path))).await?;
            match text(&job["status"])? {
                "succeeded" => {
                    let result = &job["result"];
                    let (method, reason) = (&result["metrics"]["method"], &result["metrics"]["reason"]);
                    return Ok(format!(
                        "{} head, version {} ({})",
                        text(method)?,
                        result["head_version"],
                        text(reason)?
                    ));
                }
                "queued" | "running" => tokio::time::sleep(Duration::from_millis(50)).await,
                ended => bail!("the training job {ended}: {}", job["error"]),
            }
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let response = request.send().await.context("the server does not answer")?;
        let status = response.status();
        let body: Value = response.json().await.context("the answer is not JSON")?;
        if !status.is_success() {
            bail!("{status}: {}", body["detail"].as_str().unwrap_or("no detail"));
        }
        Ok(body)
    }
}

fn form(photos: &[Photo]) -> Form {
    photos.iter().fold(Form::new(), |form, photo| {
        let part = Part::stream(photo.bytes.clone()).file_name(photo.name.clone());
        form.part("image", part)
    })
}

fn prediction(item: &Value) -> Result<Prediction> {
    let nearest = item["evidence"].get(0);
    Ok(Prediction {
        label: item["label"].as_str().map(str::to_owned),
        probability: item["probability"].as_f64().context("the answer has no probability")?,
        nearest: nearest
            .and_then(|near| Some((near["label"].as_str()?.to_owned(), near["similarity"].as_f64()?))),
    })
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("expected text, found {value}"))
}
