//! What is written is read as it was.

use std::time::Instant;

use alwayson::{
    Assembler, BaseType, Body, Fault, Field, InfoTable, Limits, Message, Response, Value,
    json::{from_json, table_from_json, table_to_json, to_json},
    split,
};
use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRunner};

use crate::{generate, tell};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_message_is_read_as_it_was_written(message in generate::message()) {
        let bytes = message.encode().unwrap();
        let read = Message::decode(&bytes).unwrap();
        prop_assert_eq!(&read, &message);
        prop_assert_eq!(read.encode().unwrap(), bytes);
        prop_assert_eq!(read.body.kind(), message.body.kind());
    }

    #[test]
    fn fields_and_cells_come_out_as_they_went_in(
        names in vec(generate::text(), 0..5),
        rows in vec(vec(generate::any_value(2), 5), 0..4),
    ) {
        let fields: Vec<Field> = names
            .iter()
            .map(|name| Field::new(name.as_str(), BaseType::Variant))
            .collect();
        let rows: Vec<Vec<Value>> = rows.into_iter().map(|row| row[..fields.len()].to_vec()).collect();
        let mut table = InfoTable::new(fields.clone());
        for row in &rows {
            table.push(row).unwrap();
        }
        let message = Message {
            header: alwayson::Header::new(1),
            body: Response::with(table).into(),
        };
        let Body::Response(read) = Message::decode(&message.encode().unwrap()).unwrap().body else {
            panic!("a response became something else");
        };
        let read = read.content.unwrap();
        prop_assert_eq!(read.fields().collect::<Vec<_>>(), fields);
        prop_assert_eq!(read.rows().collect::<Vec<_>>(), rows.clone());
        prop_assert_eq!(read.len(), rows.len());
        for (at, name) in names.iter().enumerate() {
            let first = names.iter().position(|one| one == name);
            prop_assert_eq!(read.column(name), first);
            for (row, cells) in rows.iter().enumerate() {
                if first == Some(at) {
                    prop_assert_eq!(read.get(row, name), Some(cells[at].clone()));
                }
            }
        }
    }

    #[test]
    fn parts_of_any_size_in_any_order_make_the_message(
        message in generate::splittable(),
        spare in 1..300_usize,
        order in any::<u64>(),
    ) {
        let whole = message.encode().unwrap();
        let repeated = match &message.body {
            Body::Request(request) => request.entity.len() + 5,
            _ => 0,
        };
        let chunk = 21 + repeated + spare;
        let mut parts = split(&message, chunk).unwrap();
        prop_assert!(parts.iter().all(|part| part.len() <= chunk));
        if whole.len() <= chunk {
            prop_assert_eq!(&parts, &[whole]);
        } else {
            prop_assert!(parts.iter().all(|part| alwayson::is_part(part)));
        }
        let turn = usize::try_from(order % parts.len() as u64).unwrap();
        parts.rotate_left(turn);
        if order % 2 == 0 {
            parts.reverse();
        }
        let mut assembler = Assembler::new(Limits::default());
        let (last, before) = parts.split_last().unwrap();
        for part in before {
            prop_assert_eq!(assembler.push(Instant::now(), part).unwrap(), None);
        }
        prop_assert_eq!(assembler.push(Instant::now(), last).unwrap(), Some(message));
    }

    #[test]
    fn json_keeps_what_it_can_tell(
        table in vec((kept_by_json(), any::<bool>()), 1..5).prop_flat_map(|fields| {
            let cells: Vec<_> = fields
                .iter()
                .map(|(base_type, empty)| kept_value(*base_type, *empty))
                .collect();
            (Just(fields), vec(cells, 0..4))
        }).prop_map(|(fields, rows)| {
            let fields = fields.iter().enumerate();
            let mut table = InfoTable::new(
                fields.map(|(at, (base_type, _))| Field::new(format!("f{at}"), *base_type)),
            );
            for row in rows {
                table.push(&row).unwrap();
            }
            table
        }),
    ) {
        let json = table_to_json(&table);
        let text = json.to_string();
        prop_assert_eq!(&table_from_json(&serde_json::from_str(&text).unwrap()).unwrap(), &table);
        let nested = Value::InfoTable(table);
        prop_assert_eq!(from_json(BaseType::InfoTable, &to_json(&nested)).unwrap(), nested);
    }
}

/// Base types whose values JSON tells from others, so that they come back.
fn kept_by_json() -> impl Strategy<Value = BaseType> {
    let kept: Vec<BaseType> = BaseType::ALL
        .iter()
        .copied()
        .filter(|one| {
            one.is_text()
                || matches!(
                    one,
                    BaseType::Number
                        | BaseType::Boolean
                        | BaseType::DateTime
                        | BaseType::Integer
                        | BaseType::Long
                        | BaseType::Location
                )
        })
        .collect();
    select(kept)
}

