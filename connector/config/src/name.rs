//! Names that ThingWorx gives meaning to.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The longest name that every AlwaysOn peer can read: the C SDK miscounts longer ones.
const MAX_BYTES: usize = 127;

/// Why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing, or only white space.
    #[error("is empty; give a name or leave the field out")]
    Empty,
    /// Longer than 127 bytes.
    #[error("is {0} bytes long; at most 127 are allowed")]
    TooLong(usize),
    /// White space at an end, or a control character.
    #[error("must not begin or end with white space nor hold control characters")]
    Malformed,
}

fn check(text: &str) -> Result<(), InvalidName> {
    if text.trim().is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(InvalidName::TooLong(text.len()));
    }
    if text.trim() != text || text.chars().any(char::is_control) {
        return Err(InvalidName::Malformed);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                // `check` as far as a schema can say it; `maxLength` counts characters, not bytes.
                json_schema!({
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_BYTES,
                    "pattern": r"^\S(.*\S)?$",
                })
            }
        }

        impl $name {
            /// Checks a text and takes it as a name.
            ///
            /// # Errors
            /// [`InvalidName`] if it is empty, longer than 127 bytes or malformed.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                check(&text)?;
                Ok(Self(text))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Name of a Thing on the platform.
    ThingName
}

name! {
    /// The name under which all pods of a connector bind the hub Thing. Never empty.
    RoutingGroup
}

impl From<ThingName> for RoutingGroup {
    /// The routing group of last resort is the hub Thing's own name.
    fn from(thing: ThingName) -> Self {
        Self(thing.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_not_empty_not_long_and_clean() {
        assert_eq!(RoutingGroup::new(""), Err(InvalidName::Empty));
        assert_eq!(RoutingGroup::new(" \t"), Err(InvalidName::Empty));
        assert_eq!(RoutingGroup::new(" a"), Err(InvalidName::Malformed));
        assert_eq!(RoutingGroup::new("a\nb"), Err(InvalidName::Malformed));
        assert_eq!(
            RoutingGroup::new("x".repeat(128)),
            Err(InvalidName::TooLong(128))
        );
        assert!(RoutingGroup::new("x".repeat(127)).is_ok());
        assert!(ThingName::new("Factory Hub 1").is_ok());
    }
}
