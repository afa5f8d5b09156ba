//! `dozen`: label a dozen images per class, classify the rest.
//!
//! The only crate that knows axum, tokio and SQL. `main.rs` is a thin shell around this library so that tests and the
//! OpenAPI generator can use it.

pub mod app;
mod catch_up;
pub mod config;
pub mod demo;
pub mod engine;
pub mod http;
pub mod jobs;
pub mod learn;
pub mod store;
pub mod telemetry;
