//! Rows of values → requests to the platform. Pure.

use alwayson::{BaseType, Field, InfoTable, Request, Value};

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

/// `UpdateSubscribedPropertyValues` with one row per value, in order.
#[must_use]
pub fn request<'a>(thing: &str, values: impl Iterator<Item = &'a PropertyValue>) -> Request {
    let mut table = InfoTable::new(vec![
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
    let params = InfoTable::one_row([("values", Value::InfoTable(table))]);
    Request::call(thing, "UpdateSubscribedPropertyValues", Some(params))
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
}
