//! What the user of an application key may do. Pure.
//!
//! Documented: that there are run-time rights on Things, on all Things of a template and on resources, each for a
//! service or event, and that adding a Thing Shape needs to read the Thing's template at design time (PTC Azure IoT
//! Hub Connector help, "Running as a non-administrator"); that binding needs none. Assumed: the words of a refusal.
//! As every failure of a request it is answered with 0xA0.

use std::collections::BTreeSet;

use alwayson::{Characteristic, EntityType, Request};

/// What a connector needs that runs as no administrator, as docs/commands.md has it under "Rights".
const CONNECTOR: &[&str] = &[
    "Resources/EntityServices/Services/AddShapeToThing",
    "ThingTemplates/ConnectionServicesHub/DesignTime/Read",
    "Things/ConnectionServicesHub/Events/*",
    "ThingTemplates/AzureIotHubTemplate/Services/GetConfiguration",
    "ThingTemplates/AzureIotHubTemplate/Services/GetPropertyDefinitions",
    "ThingTemplates/AzureIotThing/Services/GetPropertyDefinitions",
    "ThingTemplates/AzureIotThing/Services/GetPropertySubscriptions",
    "ThingTemplates/AzureIotThing/Services/UpdateSubscribedPropertyValues",
    "ThingTemplates/AzureIotThing/Services/UpdateSubscribedPropertyValuesBatched",
    "ThingTemplates/AzureIotThing/Services/UpdatePropertyValues",
    // Imports.
    "Resources/EntityServices/Services/CreateThing",
    "ThingTemplates/AzureIotThing/DesignTime/Read",
    "ThingTemplates/AzureIotThing/Services/EnableThing",
    "ThingTemplates/AzureIotThing/Services/RestartThing",
    "ThingTemplates/AzureIotThing/Properties/gatewayThing",
];

/// The rights of a user: each a path of kind, entity, side and name; `*` is every name. Of a Thing Template they
/// are those on the Things that are based on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights(Option<BTreeSet<String>>);

impl Rights {
    /// An administrator's.
    #[must_use]
    pub fn all() -> Self {
        Self(None)
    }

    /// What a connector needs and no more.
    #[must_use]
    pub fn connector() -> Self {
        Self::only(CONNECTOR.iter().map(|&right| right.to_owned()).collect())
    }

    /// These.
    #[must_use]
    pub fn only(rights: BTreeSet<String>) -> Self {
        Self(Some(rights))
    }

    /// Each of them; none if they are not counted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flatten().map(String::as_str)
    }

    fn has(&self, owner: &str, side: &str, name: &str) -> bool {
        let Some(rights) = &self.0 else {
            return true;
        };
        [name, "*"]
            .iter()
            .any(|name| rights.contains(&format!("{owner}/{side}/{name}")))
    }

    /// Whether a request may be carried out; `template` is that of the Thing it is for.
    ///
    /// # Errors
    /// What the platform says.
    pub fn check(&self, request: &Request, template: Option<&str>) -> Result<(), String> {
        let Request {
            entity_type,
            entity,
            characteristic,
            target,
            ..
        } = request;
        let side = characteristic.name();
        let own = format!("{}/{entity}", entity_type.name());
        let of_template = template.is_some_and(|template| {
            *entity_type == EntityType::THINGS
                && self.has(&format!("ThingTemplates/{template}"), side, target)
        });
        if of_template || self.has(&own, side, target) {
            return Ok(());
        }
        let what = match *characteristic {
            Characteristic::SERVICES => "ServiceInvoke",
            Characteristic::EVENTS => "EventInvoke",
            _ => "PropertyRead or PropertyWrite",
        };
        Err(format!("Not authorized for {what} on {target} in {entity}"))
    }

    /// Whether a template may be read at design time.
    ///
    /// # Errors
    /// What the platform says.
    pub fn check_design(&self, template: &str) -> Result<(), String> {
        match self.has(&format!("ThingTemplates/{template}"), "DesignTime", "Read") {
            true => Ok(()),
            false => Err(format!("Not authorized to read ThingTemplate {template}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_on_a_template_is_one_on_its_things_and_no_other() {
        let rights = Rights::connector();
        let may = |thing, service, template| {
            let request = Request::call(thing, service, None);
            rights.check(&request, Some(template)).is_ok()
        };
        assert!(may("pump-1", "UpdatePropertyValues", "AzureIotThing"));
        assert!(!may("pump-1", "GetConfiguration", "AzureIotThing"));
        assert!(may("Hub", "GetConfiguration", "AzureIotHubTemplate"));
        assert!(!may("pump-1", "UpdatePropertyValues", "RemoteThing"));
        let event = Request::event("ConnectionServicesHub", "EdgeError", Default::default());
        assert!(rights.check(&event, Some("ConnectionServicesHub")).is_ok());
        assert!(rights.check_design("ConnectionServicesHub").is_ok());
        assert!(rights.check_design("RemoteThing").is_err());
        assert!(Rights::all().check_design("AzureIotThing").is_ok());
    }
}
