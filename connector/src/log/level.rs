//! How much is logged, changed while the connector runs.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tracing_subscriber::EnvFilter;

/// What the platform calls levels, and what they are here.
const LEVELS: [(&str, &str); 7] = [
    ("ALL", "trace"),
    ("TRACE", "trace"),
    ("DEBUG", "debug"),
    ("INFO", "info"),
    ("WARN", "warn"),
    ("ERROR", "error"),
    ("OFF", "off"),
];
/// Parts whose level was changed. There are some thirty in all.
const PARTS: usize = 100;

/// A level that cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLevel {
    /// There is none of that name.
    #[error("{0:?} is no level; there are ALL, TRACE, DEBUG, INFO, WARN, ERROR and OFF")]
    Unknown(String),
    /// A part is named like `connector::ingress`.
    #[error("{0:?} cannot be a part of the connector; they are named like connector::ingress")]
    Part(String),
    /// Too many parts have levels of their own.
    #[error("{PARTS} parts have levels of their own already")]
    TooMany,
    /// The log does not take it.
    #[error("the level was not changed: {0}")]
    NotTaken(String),
}

type Change = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// The levels, and the way to change them.
pub struct Levels {
    /// What the connector was started with.
    base: String,
    set: Mutex<Set>,
    change: Change,
}

#[derive(Debug, Clone, Default)]
struct Set {
    whole: Option<&'static str>,
    parts: BTreeMap<String, &'static str>,
}

impl Set {
    /// As the filter is written. Later directives win.
    fn filter(&self, base: &str) -> String {
        let parts = self.parts.iter();
        let parts: String = parts
            .map(|(part, level)| format!(",{part}={level}"))
            .collect();
        match self.whole {
            None => format!("{base}{parts}"),
            Some(level) => format!("{base},{level}{parts}"),
        }
    }
}

impl Levels {
    /// Levels as `base` says, in the form of `--log`; `change` brings others into force.
    pub fn new(
        base: String,
        change: impl Fn(EnvFilter) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            base,
            set: Mutex::default(),
            change: Box::new(change),
        }
    }

    /// The level of a part, or of the whole, in the platform's words.
    #[must_use]
    pub fn get(&self, part: Option<&str>) -> String {
        let set = self
            .set
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let own = part.and_then(|part| set.parts.get(part).copied());
        let level = own.or(set.whole).unwrap_or_else(|| {
            // The last directive without a part is the one of the whole.
            let whole = self.base.split(',').rev().find(|one| !one.contains('='));
            whole.map_or("error", |level| named(level).unwrap_or("error"))
        });
        level.to_ascii_uppercase()
    }

    /// Sets the level of a part, or of the whole.
    ///
    /// # Errors
    /// [`BadLevel`]; then nothing has changed.
    pub fn set(&self, part: Option<&str>, level: &str) -> Result<(), BadLevel> {
        let level = named(level).ok_or_else(|| BadLevel::Unknown(level.to_owned()))?;
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = set.clone();
        match part {
            None => next.whole = Some(level),
            Some(part) => {
                let fits = part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_:-".contains(c));
                if part.is_empty() || part.len() > 100 || !fits {
                    return Err(BadLevel::Part(part.to_owned()));
                }
                next.parts.insert(part.to_owned(), level);
                if next.parts.len() > PARTS {
                    return Err(BadLevel::TooMany);
                }
            }
        }
        let not_taken = |error: String| BadLevel::NotTaken(error);
        let filter = EnvFilter::builder()
            .parse(next.filter(&self.base))
            .map_err(|error| not_taken(error.to_string()))?;
        (self.change)(filter).map_err(not_taken)?;
        *set = next;
        Ok(())
    }
}

fn named(level: &str) -> Option<&'static str> {
    let level = level.trim();
    LEVELS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(level))
        .map(|(_, level)| *level)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn levels_are_set_for_the_whole_and_for_parts_and_nonsense_changes_nothing() {
        let filters = Arc::new(Mutex::new(Vec::new()));
        let seen = filters.clone();
        let levels = Levels::new("fe2o3_amqp=error,info".into(), move |filter| {
            seen.lock().unwrap().push(filter.to_string());
            Ok(())
        });
        assert_eq!(levels.get(None), "INFO");
        levels.set(Some("connector::ingress"), "debug").unwrap();
        levels.set(None, "WARN").unwrap();
        assert_eq!(levels.get(Some("connector::ingress")), "DEBUG");
        assert_eq!(levels.get(Some("connector::egress")), "WARN");
        let last = filters.lock().unwrap().last().unwrap().clone();
        for directive in ["fe2o3_amqp=error", "warn", "connector::ingress=debug"] {
            assert!(last.split(',').any(|one| one == directive), "{last}");
        }
        assert!(matches!(
            levels.set(None, "LOUD"),
            Err(BadLevel::Unknown(_))
        ));
        for part in ["", "a=b", "a,b", "[span]"] {
            assert!(
                matches!(levels.set(Some(part), "info"), Err(BadLevel::Part(_))),
                "{part}"
            );
        }
        assert_eq!(filters.lock().unwrap().len(), 2);
    }
}
