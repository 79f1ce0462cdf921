//! Base types: the kinds of values that ThingWorx knows.

use std::str::FromStr;

/// A name that is no base type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no base type")]
pub struct UnknownBaseType(String);

macro_rules! base_types {
    ($($(#[$doc:meta])* $variant:ident = $code:literal $name:literal,)*) => {
        /// The kind of a value. Newer platforms have more (style themes, Thing groups, …), whose codes
        /// are not public.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum BaseType {
            $(#[doc = $name] $(#[$doc])* $variant = $code,)*
        }

        impl BaseType {
            /// All base types.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The base type with this code on the wire.
            #[must_use]
            pub fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The platform's name for it, such as `STRING`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl FromStr for BaseType {
            type Err = UnknownBaseType;

            fn from_str(name: &str) -> Result<Self, UnknownBaseType> {
                match name {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(UnknownBaseType(name.to_owned())),
                }
            }
        }
    };
}

base_types! {
    String = 0x00 "STRING",
    Number = 0x01 "NUMBER",
    Boolean = 0x02 "BOOLEAN",
    DateTime = 0x03 "DATETIME",
    TimeSpan = 0x04 "TIMESPAN",
    InfoTable = 0x05 "INFOTABLE",
    Location = 0x06 "LOCATION",
    Xml = 0x07 "XML",
    Json = 0x08 "JSON",
    Query = 0x09 "QUERY",
    Image = 0x0a "IMAGE",
    Hyperlink = 0x0b "HYPERLINK",
    ImageLink = 0x0c "IMAGELINK",
    Password = 0x0d "PASSWORD",
    Html = 0x0e "HTML",
    Text = 0x0f "TEXT",
    Tags = 0x10 "TAGS",
    Schedule = 0x11 "SCHEDULE",
    Variant = 0x12 "VARIANT",
    Guid = 0x14 "GUID",
    Blob = 0x15 "BLOB",
    Integer = 0x16 "INTEGER",
    Long = 0x17 "LONG",
    PropertyName = 0x32 "PROPERTYNAME",
    ServiceName = 0x33 "SERVICENAME",
    EventName = 0x34 "EVENTNAME",
    ThingName = 0x64 "THINGNAME",
    ThingShapeName = 0x65 "THINGSHAPENAME",
    ThingTemplateName = 0x66 "THINGTEMPLATENAME",
    DataShapeName = 0x68 "DATASHAPENAME",
    MashupName = 0x69 "MASHUPNAME",
    MenuName = 0x6a "MENUNAME",
    BaseTypeName = 0x6b "BASETYPENAME",
    UserName = 0x6c "USERNAME",
    GroupName = 0x6d "GROUPNAME",
    CategoryName = 0x6e "CATEGORYNAME",
    StateDefinitionName = 0x6f "STATEDEFINITIONNAME",
    StyleDefinitionName = 0x70 "STYLEDEFINITIONNAME",
    ModelTagVocabularyName = 0x71 "MODELTAGVOCABULARYNAME",
    DataTagVocabularyName = 0x72 "DATATAGVOCABULARYNAME",
    NetworkName = 0x73 "NETWORKNAME",
    MediaEntityName = 0x74 "MEDIAENTITYNAME",
    ApplicationKeyName = 0x75 "APPLICATIONKEYNAME",
    LocalizationTableName = 0x76 "LOCALIZATIONTABLENAME",
    OrganizationName = 0x77 "ORGANIZATIONNAME",
    DashboardName = 0x78 "DASHBOARDNAME",
    PersistenceProviderPackageName = 0x79 "PERSISTENCEPROVIDERPACKAGENAME",
    PersistenceProviderName = 0x7a "PERSISTENCEPROVIDERNAME",
    ProjectName = 0x7b "PROJECTNAME",
    Vec2 = 0x7c "VEC2",
    Vec3 = 0x7d "VEC3",
    Vec4 = 0x7e "VEC4",
    ThingCode = 0x7f "THINGCODE",
    NotificationContentName = 0x80 "NOTIFICATIONCONTENTNAME",
    NotificationDefinitionName = 0x81 "NOTIFICATIONDEFINITIONNAME",
    Nothing = 0xff "NOTHING",
}

impl BaseType {
    /// Its code on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Values of it are strings on the wire.
    #[must_use]
    pub fn is_text(self) -> bool {
        !matches!(
            self,
            Self::Number
                | Self::Boolean
                | Self::DateTime
                | Self::TimeSpan
                | Self::InfoTable
                | Self::Location
                | Self::Image
                | Self::Variant
                | Self::Blob
                | Self::Integer
                | Self::Long
                | Self::Vec2
                | Self::Vec3
                | Self::Vec4
                | Self::ThingCode
                | Self::Nothing
        )
    }
}
