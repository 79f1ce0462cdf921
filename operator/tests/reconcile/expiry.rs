//! Watches that end: because their time is over, or because the store has forgotten where they were.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::api::DeleteParams;
use operator::desired::ChildKind;
use serde_json::Value;

use crate::{
    plant::{NAME, Plant},
    wait::{PATIENCE, quiet, settled, within},
};

/// A watch lasts 20 s, and the connection that ends it may take a moment.
const RENEWED: Duration = Duration::from_secs(30);

/// Waits until a child that was deleted is there again.
pub async fn made_again(plant: &Plant, kind: ChildKind, promise: &str) {
    let (api, name) = (plant.children(kind), format!("{NAME}-connector"));
    within(PATIENCE, promise, async || {
        let found = api.get_opt(&name).await;
        let found = found.map_err(|error| error.to_string())?;
        found.map(drop).ok_or("it is not there".to_owned())
    })
    .await;
}

/// Deletes a child.
pub async fn delete(plant: &Plant, kind: ChildKind) {
    let name = format!("{NAME}-connector");
    plant
        .children(kind)
        .delete(&name, &DeleteParams::background())
        .await
        .unwrap();
}

#[tokio::test]
async fn r5_a_watch_whose_place_the_store_has_forgotten_lists_again() {
    let Some(plant) = Plant::new("r5-compacted").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    settled(&operator.proxy).await;
    // The server keeps no window of events of this kind: what the store forgets is forgotten.
    let expired = Arc::new(Mutex::new(false));
    let noted = Arc::clone(&expired);
    operator.proxy.filter(move |call, event| {
        if call.resource != "poddisruptionbudgets" || event["type"] == "LISTED" {
            return true;
        }
        let gone = event["type"] == "ERROR" && event["object"]["code"] == 410;
        *noted.lock().unwrap() |= gone;
        // The deletion gets lost, so only a list can tell of it.
        event["type"] == "ERROR"
    });
    delete(&plant, ChildKind::PodDisruptionBudget).await;
    plant.plane.compact().await;
    within(RENEWED, "a watch is renewed", async || {
        match *expired.lock().unwrap() {
            true => Ok(()),
            false => Err("no watch has expired".to_owned()),
        }
    })
    .await;
    made_again(
        &plant,
        ChildKind::PodDisruptionBudget,
        "a list makes up for what the store has forgotten",
    )
    .await;
    operator.proxy.heal();
    quiet(&operator.proxy, "after a watch has expired").await;
}

#[tokio::test]
async fn r5_bookmarks_alone_carry_a_watch_on() {
    let Some(plant) = Plant::new("r5-bookmarks").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    settled(&operator.proxy).await;
    let bookmarks = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&bookmarks);
    operator.proxy.filter(move |call, event| {
        if call.resource == "roles" && event["type"] == "BOOKMARK" {
            let version = event["object"]["metadata"]["resourceVersion"].take();
            noted.lock().unwrap().push(version.clone());
            event["object"]["metadata"]["resourceVersion"] = version;
        }
        true
    });
    let before = operator.proxy.seen().len();
    let calls = || operator.proxy.seen().split_off(before);
    within(
        2 * RENEWED,
        "a watch goes on where a bookmark was",
        async || {
            let bookmarks = bookmarks.lock().unwrap().clone();
            let renewed = calls().into_iter().any(|seen| {
                let version = Value::String(seen.call.version);
                seen.call.resource == "roles"
                    && seen.call.verb == "watch"
                    && bookmarks.contains(&version)
            });
            match renewed {
                true => Ok(()),
                false => Err(format!("bookmarks {bookmarks:?}")),
            }
        },
    )
    .await;
    // But of the kind without a window, which another test may have made the store forget.
    let lists = calls()
        .into_iter()
        .filter(|seen| seen.call.verb == "list" && seen.call.resource != "poddisruptionbudgets");
    let lists: Vec<_> = lists.map(|seen| seen.call.resource).collect();
    assert!(
        lists.is_empty(),
        "broken: a watch that has ended lists nothing: {lists:?}"
    );
    operator.proxy.heal();
    delete(&plant, ChildKind::Role).await;
    made_again(
        &plant,
        ChildKind::Role,
        "what changes after nothing but bookmarks is seen",
    )
    .await;
    quiet(&operator.proxy, "after nothing but bookmarks").await;
}
