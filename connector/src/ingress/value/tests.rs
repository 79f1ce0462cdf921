use proptest::prelude::*;
use serde_json::json;

use super::*;

const HERE: Location = Location {
    longitude: 8.25,
    latitude: 47.5,
    elevation: 430.0,
};

#[test]
fn json_becomes_the_base_type() {
    let text = |base_type, text: &str| Value::Text(base_type, text.to_owned());
    let fits = [
        (BaseType::String, json!("a"), Value::string("a")),
        (BaseType::Number, json!(2.5), Value::Number(2.5)),
        (BaseType::Number, json!("24.39"), Value::Number(24.39)),
        (BaseType::Integer, json!(-2), Value::Integer(-2)),
        (BaseType::Integer, json!(3.0), Value::Integer(3)),
        (BaseType::Integer, json!("7"), Value::Integer(7)),
        (BaseType::Long, json!(i64::MAX), Value::Long(i64::MAX)),
        (BaseType::Boolean, json!(true), Value::Boolean(true)),
        (BaseType::Boolean, json!("TRUE"), Value::Boolean(true)),
        (BaseType::Boolean, json!("yes"), Value::Boolean(false)),
        (BaseType::Boolean, json!("2"), Value::Boolean(true)),
        (BaseType::Boolean, json!("0"), Value::Boolean(false)),
        (BaseType::Boolean, json!(0), Value::Boolean(false)),
        (
            BaseType::DateTime,
            json!("2021-10-19"),
            Value::DateTime(1_634_601_600_000),
        ),
        (
            BaseType::DateTime,
            json!(1_634_630_768_641_i64),
            Value::DateTime(1_634_630_768_641),
        ),
        (
            BaseType::Location,
            json!("47.5, 8.25, 430"),
            Value::Location(HERE),
        ),
        (
            BaseType::Location,
            json!({"latitude": 47.5, "longitude": "8.25", "elevation": 430, "units": "WGS84"}),
            Value::Location(HERE),
        ),
        (
            BaseType::Json,
            json!({"a": [1]}),
            Value::json("{\"a\":[1]}"),
        ),
        (BaseType::Json, json!([1, null]), Value::json("[1,null]")),
        (BaseType::Text, json!("a\nb"), text(BaseType::Text, "a\nb")),
        (BaseType::Html, json!("<b>"), text(BaseType::Html, "<b>")),
        (BaseType::Xml, json!("<a/>"), text(BaseType::Xml, "<a/>")),
        (
            BaseType::Hyperlink,
            json!("http://a"),
            text(BaseType::Hyperlink, "http://a"),
        ),
        (
            BaseType::ImageLink,
            json!("/a.png"),
            text(BaseType::ImageLink, "/a.png"),
        ),
        (BaseType::Guid, json!("3f"), text(BaseType::Guid, "3f")),
        (
            BaseType::Schedule,
            json!("0 0/1 * * * ?"),
            text(BaseType::Schedule, "0 0/1 * * * ?"),
        ),
        (
            BaseType::ThingName,
            json!("Pump"),
            text(BaseType::ThingName, "Pump"),
        ),
        (
            BaseType::Tags,
            json!("V:a;V:b"),
            text(BaseType::Tags, "V:a;V:b"),
        ),
        (
            BaseType::Tags,
            json!([{"vocabulary": "V", "vocabularyTerm": "a"}, {"vocabulary": "W", "vocabularyTerm": "b"}]),
            text(BaseType::Tags, "V:a;W:b"),
        ),
        (
            BaseType::Query,
            json!({"maxItems": 5}),
            text(BaseType::Query, "{\"maxItems\":5}"),
        ),
        (BaseType::Query, json!("{}"), text(BaseType::Query, "{}")),
        (
            BaseType::Image,
            json!("iVBORw=="),
            Value::Image(vec![0x89, b'P', b'N', b'G']),
        ),
        (BaseType::Blob, json!("AAH/"), Value::Blob(vec![0, 1, 255])),
        (
            BaseType::Vec2,
            json!({"x": 1, "y": 2.5}),
            Value::Vec2([1.0, 2.5]),
        ),
        (
            BaseType::Vec3,
            json!([1, 2, 3]),
            Value::Vec3([1.0, 2.0, 3.0]),
        ),
        (
            BaseType::Vec4,
            json!({"x": 1, "y": 2, "z": 3, "w": 4}),
            Value::Vec4([1.0, 2.0, 3.0, 4.0]),
        ),
        (
            BaseType::ThingCode,
            json!("2:17"),
            Value::ThingCode {
                domain: 2,
                instance: 17,
            },
        ),
        (
            BaseType::ThingCode,
            json!({"domainId": 2, "instanceId": 17}),
            Value::ThingCode {
                domain: 2,
                instance: 17,
            },
        ),
        (
            BaseType::TimeSpan,
            json!({"startDate": 5, "endDate": null, "period": "00:00:00:00:01:00"}),
            Value::TimeSpan {
                start: 5,
                end: -1,
                period: "00:00:00:00:01:00".into(),
            },
        ),
        (BaseType::Variant, json!(1), Value::Number(1.0)),
        (BaseType::Variant, json!("1"), Value::string("1")),
        (BaseType::Variant, json!([1]), Value::json("[1]")),
    ];
    for (base_type, json, expected) in fits {
        assert_eq!(
            value(base_type, &json),
            Ok(expected),
            "{json} as {base_type:?}"
        );
    }
}

