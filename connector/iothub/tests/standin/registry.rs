//! The identity registry.

use iothub::{Class, Condition, DeviceStatus, HubError, RegistryStatistics, Taken};
use iothub_standin::{identity::Identity, operation::Operation};

use crate::hub::Hub;

#[tokio::test]
async fn a_device_is_made_looked_up_counted_and_removed() {
    let hub = Hub::start().await;
    let rest = hub.owner();
    let made = rest.create_device("pump-1#").await.unwrap();
    assert_eq!(
        (made.device_id.as_str(), made.status),
        ("pump-1#", DeviceStatus::Enabled)
    );
    assert_eq!(made.last_activity_time, None);
    assert_eq!(rest.device("pump-1#").await, Ok(made));
    let expected = RegistryStatistics {
        total_device_count: 1,
        enabled_device_count: 1,
        disabled_device_count: 0,
    };
    assert_eq!(rest.registry_statistics().await, Ok(expected));
    assert_eq!(
        rest.delete_device("pump-1#", &Condition::Exists).await,
        Ok(())
    );
    let gone = HubError::DeviceNotFound {
        id: "pump-1#".into(),
    };
    assert_eq!(rest.device("pump-1#").await, Err(gone.clone()));
    assert_eq!(
        rest.delete_device("pump-1#", &Condition::Exists).await,
        Err(gone)
    );
}

#[tokio::test]
async fn what_cannot_be_a_device_is_not_sent() {
    let hub = Hub::start().await;
    let long = "x".repeat(129);
    for name in ["pump 1", "Pumpe/1", "Pümpe", &long] {
        let error = hub.owner().create_device(name).await.unwrap_err();
        assert!(matches!(error, HubError::Settings { .. }), "{error}");
        assert_eq!((error.class(), error.taken()), (Class::User, Taken::No));
    }
    assert_eq!(hub.count(Operation::Registry).accepted, 0);
}

#[tokio::test]
async fn a_device_that_exists_is_said_to_exist_and_stays_as_it_is() {
    let hub = Hub::start().await;
    let rest = hub.owner();
    let made = rest.create_device("d").await.unwrap();
    let error = rest.create_device("d").await.unwrap_err();
    assert_eq!(error, HubError::AlreadyExists { id: "d".into() });
    assert_eq!((error.class(), error.taken()), (Class::User, Taken::No));
    assert_eq!(rest.device("d").await, Ok(made));
}

#[tokio::test]
async fn a_device_of_another_version_is_not_removed() {
    let hub = Hub::start().await;
    hub.register("d", None);
    let old = Condition::Unchanged("another".into());
    let error = hub.owner().delete_device("d", &old).await.unwrap_err();
    assert_eq!(error, HubError::Changed { what: "d".into() });
    let identity = Identity::device("d").unwrap();
    assert!(hub.inside().get(&identity).is_ok());
    let unwritable = Condition::Unchanged("a\nb".into());
    let error = hub
        .owner()
        .delete_device("d", &unwritable)
        .await
        .unwrap_err();
    assert!(matches!(error, HubError::Settings { .. }), "{error}");
}

#[tokio::test]
async fn what_is_made_or_removed_while_the_answer_is_lost_is_so_once() {
    let hub = Hub::start().await;
    let rest = hub.owner();
    let identity = Identity::device("d").unwrap();
    hub.lose(Operation::Registry);
    let error = rest.create_device("d").await.unwrap_err();
    assert_eq!(error.taken(), Taken::Unknown, "{error}");
    assert!(hub.inside().get(&identity).is_ok());
    let error = rest
        .delete_device("d", &Condition::Exists)
        .await
        .unwrap_err();
    assert_eq!(error.taken(), Taken::Unknown, "{error}");
    assert!(hub.inside().get(&identity).is_err());
    let counted = hub.count(Operation::Registry);
    assert_eq!((counted.accepted, counted.lost), (2, 2));
}
