//! The scale subresource, as `kubectl scale` and autoscalers use it.

use k8s_openapi::api::{autoscaling::v2::HorizontalPodAutoscaler, core::v1::Pod};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    plant::{NAME, Plant},
    wait::{eventually, quiet},
};

async fn scale(plant: &Plant, replicas: i32) {
    let patch = json!({"spec": {"replicas": replicas}});
    let params = PatchParams::default();
    let scaled = plant
        .untyped()
        .patch_scale(NAME, &params, &Patch::Merge(&patch))
        .await;
    scaled.unwrap();
    let promise = format!("a connector scaled to {replicas} has as many pods and says so");
    eventually(&promise, async || {
        let scale = plant
            .untyped()
            .get_scale(NAME)
            .await
            .map_err(|error| error.to_string())?;
        let status = scale.status.unwrap_or_default();
        let selector = status.selector.clone().ok_or("no selector")?;
        let pods: Api<Pod> = Api::namespaced(plant.client.clone(), &plant.namespace);
        let found = pods.list(&ListParams::default().labels(&selector)).await;
        let pods = found.map_err(|error| error.to_string())?.items.len();
        let wanted = usize::try_from(replicas).unwrap();
        if status.replicas == replicas && pods == wanted {
            Ok(())
        } else {
            Err(format!("{pods} pods, status {status:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn h1_a_connector_is_scaled_through_its_own_subresource() {
    let Some(plant) = Plant::new("h1").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    plant
        .put(&json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": NAME},
            "spec": {
                "scaleTargetRef": {
                    "apiVersion": "iot-connectors.dev/v1alpha1", "kind": "AzureIotHubConnector",
                    "name": NAME,
                },
                "minReplicas": 1, "maxReplicas": 9,
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50},
                }}],
            },
        }))
        .await;
    scale(&plant, 0).await;
    plant
        .says("a stopped connector is ready", "Ready", "True ScaledToZero")
        .await;
    scale(&plant, 5).await;
    plant
        .bound("a connector that was started again is ready")
        .await;
    let autoscalers: Api<HorizontalPodAutoscaler> =
        Api::namespaced(plant.client.clone(), &plant.namespace);
    eventually("an autoscaler can scale a connector", async || {
        let found = autoscalers
            .get(NAME)
            .await
            .map_err(|error| error.to_string())?;
        let status = found.status.unwrap_or_default();
        let able = status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == "AbleToScale");
        match able {
            Some(able) if able.status == "True" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    quiet(&operator.proxy, "beside an autoscaler").await;
}
