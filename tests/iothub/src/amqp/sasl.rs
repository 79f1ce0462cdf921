//! The SASL layer: which mechanisms there are, and what a peer logs in with.

use bytes::{Bytes, BytesMut};

use super::{
    decode::{Fields, described, take_value, text},
    encode,
    error::{AmqpError, condition},
};

const MECHANISMS: u8 = 0x40;
const INIT: u64 = 0x41;
const OUTCOME: u8 = 0x44;

/// What Event Hubs and IoT Hub offer. `MSSBCBS` is Microsoft's name for "the token comes later, by
/// `$cbs`".
const OFFERED: [&str; 4] = ["MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL"];

/// What a peer logs in with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// No credentials yet: they come by `$cbs`.
    Anonymous,
    /// User and password.
    Plain {
        /// User.
        user: String,
        /// Password.
        password: String,
    },
}

pub(super) fn mechanisms(out: &mut BytesMut) {
    encode::described(out, MECHANISMS, |list| {
        list.symbols(&OFFERED);
    });
}

pub(super) fn outcome(out: &mut BytesMut, accepted: bool) {
    // 0 is ok, 1 an authentication error.
    encode::described(out, OUTCOME, |list| {
        list.ubyte(u8::from(!accepted)).null();
    });
}

/// Reads a `sasl-init`. `None` for a mechanism that is not offered.
pub(super) fn init(mut body: Bytes) -> Result<Option<Login>, AmqpError> {
    let broken = |what: &str| AmqpError::new(condition::DECODE_ERROR, what);
    let (code, value) = described(take_value(&mut body)?)?;
    if code != INIT {
        return Err(broken("a sasl-init was expected"));
    }
    let mut fields = Fields::of(value)?;
    let mechanism = fields.text(0).unwrap_or_default();
    Ok(match mechanism.as_str() {
        "MSSBCBS" | "ANONYMOUS" | "EXTERNAL" => Some(Login::Anonymous),
        "PLAIN" => {
            let response = text(&fields.take(1)).unwrap_or_default();
            // authzid NUL authcid NUL password (RFC 4616).
            let mut parts = response.splitn(3, '\0').skip(1);
            match (parts.next(), parts.next()) {
                (Some(user), Some(password)) => Some(Login::Plain {
                    user: user.to_owned(),
                    password: password.to_owned(),
                }),
                _ => None,
            }
        }
        _ => None,
    })
}
