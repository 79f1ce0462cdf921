//! What makes and changes entities: the resource `EntityServices`, and the services and properties that a
//! Thing has of its template.
//!
//! That `CreateThing` makes a Thing that is not enabled is documented (PTC, "Creating Things by script": call
//! `EnableThing` and `RestartThing` then). Assumed: that a Thing which is not enabled does nothing but enable
//! itself, and the words of refusals.

use std::sync::Arc;

use alwayson::{InfoTable, Request, Response, Value};

use crate::{
    cluster::{Cluster, lock},
    model::{Model, Thing},
};

/// Property of the Thing Shape `RoutedEgress`.
const GATEWAY: &str = "gatewayThing";

/// Carries out a service of `EntityServices`.
pub(crate) fn services(cluster: &Cluster, request: &Request) -> Result<Response, String> {
    let text = |field: &str| {
        let value = request.params.as_ref()?.get(0, field)?;
        value.as_text().map(str::to_owned)
    };
    let name = text("name").ok_or("no name is given")?;
    let mut model = lock(&cluster.model);
    match request.target.as_str() {
        "CreateThing" => {
            if model.thing(&name).is_some() {
                return Err(format!("Thing [{name}] already exists"));
            }
            let template = text("thingTemplateName").ok_or("no template is given")?;
            if !model.has_template(&template) {
                return Err(format!("ThingTemplate [{template}] does not exist"));
            }
            lock(&cluster.rights).check_design(model.base(&template))?;
            let thing = Thing {
                enabled: false,
                ..Thing::of(&template)
            };
            model.put(&name, thing);
            Ok(Response::ok())
        }
        "DeleteThing" => match model.remove(&name) {
            Some(_) => Ok(Response::ok()),
            None => Err(format!("Thing [{name}] does not exist")),
        },
        "AddShapeToThing" => {
            let shape = text("thingShapeName").ok_or("no Thing Shape is given")?;
            if let Some((_, thing)) = model.thing(&name) {
                lock(&cluster.rights).check_design(model.base(&thing.template))?;
            }
            model.add_shape(&name, &shape)?;
            Ok(Response::ok())
        }
        other => Err(format!("Service [{other}] does not exist")),
    }
}

/// Carries out `EnableThing` and `RestartThing`; `None` if the request is another. A Thing that is not
/// enabled refuses everything else.
pub(crate) fn life(
    model: &mut Model,
    name: &str,
    thing: &Arc<Thing>,
    service: &str,
) -> Option<Result<Response, String>> {
    match service {
        "EnableThing" => {
            if !thing.enabled {
                let mut thing = Thing::clone(thing);
                thing.enabled = true;
                model.put(name, thing);
            }
            Some(Ok(Response::ok()))
        }
        _ if !thing.enabled => Some(Err(format!("Thing [{name}] is not enabled"))),
        "RestartThing" => Some(Ok(Response::ok())),
        _ => None,
    }
}

/// Reads `gatewayThing`, if the request does and the Thing has it.
pub(crate) fn gateway(model: &Model, thing: &Thing, property: &str) -> Option<Response> {
    if property != GATEWAY || !model.is_routed(&thing.template) {
        return None;
    }
    let gateway = thing.gateway_thing.as_deref().unwrap_or_default();
    let row = InfoTable::one_row([(GATEWAY, Value::string(gateway))]);
    Some(Response::with(row))
}

/// Writes `gatewayThing`, if the request does and the Thing has it.
pub(crate) fn route(
    model: &mut Model,
    name: &str,
    thing: &Arc<Thing>,
    params: &InfoTable,
) -> Option<Result<Response, String>> {
    if !model.is_routed(&thing.template) {
        return None;
    }
    let value = params.get(0, GATEWAY)?;
    let Some(gateway) = value.as_text() else {
        return Some(Err(format!("Property [{GATEWAY}] is a THINGNAME")));
    };
    let mut thing = Thing::clone(thing);
    thing.gateway_thing = Some(gateway.to_owned());
    model.put(name, thing);
    Some(Ok(Response::ok()))
}

#[cfg(test)]
mod tests {
    use alwayson::{BaseType, EntityType};

    use super::*;
    use crate::{ClusterSettings, Fault, execute::execute};

    fn create(name: &str, template: &str) -> Request {
        let params = InfoTable::one_row([
            ("name", Value::string(name)),
            (
                "thingTemplateName",
                Value::Text(BaseType::ThingTemplateName, template.into()),
            ),
        ]);
        Request {
            entity_type: EntityType::RESOURCES,
            ..Request::call("EntityServices", "CreateThing", Some(params))
        }
    }

    #[test]
    fn a_thing_is_made_once_of_a_template_that_exists_and_does_nothing_until_it_is_enabled() {
        let cluster = Arc::new(Cluster::new(1, ClusterSettings::default()));
        let ask = |request: &Request| {
            let response = execute(&cluster, 0, 1, request);
            response
                .is_error()
                .then(|| response.error_text().unwrap_or_default())
        };
        let refused = |request: &Request, words: &str| {
            let reason = ask(request).unwrap();
            assert!(reason.contains(words), "{reason}");
        };
        let gateway = || {
            let hub = Value::Text(BaseType::ThingName, "Hub".into());
            Request::write("pump", "gatewayThing", hub)
        };
        refused(
            &create("pump", "Pump"),
            "ThingTemplate [Pump] does not exist",
        );
        lock(&cluster.model).derive("Pump");
        let forbid = |on| Fault::Forbid {
            service: "CreateThing".into(),
            on,
        };
        cluster.fault(&forbid(true));
        refused(&create("pump", "Pump"), "Not authorized");
        cluster.fault(&forbid(false));
        assert_eq!(ask(&create("pump", "Pump")), None);
        refused(&create("pump", "Pump"), "already exists");

        refused(&gateway(), "not enabled");
        refused(&Request::call("pump", "RestartThing", None), "not enabled");
        assert_eq!(ask(&Request::call("pump", "EnableThing", None)), None);
        assert_eq!(ask(&Request::call("pump", "RestartThing", None)), None);
        assert_eq!(ask(&gateway()), None);
        let read = execute(&cluster, 0, 1, &Request::read("pump", "gatewayThing"));
        let value = read.content.unwrap().get(0, "gatewayThing");
        assert_eq!(value, Some(Value::string("Hub")));
        let census = lock(&cluster.model).census();
        let pump = census.keys().find(|alike| alike.template == "Pump");
        let pump = pump.unwrap();
        assert!(pump.enabled);
        assert_eq!(pump.gateway_thing.as_deref(), Some("Hub"));
    }
}
