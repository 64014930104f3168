//! Drives one plugin without a socket, through the chain that serves real requests.
//!
//! ```ignore
//! let test = PluginTest::<Greet>::yaml("name: world");
//! let outcome = test.get("/").header("x-hi", "1").send().await;
//! assert_eq!(outcome.status(), 200);
//! ```
//!
//! The plugin is built from a config like any other: strictness, defaults and faults are the real
//! ones. The upstream is played by the test: it answers 200 unless told otherwise.

use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use pingora_http::{RequestHeader, ResponseHeader};

use super::{Chain, Plugin, Registry, Reply, Spec};
use crate::context::RequestCtx;
use crate::reload::{Builder, Source};
use crate::snapshot::Snapshot;
use crate::telemetry::{FailureCode, Phases, RequestRecord, StatusSource};

/// One plugin, built, in a gateway that has no socket.
pub struct PluginTest<P> {
    snapshot: Arc<Snapshot>,
    plugin: PhantomData<P>,
}

impl<P: Plugin> PluginTest<P> {
    /// Builds the plugin from its options.
    ///
    /// # Panics
    /// The options have faults; the message lists them.
    #[track_caller]
    pub fn yaml(options: &str) -> Self {
        Self::yaml_beside("", options)
    }

    /// The same, with more of a config beside it, such as `consumers: [...]` on one line.
    ///
    /// # Panics
    /// The options, or what stands beside them, have faults; the message lists them.
    #[track_caller]
    pub fn yaml_beside(more: &str, options: &str) -> Self {
        match build::<P>(more, options) {
            Ok(snapshot) => Self { snapshot: Arc::new(snapshot), plugin: PhantomData },
            Err(faults) => panic!("the options have faults:\n{faults}"),
        }
    }

    /// The faults that options have, each as `path: message`.
    ///
    /// # Panics
    /// The options have none.
    #[track_caller]
    pub fn faults(options: &str) -> Vec<String> {
        match build::<P>("", options) {
            Ok(_) => panic!("the options have no fault"),
            Err(faults) => {
                faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
            }
        }
    }

    /// A GET request for this target.
    pub fn get(&self, target: &str) -> TestRequest<'_> {
        self.request(Method::GET, target)
    }

    /// A POST request for this target.
    pub fn post(&self, target: &str) -> TestRequest<'_> {
        self.request(Method::POST, target)
    }

    /// A request with this method for this target.
    ///
    /// # Panics
    /// The target is not one that HTTP can carry.
    pub fn request(&self, method: Method, target: &str) -> TestRequest<'_> {
        let mut head = RequestHeader::build(method, target.as_bytes(), None)
            .expect("the test's target can be sent");
        head.set_version(Version::HTTP_11);
        set(&mut head, "host", "test.example");
        TestRequest {
            snapshot: &self.snapshot,
            head,
            client: IpAddr::from([127, 0, 0, 1]),
            body: Vec::new(),
            response: ResponseHeader::build(200, None).expect("200 is a valid status"),
            response_body: Vec::new(),
            trailers: HeaderMap::new(),
        }
    }
}

fn build<P: Plugin>(more: &str, options: &str) -> Result<Snapshot, crate::config::Faults> {
    let indented = options.replace('\n', "\n      ");
    let config = format!(
        "version: 1\n{more}\nplugins:\n  - kind: {}\n    options:\n      {indented}\n\
         listeners:\n  - {{name: test, address: \"127.0.0.1:0\"}}\n\
         routes:\n  - {{name: test, match: {{path: /}}, reply: {{status: 200}}}}\n",
        P::KIND
    );
    let mut registry = Registry::default();
    registry.add(Spec::of::<P>());
    let builder = Builder::new(Source::Text(config), registry);
    builder.compile(&builder.load()?)
}

/// A request that is put together, then sent.
pub struct TestRequest<'a> {
    snapshot: &'a Arc<Snapshot>,
    head: RequestHeader,
    client: IpAddr,
    body: Vec<Bytes>,
    response: ResponseHeader,
    response_body: Vec<Bytes>,
    trailers: HeaderMap,
}

