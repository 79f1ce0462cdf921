//! Queries.

use iothub::{Class, Continuation, HubError, Page, PageRequest, Taken, Twin, quoted};
use iothub_standin::{hub::Etag, operation::Operation};
use serde_json::{Value, json};

use crate::hub::Hub;

const ALL: &str = "SELECT * FROM devices";

fn first(size: u16) -> PageRequest {
    let size = Some(size);
    PageRequest { size, from: None }
}

fn ids(page: &Page<Value>) -> Vec<String> {
    let id = |item: &Value| {
        serde_json::from_value::<Twin>(item.clone())
            .unwrap()
            .device_id
    };
    page.items.iter().map(id).collect()
}

#[tokio::test]
async fn pages_give_everything_once_and_a_stored_continuation_goes_on_elsewhere() {
    let hub = Hub::start().await;
    let made: Vec<String> = (0..25).map(|n| format!("d-{n:02}")).collect();
    made.iter().for_each(|id| drop(hub.register(id, None)));
    hub.register("d-00", Some("module"));
    let (mut found, mut request, mut pages) = (Vec::new(), first(10), 0);
    loop {
        // Another process each time: all it has is the text of the continuation.
        let page = hub.rest("service").query(ALL, &request).await.unwrap();
        found.extend(ids(&page));
        pages += 1;
        let Some(next) = page.next else { break };
        request.from = Some(Continuation::new(next.as_str().to_owned()));
    }
    assert_eq!((found, pages), (made, 3));
}

#[tokio::test]
async fn devices_and_modules_are_found_by_what_they_are() {
    let hub = Hub::start().await;
    let rest = hub.owner();
    for (id, site) in [("a", "north"), ("b", "south"), ("it's", "south")] {
        let identity = hub.register(id, None);
        let patch = json!({"tags": {"site": site}});
        hub.inside()
            .patch_twin(&identity, &patch, &Etag::Any)
            .unwrap();
    }
    hub.register("a", Some("m"));
    let find = async |query: String| rest.query(&query, &first(100)).await.unwrap();
    let south = find(format!(
        "{ALL} WHERE tags.site = 'south' AND deviceId != 'b'"
    ))
    .await;
    assert_eq!(ids(&south), ["it's"]);
    let named = [quoted("it's"), quoted("a"), quoted("gone")].join(", ");
    let named = find(format!("{ALL} WHERE deviceId IN [{named}]")).await;
    assert_eq!(ids(&named), ["a", "it's"]);
    let modules = find("SELECT * FROM devices.modules".into()).await;
    assert_eq!(modules.items[0]["moduleId"], "m");
    let parts = find("SELECT deviceId, tags.site AS site FROM devices".into()).await;
    assert_eq!(parts.items[1], json!({"deviceId": "b", "site": "south"}));
    let count = find("SELECT COUNT() AS total FROM devices".into()).await;
    assert_eq!((count.items, count.next), (vec![json!({"total": 3})], None));
}

#[tokio::test]
async fn a_query_that_the_hub_does_not_understand_is_the_callers() {
    let hub = Hub::start().await;
    let query = "SELECT * FROM devices WHERE deviceId LIKE 'x'";
    let error = hub.owner().query(query, &first(10)).await.unwrap_err();
    assert!(matches!(error, HubError::BadQuery { .. }), "{error}");
    assert_eq!((error.class(), error.taken()), (Class::User, Taken::No));
    assert!(error.to_string().contains(query), "{error}");
}

#[tokio::test]
async fn a_continuation_is_good_for_its_query_alone() {
    let hub = Hub::start().await;
    hub.register("a", None);
    hub.register("b", None);
    let rest = hub.owner();
    let page = rest.query(ALL, &first(1)).await.unwrap();
    for (query, from) in [
        ("SELECT deviceId FROM devices", page.next.clone().unwrap()),
        (ALL, Continuation::new("nonsense")),
    ] {
        let request = PageRequest {
            size: Some(1),
            from: Some(from),
        };
        let refused = rest.query(query, &request).await;
        assert!(
            matches!(refused, Err(HubError::BadQuery { .. })),
            "{refused:?}"
        );
    }
    let unwritable = PageRequest {
        size: None,
        from: Some(Continuation::new("a\nb")),
    };
    let error = rest.query(ALL, &unwritable).await.unwrap_err();
    assert!(matches!(error, HubError::Settings { .. }), "{error}");
}

#[tokio::test]
async fn a_query_whose_answer_is_lost_can_be_asked_again() {
    let hub = Hub::start().await;
    hub.register("d", None);
    hub.lose(Operation::Queries);
    let error = hub.owner().query(ALL, &first(10)).await.unwrap_err();
    assert_eq!(error.taken(), Taken::Unknown, "{error}");
    assert_eq!(hub.count(Operation::Queries).accepted, 1);
    hub.fault(&iothub_standin::fault::Fault::Clear);
    let again = hub.owner().query(ALL, &first(10)).await.unwrap();
    assert_eq!(ids(&again), ["d"]);
}
