//! A running `dozen` of one's own.

use crate::{Reply, program};
use reqwest::blocking::multipart::{Form, Part};
use reqwest::blocking::{Client, RequestBuilder};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server process on a free port; killed when dropped.
pub struct Server {
    process: Child,
    /// `http://127.0.0.1:PORT`.
    pub base: String,
    /// A client with a generous timeout.
    pub http: Client,
}

impl Server {
    /// Starts on a data directory and waits until it is ready.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(data: &Path, flags: &[&str]) -> Self {
        let mut command = program("dozen");
        command.args(["--port", "0", "--data-dir"]).arg(data).args(flags);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("starting dozen");
        let output = process.stdout.take().expect("dozen's standard output");
        let mut lines = BufReader::new(output).lines();
        let base = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| address(&line))
            .expect("dozen ended before it printed its address");
        // Whatever it prints later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let http = Client::builder().timeout(Duration::from_mins(2)).build().expect("HTTP client");
        let server = Self { process, base, http };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !self.http.get(self.url("/readyz")).send().is_ok_and(|answer| answer.status().is_success()) {
            assert!(Instant::now() < deadline, "not ready after a minute");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Full URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Sends a request that must be answered.
    ///
    /// # Panics
    /// When the connection fails.
    #[track_caller]
    pub fn send(&self, request: RequestBuilder) -> Reply {
        Reply::read(request.send().expect("an answer")).expect("a whole answer")
    }

    /// `GET path`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.send(self.http.get(self.url(path)))
    }

    /// `POST path` without a body.
    #[track_caller]
    pub fn post(&self, path: &str) -> Reply {
        self.send(self.http.post(self.url(path)))
    }

    /// `DELETE path`.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Reply {
        self.send(self.http.delete(self.url(path)))
    }

    /// `POST path` with a JSON body.
    #[track_caller]
    pub fn post_json(&self, path: &str, body: &Value) -> Reply {
        self.send(self.http.post(self.url(path)).json(body))
    }

    /// `POST path` with a raw body of the given media type.
    #[track_caller]
    pub fn post_raw(&self, path: &str, media_type: &str, body: Vec<u8>) -> Reply {
        self.send(self.http.post(self.url(path)).header("content-type", media_type).body(body))
    }

    /// `POST path` with images as multipart form data.
    #[track_caller]
    pub fn post_images(&self, path: &str, images: &[Vec<u8>]) -> Reply {
        self.send(self.http.post(self.url(path)).multipart(image_form(images)))
    }

    /// Trains and waits for the job to end; the job as last seen.
    ///
    /// # Panics
    /// When it does not end within a minute.
    pub fn train(&self) -> Value {
        let job = self.post("/train").expect(202);
        self.wait_for_job(job["id"].as_str().unwrap_or_default())
    }

    /// Polls a job until it ends.
    ///
    /// # Panics
    /// When it does not end within a minute.
    pub fn wait_for_job(&self, id: &str) -> Value {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let job = self.get(&format!("/jobs/{id}")).expect(200);
            if !matches!(job["status"].as_str(), Some("queued" | "running")) {
                return job;
            }
            assert!(Instant::now() < deadline, "still {job}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the process at once, as a power cut would.
    ///
    /// # Panics
    /// When there is no process to kill.
    pub fn kill(mut self) {
        self.process.kill().expect("kill -9");
        self.process.wait().expect("the killed process");
    }

    /// Asks the process to end (SIGTERM) and waits; true if it ended cleanly.
    ///
    /// # Panics
    /// When the signal cannot be sent.
    pub fn stop(mut self) -> bool {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill").success());
        self.process.wait().expect("the stopped process").success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A form with one part `image` per image.
pub fn image_form(images: &[Vec<u8>]) -> Form {
    images
        .iter()
        .fold(Form::new(), |form, image| form.part("image", Part::bytes(image.clone()).file_name("image")))
}

/// The address in a line of output, without a path.
fn address(line: &str) -> Option<String> {
    let rest = &line[line.find("http://127.0.0.1:")?..];
    let host = rest.split(|end: char| end.is_whitespace() || end == '/').nth(2)?;
    Some(format!("http://{host}"))
}
