//! The way to the platform: its nodes, the binds, and back.

use std::{num::NonZeroU8, sync::Arc, time::Duration};

use alwayson::{BindState, Node, TlsSettings};
use connector_config::{Phase, RoutingGroup};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Parts, RunError, UNBIND, read_file,
    stage::{Retry, until},
};
use crate::{
    egress::Hub,
    inventory::Inventory,
    member::Members,
    platform::{self, Binder, HUB, NodesSettings, Platform},
    report::Part,
    secret::SecretFile,
};

impl Parts {
    /// Own Thing → routing group → group bind.
    pub(super) async fn bind(
        &self,
        platform: &Platform,
        binder: &Binder,
        stopping: &CancellationToken,
    ) -> Option<RoutingGroup> {
        let Self {
            settings, reporter, ..
        } = self;
        let ours = async {
            let mut nodes = platform.nodes();
            while !nodes.borrow_and_update().iter().any(gateway_bound) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = stopping.cancelled() => return None,
            () = ours => {}
        }
        reporter.phase(Phase::Binding);
        let (setting, hub) = (settings.routing_group.as_ref(), &settings.hub_thing_name);
        let retry = Retry {
            reporter,
            part: Part::Group,
        };
        let resolve = || platform::resolve_routing_group(setting, hub, platform);
        let group = until(stopping, retry, resolve).await?;
        tracing::info!(%group, hub = %hub, "joining the routing group");
        reporter.group(group.as_str());
        let names: &[&str] = match settings.thingworx.device_services {
            true => &[HUB],
            false => &[],
        };
        binder.join(hub, &group, names);
        reporter.phase(Phase::Running);
        Some(group)
    }

    /// Binds this member's devices by name from now on.
    pub(super) fn bind_devices(&self, binder: &Binder, hub: Hub, stopping: &CancellationToken) {
        let inventory = Inventory {
            binder: binder.clone(),
            members: Members::new(self.members.subscribe()),
            own: self.identity.member(),
            reporter: self.reporter.clone(),
        };
        let end = stopping.clone();
        tokio::spawn(async move { inventory.run(|| hub.devices(), end).await });
    }

    pub(super) async fn unbind(&self, nodes: &platform::Nodes, binder: &Binder) {
        binder.leave();
        wait(nodes, |state| {
            state.group == BindState::Unwanted && state.names.bound == 0
        })
        .await;
        // Requests that a node sent before it took the unbind are here once its pong is.
        let all = nodes.borrow().clone();
        futures::future::join_all(all.iter().map(|node| node.ping(UNBIND))).await;
    }

    pub(super) fn nodes(&self) -> Result<NodesSettings, RunError> {
        let thingworx = &self.settings.thingworx;
        let tls = thingworx.tls.as_ref();
        let ca = tls.and_then(|tls| tls.ca.as_ref());
        let ca = ca
            .map(|file| read_file("thingworx.tls.ca", file))
            .transpose()?;
        let service = thingworx.service.as_ref().map(|service| {
            let namespace = service
                .namespace
                .as_deref()
                .unwrap_or(&self.identity.namespace);
            (format!("{}.{namespace}.svc", service.name), service.port)
        });
        let named = tls.and_then(|tls| tls.server_name.clone());
        let server_name = named.or_else(|| service.as_ref().map(|(host, _)| host.clone()));
        let key = SecretFile::new("thingworx.appKey", &thingworx.app_key);
        key.read()
            .map_err(|error| RunError::Settings(error.to_string()))?;
        Ok(NodesSettings {
            urls: thingworx.urls(),
            service,
            tls: TlsSettings { ca, server_name },
            pipes: NonZeroU8::new(thingworx.pipes).unwrap_or(NonZeroU8::MIN),
            credentials: Arc::new(key),
        })
    }
}

fn gateway_bound(node: &Node) -> bool {
    node.state().borrow().gateway == BindState::Bound
}

/// Waits until every node that is up is in a state, a few seconds at most.
pub(super) async fn wait(nodes: &platform::Nodes, wanted: impl Fn(&alwayson::NodeState) -> bool) {
    let all = nodes.borrow().clone();
    let each = all.iter().map(|node| {
        let wanted = &wanted;
        async move {
            let down =
                |state: &alwayson::NodeState| matches!(state.link, alwayson::Link::Down { .. });
            let mut state = node.state();
            let _ = state.wait_for(|state| down(state) || wanted(state)).await;
        }
    });
    let _ = timeout(UNBIND, futures::future::join_all(each)).await;
}
