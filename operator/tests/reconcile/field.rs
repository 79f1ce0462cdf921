//! Every field of the spec, with a change that must show.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// For each field of the spec: a change, and a word that children hold while it is in force.
pub fn fields() -> Vec<(Value, &'static str)> {
    let reference = |name: &str| json!({"secretKeyRef": {"name": name, "key": "k"}});
    let map = |name: &str| json!({"configMapKeyRef": {"name": name, "key": "k"}});
    let blob = json!({"container": "marks", "connectionString": reference("more")});
    let toleration = json!({
        "key": "edge", "operator": "Equal", "value": "far", "effect": "NoExecute", "tolerationSeconds": 77,
    });
    // All that there is of each, so that each field is taken and none is lost on the way.
    let selector = json!({
        "matchLabels": {"tier": "far"},
        "matchExpressions": [{"key": "kind", "operator": "In", "values": ["far"]}],
    });
    let term = json!({
        "topologyKey": "far-away", "namespaces": ["far"], "namespaceSelector": selector,
        "labelSelector": selector, "matchLabelKeys": ["one"], "mismatchLabelKeys": ["two"],
    });
    let pods = json!({
        "requiredDuringSchedulingIgnoredDuringExecution": [term],
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 7, "podAffinityTerm": term}],
    });
    let nodes = json!({
        "matchExpressions": [{"key": "disk", "operator": "In", "values": ["far"]}],
        "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["far"]}],
    });
    let affinity = json!({
        "podAffinity": pods, "podAntiAffinity": pods,
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [nodes]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 7, "preference": nodes}],
        },
    });
    let spread = json!({
        "topologyKey": "far-away", "maxSkew": 7, "minDomains": 2, "whenUnsatisfiable": "DoNotSchedule",
        "nodeAffinityPolicy": "Ignore", "nodeTaintsPolicy": "Honor", "labelSelector": selector,
        "matchLabelKeys": ["one"],
    });
    vec![
        (json!({"pod": {"affinity": affinity}}), "far-away"),
        (
            json!({"pod": {"topologySpreadConstraints": [spread]}}),
            "far-away",
        ),
        (
            json!({"pod": {"priorityClassName": "system-node-critical"}}),
            "system-node-critical",
        ),
        (json!({"pod": {"labels": {"team": "far-away"}}}), "far-away"),
        (
            json!({"pod": {"annotations": {"note": "far away"}}}),
            "far away",
        ),
        (json!({"replicas": 2}), "\"replicas\":2"),
        (
            json!({"hubThingName": "OtherHub"}),
            "hubThingName: OtherHub",
        ),
        (
            json!({"routingGroup": "OtherGroup"}),
            "routingGroup: OtherGroup",
        ),
        (
            json!({"thingworx": {"endpoints": ["wss://other.example.com/Thingworx/WS"]}}),
            "wss://other.example.com",
        ),
        (
            json!({"thingworx": {"endpoints": null, "service": {"name": "twx", "namespace": "far", "port": 8444}}}),
            "port: 8444",
        ),
        (
            json!({"thingworx": {"appKey": reference("more")}}),
            "\"name\":\"more\"",
        ),
        (
            json!({"thingworx": {"tls": {"ca": reference("more")}}}),
            "thingworx.crt",
        ),
        (
            json!({"thingworx": {"tls": {"ca": map("more")}}}),
            "\"name\":\"more\"",
        ),
        (
            json!({"thingworx": {"tls": {"serverName": "twx.example.com"}}}),
            "twx.example.com",
        ),
        (
            json!({"thingworx": {"gatewayTemplate": "OtherTemplate"}}),
            "OtherTemplate",
        ),
        (json!({"thingworx": {"pipes": 3}}), "pipes: 3"),
        (
            json!({"thingworx": {"nodeSelection": "PerThing"}}),
            "nodeSelection: PerThing",
        ),
        (
            json!({"thingworx": {"platformRequestTimeoutSeconds": 33}}),
            "platformRequestTimeoutSeconds: 33",
        ),
        (
            json!({"thingworx": {"writeService": "UpdatePropertyValues"}}),
            "writeService: UpdatePropertyValues",
        ),
        (
            json!({"iotHub": {"connectionString": reference("more")}}),
            "\"name\":\"more\"",
        ),
        (
            json!({"iotHub": {"registryConnectionString": reference("more")}}),
            "registry-connection-string",
        ),
        (
            json!({"iotHub": {"eventHubs": {"connectionString": reference("more")}}}),
            "events-connection-string",
        ),
        (
            json!({"iotHub": {"eventHubs": {"consumerGroup": "others"}}}),
            "consumerGroup: others",
        ),
        (
            json!({"iotHub": {"eventHubs": {"start": "Latest"}}}),
            "start: Latest",
        ),
        (
            json!({"iotHub": {"eventHubs": {"catchUpRate": 999}}}),
            "catchUpRate: 999",
        ),
        (
            json!({"thingworx": {"deviceServices": false}}),
            "deviceServices: false",
        ),
        (
            json!({"thingworx": {"bindDevices": true}}),
            "bindDevices: true",
        ),
        (
            json!({"iotHub": {"commands": {"messageExpirySeconds": 90}}}),
            "messageExpirySeconds: 90",
        ),
        (
            json!({"iotHub": {"commands": {"feedback": true}}}),
            "feedback: true",
        ),
        (
            json!({"iotHub": {"commands": {"coalesce": true}}}),
            "coalesce: true",
        ),
        (
            json!({"iotHub": {"commands": {"methodConnectTimeoutSeconds": 7}}}),
            "methodConnectTimeoutSeconds: 7",
        ),
        (
            json!({"iotHub": {"commands": {"methodResponseTimeoutSeconds": 77}}}),
            "methodResponseTimeoutSeconds: 77",
        ),
        (
            json!({"iotHub": {"commands": {"createDevices": false}}}),
            "createDevices: false",
        ),
        (
            json!({"iotHub": {"messages": {"time": "Processing"}}}),
            "time: Processing",
        ),
        (
            json!({"iotHub": {"messages": {"time": "Body", "timeField": "at"}}}),
            "timeField: at",
        ),
        (
            json!({"iotHub": {"messages": {"connectionProperty": "isOnline"}}}),
            "connectionProperty: isOnline",
        ),
        (
            json!({"iotHub": {"proxy": "http://proxy.example.com:3128"}}),
            "proxy.example.com",
        ),
        (json!({"iotHub": {"tier": "S2", "units": 77}}), "units: 77"),
        (
            json!({"iotHub": {"transport": "WebSockets"}}),
            "transport: WebSockets",
        ),
        (
            json!({"iotHub": {"tls": {"ca": reference("more")}}}),
            "SSL_CERT_FILE",
        ),
        (
            json!({"iotHub": {"tls": {"ca": map("more")}}}),
            "SSL_CERT_FILE",
        ),
        (
            json!({"iotHub": {"messages": {"qualityField": "how-good"}}}),
            "qualityField: how-good",
        ),
        (
            json!({"iotHub": {"messages": {"mapping": ".nested"}}}),
            "mapping: .nested",
        ),
        (
            json!({"iotHub": {"deadLetter": {"azureBlob": blob}}}),
            "deadLetter:",
        ),
        (
            json!({"checkpoints": {"azureBlob": blob}}),
            "container: marks",
        ),
        (json!({"pod": {"image": "other:2"}}), "other:2"),
        (json!({"pod": {"imagePullPolicy": "Always"}}), "\"Always\""),
        (
            json!({"pod": {"imagePullSecrets": [{"name": "registry"}]}}),
            "imagePullSecrets",
        ),
        (
            json!({"pod": {"resources": {"limits": {"memory": 5_000_000_000_u64}}}}),
            "5G",
        ),
        (
            json!({"pod": {"resources": {"requests": {"cpu": "77m"}}}}),
            "77m",
        ),
        (
            json!({"pod": {"nodeSelector": {"disk": "ssd"}}}),
            "\"disk\":\"ssd\"",
        ),
        (
            json!({"pod": {"tolerations": [toleration]}}),
            "\"tolerationSeconds\":77",
        ),
    ]
}

