//! Where connections go that are no HTTP.

use std::sync::Arc;

use crate::config::TcpConfig;
use crate::snapshot::{Patience, TcpPlan};
use crate::upstream::Upstream;

pub(super) fn plan(config: &TcpConfig, upstreams: &[Arc<Upstream>]) -> TcpPlan {
    let find = |name: &str| upstreams.iter().find(|held| held.name() == name).cloned();
    let hosts = config.sni.iter().map(|(host, name)| (host.to_ascii_lowercase(), name));
    let (under, names): (Vec<_>, Vec<_>) = hosts
        .filter_map(|(host, name)| Some((host, find(name)?)))
        .partition(|(host, _)| host.starts_with("*."));
    TcpPlan {
        upstream: config.upstream.as_deref().and_then(find),
        names: names.into_iter().map(|(host, to)| (host.into(), to)).collect(),
        under: under.into_iter().map(|(host, to)| (host[2..].into(), to)).collect(),
        allow: config.allow.as_slice().into(),
        deny: config.deny.as_slice().into(),
        patience: Patience {
            idle: config.timeouts.idle.into(),
            half_closed: config.timeouts.half_closed.into(),
        },
        total: config.timeouts.total.map(Into::into),
    }
}
