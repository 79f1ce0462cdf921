//! The messages of the vectors, built from their meaning.

use alwayson::{
    BaseType, Bind, Body, Characteristic, Claim, EntityType, Field, Gateway, Header, InfoTable,
    Location, Message, Method, Request, Response, Status, Value,
};

fn ids(request_id: u32, endpoint_id: i32, session_id: i32, body: impl Into<Body>) -> Message {
    Message {
        header: Header {
            request_id,
            endpoint_id,
            session_id,
        },
        body: body.into(),
    }
}

/// As an edge asks.
pub fn asks(id: u32, body: impl Into<Body>) -> Message {
    ids(id, 0, 0x42, body)
}

/// As an answer to what an edge asks.
pub fn answers(id: u32, response: Response) -> Message {
    ids(id, 0, 0x42, response)
}

/// As the platform asks.
fn platform(id: u32, request: Request) -> Message {
    ids(id, -1, -1, request)
}

fn auth(claims: &[(&str, &str)]) -> Body {
    let claims = claims.iter().map(|(name, value)| Claim {
        name: (*name).into(),
        value: (*value).into(),
    });
    Body::Auth(claims.collect())
}

fn gateway(name: &str, template: &str, names: &[&str]) -> Body {
    Body::Bind(Bind {
        gateway: Some(Gateway {
            name: name.into(),
            template: template.into(),
        }),
        ..Bind::names(names.iter().copied())
    })
}

fn table<const N: usize>(fields: [(&str, BaseType); N], rows: &[[Value; N]]) -> InfoTable {
    let fields = fields.map(|(name, base_type)| Field::new(name, base_type));
    let mut table = InfoTable::new(fields);
    for row in rows {
        table.push(row).unwrap();
    }
    table
}

fn text(text: &str) -> Value {
    Value::string(text)
}

fn variant(value: Value) -> Value {
    Value::Variant(Box::new(value))
}

fn failed(status: Status) -> Response {
    Response {
        status,
        ..Response::ok()
    }
}

