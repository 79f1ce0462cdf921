//! Rows of values → requests to the platform. Pure.

use alwayson::{BaseType, Field, InfoTable, Request, Value};
use connector_config::WriteService;

use super::map::PropertyValue;

/// Values in one request: a node writes them in a few milliseconds.
const MAX_VALUES: usize = 500;

/// Rows in order, in parts of at most [`MAX_VALUES`] values; what is empty is left out.
#[must_use]
pub fn parts(rows: Vec<Vec<PropertyValue>>) -> Vec<Vec<Vec<PropertyValue>>> {
    let mut parts: Vec<Vec<Vec<PropertyValue>>> = Vec::new();
    let mut room = 0;
    for mut row in rows {
        while !row.is_empty() {
            let rest = row.split_off(row.len().min(MAX_VALUES));
            if row.len() > room {
                parts.push(Vec::new());
                room = MAX_VALUES;
            }
            room -= row.len();
            if let Some(part) = parts.last_mut() {
                part.push(row);
            }
            row = rest;
        }
    }
    parts
}

/// A request that writes these rows, in order. Each row is of one time, as a rule.
#[must_use]
pub fn request(thing: &str, rows: &[Vec<PropertyValue>], write: WriteService) -> Request {
    let values = || rows.iter().flatten();
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
            call(thing, service, "batches", batches(rows))
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
    } in values
    {
        // A row of four cells for four fields always fits.
        let _ = table.push_cells(|cells| {
            cells.string(name);
            cells.variant(value);
            cells.value(&Value::DateTime(*time_ms));
            cells.string("GOOD");
        });
    }
    table
}

/// One row for each set of values of one time.
fn batches(rows: &[Vec<PropertyValue>]) -> InfoTable {
    let mut table = InfoTable::new([
        Field::new("time", BaseType::DateTime),
        Field::new("batch", BaseType::InfoTable),
    ]);
    let sets = rows
        .iter()
        .flat_map(|row| row.chunk_by(|one, next| one.time_ms == next.time_ms));
    for set in sets {
        let Some(first) = set.first() else {
            continue;
        };
        let mut batch = InfoTable::new([
            Field::new("name", BaseType::String),
            Field::new("value", BaseType::Variant),
            Field::new("quality", BaseType::String),
        ]);
        for PropertyValue { name, value, .. } in set {
            // Three cells for three fields, and two for two, always fit.
            let _ = batch.push_cells(|cells| {
                cells.string(name);
                cells.variant(value);
                cells.string("GOOD");
            });
        }
        let _ = table.push(&[Value::DateTime(first.time_ms), Value::InfoTable(batch)]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_put_together_in_order_and_within_bounds() {
        let mut number = 0;
        let mut row = |values: usize| -> Vec<PropertyValue> {
            (0..values)
                .map(|_| {
                    number += 1;
                    PropertyValue {
                        name: "n".into(),
                        value: Value::Integer(number),
                        time_ms: 0,
                    }
                })
                .collect()
        };
        let rows = vec![
            row(0),
            row(300),
            row(200),
            row(1),
            row(0),
            row(1200),
            row(2),
        ];
        let all: Vec<_> = rows.iter().flatten().cloned().collect();
        let parts = parts(rows);
        let sizes: Vec<Vec<usize>> = parts
            .iter()
            .map(|part| part.iter().map(Vec::len).collect())
            .collect();
        assert_eq!(
            sizes,
            [vec![300, 200], vec![1], vec![500], vec![500], vec![200, 2]]
        );
        assert_eq!(
            parts.into_iter().flatten().flatten().collect::<Vec<_>>(),
            all
        );
        assert!(super::parts(vec![row(0)]).is_empty());
    }

    #[test]
    fn values_of_one_time_stand_together_in_a_batch() {
        let value = |number, time_ms| PropertyValue {
            name: "n".into(),
            value: Value::Integer(number),
            time_ms,
        };
        let rows = [
            vec![value(1, 7), value(2, 7), value(3, 8)],
            vec![],
            vec![value(4, 8)],
        ];
        let table = batches(&rows);
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
