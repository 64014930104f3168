//! What routes cost by their number: a lookup that hits, misses or has most to do; from YAML to a snapshot; memory.
//!
//! Rounds take turns between the tables, so that whatever disturbs the machine disturbs all of them. Of each figure the
//! least of the rounds is told. Run it with `cargo run --release -p gateway-benches --bin routes`.

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_core::plugin::{Condition, Facts, RequestHeader};
use gateway_core::routing::{Match, RouteQuery};
use gateway_core::snapshot::Snapshot;
use gateway_core::{Gateway, RequestCtx};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [usize; 5] = [10, 100, 1_000, 10_000, 50_000];
/// How many routes one host has.
const OF_HOST: usize = 10;
const ROUNDS: usize = 7;
const SLICE: Duration = Duration::from_millis(120);
/// How many different requests are looked up in turn.
const REQUESTS: usize = 4_096;

fn main() -> ExitCode {
    let tables: Vec<Table> = SIZES.iter().map(|size| Table::new(*size)).collect();
    println!("| routes | hosts | YAML | to a snapshot | memory | hit | miss | most to do |");
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|");
    let kinds: Vec<[Vec<Request>; 3]> =
        tables.iter().map(|table| [table.hits(), table.misses(), table.worst()]).collect();
    let mut best = vec![[f64::INFINITY; 3]; tables.len()];
    for _ in 0..ROUNDS {
        for ((table, kinds), best) in tables.iter().zip(&kinds).zip(&mut best) {
            for (requests, best) in kinds.iter().zip(best) {
                *best = best.min(table.nanos(requests));
            }
        }
    }
    for (table, best) in tables.iter().zip(&best) {
        println!(
            "| {} | {} | {:.1} MB | {:.0} ms | {:.1} MB | {:.0} ns | {:.0} ns | {:.0} ns |",
            table.size,
            table.size.div_ceil(OF_HOST),
            table.bytes as f64 / 1e6,
            table.built.as_secs_f64() * 1e3,
            table.memory as f64 / 1e6,
            best[0],
            best[1],
            best[2],
        );
    }
    let ratio = |kind: usize| best[SIZES.len() - 1][kind] / best[0][kind];
    println!(
        "\n50,000 to 10 routes: hit {:.2}, miss {:.2}, most to do {:.2}",
        ratio(0),
        ratio(1),
        ratio(2)
    );
    conditions(&tables[0]);
    ExitCode::SUCCESS
}

/// So many routes, built.
struct Table {
    size: usize,
    bytes: usize,
    built: Duration,
    memory: u64,
    snapshot: Arc<Snapshot>,
    ctx: RequestCtx,
}

struct Request {
    host: String,
    path: String,
    head: RequestHeader,
    expected: bool,
}

/// A route of many kinds: prefixes of several depths, exact paths, templates, methods, header fields.
fn route(number: usize) -> String {
    let (host, kind) = (number / OF_HOST, number % OF_HOST);
    let rules = match kind {
        0 => "path: /".to_owned(),
        1 => "path: /api/v1".to_owned(),
        2 => "path: /api/v1/users, methods: [GET, POST]".to_owned(),
        3 => "path: {exact: /api/v1/users/me}".to_owned(),
        4 => "path: {template: \"/api/v1/users/{id}\"}".to_owned(),
        5 => "path: {template: \"/api/v1/users/{id}/orders/{order}\"}".to_owned(),
        6 => "path: /api/v1/orders, headers: {x-version: \"2\"}".to_owned(),
        7 => "path: /static/assets/images".to_owned(),
        8 => "path: {exact: /health}".to_owned(),
        _ => format!("path: /teams/team-{number}"),
    };
    format!(
        "  - {{name: route-{number}, match: {{hosts: [host-{host}.example.com], {rules}}}, upstream: users}}\n"
    )
}

