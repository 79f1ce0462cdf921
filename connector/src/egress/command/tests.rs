use alwayson::{BaseType, Field, InfoTable, Value};
use serde_json::{Map, json};

use super::*;

fn read(request: &Request) -> Result<Command, Refusal> {
    let own = OwnNames {
        member: MemberId::new("me"),
        hub: ThingName::new("Hub").unwrap(),
    };
    command(request, &own)
}

fn refused(request: &Request) -> (Status, String) {
    let Refusal { status, reason } = read(request).unwrap_err();
    (status, reason)
}

fn message(values: &Json) -> Change {
    Change::Message(values.as_object().unwrap().clone())
}

fn twin(device: &str, module: Option<&str>) -> TwinOf {
    TwinOf {
        device: device.into(),
        module: module.map(str::to_owned),
    }
}

#[test]
fn a_write_is_a_message_for_each_property() {
    assert_eq!(
        read(&Request::write("*SN-1", "setpoint", Value::Number(3.5))),
        Ok(Command::Write {
            device: "SN-1".into(),
            changes: vec![message(&json!({ "setpoint": 3.5 }))]
        })
    );
    let mut two = Request::write("dev", "", Value::Nothing);
    two.params = Some(InfoTable::one_row([
        ("a", Value::Integer(1)),
        ("b", Value::string("x")),
    ]));
    let Ok(Command::Write { changes, .. }) = read(&two) else {
        panic!("a write of two properties is a write")
    };
    assert_eq!(
        changes,
        [message(&json!({ "a": 1 })), message(&json!({ "b": "x" }))]
    );
}

#[test]
fn an_import_has_a_template_and_perhaps_a_condition() {
    let import = |inputs: &[(&str, &str)]| {
        let inputs = inputs.iter();
        let row = inputs.map(|(name, text)| (*name, Value::string(*text)));
        let params = InfoTable::one_row(row);
        read(&Request::call(HUB, "ImportAzureIotDevices", Some(params)))
    };
    let asked = |template: &str, condition: Option<&str>| {
        Ok(Command::Import(Asked {
            template: template.into(),
            condition: condition.map(str::to_owned),
        }))
    };
    assert_eq!(import(&[]), asked("AzureIotThing", None));
    assert_eq!(
        import(&[("queryCondition", " ")]),
        asked("AzureIotThing", None)
    );
    let both = [("thingTemplate", "Pump"), ("queryCondition", "tags.a = 1")];
    assert_eq!(import(&both), asked("Pump", Some("tags.a = 1")));
    let long = "x".repeat(10_000);
    let refusal = import(&[("queryCondition", &long)]).unwrap_err();
    assert_eq!(refusal.status, Status::BAD_REQUEST);
}

