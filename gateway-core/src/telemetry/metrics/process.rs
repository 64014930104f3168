//! Metrics of the process itself, read from `/proc` when they are asked for. Elsewhere than on
//! Linux there are none.

use super::documented::{self as doc, MetricDoc};
use super::families::opts;
use prometheus::core::{Collector, Desc, Describer};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Result};
use std::fs;

/// `/proc` counts in these; the kernel's `USER_HZ` is 100 on every architecture Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

const DOCS: [MetricDoc; 7] = [
    doc::CPU,
    doc::OPEN_FDS,
    doc::MAX_FDS,
    doc::VIRTUAL_MEMORY,
    doc::RESIDENT_MEMORY,
    doc::START_TIME,
    doc::THREADS,
];

/// Reads on every gathering; holds nothing but descriptions.
pub(super) struct ProcessCollector {
    descs: Vec<Desc>,
}

impl ProcessCollector {
    pub(super) fn new() -> Result<ProcessCollector> {
        let descs = DOCS.iter().map(|doc| opts(doc).describe()).collect::<Result<_>>()?;
        Ok(ProcessCollector { descs })
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        DOCS.iter().zip(read()).filter_map(|(doc, value)| family(doc, value?)).flatten().collect()
    }
}

fn family(doc: &MetricDoc, value: f64) -> Option<Vec<MetricFamily>> {
    if doc.kind == doc::Kind::Counter {
        let counter = Counter::with_opts(opts(doc)).ok()?;
        counter.inc_by(value);
        return Some(counter.collect());
    }
    let gauge = Gauge::with_opts(opts(doc)).ok()?;
    gauge.set(value);
    Some(gauge.collect())
}

/// The values of [`DOCS`]; none for what cannot be read.
fn read() -> [Option<f64>; DOCS.len()] {
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let (stat, status) = (text("/proc/self/stat"), text("/proc/self/status"));
    let (limits, system) = (text("/proc/self/limits"), text("/proc/stat"));
    // The listing itself holds one descriptor.
    let open = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1) as f64);
    let cpu = stat_field(&stat, 14).zip(stat_field(&stat, 15)).map(|(user, system)| user + system);
    let start = stat_field(&stat, 22).map(|ticks| ticks / TICKS_PER_SECOND);
    [
        cpu.map(|ticks| ticks / TICKS_PER_SECOND),
        open,
        after(&limits, "Max open files"),
        after(&status, "VmSize:").map(|kib| kib * 1024.0),
        after(&status, "VmRSS:").map(|kib| kib * 1024.0),
        start.zip(after(&system, "btime")).map(|(start, boot)| boot + start),
        after(&status, "Threads:"),
    ]
}

/// A field of `/proc/self/stat`, counted from 1 as in proc(5). The second is a name in brackets
/// that may itself hold spaces and brackets.
fn stat_field(stat: &str, field: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(field.checked_sub(3)?)?.parse().ok()
}

/// The number after the name that a line begins with.
fn after(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_hostile_process_name() {
        let stat = "12 (a) b) (c) R 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 4242 7 8";

        assert_eq!(stat_field(stat, 14), Some(150.0));
        assert_eq!(stat_field(stat, 22), Some(4242.0));
        assert_eq!(stat_field("", 14), None);
        assert_eq!(after("a 1\nVmRSS:\t  20 kB\n", "VmRSS:"), Some(20.0));
        assert_eq!(after("Max open files unlimited unlimited", "Max open files"), None);
    }

    #[test]
    fn every_value_of_this_process_can_be_read() {
        let [cpu, open, max, size, resident, start, threads] = read().map(Option::unwrap);

        assert!(cpu >= 0.0 && threads >= 1.0);
        assert!((3.0..=max).contains(&open));
        assert!((4096.0..size).contains(&resident));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!((now.as_secs_f64() - start) < 3600.0 && start <= now.as_secs_f64() + 2.0);
    }
}
