//! What is kept of values where a log of each would cost more than taking them: how many there were,
//! and how long they were on their way.

use alwayson::Value;
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Longest way that is told apart from longer ones, in microseconds: a minute.
const LONGEST_US: u64 = 60_000_000;
/// Significant digits of a latency: 1 % is finer than any two runs agree.
const DIGITS: u8 = 2;

/// How many values were taken, and how old they were.
#[derive(Debug)]
pub struct Tally {
    stamp: String,
    values: u64,
    requests: u64,
    /// Microseconds from the stamp to the taking; `None` only if its bounds were nonsense.
    ages: Option<Histogram<u64>>,
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
    /// How old they were when taken, in microseconds.
    pub p50_us: u64,
    /// The same.
    pub p90_us: u64,
    /// The same.
    pub p99_us: u64,
    /// The same.
    pub p999_us: u64,
    /// The same.
    pub max_us: u64,
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
            ages: Histogram::new_with_max(LONGEST_US, DIGITS).ok(),
        }
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        (self.values, self.requests) = (0, 0);
        if let Some(ages) = &mut self.ages {
            ages.reset();
        }
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
            self.age(monotonic_us().saturating_sub(stamp));
        }
    }

    fn age(&mut self, us: u64) {
        if let Some(ages) = &mut self.ages {
            ages.saturating_record(us);
        }
    }

    /// What is told of it.
    #[must_use]
    pub fn view(&self) -> TallyView {
        let at = |quantile| {
            let ages = self.ages.as_ref();
            ages.map_or(0, |ages| ages.value_at_quantile(quantile))
        };
        TallyView {
            values: self.values,
            requests: self.requests,
            stamped: self.ages.as_ref().map_or(0, Histogram::len),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: at(1.0),
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

fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1000).unwrap_or(0)
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
        assert!(view.p50_us >= 990_000, "{view:?}");
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

    #[test]
    fn quantiles_are_those_of_the_ages() {
        let mut tally = Tally::new("at");
        for us in 1..=1000 {
            tally.age(us * 10);
        }
        let view = tally.view();
        let near = |got: u64, wanted: u64| got.abs_diff(wanted) * 50 <= wanted;
        assert!(near(view.p50_us, 5000) && near(view.p99_us, 9900) && near(view.max_us, 10_000));
    }
}
