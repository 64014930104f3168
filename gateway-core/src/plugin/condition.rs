//! Conditions: small tests over attributes, written in CEL, compiled once and held against requests.
//!
//! ```text
//! request.method == "POST" && request.header["x-key"].startsWith("k-")
//! client.ip in ["10.0.0.1", "10.0.0.2"] || !has(request.cookie.sid)
//! ```
//!
//! | form | operands |
//! |---|---|
//! | `== != < <= > >=` | text with text, number with number, truth with truth (`==`, `!=`) |
//! | `in [...]` | text or a number in a list of literals of its type |
//! | `in attribute` | text among the items of a list, such as `consumer.groups` or a claim |
//! | `startsWith endsWith contains matches` | text, and a string literal; `matches` finds its regex anywhere |
//! | `has(attribute)`, `size(attribute)` | whether it is there; its length in characters |
//! | `&& \|\| !`, parentheses, `true`, `false` | |
//!
//! Attributes are written `request.path`, `request.header.accept` or `request.header["x-key"]`; a
//! name with a dash needs the brackets. The rest of CEL is refused.
//!
//! **A missing attribute compares false**; `!=` is true where `==` is not, so it is true for it.

mod compile;
mod expression;
mod literal;
mod name;
mod never;

use cel::common::ast::SourceInfo;
use cel::{Env, ParseError, ParseErrors};

use super::attribute::{Attribute, Facts, Moment, PublishedNames};
use compile::{Compiler, Fault};
use expression::Expression;

/// The longest source in bytes.
pub const MAX_SOURCE: usize = 4096;
/// How deep a source may nest.
pub const MAX_DEPTH: usize = 64;

/// A compiled condition.
#[derive(Debug)]
pub struct Condition {
    source: Box<str>,
    expression: Expression,
    needs_response: bool,
}

/// Why a source is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (column {column})")]
pub struct ConditionError {
    /// What is wrong.
    pub message: String,
    /// Where, in characters from the beginning of the source, counted from 1.
    pub column: usize,
}

/// Why a condition cannot be held against a request; a security plugin then refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// It reads the response, and there is none yet.
    #[error("condition reads the response before there is one")]
    NoResponse,
}

impl Condition {
    /// Compiles a source; `allow_response` admits the attributes of the response.
    pub fn parse(
        source: &str,
        published: &PublishedNames,
        allow_response: bool,
    ) -> Result<Self, ConditionError> {
        let moment = if allow_response { Moment::Response } else { Moment::Request };
        Self::parse_for(moment, source, published)
    }

    /// Compiles a source that is evaluated at this moment: it may read what is known by then.
    pub fn parse_for(
        moment: Moment,
        source: &str,
        published: &PublishedNames,
    ) -> Result<Self, ConditionError> {
        if source.len() > MAX_SOURCE {
            return Err(whole(format!("condition is longer than {MAX_SOURCE} bytes")));
        }
        let compiler = Compiler::new(published, moment);
        let (expression, needs_response) = on_enough_stack(source, || parse(source, compiler))?;
        Ok(Self { source: source.into(), expression, needs_response })
    }

    /// What was compiled.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The attributes it reads.
    pub fn attributes(&self) -> Vec<&Attribute> {
        let mut found = Vec::new();
        self.expression.attributes(&mut found);
        found
    }

    /// Whether it holds for no request at all, as far as can be told.
    pub fn is_never(&self) -> bool {
        self.expression.is_always(false)
    }

    /// Whether the request meets the condition.
    pub fn holds(&self, facts: &Facts<'_>) -> Result<bool, EvalError> {
        if self.needs_response && facts.response.is_none() {
            return Err(EvalError::NoResponse);
        }
        Ok(self.expression.holds(facts))
    }
}

fn parse(source: &str, mut compiler: Compiler<'_>) -> Result<(Expression, bool), ConditionError> {
    // An environment without macros leaves `has` and the like for us to see as they were written.
    let parser = Env::default().with_optional_support(false).parser();
    let (tree, places) = parser
        .enable_ident_escape_syntax(true)
        .max_recursion_depth(u16::try_from(MAX_DEPTH).unwrap_or(u16::MAX))
        .parse_with_source_info(source)
        .map_err(|errors| unreadable(source, errors))?;
    let expression = compiler.truth(&tree, 0).map_err(|fault| placed(source, &places, fault))?;
    Ok((expression, compiler.needs_response()))
}

/// Runs the parser where it cannot harm its caller. It recurses over operator chains (`a.b.c`,
/// `a < b < c`) without a bound of its own; a source that could hold a long one is given a stack
/// for the longest. Others are not: the parser keeps tables by thread, costly to build anew.
fn on_enough_stack<T: Send>(
    source: &str,
    work: impl FnOnce() -> Result<T, ConditionError> + Send,
) -> Result<T, ConditionError> {
    const SHALLOW: usize = 2 * MAX_DEPTH;
    const STACK: usize = 64 << 20;
    if longest_chain(source) <= SHALLOW {
        return work();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("condition".into()).stack_size(STACK);
        let spawned = thread.spawn_scoped(scope, work);
        let worker = spawned.map_err(|error| whole(format!("no thread to parse on: {error}")))?;
        worker.join().unwrap_or_else(|_| Err(whole("condition cannot be read".into())))
    })
}

/// No tree of this source is deeper. What stands in string literals is counted too.
fn longest_chain(source: &str) -> usize {
    let symbols = source.bytes().filter(|byte| b".([{<>=+-*/%?!".contains(byte)).count();
    symbols + source.matches("in").count()
}

fn whole(message: String) -> ConditionError {
    ConditionError { message, column: 1 }
}

fn unreadable(source: &str, errors: ParseErrors) -> ConditionError {
    let too_deep = |error: &ParseError| error.msg.contains("Recursion limit");
    if errors.errors.iter().any(too_deep) {
        return whole(format!("condition nests deeper than {MAX_DEPTH}"));
    }
    let Some(first) = errors.errors.into_iter().next() else {
        return whole("condition cannot be read".into());
    };
    let (line, column) = (first.pos.0.max(1) as usize, first.pos.1.max(1) as usize);
    let before: usize =
        source.split_inclusive('\n').take(line - 1).map(|line| line.chars().count()).sum();
    // The list of all tokens that could stand here helps nobody.
    let said = first.msg.strip_prefix("Syntax error: ").unwrap_or(&first.msg);
    let said = said.split(" expecting {").next().unwrap_or(said).replace("'<EOF>'", "the end");
    ConditionError { message: format!("cannot be read: {said}"), column: before + column }
}

fn placed(source: &str, places: &SourceInfo, fault: Fault) -> ConditionError {
    let start = places.offset_for(fault.node).map_or(0, |(start, _)| start as usize);
    let column = source.char_indices().take_while(|(at, _)| *at < start).count() + 1;
    ConditionError { message: fault.message, column }
}

#[cfg(test)]
mod tests;