#[test]
fn what_does_not_fit_is_refused_with_what_is_needed() {
    let wrong = [
        (BaseType::String, json!(1)),
        (BaseType::Number, json!("warm")),
        (BaseType::Number, json!("NaN")),
        (BaseType::Number, json!("inf")),
        (BaseType::Number, json!(null)),
        (BaseType::Integer, json!(2.5)),
        (BaseType::Integer, json!(2_147_483_648_i64)),
        (BaseType::Long, json!(1e300)),
        (BaseType::Long, json!(u64::MAX)),
        (BaseType::Boolean, json!({})),
        (BaseType::DateTime, json!("yesterday")),
        (BaseType::Location, json!("91,0")),
        (BaseType::Location, json!({"latitude": 1})),
        (BaseType::Json, json!("text")),
        (BaseType::Text, json!(1)),
        (BaseType::Tags, json!("no term")),
        (BaseType::Tags, json!([{"vocabulary": "V"}])),
        (BaseType::Query, json!("text")),
        (BaseType::Image, json!("no base64!")),
        (BaseType::Blob, json!([0, 1])),
        (BaseType::Vec2, json!([1, 2, 3])),
        (BaseType::Vec3, json!({"x": 1, "y": 2})),
        (BaseType::Vec3, json!("1,2,3")),
        (BaseType::ThingCode, json!("2")),
        (BaseType::ThingCode, json!("4294967296:1")),
        (BaseType::TimeSpan, json!({})),
        (BaseType::TimeSpan, json!({"startDate": "soon"})),
        (BaseType::Variant, json!(null)),
        (BaseType::Password, json!("secret")),
        (BaseType::Nothing, json!(null)),
        (BaseType::InfoTable, json!([{"a": 1}])),
        (BaseType::InfoTable, json!({"rows": []})),
    ];
    for (base_type, json) in wrong {
        let refused = value(base_type, &json).expect_err(&format!("{json} as {base_type:?}"));
        assert!(!refused.is_empty());
    }
}

#[test]
fn an_infotable_has_its_fields_in_order_and_its_cells_by_the_same_table() {
    let json = json!({
        "dataShape": {"name": "Reading", "fieldDefinitions": {
            "b": {"name": "b", "baseType": "DATETIME", "ordinal": 2},
            "a": {"name": "a", "baseType": "NUMBER", "ordinal": 1},
            "v": {"name": "v", "baseType": "VARIANT", "ordinal": 3},
        }},
        "rows": [{"a": "1.5", "b": "1970-01-01T00:00:01Z", "v": true}, {"a": null}],
    });
    let Ok(Value::InfoTable(table)) = value(BaseType::InfoTable, &json) else {
        panic!("an infotable")
    };
    let names: Vec<String> = table.fields().map(|field| field.name).collect();
    assert_eq!(names, ["a", "b", "v"]);
    let rows: Vec<Vec<Value>> = table.rows().collect();
    assert_eq!(
        rows,
        [
            vec![
                Value::Number(1.5),
                Value::DateTime(1000),
                Value::Variant(Box::new(Value::Boolean(true)))
            ],
            vec![Value::Nothing, Value::Nothing, Value::Nothing],
        ]
    );
    for spoilt in [
        ("/rows/0/a", json!("warm")),
        ("/rows/0", json!({"a": 1, "stray": 1})),
        ("/rows/0", json!([1])),
        ("/dataShape/fieldDefinitions/a/baseType", json!("COLOUR")),
    ] {
        let mut json = json.clone();
        *json.pointer_mut(spoilt.0).unwrap() = spoilt.1;
        assert!(value(BaseType::InfoTable, &json).is_err(), "{json}");
    }
}

#[test]
fn infotables_nest_to_a_bound() {
    let within = |inner: Json| {
        json!({
            "dataShape": {"fieldDefinitions": {"t": {"baseType": "INFOTABLE"}}},
            "rows": [{"t": inner}],
        })
    };
    let mut json = json!({"dataShape": {"fieldDefinitions": {}}, "rows": []});
    for _ in 1..MAX_TABLES {
        json = within(json);
    }
    assert!(value(BaseType::InfoTable, &json).is_ok());
    assert!(value(BaseType::InfoTable, &within(json)).is_err());
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,12}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let name = prop_oneof![
            ".{0,4}",
            "x|y|z|w|latitude|longitude|rows|dataShape|fieldDefinitions|startDate|period"
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::vec((name, inner), 0..4)
                .prop_map(|fields| Json::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever a device sends: a value of the property's own base type, or a refusal.
    #[test]
    fn a_value_has_the_propertys_base_type(json in any_json()) {
        for base_type in BaseType::ALL {
            if let Ok(value) = value(*base_type, &json) && *base_type != BaseType::Variant {
                prop_assert_eq!(value.base_type(), *base_type);
            }
        }
    }
}
