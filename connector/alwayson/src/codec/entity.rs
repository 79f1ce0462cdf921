//! What a request is addressed to.

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($constant:ident = $code:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub u8);

        impl $name {
            $(#[doc = $text] pub const $constant: Self = Self($code);)*

            /// The platform's name for it, as in its REST paths.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($code => $text,)*
                    _ => "Unknown",
                }
            }
        }
    };
}

codes! {
    /// The collection that an entity belongs to. Codes without a name are kept.
    EntityType {
        THINGS = 0x0a "Things",
        THING_SHAPES = 0x0b "ThingShapes",
        THING_TEMPLATES = 0x0c "ThingTemplates",
        THING_PACKAGES = 0x0d "ThingPackages",
        NETWORKS = 0x0e "Networks",
        DATA_SHAPES = 0x0f "DataShapes",
        MODEL_TAGS = 0x14 "ModelTags",
        DATA_TAGS = 0x15 "DataTags",
        MASHUPS = 0x1e "Mashups",
        WIDGETS = 0x1f "Widgets",
        STYLE_DEFINITIONS = 0x20 "StyleDefinitions",
        STATE_DEFINITIONS = 0x21 "StateDefinitions",
        MENUS = 0x22 "Menus",
        MEDIA_ENTITIES = 0x23 "MediaEntities",
        LOCALIZATION_TABLES = 0x24 "LocalizationTables",
        DASHBOARDS = 0x27 "Dashboards",
        LOGS = 0x28 "Logs",
        USERS = 0x32 "Users",
        GROUPS = 0x33 "Groups",
        ORGANIZATIONS = 0x34 "Organizations",
        APPLICATION_KEYS = 0x35 "ApplicationKeys",
        DIRECTORY_SERVICES = 0x36 "DirectoryServices",
        AUTHENTICATORS = 0x37 "Authenticators",
        RESOURCES = 0x3c "Resources",
        SCRIPT_FUNCTION_LIBRARIES = 0x3d "ScriptFunctionLibraries",
        EXTENSION_PACKAGES = 0x46 "ExtensionPackages",
        SUBSYSTEMS = 0x50 "Subsystems",
        PERSISTENCE_PROVIDER_PACKAGES = 0x5a "PersistenceProviderPackages",
        PERSISTENCE_PROVIDERS = 0x64 "PersistenceProviders",
        PROJECTS = 0x6e "Projects",
        DATA_ANALYSIS_DEFINITIONS = 0x78 "DataAnalysisDefinitions",
        NOTIFICATION_DEFINITIONS = 0x82 "NotificationDefinitions",
        NOTIFICATION_CONTENTS = 0x8c "NotificationContents",
    }
}

codes! {
    /// Which side of an entity is meant. Codes without a name are kept.
    Characteristic {
        CUSTOM = 0x00 "Custom",
        PROPERTIES = 0x01 "Properties",
        SERVICES = 0x02 "Services",
        EVENTS = 0x03 "Events",
        PROPERTIES_VTQ = 0x04 "PropertiesVTQ",
        CONFIGURATION_TABLES = 0x05 "ConfigurationTables",
        CONTENT = 0x06 "Content",
    }
}
