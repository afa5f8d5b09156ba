//! One photo through the whole server beside decoding and embedding it alone: what HTTP, admission, queue and batching add.

use crate::Options;
use crate::child::Program;
use crate::report::{Row, machine, median, write_documentation, write_json};
use crate::sides::Turn;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const QUICK_ROUNDS: usize = 5;
/// Seconds that one side's turn should take.
const TURN: f64 = 1.0;
const CASES: [(&str, &str); 2] = [("shipped", "shipped, 64 pixels"), ("vit-s-16", "ViT-S/16, 224 pixels")];

/// The programs; `cargo xtask bench serve` makes and names them.
#[derive(clap::Args)]
pub(crate) struct Programs {
    /// The models' example `bench_encoder`.
    #[arg(long, env = "DOZEN_BENCH_ENCODER", value_name = "FILE")]
    encoder: PathBuf,
    /// The server.
    #[arg(long, env = "DOZEN_BENCH_SERVER", value_name = "FILE")]
    server: PathBuf,
}

/// A server on a free port; ends when dropped.
struct Server {
    process: Child,
    connection: BufReader<TcpStream>,
}

/// Milliseconds of one photo.
struct Measurement {
    title: String,
    alone: f64,
    served: f64,
    /// Served over alone in the same round: median.
    ratio: f64,
}

pub(crate) fn run(options: &Options, programs: &Programs) -> Result<()> {
    let rounds = if options.quick { QUICK_ROUNDS } else { ROUNDS };
    let mut measurements = Vec::new();
    for ((case, title), dtype) in
        CASES.into_iter().flat_map(|case| ["f32", "int8"].map(|dtype| (case, dtype)))
    {
        measurements.push(measure(programs, case, &format!("{title}, {dtype}"), dtype, rounds)?);
    }
    let table = table(&measurements);
    println!("{table}");
    if let Some(path) = &options.json {
        let rows: Vec<Row> = measurements.iter().map(row).collect();
        write_json(path, &rows)?;
    }
    if !options.quick {
        write_documentation("serve", &table)?;
    }
    Ok(())
}

fn measure(programs: &Programs, case: &str, title: &str, dtype: &str, rounds: usize) -> Result<Measurement> {
    let exchange = tempfile::tempdir()?;
    let status = Command::new(&programs.encoder).arg("write").arg(exchange.path()).arg(case).status();
    ensure!(status.context("cannot start our side")?.success(), "our side could not write {case}");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new(&programs.encoder);
    command.arg("serve").arg(exchange.path()).arg("cpu").arg(dtype);
    let (mut program, _): (_, Value) = Program::start("our side", &mut command, threads)?;
    let mut server = Server::start(&programs.server, exchange.path(), dtype)?;
    let photo = std::fs::read(exchange.path().join("photo.jpg")).context("our side wrote no photo")?;

    let mut alone =
        |count: usize| Ok::<_, anyhow::Error>(program.ask::<Turn>(&format!("photo {count}"))?.seconds);
    alone(3)?;
    let count = ((TURN / alone(3)?) as usize).clamp(5, 2000);
    let mut served = || {
        let started = Instant::now();
        for _ in 0..count {
            server.embed(&photo)?;
        }
        Ok::<_, anyhow::Error>(started.elapsed().as_secs_f64() / count as f64)
    };
    served()?;
    let (mut of_alone, mut of_served) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        if round % 2 == 0 {
            of_alone.push(alone(count)?);
            of_served.push(served()?);
        } else {
            of_served.push(served()?);
            of_alone.push(alone(count)?);
        }
    }
    let ratio = median(of_served.iter().zip(&of_alone).map(|(served, alone)| served / alone).collect());
    let milliseconds = |seconds| 1e3 * median(seconds);
    Ok(Measurement {
        title: title.to_owned(),
        alone: milliseconds(of_alone),
        served: milliseconds(of_served),
        ratio,
    })
}

impl Server {
    fn start(program: &Path, exchange: &Path, dtype: &str) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["--port", "0", "--dtype", dtype, "--log-level", "error", "--data-dir"]);
        command.arg(exchange.join("data")).arg("--model").arg(exchange.join("model"));
        let mut process = command.stdout(Stdio::piped()).spawn().context("cannot start the server")?;
        let output = process.stdout.take().context("the server has no output")?;
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("http://")?.1.trim().to_owned()));
        let address = address.context("the server ended before it printed its address")?;
        // Whatever it prints later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let connection = TcpStream::connect(address.split('/').next().unwrap_or_default())?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(Duration::from_mins(1)))?;
        Ok(Self { process, connection: BufReader::new(connection) })
    }

    /// One call on the open connection.
    fn embed(&mut self, photo: &[u8]) -> Result<()> {
        let mut request = format!(
            "POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
            photo.len()
        )
        .into_bytes();
        request.extend(photo);
        self.connection.get_mut().write_all(&request)?;
        let mut line = String::new();
        self.connection.read_line(&mut line)?;
        ensure!(line.starts_with("HTTP/1.1 200"), "the server answered {line}");
        let mut length = 0;
        loop {
            line.clear();
            self.connection.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse()?;
            }
        }
        let mut answer = vec![0; length];
        self.connection.read_exact(&mut answer)?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn table(measurements: &[Measurement]) -> String {
    let mut text = format!(
        "{}; milliseconds of a JPEG of 500×375 pixels, medians of {ROUNDS} interleaved rounds, one caller on one connection.\n\n\
         | | decoded and embedded alone | `POST /embed` | ratio |\n|---|---:|---:|---:|\n",
        machine()
    );
    for Measurement { title, alone, served, ratio } in measurements {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {title} | {alone:.2} | {served:.2} | **{ratio:.2}** |");
    }
    text.push('\n');
    text
}

fn row(measured: &Measurement) -> Row {
    Row {
        bench: "serve",
        case: format!("{}, one JPEG of 500×375", measured.title),
        unit: "milliseconds",
        ours: measured.served,
        peer: "decoded and embedded alone".into(),
        peer_value: measured.alone,
        ratio: 1.0 / measured.ratio,
        agreement: 1.0,
    }
}
