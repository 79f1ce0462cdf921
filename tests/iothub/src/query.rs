//! The hub's query language, as much of it as tests ask for. Pure.
//!
//! Source: Microsoft Learn, "IoT Hub query language for device and module twins, jobs, and message
//! routing". There are `SELECT *`, `SELECT` of properties and `COUNT()`; `FROM devices`,
//! `devices.modules` and `devices.jobs`; `WHERE` with comparisons, `IN`, `NIN`, `is_defined`, `AND`, `OR`,
//! `NOT` and parentheses. Whatever else the language has is refused, as mistakes are.

mod condition;
mod parse;
mod token;

use serde_json::{Map, Value};

pub use condition::Condition;
use condition::lookup;

/// What is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Twins of devices.
    Devices,
    /// Twins of modules.
    Modules,
    /// What jobs did to devices.
    Jobs,
}

/// What is given of what is found.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection {
    /// All of it.
    Whole,
    /// Properties, each with the name that it gets.
    Parts(Vec<(String, Vec<String>)>),
    /// How many there are, under a name.
    Count(String),
}

/// A query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What is given.
    pub selection: Selection,
    /// What is searched.
    pub source: Source,
    /// What is found.
    pub condition: Condition,
}

/// Why a text is no query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("BadRequest, the query is not understood at {0}")]
pub struct BadQuery(pub String);

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// [`BadQuery`].
    pub fn parse(text: &str) -> Result<Self, BadQuery> {
        parse::query(text)
    }

    /// Reads the condition of a job: `*`, what follows `WHERE` of a query of devices, or a query from
    /// `FROM` on.
    ///
    /// # Errors
    /// [`BadQuery`].
    pub fn of_job(text: &str) -> Result<Self, BadQuery> {
        let text = text.trim();
        let begins = text.get(..5).unwrap_or_default();
        if text == "*" {
            Self::parse("SELECT * FROM devices")
        } else if begins.eq_ignore_ascii_case("from ") {
            Self::parse(&format!("SELECT * {text}"))
        } else {
            Self::parse(&format!("SELECT * FROM devices WHERE {text}"))
        }
    }

    /// What the query gives of a document that it has found; nothing of one that it counts.
    #[must_use]
    pub fn select(&self, document: Value) -> Option<Value> {
        match &self.selection {
            Selection::Whole => Some(document),
            Selection::Count(_) => None,
            Selection::Parts(parts) => {
                let part = |(name, path): &(String, Vec<String>)| {
                    lookup(&document, path).map(|value| (name.clone(), value.clone()))
                };
                Some(Value::Object(
                    parts.iter().filter_map(part).collect::<Map<_, _>>(),
                ))
            }
        }
    }

    /// Header `x-ms-item-type` of the answer.
    #[must_use]
    pub fn item_type(&self) -> &'static str {
        match (&self.selection, self.source) {
            (Selection::Whole, Source::Devices | Source::Modules) => "twin",
            (Selection::Whole, Source::Jobs) => "deviceJob",
            (Selection::Parts(_) | Selection::Count(_), _) => "raw",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn finds(condition: &str, document: &Value) -> bool {
        let query = Query::parse(&format!("SELECT * FROM devices WHERE {condition}"));
        query.unwrap().condition.holds(document)
    }

    #[test]
    fn conditions_hold_of_what_they_should() {
        let twin = json!({
            "deviceId": "pump-1", "status": "enabled",
            "tags": {"site": "a", "floor": 3, "odd name": true, "it's": 1},
            "properties": {"reported": {"rate": 2.5}},
        });
        for (condition, holds) in [
            ("deviceId = 'pump-1'", true),
            ("devices.deviceId = \"pump-1\"", true),
            ("deviceId IN ['a', 'pump-1']", true),
            ("deviceId nin ['a', 'pump-1']", false),
            ("tags.site = 'a' AND tags.floor >= 3", true),
            ("tags.site = 'b' OR tags.floor < 3", false),
            (
                "NOT tags.site = 'b' and (tags.floor > 5 or tags.floor <> 4)",
                true,
            ),
            ("tags.[[odd name]] = true", true),
            ("tags.[[it's]] = 1", true),
            ("properties.reported.rate > 2", true),
            ("tags.nothing = 'a'", false),
            ("tags.nothing != 'a'", false),
            ("is_defined(tags.site)", true),
            ("NOT is_defined(tags.nothing)", true),
            ("tags.floor = '3'", false),
            ("deviceId > 'pump-0'", true),
            (r"tags.site = 'a\'b'", false),
        ] {
            assert_eq!(finds(condition, &twin), holds, "{condition}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "",
            "SELECT",
            "SELECT * FROM",
            "SELECT * FROM twins",
            "SELECT * FROM devices WHERE",
            "SELECT * FROM devices WHERE deviceId",
            "SELECT * FROM devices WHERE deviceId = ",
            "SELECT * FROM devices WHERE deviceId = 'a",
            "SELECT * FROM devices WHERE deviceId = 'a' AND",
            "SELECT * FROM devices WHERE (deviceId = 'a'",
            "SELECT * FROM devices WHERE deviceId LIKE 'a%'",
            "SELECT * FROM devices WHERE deviceId IN ['a'",
            "SELECT * FROM devices ORDER BY deviceId",
            "SELECT *, deviceId FROM devices",
            "DELETE FROM devices",
            "SELECT * FROM devices; SELECT * FROM devices",
        ] {
            assert!(Query::parse(text).is_err(), "{text}");
        }
        let deep = format!("SELECT * FROM devices WHERE {}", "(".repeat(100_000));
        assert!(Query::parse(&deep).is_err());
    }

    #[test]
    fn parts_are_selected_under_their_names() {
        let query = Query::parse("select deviceId, tags.site AS place from devices").unwrap();
        let twin = json!({"deviceId": "d", "tags": {"site": "a", "x": 1}});
        assert_eq!(
            query.select(twin),
            Some(json!({"deviceId": "d", "place": "a"}))
        );
        assert_eq!(query.item_type(), "raw");
        let query = Query::parse("SELECT COUNT() AS total FROM devices.modules").unwrap();
        assert_eq!(query.selection, Selection::Count("total".into()));
        assert_eq!(query.source, Source::Modules);
    }

    #[test]
    fn jobs_have_conditions_without_a_query() {
        let of_job = |text: &str| Query::of_job(text).unwrap();
        assert_eq!(of_job("*"), Query::parse("SELECT * FROM devices").unwrap());
        let by_tag = Query::parse("SELECT * FROM devices WHERE tags.x = 1").unwrap();
        assert_eq!(of_job("tags.x = 1"), by_tag);
        let modules = of_job("FROM devices.modules WHERE moduleId = 'm'");
        assert_eq!(modules.source, Source::Modules);
        assert!(Query::of_job("").is_err());
    }
}
