//! Plugins in a whole gateway: the stock ones, and ones made here for what any plugin may do.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gateway_core::plugin::{
    AttemptHook, BodyMode, BuildEnv, BuildError, Class, Flow, HookError, Hooks, LogHook, Plugin,
    Reply, RequestBodyHook, RequestHeader, RequestHook, ResponseBodyHook, ResponseHeader,
    ResponseHook,
};
use gateway_core::telemetry::RequestRecord;
use gateway_core::{Gateway, GatewayBuilder, RequestCtx};
use gateway_tests::{Client, Gate, Origin, Response, eventually};
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

// ---- What the tests share: a gateway, and what its plugins tell ---------------------------------

/// Where plugins are listed, as items of a YAML list; `route` are further keys of each route.
#[derive(Clone, Copy, Default)]
struct Lists<'a> {
    gateway: &'a str,
    listener: &'a str,
    limits: &'a str,
    route: &'a str,
}

fn config(upstream: SocketAddr, lists: Lists<'_>) -> String {
    let Lists { gateway, listener, limits, route } = lists;
    let route = if route.is_empty() { String::new() } else { format!(", {route}") };
    format!(
        "version: 1\n\
         server: {{workers: 1}}\n\
         admin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         plugins: [{gateway}]\n\
         listeners:\n\
         - {{name: public, address: \"127.0.0.1:0\", limits: {{{limits}}},\n\
             trusted_proxies: [127.0.0.9/32], plugins: [{listener}]}}\n\
         upstreams: [{{name: origin, endpoints: [\"{upstream}\"]}}]\n\
         routes:\n\
         - {{name: proxied, match: {{path: /proxied}}, upstream: origin{route}}}\n\
         - {{name: reply, match: {{path: /reply}}, reply: {{body: hello}}{route}}}\n\
         - {{name: plain, match: {{path: /plain}}, reply: {{body: plain}}}}\n\
         - {{name: readonly, match: {{path: /readonly, methods: [GET]}}, reply: {{}}{route}}}\n"
    )
}

/// A gateway that knows the stock plugins and those made here.
pub(super) fn builder() -> GatewayBuilder {
    Gateway::builder()
        .plugins(gateway_plugins::all())
        .plugin::<Faulty<Keeps>>()
        .plugin::<Faulty<Shapes>>()
        .plugin::<Faulty<Changes>>()
        .plugin::<Faulty<Watches>>()
        .plugin::<Mark>()
        .plugin::<Whole>()
        .plugin::<Tap>()
        .plugin::<Grow>()
        .plugin::<Sign>()
        .plugin::<Keep>()
        .plugin::<Tell>()
        .plugin::<Count>()
        .plugin::<Task>()
}

fn gate(upstream: SocketAddr, lists: Lists<'_>) -> Gate {
    Gate::with(builder(), &config(upstream, lists))
}

/// A gateway whose upstream nobody asks for.
fn alone(lists: Lists<'_>) -> Gate {
    gate(Origin::nobody(), lists)
}

#[track_caller]
fn faults(lists: Lists<'_>) -> String {
    let config = config(Origin::nobody(), lists).replace("LOG", "off");
    let checked = builder().config_text(config).check();
    checked.err().expect("the config has a fault").to_string()
}

