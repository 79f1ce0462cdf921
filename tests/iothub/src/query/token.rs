//! The words of a query.

use serde_json::Number;

use super::BadQuery;

/// A word.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name or keyword.
    Word(String),
    /// A name in double brackets: any text.
    Name(String),
    Text(String),
    Number(Number),
    /// An operator or a bracket.
    Sign(&'static str),
}

/// Longest first: the first that fits is taken.
const SIGNS: [&str; 14] = [
    "!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", "[", "]", ",", ".", "*",
];

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, BadQuery> {
    let mut rest = text.trim_start();
    let mut found = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (token, length) = if first == '\'' || first == '"' {
            quoted(rest, first)?
        } else if let Some(inner) = rest.strip_prefix("[[") {
            let end = inner.find("]]").ok_or_else(|| bad(rest))?;
            (Token::Name(inner[..end].to_owned()), end + 4)
        } else if first.is_ascii_digit() || first == '-' {
            number(rest)?
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            (Token::Word(rest[..end].to_owned()), end)
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| bad(rest))?;
            (Token::Sign(sign), sign.len())
        };
        found.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(found)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn number(text: &str) -> Result<(Token, usize), BadQuery> {
    let part = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
    let end = text.find(|c| !part(c)).unwrap_or(text.len());
    let number = serde_json::from_str(&text[..end]).map_err(|_| bad(text))?;
    Ok((Token::Number(number), end))
}

fn quoted(text: &str, quote: char) -> Result<(Token, usize), BadQuery> {
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            value.push(c);
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return Ok((Token::Text(value), at + 1));
        } else {
            value.push(c);
        }
    }
    Err(bad(text))
}

/// Where it is not understood: the next few characters.
fn bad(rest: &str) -> BadQuery {
    BadQuery(format!("{:?}", rest.chars().take(20).collect::<String>()))
}
