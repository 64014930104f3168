//! The names of attributes as CEL writes them: `a.b.c`, and `a.b["c"]` for what is no identifier.

use cel::IdedExpr as Node;
use cel::common::ast::{CallExpr, Expr, operators};

use super::compile::{Fault, fault};
use super::literal::text_literal;

pub(super) fn attribute_name(node: &Node) -> Result<String, Fault> {
    if let Some(name) = dotted(node) {
        return Ok(name);
    }
    match &node.expr {
        Expr::Call(CallExpr { func_name, args, .. }) if func_name == operators::INDEX => {
            let [base, key] = args.as_slice() else {
                return fault(node, "expected one name in the brackets");
            };
            let Some(base) = dotted(base) else {
                return fault(
                    node,
                    "brackets follow a plain name, as in request.header[\"x-key\"]",
                );
            };
            Ok(format!("{base}.{}", text_literal(key)?))
        }
        Expr::Call(CallExpr { func_name, .. }) if func_name == operators::SUBSTRACT => {
            refuse_dash(node)
        }
        _ => fault(node, "expected an attribute, such as request.header[\"x-key\"]"),
    }
}

/// Explains a `-` that was meant to be part of a name.
pub(super) fn refuse_dash<T>(node: &Node) -> Result<T, Fault> {
    let hint = match dashed(node).as_deref().and_then(in_brackets) {
        Some(name) => format!("; a name with a dash is written {name}"),
        None => String::new(),
    };
    fault(node, format!("not supported in conditions: arithmetic{hint}"))
}

/// `a.b.c`, from the right to the left without recursion.
fn dotted(node: &Node) -> Option<String> {
    let mut parts = Vec::new();
    let mut node = node;
    loop {
        match &node.expr {
            Expr::Ident(name) => {
                parts.push(name.as_str());
                parts.reverse();
                return Some(parts.join("."));
            }
            Expr::Select(select) if !select.test => {
                parts.push(&select.field);
                node = &select.operand;
            }
            _ => return None,
        }
    }
}

/// `a.b.c-d-e` as it was written, from the right to the left without recursion.
fn dashed(node: &Node) -> Option<String> {
    let mut parts = Vec::new();
    let mut node = node;
    loop {
        match &node.expr {
            Expr::Call(call) if call.func_name == operators::SUBSTRACT => {
                let [left, right] = call.args.as_slice() else {
                    return None;
                };
                parts.push(dotted(right)?);
                node = left;
            }
            _ => {
                parts.push(dotted(node)?);
                parts.reverse();
                return Some(parts.join("-"));
            }
        }
    }
}

fn in_brackets(name: &str) -> Option<String> {
    let dash = name.find('-')?;
    let dot = name[..dash].rfind('.')?;
    Some(format!("{}[\"{}\"]", &name[..dot], &name[dot + 1..]))
}
