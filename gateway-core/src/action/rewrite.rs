//! What an upstream is asked for in place of what the client asked for.

use std::borrow::Cow;

use http::HeaderValue;
use regex::Regex;

use super::path_text::in_normal_form;
use super::{Names, PathText, Unfit, Wrong, at, swapped};
use crate::config::{ReplaceConfig, RewriteConfig};
use crate::plugin::{Attribute, Facts};
use crate::routing::PathPattern;

/// A rewrite, compiled.
pub(crate) struct RewritePlan {
    path: Option<Way>,
    host: Option<HeaderValue>,
}

enum Way {
    Prefix(PathPattern, Box<str>),
    Text(PathText),
    Regex(Regex, Box<str>),
}

/// What one request's upstream is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// The path, if it is another one.
    pub(crate) path: Option<String>,
    /// The Host, if it is another one.
    pub(crate) host: Option<HeaderValue>,
}

impl RewritePlan {
    pub(super) fn compile(
        config: &RewriteConfig,
        path: &PathPattern,
        names: &Names<'_>,
        wrong: &mut Wrong,
    ) -> Self {
        let text = PathText::placed(&["rewrite", "path"], config.path.as_deref(), names, wrong);
        let prefix =
            config.prefix.as_ref().map(|to| Way::Prefix(path.clone(), to.to_string().into()));
        if let Some(message) = config.regex.as_ref().and_then(unfit) {
            wrong.push((at(&["rewrite", "regex", "replacement"]), message));
        }
        let regex = config.regex.as_ref().map(|replace| {
            Way::Regex(replace.pattern.regex().clone(), replace.replacement.as_str().into())
        });
        let host =
            config.host.as_ref().and_then(|host| HeaderValue::try_from(host.to_string()).ok());
        Self { path: text.map(Way::Text).or(prefix).or(regex), host }
    }

    /// The attributes that it reads.
    pub(crate) fn reads(&self) -> Vec<&Attribute> {
        match &self.path {
            Some(Way::Text(text)) => text.reads().collect(),
            _ => Vec::new(),
        }
    }

    /// What the upstream is asked for.
    ///
    /// # Errors
    /// The path that comes out is none in normal form.
    pub(crate) fn apply(&self, facts: &Facts<'_>) -> Result<Rewritten, Unfit> {
        let own = facts.request.uri.path();
        let path = match &self.path {
            None => None,
            Some(Way::Prefix(pattern, prefix)) => {
                let length = pattern.prefix_length(own).unwrap_or(0);
                Some(in_normal_form(swapped(own, length, prefix))?)
            }
            Some(Way::Text(text)) => Some(text.render(facts)?),
            Some(Way::Regex(regex, replacement)) => match regex.replace(own, &**replacement) {
                Cow::Borrowed(_) => None,
                // Nothing is left of a path that was all prefix.
                Cow::Owned(path) if path.is_empty() => Some("/".to_owned()),
                Cow::Owned(path) => Some(in_normal_form(path)?),
            },
        };
        Ok(Rewritten { path, host: self.host.clone() })
    }
}

fn is_of_path(one: char) -> bool {
    one.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/%".contains(one)
}

/// What is wrong with a replacement: a group that there is not, or what no path holds.
fn unfit(replace: &ReplaceConfig) -> Option<String> {
    let regex = replace.pattern.regex();
    let mut rest = replace.replacement.as_str();
    let mut plain = String::new();
    while let Some(dollar) = rest.find('$') {
        plain += &rest[..dollar];
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            plain.push('$');
            rest = after;
            continue;
        }
        // Whatever it stands for, it keeps what is beside it apart.
        plain.push('x');
        let braced = rest.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        let end = rest.find(|one: char| !one.is_ascii_alphanumeric() && one != '_');
        let (name, after) = braced.unwrap_or_else(|| rest.split_at(end.unwrap_or(rest.len())));
        let is_group = match name.parse::<usize>() {
            Ok(number) => number < regex.captures_len(),
            Err(_) => regex.capture_names().flatten().any(|known| known == name),
        };
        if !is_group {
            return Some(format!(
                "the pattern has no group `{name}`; a group in front of letters is written `$${{1}}`"
            ));
        }
        rest = after;
    }
    plain += rest;
    if plain.contains("//") {
        return Some("no path holds `//`".into());
    }
    let wrong = plain.find(|one: char| !is_of_path(one));
    wrong.and_then(|at| plain[at..].chars().next()).map(|wrong| {
        format!("no path holds {wrong:?} as it is; write it as `%` and two digits, and leave the query alone")
    })
}
