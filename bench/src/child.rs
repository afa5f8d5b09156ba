//! A program in a process of its own: it waits for a line, works, and answers with a line of JSON.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A running program; ends with its input when dropped.
pub(crate) struct Program {
    name: String,
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

/// What some training steps took and gave.
#[derive(Debug, Deserialize)]
pub(crate) struct Steps {
    /// Seconds of one step, on average, and of its parts.
    pub(crate) seconds: f64,
    pub(crate) forward: f64,
    pub(crate) backward: f64,
    pub(crate) update: f64,
    /// Processor seconds of all threads for one step; unlike the others, hardly changed by other programs.
    #[serde(skip)]
    pub(crate) processor: f64,
    /// Of every step.
    pub(crate) losses: Vec<f64>,
    /// Of every step: the encoder's, before clipping.
    pub(crate) gradient_norms: Vec<f64>,
}

#[derive(Deserialize)]
struct Matmul {
    multiply_adds_per_second: f64,
}

impl Program {
    /// Starts the program and waits for its first line.
    pub(crate) fn start<T: DeserializeOwned>(
        name: &str,
        command: &mut Command,
        threads: usize,
    ) -> Result<(Self, T)> {
        let threads = threads.to_string();
        for variable in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(variable, &threads);
        }
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        let input = process.stdin.take();
        let output = process.stdout.take().with_context(|| format!("{name} has no output"))?;
        let mut program =
            Self { name: name.to_owned(), process, input, output: BufReader::new(output).lines() };
        let ready = program.answer()?;
        Ok((program, ready))
    }

    /// Takes `count` more training steps.
    pub(crate) fn go(&mut self, count: usize) -> Result<Steps> {
        let before = self.processor_seconds()?;
        let mut steps: Steps = self.ask(&format!("go {count}"))?;
        steps.processor = (self.processor_seconds()? - before) / count as f64;
        Ok(steps)
    }

    /// User and system time so far.
    fn processor_seconds(&self) -> Result<f64> {
        /// Linux counts this many per second for programs, whatever the kernel's own clock.
        const TICKS: f64 = 100.0;
        let path = format!("/proc/{}/stat", self.process.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        // After the program's name, which may hold spaces, come the state and 10 more fields, then the two times.
        let fields = status.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks = fields.map(str::parse::<f64>).sum::<Result<f64, _>>();
        Ok(ticks.with_context(|| format!("{path} is not as expected"))? / TICKS)
    }

    /// Multiply-adds per second of a large matrix product.
    pub(crate) fn matrix_rate(&mut self) -> Result<f64> {
        Ok(self.ask::<Matmul>("matmul")?.multiply_adds_per_second)
    }

    /// The largest resident memory so far, in MiB.
    pub(crate) fn peak_memory(&self) -> Result<f64> {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        let kibibytes: f64 = peak.with_context(|| format!("{path} has no VmHWM"))?.trim().parse()?;
        Ok(kibibytes / 1024.0)
    }

    /// Hands it a line and waits for its answer.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, line: &str) -> Result<T> {
        let input = self.input.as_mut().with_context(|| format!("{} has no input", self.name))?;
        writeln!(input, "{line}").with_context(|| format!("{} takes no more input", self.name))?;
        self.answer()
    }

    fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let line = self.output.next().with_context(|| format!("{} ended early; see above", self.name))??;
        serde_json::from_str(&line).with_context(|| format!("{} answered `{line}`", self.name))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The end of its input ends the program.
        self.input = None;
        let _ = self.process.wait();
    }
}

/// How far two series of numbers agree: 1 less their largest relative difference.
pub(crate) fn agreement(ours: &[f64], theirs: &[f64]) -> Result<f64> {
    ensure!(ours.len() == theirs.len(), "{} numbers beside {}", ours.len(), theirs.len());
    let differences = ours.iter().zip(theirs).map(|(ours, theirs)| ((ours - theirs) / theirs).abs());
    // `max` would pass over NaN.
    let differences = differences.map(|one| if one.is_nan() { f64::INFINITY } else { one });
    Ok(1.0 - differences.fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_is_that_of_the_worst_pair() {
        let agree = |ours: &[f64]| agreement(ours, &[2.0, 4.0]).unwrap();
        assert!((agree(&[2.0, 4.0]) - 1.0).abs() < 1e-15);
        assert!((agree(&[2.02, 3.0]) - 0.75).abs() < 1e-12);
        assert!(agree(&[f64::NAN, 4.0]) < 0.0);
        assert!(agreement(&[1.0], &[]).is_err());
    }
}
