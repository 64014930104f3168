//! From the choice of an endpoint to a connection with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use smallvec::SmallVec;

use super::Passage;
use crate::proxy::failure::{self, Progress};
use crate::telemetry::{AttemptRecord, FailureCode};
use crate::upstream::{Choice, Ending, Place, Slot, Upstream, Watched, Why, Wire, hash};

/// A connection with an endpoint, and what it takes up there until it is dropped.
pub(super) struct Reached {
    pub(super) wire: Wire,
    _place: Place,
    _slot: Option<Slot>,
}

/// Connects to one of an upstream's endpoints, and to another where it may and has to.
///
/// # Errors
/// Why nobody was reached. What was tried is in the passage.
pub(super) async fn reach(
    passage: &mut Passage,
    upstream: &Arc<Upstream>,
    worker: usize,
    watched: &Watched,
) -> Result<Reached, FailureCode> {
    let slot = upstream.enter(watched.left()).await.map_err(|_| FailureCode::U8)?;
    if !upstream.is_found(watched.left()).await {
        return Err(upstream.nobody());
    }
    let hashed = |text: Option<&str>| text.map(|text| hash(text.as_bytes()));
    let key = upstream.key().and_then(|key| key.with_address(passage.client.ip(), hashed));
    let now = watched.now();
    let mut avoid = SmallVec::<[SocketAddr; 2]>::new();
    let first = Choice { worker, first: true, now, key, cookie: None, avoid: &[] };
    let mut place = upstream.choose_or_wait(first, watched.left()).await;
    for tried in 1.. {
        let Some(mut chosen) = place else { return Err(upstream.nobody()) };
        let code = match attempt(passage, upstream, &chosen, watched).await {
            Ok(wire) => return Ok(Reached { wire, _place: chosen, _slot: slot }),
            Err(code) => code,
        };
        chosen.leave();
        avoid.push(chosen.address);
        let Some(pause) = pause(upstream, code, tried, watched)? else { return Err(code) };
        tokio::time::sleep(pause).await;
        let again = Choice { first: false, now: watched.now(), avoid: &avoid, ..first };
        place = upstream.choose(again);
    }
    unreachable!("the attempts are counted, and end")
}

async fn attempt(
    passage: &mut Passage,
    upstream: &Upstream,
    place: &Place,
    watched: &Watched,
) -> Result<Wire, FailureCode> {
    let began = Instant::now();
    let connected = upstream.connect(place, passage.client, passage.local).await;
    let took = began.elapsed();
    let failure = connected.as_ref().err().map(|error| failure::code(error, Progress::Connecting));
    // That it could be reached is all that is known of how it does.
    let ending = failure.map_or(Ending::Answered(200, took), |code| Ending::Failed(code, took));
    upstream.ended(place, ending, watched.now());
    passage.tried(AttemptRecord {
        endpoint: place.address,
        failure,
        started: began.duration_since(passage.started),
        duration: took,
        connect: failure.is_none().then_some(took),
        reused: false,
        status: None,
        lost: false,
    });
    connected.map_err(|_| failure.unwrap_or(FailureCode::G1))
}

/// How long to wait before the attempt that follows this many, the last of which failed like this. `None` if none
/// follows.
///
/// # Errors
/// All that there may be were made, and there were several.
fn pause(
    upstream: &Upstream,
    code: FailureCode,
    tried: u32,
    watched: &Watched,
) -> Result<Option<Duration>, FailureCode> {
    let Some(retry) = upstream.retry() else { return Ok(None) };
    let Some(reason) = retry.reason(Why::Failure(code), &Method::GET) else { return Ok(None) };
    if tried >= retry.attempts() {
        return if tried > 1 { Err(FailureCode::X6) } else { Ok(None) };
    }
    let pause = retry.pause(tried, None).unwrap_or_default();
    if watched.left().is_some_and(|left| left <= pause) {
        return Ok(None);
    }
    if !retry.spend(watched.now()) {
        upstream.metrics().retry_refused();
        return Ok(None);
    }
    upstream.metrics().retried(reason);
    Ok(Some(pause))
}
