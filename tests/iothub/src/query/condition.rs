//! What is found.

use std::cmp::Ordering;

use serde_json::Value;

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// What must be true of a document. Of a property that it does not have only [`Self::Not`] and
/// [`Self::Defined`] can say something.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// Both.
    And(Box<Self>, Box<Self>),
    /// One of them.
    Or(Box<Self>, Box<Self>),
    /// Not this.
    Not(Box<Self>),
    /// A property compares so.
    Compare(Vec<String>, Operator, Value),
    /// A property is one of these.
    In(Vec<String>, Vec<Value>),
    /// A property is none of these.
    NotIn(Vec<String>, Vec<Value>),
    /// There is such a property.
    Defined(Vec<String>),
}

impl Condition {
    /// Whether it is true of a document.
    #[must_use]
    pub fn holds(&self, document: &Value) -> bool {
        match self {
            Self::Always => true,
            Self::And(left, right) => left.holds(document) && right.holds(document),
            Self::Or(left, right) => left.holds(document) || right.holds(document),
            Self::Not(inner) => !inner.holds(document),
            Self::Defined(path) => lookup(document, path).is_some(),
            Self::Compare(path, operator, value) => {
                lookup(document, path).is_some_and(|found| compares(found, *operator, value))
            }
            Self::In(path, values) => lookup(document, path).is_some_and(|found| {
                values
                    .iter()
                    .any(|value| compares(found, Operator::Equal, value))
            }),
            Self::NotIn(path, values) => lookup(document, path).is_some_and(|found| {
                !values
                    .iter()
                    .any(|value| compares(found, Operator::Equal, value))
            }),
        }
    }
}

/// The property at a path.
pub(super) fn lookup<'d>(document: &'d Value, path: &[String]) -> Option<&'d Value> {
    path.iter()
        .try_fold(document, |value, name| value.get(name))
}

fn compares(found: &Value, operator: Operator, value: &Value) -> bool {
    let order = match (found, value) {
        (Value::Number(found), Value::Number(value)) => {
            let both = found.as_f64().zip(value.as_f64());
            both.and_then(|(found, value)| found.partial_cmp(&value))
        }
        (Value::String(found), Value::String(value)) => Some(found.cmp(value)),
        (found, value) if found == value => Some(Ordering::Equal),
        _ => None,
    };
    match operator {
        Operator::Equal => order == Some(Ordering::Equal),
        Operator::Unequal => order != Some(Ordering::Equal),
        Operator::Less => order == Some(Ordering::Less),
        Operator::AtMost => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Operator::Greater => order == Some(Ordering::Greater),
        Operator::AtLeast => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}
