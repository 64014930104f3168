//! From CEL's syntax tree to an [`Expression`], with types checked on the way.

use cel::IdedExpr as Node;
use cel::common::ast::{CallExpr, Expr, ListExpr, operators};

use super::super::attribute::{Attribute, Kind, Moment, PublishedNames};
use super::MAX_DEPTH;
use super::expression::{Comparison, Expression, Int, IntTest, Text, TextTest};
use super::literal::{int_literal, literal_term, negative, text_literal, text_test};
use super::name::{attribute_name, refuse_dash};

/// What is wrong, and at which node.
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) node: u64,
}

pub(super) fn fault<T>(node: &Node, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { message: message.into(), node: node.id })
}

/// A node by its type.
pub(super) enum Term {
    Truth(Expression),
    Text(Text),
    Int(Int),
}

impl Term {
    fn kind(&self) -> &'static str {
        match self {
            Self::Truth(_) => "true or false",
            Self::Text(_) => "text",
            Self::Int(_) => "a number",
        }
    }
}

/// Compiles one condition.
pub(super) struct Compiler<'a> {
    published: &'a PublishedNames,
    /// When it is evaluated.
    moment: Moment,
    needs_response: bool,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(published: &'a PublishedNames, moment: Moment) -> Self {
        Self { published, moment, needs_response: false }
    }

    pub(super) fn needs_response(&self) -> bool {
        self.needs_response
    }

    /// Compiles a node that must be true or false.
    pub(super) fn truth(&mut self, node: &Node, depth: usize) -> Result<Expression, Fault> {
        match self.term(node, depth)? {
            Term::Truth(expression) => Ok(expression),
            other => fault(node, format!("expected true or false, this is {}", other.kind())),
        }
    }

    fn term(&mut self, node: &Node, depth: usize) -> Result<Term, Fault> {
        if depth > MAX_DEPTH {
            return fault(node, format!("condition nests deeper than {MAX_DEPTH}"));
        }
        match &node.expr {
            Expr::Literal(literal) => literal_term(node, literal),
            Expr::Ident(_) | Expr::Select(_) => self.attribute(node).map(attribute_term),
            Expr::Call(call) => self.call(node, call, depth + 1),
            Expr::List(_) => fault(node, "a list stands only to the right of `in`"),
            Expr::Map(_) | Expr::Struct(_) => unsupported(node, "maps and messages"),
            Expr::Comprehension(_) => unsupported(node, "macros"),
            Expr::Unspecified => fault(node, "condition is empty"),
        }
    }

    fn call(&mut self, node: &Node, call: &CallExpr, depth: usize) -> Result<Term, Fault> {
        let name = call.func_name.as_str();
        if let Some(comparison) = comparison(name) {
            return self.compare(node, call, comparison, depth).map(Term::Truth);
        }
        match (name, &call.target, call.args.as_slice()) {
            (operators::LOGICAL_AND, None, args) => {
                let mut terms = Vec::new();
                self.flatten(name, args, depth, &mut terms)?;
                Ok(Term::Truth(Expression::All(terms.into())))
            }
            (operators::LOGICAL_OR, None, args) => {
                let mut terms = Vec::new();
                self.flatten(name, args, depth, &mut terms)?;
                Ok(Term::Truth(Expression::Any(terms.into())))
            }
            (operators::LOGICAL_NOT, None, [inner]) => {
                let inner = self.truth(inner, depth)?;
                Ok(Term::Truth(Expression::Not(Box::new(inner))))
            }
            (operators::IN, None, [item, list]) => self.within(item, list, depth),
            (operators::INDEX, None, [..]) => self.attribute(node).map(attribute_term),
            (operators::NEGATE, None, [operand]) => negative(node, operand),
            ("has", None, [operand]) => Ok(Term::Truth(Expression::Has(self.attribute(operand)?))),
            ("size", None, [operand]) => self.size(operand, depth),
            ("size", Some(operand), []) => self.size(operand, depth),
            ("startsWith" | "endsWith" | "contains" | "matches", Some(target), [argument]) => {
                let test = text_test(name, argument)?;
                let text = self.text(target, depth)?;
                Ok(Term::Truth(Expression::Text(text, test)))
            }
            _ => self.refuse(node, name),
        }
    }

    /// Collects the terms of a chain of one operator, which CEL parses to a tree of pairs.
    fn flatten(
        &mut self,
        operator: &str,
        args: &[Node],
        depth: usize,
        terms: &mut Vec<Expression>,
    ) -> Result<(), Fault> {
        for arg in args {
            match &arg.expr {
                Expr::Call(call) if call.func_name == operator => {
                    self.flatten(operator, &call.args, depth, terms)?;
                }
                _ => terms.push(self.truth(arg, depth)?),
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        node: &Node,
        call: &CallExpr,
        comparison: Comparison,
        depth: usize,
    ) -> Result<Expression, Fault> {
        let [left, right] = call.args.as_slice() else {
            return fault(node, "a comparison has two sides");
        };
        match (self.term(left, depth)?, self.term(right, depth)?) {
            // What is different is what is not equal, so that a field that is missing, which equals
            // nothing, is different from everything: a rule that denies must not be evaded by
            // leaving the field out.
            (left, right) if comparison == Comparison::Different => {
                let same = self.compare_terms(node, left, right, Comparison::Equal)?;
                Ok(Expression::Not(Box::new(same)))
            }
            (left, right) => self.compare_terms(node, left, right, comparison),
        }
    }

    fn compare_terms(
        &self,
        node: &Node,
        left: Term,
        right: Term,
        comparison: Comparison,
    ) -> Result<Expression, Fault> {
        match (left, right) {
            (Term::Text(left), Term::Text(right)) => {
                Ok(Expression::of_text(left, TextTest::Compare(comparison, right)))
            }
            (Term::Int(left), Term::Int(right)) => {
                Ok(Expression::Int(left, IntTest::Compare(comparison, right)))
            }
            (Term::Truth(left), Term::Truth(right)) if comparison == Comparison::Equal => {
                Ok(Expression::Same(Box::new([left, right])))
            }
            (Term::Truth(_), Term::Truth(_)) => fault(node, "true and false have no order"),
            (left, right) => {
                fault(node, format!("cannot compare {} with {}", left.kind(), right.kind()))
            }
        }
    }

    fn within(&mut self, item: &Node, list: &Node, depth: usize) -> Result<Term, Fault> {
        let Expr::List(ListExpr { elements, .. }) = &list.expr else {
            return self.member(item, list, depth);
        };
        let expression = match self.term(item, depth)? {
            Term::Text(text) => {
                let mut items: Vec<Box<str>> = elements
                    .iter()
                    .map(|element| text_literal(element).map(Into::into))
                    .collect::<Result<_, _>>()?;
                items.sort_unstable();
                Expression::of_text(text, TextTest::In(items.into()))
            }
            Term::Int(int) => {
                let mut items: Vec<i64> =
                    elements.iter().map(int_literal).collect::<Result<_, _>>()?;
                items.sort_unstable();
                Expression::Int(int, IntTest::In(items.into()))
            }
            Term::Truth(_) => return fault(item, "`in` needs text or a number before it"),
        };
        Ok(Term::Truth(expression))
    }

    fn member(&mut self, item: &Node, list: &Node, depth: usize) -> Result<Term, Fault> {
        let needs =
            "`in` needs a list: of literals, such as [\"a\", \"b\"], or an attribute that is one";
        if !matches!(list.expr, Expr::Ident(_) | Expr::Select(_) | Expr::Call(_)) {
            return fault(list, needs);
        }
        let attribute = self.attribute(list)?;
        if !attribute.is_list() {
            return fault(list, format!("{needs}; `{attribute}` is not"));
        }
        Ok(Term::Truth(Expression::Member(self.text(item, depth)?, attribute)))
    }

    fn size(&mut self, operand: &Node, depth: usize) -> Result<Term, Fault> {
        Ok(Term::Int(Int::Size(self.text(operand, depth)?)))
    }

    fn text(&mut self, node: &Node, depth: usize) -> Result<Text, Fault> {
        match self.term(node, depth)? {
            Term::Text(text) => Ok(text),
            other => fault(node, format!("expected text, this is {}", other.kind())),
        }
    }

    fn attribute(&mut self, node: &Node) -> Result<Attribute, Fault> {
        let name = attribute_name(node)?;
        let attribute = Attribute::parse(&name, self.published);
        let attribute = attribute.or_else(|error| fault(node, error.to_string()))?;
        let known = attribute.known_from();
        if known > self.moment {
            return fault(node, format!("`{name}` is not known before {known}"));
        }
        self.needs_response |= known == Moment::Response;
        Ok(attribute)
    }

    fn refuse<T>(&self, node: &Node, name: &str) -> Result<T, Fault> {
        match name {
            operators::SUBSTRACT => refuse_dash(node),
            operators::CONDITIONAL => unsupported(node, "`? :`"),
            operators::ADD | operators::MULTIPLY | operators::DIVIDE | operators::MODULO => {
                unsupported(node, "arithmetic")
            }
            operators::NEGATE => unsupported(node, "`-` before anything but a number"),
            "startsWith" | "endsWith" | "contains" | "matches" | "has" | "size" => {
                fault(node, format!("`{name}` is written otherwise here"))
            }
            _ => unsupported(node, &format!("`{name}`")),
        }
    }
}

pub(super) fn unsupported<T>(node: &Node, what: &str) -> Result<T, Fault> {
    fault(node, format!("not supported in conditions: {what}"))
}

fn comparison(operator: &str) -> Option<Comparison> {
    match operator {
        operators::EQUALS => Some(Comparison::Equal),
        operators::NOT_EQUALS => Some(Comparison::Different),
        operators::LESS => Some(Comparison::Less),
        operators::LESS_EQUALS => Some(Comparison::LessOrEqual),
        operators::GREATER => Some(Comparison::Greater),
        operators::GREATER_EQUALS => Some(Comparison::GreaterOrEqual),
        _ => None,
    }
}

fn attribute_term(attribute: Attribute) -> Term {
    match attribute.kind() {
        Kind::Text => Term::Text(Text::Attribute(attribute)),
        Kind::Int => Term::Int(Int::Attribute(attribute)),
    }
}