/// An upstream that answers with the body it was sent.
fn echoing() -> Origin {
    Origin::scripted(|exchange| {
        let length = exchange.body.len();
        let mut response =
            format!("HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Length: {length}\r\n\r\n")
                .into_bytes();
        response.extend_from_slice(&exchange.body);
        exchange.write(response)
    })
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn chunked(path: &str, body: &str) -> String {
    let mut request =
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in body.as_bytes().chunks(1000) {
        let text = String::from_utf8_lossy(chunk);
        request.push_str(&format!("{:x}\r\n{text}\r\n", chunk.len()));
    }
    request + "0\r\n\r\n"
}

/// A GET request with these further fields.
fn get_with(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// What plugins told, by the name their options give.
static TOLD: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());

fn told() -> MutexGuard<'static, BTreeMap<String, Vec<String>>> {
    TOLD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn told_to(name: &str) -> Vec<String> {
    told().get(name).cloned().unwrap_or_default()
}

/// The options of plugins that have none.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct None {}

// ---- The plugins made here ----------------------------------------------------------------------

/// Fails in one phase, by an error or by a panic; one kind for each class.
struct Faulty<C> {
    options: FaultyOptions,
    class: PhantomData<C>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FaultyOptions {
    phase: Phase,
    #[serde(default)]
    panics: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Request,
    RequestBody,
    Attempt,
    Response,
    ResponseBody,
    Log,
}

trait Promise: Send + Sync + 'static {
    const KIND: &'static str;
    const CLASS: Class;
}

struct Keeps;
struct Shapes;
struct Changes;
struct Watches;

impl Promise for Keeps {
    const KIND: &'static str = "faulty-security";
    const CLASS: Class = Class::Security;
}

impl Promise for Shapes {
    const KIND: &'static str = "faulty-traffic";
    const CLASS: Class = Class::Traffic;
}

impl Promise for Changes {
    const KIND: &'static str = "faulty-transform";
    const CLASS: Class = Class::Transform;
}

impl Promise for Watches {
    const KIND: &'static str = "faulty-observe";
    const CLASS: Class = Class::Observe;
}

impl<C: Promise> Plugin for Faulty<C> {
    const KIND: &'static str = C::KIND;
    const CLASS: Class = C::CLASS;
    type Config = FaultyOptions;

    fn build(options: FaultyOptions, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        Ok(Self { options, class: PhantomData })
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        match self.options.phase {
            Phase::Request => hooks.request(self),
            Phase::RequestBody => hooks.request_body(self),
            Phase::Attempt => hooks.attempt(self),
            Phase::Response => hooks.response(self),
            Phase::ResponseBody => hooks.response_body(self),
            Phase::Log => hooks.log(self),
        };
    }
}

impl<C> Faulty<C> {
    fn fail<T>(&self) -> Result<T, HookError> {
        assert!(!self.options.panics, "told to panic");
        Err("told to fail".into())
    }
}

#[async_trait]
impl<C: Promise> RequestHook for Faulty<C> {
    async fn on_request(
        &self,
        _: &mut RequestHeader,
        _: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        self.fail()
    }
}

#[async_trait]
impl<C: Promise> RequestBodyHook for Faulty<C> {
    async fn on_request_body(
        &self,
        _: &mut Option<Bytes>,
        _: bool,
        _: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        self.fail()
    }
}

#[async_trait]
impl<C: Promise> AttemptHook for Faulty<C> {
    async fn on_attempt(&self, _: &mut RequestHeader, _: &mut RequestCtx) -> Result<(), HookError> {
        self.fail()
    }
}

#[async_trait]
impl<C: Promise> ResponseHook for Faulty<C> {
    async fn on_response(
        &self,
        _: &mut ResponseHeader,
        _: &RequestHeader,
        _: &mut RequestCtx,
    ) -> Result<(), HookError> {
        self.fail()
    }
}

impl<C: Promise> ResponseBodyHook for Faulty<C> {
    fn on_response_body(
        &self,
        _: &mut Option<Bytes>,
        _: bool,
        _: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        self.fail()
    }
}

impl<C: Promise> LogHook for Faulty<C> {
    fn on_log(&self, _: &RequestRecord<'_>, _: &RequestCtx) {
        assert!(!self.options.panics, "told to panic");
    }
}

/// Writes its name, or its label, into `x-order` of requests and responses.
struct Mark(HeaderValue);

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct MarkOptions {
    label: Option<String>,
}

impl Plugin for Mark {
    const KIND: &'static str = "mark";
    const CLASS: Class = Class::Transform;
    type Config = MarkOptions;

    fn build(options: MarkOptions, env: &BuildEnv<'_>) -> Result<Self, BuildError> {
        let label = options.label.unwrap_or_else(|| env.name.to_owned());
        Ok(Self(label.parse().expect("labels here are words")))
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.request(self.clone()).response(self);
    }
}

#[async_trait]
impl RequestHook for Mark {
    async fn on_request(
        &self,
        head: &mut RequestHeader,
        _: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        head.append_header("x-order", self.0.clone())?;
        Ok(Flow::Continue)
    }
}

#[async_trait]
impl ResponseHook for Mark {
    async fn on_response(
        &self,
        response: &mut ResponseHeader,
        _: &RequestHeader,
        _: &mut RequestCtx,
    ) -> Result<(), HookError> {
        response.append_header("x-order", self.0.clone())?;
        Ok(())
    }
}

/// Collects the request's body, and refuses it or changes it.
struct Whole(WholeOptions);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WholeOptions {
    max: usize,
    /// A body that holds this word is refused with 422.
    #[serde(default)]
    refuse: Option<String>,
    /// What is written behind the body.
    #[serde(default)]
    add: String,
}

impl Plugin for Whole {
    const KIND: &'static str = "whole";
    const CLASS: Class = Class::Transform;
    type Config = WholeOptions;

    fn build(options: WholeOptions, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        Ok(Self(options))
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.request_body(self);
    }
}

#[async_trait]
impl RequestBodyHook for Whole {
    fn mode(&self) -> BodyMode {
        BodyMode::Collect { max: self.0.max }
    }

    async fn on_request_body(
        &self,
        chunk: &mut Option<Bytes>,
        last: bool,
        _: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        if !last {
            return Err("a collected body comes whole".into());
        }
        let body = chunk.clone().unwrap_or_default();
        let text = String::from_utf8_lossy(&body).into_owned();
        if self.0.refuse.as_ref().is_some_and(|word| text.contains(word)) {
            return Ok(Flow::Respond(Reply::new(StatusCode::UNPROCESSABLE_ENTITY)));
        }
        if !self.0.add.is_empty() {
            *chunk = Some((text + &self.0.add).into());
        }
        Ok(Flow::Continue)
    }
}

/// Counts the request's body as it passes and tells in `x-seen`: bytes, then how often it ended.
struct Tap;

#[derive(Default)]
struct Seen {
    bytes: usize,
    ends: usize,
}

impl Plugin for Tap {
    const KIND: &'static str = "tap";
    const CLASS: Class = Class::Transform;
    type Config = None;

    fn build(_: None, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.request_body(self.clone()).response(self);
    }
}

#[async_trait]
impl RequestBodyHook for Tap {
    async fn on_request_body(
        &self,
        chunk: &mut Option<Bytes>,
        last: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        if ctx.get::<Seen>().is_none() {
            ctx.insert(Seen::default());
        }
        if let Some(seen) = ctx.get_mut::<Seen>() {
            seen.bytes += chunk.as_ref().map_or(0, Bytes::len);
            seen.ends += usize::from(last);
        }
        Ok(Flow::Continue)
    }
}

#[async_trait]
impl ResponseHook for Tap {
    async fn on_response(
        &self,
        response: &mut ResponseHeader,
        _: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        let seen = ctx.get::<Seen>().map_or((0, 0), |seen| (seen.bytes, seen.ends));
        response.insert_header("x-seen", format!("{} {}", seen.0, seen.1))?;
        Ok(())
    }
}

/// Writes an exclamation mark behind the response's body.
struct Grow;

impl Plugin for Grow {
    const KIND: &'static str = "grow";
    const CLASS: Class = Class::Transform;
    type Config = None;

    fn build(_: None, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.response_body(self);
    }
}

impl ResponseBodyHook for Grow {
    fn on_response_body(
        &self,
        chunk: &mut Option<Bytes>,
        last: bool,
        _: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        if last {
            let mut body = chunk.take().unwrap_or_default().to_vec();
            body.push(b'!');
            *chunk = Some(body.into());
        }
        Ok(Flow::Continue)
    }
}

/// Numbers the attempts of a request in `x-attempt`.
struct Sign;

struct Attempts(u32);

impl Plugin for Sign {
    const KIND: &'static str = "sign";
    const CLASS: Class = Class::Transform;
    type Config = None;

    fn build(_: None, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.attempt(self);
    }
}

#[async_trait]
impl AttemptHook for Sign {
    async fn on_attempt(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        let number = ctx.get::<Attempts>().map_or(1, |attempts| attempts.0 + 1);
        ctx.insert(Attempts(number));
        head.append_header("x-attempt", number.to_string())?;
        Ok(())
    }
}

/// Keeps the request's `x-keep`, publishes it, and writes it into the response.
struct Keep;

struct Kept(String);

impl Plugin for Keep {
    const KIND: &'static str = "keep";
    const CLASS: Class = Class::Transform;
    const ATTRIBUTES: &'static [&'static str] = &["keep.value"];
    type Config = None;

    fn build(_: None, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.request(self.clone()).response(self);
    }
}

