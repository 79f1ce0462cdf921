//! Rows of values → requests to the platform. Pure.

use alwayson::{BaseType, Field, InfoTable, Request, Value};
use connector_config::WriteService;

use super::map::PropertyValue;

/// Values that belong together: of one time, as a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Set {
    /// Sequence number of the message that they are from; none for what is written again.
    pub from: Option<i64>,
    /// The values in order.
    pub values: Vec<PropertyValue>,
}

/// Values in one request: a node writes them in a few milliseconds.
const MAX_VALUES: usize = 500;

/// Sets in order, in parts of at most [`MAX_VALUES`] values; what is empty is left out.
#[must_use]
pub fn parts(sets: impl IntoIterator<Item = Set>) -> Vec<Vec<Set>> {
    let mut parts: Vec<Vec<Set>> = Vec::new();
    let mut room = 0;
    for Set { from, mut values } in sets {
        while !values.is_empty() {
            let rest = values.split_off(values.len().min(MAX_VALUES));
            if values.len() > room {
                parts.push(Vec::new());
                room = MAX_VALUES;
            }
            room -= values.len();
            if let Some(part) = parts.last_mut() {
                part.push(Set { from, values });
            }
            values = rest;
        }
    }
    parts
}

/// A request that writes these sets, in order.
#[must_use]
pub fn request(thing: &str, sets: &[Set], write: WriteService) -> Request {
    let values = || sets.iter().flat_map(|set| &set.values);
    match write {
        WriteService::UpdateSubscribedPropertyValues => call(
            thing,
            "UpdateSubscribedPropertyValues",
            "values",
            vtq(values()),
        ),
        WriteService::UpdatePropertyValues => {
            call(thing, "UpdatePropertyValues", "values", vtq(values()))
        }
        WriteService::UpdateSubscribedPropertyValuesBatched => {
            let service = "UpdateSubscribedPropertyValuesBatched";
            call(thing, service, "batches", batches(sets))
        }
    }
}

fn call(thing: &str, service: &str, parameter: &str, table: InfoTable) -> Request {
    let params = InfoTable::one_row([(parameter, Value::InfoTable(table))]);
    Request::call(thing, service, Some(params))
}

/// One row for each value, with its time.
fn vtq<'a>(values: impl Iterator<Item = &'a PropertyValue>) -> InfoTable {
    let mut table = InfoTable::new([
        Field::new("name", BaseType::String),
        Field::new("value", BaseType::Variant),
        Field::new("time", BaseType::DateTime),
        Field::new("quality", BaseType::String),
    ]);
    for PropertyValue {
        name,
        value,
        time_ms,
        quality,
    } in values
    {
        // A row of four cells for four fields always fits.
        let _ = table.push_cells(|cells| {
            cells.string(name);
            cells.variant(value);
            cells.value(&Value::DateTime(*time_ms));
            cells.string(quality.name());
        });
    }
    table
}

/// One row for each set of values of one time.
fn batches(sets: &[Set]) -> InfoTable {
    let mut table = InfoTable::new([
        Field::new("time", BaseType::DateTime),
        Field::new("batch", BaseType::InfoTable),
    ]);
    let of_one_time = |one: &PropertyValue, next: &PropertyValue| one.time_ms == next.time_ms;
    let rows = sets.iter().flat_map(|set| set.values.chunk_by(of_one_time));
    for row in rows {
        let Some(first) = row.first() else {
            continue;
        };
        let mut batch = InfoTable::new([
            Field::new("name", BaseType::String),
            Field::new("value", BaseType::Variant),
            Field::new("quality", BaseType::String),
        ]);
        for PropertyValue {
            name,
            value,
            quality,
            ..
        } in row
        {
            // Three cells for three fields, and two for two, always fit.
            let _ = batch.push_cells(|cells| {
                cells.string(name);
                cells.variant(value);
                cells.string(quality.name());
            });
        }
        let _ = table.push(&[Value::DateTime(first.time_ms), Value::InfoTable(batch)]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{super::quality::Quality, *};

    #[test]
    fn rows_are_put_together_in_order_and_within_bounds() {
        let mut number = 0;
        let mut set = |from: i64, values: usize| {
            let values = (0..values).map(|_| {
                number += 1;
                PropertyValue {
                    name: "n".into(),
                    value: Value::Integer(number),
                    time_ms: 0,
                    quality: Quality::Good,
                }
            });
            Set {
                from: Some(from),
                values: values.collect(),
            }
        };
        let sets = vec![
            set(0, 0),
            set(1, 300),
            set(2, 200),
            set(3, 1),
            set(4, 0),
            set(5, 1200),
            set(6, 2),
        ];
        let values = |sets: &[Set]| {
            let values = sets.iter().flat_map(|set| set.values.clone());
            values.collect::<Vec<_>>()
        };
        let all = values(&sets);
        let parts = parts(sets);
        let sizes: Vec<Vec<(i64, usize)>> = parts
            .iter()
            .map(|part| {
                let sets = part.iter();
                sets.map(|set| (set.from.unwrap(), set.values.len()))
                    .collect()
            })
            .collect();
        assert_eq!(
            sizes,
            [
                vec![(1, 300), (2, 200)],
                vec![(3, 1)],
                vec![(5, 500)],
                vec![(5, 500)],
                vec![(5, 200), (6, 2)]
            ]
        );
        assert_eq!(values(&parts.concat()), all);
        assert!(super::parts([set(0, 0)]).is_empty());
    }

    #[test]
    fn values_of_one_time_stand_together_in_a_batch() {
        let value = |number, time_ms| PropertyValue {
            name: "n".into(),
            value: Value::Integer(number),
            time_ms,
            quality: Quality::Good,
        };
        let set = |values| Set { from: None, values };
        let sets = [
            set(vec![value(1, 7), value(2, 7), value(3, 8)]),
            set(vec![]),
            set(vec![value(4, 8)]),
        ];
        let table = batches(&sets);
        let sets: Vec<(i64, Vec<String>)> = table
            .rows()
            .map(|row| match row.as_slice() {
                [Value::DateTime(time), Value::InfoTable(batch)] => {
                    let values = batch.rows().map(|cells| format!("{:?}", cells[1]));
                    (*time, values.collect())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        let shown = |number| format!("{:?}", Value::Variant(Box::new(Value::Integer(number))));
        assert_eq!(
            sets,
            [
                (7, vec![shown(1), shown(2)]),
                (8, vec![shown(3)]),
                (8, vec![shown(4)])
            ]
        );
    }
}
