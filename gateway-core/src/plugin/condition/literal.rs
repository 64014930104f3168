//! Literals, and the string tests whose argument is one.

use cel::IdedExpr as Node;
use cel::common::ast::{Expr, LiteralValue};
use memchr::memmem::Finder;
use regex::Regex;

use super::compile::{Fault, Term, fault, unsupported};
use super::expression::{Expression, Int, Text, TextTest};
use crate::config::compile_regex;

pub(super) fn literal_term(node: &Node, literal: &LiteralValue) -> Result<Term, Fault> {
    match literal {
        LiteralValue::Boolean(truth) => Ok(Term::Truth(Expression::Constant(*truth.inner()))),
        LiteralValue::String(text) => Ok(Term::Text(Text::Literal(text.inner().into()))),
        LiteralValue::Int(int) => Ok(Term::Int(Int::Literal(*int.inner()))),
        LiteralValue::UInt(_) => unsupported(node, "unsigned numbers; leave out the `u`"),
        LiteralValue::Double(_) => unsupported(node, "numbers with a fraction"),
        LiteralValue::Bytes(_) => unsupported(node, "bytes; leave out the `b`"),
        LiteralValue::Null => unsupported(node, "null; ask with has(...)"),
    }
}

pub(super) fn text_literal(node: &Node) -> Result<&str, Fault> {
    match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => Ok(text.inner()),
        _ => fault(node, "expected a string literal"),
    }
}

pub(super) fn int_literal(node: &Node) -> Result<i64, Fault> {
    match &node.expr {
        Expr::Literal(LiteralValue::Int(int)) => Ok(*int.inner()),
        _ => fault(node, "expected a whole number"),
    }
}

/// What the parser leaves of a `-` apart from its number.
pub(super) fn negative(node: &Node, operand: &Node) -> Result<Term, Fault> {
    match int_literal(operand)?.checked_neg() {
        Some(int) => Ok(Term::Int(Int::Literal(int))),
        None => fault(node, "number is out of range"),
    }
}

pub(super) fn text_test(function: &str, argument: &Node) -> Result<TextTest, Fault> {
    let text = text_literal(argument)?;
    Ok(match function {
        "startsWith" => TextTest::StartsWith(text.into()),
        "endsWith" => TextTest::EndsWith(text.into()),
        "contains" => TextTest::Contains(Box::new(Finder::new(text.as_bytes()).into_owned())),
        _ => TextTest::Matches(regex(argument, text)?),
    })
}

fn regex(node: &Node, pattern: &str) -> Result<Regex, Fault> {
    compile_regex(pattern).or_else(|said| fault(node, format!("not a regular expression: {said}")))
}
