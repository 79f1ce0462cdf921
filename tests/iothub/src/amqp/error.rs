//! Error conditions and how they are written.

use super::encode::Items;

/// Conditions by name. The `com.microsoft:` ones are those that Event Hubs and IoT Hub send.
pub(crate) mod condition {
    pub(crate) const DECODE_ERROR: &str = "amqp:decode-error";
    pub(crate) const DETACH_FORCED: &str = "amqp:link:detach-forced";
    pub(crate) const FRAMING_ERROR: &str = "amqp:connection:framing-error";
    pub(crate) const INTERNAL_ERROR: &str = "amqp:internal-error";
    pub(crate) const INVALID_FIELD: &str = "amqp:invalid-field";
    pub(crate) const LINK_REDIRECT: &str = "amqp:link:redirect";
    pub(crate) const MESSAGE_SIZE_EXCEEDED: &str = "amqp:link:message-size-exceeded";
    pub(crate) const NOT_ALLOWED: &str = "amqp:not-allowed";
    pub(crate) const NOT_FOUND: &str = "amqp:not-found";
    pub(crate) const RESOURCE_LIMIT_EXCEEDED: &str = "amqp:resource-limit-exceeded";
    pub(crate) const STOLEN: &str = "amqp:link:stolen";
    pub(crate) const UNATTACHED_HANDLE: &str = "amqp:session:unattached-handle";
    pub(crate) const UNAUTHORIZED_ACCESS: &str = "amqp:unauthorized-access";
    pub(crate) const ARGUMENT_ERROR: &str = "com.microsoft:argument-error";
    pub(crate) const SERVER_BUSY: &str = "com.microsoft:server-busy";
}

const ERROR: u8 = 0x1d;

/// An error as detach, end, close and rejected carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AmqpError {
    /// What kind.
    pub(crate) condition: &'static str,
    /// For people.
    pub(crate) description: String,
    /// For programs.
    pub(crate) info: Vec<(&'static str, String)>,
}

impl AmqpError {
    pub(crate) fn new(condition: &'static str, description: impl Into<String>) -> Self {
        Self {
            condition,
            description: description.into(),
            info: Vec::new(),
        }
    }

    pub(crate) fn with_info(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.info.push((key, value.into()));
        self
    }

    pub(super) fn write(&self, items: &mut Items<'_>) {
        items.described(ERROR, |error| {
            error.symbol(self.condition).string(&self.description);
            if self.info.is_empty() {
                error.null();
            } else {
                error.map(|map| {
                    for (key, value) in &self.info {
                        map.symbol(key).string(value);
                    }
                });
            }
        });
    }

    pub(super) fn write_or_null(error: Option<&Self>, items: &mut Items<'_>) {
        match error {
            Some(error) => error.write(items),
            None => {
                items.null();
            }
        }
    }
}
