//! Who may call: holders of a key, or, without keys, callers on this machine that are not foreign web pages.

use super::problem::{Code, Problem};
use super::state::AppState;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// Paths that stay open: probes have no keys, and the description of the API holds no secrets.
const OPEN: &[&str] = &["/livez", "/readyz", "/healthz", "/openapi.json", "/docs", "/problems"];

/// The rules of access. Holds hashes of keys, never keys.
#[derive(Clone, Default)]
pub struct Access {
    keys: Vec<blake3::Hash>,
    allowed_origins: Vec<String>,
    loopback_only: bool,
}

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Access")
            .field("keys", &self.keys.len())
            .field("allowed_origins", &self.allowed_origins)
            .field("loopback_only", &self.loopback_only)
            .finish()
    }
}

impl Access {
    /// `loopback_only`: the server listens on a loopback address and has not been told to serve anyone, so requests
    /// have to name a loopback host (a web page that points its own name at 127.0.0.1 does not).
    pub fn new<'a>(
        keys: impl IntoIterator<Item = &'a str>,
        allowed_origins: Vec<String>,
        loopback_only: bool,
    ) -> Self {
        let keys = keys.into_iter().map(|key| blake3::hash(key.as_bytes())).collect();
        Self { keys, allowed_origins, loopback_only }
    }

    /// Checks a request against the rules.
    fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
        if self.keys.is_empty() { self.check_origin(headers, uri) } else { self.check_key(headers) }
    }

    /// Takes the same time whichever key matches, and whether one does: hashes are compared in constant time, all of
    /// them.
    fn check_key(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let refused = |detail| Err(Problem::new(Code::Unauthorized, detail));
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return refused("This server asks for a key. Send `Authorization: Bearer KEY`.");
        };
        let Some(key) = value.to_str().ok().and_then(bearer) else {
            return refused("The `Authorization` header is not of the form `Bearer KEY`.");
        };
        let offered = blake3::hash(key.as_bytes());
        let known = self
            .keys
            .iter()
            .fold(Choice::from(0), |found, key| found | key.as_bytes().ct_eq(offered.as_bytes()));
        if known.into() { Ok(()) } else { refused("The key is not one of this server's keys.") }
    }

    /// Without keys every local program may call, but a web page must not: browsers let any page send forms and images
    /// to 127.0.0.1.
    fn check_origin(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
        let refused = |detail: String| Err(Problem::new(Code::OriginNotAllowed, detail));
        let host = headers
            .get(header::HOST)
            .and_then(|value| value.to_str().ok())
            .or_else(|| Some(uri.authority()?.as_str()));
        if self.loopback_only
            && let Some(host) = host
            && !is_loopback(host)
        {
            return refused(format!(
                "The server listens for this machine only, and was called as `{host}`. Call it as 127.0.0.1 or \
                 localhost, or start it with --api-key or --allow-unauthenticated."
            ));
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or_default();
        let own =
            host.is_some_and(|host| origin.split_once("://").is_some_and(|(_, authority)| authority == host));
        if own || self.allowed_origins.iter().any(|allowed| allowed == "*" || allowed == origin) {
            return Ok(());
        }
        refused(format!(
            "The origin `{origin}` may not call this server. Start it with --cors-allow-origin to let it."
        ))
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

/// `localhost`, `127.0.0.0/8` or `::1`, with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Refuses requests that the rules do not admit, before anything of their body is read.
pub(super) async fn require_access(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let open = OPEN
        .iter()
        .any(|&root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    if !open && let Err(problem) = state.options().access.check(request.headers(), request.uri()) {
        return problem.into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn verdict(access: &Access, pairs: &[(header::HeaderName, &str)]) -> Option<Code> {
        access.check(&headers(pairs), &Uri::from_static("/classify")).err().map(|problem| problem.code)
    }

    #[test]
    fn any_of_the_keys_opens_and_nothing_else_does() {
        let access = Access::new(["first", "second"], vec![], false);
        let with = |value: &str| verdict(&access, &[(header::AUTHORIZATION, value)]);
        assert_eq!(with("Bearer first"), None);
        assert_eq!(with("bearer second"), None);
        for wrong in ["Bearer third", "Bearer firs", "Bearer ", "first", "Basic first"] {
            assert_eq!(with(wrong), Some(Code::Unauthorized), "{wrong}");
        }
        assert_eq!(verdict(&access, &[]), Some(Code::Unauthorized));
        assert!(!format!("{access:?}").contains("first"));
    }

    #[test]
    fn web_pages_of_other_origins_are_refused_where_there_are_no_keys() {
        let access = Access::new([], vec!["https://label.example".to_owned()], true);
        let host = (header::HOST, "127.0.0.1:3000");
        let from = |origin| verdict(&access, &[host.clone(), (header::ORIGIN, origin)]);
        assert_eq!(verdict(&access, std::slice::from_ref(&host)), None, "curl sends no origin");
        assert_eq!(from("http://127.0.0.1:3000"), None, "the server's own pages");
        assert_eq!(from("https://label.example"), None, "an allowed origin");
        assert_eq!(from("https://evil.example"), Some(Code::OriginNotAllowed));
        assert_eq!(from("null"), Some(Code::OriginNotAllowed));
    }

    #[test]
    fn a_loopback_server_answers_to_loopback_names_only() {
        let access = Access::new([], vec![], true);
        let called = |host| verdict(&access, &[(header::HOST, host)]);
        for host in ["localhost", "LOCALHOST:3000", "127.0.0.1:3000", "127.8.9.1", "[::1]:3000"] {
            assert_eq!(called(host), None, "{host}");
        }
        for host in ["evil.example:3000", "127.0.0.1.evil.example", "192.168.1.2", "[2001:db8::1]:80"] {
            assert_eq!(called(host), Some(Code::OriginNotAllowed), "{host}");
        }
        assert_eq!(verdict(&Access::new([], vec![], false), &[(header::HOST, "photos.example")]), None);
    }
}
