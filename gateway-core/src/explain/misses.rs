//! The routes that were near, and what each of them failed of.

use std::sync::Arc;

use super::{Miss, Seen};
use crate::config::secret_name::shown_condition;
use crate::routing::{PathPattern, RouteIndex, RouteQuery, RouteSpec, Unmatched, Unmet};
use crate::snapshot::RoutePlan;

/// How many are told.
const TOLD: usize = 12;
/// How many of those that only the path, or only the host, speaks for.
const FAR: usize = 4;

/// The nearest routes beside the one that serves, and how many there are beside these.
pub(super) fn of(
    seen: &Seen<'_>,
    query: &RouteQuery<'_>,
    winner: Option<&Arc<RoutePlan>>,
) -> (Vec<Miss>, usize) {
    let routes = seen.snapshot.routes();
    let winner = winner.and_then(|winner| routes.iter().position(|one| Arc::ptr_eq(one, winner)));
    let specs = seen.snapshot.table.specs().iter().enumerate();
    let mut found: Vec<(Nearness, usize, Unmatched)> = specs
        .filter(|(place, _)| Some(*place) != winner)
        .filter_map(|(place, spec)| {
            let failed = spec.first_unmet(query);
            let nearness = Nearness::of(spec, &failed, seen)?;
            Some((nearness, place, failed))
        })
        .collect();
    found.sort_by(|one, two| one.0.cmp(&two.0).then(one.1.cmp(&two.1)));
    let near = found.iter().filter(|(nearness, ..)| nearness.far == 0).count();
    let told = near.min(TOLD).max(TOLD.min(near + FAR)).min(found.len());
    let more = found.len() - told;
    let misses = found.into_iter().take(told).filter_map(|(_, place, failed)| {
        let spec = seen.snapshot.table.specs().get(place)?;
        let why = match failed {
            Unmatched::Precedence => goes_before(seen, query, winner, spec),
            _ => why(spec, failed, query),
        };
        Some(Miss { route: spec.name.to_string(), failed, why })
    });
    (misses.collect(), more)
}

/// How near a route is: less is nearer.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Nearness {
    /// 0 where host and path match, 1 where one of them does.
    far: u8,
    failed: Unmatched,
    /// How much of the path is not the same.
    rest: usize,
}

impl Nearness {
    /// `None` for one that neither its host nor its path speaks for.
    fn of(spec: &RouteSpec, failed: &Unmatched, seen: &Seen<'_>) -> Option<Self> {
        let path = seen.head.uri.path();
        match failed {
            Unmatched::Hosts if !spec.path.matches(path) => None,
            // What is for every path says nothing of this one.
            Unmatched::Hosts if spec.path.prefix_length(path) == Some(0) => None,
            Unmatched::Hosts => Some(Self { far: 1, failed: *failed, rest: 0 }),
            Unmatched::Path => {
                let pattern = spec.path.to_string();
                let same = pattern.bytes().zip(path.bytes()).take_while(|(one, two)| one == two);
                let same = same.count();
                // The slash alone is nothing in common.
                (same > 1).then(|| Self { far: 1, failed: *failed, rest: path.len() - same })
            }
            _ => Some(Self { far: 0, failed: *failed, rest: 0 }),
        }
    }
}

fn why(spec: &RouteSpec, failed: Unmatched, query: &RouteQuery<'_>) -> String {
    match failed {
        Unmatched::Hosts => format!("its hosts are {}", listed(spec.hosts.iter())),
        Unmatched::Path => match &spec.path {
            PathPattern::Exact(path) => format!("its path is {path} alone"),
            path => format!("its path is {path}"),
        },
        Unmatched::Methods => format!("its methods are {}", listed(spec.methods.iter())),
        _ => match spec.rules.unmet(query) {
            Some(Unmet::Value(rule)) => {
                let found = rule.of.with_text(&query.facts, |text| match text {
                    Some(_) if rule.is_secret() => "is something else".to_owned(),
                    Some(text) => format!("is `{text}`"),
                    None => "is not there".to_owned(),
                });
                format!("it asks that {}; it {found}", rule.shown())
            }
            Some(Unmet::Listener) => "it is reached through other listeners".to_owned(),
            Some(Unmet::Client(networks)) => {
                let client = query.facts.ctx.client_ip();
                format!("its clients are in {}; this one is {client}", listed(networks.iter()))
            }
            Some(Unmet::Condition(source)) => {
                format!("`{}` does not hold", shown_condition(source))
            }
            None => String::new(),
        },
    }
}

fn listed<T: std::fmt::Display>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| format!("{item}")).collect();
    items.join(", ")
}

/// Why another route that matches too serves in its place.
fn goes_before(
    seen: &Seen<'_>,
    query: &RouteQuery<'_>,
    winner: Option<usize>,
    spec: &RouteSpec,
) -> String {
    let winner = winner.and_then(|place| u32::try_from(place).ok()).map(RouteIndex);
    let Some(winner) = winner.and_then(|winner| seen.snapshot.table.spec(winner)) else {
        return "it matches".to_owned();
    };
    let row = winner.decided_by(spec, query);
    format!("it matches too; `{}` goes before it: {row}", winner.name)
}
