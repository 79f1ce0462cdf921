//! The only module that writes to the API server.

use std::sync::Arc;

use connector_config::label;
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::{ApiResource, DynamicObject},
};
use serde_json::{Value, json};

use crate::{
    api::{AzureIotHubConnector, AzureIotHubConnectorStatus, condition::Reason},
    desired::{Child, ChildKind, Owner},
    error::{CallError, Class, call},
    metrics::Metrics,
    plan::{Action, Conflict, check},
};

/// Name under which the server keeps our fields. It must never change: fields of the old name would
/// stay for ever.
pub const FIELD_MANAGER: &str = label::MANAGED_BY_VALUE;

/// Name under which an operator that does not manage a resource owns what it says of that. Not the one of those who
/// manage, or each status that they write would remove it.
const ASIDE: &str = "azure-iot-hub-operator-aside";

/// Writes objects.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    metrics: Arc<Metrics>,
}

/// Why an object was not written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It is not ours.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The API server did not take it.
    #[error("{} {name}: {source}", kind.as_str())]
    Call {
        /// Kind of the object.
        kind: ChildKind,
        /// Its name.
        name: String,
        /// What went wrong.
        source: CallError,
    },
}

impl ApplyError {
    /// Its class.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Conflict(_) => Class::Conflict,
            Self::Call { source, .. } => source.class(),
        }
    }

    /// The reason of the condition.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match (self, self.class()) {
            (Self::Conflict(_), _) => Reason::NameConflict,
            (_, Class::User) => Reason::ApplyRefused,
            (_, Class::Denied) => Reason::ApplyForbidden,
            (_, Class::Conflict | Class::Transient | Class::Bug) => Reason::ApplyFailed,
        }
    }
}