#[test]
fn every_base_type_travels_in_the_platforms_own_json() {
    let table = InfoTable::one_row([("n", Value::Number(1.0))]);
    let location = alwayson::Location {
        longitude: 1.0,
        latitude: 2.0,
        elevation: 3.0,
    };
    for (value, json) in [
        (Value::Boolean(true), json!(true)),
        (Value::Integer(-1), json!(-1)),
        (Value::Long(1 << 40), json!(1_u64 << 40)),
        (
            Value::DateTime(1_700_000_000_000),
            json!(1_700_000_000_000_u64),
        ),
        (Value::string("ä"), json!("ä")),
        (Value::json(r#"{"a":[1]}"#), json!({"a": [1]})),
        (Value::Blob(vec![1, 2]), json!("AQI=")),
        (
            Value::Location(location),
            json!({"latitude": 2.0, "longitude": 1.0, "elevation": 3.0, "units": "WGS84"}),
        ),
        (Value::Vec2([1.0, 2.0]), json!({"x": 1.0, "y": 2.0})),
        (Value::Nothing, Json::Null),
        (
            Value::InfoTable(table.clone()),
            alwayson::json::table_to_json(&table),
        ),
    ] {
        let Ok(Command::Write { changes, .. }) = read(&Request::write("d", "p", value.clone()))
        else {
            panic!("{value:?} cannot be written")
        };
        assert_eq!(changes, [message(&json!({ "p": json }))]);
    }
}

#[test]
fn twins_are_read_and_merged_by_their_properties() {
    let change = |property: &str, value| match read(&Request::write("d", property, value)) {
        Ok(Command::Write { mut changes, .. }) => match changes.pop() {
            Some(Change::Twin(change)) => change,
            other => panic!("{property}: {other:?}"),
        },
        other => panic!("{property}: {other:?}"),
    };
    let written = change(
        "m::twinDesired",
        Value::json(r#"{"rate":5,"old":null,"$version":3,"$metadata":{},"$etag":"AAE="}"#),
    );
    assert_eq!(
        written,
        TwinChange {
            twin: twin("d", Some("m")),
            part: TwinPart::Desired,
            patch: Map::from_iter([("rate".into(), json!(5)), ("old".into(), Json::Null)]),
            etag: Some("AAE=".into()),
        }
    );
    let text = change("twinTags", Value::string(r#"{"site":"a"}"#));
    assert_eq!((text.part, text.etag), (TwinPart::Tags, None));

    let (status, reason) = refused(&Request::write(
        "d",
        "twinReported",
        Value::json("{\"a\":1}"),
    ));
    assert_eq!(status, Status::METHOD_NOT_ALLOWED);
    assert!(reason.contains("twinDesired"), "{reason}");
    for value in [
        Value::json("[1]"),
        Value::json("{}"),
        Value::string("x"),
        Value::Nothing,
    ] {
        let (status, reason) = refused(&Request::write("d", "twinDesired", value));
        assert_eq!(status, Status::BAD_REQUEST, "{reason}");
    }

    let part = |property: &str| match read(&Request::read("d", property)) {
        Ok(Command::Read {
            part, twin, name, ..
        }) => (part, twin, name),
        other => panic!("{property}: {other:?}"),
    };
    assert_eq!(
        part("twinReported"),
        (
            Some(TwinPart::Reported),
            twin("d", None),
            "twinReported".into()
        )
    );
    assert_eq!(part("m::rate"), (None, twin("d", Some("m")), "rate".into()));
}

#[test]
fn a_service_is_a_method() {
    let invoke = |service: &str, params: Option<InfoTable>| match read(&Request::call(
        "dev", service, params,
    )) {
        Ok(Command::Invoke {
            module,
            method,
            payload,
            ..
        }) => (module, method, payload),
        other => panic!("{service}: {other:?}"),
    };
    let params = InfoTable::one_row([("delay", Value::Integer(5))]);
    assert_eq!(
        invoke("reboot", Some(params)),
        (None, "reboot".into(), json!({ "delay": 5 }))
    );
    assert_eq!(
        invoke("cam::snap", None),
        (Some("cam".into()), "snap".into(), json!({}))
    );
    let content = InfoTable::one_row([("_content_", Value::json(r#"{"a":1}"#))]);
    assert_eq!(invoke("m", Some(content)).2, json!({ "a": 1 }));
    // A device may have methods with the names of the connector's own services.
    assert_eq!(invoke("GetLogLevel", None).1, "GetLogLevel");
}

#[test]
fn what_the_hub_cannot_do_is_refused_with_a_reason() {
    let (status, reason) = refused(&Request::write("dev", "cam::zoom", Value::Integer(1)));
    assert_eq!(status, Status::METHOD_NOT_ALLOWED);
    assert!(reason.contains("module::method"), "{reason}");
    for (request, status) in [
        (Request::read("dev", "*"), Status::METHOD_NOT_ALLOWED),
        (Request::call("me", "Reboot", None), Status::NOT_FOUND),
        (Request::call("Hub", "Reboot", None), Status::NOT_FOUND),
        (Request::call(HUB, "Reboot", None), Status::NOT_FOUND),
        (Request::read("Hub", "x"), Status::NOT_FOUND),
        (Request::call("dev", "cam::", None), Status::BAD_REQUEST),
        (Request::call("dev", "::m", None), Status::BAD_REQUEST),
    ] {
        assert_eq!(refused(&request).0, status, "{request:?}");
    }
    let mut elsewhere = Request::call("dev", "m", None);
    elsewhere.entity_type = EntityType::USERS;
    assert_eq!(refused(&elsewhere).0, Status::NOT_FOUND);
}

#[test]
fn services_of_the_hub_name_a_device_or_a_job() {
    let call = |service: &str, params: InfoTable| read(&Request::call(HUB, service, Some(params)));
    let device = || InfoTable::one_row([("thingName", Value::string("pump"))]);
    for (service, action) in [
        ("CreateAzureIotDevice", Registry::Create),
        ("DeleteAzureIotDevice", Registry::Delete),
        ("DescribeAzureIotDevice", Registry::Describe),
    ] {
        let device_ = "pump".to_owned();
        assert_eq!(
            call(service, device()),
            Ok(Command::Registry {
                action,
                device: device_
            })
        );
        let (status, reason) = refused(&Request::call(HUB, service, None));
        assert_eq!(status, Status::BAD_REQUEST);
        assert!(reason.contains("thingName"), "{reason}");
    }

    let mut rows = InfoTable::new([Field::new("a", BaseType::Integer)]);
    rows.push(&[Value::Integer(1)]).unwrap();
    let send = |payload: &InfoTable| {
        let params = InfoTable::one_row([
            ("thingName", Value::string("pump")),
            ("payload", Value::InfoTable(payload.clone())),
        ]);
        match call("AzureIotSendMessage", params) {
            Ok(Command::Send { body, .. }) => body,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(send(&rows), json!({ "a": 1 }));
    rows.push(&[Value::Integer(2)]).unwrap();
    assert_eq!(send(&rows), json!([{ "a": 1 }, { "a": 2 }]));
}

#[test]
fn a_job_says_what_it_does() {
    let schedule = |patch: &str| {
        let params = InfoTable::one_row([
            ("patch", Value::json(patch)),
            ("queryCondition", Value::string("tags.site = 'a'")),
            ("startTime", Value::DateTime(1_800_000_000_000)),
            ("maxExecutionTimeInSeconds", Value::Number(60.0)),
        ]);
        read(&Request::call(
            HUB,
            "AzureIotDeviceJobScheduleTwinUpdateJob",
            Some(params),
        ))
    };
    let made = schedule(
        r#"{"properties":{"desired":{"rate":5},"reported":{"x":1}},"tags":{"y":null},"etag":"*"}"#,
    );
    assert_eq!(
        made,
        Ok(Command::Job(Job::Schedule(Schedule {
            id: None,
            condition: Some("tags.site = 'a'".into()),
            start_ms: Some(1_800_000_000_000),
            seconds: Some(60),
            task: Task::Twin {
                desired: json!({"rate": 5}).as_object().cloned(),
                tags: json!({"y": null}).as_object().cloned(),
            },
        })))
    );
    for nothing in [r#"{"properties":{"reported":{"x":1}}}"#, "[]", "{}"] {
        assert_eq!(schedule(nothing).unwrap_err().status, Status::BAD_REQUEST);
    }
    let params = InfoTable::one_row([("jobId", Value::Nothing)]);
    let get = Request::call(HUB, "AzureIotDeviceJobGetJob", Some(params));
    assert!(refused(&get).1.contains("jobId is missing"));
}
