//! `Chain`: a route's plugins, arranged by phase when the snapshot is compiled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use pingora_http::{RequestHeader, ResponseHeader};

use super::contain::{Clock, Panicked, contained, contained_sync};
use super::{BodyMode, Class, Condition, Facts, Flow, HookError, Hooks, Reply, ResponseBodyHook};
use crate::config::OnError;
use crate::config::secret_name::shown_condition;
use crate::context::RequestCtx;
use crate::telemetry::{FailureCode, PluginError, PluginMetrics, RequestRecord};

/// Where in the config a plugin is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For every route.
    Gateway,
    /// For every route reached through one listener.
    Listener,
    /// For every route of one group.
    Group,
    /// For one route.
    Route,
}

/// One plugin as it stands in chains: built once, shared by every chain it is part of.
pub struct Mounted {
    /// Its name: the kind, unless the config sets another.
    pub name: Arc<str>,
    /// Its kind.
    pub kind: &'static str,
    /// What its failures mean.
    pub class: Class,
    /// Where it is listed.
    pub level: Level,
    /// The list it stands in: empty for the gateway's, else `listener/`, `group/` or `route/` and a name.
    pub(crate) scope: Box<str>,
    pub(crate) on_error: OnError,
    pub(crate) when: Option<Condition>,
    pub(crate) hooks: Hooks,
    pub(crate) metrics: Arc<PluginMetrics>,
}

impl Mounted {
    /// The phases it takes part in.
    pub fn phases(&self) -> Vec<&'static str> {
        self.hooks.phases()
    }

    /// Its condition, if it has one, as it may be shown: `***` where it names something secret.
    pub fn when(&self) -> Option<&str> {
        self.when.as_ref().map(|condition| shown_condition(condition.source()))
    }

    /// What a failure inside it means for the request: `None` to go on, else the refusal.
    fn refusal(&self, error: &HookError) -> Option<Reply> {
        tracing::warn!(plugin = %self.name, %error, "plugin failed");
        (self.class == Class::Security || self.on_error == OnError::Refuse)
            .then(|| Reply::refusal(http::StatusCode::INTERNAL_SERVER_ERROR, FailureCode::P11))
    }
}

/// A plugin in one chain: its place, and its place among the conditional ones.
struct Link {
    mounted: Arc<Mounted>,
    place: usize,
    condition: Option<usize>,
}

/// A route's plugins, arranged by phase. An empty phase costs one branch.
#[derive(Default)]
pub struct Chain {
    links: Vec<Link>,
    request: Vec<usize>,
    request_body: Vec<usize>,
    attempt: Vec<usize>,
    response: Vec<usize>,
    response_body: Vec<usize>,
    log: Vec<usize>,
    metrics: Vec<Arc<PluginMetrics>>,
    collect: Option<usize>,
}

/// A refusal in place of what the chain was asked to do.
pub(crate) type Refusal = Box<Reply>;

impl Chain {
    /// Arranges plugins, given in the order in which requests meet them.
    pub fn new(plugins: impl IntoIterator<Item = Arc<Mounted>>) -> Self {
        let mut chain = Self::default();
        let mut conditions = 0;
        for (place, mounted) in plugins.into_iter().enumerate() {
            let condition = mounted.when.is_some().then(|| {
                conditions += 1;
                conditions - 1
            });
            chain.metrics.push(mounted.metrics.clone());
            chain.links.push(Link { mounted, place, condition });
        }
        let taking = |part: fn(&Hooks) -> bool| {
            let takes = |link: &&Link| part(&link.mounted.hooks);
            chain.links.iter().filter(takes).map(|link| link.place).collect::<Vec<_>>()
        };
        let (request, request_body) =
            (taking(|hooks| hooks.request.is_some()), taking(|hooks| hooks.request_body.is_some()));
        let attempt = taking(|hooks| hooks.attempt.is_some());
        let (mut response, mut response_body) = (
            taking(|hooks| hooks.response.is_some()),
            taking(|hooks| hooks.response_body.is_some()),
        );
        let log = taking(|hooks| hooks.log.is_some());
        response.reverse();
        response_body.reverse();
        let collect = chain.links.iter().filter_map(|link| collects(&link.mounted.hooks)).min();
        Self { request, request_body, attempt, response, response_body, log, collect, ..chain }
    }

