//! What a connection has been allowed by the tokens that it has put.

use super::{CBS, path_of, reply::Replies, unauthorized};
use crate::{
    amqp::{Body, Message, answer, lookup, text},
    hub::now_ms,
    sas::{SasError, covers},
};

/// Tokens of one connection.
#[derive(Debug, Default)]
pub(super) struct Grants(Vec<Grant>);

#[derive(Debug)]
struct Grant {
    /// Path below the host; empty for all.
    path: String,
    /// Unix seconds.
    expires: i64,
}

/// Tokens that one connection may hold: more are not for different entities.
const MAX: usize = 1024;

impl Grants {
    /// Takes a token for what lies below `path` that has been checked. A newer one for the same path
    /// takes the older's place.
    pub(super) fn add(&mut self, path: &str, expires: i64) {
        self.0.retain(|grant| grant.path != path);
        if self.0.len() >= MAX {
            self.0.remove(0);
        }
        self.0.push(Grant {
            path: path.to_owned(),
            expires,
        });
    }

    /// Takes a put-token request if `check` says of its token and path until when it is good, and
    /// answers with `accepted` or 401.
    pub(super) fn put(
        &mut self,
        mut message: Message,
        replies: &mut Replies,
        accepted: i32,
        check: impl FnOnce(&str, &str) -> Result<i64, SasError>,
    ) {
        let (id, to) = (message.id(), message.reply_to());
        let name = lookup(&message.application, "name").and_then(text);
        let name = name.unwrap_or_default();
        let token = match &message.body {
            Body::Value(value) => text(value).unwrap_or_default(),
            Body::Data(_) | Body::Empty => String::new(),
        };
        let path = path_of(&name);
        let bytes = match check(&token, path) {
            Ok(expires) => {
                self.add(path, expires);
                answer(&id, accepted, "OK", None)
            }
            Err(error) => {
                tracing::info!(name, %error, "token refused");
                answer(&id, 401, &unauthorized(error, &name).description, None)
            }
        };
        replies.push(CBS, to, bytes);
    }

    /// Whether `path` may be used now.
    pub(super) fn allow(&self, path: &str) -> bool {
        let now = now_ms() / 1000;
        self.0
            .iter()
            .any(|grant| grant.expires > now && covers(&grant.path, path))
    }

    /// Whether anything of `entity` may be used now: that is enough to ask what it is like. Microsoft's
    /// Rust client puts its token for `{entity}/ConsumerGroups/{group}/$management`.
    pub(super) fn allow_some_of(&self, entity: &str) -> bool {
        let now = now_ms() / 1000;
        self.0.iter().any(|grant| {
            grant.expires > now && (covers(&grant.path, entity) || covers(entity, &grant.path))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_allows_what_lies_below_it_until_it_expires() {
        let mut grants = Grants::default();
        assert!(!grants.allow("hub"));
        grants.add("hub", i64::MAX);
        assert!(grants.allow("hub/ConsumerGroups/g/Partitions/0"));
        assert!(!grants.allow("other"));
        assert!(grants.allow_some_of("hub") && !grants.allow_some_of("other"));
        grants.add("hub", 1);
        assert!(!grants.allow("hub"), "the newer token has expired");
        grants.add("", i64::MAX);
        assert!(grants.allow("other"));
    }
}