/// Fields that children do not show, each with the reason.
const EXEMPT: [&str; 2] = [
    // Has one value.
    "thingworx.groupBind",
    // The default, said aloud.
    "checkpoints.kubernetes",
];

fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let below = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    match schema["properties"].as_object() {
        Some(properties) => properties
            .iter()
            .for_each(|(key, schema)| leaves(schema, &below(key), found)),
        None if schema["items"]["properties"].is_object() => leaves(&schema["items"], path, found),
        None => drop(found.insert(path.to_owned())),
    }
}

fn touched(patch: &Value, path: &str, found: &mut BTreeSet<String>) {
    found.insert(path.to_owned());
    let below = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    match patch {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, patch)| touched(patch, &below(key), found)),
        Value::Array(list) => list.iter().for_each(|patch| touched(patch, path, found)),
        _ => {}
    }
}

#[test]
fn s1_covers_every_field_of_the_definition() {
    let crd: Value = serde_yaml::from_str(&operator::api::crd::yaml().unwrap()).unwrap();
    let version = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let (mut all, mut covered) = (BTreeSet::new(), BTreeSet::new());
    leaves(&version["properties"]["spec"], "", &mut all);
    fields()
        .iter()
        .for_each(|(patch, _)| touched(patch, "", &mut covered));
    let missing: Vec<_> = all
        .iter()
        .filter(|path| !covered.contains(*path) && !EXEMPT.contains(&path.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "fields without a change in S1: {missing:?}"
    );
}
