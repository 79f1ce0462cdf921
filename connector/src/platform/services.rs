//! The connector's services on `ConnectionServicesHub`: their Thing Shape is added to that Thing, as PTC's
//! connector does at its start.

use std::time::Duration;

use alwayson::{EntityType, InfoTable, Request, Value};
use connector_config::{MemberReport, ReportClass};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Destination, Kind, Platform, Unwritten};
use crate::report::{Part, Reporter, Trouble};

/// The Thing on the platform that carries a connector's services and events.
pub const HUB: &str = "ConnectionServicesHub";
/// The Thing Shape that declares the services; it comes with PTC's Azure IoT extension.
const SHAPE: &str = "AzureIotHubAdapterServices";
/// Somebody has to import an extension or to grant a right.
const AGAIN: Duration = Duration::from_secs(60);
/// No node is there, or the platform is ill.
const SOON: Duration = Duration::from_secs(5);

/// A call of a service that makes or changes what the platform consists of.
pub fn entity_service(service: &str, params: InfoTable) -> Request {
    Request {
        entity_type: EntityType::RESOURCES,
        ..Request::call("EntityServices", service, Some(params))
    }
}

/// Adds the shape, and tries again until it is there. Everything else works without.
pub async fn offer(platform: Platform, reporter: Reporter, end: CancellationToken) {
    loop {
        platform.wait_writable().await;
        let pause = match platform.ask(Kind::Read, &request()).await.outcome {
            Ok(_) => {
                reporter.well(Part::Services);
                return;
            }
            Err(Unwritten::Refused { reason, .. }) => {
                reporter.trouble(Part::Services, trouble(&reason));
                AGAIN
            }
            Err(error) => {
                tracing::debug!(%error, "the services are offered later");
                SOON
            }
        };
        tokio::select! {
            () = end.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

fn request() -> Request {
    let params = InfoTable::one_row([
        ("name", Value::string(HUB)),
        ("thingShapeName", Value::string(SHAPE)),
    ]);
    entity_service("AddShapeToThing", params)
}

fn trouble(reason: &str) -> Trouble {
    let message = format!(
        "the services on {HUB} are not offered; import the Connection Services and Azure IoT extensions, and let the \
         connector's user run EntityServices.AddShapeToThing and read the template of {HUB} at design time \
         (ThingWorx: {reason})"
    );
    Trouble::new(ReportClass::User, MemberReport::DEVICE_SERVICES, message)
}
