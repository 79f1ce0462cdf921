//! Who may do what: every face asks here.

use crate::{
    identity::Identity,
    policy::Right,
    sas::{KeyForm, Sas, SasError},
};

use super::{Hub, now_ms};

impl Hub {
    /// Checks a service's token for `path` on the hub's own faces. Gives when it ends, in Unix
    /// seconds.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check_service(&self, token: &str, path: &str, right: Right) -> Result<i64, SasError> {
        self.check_policy(&Sas::parse(token)?, KeyForm::Decoded, path, right)
    }

    /// Checks what a service logs in with by SASL PLAIN at the hub's own AMQP: a token of `policy`. Gives
    /// the path below the host that it is good for, and when it ends, in Unix seconds.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check_login(&self, policy: &str, token: &str) -> Result<(String, i64), SasError> {
        let sas = Sas::parse(token)?;
        if sas.policy() != Some(policy) {
            return Err(SasError::Policy);
        }
        let path = sas.resource().split_once('/').map_or("", |(_, path)| path);
        let path = path.trim_matches('/').to_owned();
        let expires = self.check_policy(&sas, KeyForm::Decoded, &path, Right::ServiceConnect)?;
        Ok((path, expires))
    }

    /// Checks a reader's token for `path` on the Event Hubs-compatible endpoint, which takes the
    /// same policies but signs with the bytes of the written key.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check_events(&self, token: &str, path: &str) -> Result<i64, SasError> {
        self.check_policy(
            &Sas::parse(token)?,
            KeyForm::Raw,
            path,
            Right::ServiceConnect,
        )
    }

    fn check_policy(
        &self,
        sas: &Sas,
        form: KeyForm,
        path: &str,
        right: Right,
    ) -> Result<i64, SasError> {
        self.check_fault()?;
        let resource = self.resource(sas, path);
        self.settings
            .policies
            .verify(sas, form, now_ms() / 1000, &resource, right)?;
        Ok(sas.expires())
    }

    /// Checks the token that a device or module connects with: its own key's, or that of a policy
    /// with `DeviceConnect`.
    ///
    /// # Errors
    /// Why it is refused; [`SasError::Policy`] if there is no such identity or it is disabled.
    pub fn check_device(&self, identity: &Identity, token: &str) -> Result<i64, SasError> {
        self.check_fault()?;
        let sas = Sas::parse(token)?;
        let resource = self.resource(&sas, &identity.path());
        let now = now_ms() / 1000;
        let identities = self.identities();
        let registered = identities
            .get(identity)
            .filter(|registered| registered.enabled)
            .ok_or(SasError::Policy)?;
        if sas.policy().is_some() {
            self.settings.policies.verify(
                &sas,
                KeyForm::Decoded,
                now,
                &resource,
                Right::DeviceConnect,
            )?;
        } else {
            sas.verify(registered.keys.both(), KeyForm::Decoded, now, &resource)?;
        }
        Ok(sas.expires())
    }

    fn check_fault(&self) -> Result<(), SasError> {
        if self.faults.rejects_tokens() {
            Err(SasError::Signature)
        } else {
            Ok(())
        }
    }

    /// `path` below the host that the signature names, if it is one of ours; else below one that
    /// it cannot cover.
    fn resource(&self, sas: &Sas, path: &str) -> String {
        let host = sas.resource().split(['/', ':']).next().unwrap_or_default();
        let known = |name: &&String| name.eq_ignore_ascii_case(host);
        let host = self
            .settings
            .hosts
            .iter()
            .find(known)
            .or(self.settings.hosts.first())
            .map_or("", String::as_str);
        format!("{host}/{}", path.trim_start_matches('/'))
    }
}
