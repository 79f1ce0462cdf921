//! The link for cloud-to-device messages.

use fe2o3_amqp::{Sender, session::SessionHandle};

use crate::{
    HubAmqpSettings, HubError,
    amqp::{fault, link, within},
};

/// Where messages for devices go.
const TARGET: &str = "/messages/devicebound";

const ATTACHING: &str = "attaching the link for cloud-to-device messages";

pub(super) type Link = link::Link<Sender>;

/// Connects, authorises and attaches.
pub(super) async fn open(settings: &HubAmqpSettings) -> Result<Link, HubError> {
    let attach = async |session: &mut SessionHandle<()>| {
        let name = format!("{}-devicebound", settings.application_id);
        within(ATTACHING, Sender::attach(session, name, TARGET))
            .await?
            .map_err(|error| fault::sender_unattached(ATTACHING, &error))
    };
    Link::open(settings, attach).await
}