#[async_trait]
impl RequestHook for Keep {
    async fn on_request(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        if let Some(value) = head.headers.get("x-keep") {
            let value = value.to_str()?.to_owned();
            ctx.publish("keep.value", value.as_str());
            ctx.insert(Kept(value));
        }
        Ok(Flow::Continue)
    }
}

#[async_trait]
impl ResponseHook for Keep {
    async fn on_response(
        &self,
        response: &mut ResponseHeader,
        _: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        let kept = ctx.get::<Kept>().map_or("nothing", |kept| kept.0.as_str());
        response.insert_header("x-kept", kept.to_owned())?;
        Ok(())
    }
}

/// Tells of every finished request.
struct Tell(String);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct To {
    to: String,
}

impl Plugin for Tell {
    const KIND: &'static str = "tell";
    const CLASS: Class = Class::Observe;
    type Config = To;

    fn build(options: To, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        Ok(Self(options.to))
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.log(self);
    }
}

impl LogHook for Tell {
    fn on_log(&self, record: &RequestRecord<'_>, ctx: &RequestCtx) {
        let status = record.status.unwrap_or_default();
        let code = record.failure.map_or("ok", |failure| failure.code());
        let route = ctx.route_name().unwrap_or("none");
        told().entry(self.0.clone()).or_default().push(format!("{route} {status} {code}"));
    }
}

/// Counts requests in a state that outlives reloads and tells the count in `x-count`.
struct Count(Arc<AtomicU32>);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CountOptions {
    from: u32,
}

impl Plugin for Count {
    const KIND: &'static str = "count";
    const CLASS: Class = Class::Transform;
    type Config = CountOptions;

    fn build(options: CountOptions, env: &BuildEnv<'_>) -> Result<Self, BuildError> {
        let digest = options.from.to_string();
        Ok(Self(env.state("count", &digest, || AtomicU32::new(options.from))))
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.response(self);
    }
}

#[async_trait]
impl ResponseHook for Count {
    async fn on_response(
        &self,
        response: &mut ResponseHeader,
        _: &RequestHeader,
        _: &mut RequestCtx,
    ) -> Result<(), HookError> {
        response.insert_header("x-count", self.0.fetch_add(1, Ordering::Relaxed).to_string())?;
        Ok(())
    }
}

/// Runs in the background and tells when that begins and ends.
struct Task;

/// Tells that a task has ended, however it did.
struct Ending(String);

impl Drop for Ending {
    fn drop(&mut self) {
        told().entry(self.0.clone()).or_default().push("ended".to_owned());
    }
}

impl Plugin for Task {
    const KIND: &'static str = "task";
    const CLASS: Class = Class::Observe;
    type Config = To;

    fn build(options: To, env: &BuildEnv<'_>) -> Result<Self, BuildError> {
        env.background(async move {
            told().entry(options.to.clone()).or_default().push("began".to_owned());
            let _ending = Ending(options.to);
            pending::<()>().await;
        });
        Ok(Self)
    }

    fn attach(self: Arc<Self>, _: &mut Hooks) {}
}

// ---- The stock plugins --------------------------------------------------------------------------

#[test]
fn request_id_is_accepted_sent_up_echoed_and_logged() {
    let origin = echoing();
    let gate = gate(origin.address(), Lists { gateway: "{kind: request-id}", ..Lists::default() });

    let response = gate.exchange(get_with("/proxied", "X-Request-Id: abc-1\r\n"));

    assert_eq!(response.headers_of("x-request-id"), ["abc-1"]);
    assert_eq!(origin.last_fields("x-request-id"), ["abc-1"]);
    assert_eq!(gate.log(1)[0]["request_id"], "abc-1");
}

#[test]
fn request_id_is_made_where_there_is_none_or_none_that_can_be_kept() {
    let origin = echoing();
    let gate = gate(origin.address(), Lists { gateway: "{kind: request-id}", ..Lists::default() });
    let long = format!("X-Request-Id: {}\r\n", "a".repeat(129));
    for fields in ["", "X-Request-Id: two words\r\n", "X-Request-Id:\r\n", long.as_str()] {
        let response = gate.exchange(get_with("/proxied", fields));

        let made = response.headers_of("x-request-id");
        assert_eq!(made.len(), 1, "{fields}");
        assert_eq!(made[0].len(), 36, "a UUID: {}", made[0]);
        assert_eq!(origin.last_fields("x-request-id"), made, "{fields}");
    }
    let ids: Vec<_> = gate.log(4).iter().map(|line| line["request_id"].to_string()).collect();
    assert!(ids.iter().all(|id| ids.iter().filter(|other| *other == id).count() == 1), "{ids:?}");
}

#[test]
fn headers_change_the_request_and_every_response() {
    let origin = echoing();
    let rules = "{kind: headers, options: {\
        request: {set: {x-client: \"{client.ip}\"}, add: {x-tag: gateway}, remove: [x-internal]}, \
        response: {set: {x-route: \"{route.name}\", x-status: \"{response.status}\"}, remove: [server]}}}";
    let gate = gate(origin.address(), Lists { gateway: rules, ..Lists::default() });

    let fields = "X-Client: forged\r\nX-Tag: mine\r\nX-Internal: 1\r\n";
    let response = gate.exchange(get_with("/proxied", fields));

    assert_eq!(origin.last_fields("x-client"), ["127.0.0.1"]);
    assert_eq!(origin.last_fields("x-tag"), ["mine", "gateway"]);
    assert!(origin.last_fields("x-internal").is_empty());
    assert_eq!(response.header("x-route"), Some("proxied"));
    assert_eq!(response.header("server"), Option::None);
    let reply = gate.get("/reply");
    assert_eq!((reply.header("x-route"), reply.header("x-status")), (Some("reply"), Some("200")));
}

