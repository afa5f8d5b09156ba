//! `GET /jobs/{job}/events`: a job's events as a stream that can be resumed, or as a list.

use super::extract::PathParams;
use super::jobs::{JobPath, JobStatus};
use super::problem::{Code, Problem};
use super::responses::{CommonProblems, NotFound};
use super::state::{AppState, Services};
use crate::jobs::{JobEvent, Jobs};
use crate::learn::LearnError;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use serde::Serialize;
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

/// How long a client waits before it resumes a broken stream.
const RETRY: Duration = Duration::from_secs(3);
/// Silence after which a comment keeps proxies from closing the stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A job's events so far.
#[derive(Serialize, ToSchema)]
pub(super) struct EventList {
    /// In order.
    pub data: Vec<JobEventItem>,
}

/// One event of a job.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"id": 2, "event": "progress", "data": {"progress": 0.5}}))]
pub(super) struct JobEventItem {
    /// Counts from 1 within the job; what `Last-Event-ID` resumes after.
    pub id: i64,
    /// `progress`, `metric`, `log` or `done`.
    pub event: String,
    /// What happened.
    pub data: Value,
}

/// Follow a job
///
/// Server-sent events: first those so far, then live ones, until the job ends and the stream closes. `Last-Event-ID`
/// resumes after an event. With `Accept: application/json` the events so far are answered as a list instead.
#[utoipa::path(
    get, path = "/jobs/{job}/events", tag = "training",
    params(("job" = String, Path, description = "Id of the job"),
        ("last-event-id" = Option<i64>, Header, description = "Id of the last event that was seen")),
    responses(
        (status = 200, description = "The events", content(
            (String = "text/event-stream", example = "id: 2\nevent: progress\ndata: {\"progress\":0.5}\n\n"),
            (EventList = "application/json"))),
        (status = 406, description = "Neither form is acceptable", body = Problem, content_type = "application/problem+json"),
        CommonProblems, NotFound
    )
)]
pub(super) async fn job_events(
    services: Services,
    State(state): State<AppState>,
    PathParams(path): PathParams<JobPath>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = last_event_id(&headers)?;
    let jobs = services.learner.jobs();
    let form = Form::accepted(&headers)?;
    // Subscribed before the replay, so that no event falls between the two.
    let live = jobs.subscribe();
    let past = jobs.events_after(&path.job, after).await?;
    Ok(match form {
        Form::List => {
            let item =
                |event: JobEvent| JobEventItem { id: event.sequence, event: event.kind, data: event.data };
            Json(EventList { data: past.into_iter().map(item).collect() }).into_response()
        }
        Form::Stream => {
            let follow =
                Follow { jobs, job: path.job, last: after, live, shutdown: state.shutdown().clone() };
            let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
            Sse::new(follow.stream(past)).keep_alive(keep_alive).into_response()
        }
    })
}

enum Form {
    Stream,
    List,
}

impl Form {
    fn accepted(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(accept) = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()) else {
            return Ok(Self::Stream);
        };
        let named = |media_type: &str| {
            accept
                .split(',')
                .any(|range| range.split(';').next().is_some_and(|range| range.trim() == media_type))
        };
        if named("application/json") && !named("text/event-stream") {
            Ok(Self::List)
        } else if ["text/event-stream", "text/*", "*/*"].into_iter().any(named) {
            Ok(Self::Stream)
        } else {
            Err(Problem::new(
                Code::NotAcceptable,
                "Events come as `text/event-stream` or `application/json`. Name one of them in `Accept`.",
            ))
        }
    }
}

fn last_event_id(headers: &HeaderMap) -> Result<i64, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(0) };
    value.to_str().ok().and_then(|text| text.trim().parse().ok()).filter(|&id| id >= 0).ok_or_else(|| {
        Problem::new(
            Code::InvalidQuery,
            "`Last-Event-ID` is not a number. Send the `id` of the last event that was seen.",
        )
    })
}

/// One caller's view of one job.
struct Follow {
    jobs: Jobs,
    job: String,
    last: i64,
    live: Receiver<(String, JobEvent)>,
    shutdown: CancellationToken,
}

impl Follow {
    /// The past, then what comes, until the job ends, the server shuts down or the store fails; then the client resumes.
    fn stream(mut self, past: Vec<JobEvent>) -> impl Stream<Item = Result<Event, Infallible>> {
        async_stream::stream! {
            yield Ok(Event::default().retry(RETRY));
            let mut news = Some(past);
            while let Some(events) = news {
                for event in events {
                    self.last = event.sequence;
                    yield Ok(as_sse(&event));
                }
                news = match self.next().await {
                    Ok(news) => news,
                    Err(error) => {
                        tracing::error!(%error, job = self.job, "an event stream broke off");
                        None
                    }
                };
            }
        }
    }

    /// Events not yet seen, in order; `None` when none will follow.
    async fn next(&mut self) -> Result<Option<Vec<JobEvent>>, LearnError> {
        // The state is read first: what was stored before a terminal state is complete.
        let status = JobStatus::from(self.jobs.get(&self.job).await?.status);
        let stored = self.jobs.events_after(&self.job, self.last).await?;
        if !stored.is_empty() {
            return Ok(Some(stored));
        }
        if status.is_terminal() {
            return Ok(None);
        }
        loop {
            let received = tokio::select! {
                () = self.shutdown.cancelled() => return Ok(None),
                received = self.live.recv() => received,
            };
            match received {
                Ok((job, event)) if job == self.job && event.sequence > self.last => {
                    return Ok(Some(vec![event]));
                }
                Ok(_) => {}
                // The store is the replay buffer: what the channel dropped is read again from there.
                Err(RecvError::Lagged(_)) => {
                    return self.jobs.events_after(&self.job, self.last).await.map(Some);
                }
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }
}

fn as_sse(event: &JobEvent) -> Event {
    // `Value` displays as JSON on one line.
    Event::default().id(event.sequence.to_string()).event(&event.kind).data(event.data.to_string())
}
