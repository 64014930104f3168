//! Where records go: metrics and the access log, which a reload may reconfigure.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::access_log::{AccessLog, AccessLogOptions, Field, Format, Output};
use super::metrics::Metrics;
use super::redaction::patterns_of;
use super::{ConnectionRecord, Redactor, RequestRecord};
use crate::config::{Config, LogFormat, LogOutput};

/// How long the end of the process waits for lines that are not written yet.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The sinks of one gateway.
pub struct Telemetry {
    metrics: Arc<Metrics>,
    log: ArcSwapOption<AccessLog>,
    /// Whether there is a log: asked at every request, which a look at `log` is too dear for.
    writes: AtomicBool,
}

impl Telemetry {
    /// Opens the access log.
    ///
    /// # Errors
    /// Its file cannot be opened.
    pub(crate) fn start(
        metrics: Arc<Metrics>,
        config: &Config,
        concealed: &[String],
    ) -> io::Result<Self> {
        let log = open(config, concealed, &metrics)?;
        let writes = AtomicBool::new(log.is_some());
        Ok(Self { metrics, log: ArcSwapOption::new(log.map(Arc::new)), writes })
    }

    /// Opens the access log that a new config asks for, beside the one in use.
    ///
    /// # Errors
    /// Its file cannot be opened; the one in use stays.
    pub(crate) fn prepare(
        &self,
        config: &Config,
        concealed: &[String],
    ) -> io::Result<Option<Arc<AccessLog>>> {
        Ok(open(config, concealed, &self.metrics)?.map(Arc::new))
    }

    /// Puts a prepared access log in the place of the one in use, which writes what it has.
    pub(crate) fn install(&self, log: Option<Arc<AccessLog>>) {
        self.writes.store(log.is_some(), Ordering::Relaxed);
        if let Some(before) = self.log.swap(log) {
            before.flush(LAST_LINES);
        }
    }

    /// A request that counts for the trial of a config has ended.
    pub(crate) fn tried(&self, is_tried: bool, failed: bool) {
        self.metrics.tried(is_tried, failed);
    }

    /// Whether anything is written of requests. May be late by one reload.
    pub(crate) fn writes(&self) -> bool {
        self.writes.load(Ordering::Relaxed)
    }

    /// Writes a finished request's record.
    pub(crate) fn write(&self, record: &RequestRecord<'_>) {
        if let Some(log) = &*self.log.load() {
            log.write(record);
        }
    }

    /// Writes a finished connection's record.
    pub(crate) fn write_connection(&self, record: &ConnectionRecord<'_>) {
        if let Some(log) = &*self.log.load() {
            log.write_connection(record);
        }
    }

    /// Everything there is to scrape, in the text format of Prometheus.
    pub(crate) fn exposition(&self) -> String {
        self.metrics.gather_text()
    }

    /// Opens the access log's file again.
    pub(crate) fn reopen(&self) {
        let Some(log) = &*self.log.load() else { return };
        match log.reopen() {
            Ok(()) => tracing::info!("the access log was opened again"),
            Err(error) => tracing::error!(%error, "the access log cannot be opened again"),
        }
    }

    /// Writes what is still queued, for a bounded time.
    pub(crate) fn shutdown(&self) {
        if let Some(log) = self.log.swap(None) {
            log.shutdown(LAST_LINES);
        }
    }
}

fn open(config: &Config, concealed: &[String], metrics: &Metrics) -> io::Result<Option<AccessLog>> {
    let keys = config.redaction.keys.iter().chain(concealed);
    let redactor = Arc::new(Redactor::new(keys, patterns_of(&config.redaction)));
    let config = &config.access_log;
    let output = match &config.output {
        LogOutput::Off => return Ok(None),
        LogOutput::Stdout => Output::Stdout,
        LogOutput::Stderr => Output::Stderr,
        LogOutput::File(path) => Output::File(path.clone()),
    };
    let sample = config.sample.unwrap_or_default();
    let fields = config.fields.as_ref().map(|names| {
        // Unknown names were refused with the config.
        names.iter().filter_map(|name| Field::parse(name).ok()).collect()
    });
    let options = AccessLogOptions {
        format: format(config.format, &output),
        output,
        sample_ok: sample.ok.fraction(),
        slower_than: sample.slower_than.map(Into::into),
        fields,
        queue_lines: config.queue,
    };
    AccessLog::start(options, redactor, metrics.access_log_losses()).map(Some)
}

/// Text where a person reads, JSON where a program does.
fn format(format: LogFormat, output: &Output) -> Format {
    use std::io::IsTerminal;
    let terminal = match output {
        Output::Stdout => io::stdout().is_terminal(),
        Output::Stderr => io::stderr().is_terminal(),
        Output::File(_) => false,
    };
    match format {
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
        LogFormat::Auto if terminal => Format::Text,
        LogFormat::Auto => Format::Json,
    }
}
