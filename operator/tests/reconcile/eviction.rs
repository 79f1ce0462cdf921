//! What a drain of nodes does: pods are evicted, as the disruption budget allows.

use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{
    Api,
    api::{EvictParams, ListParams},
};

use crate::{
    plant::{NAME, Plant},
    pods::{Fate, serves},
    wait::eventually,
};

fn pods(plant: &Plant) -> Api<Pod> {
    Api::namespaced(plant.client.clone(), &plant.namespace)
}

/// Names of the pods that serve, or of those that do not.
async fn named(plant: &Plant, serving: bool) -> Vec<String> {
    let found = pods(plant).list(&ListParams::default()).await.unwrap();
    let chosen = found.into_iter().filter(|pod| serves(pod) == serving);
    chosen.filter_map(|pod| pod.metadata.name).collect()
}

/// Evicts a pod; says whether it went.
async fn evict(plant: &Plant, pod: &str) -> bool {
    match pods(plant).evict(pod, &EvictParams::default()).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) if status.code == 429 => false,
        Err(error) => panic!("eviction of {pod}: {error}"),
    }
}

/// Waits until the disruption controller counts so many pods as healthy and allows so many evictions.
async fn budget(plant: &Plant, healthy: i32, allowed: i32) {
    let api: Api<PodDisruptionBudget> = Api::namespaced(plant.client.clone(), &plant.namespace);
    let promise = format!("of {healthy} pods that serve {allowed} may be evicted");
    eventually(&promise, async || {
        let found = api.get(&format!("{NAME}-connector")).await;
        let found = found.map_err(|error| error.to_string())?;
        let status = found.status.unwrap_or_default();
        match (status.current_healthy, status.disruptions_allowed) == (healthy, allowed) {
            true => Ok(()),
            false => Err(format!("{status:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn z2_evictions_take_one_pod_at_a_time() {
    let Some(plant) = Plant::new("z2").await else {
        return;
    };
    let _operator = plant.operator().await;
    plant.connect(3).await;
    plant.bound("a new connector becomes ready").await;
    budget(&plant, 3, 1).await;
    let serving = named(&plant, true).await;
    plant.kubelet.makes(Fate::Pending);
    assert!(
        evict(&plant, &serving[0]).await,
        "broken: a node can be drained"
    );
    assert!(
        !evict(&plant, &serving[1]).await,
        "broken: one pod goes at a time"
    );
    budget(&plant, 2, 0).await;
    assert!(
        !evict(&plant, &serving[1]).await,
        "broken: the next pod goes once another serves"
    );
    plant.kubelet.makes(Fate::Ready);
    budget(&plant, 3, 1).await;
    assert!(evict(&plant, &serving[1]).await, "broken: a drain goes on");
    plant.bound("after a drain all pods serve").await;

    plant.change(serde_json::json!({"replicas": 1})).await;
    plant.bound("a connector of one pod is ready").await;
    budget(&plant, 1, 1).await;
    let serving = named(&plant, true).await;
    assert!(
        evict(&plant, &serving[0]).await,
        "broken: a lone pod holds up no drain"
    );
}

#[tokio::test]
async fn z2_pods_that_do_not_serve_hold_up_no_drain() {
    let Some(plant) = Plant::new("z2-unready").await else {
        return;
    };
    let _operator = plant.operator().await;
    plant.connect(3).await;
    plant.bound("a new connector becomes ready").await;
    budget(&plant, 3, 1).await;
    // The platform is down: no pod is ready, nor is one that comes.
    plant.kubelet.makes(Fate::Unready);
    budget(&plant, 0, 0).await;
    let down = named(&plant, false).await;
    assert_eq!(down.len(), 3);
    for pod in &down {
        assert!(
            evict(&plant, pod).await,
            "broken: a pod that does not serve can be evicted"
        );
    }
    // As soon as it is back the budget holds again.
    plant.kubelet.makes(Fate::Ready);
    plant.bound("pods serve again").await;
    budget(&plant, 3, 1).await;
    plant.kubelet.makes(Fate::Pending);
    let serving = named(&plant, true).await;
    assert!(evict(&plant, &serving[0]).await);
    assert!(
        !evict(&plant, &serving[1]).await,
        "broken: one of the pods that serve goes at a time"
    );
}