pub fn built() -> Vec<(&'static str, Message)> {
    use BaseType as B;
    let thing = "Dev-001";
    let time = Value::DateTime(1_500_000_000_123);
    let key = "12345678-90ab-cdef-1234-567890abcdef";
    let call = |service: &str, params: InfoTable| Request::call(thing, service, Some(params));
    let write = |property: &str, value| Request::write(thing, property, value);
    let vtq = table(
        [
            ("name", B::String),
            ("value", B::Variant),
            ("time", B::DateTime),
            ("quality", B::String),
        ],
        &[
            [
                text("temperature"),
                variant(Value::Number(21.5)),
                time.clone(),
                text("GOOD"),
            ],
            [
                text("count"),
                variant(Value::Integer(-7)),
                time.clone(),
                text("UNKNOWN"),
            ],
        ],
    );
    let subscriptions = table(
        [
            ("edgeName", B::String),
            ("pushType", B::String),
            ("pushThreshold", B::Number),
        ],
        &[[text("temperature"), text("VALUE"), Value::Number(0.5)]],
    );
    let location = Location {
        longitude: 8.25,
        latitude: 47.5,
        elevation: 430.0,
    };
    let event = InfoTable::one_row([("message", text("over temp"))]);
    let mut named = Field::new("name", B::String);
    named.description = "The name".into();
    named.aspects = vec![
        ("isPrimaryKey".into(), Value::Boolean(true)),
        ("defaultValue".into(), text("x")),
    ];
    let mut aspects = InfoTable::new([named, Field::new("size", B::Number)]);
    for (name, size) in [("a", 1.0), ("b", 2.0)] {
        aspects.push(&[text(name), Value::Number(size)]).unwrap();
    }
    let edge_names = [("edgeName", B::String)];
    let states = table(
        [
            ("name", B::String),
            ("time", B::DateTime),
            ("value", B::Variant),
            ("quality", B::String),
        ],
        &[],
    );
    let mut reported = states.clone();
    reported
        .push(&[
            text("twinReported"),
            time.clone(),
            variant(Value::json(r#"{"a":1}"#)),
            text("GOOD"),
        ])
        .unwrap();
    let events = table(
        [
            ("eventName", B::String),
            ("eventTime", B::DateTime),
            ("eventData", B::InfoTable),
        ],
        &[[text("Fault"), time.clone(), Value::InfoTable(event.clone())]],
    );
    let copy = InfoTable::one_row([
        ("sourceRepo", text(thing)),
        ("sourcePath", text("/logs")),
        ("sourceFile", text("a.log")),
        ("targetRepo", text("SystemRepository")),
        ("targetPath", text("/in")),
        ("targetFile", text("a.log")),
        ("async", Value::Boolean(true)),
        ("timeout", Value::Integer(30_000)),
    ]);
    let create = InfoTable::one_row([
        ("thingTemplateName", text("RemoteThing")),
        ("name", text(thing)),
    ]);
    let elsewhere = |entity_type, entity: &str, service: &str, params| Request {
        entity_type,
        ..Request::call(entity, service, Some(params))
    };
    let echo = Request {
        headers: ["h1", "v1"].into_iter().collect(),
        ..call(
            "Echo",
            with_descriptions(&InfoTable::one_row([("msg", text("hello"))])),
        )
    };
    let put_all = Request {
        target: "*".into(),
        params: Some(with_descriptions(&InfoTable::one_row([(
            "setpoint",
            Value::Number(3.5),
        )]))),
        ..write("setpoint", Value::Nothing)
    };
    let unnamed = Request {
        method: Method::Get,
        characteristic: Characteristic::PROPERTIES,
        ..Request::call(thing, "", None)
    };
    vec![
        ("AUTH", ids(1, 0, -1, auth(&[("appKey", key)]))),
        ("AUTH_RESP", answers(1, Response::ok())),
        ("BIND1", asks(2, Body::Bind(Bind::names(["Thing1"])))),
        (
            "BIND3",
            asks(3, Body::Bind(Bind::names([thing, "Dev-002", "*SN-003"]))),
        ),
        ("BIND_GW", asks(4, gateway("GW1", "EdgeGateway", &[thing]))),
        (
            "UNBIND2",
            asks(5, Body::Unbind(Bind::names([thing, "Dev-002"]))),
        ),
        ("GET_PROP", asks(6, Request::read(thing, "temperature"))),
        (
            "GET_RESP",
            answers(
                6,
                Response::with(InfoTable::one_row([("temperature", Value::Number(21.5))])),
            ),
        ),
        ("GET_ALL_PROPS", asks(0x24, unnamed)),
        (
            "PUT_PROP_NUMBER",
            asks(7, write("temperature", Value::Number(21.5))),
        ),
        ("PUT_STRING", asks(0x11, write("s", text("abc")))),
        ("PUT_BOOLEAN", asks(0x0e, write("on", Value::Boolean(true)))),
        ("PUT_INTEGER", asks(0x0f, write("i", Value::Integer(-2)))),
        ("PUT_DATETIME", asks(0x10, write("t", time.clone()))),
        (
            "PUT_LOCATION",
            asks(0x0c, write("pos", Value::Location(location))),
        ),
        (
            "PUT_BLOB",
            asks(0x0d, write("b", Value::Blob(vec![0, 1, 255]))),
        ),
        ("PUT_NULL", asks(0x12, write("s", Value::Nothing))),
        ("PUT_STR127", asks(0x14, write("s", text(&"x".repeat(127))))),
        ("PUT_STR128", asks(0x15, write("s", text(&"x".repeat(128))))),
        (
            "PUT_LONGSTR130",
            asks(0x13, write("s", text(&"x".repeat(130)))),
        ),
        (
            "POST_NOPARAMS",
            asks(8, Request::call(thing, "NotifyPropertyUpdate", None)),
        ),
        (
            "GET_SUBS",
            asks(
                9,
                call(
                    "GetPropertySubscriptions",
                    InfoTable::one_row([("options", Value::json(r#"{"hasDeadband":true}"#))]),
                ),
            ),
        ),
        ("GET_SUBS_RESP", answers(9, Response::with(subscriptions))),
        (
            "UPDATE_SUBSCRIBED",
            asks(
                0x0a,
                call(
                    "UpdateSubscribedPropertyValues",
                    InfoTable::one_row([("values", Value::InfoTable(vtq))]),
                ),
            ),
        ),
        (
            "FIRE_EVENT",
            asks(0x1c, Request::event(thing, "SteamSensorFault", event)),
        ),
        (
            "CREATE_THING",
            asks(
                0x1d,
                elsewhere(
                    EntityType::RESOURCES,
                    "EntityServices",
                    "CreateThing",
                    create,
                ),
            ),
        ),
        (
            "FT_COPY",
            asks(
                0x25,
                elsewhere(
                    EntityType::SUBSYSTEMS,
                    "FileTransferSubsystem",
                    "Copy",
                    copy,
                ),
            ),
        ),
        (
            "METADATA_RESP",
            answers(0x23, Response::result(Value::json(r#"{"name":"Dev-001"}"#))),
        ),
        ("RESP_ASPECTS", answers(0x16, Response::with(aspects))),
        (
            "RESP_EMPTY_IT",
            answers(
                0x17,
                Response::with(InfoTable::new([Field::new("result", B::String)])),
            ),
        ),
        ("ERR_404", ids(0x18, 7, 0x42, failed(Status::NOT_FOUND))),
        (
            "ERR_REASON_MARKED",
            answers(0x1a, Response::error(Status::BAD_REQUEST, "bad")),
        ),
        (
            "ERR_REASON_CONTENT",
            answers(
                0x1b,
                Response {
                    status: Status::INTERNAL_ERROR,
                    reason: Some("bad".into()),
                    ..Response::result(text("x"))
                },
            ),
        ),
        (
            "ERR_REASON_CSDK_BUG",
            answers(0x19, failed(Status::BAD_REQUEST)),
        ),
        (
            "JAVA_AUTH_USER",
            ids(1, -1, -1, auth(&[("password", "pw"), ("userid", "bob")])),
        ),
        ("JAVA_AUTH_JOIN", ids(2, 5, 0x42, auth(&[("appKey", key)]))),
        (
            "JAVA_CLEARAUTH",
            ids(9, 7, 0x42, Body::ClearAuth([].into_iter().collect())),
        ),
        (
            "JAVA_BIND_GATEWAY",
            ids(
                2,
                -1,
                -1,
                gateway("GW1", "ConnectionServer", &["*SN-002", thing, "GW1", "GW1"]),
            ),
        ),
        (
            "JAVA_UNBIND",
            ids(0x10, -1, -1, Body::Unbind(Bind::names([thing, "GW1"]))),
        ),
        ("JAVA_HEADER", ids(0x0a, 7, 0x42, echo)),
        ("JAVA_PUT_ALL", asks(7, put_all)),
        (
            "P2E_NOTIFY",
            platform(0x3e9, Request::call(thing, "NotifyPropertyUpdate", None)),
        ),
        (
            "P2E_READ_IDENT",
            platform(0x3ea, Request::read("*SN-003", "temperature")),
        ),
        (
            "P2E_WRITE",
            platform(0x3eb, write("setpoint", Value::Number(30.0))),
        ),
        (
            "P2E_CALL",
            platform(
                0x3ec,
                call(
                    "Reboot",
                    InfoTable::one_row([("delay", Value::Integer(5)), ("why", text("maint"))]),
                ),
            ),
        ),
        ("E2P_REPLY_OK", ids(0x3eb, -1, 0x42, Response::ok())),
        (
            "BIND_HUB",
            ids(
                2,
                -1,
                -1,
                gateway("AzureIot-cx-1", "ConnectionServer", &["AzureIot-cx-1"]),
            ),
        ),
        (
            "INVALID_SESSION",
            ids(
                9,
                -1,
                0x63,
                Response::error(Status::INVALID_SESSION, "session not valid"),
            ),
        ),
        ("ALL_TYPES", asks(0x0b, call("AllTypes", all_types()))),
        (
            "SYNC_STATE_REQ",
            platform(
                0x3f1,
                call(
                    "SynchronizeModelState",
                    InfoTable::one_row([
                        ("propertyInfo", Value::InfoTable(subscriptions_again())),
                        ("eventInfo", Value::InfoTable(table(edge_names, &[]))),
                    ]),
                ),
            ),
        ),
        (
            "SYNC_STATE_RESP_EMPTY",
            ids(0x3f1, -1, 0x42, Response::with(states)),
        ),
        (
            "REMOTE_EVENTS",
            asks(
                0x0c,
                call(
                    "ProcessRemoteEvents",
                    InfoTable::one_row([("values", Value::InfoTable(events))]),
                ),
            ),
        ),
        (
            "UPDATE_PROPERTY_VALUES",
            asks(
                0x0d,
                call(
                    "UpdatePropertyValues",
                    InfoTable::one_row([("values", Value::InfoTable(reported))]),
                ),
            ),
        ),
    ]
}

fn subscriptions_again() -> InfoTable {
    table(
        [
            ("edgeName", BaseType::String),
            ("pushType", BaseType::String),
            ("pushThreshold", BaseType::Number),
        ],
        &[[text("temperature"), text("VALUE"), Value::Number(0.5)]],
    )
}

/// A parameter of each base type that the C SDK can write, named after it.
fn all_types() -> InfoTable {
    use BaseType as B;
    let texts = [
        (B::PropertyName, "p"),
        (B::ServiceName, "s"),
        (B::EventName, "e"),
        (B::ThingName, "T1"),
        (B::ThingShapeName, "S1"),
        (B::ThingTemplateName, "TT1"),
        (B::DataShapeName, "D1"),
        (B::MashupName, "M1"),
        (B::MenuName, "N1"),
        (B::BaseTypeName, "NUMBER"),
        (B::UserName, "u"),
        (B::GroupName, "g"),
        (B::CategoryName, "c"),
        (B::StateDefinitionName, "sd"),
        (B::StyleDefinitionName, "st"),
        (B::ModelTagVocabularyName, "mv"),
        (B::DataTagVocabularyName, "dv"),
        (B::NetworkName, "nw"),
        (B::MediaEntityName, "me"),
        (B::ApplicationKeyName, "ak"),
        (B::LocalizationTableName, "lt"),
        (B::OrganizationName, "o"),
        (B::DashboardName, "db"),
    ];
    let location = Location {
        longitude: 8.25,
        latitude: 47.5,
        elevation: 430.0,
    };
    let guid = "11111111-2222-3333-4444-555555555555";
    let mut values = vec![
        Value::Nothing,
        text("abc"),
        Value::Number(-2.5),
        Value::Boolean(true),
        Value::DateTime(1_500_000_000_123),
        Value::InfoTable(InfoTable::one_row([("x", Value::Integer(5))])),
        Value::Location(location),
        Value::Text(B::Xml, "<a/>".into()),
        Value::json(r#"{"a":1}"#),
        Value::Text(B::Query, r#"{"filters":{}}"#.into()),
        Value::Image(vec![0x89, 0x50, 0x4e, 0x47]),
        Value::Text(B::Hyperlink, "http://h".into()),
        Value::Text(B::ImageLink, "http://i".into()),
        Value::Text(B::Password, "pw".into()),
        Value::Text(B::Html, "<b>".into()),
        Value::Text(B::Text, "téxt".into()),
        Value::Text(B::Tags, "Voc:Term".into()),
        variant(Value::Boolean(false)),
        Value::Text(B::Guid, guid.into()),
        Value::Blob(vec![0, 1, 255]),
        Value::Integer(-2),
    ];
    values.extend(texts.map(|(base_type, text)| Value::Text(base_type, text.into())));
    let names = values
        .iter()
        .map(|value| value.base_type().name().to_lowercase());
    InfoTable::one_row(names.zip(values.clone()).collect::<Vec<_>>())
}

/// The Java SDK describes each field by its name.
fn with_descriptions(table: &InfoTable) -> InfoTable {
    let fields: Vec<Field> = table
        .fields()
        .map(|field| Field {
            description: field.name.clone(),
            ..field
        })
        .collect();
    let mut described = InfoTable::new(fields);
    for row in table.rows() {
        described.push(&row).unwrap();
    }
    described
}
