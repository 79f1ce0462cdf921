//! What is kept of values where a log of each would cost more than taking them: how many there were,
//! and how long they were on their way.

use alwayson::Value;
use serde::Serialize;

use crate::times::{Times, TimesView, monotonic_us};

/// How many values were taken, and how old they were.
#[derive(Debug)]
pub struct Tally {
    stamp: String,
    values: u64,
    requests: u64,
    /// From the stamp to the taking.
    ages: Times,
}

/// A tally as it is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TallyView {
    /// Values taken.
    pub values: u64,
    /// Requests that brought them.
    pub requests: u64,
    /// Values that had a stamp.
    pub stamped: u64,
    /// How old they were when taken.
    #[serde(flatten)]
    pub ages: TimesView,
}

impl Tally {
    /// Nothing yet. A property of the name `stamp` tells when its event came into being, in microseconds
    /// of the clock that never goes back and that all processes of a machine share; 0 tells nothing.
    #[must_use]
    pub fn new(stamp: &str) -> Self {
        Self {
            stamp: stamp.to_owned(),
            values: 0,
            requests: 0,
            ages: Times::default(),
        }
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        (self.values, self.requests) = (0, 0);
        self.ages.clear();
    }

    /// A request has brought values.
    pub fn request(&mut self) {
        self.requests += 1;
    }

    /// A value was taken.
    pub fn value(&mut self, property: &str, value: &Value) {
        self.values += 1;
        if property == self.stamp
            && let Some(stamp) = microseconds(value)
        {
            self.ages.note(monotonic_us().saturating_sub(stamp));
        }
    }

    /// What is told of it.
    #[must_use]
    pub fn view(&self) -> TallyView {
        TallyView {
            values: self.values,
            requests: self.requests,
            stamped: self.ages.count(),
            ages: self.ages.view(),
        }
    }
}

fn microseconds(value: &Value) -> Option<u64> {
    let us = match value {
        // Whole up to 2^53, which is centuries of microseconds.
        #[allow(clippy::cast_possible_truncation, reason = "a float saturates")]
        Value::Number(number) => *number as i64,
        Value::Long(number) => *number,
        _ => return None,
    };
    u64::try_from(us).ok().filter(|us| *us > 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alwayson::{BaseType, Field, InfoTable, Request};
    use serde_json::json;

    use super::*;
    use crate::{Cluster, ClusterSettings, execute::execute};

    #[test]
    fn values_are_counted_and_stamps_are_aged() {
        let mut tally = Tally::new("at");
        tally.request();
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
        let stamp = (monotonic_us() - 1_000_000) as f64;
        tally.value("at", &Value::Number(stamp));
        tally.value("at", &Value::Long(0));
        tally.value("n", &Value::Number(1.0));
        let view = tally.view();
        assert_eq!((view.values, view.requests, view.stamped), (3, 1, 1));
        assert!(view.ages.p50_us >= 990_000, "{view:?}");
        tally.clear();
        assert_eq!(tally.view().stamped, 0);
    }

    /// Two kinds of Things, and a request with two values that one of them has.
    #[test]
    fn what_things_made_alike_take_is_counted_and_kept_but_not_logged() {
        let settings = ClusterSettings {
            count_only: Some("at".into()),
            ..ClusterSettings::default()
        };
        let cluster = Arc::new(Cluster::new(1, settings));
        let kind = |property: &str| {
            let of = json!({ "properties": { property: { "baseType": "NUMBER", "remote": {} } } });
            serde_json::from_value(of).unwrap()
        };
        cluster.generate("d-", 5, vec![kind("n"), kind("m")]);
        let mut table = InfoTable::new([
            Field::new("name", BaseType::String),
            Field::new("value", BaseType::Variant),
        ]);
        for (name, number) in [("n", 1.0), ("m", 2.0)] {
            let value = Value::Variant(Box::new(Value::Number(number)));
            table.push(&[Value::string(name), value]).unwrap();
        }
        let params = InfoTable::one_row([("values", Value::InfoTable(table))]);
        let request = Request::call("d-4", "UpdateSubscribedPropertyValues", Some(params));
        assert!(!execute(&cluster, 0, 1, &request).is_error());
        let tally = cluster.tally().unwrap();
        assert_eq!((tally.values, tally.requests), (1, 1));
        assert!(cluster.values("d-4").is_empty());
        let read = execute(&cluster, 0, 1, &Request::read("d-4", "n"));
        let value = read.content.unwrap().get(0, "n");
        assert_eq!(value, Some(Value::Number(1.0)));
    }
}