impl Applier {
    /// Writes with `client`.
    #[must_use]
    pub fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self { client, metrics }
    }

    fn api(&self, kind: ChildKind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    /// Does one write. Answers with the object as the server has it now, and the child it was made
    /// from; with `None` for what is not made from a child.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn act<'a>(
        &self,
        owner: &Owner,
        action: &Action<'a>,
    ) -> Result<Option<(&'a Child, DynamicObject)>, ApplyError> {
        match action {
            Action::Create(child) => self
                .create(owner, child)
                .await
                .map(|live| Some((*child, live))),
            Action::Update { child, uid, .. } => {
                let live = self.apply(owner, child, Some(uid), true).await?;
                Ok(Some((*child, live)))
            }
            Action::Scale {
                name,
                uid,
                replicas,
            } => {
                self.scale(owner, name, uid, *replicas).await?;
                Ok(None)
            }
            Action::DeleteSettings { name, uid } => {
                self.delete_settings(owner, name, uid).await?;
                Ok(None)
            }
        }
    }

    /// Applies an object that no watch has seen. One that exists under the name is written only if it is
    /// ours: its label may have been taken off, which hides it from the watch.
    async fn create(&self, owner: &Owner, child: &Child) -> Result<DynamicObject, ApplyError> {
        let found = call(self.api(child.kind, &owner.namespace).get_opt(&child.name)).await;
        match found.map_err(|source| failed(child.kind, &child.name, source))? {
            Some(live) => {
                check(owner, child, &live)?;
                self.apply(owner, child, live.metadata.uid.as_ref(), true)
                    .await
            }
            // Without force: what somebody makes at this very moment is not overwritten.
            None => self.apply(owner, child, None, false).await,
        }
    }

    async fn apply(
        &self,
        owner: &Owner,
        child: &Child,
        uid: Option<&String>,
        force: bool,
    ) -> Result<DynamicObject, ApplyError> {
        let mut object = child.object.clone();
        if let Some(uid) = uid {
            // The server refuses if another object has taken the name.
            object["metadata"]["uid"] = Value::String(uid.clone());
        }
        let params = PatchParams {
            force,
            ..PatchParams::apply(FIELD_MANAGER)
        };
        let api = self.api(child.kind, &owner.namespace);
        let live = call(api.patch(&child.name, &params, &Patch::Apply(&object)))
            .await
            .map_err(|source| failed(child.kind, &child.name, source))?;
        self.wrote(child.kind, "apply");
        tracing::info!(
            namespace = owner.namespace,
            name = owner.name,
            kind = child.kind.as_str(),
            child = child.name,
            "applied"
        );
        Ok(live)
    }

    async fn scale(
        &self,
        owner: &Owner,
        name: &str,
        uid: &str,
        replicas: i32,
    ) -> Result<(), ApplyError> {
        let kind = ChildKind::Deployment;
        // Not an apply, which would have to say everything; the next one takes the field over.
        let patch = json!({ "metadata": { "uid": uid }, "spec": { "replicas": replicas } });
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api = self.api(kind, &owner.namespace);
        call(api.patch(name, &params, &Patch::Merge(&patch)))
            .await
            .map_err(|source| failed(kind, name, source))?;
        self.wrote(kind, "scale");
        tracing::info!(
            namespace = owner.namespace,
            name = owner.name,
            replicas,
            "scaled"
        );
        Ok(())
    }

    async fn delete_settings(
        &self,
        owner: &Owner,
        name: &str,
        uid: &str,
    ) -> Result<(), ApplyError> {
        let kind = ChildKind::ConfigMap;
        let only = Preconditions {
            uid: Some(uid.to_owned()),
            ..Preconditions::default()
        };
        let params = DeleteParams::background().preconditions(only);
        match call(self.api(kind, &owner.namespace).delete(name, &params)).await {
            Ok(_) => {
                self.wrote(kind, "delete");
                tracing::info!(
                    namespace = owner.namespace,
                    name = owner.name,
                    child = name,
                    "deleted settings that no pod uses"
                );
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(source) => Err(failed(kind, name, source)),
        }
    }

    /// Ends a pod, so that another takes its place. One that is gone already is no error.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn end_pod(&self, owner: &Owner, pod: &str, uid: &str) -> Result<(), CallError> {
        let only = Preconditions {
            uid: Some(uid.to_owned()),
            ..Preconditions::default()
        };
        let params = DeleteParams::default().preconditions(only);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &owner.namespace);
        match call(api.delete(pod, &params)).await {
            Ok(_) => {
                self.metrics.wrote("Pod", "delete");
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes a Lease as it was seen: not if it has been written since.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn remove_lease(&self, seen: &ObjectMeta) -> Result<(), CallError> {
        let namespace = seen.namespace.as_deref().unwrap_or_default();
        let name = seen.name.as_deref().unwrap_or_default();
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: seen.uid.clone(),
            resource_version: seen.resource_version.clone(),
        });
        let api: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        match call(api.delete(name, &params)).await {
            Ok(_) => {
                self.metrics.wrote("Lease", "delete");
                tracing::info!(
                    namespace,
                    lease = name,
                    "removed: its connector is long gone"
                );
                Ok(())
            }
            // Gone, or written meanwhile.
            Err(CallError::Refused {
                code: 404 | 409, ..
            }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn wrote(&self, kind: ChildKind, verb: &str) {
        self.metrics.wrote(kind.as_str(), verb);
    }

    /// Writes the status of a resource; answers with the version that the write made.
    ///
    /// # Errors
    /// [`CallError`]: a conflict, if the resource is no longer of the version that was `seen`. What was
    /// computed from an old one must not take the place of what is known by now.
    pub async fn status(
        &self,
        owner: &Owner,
        seen: &str,
        status: &AzureIotHubConnectorStatus,
    ) -> Result<Option<String>, CallError> {
        let guard = json!({ "name": owner.name, "uid": owner.uid, "resourceVersion": seen });
        self.patch_status(owner, FIELD_MANAGER, &guard, &json!(status))
            .await
    }

    /// Says of a resource that another operator manages it. The version that was `seen` is the guard: what was said
    /// already, and has not come back by the watch yet, is not said again with another time.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn stand_aside(
        &self,
        owner: &Owner,
        seen: &str,
        condition: &Condition,
    ) -> Result<(), CallError> {
        let guard = json!({ "name": owner.name, "uid": owner.uid, "resourceVersion": seen });
        let status = json!({ "conditions": [condition] });
        let said = self.patch_status(owner, ASIDE, &guard, &status).await;
        said.map(drop)
    }

    /// Takes back whatever an operator has said that did not manage a resource.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn come_forward(&self, owner: &Owner) -> Result<(), CallError> {
        let guard = json!({ "name": owner.name, "uid": owner.uid });
        let nothing = json!({ "conditions": [] });
        let said = self.patch_status(owner, ASIDE, &guard, &nothing).await;
        said.map(drop)
    }

    async fn patch_status(
        &self,
        owner: &Owner,
        manager: &str,
        metadata: &Value,
        status: &Value,
    ) -> Result<Option<String>, CallError> {
        let resource = ApiResource::erase::<AzureIotHubConnector>(&());
        // Untyped, because the status of a resource that cannot be decoded is written as well.
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &owner.namespace, &resource);
        let patch = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": metadata,
            "status": status,
        });
        let params = PatchParams::apply(manager).force();
        let written = call(api.patch_status(&owner.name, &params, &Patch::Apply(&patch))).await;
        let result = if written.is_ok() { "ok" } else { "error" };
        self.metrics
            .status_writes
            .with_label_values(&[result])
            .inc();
        Ok(written?.metadata.resource_version)
    }
}

fn failed(kind: ChildKind, name: &str, source: CallError) -> ApplyError {
    ApplyError::Call {
        kind,
        name: name.to_owned(),
        source,
    }
}