    /// The plugins in the order in which requests meet them.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Mounted>> {
        self.links.iter().map(|link| &link.mounted)
    }

    /// The plugin at this place.
    pub(crate) fn plugin(&self, place: usize) -> &Arc<Mounted> {
        &self.links[place].mounted
    }

    /// Whether no plugin is listed.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// The longest body that may be collected, if a plugin wants it whole.
    pub(crate) fn collects(&self) -> Option<usize> {
        self.collect
    }

    /// Whether a plugin takes part before each attempt.
    pub(crate) fn signs_attempts(&self) -> bool {
        !self.attempt.is_empty()
    }

    pub(crate) fn reads_request_body(&self) -> bool {
        !self.request_body.is_empty()
    }

    /// Whether a plugin may make this streamed body longer or shorter.
    pub(crate) fn changes_request_length(&self, ctx: &RequestCtx) -> bool {
        let mut hooks = self
            .part(&self.request_body)
            .filter_map(|link| link.mounted.hooks.request_body.as_ref());
        hooks.any(|hook| hook.mode() == BodyMode::Stream && !hook.keeps_length(ctx))
    }

    pub(crate) fn reads_response_body(&self) -> bool {
        !self.response_body.is_empty()
    }

    /// Whether a plugin may make the body of this response longer or shorter.
    pub(crate) fn changes_response_length(&self, head: &RequestHeader, ctx: &RequestCtx) -> bool {
        self.part(&self.response_body).any(|link| {
            let hook = link.mounted.hooks.response_body.as_ref();
            // Where it cannot be told whether it takes part, it may.
            hook.is_some_and(|hook| !hook.keeps_length(ctx))
                && !matches!(decided(link, head, None, ctx), Ok(false))
        })
    }

    /// Whether a plugin looks at finished requests.
    pub(crate) fn watches(&self) -> bool {
        !self.log.is_empty()
    }

    /// Whether a plugin may change the request's head before an upstream is chosen.
    pub(crate) fn reads_request(&self) -> bool {
        !self.request.is_empty()
    }

    /// Runs the request phase: the first answer ends it.
    pub(crate) async fn request(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Option<Refusal> {
        let mut clock = Clock::default();
        for link in self.part(&self.request) {
            let mounted = &link.mounted;
            let hook = mounted.hooks.request.as_ref()?;
            let outcome = match self.holds(link, head, None, ctx) {
                Ok(false) => continue,
                Ok(true) => {
                    contained(&mut clock, hook.on_request(head, ctx)).await.map(|(flow, time)| {
                        link.count(ctx, time);
                        flow
                    })
                }
                Err(error) => Err(error),
            };
            if let Some(reply) = link.settle(outcome, ctx) {
                return Some(reply);
            }
        }
        None
    }

    /// Runs one chunk of the request's body, or the whole of a collected one, past the plugins
    /// that want it in that form.
    pub(crate) async fn request_body(
        &self,
        collected: bool,
        chunk: &mut Option<Bytes>,
        last: bool,
        head: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Option<Refusal> {
        let mut clock = Clock::default();
        for link in self.part(&self.request_body) {
            let hook = link.mounted.hooks.request_body.as_ref()?;
            if (hook.mode() != BodyMode::Stream) != collected {
                continue;
            }
            let outcome = match self.holds(link, head, None, ctx) {
                Ok(false) => continue,
                Ok(true) => contained(&mut clock, hook.on_request_body(chunk, last, ctx))
                    .await
                    .map(|(flow, time)| {
                        link.count(ctx, time);
                        flow
                    }),
                Err(error) => Err(error),
            };
            if let Some(reply) = link.settle(outcome, ctx) {
                return Some(reply);
            }
        }
        None
    }

    /// Whether the plugin at this place takes part in the request, once its other phases are over.
    pub(crate) fn takes_part(
        &self,
        place: usize,
        head: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<bool, Refusal> {
        let link = &self.links[place];
        self.holds(link, head, None, ctx).or_else(|error| match link.settle(Err(error), ctx) {
            Some(reply) => Err(reply),
            None => Ok(false),
        })
    }

    /// Runs the attempt phase on this attempt's copy of the head.
    pub(crate) async fn attempt(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), Refusal> {
        let mut clock = Clock::default();
        for link in self.part(&self.attempt) {
            let Some(hook) = link.mounted.hooks.attempt.as_ref() else { continue };
            let outcome = match self.holds(link, head, None, ctx) {
                Ok(false) => continue,
                Ok(true) => {
                    contained(&mut clock, hook.on_attempt(head, ctx)).await.map(|((), time)| {
                        link.count(ctx, time);
                        Flow::Continue
                    })
                }
                Err(error) => Err(error),
            };
            if let Some(reply) = link.settle(outcome, ctx) {
                return Err(reply);
            }
        }
        Ok(())
    }

    /// Runs the response phase in reverse order.
    pub(crate) async fn response(
        &self,
        response: &mut ResponseHeader,
        head: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), Refusal> {
        let mut clock = Clock::default();
        for link in self.part(&self.response) {
            let Some(hook) = link.mounted.hooks.response.as_ref() else { continue };
            let outcome = match self.holds(link, head, Some(response), ctx) {
                Ok(false) => continue,
                Ok(true) => contained(&mut clock, hook.on_response(response, head, ctx)).await.map(
                    |((), time)| {
                        link.count(ctx, time);
                        Flow::Continue
                    },
                ),
                Err(error) => Err(error),
            };
            if let Some(reply) = link.settle(outcome, ctx) {
                return Err(reply);
            }
        }
        Ok(())
    }

    /// Runs one chunk of the response's body past the plugins, in reverse order. `Some` ends the response behind what
    /// the chunk holds by then.
    pub(crate) fn response_body(
        &self,
        chunk: &mut Option<Bytes>,
        last: bool,
        head: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<Option<Refusal>, Refusal> {
        self.response_bodies(head, ctx, |hook, ctx| hook.on_response_body(chunk, last, ctx))
    }

    /// Shows the trailers of the response to the plugins that its body passes, in reverse order.
    pub(crate) fn response_trailers(
        &self,
        trailers: &HeaderMap,
        head: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), Refusal> {
        let show = |hook: &dyn ResponseBodyHook, ctx: &mut RequestCtx| {
            hook.on_response_trailers(trailers, ctx).map(|()| Flow::Continue)
        };
        self.response_bodies(head, ctx, show).map(drop)
    }

    /// Runs this for each plugin that takes part in the response's body. What one ends is still shown to the others.
    fn response_bodies(
        &self,
        head: &RequestHeader,
        ctx: &mut RequestCtx,
        mut run: impl FnMut(&dyn ResponseBodyHook, &mut RequestCtx) -> Result<Flow, HookError>,
    ) -> Result<Option<Refusal>, Refusal> {
        let mut clock = Clock::default();
        let mut ended = None;
        for link in self.part(&self.response_body) {
            let Some(hook) = link.mounted.hooks.response_body.as_ref() else { continue };
            let outcome = match self.holds(link, head, None, ctx) {
                Ok(false) => continue,
                Ok(true) => contained_sync(&mut clock, || run(&**hook, ctx)).map(|(flow, time)| {
                    link.count(ctx, time);
                    flow
                }),
                Err(error) => Err(error),
            };
            let ends = outcome.is_ok();
            match link.settle(outcome, ctx) {
                Some(reply) if ends => ended = ended.or(Some(reply)),
                Some(reply) => return Err(reply),
                None => {}
            }
        }
        Ok(ended)
    }

    /// Where the plugins' times are counted, by their places.
    pub(crate) fn metrics(&self) -> &[Arc<PluginMetrics>] {
        &self.metrics
    }

    /// Shows the finished record to the plugins that watch.
    pub(crate) fn log(&self, record: &RequestRecord<'_>, head: &RequestHeader, ctx: &RequestCtx) {
        for link in self.part(&self.log) {
            let Some(hook) = link.mounted.hooks.log.as_ref() else { continue };
            if !matches!(decided(link, head, None, ctx), Ok(true)) {
                continue;
            }
            if let Err(error) = contained_sync(&mut Clock::default(), || {
                hook.on_log(record, ctx);
                Ok(())
            }) {
                link.mounted.metrics.failed(kind(&error));
                tracing::warn!(plugin = %link.mounted.name, %error, "plugin failed while logging");
            }
        }
    }

    fn part<'a>(&'a self, places: &'a [usize]) -> impl Iterator<Item = &'a Link> {
        places.iter().map(|place| &self.links[*place])
    }

    /// Whether the plugin takes part in this request. Decided once a request, when its first phase
    /// comes.
    fn holds(
        &self,
        link: &Link,
        request: &RequestHeader,
        response: Option<&ResponseHeader>,
        ctx: &mut RequestCtx,
    ) -> Result<bool, HookError> {
        let Some(place) = link.condition else { return Ok(true) };
        let holds = decided(link, request, response, ctx)?;
        if ctx.conditions.len() <= place {
            ctx.conditions.resize(place + 1, None);
        }
        ctx.conditions[place] = Some(holds);
        Ok(holds)
    }
}

/// What was decided of the plugin for this request, or what its condition says now.
fn decided(
    link: &Link,
    request: &RequestHeader,
    response: Option<&ResponseHeader>,
    ctx: &RequestCtx,
) -> Result<bool, HookError> {
    let (Some(when), Some(place)) = (&link.mounted.when, link.condition) else { return Ok(true) };
    match ctx.conditions.get(place).copied().flatten() {
        Some(decided) => Ok(decided),
        None => Ok(when.holds(&Facts { request, response, ctx })?),
    }
}

impl Link {
    fn count(&self, ctx: &mut RequestCtx, time: Duration) {
        if ctx.plugin_times.len() <= self.place {
            ctx.plugin_times.resize(self.place + 1, Duration::ZERO);
        }
        ctx.plugin_times[self.place] += time;
    }

    /// What follows from a hook's outcome: an answer, or the next plugin.
    fn settle(&self, outcome: Result<Flow, HookError>, ctx: &mut RequestCtx) -> Option<Refusal> {
        let refusal = match outcome {
            Ok(Flow::Continue) => None,
            Ok(Flow::Respond(reply)) => {
                self.mounted.metrics.replied();
                Some(Box::new(reply))
            }
            Err(error) => {
                self.mounted.metrics.failed(kind(&error));
                self.mounted.refusal(&error).map(Box::new)
            }
        };
        if refusal.is_some() {
            ctx.ended_by = Some(self.place);
        }
        refusal
    }
}

fn kind(error: &HookError) -> PluginError {
    if error.is::<Panicked>() { PluginError::Panic } else { PluginError::Error }
}

fn collects(hooks: &Hooks) -> Option<usize> {
    match hooks.request_body.as_ref()?.mode() {
        BodyMode::Stream => None,
        BodyMode::Collect { max } => Some(max),
    }
}
