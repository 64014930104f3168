//! The fields in which answers tell what is left of limits.

use std::time::Duration;

use bytes::BytesMut;
use gateway_core::plugin::{HookError, ResponseHeader};
use http::{HeaderName, HeaderValue};

use super::limit::Standing;
use super::options::Fields;
use super::plan::Plan;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl Fields {
    pub(super) fn write(
        self,
        plan: &Plan,
        left: &[Standing],
        response: &mut ResponseHeader,
    ) -> Result<(), HookError> {
        if matches!(self, Self::Ietf | Self::Both) {
            let mut list = BytesMut::with_capacity(64);
            for (rule, standing) in plan.rules.iter().zip(left) {
                list.extend_from_slice(rule.item.as_bytes());
                number(&mut list, standing.remaining);
                list.extend_from_slice(b";t=");
                number(&mut list, seconds(standing.reset));
            }
            response.append_header(RATE_LIMIT_POLICY, plan.policy.clone())?;
            response.append_header(RATE_LIMIT, HeaderValue::from_maybe_shared(list.freeze())?)?;
        }
        if matches!(self, Self::Legacy | Self::Both) {
            let least = plan.rules.iter().zip(left).min_by_key(|(_, standing)| standing.remaining);
            let Some((rule, standing)) = least else { return Ok(()) };
            response.insert_header("X-RateLimit-Limit", rule.table.limit().quota())?;
            response.insert_header("X-RateLimit-Remaining", standing.remaining)?;
            response.insert_header("X-RateLimit-Reset", seconds(standing.reset))?;
        }
        Ok(())
    }
}

/// In whole seconds, rounded up.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Writes a number in decimal digits.
fn number(to: &mut BytesMut, mut number: u64) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        // A remainder of ten is a digit.
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    to.extend_from_slice(&digits[from..]);
}