fn config(size: usize) -> String {
    let mut text = String::from(
        "version: 1\nlisteners:\n  - {name: public, address: \"127.0.0.1:0\"}\n\
         upstreams:\n  - {name: users, endpoints: [\"127.0.0.1:9\"]}\nroutes:\n",
    );
    for number in 0..size {
        text += &route(number);
    }
    text
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

impl Table {
    fn new(size: usize) -> Self {
        let text = config(size);
        let bytes = text.len();
        let before = resident();
        let began = Instant::now();
        let checked = match Gateway::builder().config_text(text).check() {
            Ok(checked) => checked,
            Err(faults) => panic!("{faults}"),
        };
        let built = began.elapsed();
        let snapshot = checked.snapshot;
        drop(checked.loaded);
        let memory = resident().saturating_sub(before);
        let listener = snapshot.listeners()[0].clone();
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let ctx = RequestCtx::new(snapshot.clone(), listener, peer);
        Self { size, bytes, built, memory, snapshot, ctx }
    }

    fn requests(
        &self,
        path: impl Fn(usize) -> String,
        host: impl Fn(usize) -> String,
        expected: bool,
    ) -> Vec<Request> {
        // Hosts far apart, so that one lookup does not warm the next.
        let spread = |number: usize| number.wrapping_mul(7_919) % self.size.div_ceil(OF_HOST);
        let request = |number: usize| {
            let path = path(number);
            let mut head =
                RequestHeader::build("GET", path.as_bytes(), None).expect("it is a path");
            head.insert_header("x-version", "1").expect("it is a field");
            Request { host: host(spread(number)), path, head, expected }
        };
        (0..REQUESTS).map(request).collect()
    }

    /// Requests that a route serves, of every kind.
    fn hits(&self) -> Vec<Request> {
        let path = |number: usize| match number % 6 {
            0 => "/index.html".to_owned(),
            1 => "/api/v1/users".to_owned(),
            2 => "/api/v1/users/me".to_owned(),
            3 => format!("/api/v1/users/{number}"),
            4 => format!("/api/v1/users/{number}/orders/17"),
            _ => "/health".to_owned(),
        };
        self.requests(path, |host| format!("host-{host}.example.com"), true)
    }

    /// Requests for hosts that there are not.
    fn misses(&self) -> Vec<Request> {
        let path = |_| "/api/v1/users/me".to_owned();
        self.requests(path, |host| format!("other-{host}.example.org"), false)
    }

    /// Requests that every table of their host is asked for before the last one serves them.
    fn worst(&self) -> Vec<Request> {
        let path =
            |number: usize| format!("/api/v1/orders/{number}/items/9/parts/8/screws/7/threads");
        self.requests(path, |host| format!("host-{host}.example.com"), true)
    }

    /// The time that one lookup takes, in nanoseconds.
    fn nanos(&self, requests: &[Request]) -> f64 {
        let table = self.snapshot.route_table();
        let method = http::Method::GET;
        let (mut lookups, began) = (0_u32, Instant::now());
        while began.elapsed() < SLICE {
            for request in requests {
                let query = RouteQuery {
                    host: &request.host,
                    path: &request.path,
                    method: &method,
                    listener: 0,
                    preflight_method: None,
                    facts: Facts { request: &request.head, response: None, ctx: &self.ctx },
                };
                let found = black_box(table.find(black_box(&query)));
                assert_eq!(matches!(found, Match::Route(_)), request.expected, "{}", request.path);
            }
            lookups += u32::try_from(requests.len()).unwrap_or(u32::MAX);
        }
        began.elapsed().as_secs_f64() * 1e9 / f64::from(lookups)
    }
}

/// What common conditions cost.
fn conditions(table: &Table) {
    let mut head = RequestHeader::build("POST", b"/users/7?beta=1", None).expect("it is a path");
    head.insert_header("x-key", "k-123").expect("it is a field");
    head.insert_header("cookie", "sid=abc; beta=1").expect("it is a field");
    let facts = Facts { request: &head, response: None, ctx: &table.ctx };
    let mut told = String::from("\n| condition | |\n|---|--:|\n");
    for source in [
        "request.method == \"POST\"",
        "request.path.startsWith(\"/users\")",
        "request.header[\"x-key\"] == \"k-123\"",
        "request.method in [\"GET\", \"HEAD\", \"POST\"]",
        "request.method == \"POST\" && request.header[\"x-key\"].startsWith(\"k-\")",
        "!(request.query.beta == \"1\") || request.cookie.beta == \"1\"",
        "request.path.matches(\"^/users/[0-9]+$\")",
        "client.ip == \"127.0.0.1\"",
    ] {
        let condition = Condition::parse(source, &Default::default(), false);
        let condition = condition.unwrap_or_else(|error| panic!("{source}: {error}"));
        let nanos = (0..ROUNDS).map(|_| {
            const TIMES: u32 = 400_000;
            let began = Instant::now();
            for _ in 0..TIMES {
                assert_eq!(black_box(condition.holds(black_box(&facts))), Ok(true));
            }
            began.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
        });
        let least = nanos.fold(f64::INFINITY, f64::min);
        let _ = writeln!(told, "| `{source}` | {least:.0} ns |");
    }
    print!("{told}");
}
