//! The process's own memory, time, threads and files, under Prometheus' conventional names. Linux only: elsewhere there is
//! no `/proc` and the metrics are absent.

use std::fs;

/// Clock ticks per second in `/proc/self/stat`; Linux fixes it at 100 for programs whatever the kernel's own rate.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the process's state and sets its gauges.
pub fn record() {
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        if let Some(kibibytes) = field(&status, "VmRSS:") {
            metrics::gauge!("process_resident_memory_bytes").set(kibibytes * 1024.0);
        }
        if let Some(threads) = field(&status, "Threads:") {
            metrics::gauge!("process_threads").set(threads);
        }
    }
    if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(processor_seconds) {
        metrics::counter!("process_cpu_seconds_total").absolute(seconds as u64);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        metrics::gauge!("process_open_fds").set(files.count() as f64);
    }
}

/// The number after a name in `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// User and system time of all threads, from `/proc/self/stat`.
fn processor_seconds(stat: &str) -> Option<f64> {
    // The program's name stands in parentheses and may hold anything; fields 14 and 15 are counted from 3 behind it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_program_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1000 10";
        assert_eq!(processor_seconds(stat), Some(3.0));
        assert_eq!(field("Name:\tdozen\nVmRSS:\t  2048 kB\nThreads:\t9\n", "VmRSS:"), Some(2048.0));
        assert_eq!(processor_seconds("nonsense"), None);
    }
}
