//! An HTTP answer, read to its end.

use reqwest::blocking::Response;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Status, headers and body of an answer.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// JSON body; a string when it is not JSON, null when empty.
    pub body: Value,
}

impl Reply {
    pub(crate) fn read(response: Response) -> reqwest::Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text()?;
        let body = match serde_json::from_str(&text) {
            Ok(value) => value,
            Err(_) if text.is_empty() => Value::Null,
            Err(_) => Value::String(text),
        };
        Ok(Self { status, headers, body })
    }

    /// The body, if the status is the expected one.
    ///
    /// # Panics
    /// On another status, with the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The body of a problem (RFC 9457), checked to be one that helps: media type, code, a detail in words.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        let media_type = self.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("");
        assert!(media_type.starts_with("application/problem+json"), "{media_type}: {}", self.body);
        assert_eq!(self.body["code"], code, "{}", self.body);
        assert_eq!(self.body["status"], status, "{}", self.body);
        for member in ["type", "title", "detail", "instance"] {
            let text = self.body[member].as_str().unwrap_or("");
            assert!(!text.is_empty(), "`{member}` is missing in {}", self.body);
        }
        self.body
    }
}
