//! The route table as rows to read, in the order in which they are tried.

use serde::{Deserialize, Serialize};

use crate::action::{Action, SplitPlan};
use crate::config::secret_name::shown_condition;
use crate::routing::{HostPattern, PathPattern, RouteSpec, ValueRule};
use crate::snapshot::{RoutePlan, Snapshot};

/// One host of one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What goes before everything else.
    pub priority: i32,
    /// A host, `*.` and a name, `~` and a regular expression, or `*` for all.
    pub host: String,
    /// A path, with `/*` behind a prefix, `~` before a regular expression.
    pub path: String,
    /// The methods; none stands for all.
    pub methods: Vec<String>,
    /// What it asks for besides.
    pub also: Vec<String>,
    /// The route.
    pub route: String,
    /// What it does.
    pub action: String,
    /// Its plugins, by listener where they are not the same.
    pub plugins: String,
}

impl Snapshot {
    /// The route table in the order in which its rows are tried where several match.
    pub fn rows(&self) -> Vec<Row> {
        let routes = self.table.specs().iter().zip(self.routes());
        let mut rows: Vec<(&RouteSpec, &RoutePlan, Option<&HostPattern>)> = Vec::new();
        for (spec, plan) in routes {
            match spec.hosts.is_empty() {
                true => rows.push((spec, plan, None)),
                false => rows.extend(spec.hosts.iter().map(|host| (spec, &**plan, Some(host)))),
            }
        }
        rows.sort_by_cached_key(|(spec, _, host)| spec.place(*host));
        rows.into_iter().map(|(spec, plan, host)| self.row(spec, plan, host)).collect()
    }

    fn row(&self, spec: &RouteSpec, plan: &RoutePlan, host: Option<&HostPattern>) -> Row {
        Row {
            priority: spec.priority,
            host: host.map_or_else(|| "*".to_owned(), ToString::to_string),
            path: match &spec.path {
                PathPattern::Any => "/*".to_owned(),
                path => path.to_string(),
            },
            methods: spec.methods.iter().map(ToString::to_string).collect(),
            also: self.also(spec),
            route: spec.name.to_string(),
            action: action(plan),
            plugins: self.chain_names(spec, plan),
        }
    }

    fn also(&self, spec: &RouteSpec) -> Vec<String> {
        let rules = &spec.rules;
        let values = rules.values.iter().map(ValueRule::shown);
        let clients = rules.clients.iter().map(|network| format!("client in {network}"));
        let listeners = rules.listeners.iter().filter_map(|place| {
            Some(format!("through {}", self.listeners().get(usize::from(*place))?.name))
        });
        let conditions = rules.condition.iter();
        let condition = conditions.map(|one| shown_condition(one.source()).to_owned());
        values.chain(clients).chain(condition).chain(listeners).collect()
    }

    fn chain_names(&self, spec: &RouteSpec, plan: &RoutePlan) -> String {
        let through: Vec<(&str, String)> = self
            .listeners()
            .iter()
            .filter(|listener| listener.tcp.is_none() && spec.rules.admit(listener.index))
            .filter_map(|listener| {
                let names = plan.chain(listener)?.plugins().map(|plugin| plugin.name.to_string());
                Some((&*listener.name, names.collect::<Vec<_>>().join(" > ")))
            })
            .collect();
        match through.as_slice() {
            [(_, first), rest @ ..] if rest.iter().all(|(_, names)| names == first) => {
                first.clone()
            }
            all => {
                let all = all.iter().map(|(listener, names)| format!("{listener}: {names}"));
                all.collect::<Vec<_>>().join("; ")
            }
        }
    }
}

fn action(plan: &RoutePlan) -> String {
    match &plan.action {
        Action::Reply(reply) => format!("reply {}", reply.status.as_u16()),
        Action::Redirect(redirect) => format!("redirect {}", redirect.status.as_u16()),
        Action::Send(None) => {
            format!("upstream {}", plan.upstream().map_or("", |upstream| upstream.name()))
        }
        Action::Send(Some(split)) => format!("split {}", shares(split)),
    }
}

fn shares(split: &SplitPlan) -> String {
    let shares = split
        .shares()
        .map(|(upstream, share)| format!("{upstream} {}%", (share * 1e4).round() / 1e2));
    shares.collect::<Vec<_>>().join(", ")
}

/// Rows as lines to read, in columns.
pub fn columns(rows: &[Row]) -> String {
    let heads = ["HOST", "PATH", "METHODS", "ALSO", "ROUTE", "ACTION", "PLUGINS"];
    let has_priorities = rows.iter().any(|row| row.priority != 0);
    let mut lines: Vec<Vec<String>> = vec![heads.iter().map(|head| (*head).to_owned()).collect()];
    lines.extend(rows.iter().map(|row| {
        vec![
            row.host.clone(),
            row.path.clone(),
            if row.methods.is_empty() { "*".to_owned() } else { row.methods.join(",") },
            row.also.join(", "),
            row.route.clone(),
            row.action.clone(),
            row.plugins.clone(),
        ]
    }));
    if has_priorities {
        let priorities = rows.iter().map(|row| row.priority.to_string());
        let priorities = std::iter::once("PRIORITY".to_owned()).chain(priorities);
        for (line, priority) in lines.iter_mut().zip(priorities) {
            line.insert(0, priority);
        }
    }
    let count = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let is_empty = |column: usize| lines[1..].iter().all(|line| line[column].is_empty());
    let shown: Vec<usize> = (0..count).filter(|column| !is_empty(*column)).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = shown.iter().map(|column| format!("{:<1$}", line[*column], widths[*column]));
        let cells: Vec<String> = cells.collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}