fn kept_value(base_type: BaseType, empty: bool) -> BoxedStrategy<Value> {
    match base_type {
        _ if empty => Just(Value::Nothing).boxed(),
        // As text it may be written in another way: here is one that is not.
        BaseType::Json => (any::<i32>(), "[a-z]{0,9}")
            .prop_map(|(number, text)| Value::json(format!(r#"{{"a":{number},"b":["{text}"]}}"#)))
            .boxed(),
        // Text of a number that JSON reads back exactly: what has at most 15 digits.
        BaseType::Number => (-999_999_999_i32..999_999_999, 0..6_i32)
            .prop_map(|(digits, scale)| Value::Number(f64::from(digits) / 10_f64.powi(scale)))
            .boxed(),
        BaseType::Location => any::<[i16; 3]>()
            .prop_map(|parts| {
                let [longitude, latitude, elevation] = parts.map(f64::from);
                Value::Location(alwayson::Location {
                    longitude,
                    latitude,
                    elevation,
                })
            })
            .boxed(),
        other => generate::value(other, 0),
    }
}

#[test]
fn every_base_type_is_read_as_it_was_written() {
    let mut runner = TestRunner::deterministic();
    let mut values = 0;
    for base_type in BaseType::ALL {
        assert_eq!(BaseType::from_code(base_type.code()), Some(*base_type));
        assert_eq!(base_type.name().parse(), Ok(*base_type));
        for _ in 0..64 {
            let tree = generate::value(*base_type, 2)
                .new_tree(&mut runner)
                .unwrap();
            let value = proptest::strategy::ValueTree::current(&tree);
            assert_eq!(value.base_type(), *base_type);
            let table = InfoTable::one_row([("v", value.clone())]);
            let message = Message {
                header: alwayson::Header::new(1),
                body: Response::with(table).into(),
            };
            let read = Message::decode(&message.encode().unwrap()).unwrap();
            assert_eq!(read, message);
            let Body::Response(response) = read.body else {
                panic!("a response became something else");
            };
            assert_eq!(response.content.unwrap().get(0, "v"), Some(value));
            values += 1;
        }
    }
    tell(&format!(
        "round trips: {values} values of {} base types",
        BaseType::ALL.len()
    ));
}

#[test]
fn json_that_fits_no_base_type_is_refused() {
    let cases = [
        (BaseType::Number, r#""5""#),
        (BaseType::Integer, "2147483648"),
        (BaseType::Integer, "1.5"),
        (BaseType::Boolean, "1"),
        (BaseType::String, "5"),
        (BaseType::Location, r#"{"latitude":1}"#),
        (BaseType::InfoTable, r#"{"rows":[]}"#),
        (
            BaseType::InfoTable,
            r#"{"dataShape":{"fieldDefinitions":{"a":{"baseType":"NONE"}}},"rows":[]}"#,
        ),
        (BaseType::Vec2, r#"{"x":1,"y":2}"#),
    ];
    for (base_type, json) in cases {
        let json = serde_json::from_str(json).unwrap();
        let refused = from_json(base_type, &json).unwrap_err().to_string();
        assert!(refused.contains(base_type.name()), "{refused}");
    }
    let table = InfoTable::one_row([("blob", Value::Blob(vec![0, 1, 255]))]);
    assert_eq!(table_to_json(&table)["rows"][0]["blob"], "AAH/");
}

#[test]
fn a_variant_in_a_variant_is_refused() {
    let nested = Value::Variant(Box::new(Value::Variant(Box::new(Value::Nothing))));
    let message = Message {
        header: alwayson::Header::new(1),
        body: Response::result(nested).into(),
    };
    let error = Message::decode(&message.encode().unwrap()).unwrap_err();
    assert_eq!(error.fault, Fault::NestedVariant);
}

#[test]
fn tables_are_refused_when_they_are_too_deep() {
    let nest = |levels: usize| {
        (1..levels).fold(InfoTable::one_row([("x", Value::Nothing)]), |inner, _| {
            InfoTable::one_row([("t", Value::InfoTable(inner))])
        })
    };
    let message = |levels| Message {
        header: alwayson::Header::new(1),
        body: Response::with(nest(levels)).into(),
    };
    let deepest = message(17);
    assert_eq!(
        Message::decode(&deepest.encode().unwrap()).unwrap(),
        deepest
    );
    let error = Message::decode(&message(18).encode().unwrap()).unwrap_err();
    assert!(matches!(error.fault, Fault::Depth(_)), "{error}");
}
