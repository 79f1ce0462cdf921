//! Tokens for the hub's own host: how long they live, and when a new one is signed.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    HubConnectionString, HubError,
    sas::{SasToken, hub_token},
};

/// How long a token is good for: what Microsoft's service SDKs sign.
pub(crate) const LIFE: Duration = Duration::from_secs(60 * 60);

/// A token is not used in its last minutes: hub and pod may disagree about the time.
const MARGIN: Duration = Duration::from_secs(15 * 60);

/// Seconds since 1970 by this machine's clock.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A token for the whole hub that lives from `now` (seconds since 1970) on for [`LIFE`].
pub(crate) fn sign(connection: &HubConnectionString, now: u64) -> Result<SasToken, HubError> {
    let HubConnectionString { host, policy, key } = connection;
    hub_token(host, key, policy, now + LIFE.as_secs()).map_err(|error| HubError::Settings {
        what: format!("SharedAccessKey of policy {policy:?}: {error}"),
    })
}

/// The token in use, kept until it is about to run out.
#[derive(Debug)]
pub(crate) struct Tokens {
    connection: HubConnectionString,
    kept: Mutex<Option<(SasToken, u64)>>,
}

impl Tokens {
    pub(crate) fn new(connection: HubConnectionString) -> Self {
        Self {
            connection,
            kept: Mutex::new(None),
        }
    }

    /// A token that is good at `now` (seconds since 1970).
    pub(crate) fn at(&self, now: u64) -> Result<SasToken, HubError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // A signing time in the future means that the clock was set back.
        let good = |signed: u64| signed <= now && now < signed + (LIFE - MARGIN).as_secs();
        if let Some((token, signed)) = &*kept
            && good(*signed)
        {
            return Ok(token.clone());
        }
        let token = sign(&self.connection, now)?;
        *kept = Some((token.clone(), now));
        Ok(token)
    }

    /// The hub has refused the token: sign another one next time.
    pub(crate) fn forget(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let text = "HostName=h;SharedAccessKeyName=p;SharedAccessKey=c2VjcmV0";
        Tokens::new(text.parse().unwrap())
    }

    #[test]
    fn a_token_is_kept_until_a_quarter_hour_before_it_runs_out() {
        let tokens = tokens();
        let first = tokens.at(1000).unwrap();
        assert!(first.expose().contains("&se=4600&"));
        assert_eq!(tokens.at(1000 + 44 * 60).unwrap(), first);
        assert_ne!(tokens.at(1000 + 45 * 60).unwrap(), first);
    }

    #[test]
    fn a_new_one_is_signed_when_the_clock_was_set_back_or_the_hub_refused() {
        let tokens = tokens();
        let first = tokens.at(10_000).unwrap();
        assert_ne!(tokens.at(5000).unwrap(), first);
        let second = tokens.at(5000).unwrap();
        tokens.forget();
        assert_ne!(tokens.at(5001).unwrap(), second);
    }
}
