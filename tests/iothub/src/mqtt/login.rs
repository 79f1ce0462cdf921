//! CONNECT: who it is and whether it may.

use mqttbytes::v4::{Connect, ConnectReturnCode};

use crate::{hub::Hub, identity::Identity, sas::SasError};

/// Somebody who may connect.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Who.
    pub(super) identity: Identity,
    /// Until when; Unix seconds.
    pub(super) expires: i64,
}

/// Checks client id, user name and password.
///
/// # Errors
/// The code of the answer: `BadClientId` if the id names nobody, `BadUserNamePassword` if user name
/// or password are not of IoT Hub's form, `NotAuthorized` for all else.
pub(super) fn check(hub: &Hub, connect: &Connect) -> Result<Admitted, ConnectReturnCode> {
    if connect.protocol != mqttbytes::Protocol::V4 {
        return Err(ConnectReturnCode::RefusedProtocolVersion);
    }
    let identity = match connect.client_id.split_once('/') {
        Some((device, module)) => Identity::new(device, Some(module)),
        None => Identity::device(&connect.client_id),
    }
    .map_err(|_| ConnectReturnCode::BadClientId)?;
    let malformed = ConnectReturnCode::BadUserNamePassword;
    let login = connect.login.as_ref().ok_or(malformed)?;
    let host = host_of(&login.username, &connect.client_id).ok_or(malformed)?;
    if !hub
        .settings
        .hosts
        .iter()
        .any(|ours| ours.eq_ignore_ascii_case(host))
    {
        return Err(ConnectReturnCode::NotAuthorized);
    }
    match hub.check_device(&identity, &login.password) {
        Ok(expires) => Ok(Admitted { identity, expires }),
        Err(SasError::Malformed) => Err(malformed),
        Err(_) => Err(ConnectReturnCode::NotAuthorized),
    }
}

/// The host, without port, of `{host}/{client id}[/[?api-version=…]]`. Ids may contain question
/// marks, so the client id is looked for as a whole.
fn host_of<'u>(user: &'u str, client_id: &str) -> Option<&'u str> {
    let (host, rest) = user.split_once('/')?;
    let rest = rest.strip_prefix(client_id)?;
    let well_formed = rest.is_empty() || rest == "/" || rest.starts_with("/?");
    let host = host.split_once(':').map_or(host, |(name, _)| name);
    well_formed.then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_user_names() {
        for (user, client_id, expected) in [
            (
                "hub.example/d/?api-version=2021-04-12&DeviceClientType=x%2F1",
                "d",
                Some("hub.example"),
            ),
            (
                "hub.example:8883/d/m/?api-version=2021-04-12",
                "d/m",
                Some("hub.example"),
            ),
            ("hub.example/a?b/", "a?b", Some("hub.example")),
            ("hub.example/d", "d", Some("hub.example")),
            ("hub.example/d1/?api-version=2021-04-12", "d", None),
            ("hub.example/d/m/?api-version=2021-04-12", "d", None),
            ("hub.example", "d", None),
            ("", "d", None),
        ] {
            assert_eq!(host_of(user, client_id), expected, "{user}");
        }
    }
}
