//! What the probes say.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    instance::Instance,
    plant::Plant,
    proxy::{Fault, Proxy},
    wait::{eventually, within},
};

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn r9_an_operator_that_is_deaf_to_one_kind_while_others_are_answered_is_not_alive() {
    let Some(plant) = Plant::new("r9").await else {
        return;
    };
    let operator = plant.told(&["--deaf-seconds=60"]).await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    operator
        .proxy
        .rule(|call| (call.resource == "pods").then_some(Fault::Delay(NEVER)));
    operator.proxy.cut();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(
        operator.get("/livez").await.0,
        200,
        "broken: a watch is given time to come back"
    );
    let promise = "a watch that hears nothing while others do is no life";
    within(Duration::from_secs(90), promise, async || {
        match operator.get("/livez").await {
            (503, why) if why.contains("Pod") => Ok(()),
            (code, why) => Err(format!("{code} {why}")),
        }
    })
    .await;
    operator.proxy.heal();
    operator.proxy.cut();
    eventually(
        "a watch that hears again is well",
        async || match operator.get("/livez").await {
            (200, _) => Ok(()),
            (code, why) => Err(format!("{code} {why}")),
        },
    )
    .await;
}

#[tokio::test]
async fn r9_an_operator_is_ready_only_when_the_definition_and_all_caches_are_there() {
    let Some(plant) = Plant::new("r9-ready").await else {
        return;
    };
    let proxy = Proxy::new(plant.plane, &plant.user()).await;
    plant.connect(1).await;
    let missing = [
        ("azureiothubconnectors", "AzureIotHubConnector"),
        ("pods", "Pod"),
    ];
    proxy.rule(|call| match &*call.resource {
        "azureiothubconnectors" => Some(Fault::Answer(404, "NotFound", None)),
        "pods" => Some(Fault::Answer(503, "ServiceUnavailable", None)),
        _ => None,
    });
    let namespaces = std::slice::from_ref(&plant.namespace);
    let operator = Instance::behind(proxy, plant.plane, namespaces).await;
    eventually(
        "it says what is missing, and nothing else",
        async || match operator.get("/readyz").await {
            (503, why)
                if why
                    == format!(
                        "not listed yet: {}",
                        missing
                            .map(|(_, kind)| format!("{kind} in r9-ready"))
                            .join(", ")
                    ) =>
            {
                Ok(())
            }
            (code, why) => Err(format!("{code} {why}")),
        },
    )
    .await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(
        operator.get("/readyz").await.0,
        503,
        "broken: not ready without the definition"
    );
    assert_eq!(
        operator.get("/livez").await.0,
        200,
        "broken: a restart brings no definition"
    );
    assert_eq!(
        operator.proxy.writes(),
        0,
        "broken: nothing is written while something is unknown"
    );
    operator.proxy.heal();
    let _operator = operator.ready().await;
    plant.bound("it begins when all is there").await;
}
