//! The link for feedback.

use fe2o3_amqp::{Receiver, link::receiver::CreditMode, session::SessionHandle};

use crate::{
    HubAmqpSettings, HubError,
    amqp::{fault, link, within},
};

/// Where feedback comes from.
const SOURCE: &str = "/messages/serviceBound/feedback";

const ATTACHING: &str = "attaching the link for feedback";
/// A batch has 64 records of a few hundred bytes each.
const LARGEST: u64 = 1024 * 1024;

pub(super) type Link = link::Link<Receiver>;

/// Connects, authorises and attaches. Nothing comes before it is asked for.
pub(super) async fn open(settings: &HubAmqpSettings) -> Result<Link, HubError> {
    let attach = async |session: &mut SessionHandle<()>| {
        let attaching = Receiver::builder()
            .name(format!("{}-feedback", settings.application_id))
            .source(SOURCE)
            .max_message_size(LARGEST)
            .credit_mode(CreditMode::Manual)
            .attach(session);
        within(ATTACHING, attaching)
            .await?
            .map_err(|error| fault::receiver_unattached(ATTACHING, &error))
    };
    Link::open(settings, attach).await
}