impl TestRequest<'_> {
    /// With one more field.
    ///
    /// # Panics
    /// HTTP cannot carry it.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        add(&mut self.head, name, value);
        self
    }

    /// From this client.
    ///
    /// # Panics
    /// It is not an IP address.
    pub fn client(mut self, address: &str) -> Self {
        self.client = address.parse().expect("the test's client is an IP address");
        self
    }

    /// With a body in these chunks.
    pub fn body(mut self, chunks: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        self.body = copied(chunks);
        self
    }

    /// To be answered by the upstream with this status.
    ///
    /// # Panics
    /// It is not a status.
    pub fn upstream_status(mut self, status: u16) -> Self {
        self.response.set_status(status).expect("the test's status is valid");
        self
    }

    /// To be answered by the upstream with one more field.
    ///
    /// # Panics
    /// HTTP cannot carry it.
    pub fn upstream_header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("the test's field name is valid");
        self.response.append_header(name, value).expect("the test's field is valid");
        self
    }

    /// To be answered by the upstream with a body in these chunks.
    pub fn upstream_body(mut self, chunks: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        self.response_body = copied(chunks);
        self
    }

    /// To be answered by the upstream with one more field behind the body.
    ///
    /// # Panics
    /// HTTP cannot carry it.
    pub fn upstream_trailer(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("the test's trailer name is valid");
        let value = HeaderValue::from_str(value).expect("the test's trailer is valid");
        self.trailers.append(name, value);
        self
    }

    /// Sends it through every phase, in the order in which the proxy runs them.
    pub async fn send(self) -> Outcome {
        let snapshot = self.snapshot.clone();
        let (route, listener) = (snapshot.routes()[0].clone(), snapshot.listeners()[0].clone());
        let chain = route.chain(&listener).cloned().unwrap_or_default();
        let peer = SocketAddr::new(self.client, 40_000);
        let mut ctx = RequestCtx::new(snapshot, listener, peer);
        ctx.set_client(self.client.to_canonical(), "http");
        ctx.set_route(route, None);
        let mut exchange = Exchange {
            chain,
            ctx,
            head: self.head,
            upstream: None,
            upstream_body: BytesMut::new(),
        };
        let answer = match exchange.request(self.body).await {
            Ok(()) => Answer {
                head: self.response,
                body: self.response_body,
                trailers: self.trailers,
                source: StatusSource::Upstream,
            },
            Err(reply) => {
                if let Some(code) = reply.failure {
                    exchange.ctx.fail(code);
                }
                Answer {
                    head: head_of(&reply),
                    body: vec![reply.body.clone()],
                    trailers: HeaderMap::new(),
                    source: StatusSource::Gateway,
                }
            }
        };
        exchange.respond(answer).await
    }
}

/// What a request is answered with, before the response phases.
struct Answer {
    head: ResponseHeader,
    body: Vec<Bytes>,
    trailers: HeaderMap,
    source: StatusSource,
}