#[test]
fn ip_restriction_lets_pass_by_the_clients_address() {
    let deny =
        "{kind: ip-restriction, options: {allow: [127.0.0.0/8, 192.0.2.1], deny: [127.0.0.2]}}";
    let gate = alone(Lists { gateway: deny, ..Lists::default() });
    let status = |source: [u8; 4], forwarded: &str| {
        let fields = format!("X-Forwarded-For: {forwarded}\r\n");
        let mut client = Client::connect_from(source, gate.address());
        client.send(get_with("/reply", &fields)).response().status
    };

    assert_eq!(status([127, 0, 0, 1], "127.0.0.1"), 200);
    assert_eq!(status([127, 0, 0, 2], "127.0.0.1"), 403, "a client cannot choose its address");
    // 127.0.0.9 is a trusted proxy.
    assert_eq!(status([127, 0, 0, 9], "127.0.0.2"), 403);
    assert_eq!(status([127, 0, 0, 9], "192.0.2.1"), 200);
    assert_eq!(status([127, 0, 0, 9], "192.0.2.2"), 403);

    let line = &gate.log(5)[1];
    assert_eq!((&line["failure"], &line["status_source"]), (&"P4".into(), &"gateway".into()));
    gate.await_metric(r#"gateway_plugin_replies_total{plugin="ip-restriction"}"#, 3.0);
}

#[test]
fn body_limit_is_met_exactly_announced_or_counted() {
    let origin = echoing();
    let route = "plugins: [{kind: body-limit, options: {max: 10}}]";
    let gate = gate(origin.address(), Lists { route, ..Lists::default() });
    let (fits, over) = ("x".repeat(10), "x".repeat(11));

    assert_eq!(gate.exchange(post("/proxied", &fits)).text(), fits);
    assert_eq!(gate.exchange(chunked("/proxied", &fits)).text(), fits);
    let seen = origin.requests().len();
    assert_eq!(gate.exchange(post("/proxied", &over)).status, 413);
    assert_eq!(origin.requests().len(), seen, "refused by its announcement");
    assert_eq!(gate.exchange(chunked("/proxied", &over)).status, 413);

    assert!(gate.log(4)[2..].iter().all(|line| line["failure"] == "P8"));
}

#[test]
fn two_body_limits_count_each_for_itself() {
    let origin = echoing();
    let lists = Lists {
        gateway: "{kind: body-limit, name: outer, options: {max: 10}}",
        route: "plugins: [{kind: body-limit, name: inner, options: {max: 10}}]",
        ..Lists::default()
    };
    let gate = gate(origin.address(), lists);

    assert_eq!(gate.exchange(chunked("/proxied", "123456")).text(), "123456");
    assert_eq!(gate.exchange(chunked("/proxied", "12345678901")).status, 413);
}

#[test]
fn every_stock_plugin_has_an_example_that_is_good() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/examples");
    for spec in gateway_plugins::all() {
        let example = folder.join(format!("{}.yaml", spec.kind));
        let builder = Gateway::builder().plugins(gateway_plugins::all());
        if let Err(faults) = builder.config_file(&example).check() {
            panic!("{}: {faults}", example.display());
        }
        let text = std::fs::read_to_string(&example).expect("the example can be read");
        assert!(text.contains(&format!("kind: {}", spec.kind)), "{}", example.display());
    }
}

// ---- Order --------------------------------------------------------------------------------------

fn mark(name: &str) -> String {
    format!("{{kind: mark, name: {name}}}")
}

fn marks(names: &[&str]) -> String {
    names.iter().map(|name| mark(name)).collect::<Vec<_>>().join(", ")
}

#[test]
fn requests_meet_gateway_listener_and_route_in_order_and_responses_in_reverse() {
    let origin = echoing();
    let (gateway, listener) = (marks(&["g1", "g2"]), marks(&["l1", "l2"]));
    let route = format!("plugins: [{}]", marks(&["r1", "r2"]));
    let gate = gate(
        origin.address(),
        Lists { gateway: &gateway, listener: &listener, route: &route, ..Lists::default() },
    );

    let response = gate.get("/proxied");

    assert_eq!(origin.last_fields("x-order"), ["g1", "g2", "l1", "l2", "r1", "r2"]);
    assert_eq!(response.headers_of("x-order"), ["r2", "r1", "l2", "l1", "g2", "g1"]);
    assert_eq!(gate.get("/reply").headers_of("x-order"), ["r2", "r1", "l2", "l1", "g2", "g1"]);
}

#[test]
fn a_plugin_of_the_same_name_replaces_the_outer_one_in_its_place() {
    let origin = echoing();
    let (gateway, listener) = (marks(&["a", "b", "c"]), marks(&["d", "e"]));
    let route = "plugins: [{kind: mark, name: f}, {kind: mark, name: b, options: {label: route-b}}, \
                 {kind: mark, name: d, options: {label: route-d}}]";
    let gate = gate(
        origin.address(),
        Lists { gateway: &gateway, listener: &listener, route, ..Lists::default() },
    );

    gate.get("/proxied");

    assert_eq!(origin.last_fields("x-order"), ["a", "route-b", "c", "route-d", "e", "f"]);
}

#[test]
fn disabled_plugins_of_gateway_and_listener_are_left_out_on_that_route_alone() {
    let (gateway, listener) = (marks(&["a", "b"]), marks(&["c", "d"]));
    let gate = alone(Lists {
        gateway: &gateway,
        listener: &listener,
        route: "disable: [a, d]",
        ..Lists::default()
    });

    assert_eq!(gate.get("/reply").headers_of("x-order"), ["c", "b"]);
    assert_eq!(gate.get("/plain").headers_of("x-order"), ["d", "c", "b", "a"]);
}

#[test]
fn replies_without_a_route_run_the_chains_of_gateway_and_listener() {
    let (gateway, listener) = (marks(&["a"]), marks(&["b"]));
    let route = format!("plugins: [{}]", mark("c"));
    let gate =
        alone(Lists { gateway: &gateway, listener: &listener, route: &route, ..Lists::default() });

    let missing = gate.get("/nowhere");
    let refused = gate.exchange(post("/readonly", ""));

    assert_eq!((missing.status, missing.headers_of("x-order")), (404, vec!["b", "a"]));
    assert_eq!((refused.status, refused.headers_of("x-order")), (405, vec!["b", "a"]));
    assert_eq!(refused.header("allow"), Some("GET"));
}

