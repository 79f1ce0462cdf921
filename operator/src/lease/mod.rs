//! One operator writes, the others stand by with warm caches: a Lease says which.
//!
//! The semantics are those of client-go's `tools/leaderelection`: a holder that cannot renew stops by
//! itself before anybody else may take over, expiry is judged by how long a record has not changed for
//! the one who looks, never by another host's clock, and each write names the version that it replaces.

mod decision;
mod permit;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub use decision::Timing;
pub use permit::{Grant, NotLeading, Permit, guarded};

use crate::error::{CallError, call_within};
use decision::{Candidate, Seen, Step};

/// One call for the Lease: well below the deadline, so that a holder has several tries.
const CALL: Duration = Duration::from_secs(3);

/// Takes part in the election.
pub struct Election {
    api: Api<Lease>,
    name: String,
    candidate: Candidate,
    /// The Lease as last read or written.
    lease: Option<Lease>,
    grant: Grant,
}

/// The Lease is lost: another may write from now on, or soon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the operator's Lease is lost: {0}")]
pub struct Lost(String);

impl Election {
    /// A candidate called `me` for the Lease `name`. What it may do is said by the permit of `grant`.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        me: &str,
        timing: Timing,
        grant: Grant,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            candidate: Candidate::new(me, timing),
            lease: None,
            grant,
        }
    }

    /// Takes part until `stop`, then releases what it holds.
    ///
    /// # Errors
    /// [`Lost`] if it led and does not any more; the process must end, or forget all it has begun.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Lost> {
        let mut led = false;
        while !stop.is_cancelled() {
            let begun = Instant::now();
            match self.candidate.step(begun) {
                Step::Read => self.read().await,
                Step::Write => self.write(begun).await,
                Step::Lost(why) => {
                    self.grant.revoke();
                    return Err(Lost(why));
                }
            }
            let until = self.candidate.leads_until();
            self.grant.until(until);
            if until.is_some() != led {
                led = until.is_some();
                tracing::info!(lease = self.name, led, "election");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(self.candidate.pause(Instant::now())) => {}
            }
        }
        self.grant.revoke();
        if led {
            self.release().await;
        }
        Ok(())
    }

    async fn read(&mut self) {
        match call_within(CALL, self.api.get_opt(&self.name)).await {
            Ok(lease) => self.seen(lease),
            Err(error) => self.failed("read", &error),
        }
    }

    /// Creates the Lease, takes it or renews it. `begun` is from before the request: the record may be as
    /// old as that.
    async fn write(&mut self, begun: Instant) {
        let wanted = self.wanted(self.candidate.me(), Timestamp::now());
        let params = PostParams::default();
        let written = match &self.lease {
            None => call_within(CALL, self.api.create(&params, &wanted)).await,
            // The version in it is the guard.
            Some(_) => call_within(CALL, self.api.replace(&self.name, &params, &wanted)).await,
        };
        match written {
            Ok(lease) => {
                self.candidate.wrote(seen(&lease), begun);
                self.lease = Some(lease);
            }
            Err(error) => {
                self.failed("write", &error);
                // It may have been carried out, or somebody was faster: the record tells.
                self.candidate.look_again();
            }
        }
    }

    fn wanted(&self, holder: &str, now: Timestamp) -> Lease {
        let old = self.lease.as_ref().and_then(|lease| lease.spec.clone());
        let old = old.unwrap_or_default();
        let changes = old.holder_identity.as_deref() != Some(holder);
        let seconds = self.candidate.timing().duration.as_secs();
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: i32::try_from(seconds).ok(),
            acquire_time: if changes {
                Some(MicroTime(now))
            } else {
                old.acquire_time
            },
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(changes)),
            ..LeaseSpec::default()
        };
        let metadata = match &self.lease {
            Some(lease) => lease.metadata.clone(),
            None => ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
        };
        Lease {
            metadata,
            spec: Some(spec),
        }
    }

    fn seen(&mut self, lease: Option<Lease>) {
        // After the answer: the record is at least as old as that.
        self.candidate.saw(lease.as_ref().map(seen), Instant::now());
        self.lease = lease;
    }

    async fn release(&mut self) {
        let wanted = self.wanted("", Timestamp::now());
        match call_within(
            CALL,
            self.api
                .replace(&self.name, &PostParams::default(), &wanted),
        )
        .await
        {
            Ok(_) => tracing::info!(lease = self.name, "released"),
            // It expires.
            Err(error) => tracing::warn!(lease = self.name, %error, "not released"),
        }
    }

    fn failed(&self, what: &str, error: &CallError) {
        tracing::warn!(lease = self.name, what, %error, "the operator's Lease");
    }
}

fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    Seen {
        holder: spec
            .and_then(|spec| spec.holder_identity.clone())
            .unwrap_or_default(),
        duration: Duration::from_secs(seconds.unwrap_or(0).try_into().unwrap_or(0)),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}
