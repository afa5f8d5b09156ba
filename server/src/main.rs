//! The `dozen` program: serves unless told otherwise.

use anyhow::{Context, Result};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use dozen::app::{self, Running};
use dozen::config::Config;
use dozen::demo::{self, DemoArguments};
use dozen::{http, telemetry};
use std::io::Write;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Small allocations of many threads are this program's profile: decoded crops, vectors, JSON.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Label a dozen images per class, classify the rest.
///
/// Without a command it serves. Every flag is also an environment variable, named in its help.
#[derive(Parser)]
#[command(name = "dozen", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: Config,
}

#[derive(Subcommand)]
enum Command {
    /// Show the whole loop on real photos: label a dozen per class, classify the rest, train, classify again
    Demo(DemoArguments),
    /// Print the API description (OpenAPI)
    Openapi,
}

fn main() -> ExitCode {
    match run(arguments()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "dozen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The command line. Flags are accepted before and after the command: `dozen demo --model DIR` is how people write it.
fn arguments() -> Arguments {
    let matches = Arguments::command().mut_args(|flag| flag.global(true)).get_matches();
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

#[tokio::main]
async fn run(Arguments { command, config }: Arguments) -> Result<()> {
    match command {
        Some(Command::Openapi) => {
            let document =
                http::openapi_document().to_pretty_json().context("writing the API description")?;
            writeln!(std::io::stdout(), "{document}").context("writing to standard output")
        }
        Some(Command::Demo(arguments)) => {
            // The demo's own lines are its output; the server behind it only speaks up when something is wrong.
            telemetry::logging::init("warn", config.json_output)?;
            demo::run(arguments, config).await
        }
        None => {
            telemetry::logging::init(&config.log_level, config.json_output)
                .context("--log-level is not a filter")?;
            serve(config).await
        }
    }
}

async fn serve(config: Config) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tracing::debug!(?config, "starting");
    let keyed = config.has_keys();
    let running = tokio::select! {
        running = app::start(config) => running?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    print_banner(&running, keyed).context("writing to standard output")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("shutting down: finishing calls under way");
    running.shutdown().await;
    Ok(())
}

/// The address, the model, and what to try next.
fn print_banner(running: &Running, keyed: bool) -> std::io::Result<()> {
    let Running { address, model, .. } = running;
    let key = if keyed { " -H \"Authorization: Bearer $KEY\"" } else { "" };
    let mut out = std::io::stdout().lock();
    writeln!(out, "dozen {} listens on http://{address}", env!("CARGO_PKG_VERSION"))?;
    writeln!(
        out,
        "model {}: {:.1} M parameters, {} dimensions, on {}",
        model.name,
        model.parameters as f64 / 1e6,
        model.dimensions,
        model.device
    )?;
    writeln!(out, "next:  curl{key} -F image=@photo.jpg http://{address}/classes/daisy/examples")?;
    writeln!(out, "then:  curl{key} -F image=@other.jpg http://{address}/classify")?;
    writeln!(out, "all of it: http://{address}/docs")?;
    out.flush()
}