fn copied(chunks: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<Bytes> {
    chunks.into_iter().map(|chunk| Bytes::copy_from_slice(chunk.as_ref())).collect()
}

/// A request on its way through the phases.
struct Exchange {
    chain: Arc<Chain>,
    ctx: RequestCtx,
    head: RequestHeader,
    upstream: Option<RequestHeader>,
    upstream_body: BytesMut,
}

impl Exchange {
    async fn request(&mut self, body: Vec<Bytes>) -> Result<(), Box<Reply>> {
        if let Some(reply) = self.chain.request(&mut self.head, &mut self.ctx).await {
            return Err(reply);
        }
        let chunks = match self.chain.collects() {
            Some(max) => {
                let whole: Bytes = body.concat().into();
                if whole.len() > max {
                    let status = StatusCode::PAYLOAD_TOO_LARGE;
                    return Err(Box::new(Reply::refusal(status, FailureCode::P8)));
                }
                let mut whole = Some(whole);
                self.pass(true, &mut whole, true).await?;
                whole.into_iter().collect()
            }
            None => body,
        };
        let mut attempt = self.head.clone();
        self.chain.attempt(&mut attempt, &mut self.ctx).await?;
        self.upstream = Some(attempt);
        for (index, chunk) in chunks.iter().enumerate() {
            self.send_up(Some(chunk.clone()), index + 1 == chunks.len()).await?;
        }
        if chunks.is_empty() {
            self.send_up(None, true).await?;
        }
        Ok(())
    }

    async fn send_up(&mut self, mut chunk: Option<Bytes>, last: bool) -> Result<(), Box<Reply>> {
        self.pass(false, &mut chunk, last).await?;
        self.upstream_body.extend_from_slice(&chunk.unwrap_or_default());
        Ok(())
    }

    async fn pass(
        &mut self,
        collected: bool,
        chunk: &mut Option<Bytes>,
        last: bool,
    ) -> Result<(), Box<Reply>> {
        let (chain, head) = (self.chain.clone(), self.head.clone());
        match chain.request_body(collected, chunk, last, &head, &mut self.ctx).await {
            Some(reply) => Err(reply),
            None => Ok(()),
        }
    }

    async fn respond(mut self, answer: Answer) -> Outcome {
        let Answer { head: mut response, body: chunks, trailers, source } = answer;
        let mut body = BytesMut::new();
        let outcome = self.chain.response(&mut response, &self.head, &mut self.ctx).await;
        let mut outcome = outcome.map(|()| None);
        // What ends with trailers has no last chunk of its own.
        let last = if trailers.is_empty() { chunks.len().max(1) - 1 } else { chunks.len() };
        let chunks = chunks.into_iter().map(Some).chain([None]).take(last + 1);
        for (index, mut chunk) in chunks.enumerate() {
            let (head, ctx) = (&self.head, &mut self.ctx);
            if matches!(outcome, Ok(None)) && index == last && !trailers.is_empty() {
                outcome = self.chain.response_trailers(&trailers, head, ctx).map(|()| None);
            }
            if matches!(outcome, Ok(None)) {
                outcome = self.chain.response_body(&mut chunk, index == last, head, ctx);
                body.extend_from_slice(&chunk.unwrap_or_default());
            }
        }
        let mut ended = None;
        match outcome {
            Ok(None) => {}
            Ok(Some(reply)) => {
                reply.failure.into_iter().for_each(|code| self.ctx.fail(code));
                ended = Some(*reply);
            }
            Err(reply) => {
                response = head_of(&reply);
                body = reply.body.as_ref().into();
                self.ctx.fail(reply.failure.unwrap_or(FailureCode::P11));
            }
        }
        self.log(&response, source);
        Outcome {
            failure: self.ctx.failure(),
            response,
            body: body.freeze(),
            ended,
            upstream: self.upstream,
            upstream_body: self.upstream_body.freeze(),
            ctx: self.ctx,
        }
    }

    fn log(&self, response: &ResponseHeader, status_source: StatusSource) {
        let record = RequestRecord {
            time: SystemTime::now(),
            duration: Duration::from_millis(1),
            phases: Phases::default(),
            listener: self.ctx.listener_name(),
            route: self.ctx.route_name(),
            upstream: None,
            attempts: &[],
            method: &self.head.method,
            scheme: self.ctx.scheme(),
            host: self.ctx.host(),
            path: self.head.uri.path(),
            query: self.head.uri.query(),
            protocol: self.head.version,
            status: Some(response.status.as_u16()),
            status_source,
            failure: self.ctx.failure(),
            bytes_in: 0,
            bytes_out: 0,
            client: self.ctx.client_ip(),
            peer: self.ctx.peer(),
            request_headers: &self.head.headers,
            response_headers: Some(&response.headers),
            request_id: self.ctx.request_id(),
            trace: self.ctx.trace(),
            consumer: self.ctx.consumer().map(|consumer| &*consumer.name),
            revision: 1,
            retries: 0,
            plugin_times: &[],
            grpc_status: None,
            ended_by: None,
        };
        self.chain.log(&record, &self.head, &self.ctx);
    }
}

fn head_of(reply: &Reply) -> ResponseHeader {
    let mut head = ResponseHeader::build(reply.status, None).expect("a reply's status is valid");
    for (name, value) in &reply.headers {
        head.append_header(name.clone(), value.clone()).expect("a reply's fields are valid");
    }
    head
}

fn add(head: &mut RequestHeader, name: &str, value: &str) {
    let name = HeaderName::try_from(name).expect("the test's field name is valid");
    head.append_header(name, value).expect("the test's field is valid");
}

fn set(head: &mut RequestHeader, name: &'static str, value: &'static str) {
    head.insert_header(name, value).expect("the test's field is valid");
}

/// What came of a request.
pub struct Outcome {
    response: ResponseHeader,
    body: Bytes,
    ended: Option<Reply>,
    upstream: Option<RequestHeader>,
    upstream_body: Bytes,
    failure: Option<FailureCode>,
    ctx: RequestCtx,
}

impl Outcome {
    /// The status the client got.
    pub fn status(&self) -> u16 {
        self.response.status.as_u16()
    }

    /// A field the client got; the first of its name.
    pub fn header(&self, name: &str) -> Option<String> {
        self.response.headers.get(name).map(text)
    }

    /// Every field of this name that the client got.
    pub fn headers(&self, name: &str) -> Vec<String> {
        self.response.headers.get_all(name).iter().map(text).collect()
    }

    /// The body the client got.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// What a plugin ended the response with behind its [`body`](Self::body), if one did.
    pub fn ended_with(&self) -> Option<&Reply> {
        self.ended.as_ref()
    }

    /// Why the request failed, if it did.
    pub fn failure(&self) -> Option<FailureCode> {
        self.failure
    }

    /// Whether a request went up.
    pub fn reached_upstream(&self) -> bool {
        self.upstream.is_some()
    }

    /// A field the upstream got; the first of its name.
    pub fn upstream_saw(&self, name: &str) -> Option<String> {
        self.upstream.as_ref()?.headers.get(name).map(text)
    }

    /// Every field of this name that the upstream got.
    pub fn upstream_saw_all(&self, name: &str) -> Vec<String> {
        let fields = self.upstream.iter().flat_map(|head| head.headers.get_all(name));
        fields.map(text).collect()
    }

    /// The body the upstream got.
    pub fn upstream_body(&self) -> &[u8] {
        &self.upstream_body
    }

    /// The request's context, as it was at the end.
    pub fn ctx(&self) -> &RequestCtx {
        &self.ctx
    }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
