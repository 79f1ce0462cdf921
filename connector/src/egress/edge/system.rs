//! What the connector is, how its parts fare, and what it measures, as the platform shows it.

use alwayson::{BaseType, InfoTable, Value};

use super::super::{command::OwnNames, table::table};
use crate::{
    metrics::Metrics,
    report::{Part, Reporter},
};

/// What is measured: a row for each series; of a histogram its count and its sum.
pub(super) fn metrics(metrics: &Metrics) -> InfoTable {
    let rows = metrics.values().into_iter().map(|(name, help, value)| {
        [
            Value::string(name),
            Value::string(help),
            Value::Number(value),
        ]
    });
    table(
        [
            ("name", BaseType::String),
            ("description", BaseType::String),
            ("value", BaseType::Number),
        ],
        rows,
    )
}

/// What the connector is and where it runs.
pub(super) fn information(own: &OwnNames, reporter: &Reporter) -> InfoTable {
    let report = reporter.now();
    let rows = [
        (
            "version",
            "Version of the connector",
            env!("CARGO_PKG_VERSION").to_owned(),
        ),
        (
            "thing",
            "The connector's own Thing",
            own.member.as_str().to_owned(),
        ),
        (
            "hubThing",
            "Thing that stands for the hub",
            own.hub.as_str().to_owned(),
        ),
        (
            "routingGroup",
            "Routing group that was joined",
            report.group.unwrap_or_default(),
        ),
        (
            "phase",
            "How far the connector is",
            format!("{:?}", report.phase),
        ),
        (
            "nodes",
            "ThingWorx nodes on which the hub Thing is bound, of all",
            format!("{} of {}", report.nodes_bound, report.nodes),
        ),
        (
            "partitions",
            "Partitions of the hub that are read here",
            report.partitions.join(", "),
        ),
        (
            "os",
            "Operating system and architecture",
            format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        ),
    ];
    table(
        [
            ("name", BaseType::String),
            ("description", BaseType::String),
            ("value", BaseType::String),
        ],
        rows.map(|(name, description, value)| {
            [
                Value::string(name),
                Value::string(description),
                Value::string(value),
            ]
        }),
    )
}

/// How the parts fare.
pub(super) fn status(reporter: &Reporter) -> InfoTable {
    let troubles = reporter.troubles();
    let rows = Part::ALL.map(|part| {
        let trouble = troubles.get(&part);
        let state = trouble.map_or("well", |trouble| trouble.reason);
        let description = trouble.map_or(part.description(), |trouble| &trouble.message);
        [
            Value::string(format!("{part:?}")),
            Value::string(part.description()),
            Value::string(description),
            Value::string(state),
            Value::Boolean(true),
            Value::Boolean(trouble.is_none()),
            Value::Boolean(true),
        ]
    });
    table(
        [
            ("name", BaseType::String),
            ("friendlyName", BaseType::String),
            ("description", BaseType::String),
            ("state", BaseType::String),
            ("enabled", BaseType::Boolean),
            ("isRunning", BaseType::Boolean),
            ("autoStart", BaseType::Boolean),
        ],
        rows,
    )
}
