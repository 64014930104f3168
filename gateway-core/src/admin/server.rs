//! Serves the admin address: HTTP/1.1, few connections, short deadlines.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};

use super::access::Caller;
use super::query::values;
use super::{breakers, endpoints, readouts};
use crate::config::{CanaryConfig, Percent, Secret, Span};
use crate::explain::Question;
use crate::lifecycle::{Asked, State, UpgradeError};
use crate::reload::{ELSEWHERE, How, ReloadError};

/// Connections to the admin address at one time; more wait.
const CONNECTIONS: usize = 64;
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
/// The longest question about a request.
const LONGEST_QUESTION: usize = 256 * 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) type Reply = Response<Full<Bytes>>;

pub(super) async fn serve_tcp(socket: TcpListener, state: Arc<State>, token: Option<Secret>) {
    let caller = Caller::Tcp(token.map(Arc::new));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut accepts = state.admin_accepts.subscribe();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = next(&mut accepts, &state, || socket.accept()).await;
        let Some(accepted) = accepted else { return };
        match accepted {
            Ok((stream, _)) => {
                let serve = connection(stream, state.clone(), caller.clone());
                tokio::spawn(async move {
                    serve.await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

pub(super) async fn serve_unix(socket: UnixListener, state: Arc<State>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut accepts = state.admin_accepts.subscribe();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = next(&mut accepts, &state, || socket.accept()).await;
        let Some(accepted) = accepted else { return };
        match accepted {
            Ok((stream, _)) => {
                let user = stream.peer_cred().map(|peer| peer.uid()).ok();
                let own = nix::unistd::geteuid().as_raw();
                let trusted = user.is_some_and(|user| user == 0 || user == own);
                let serve = connection(stream, state.clone(), Caller::Unix { trusted });
                tokio::spawn(async move {
                    serve.await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// The next connection, once such are accepted; `None` when another process accepts them, or the gateway is gone.
async fn next<T, F>(
    accepts: &mut watch::Receiver<bool>,
    state: &State,
    accept: impl Fn() -> F,
) -> Option<T>
where
    F: Future<Output = T>,
{
    loop {
        accepts.wait_for(|accepts| *accepts).await.ok()?;
        if state.is_handed_over() {
            return None;
        }
        tokio::select! {
            biased;
            _ = accepts.changed() => {}
            accepted = accept() => return Some(accepted),
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    state: Arc<State>,
    caller: Caller,
) {
    let counted = state.clone();
    let _open = Counted::by(&counted.admin_connections);
    let service = service_fn(move |request| {
        let (state, caller) = (state.clone(), caller.clone());
        async move {
            let _call = Counted::by(&state.admin_calls);
            let mut reply = answer(request, &state, &caller).await;
            if state.is_handed_over() {
                // Whoever comes again finds the process that follows.
                let close = http::HeaderValue::from_static("close");
                reply.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(reply)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection");
    }
}

/// Counts until it is gone.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn by(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn answer(mut request: Request<Incoming>, state: &Arc<State>, caller: &Caller) -> Reply {
    if request.method() == Method::POST && request.uri().path() == "/explain" {
        return explain(request.body_mut(), state).await;
    }
    let path = request.uri().path();
    if state.is_handed_over() && ![Method::GET, Method::HEAD].contains(request.method()) {
        return problem(StatusCode::CONFLICT, ELSEWHERE);
    }
    match (request.method(), path) {
        (&Method::GET | &Method::HEAD, _) => {
            readouts::read(path, state).unwrap_or_else(|| unreadable(path))
        }
        (&Method::POST, "/reload") if caller.may_change(request.headers()) => {
            match how(request.uri().query().unwrap_or_default()) {
                Err(detail) => problem(StatusCode::BAD_REQUEST, &detail),
                Ok(how) => {
                    let reload = move |state: &State| {
                        let reloaded = state.reloader.reload(how)?;
                        Ok(json!({ "revision": reloaded.revision, "on_trial": reloaded.is_tried }))
                    };
                    change(state, reload).await
                }
            }
        }
        (&Method::POST | &Method::DELETE, "/canary") if caller.may_change(request.headers()) => {
            let accept = request.method() == Method::POST;
            change(state, move |state| {
                state.reloader.end_trial(accept)?;
                Ok(json!({ "revision": state.snapshots.load().revision }))
            })
            .await
        }
        (&Method::POST, "/rollback") if caller.may_change(request.headers()) => {
            match to(request.uri().query().unwrap_or_default()) {
                Err(detail) => problem(StatusCode::BAD_REQUEST, &detail),
                Ok(to) => {
                    change(state, move |state| {
                        let (revision, entry) = state.reloader.rollback(to)?;
                        Ok(json!({ "revision": revision, "entry": entry }))
                    })
                    .await
                }
            }
        }
        (&Method::POST | &Method::DELETE, _)
            if is_change(path) && caller.may_change(request.headers()) =>
        {
            let (method, query) = (request.method(), request.uri().query().unwrap_or_default());
            let done = if breakers::is_path(path) {
                breakers::Call::read(method, path, query).map(|call| call.run(state))
            } else {
                match endpoints::Call::read(method, path, query) {
                    Ok(call) => Ok(call.run(state).await),
                    Err(detail) => Err(detail),
                }
            };
            done.unwrap_or_else(|detail| problem(StatusCode::BAD_REQUEST, &detail))
        }
        (&Method::POST, "/drain") if caller.may_change(request.headers()) => {
            // Whoever hears that it drains finds it so.
            state.leaving.send_replace(true);
            state.asked.send_replace(Some(Asked::Drain));
            json(StatusCode::ACCEPTED, &json!({ "draining": true }))
        }
        (&Method::POST, "/upgrade") if caller.may_change(request.headers()) => upgrade(state).await,
        (&Method::POST, "/reload" | "/rollback" | "/drain" | "/upgrade" | "/canary")
        | (&Method::DELETE, "/canary") => forbidden(),
        (&Method::POST | &Method::DELETE, _) if is_change(path) => forbidden(),
        _ if readouts::read(path, state).is_some() => {
            not_allowed("this can only be read", "GET, HEAD")
        }
        _ => unreadable(path),
    }
}

/// What would become of the request that the body describes. It changes nothing, so that it takes no token.
async fn explain(body: &mut Incoming, state: &State) -> Reply {
    let body = match Limited::new(body, LONGEST_QUESTION).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let question: Question = match serde_json::from_slice(&body) {
        Ok(question) => question,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("the question: {error}")),
    };
    match state.snapshots.load().explain(&question) {
        Ok(explanation) => json(StatusCode::OK, &json!(explanation)),
        Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

/// Whether a config is to be tried first: `canary=10%&time=30s`, either of both, or `canary=off`.
fn how(query: &str) -> Result<How, String> {
    let [canary, time] = values(query, ["canary", "time"])?;
    if canary == Some("off") {
        return match time {
            None => Ok(How::AtOnce),
            Some(_) => Err("what is not tried takes no time".to_owned()),
        };
    }
    let share = canary.map(|share| share.replace("%25", "%").parse::<Percent>()).transpose();
    let share = share.map_err(|error| format!("`canary`: {error}, or `off`"))?;
    let time = time.map(|time| time.parse::<Span>()).transpose();
    let time = time.map_err(|error| format!("`time`: {error}"))?;
    let tried = CanaryConfig::default();
    let (share_of, time_of) = (share.unwrap_or(tried.share), time.unwrap_or(tried.time));
    match (CanaryConfig { share: share_of, time: time_of, ..tried }).faults().first() {
        Some((key, why)) => Err(format!("`{key}`: {why}")),
        None if share.is_none() && time.is_none() => Ok(How::AsConfigured),
        None => Ok(How::Tried { share, time }),
    }
}

/// The entry that is to be in force again; `None` for the one before.
fn to(query: &str) -> Result<Option<u64>, String> {
    if query.is_empty() {
        return Ok(None);
    }
    let number = query.strip_prefix("to=").and_then(|number| number.parse().ok());
    number.map(Some).ok_or_else(|| "write `to=` and the number of an entry".to_owned())
}

/// Whether a path is that of a call that changes something for a while.
fn is_change(path: &str) -> bool {
    endpoints::is_path(path) || breakers::is_path(path)
}

/// What cannot be read is a call, or nothing.
fn unreadable(path: &str) -> Reply {
    match path {
        "/reload" | "/rollback" | "/drain" | "/upgrade" | "/explain" => {
            not_allowed("this is a call", "POST")
        }
        "/canary" => not_allowed("this is a call", "POST, DELETE"),
        _ if is_change(path) => not_allowed("this is a call", "POST, DELETE"),
        _ => problem(StatusCode::NOT_FOUND, &format!("there is nothing at {path}")),
    }
}

/// Has another process take over; the answer comes when it serves.
async fn upgrade(state: &Arc<State>) -> Reply {
    let turn = state.clone();
    match tokio::task::spawn_blocking(move || turn.upgrade()).await {
        Ok(Ok(upgraded)) => json(StatusCode::OK, &json!(upgraded)),
        Ok(Err(error @ UpgradeError::NotNow(_))) => {
            problem(StatusCode::CONFLICT, &error.to_string())
        }
        Ok(Err(error @ UpgradeError::Failed(_))) => {
            problem(StatusCode::BAD_GATEWAY, &error.to_string())
        }
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Reads the config again, or goes back to an earlier one.
async fn change(
    state: &Arc<State>,
    change: impl FnOnce(&State) -> Result<Value, ReloadError> + Send + 'static,
) -> Reply {
    let turn = state.clone();
    let outcome = tokio::task::spawn_blocking(move || change(&turn)).await;
    match outcome {
        Ok(Ok(done)) => json(StatusCode::OK, &done),
        Ok(Err(ReloadError::Busy(detail))) => problem(StatusCode::CONFLICT, &detail),
        Ok(Err(ReloadError::History(detail))) => problem(StatusCode::NOT_FOUND, &detail),
        Ok(Err(error)) => {
            let (status, title) = match &error {
                ReloadError::Config(_) => {
                    (StatusCode::UNPROCESSABLE_ENTITY, "The config has faults; nothing has changed")
                }
                ReloadError::Address(_) | ReloadError::History(_) | ReloadError::Busy(_) => {
                    (StatusCode::CONFLICT, "An address cannot be bound; nothing has changed")
                }
            };
            let faults: Vec<_> = error.faults().collect();
            let body = json!({
                "status": status.as_u16(),
                "title": title,
                "faults": faults,
            });
            typed(status, "application/problem+json", body.to_string())
        }
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Reply {
    typed(status, "application/json", format!("{body:#}\n"))
}

pub(super) fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    reply
}

fn not_allowed(detail: &str, methods: &'static str) -> Reply {
    let mut reply = problem(StatusCode::METHOD_NOT_ALLOWED, detail);
    reply.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static(methods));
    reply
}

fn forbidden() -> Reply {
    let detail = "calls that change something need the admin token, or the Unix socket";
    problem(StatusCode::FORBIDDEN, detail)
}

/// Problem details (RFC 9457).
pub(super) fn problem(status: StatusCode, detail: &str) -> Reply {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = json!({ "status": status.as_u16(), "title": title, "detail": detail });
    typed(status, "application/problem+json", body.to_string())
}
