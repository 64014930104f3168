//! Whether a request is tried again, on which endpoint, and after which pause.

use std::time::Duration;

use http::HeaderMap;
use pingora_proxy::Session;

use super::exchange::Open;
use crate::telemetry::FailureCode;
use crate::upstream::{Pass, Why};

impl Open {
    /// Whether the attempt that has just ended like this is repeated. If it is, its repetition is paid
    /// for out of the budget and has its pause.
    ///
    /// Never after a byte of an answer went down, and never if the body cannot be sent again.
    pub(super) fn tries_again(
        &mut self,
        session: &Session,
        why: Why,
        answer: Option<&HeaderMap>,
    ) -> bool {
        let Some(target) = self.target.as_mut() else { return false };
        let Some(retry) = target.upstream.retry() else { return false };
        let fired = self.watched.fired();
        let kept = self.collected.is_some();
        let refused = self.refused.is_some() || self.conn.is_malformed();
        let Some(reason) = retry.reason(why, &session.req_header().method) else { return false };
        let begun = session.response_written().is_some_and(|head| !head.status.is_informational());
        let lost = !kept && session.as_ref().retry_buffer_truncated();
        let over = fired.is_some_and(|code| code != FailureCode::X3);
        // A breaker that has opened since wants no more of it, and no more of a probe.
        let unwanted = self.passes.iter().any(Pass::is_used);
        if refused || begun || lost || over || unwanted {
            return false;
        }
        if target.tried >= retry.attempts() {
            // An answer that nothing is repeated for any more is passed on.
            target.used_up = target.tried > 1 && !matches!(why, Why::Status(_));
            return false;
        }
        let Some(pause) = retry.pause(target.tried, answer) else { return false };
        if self.watched.left().is_some_and(|left| left <= pause) {
            return false;
        }
        let metrics = target.upstream.metrics();
        if !retry.spend(self.watched.now()) {
            metrics.retry_refused();
            return false;
        }
        metrics.retried(reason);
        target.pause = pause;
        target.avoid.push(target.endpoint.address);
        self.watched.rearm();
        true
    }

    /// Another attempt follows that is one of those a request may have.
    pub(super) fn count_attempt(&mut self) {
        self.target.iter_mut().for_each(|target| target.tried += 1);
    }

    /// What the request is called that ended like this: that its attempts are used up, if it had
    /// several.
    pub(super) fn verdict(&self, code: FailureCode) -> FailureCode {
        let used_up = self.target.as_ref().is_some_and(|target| target.used_up);
        if used_up { FailureCode::X6 } else { code }
    }

    /// How long an attempt may take to begin its answer.
    pub(super) fn patience(&self) -> Duration {
        let Some(target) = &self.target else { return Duration::MAX };
        let first_byte = target.upstream.timeouts().first_byte;
        let per_try = target.upstream.retry().and_then(|retry| retry.per_try());
        per_try.map_or(first_byte, |per_try| per_try.min(first_byte))
    }
}
