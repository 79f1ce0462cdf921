//! Words → query.

use serde_json::Value;

use super::{
    BadQuery, Query, Selection, Source,
    condition::{Condition, Operator},
    token::{Token, tokens},
};

/// Deepest nesting that is read.
const DEEPEST: usize = 32;

pub(super) fn query(text: &str) -> Result<Query, BadQuery> {
    let tokens = tokens(text)?;
    let mut words = Words {
        rest: &tokens,
        source: Source::Devices,
    };
    words.expect("select")?;
    let selection = words.selection()?;
    words.expect("from")?;
    words.source = words.source()?;
    let condition = if words.take("where") {
        words.either(0)?
    } else {
        Condition::Always
    };
    match words.rest.first() {
        None => Ok(Query {
            // Paths of parts may name the source, which came after them.
            selection: words.without_source(selection),
            source: words.source,
            condition,
        }),
        Some(_) => Err(words.bad()),
    }
}

struct Words<'t> {
    rest: &'t [Token],
    source: Source,
}

impl Words<'_> {
    fn bad(&self) -> BadQuery {
        BadQuery(match self.rest.first() {
            Some(token) => format!("{token:?}"),
            None => "its end".to_owned(),
        })
    }

    fn next(&mut self) -> Option<Token> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first.clone())
    }

    fn sees(&self, keyword: &str) -> bool {
        matches!(self.rest.first(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword))
    }

    fn take(&mut self, keyword: &str) -> bool {
        let seen = self.sees(keyword);
        if seen {
            self.next();
        }
        seen
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let seen = matches!(self.rest.first(), Some(Token::Sign(other)) if *other == sign);
        if seen {
            self.next();
        }
        seen
    }

    fn expect(&mut self, keyword: &str) -> Result<(), BadQuery> {
        if self.take(keyword) {
            Ok(())
        } else {
            Err(self.bad())
        }
    }

    fn expect_sign(&mut self, sign: &str) -> Result<(), BadQuery> {
        if self.take_sign(sign) {
            Ok(())
        } else {
            Err(self.bad())
        }
    }

    fn selection(&mut self) -> Result<Selection, BadQuery> {
        if self.take_sign("*") {
            return Ok(Selection::Whole);
        }
        if self.take("count") {
            self.expect_sign("(")?;
            self.expect_sign(")")?;
            let name = self.alias()?;
            return Ok(Selection::Count(name.unwrap_or_else(|| "$1".to_owned())));
        }
        let mut parts = Vec::new();
        loop {
            let path = self.path()?;
            let last = path.last().cloned().unwrap_or_default();
            parts.push((self.alias()?.unwrap_or(last), path));
            if !self.take_sign(",") {
                return Ok(Selection::Parts(parts));
            }
        }
    }

    fn alias(&mut self) -> Result<Option<String>, BadQuery> {
        if !self.take("as") {
            return Ok(None);
        }
        match self.next() {
            Some(Token::Word(name) | Token::Name(name)) => Ok(Some(name)),
            _ => Err(self.bad()),
        }
    }

    fn source(&mut self) -> Result<Source, BadQuery> {
        self.expect("devices")?;
        if !self.take_sign(".") {
            return Ok(Source::Devices);
        }
        if self.take("modules") {
            Ok(Source::Modules)
        } else {
            self.expect("jobs")?;
            Ok(Source::Jobs)
        }
    }

    fn without_source(&self, selection: Selection) -> Selection {
        match selection {
            Selection::Parts(parts) => Selection::Parts(
                parts
                    .into_iter()
                    .map(|(name, path)| (name, below(self.source, path)))
                    .collect(),
            ),
            other => other,
        }
    }

    fn path(&mut self) -> Result<Vec<String>, BadQuery> {
        let mut path = Vec::new();
        loop {
            match self.rest.first() {
                Some(Token::Word(name) | Token::Name(name)) => path.push(name.clone()),
                _ => return Err(self.bad()),
            }
            self.next();
            if !self.take_sign(".") {
                return Ok(below(self.source, path));
            }
        }
    }

    fn either(&mut self, depth: usize) -> Result<Condition, BadQuery> {
        let mut left = self.both(depth)?;
        while self.take("or") {
            left = Condition::Or(Box::new(left), Box::new(self.both(depth)?));
        }
        Ok(left)
    }

    fn both(&mut self, depth: usize) -> Result<Condition, BadQuery> {
        let mut left = self.one(depth)?;
        while self.take("and") {
            left = Condition::And(Box::new(left), Box::new(self.one(depth)?));
        }
        Ok(left)
    }

    fn one(&mut self, depth: usize) -> Result<Condition, BadQuery> {
        if depth >= DEEPEST {
            return Err(self.bad());
        }
        if self.take("not") {
            return Ok(Condition::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take_sign("(") {
            let inner = self.either(depth + 1)?;
            self.expect_sign(")")?;
            return Ok(inner);
        }
        if self.take("is_defined") {
            self.expect_sign("(")?;
            let path = self.path()?;
            self.expect_sign(")")?;
            return Ok(Condition::Defined(path));
        }
        let path = self.path()?;
        if self.take("in") {
            return Ok(Condition::In(path, self.list()?));
        }
        if self.take("nin") {
            return Ok(Condition::NotIn(path, self.list()?));
        }
        let operator = match self.rest.first() {
            Some(Token::Sign("=")) => Operator::Equal,
            Some(Token::Sign("!=" | "<>")) => Operator::Unequal,
            Some(Token::Sign("<")) => Operator::Less,
            Some(Token::Sign("<=")) => Operator::AtMost,
            Some(Token::Sign(">")) => Operator::Greater,
            Some(Token::Sign(">=")) => Operator::AtLeast,
            _ => return Err(self.bad()),
        };
        self.next();
        Ok(Condition::Compare(path, operator, self.literal()?))
    }

    fn list(&mut self) -> Result<Vec<Value>, BadQuery> {
        self.expect_sign("[")?;
        let mut values = vec![self.literal()?];
        while self.take_sign(",") {
            values.push(self.literal()?);
        }
        self.expect_sign("]")?;
        Ok(values)
    }

    fn literal(&mut self) -> Result<Value, BadQuery> {
        let value = match self.rest.first() {
            Some(Token::Text(text)) => Value::String(text.clone()),
            Some(Token::Number(number)) => Value::Number(number.clone()),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("true") => Value::Bool(true),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("false") => Value::Bool(false),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("null") => Value::Null,
            _ => return Err(self.bad()),
        };
        self.next();
        Ok(value)
    }
}

/// A path may begin with what is searched.
fn below(source: Source, mut path: Vec<String>) -> Vec<String> {
    let prefix: &[&str] = match source {
        Source::Devices => &["devices"],
        Source::Modules => &["devices", "modules"],
        Source::Jobs => &["devices", "jobs"],
    };
    if path.len() > prefix.len() && path.iter().zip(prefix).all(|(one, other)| one == other) {
        path.drain(..prefix.len());
    }
    path
}
