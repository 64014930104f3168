//! An explanation as lines to read.

use std::fmt;

use serde_json::Value;

use super::{Destination, Explained, Explanation, PluginTold};
use crate::plugin::{Class, Level};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request(f)?;
        self.route(f)?;
        self.plugins(f)?;
        self.action(f)?;
        if !self.told.limits.is_null() {
            line(f, "limits", &format!("of the listener: {}", words(&self.told.limits)))?;
        }
        self.misses(f)
    }
}

/// One line: what it is about, and what is so.
fn line(f: &mut fmt::Formatter<'_>, about: &str, text: &str) -> fmt::Result {
    writeln!(f, "{about:<10}{text}")
}

impl Explanation {
    fn request(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = &self.request;
        let query = request.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let host = if request.host.is_empty() { "(no host)" } else { &request.host };
        let asked =
            format!("{} {}://{host}{}{query}", request.method, request.scheme, request.path);
        line(f, "request", &asked)?;
        if let Some(sent) = &request.path_sent {
            line(f, "", &format!("the path was sent as {sent}"))?;
        }
        let (client, listener) = (&request.client, &request.listener);
        let protocol = &request.protocol;
        line(f, "", &format!("from {client}, through listener {listener}, by {protocol}"))
    }

    fn route(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = &self.told;
        let group =
            told.group.as_ref().map(|group| format!(" (group {group})")).unwrap_or_default();
        match &told.route {
            Some(route) => line(f, "route", &format!("{route}{group}"))?,
            None => line(f, "route", "none")?,
        }
        for (name, value) in &told.captures {
            line(f, "", &format!("{name} = {value}"))?;
        }
        Ok(())
    }

    fn plugins(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plugins = &self.told.plugins;
        if plugins.is_empty() {
            return line(f, "plugins", "none are asked");
        }
        for (place, plugin) in plugins.iter().enumerate() {
            let about = if place == 0 { "plugins" } else { "" };
            line(f, about, &format!("{}. {}", place + 1, plugin_line(plugin)))?;
            // What it limits is what is asked for mostly.
            if plugin.class == Class::Traffic && !words(&plugin.options).is_empty() {
                line(f, "", &format!("   {}", words(&plugin.options)))?;
            }
        }
        Ok(())
    }

    fn action(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = &self.told;
        let status = told.status.map(|status| status.to_string()).unwrap_or_default();
        let place = told.location.as_deref().unwrap_or_default();
        match told.action {
            Explained::Reply => line(f, "action", &format!("reply {status}"))?,
            Explained::Plugin => {
                let by = told.by.as_deref().unwrap_or_default();
                let code = told.failure.as_ref().map(|code| format!(" ({code})"));
                let code = code.unwrap_or_default();
                line(f, "action", &format!("answered with {status}{code} by {by}"))?;
            }
            Explained::Redirect if told.location.is_none() => {
                line(f, "action", &format!("redirect {status}"))?;
            }
            Explained::Redirect => line(f, "action", &format!("redirect {status} to {place}"))?,
            Explained::Refusal => {
                let code = told.failure.as_ref().map(|code| format!(" ({code})"));
                let why = told.why.as_ref().map(|why| format!(": {why}"));
                let (code, why) = (code.unwrap_or_default(), why.unwrap_or_default());
                line(f, "action", &format!("refused with {status}{code}{why}"))?;
                if let Some(allow) = &told.allow {
                    line(f, "", &format!("allowed: {allow}"))?;
                }
            }
            Explained::Upstream => {
                let shares = told.split.iter().map(|share| {
                    format!("{} {}%", share.upstream, (share.share * 1e4).round() / 1e2)
                });
                let shares: Vec<String> = shares.collect();
                let by = told.sticky.as_ref().map(|by| format!(", kept by {by}"));
                let by = by.unwrap_or_default();
                match (&told.upstream, shares.is_empty()) {
                    (Some(upstream), true) => {
                        line(f, "action", &format!("upstream {}", upstream.name))?;
                    }
                    (upstream, _) => {
                        line(f, "action", &format!("split: {}{by}", shares.join(", ")))?;
                        if let Some(upstream) = upstream {
                            line(f, "", &format!("this caller is kept at {}", upstream.name))?;
                        }
                    }
                }
            }
        }
        if !told.unless.is_empty() {
            let unless = told.unless.join(", ");
            line(f, "", &format!("unless {unless} answers before, which only it can tell"))?;
        }
        if !told.waits_for.is_empty() {
            let waits_for = told.waits_for.join(", ");
            line(f, "", &format!("depends on {waits_for}, which is known once plugins have run"))?;
        }
        if let Some(mirror) = &told.mirror {
            let share = (mirror.share * 1e4).round() / 1e2;
            line(f, "", &format!("{share}% are copied to {}", mirror.upstream))?;
        }
        if let Some(path) = &told.rewritten_path {
            line(f, "", &format!("asked for the path {path}"))?;
        }
        if let Some(host) = &told.rewritten_host {
            line(f, "", &format!("asked for the host {host}"))?;
        }
        if let Some(upstream) = &told.upstream {
            destination(f, upstream)?;
        }
        match &told.total {
            Some((total, from)) => line(f, "", &format!("total {total}, as the {from} says")),
            None => Ok(()),
        }
    }

    fn misses(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, miss) in self.misses.iter().enumerate() {
            let about = if place == 0 { "not" } else { "" };
            line(f, about, &format!("{}: {}", miss.route, miss.why))?;
        }
        match self.more_misses {
            0 => Ok(()),
            more => line(f, "", &format!("and {more} more that are farther off")),
        }
    }
}

fn plugin_line(plugin: &PluginTold) -> String {
    let kind =
        if plugin.kind == plugin.name { String::new() } else { format!(" ({})", plugin.kind) };
    let from = match plugin.from {
        Level::Gateway => "the gateway",
        Level::Listener => "listener",
        Level::Group => "group",
        Level::Route => "route",
    };
    let of = plugin.of.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let mut text = format!("{}{kind}, from {from}{of}", plugin.name);
    if let Some(when) = &plugin.when {
        text += &match plugin.acts {
            Some(true) => format!("; acts, for `{when}` holds"),
            Some(false) => format!("; skipped, for `{when}` does not hold"),
            None => format!("; acts if `{when}`, once {} is known", plugin.waits_for.join(", ")),
        };
    }
    text
}

fn destination(f: &mut fmt::Formatter<'_>, upstream: &Destination) -> fmt::Result {
    let mut endpoints: Vec<String> = upstream.endpoints.iter().take(8).cloned().collect();
    if upstream.endpoints.len() > 8 {
        endpoints.push(format!("and {} more", upstream.endpoints.len() - 8));
    }
    if let Some(discover) = &upstream.discover {
        endpoints.push(format!("found by {}", words(discover)));
    }
    line(f, "upstream", &format!("{}: {}", upstream.name, endpoints.join(", ")))?;
    line(f, "", &format!("balance {}", words(&upstream.balance)))?;
    line(f, "", &format!("timeouts {}", words(&upstream.timeouts)))?;
    if let Some(retry) = &upstream.retry {
        line(f, "", &format!("retry {}", words(retry)))?;
    }
    line(f, "", &format!("limits {}", words(&upstream.limits)))
}

/// A part of the config on one line, without what is not set.
fn words(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let set = object.iter().filter(|(_, value)| !value.is_null());
            let set: Vec<String> =
                set.map(|(key, value)| format!("{key} {}", words(value))).collect();
            set.join(", ")
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(words).collect();
            format!("[{}]", items.join(", "))
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
