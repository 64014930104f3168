//! A whole gateway inside the test, on port 0.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gateway_core::{Gateway, GatewayBuilder, Running};
use tempfile::TempDir;

use crate::{Client, Response};

/// How long an effect may take to show.
const PATIENCE: Duration = Duration::from_secs(10);

/// A gateway with the stock plugins, its config in a folder of its own.
pub struct Gate {
    running: Option<Running>,
    folder: TempDir,
}

impl Gate {
    /// Starts a gateway with this config. `LOG` in it stands for the access log's file.
    ///
    /// # Panics
    /// It does not start.
    #[track_caller]
    pub fn yaml(config: &str) -> Self {
        Self::with(Gateway::builder().plugins(gateway_plugins::all()), config)
    }

    /// Starts a gateway of this make with this config.
    ///
    /// # Panics
    /// It does not start.
    #[track_caller]
    pub fn with(builder: GatewayBuilder, config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let gate = Self { running: None, folder };
        gate.write(config);
        match builder.config_file(gate.config_path()).start() {
            Ok(running) => Self { running: Some(running), ..gate },
            Err(error) => panic!("the gateway does not start: {error}"),
        }
    }

    /// Starts a gateway that passes everything on to `upstream`, with an access log and an admin
    /// address, on a listener `public`. `extra` is added to the config's top level.
    ///
    /// # Panics
    /// It does not start.
    #[track_caller]
    pub fn proxying(upstream: SocketAddr, extra: &str) -> Self {
        Self::yaml(&proxying(upstream, extra))
    }

    /// The gateway itself.
    ///
    /// # Panics
    /// It was drained.
    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("the gateway was not drained")
    }

    /// Where the listener `public` is bound.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.listener("public")
    }

    /// Where a listener is bound.
    ///
    /// # Panics
    /// There is none of this name.
    #[track_caller]
    pub fn listener(&self, name: &str) -> SocketAddr {
        self.running().address(name).expect("the listener is bound")
    }

    /// A connection to the listener `public`.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// Sends these bytes on a new connection and reads one response.
    #[track_caller]
    pub fn exchange(&self, bytes: impl AsRef<[u8]>) -> Response {
        self.client().send(bytes).response()
    }

    /// A GET request for this target on a new connection, with Host `test.example`.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.exchange(format!("GET {target} HTTP/1.1\r\nHost: test.example\r\n\r\n"))
    }

    /// A GET request to the admin address.
    ///
    /// # Panics
    /// The config has no admin address over TCP.
    #[track_caller]
    pub fn admin(&self, path: &str) -> Response {
        self.admin_call("GET", path, "")
    }

    /// A request to the admin address with these further fields.
    ///
    /// # Panics
    /// The config has no admin address over TCP.
    #[track_caller]
    pub fn admin_call(&self, method: &str, path: &str, fields: &str) -> Response {
        let address = self.running().admin().and_then(|admin| admin.parse().ok());
        let address: SocketAddr = address.expect("the admin address is one of TCP");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: admin\r\n{fields}\r\n");
        Client::connect(address).send(request).response()
    }

    /// The value of one series, by the text before it, such as
    /// `gateway_requests_total{method="GET",route="all",status="2xx"}`. 0 if there is none.
    #[track_caller]
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or(0.0)
    }

    /// The sum of all series of a family, such as `gateway_requests_total`.
    #[track_caller]
    pub fn total(&self, family: &str) -> f64 {
        let text = self.admin("/metrics").text();
        let of_family = |line: &str| {
            let rest = line.strip_prefix(family)?;
            if !rest.starts_with(['{', ' ']) {
                return None;
            }
            rest.rsplit(' ').next()?.parse::<f64>().ok()
        };
        text.lines().filter_map(of_family).sum()
    }

    /// Waits until a series has this value.
    ///
    /// # Panics
    /// It does not come to have it.
    #[track_caller]
    pub fn await_metric(&self, series: &str, value: f64) {
        let came = Instant::now() + PATIENCE;
        while (self.metric(series) - value).abs() > f64::EPSILON {
            if Instant::now() > came {
                let text = self.admin("/metrics").text();
                let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
                panic!("{series} did not become {value}; there is:\n{}", lines.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the access log has this many lines, and returns them.
    ///
    /// # Panics
    /// It does not come to have them, or has more.
    #[track_caller]
    pub fn log(&self, lines: usize) -> Vec<serde_json::Value> {
        let came = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
            let parsed: Vec<serde_json::Value> =
                text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if parsed.len() >= lines {
                assert_eq!(parsed.len(), lines, "more lines than requests:\n{text}");
                return parsed;
            }
            assert!(Instant::now() < came, "the log has no {lines} lines:\n{text}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where the access log is, if the config says `output: LOG`.
    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    /// Where the config is.
    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("gateway.yaml")
    }

    /// The folder of the config.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes another config, for the next reload.
    ///
    /// # Panics
    /// The disk is full.
    pub fn write(&self, config: &str) {
        let log = self.log_path();
        let config = config.replace("LOG", &log.display().to_string());
        std::fs::write(self.config_path(), config).expect("the config can be written");
    }

    /// Takes the gateway out, to drain or to drop it.
    ///
    /// # Panics
    /// It was taken before.
    pub fn take(&mut self) -> Running {
        self.running.take().expect("the gateway was not drained")
    }
}

/// The config of a gateway that passes everything on to `upstream`.
pub(crate) fn proxying(upstream: SocketAddr, extra: &str) -> String {
    format!(
        "version: 1\n\
         server: {{workers: 1}}\n\
         admin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{upstream}\"]}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n\
         {extra}\n"
    )
}

/// A config whose listener `public` passes everything on to one upstream, `origin`, with an admin
/// address and one worker, so that turns are known. `endpoints` are written as in a list, `options` of
/// the upstream one a line.
pub fn balanced_config(endpoints: &[String], options: &str) -> String {
    let options: String = options.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "version: 1\nserver: {{workers: 1}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n  - name: origin\n    endpoints: [{}]\n{options}\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        endpoints.join(", ")
    )
}
