//! Where claims and checkpoints are kept.

use std::{path::PathBuf, sync::Arc};

use connector_config::{Checkpoints, DeadLetter, File, IotHub, KubernetesStore};
use iothub::HubConnectionString;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use super::{RunError, hub};
use crate::{
    claim::{BlobStore, FileStore},
    identity::{Identity, MemberId},
    import::{self, LeaseStore, LocalStore},
    ingress::{BlobShelf, FileShelf, Shelf},
    report::Reporter,
    storage::Container,
};

/// Where claims and checkpoints are kept, opened.
pub(super) struct Store {
    pub(super) claims: ClaimStore,
    /// Where checkpoints are kept, if that is not with the claims.
    pub(super) blobs: Option<BlobStore>,
}

pub(super) enum ClaimStore {
    Kubernetes(Box<Cluster>),
    File(FileStore),
    /// This process holds all partitions.
    Solo,
}

/// Leases of the pod's namespace, and whose members share them.
pub(super) struct Cluster {
    pub(super) leases: Api<Lease>,
    pub(super) store: KubernetesStore,
}

impl Store {
    /// Opens what the settings name. Blobs are not asked for anything yet.
    ///
    /// # Errors
    /// [`RunError::Settings`] if they cannot work.
    pub(super) async fn open(
        checkpoints: &Checkpoints,
        identity: &Identity,
        reporter: &Reporter,
    ) -> Result<Store, RunError> {
        let only = |claims| Store {
            claims,
            blobs: None,
        };
        match checkpoints {
            Checkpoints::Kubernetes(store) => open_cluster(store).await.map(only),
            Checkpoints::File(file) => FileStore::open(&file.path)
                .map(ClaimStore::File)
                .map(only)
                .map_err(|error| RunError::Settings(error.to_string())),
            Checkpoints::AzureBlob(store) => {
                let field = "checkpoints.azureBlob.connectionString";
                let account = hub::parse(field, &store.connection_string)?;
                let container = Container::open(&account, &store.container).map_err(|error| {
                    RunError::Settings(format!("checkpoints.azureBlob: {error}"))
                })?;
                let blobs = BlobStore::new(container, identity.member(), reporter.clone());
                let claims = match &store.kubernetes {
                    Some(store) => open_cluster(store).await?,
                    None => ClaimStore::Solo,
                };
                Ok(Store {
                    claims,
                    blobs: Some(blobs),
                })
            }
        }
    }

    /// Where the import of devices is kept: with the claims.
    pub(super) fn imports(&self, member: &MemberId) -> Arc<dyn import::Store> {
        let local = |path: Option<PathBuf>| Arc::new(LocalStore::open(path, member.clone()));
        match &self.claims {
            ClaimStore::Kubernetes(cluster) => {
                let Cluster { leases, store } = &**cluster;
                Arc::new(LeaseStore::new(
                    leases.clone(),
                    store.clone(),
                    member.clone(),
                ))
            }
            ClaimStore::File(store) => local(Some(store.path().with_extension("import.json"))),
            // Nothing of this process is kept on its own disk.
            ClaimStore::Solo => local(None),
        }
    }
}

/// Opens the place for dead letters that the settings name. Blobs are not asked for anything yet.
///
/// # Errors
/// [`RunError::Settings`] if it cannot work.
pub(super) fn open_shelf(
    settings: &IotHub<File, File>,
    identity: &Identity,
) -> Result<Option<Box<dyn Shelf>>, RunError> {
    match &settings.dead_letter {
        None => Ok(None),
        Some(DeadLetter::File(file)) => {
            let shelf = FileShelf::open(&file.path).map_err(|error| {
                let path = file.path.display();
                RunError::Settings(format!("iotHub.deadLetter.file.path {path}: {error}"))
            })?;
            Ok(Some(Box::new(shelf)))
        }
        Some(DeadLetter::AzureBlob(blobs)) => {
            let field = "iotHub.deadLetter.azureBlob.connectionString";
            let account = hub::parse(field, &blobs.connection_string)?;
            let container = Container::open(&account, &blobs.container).map_err(|error| {
                RunError::Settings(format!("iotHub.deadLetter.azureBlob: {error}"))
            })?;
            let hub: HubConnectionString =
                hub::parse("iotHub.connectionString", &settings.connection_string)?;
            let shelf = BlobShelf::new(container, hub.host, identity.member());
            Ok(Some(Box::new(shelf)))
        }
    }
}

async fn open_cluster(store: &KubernetesStore) -> Result<ClaimStore, RunError> {
    let client = kube::Client::try_default().await.map_err(|error| {
        RunError::Settings(format!(
            "checkpoints.kubernetes: no Kubernetes here: {error}"
        ))
    })?;
    Ok(ClaimStore::Kubernetes(Box::new(Cluster {
        leases: Api::default_namespaced(client),
        store: store.clone(),
    })))
}