#[test]
fn headers_show_on_replies_without_a_route() {
    let set = "{kind: headers, options: {response: {set: {x-frame-options: DENY}}}}";
    let gate = alone(Lists { listener: set, ..Lists::default() });

    for response in [gate.get("/nowhere"), gate.exchange(post("/readonly", ""))] {
        assert_eq!(response.header("x-frame-options"), Some("DENY"), "{}", response.status);
    }
}

#[test]
fn ip_restriction_refuses_before_a_route_is_missed() {
    let deny = "{kind: ip-restriction, options: {deny: [127.0.0.1]}}";
    let gate = alone(Lists { gateway: deny, ..Lists::default() });

    for path in ["/nowhere", "/readonly", "/reply"] {
        assert_eq!(gate.exchange(post(path, "")).status, 403, "{path}");
    }
}

// ---- Conditions ---------------------------------------------------------------------------------

fn when(condition: &str) -> String {
    format!("{{kind: mark, name: m, when: '{condition}'}}")
}

#[track_caller]
fn took_part(condition: &str, fields: &str) -> bool {
    let gateway = when(condition);
    let gate = alone(Lists { gateway: &gateway, ..Lists::default() });
    gate.exchange(get_with("/reply?q=1", fields)).header("x-order").is_some()
}

#[test]
fn a_condition_decides_whether_a_plugin_takes_part() {
    for (condition, expected) in [
        (r#"request.method == "GET""#, true),
        (r#"request.method == "POST""#, false),
        (r#"route.name == "reply" && listener.name == "public""#, true),
        (r#"request.header["x-go"] == "1""#, true),
        (r#"request.query.q in ["1", "2"]"#, true),
        (r#"client.ip.startsWith("127.")"#, true),
        (r#"!(request.path.startsWith("/reply"))"#, false),
    ] {
        assert_eq!(took_part(condition, "X-Go: 1\r\n"), expected, "{condition}");
    }
}

#[test]
fn an_attribute_that_is_missing_equals_nothing() {
    for (condition, expected) in [
        (r#"request.header["x-none"] == """#, false),
        (r#"request.header["x-none"] != "a""#, true),
        (r#"!(request.header["x-none"] == "a")"#, true),
        (r#"request.cookie.none in ["a"]"#, false),
        ("has(request.query.none)", false),
        (r#"keep.value == "a""#, false),
    ] {
        assert_eq!(took_part(condition, ""), expected, "{condition}");
    }
}

#[test]
fn a_condition_is_decided_once_a_request() {
    let origin = echoing();
    // What the condition reads is gone, or there, after the request phase.
    let gateway = r#"{kind: mark, name: was, when: 'request.header["x-go"] == "1"'},
                     {kind: mark, name: is, when: 'request.header["x-new"] == "1"'},
                     {kind: headers, options: {request: {remove: [x-go], set: {x-new: "1"}}}}"#;
    let gateway = gateway.replace('\n', " ");
    let gate = gate(origin.address(), Lists { gateway: &gateway, ..Lists::default() });

    let response = gate.exchange(get_with("/proxied", "X-Go: 1\r\n"));

    assert_eq!(origin.last_fields("x-order"), ["was"]);
    assert_eq!(response.headers_of("x-order"), ["was"]);
}

#[test]
fn a_published_attribute_is_seen_by_the_conditions_of_later_plugins() {
    let gateway = format!("{{kind: keep}}, {}", when(r#"keep.value == "a""#));
    let gate = alone(Lists { gateway: &gateway, ..Lists::default() });

    let with = gate.exchange(get_with("/reply", "X-Keep: a\r\n"));
    let without = gate.exchange(get_with("/reply", "X-Keep: b\r\n"));

    assert_eq!((with.header("x-kept"), with.header("x-order")), (Some("a"), Some("m")));
    assert_eq!((without.header("x-kept"), without.header("x-order")), (Some("b"), Option::None));
}

#[test]
fn what_a_request_keeps_is_its_own() {
    let gate = alone(Lists { gateway: "{kind: keep}", ..Lists::default() });
    let mut client = gate.client();

    let kept = |response: Response| response.header("x-kept").map(str::to_owned);

    assert_eq!(kept(client.send(get_with("/reply", "X-Keep: a\r\n")).response()), Some("a".into()));
    assert_eq!(kept(client.send(get_with("/reply", "")).response()), Some("nothing".into()));
}

// ---- Failures inside plugins --------------------------------------------------------------------

const PHASES: [(Phase, &str); 5] = [
    (Phase::Request, "request"),
    (Phase::RequestBody, "request_body"),
    (Phase::Attempt, "attempt"),
    (Phase::Response, "response"),
    (Phase::ResponseBody, "response_body"),
];

/// Runs a request through a plugin that fails in each phase, by an error and by a panic.
#[track_caller]
fn fail_everywhere(kind: &str, on_error: &str, refused: bool) {
    let origin = echoing();
    for (phase, name) in PHASES {
        for panics in [false, true] {
            let plugin =
                format!("{{kind: {kind}, options: {{phase: {name}, panics: {panics}}}{on_error}}}");
            let gate = gate(origin.address(), Lists { gateway: &plugin, ..Lists::default() });
            let mut client = gate.client();
            client.send(post("/proxied", "hello"));

            let outcome = client.try_response(false);

            let which = format!("{kind} {name} panics={panics}: {outcome:?}");
            let failure = &gate.log(1)[0];
            match (refused, phase) {
                (false, _) => {
                    let response = outcome.unwrap_or_else(|error| panic!("{which}: {error}"));
                    assert_eq!(
                        (response.status, response.text().as_str()),
                        (200, "hello"),
                        "{which}"
                    );
                    assert_eq!(failure.get("failure"), Option::None, "{which}");
                }
                (true, _) => {
                    let response = outcome.unwrap_or_else(|error| panic!("{which}: {error}"));
                    assert_eq!(response.status, 500, "{which}");
                    assert!(!response.text().contains("told to"), "{which}");
                    assert_eq!(failure["failure"], "P11", "{which}");
                    assert_eq!(failure["status_source"], "gateway", "{which}");
                }
            }
            let how = if panics { "panic" } else { "error" };
            let series = format!(r#"gateway_plugin_errors_total{{kind="{how}",plugin="{kind}"}}"#);
            assert!(gate.metric(&series) >= 1.0, "{series}: {which}");
            assert_eq!(gate.total("gateway_requests_total"), 1.0, "{which}");
        }
    }
}

#[test]
fn a_plugin_that_fails_after_the_head_cuts_the_response() {
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let origin = Origin::scripted(move |exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let held = held.lock().map_err(|_| io::Error::other("poisoned"))?;
        held.recv().map_err(io::Error::other)?;
        exchange.write("5\r\nhello\r\n0\r\n\r\n")
    });
    let gateway = "{kind: faulty-security, options: {phase: response_body}}";
    let gate = gate(origin.address(), Lists { gateway, ..Lists::default() });
    let mut client = gate.client();
    client.send(get_with("/proxied", ""));
    assert!(!client.is_silent_for(Duration::from_secs(10)), "the head comes before its body");

    release.send(()).expect("the script waits");

    let received = String::from_utf8_lossy(&client.rest()).into_owned();
    assert!(received.starts_with("HTTP/1.1 200 OK\r\n"), "{received}");
    assert!(!received.contains("hello") && !received.ends_with("0\r\n\r\n"), "{received}");
    let line = &gate.log(1)[0];
    assert_eq!(line["failure"], "P11", "{line}");
    assert_eq!(line["http.response.status_code"], 200, "{line}");
}

#[test]
fn a_security_plugin_that_fails_refuses() {
    fail_everywhere("faulty-security", "", true);
}

#[test]
fn a_traffic_plugin_that_fails_refuses() {
    fail_everywhere("faulty-traffic", "", true);
}

#[test]
fn a_transform_plugin_that_fails_refuses() {
    fail_everywhere("faulty-transform", "", true);
}

#[test]
fn an_observing_plugin_that_fails_is_skipped() {
    fail_everywhere("faulty-observe", "", false);
}

#[test]
fn traffic_and_transform_plugins_can_be_skipped_when_they_fail() {
    fail_everywhere("faulty-traffic", ", on_error: skip", false);
    fail_everywhere("faulty-transform", ", on_error: skip", false);
}

#[test]
fn an_observing_plugin_can_be_made_to_refuse() {
    fail_everywhere("faulty-observe", ", on_error: refuse", true);
}

#[test]
fn a_security_plugin_cannot_be_skipped() {
    let gateway = "{kind: faulty-security, options: {phase: request}, on_error: skip}";

    let faults = faults(Lists { gateway, ..Lists::default() });

    assert!(faults.contains("plugins[0].on_error"), "{faults}");
    assert_eq!(faults.lines().count(), 1, "{faults}");
}

#[test]
fn a_plugin_that_fails_on_a_reply_refuses_with_500_in_its_place() {
    for phase in ["request", "response", "response_body"] {
        let gateway = format!("{{kind: faulty-security, options: {{phase: {phase}}}}}");
        let gate = alone(Lists { gateway: &gateway, ..Lists::default() });

        for path in ["/reply", "/nowhere"] {
            let response = gate.get(path);

            assert_eq!(response.status, 500, "{phase} {path}");
            assert_ne!(response.text(), "hello", "{phase} {path}");
        }
    }
}

#[test]
fn a_panic_while_logging_is_counted_and_harms_nothing() {
    let gateway = "{kind: faulty-observe, options: {phase: log, panics: true}}, \
                   {kind: tell, options: {to: after-a-panic}}";
    let gate = alone(Lists { gateway, ..Lists::default() });
    let mut client = gate.client();

    for _ in 0..2 {
        assert_eq!(client.send(get_with("/reply", "")).response().status, 200);
    }

    gate.await_metric(r#"gateway_plugin_errors_total{kind="panic",plugin="faulty-observe"}"#, 2.0);
    assert_eq!(told_to("after-a-panic").len(), 2, "later plugins are told");
    assert_eq!(gate.log(2).len(), 2);
}

// ---- Bodies -------------------------------------------------------------------------------------

/// A gateway that collects bodies of up to 1 MiB.
fn collecting(origin: &Origin, more: &str) -> Gate {
    let route = format!("plugins: [{{kind: whole, options: {{max: 1048576{more}}}}}]");
    gate(origin.address(), Lists { route: &route, ..Lists::default() })
}

#[test]
fn a_collected_body_of_known_length_reaches_the_upstream_whole() {
    let origin = echoing();
    let gate = collecting(&origin, "");
    for length in [1, 65_535, 65_536, 65_537, 200_000, 1_048_576] {
        let body: String = ('a'..='z').cycle().take(length).collect();

        let response = gate.exchange(post("/proxied", &body));

        assert!(response.text() == body, "{length}: {} bytes came", response.body.len());
        assert_eq!(origin.last_fields("content-length"), [length.to_string()]);
    }
}

#[test]
fn a_collected_body_of_unknown_length_reaches_the_upstream_up_to_64_kib() {
    let origin = echoing();
    let gate = collecting(&origin, "");
    let body: String = ('a'..='z').cycle().take(65_536).collect();

    let response = gate.exchange(chunked("/proxied", &body));

    assert!(response.text() == body, "{} {} bytes came", response.status, response.body.len());
    assert_eq!(origin.last_fields("content-length"), ["65536"]);
    assert!(origin.last_fields("transfer-encoding").is_empty());
}

#[test]
fn a_body_that_is_too_long_to_collect_is_413_and_the_upstream_sees_nothing() {
    let origin = echoing();
    let route = "plugins: [{kind: whole, options: {max: 1000}}]";
    let small = gate(origin.address(), Lists { route, ..Lists::default() });
    let large = collecting(&origin, "");

    assert_eq!(small.exchange(post("/proxied", &"x".repeat(1001))).status, 413);
    assert_eq!(small.exchange(chunked("/proxied", &"x".repeat(1001))).status, 413);
    assert_eq!(large.exchange(chunked("/proxied", &"x".repeat(70_000))).status, 413);

    assert!(origin.requests().is_empty());
    assert_eq!(small.log(2)[0]["failure"], "P8");
}

#[test]
fn the_listeners_body_limit_holds_for_a_collected_body() {
    let origin = echoing();
    let route = "plugins: [{kind: whole, options: {max: 1048576}}]";
    let lists = Lists { route, limits: "body_bytes: 10", ..Lists::default() };
    let gate = gate(origin.address(), lists);

    assert_eq!(gate.exchange(chunked("/proxied", &"x".repeat(10))).status, 200);
    assert_eq!(gate.exchange(post("/proxied", &"x".repeat(11))).status, 413);
    assert_eq!(gate.exchange(chunked("/proxied", &"x".repeat(11))).status, 413);
}

#[test]
fn a_collected_body_can_be_refused_before_the_upstream_sees_anything() {
    let origin = echoing();
    let gate = collecting(&origin, ", refuse: attack");
    let mut client = gate.client();

    let refused = client.send(post("/proxied", "an attack")).response();
    let passed = client.send(post("/proxied", "a word")).response();

    assert_eq!(refused.status, 422);
    assert_eq!((passed.status, passed.text().as_str()), (200, "a word"), "on the same connection");
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_collected_body_can_be_changed() {
    let origin = echoing();
    let gate = collecting(&origin, ", add: \" and more\"");

    for request in [post("/proxied", "this"), chunked("/proxied", "this")] {
        assert_eq!(gate.exchange(request).text(), "this and more");
        assert_eq!(origin.last_fields("content-length"), ["13"]);
    }
}

#[test]
fn a_request_without_a_body_passes_a_collecting_plugin() {
    let origin = echoing();
    let gate = collecting(&origin, "");
    let mut client = gate.client();

    for request in [get_with("/proxied", ""), post("/proxied", ""), get_with("/proxied", "")] {
        let response = client.send(request).response();
        assert_eq!((response.status, response.text().as_str()), (200, ""));
    }

    assert_eq!(origin.connections(), 1, "the upstream's connection stays sound");
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on_by_the_collector() {
    let origin = echoing();
    let gate = collecting(&origin, "");
    let mut client = gate.client();
    client.send(
        "POST /proxied HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );

    assert_eq!(client.next_response(false).status, 100);
    assert_eq!(client.send("hello").response().text(), "hello");
}

#[test]
fn a_streamed_body_passes_whole_and_ends_once() {
    let origin = echoing();
    let route = "plugins: [{kind: tap}]";
    let gate = gate(origin.address(), Lists { route, ..Lists::default() });
    let body = "x".repeat(150_000);

    for request in [post("/proxied", &body), chunked("/proxied", &body)] {
        let response = gate.exchange(request);

        assert_eq!(response.header("x-seen"), Some("150000 1"));
        assert_eq!(response.body.len(), 150_000);
    }
}

#[test]
fn a_response_body_of_another_length_is_framed_anew() {
    let origin = Origin::saying("hello");
    let gate = gate(origin.address(), Lists { gateway: "{kind: grow}", ..Lists::default() });
    let mut client = gate.client();

    for _ in 0..2 {
        let response = client.send(get_with("/proxied", "")).response();
        assert_eq!(response.text(), "hello!");
        assert_eq!(response.header("content-length"), Option::None);
        assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    }
    let reply = client.send(get_with("/reply", "")).response();
    assert_eq!((reply.text().as_str(), reply.header("content-length")), ("hello!", Some("6")));
}

#[test]
fn a_response_body_of_another_length_ends_with_the_connection_for_http_1_0() {
    let origin = Origin::saying("hello");
    let gate = gate(origin.address(), Lists { gateway: "{kind: grow}", ..Lists::default() });
    for fields in ["", "Connection: keep-alive\r\n"] {
        let response = gate.exchange(format!("GET /proxied HTTP/1.0\r\nHost: a\r\n{fields}\r\n"));

        assert_eq!(response.text(), "hello!", "{fields}");
        assert_eq!(response.header("content-length"), Option::None, "{fields}");
        assert_eq!(response.header("transfer-encoding"), Option::None, "{fields}");
    }
}

#[test]
fn a_response_without_a_body_gets_none() {
    let origin = Origin::scripted(|exchange| match exchange.head.starts_with("HEAD") {
        true => exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        false => exchange.write("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
    });
    let gate = gate(origin.address(), Lists { gateway: "{kind: grow}", ..Lists::default() });
    let mut client = gate.client();

    for _ in 0..2 {
        let head = client.send("HEAD /proxied HTTP/1.1\r\nHost: a\r\n\r\n").response_to_head();
        assert_eq!(head.status, 200);
        assert_eq!(client.send(get_with("/proxied", "")).response().status, 304);
        let head = client.send("HEAD /reply HTTP/1.1\r\nHost: a\r\n\r\n").response_to_head();
        assert_eq!(head.status, 200);
    }
    client.send(get_with("/reply", "Connection: close\r\n")).response();
    assert!(client.is_closed(), "nothing is left over");
}

// ---- Attempts and logs --------------------------------------------------------------------------

#[test]
fn an_attempt_hook_runs_for_each_attempt_on_a_fresh_copy_of_the_head() {
    let origin = Origin::scripted(|exchange| match exchange.number {
        2 => exchange.close(),
        _ => exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    });
    let gate = gate(origin.address(), Lists { gateway: "{kind: sign}", ..Lists::default() });
    gate.get("/proxied");

    assert_eq!(gate.get("/proxied").status, 200);

    let attempts: Vec<Vec<String>> = origin
        .requests()
        .iter()
        .map(|head| {
            let fields = head.lines().filter_map(|line| line.split_once(": "));
            let named = fields.filter(|(name, _)| name.eq_ignore_ascii_case("x-attempt"));
            named.map(|(_, value)| value.to_owned()).collect()
        })
        .collect();
    assert_eq!(attempts, [["1"], ["1"], ["2"]]);
}

#[test]
fn a_log_hook_is_told_of_every_exit_exactly_once() {
    let (seen, arrived) = channel();
    let origin = Origin::scripted(move |exchange| match exchange.head.split(' ').nth(1) {
        Some("/proxied/close") => exchange.close(),
        Some("/proxied/hang") => {
            seen.send(()).map_err(io::Error::other)?;
            exchange.await_close()
        }
        _ => exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    });
    let gateway = "{kind: tell, options: {to: exits}}, \
                   {kind: ip-restriction, options: {deny: [127.0.0.2]}}";
    let gate = gate(origin.address(), Lists { gateway, ..Lists::default() });

    for path in ["/reply", "/nowhere", "/%00", "/proxied", "/proxied/close"] {
        gate.get(path);
    }
    Client::connect_from([127, 0, 0, 2], gate.address()).send(get_with("/reply", "")).response();
    let mut leaving = gate.client();
    leaving.send(get_with("/proxied/hang", ""));
    arrived.recv().expect("the request arrives");
    drop(leaving);

    gate.log(7);
    assert_eq!(
        told_to("exits"),
        [
            "reply 200 ok",
            "none 404 P1",
            "none 400 P8",
            "proxied 200 ok",
            "proxied 502 X1",
            "reply 403 P4",
            "proxied 499 D1",
        ]
    );
}

// ---- State and tasks ----------------------------------------------------------------------------

fn count(gate: &Gate) -> String {
    gate.get("/reply").header("x-count").unwrap_or("none").to_owned()
}

#[test]
fn state_survives_a_reload_that_does_not_change_its_options_and_no_other() {
    let nobody = Origin::nobody();
    let lists = |gateway| Lists { gateway, ..Lists::default() };
    let gate = gate(nobody, lists("{kind: count, options: {from: 0}}"));
    let reload = |gateway| {
        gate.write(&config(nobody, lists(gateway)));
        gate.running().reload().expect("the config is good");
    };
    assert_eq!((count(&gate), count(&gate)), ("0".into(), "1".into()));

    reload("{kind: request-id}, {kind: count, options: {from: 0}}");
    assert_eq!(count(&gate), "2", "another plugin was added before it");
    reload("{kind: count, options: {from: 100}}");
    assert_eq!(count(&gate), "100", "its options changed");
    reload("{kind: count, options: {from: 100}, when: 'request.method == \"GET\"'}");
    assert_eq!(count(&gate), "101", "its condition shapes no state");
}

#[test]
fn a_reload_that_is_refused_leaves_state_alone() {
    let gate = alone(Lists { gateway: "{kind: count, options: {from: 0}}", ..Lists::default() });
    assert_eq!(count(&gate), "0");

    gate.write("version: 1\nplugins: [{kind: count, options: {from: 5}}, {kind: nonsense}]\n");
    assert!(gate.running().reload().is_err());

    assert_eq!(count(&gate), "1");
}

#[test]
fn each_place_of_a_plugin_has_its_own_state() {
    let gate = alone(Lists {
        gateway: "{kind: count, options: {from: 0}}",
        route: "plugins: [{kind: count, options: {from: 0}}]",
        ..Lists::default()
    });
    let of_plain = || gate.get("/plain").header("x-count").map(str::to_owned);

    assert_eq!((count(&gate), count(&gate)), ("0".into(), "1".into()));
    assert_eq!(of_plain(), Some("0".into()), "the gateway's own has counted nothing yet");
}

fn running(name: &str) -> usize {
    let told = told_to(name);
    let count = |what: &str| told.iter().filter(|said| *said == what).count();
    count("began") - count("ended")
}

#[test]
fn a_task_runs_once_through_reloads_and_ends_with_the_last_snapshot_that_has_it() {
    let nobody = Origin::nobody();
    let with = config(
        nobody,
        Lists { gateway: "{kind: task, options: {to: plain-task}}", ..Lists::default() },
    );
    let gate = Gate::with(builder(), &with);
    eventually("the task begins", || running("plain-task") == 1);

    gate.running().reload().expect("the config is good");
    eventually("one task is left of two", || {
        told_to("plain-task").len() == 3 && running("plain-task") == 1
    });
    gate.write(&config(nobody, Lists::default()));
    gate.running().reload().expect("the config is good");

    eventually("the task ends", || running("plain-task") == 0);
}

#[test]
fn a_task_goes_on_until_the_last_request_of_its_snapshot_is_over() {
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let origin = Origin::scripted(move |exchange| {
        let held = held.lock().map_err(|_| io::Error::other("poisoned"))?;
        held.recv().map_err(io::Error::other)?;
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let lists = Lists { gateway: "{kind: task, options: {to: long-task}}", ..Lists::default() };
    let gate = gate(origin.address(), lists);
    eventually("the task begins", || running("long-task") == 1);
    let mut client = gate.client();
    client.send(get_with("/proxied", ""));
    eventually("the request arrives", || origin.requests().len() == 1);

    gate.write(&config(origin.address(), Lists::default()));
    gate.running().reload().expect("the config is good");

    assert_eq!(gate.get("/reply").status, 200);
    assert_eq!(running("long-task"), 1, "a request of its snapshot is in flight");
    release.send(()).expect("the script waits");
    assert_eq!(client.response().status, 200);
    eventually("the task ends", || running("long-task") == 0);
}

#[test]
fn a_task_of_a_config_that_is_only_checked_or_refused_never_runs() {
    let gateway = "{kind: task, options: {to: no-task}}";
    let good =
        config(Origin::nobody(), Lists { gateway, ..Lists::default() }).replace("LOG", "off");
    assert!(builder().config_text(good.as_str()).check().is_ok());
    let gate = alone(Lists::default());

    gate.write(&format!("{good}- {{name: bad, reply: {{}}, plugins: [{{kind: nonsense}}]}}\n"));
    assert!(gate.running().reload().is_err());

    assert_eq!(gate.get("/reply").status, 200);
    assert!(told_to("no-task").is_empty());
}

#[test]
fn a_task_ends_with_the_gateway() {
    let gateway = "{kind: task, options: {to: last-task}}";
    let gate = alone(Lists { gateway, ..Lists::default() });
    eventually("the task begins", || running("last-task") == 1);

    drop(gate);

    eventually("the task ends", || running("last-task") == 0);
}
