//! Services of `ConnectionServicesHub`: what the platform asks of the hub itself.
//!
//! Names and behaviour are those of PTC's connector (PTC Azure IoT Hub Connector help, "Using device
//! management services" and "Device jobs"); where its inputs are not published, ours are documented in
//! `docs/commands.md`.

use alwayson::{Request, Status};
use serde_json::{Map, Value as Json};

use super::{
    Command, Refused, bad,
    params::{Inputs, body},
    refuse,
};
use crate::{import::Asked, platform::HUB};

/// The Thing Template of devices that comes with PTC's Azure IoT extension.
const TEMPLATE: &str = "AzureIotThing";
/// Longest condition of an import, which is stored with it: beyond what anybody writes by hand.
const LONGEST: usize = 8 * 1024;

/// What is done with a device's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registry {
    /// It is made, unless it is there.
    Create,
    /// It is removed, unless it is gone.
    Delete,
    /// It is shown.
    Describe,
}

/// What is done with jobs of the hub.
#[derive(Debug, Clone, PartialEq)]
pub enum Job {
    /// A job is made.
    Schedule(Schedule),
    /// A job is shown.
    Get(String),
    /// Jobs are shown.
    Find {
        /// Of this kind only, in the hub's words.
        kind: Option<String>,
        /// In this state only, in the hub's words.
        state: Option<String>,
    },
    /// A job is cancelled.
    Cancel(String),
    /// What became of each of its devices.
    Results(String),
}

/// A job to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Its id, if the caller wants a certain one.
    pub id: Option<String>,
    /// Which devices, in the hub's query language; all without.
    pub condition: Option<String>,
    /// When it begins, in milliseconds since 1970; now without.
    pub start_ms: Option<i64>,
    /// How long it may take, in seconds.
    pub seconds: Option<u64>,
    /// What it does.
    pub task: Task,
}

/// What a job does with each device.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// Merges into its twin.
    Twin {
        /// What the solution wants.
        desired: Option<Map<String, Json>>,
        /// What it keeps about the device.
        tags: Option<Map<String, Json>>,
    },
    /// Calls a direct method.
    Method {
        /// Its name.
        name: String,
        /// What it gets.
        payload: Json,
        /// How long each device may take to answer, in seconds.
        response_seconds: Option<u64>,
    },
}

/// Reads a call of a service.
pub(super) fn service(request: &Request) -> Refused<Command> {
    let inputs = Inputs::new(&request.target, request.params.as_ref());
    let registry = |action| {
        let device = inputs.required("thingName")?;
        Ok(Command::Registry { action, device })
    };
    let job_id = || inputs.required("jobId");
    match request.target.as_str() {
        "AzureIotSendMessage" => {
            let device = inputs.required("thingName")?;
            let Some(body) = body(&inputs.table("payload")?) else {
                return bad("AzureIotSendMessage: input payload has no row");
            };
            Ok(Command::Send { device, body })
        }
        "CreateAzureIotDevice" => registry(Registry::Create),
        "DeleteAzureIotDevice" => registry(Registry::Delete),
        "DescribeAzureIotDevice" => registry(Registry::Describe),
        "ImportAzureIotDevices" => import(&inputs),
        "AzureIotDeviceJobScheduleTwinUpdateJob" => {
            let task = twin_task(inputs.json("patch")?)?;
            schedule(&inputs, task)
        }
        "AzureIotDeviceJobScheduleDeviceMethodJob" => {
            let task = Task::Method {
                name: inputs.required("methodName")?,
                payload: inputs.json("payload")?.unwrap_or(Json::Null),
                response_seconds: inputs.number("responseTimeoutInSeconds")?,
            };
            schedule(&inputs, task)
        }
        "AzureIotDeviceJobGetJob" => Ok(Command::Job(Job::Get(job_id()?))),
        "AzureIotDeviceJobCancelJob" => Ok(Command::Job(Job::Cancel(job_id()?))),
        "QueryJobResults" => Ok(Command::Job(Job::Results(job_id()?))),
        "AzureIotDeviceJobFindJobs" => Ok(Command::Job(Job::Find {
            kind: inputs.text("jobType")?,
            state: inputs.text("jobStatus")?,
        })),
        other => refuse(
            Status::NOT_FOUND,
            format!("the connector has no service {other} on {HUB}"),
        ),
    }
}

fn import(inputs: &Inputs<'_>) -> Refused<Command> {
    let template = inputs.text("thingTemplate")?;
    let condition = inputs.text("queryCondition")?;
    if condition.as_ref().is_some_and(|text| text.len() > LONGEST) {
        return bad(format!(
            "ImportAzureIotDevices: input queryCondition is longer than {LONGEST} bytes"
        ));
    }
    Ok(Command::Import(Asked {
        template: template.unwrap_or_else(|| TEMPLATE.into()),
        condition,
    }))
}

fn schedule(inputs: &Inputs<'_>, task: Task) -> Refused<Command> {
    Ok(Command::Job(Job::Schedule(Schedule {
        id: inputs.text("jobId")?,
        condition: inputs.text("queryCondition")?,
        start_ms: inputs.time("startTime")?,
        seconds: inputs.number("maxExecutionTimeInSeconds")?,
        task,
    })))
}

/// The patch of a twin update: `properties.desired` and `tags`. What is reported is the device's own and
/// left out, as PTC's connector does.
fn twin_task(patch: Option<Json>) -> Refused<Task> {
    let object = |value: Option<&Json>| value.and_then(Json::as_object).cloned();
    let patch = patch.unwrap_or_default();
    let desired = object(patch.pointer("/properties/desired"));
    let tags = object(patch.get("tags"));
    if desired.is_none() && tags.is_none() {
        return bad(
            "AzureIotDeviceJobScheduleTwinUpdateJob: input patch must be a JSON object with \
             properties.desired, tags, or both",
        );
    }
    Ok(Task::Twin { desired, tags })
}
