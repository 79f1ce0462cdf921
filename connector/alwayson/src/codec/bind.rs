//! Login and binding.

use std::fmt;

use super::{
    error::{DecodeError, EncodeError},
    strings::Names,
    wire::{Reader, put_str},
};

/// What proves who somebody is, such as `appKey`.
#[derive(Clone, PartialEq, Eq)]
pub struct Claim {
    /// Name of the claim: `appKey`, `userid`, `password`.
    pub name: String,
    /// Its value, a secret.
    pub value: String,
}

/// The claims of a login, in order; at most 255.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Claims(Names);

impl Claims {
    /// The claims in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut texts = self.0.iter();
        std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
    }

    /// The value of a claim.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(one, _)| *one == name)
            .map(|(_, value)| value)
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let count = self.0.len() / 2;
        let byte = u8::try_from(count).map_err(|_| EncodeError::Count {
            what: "claims",
            count,
            max: 255,
        })?;
        out.push(byte);
        out.extend_from_slice(self.0.packed());
        Ok(())
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = usize::from(reader.u8("a count of claims")?);
        Names::read(reader, count * 2, "a claim").map(Self)
    }
}

impl FromIterator<Claim> for Claims {
    fn from_iter<T: IntoIterator<Item = Claim>>(claims: T) -> Self {
        let claims: Vec<Claim> = claims.into_iter().collect();
        let texts = claims
            .iter()
            .flat_map(|claim| [claim.name.as_str(), claim.value.as_str()]);
        Self(texts.collect())
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|(name, _)| name))
            .finish()
    }
}

/// The Thing of whoever binds: made by the platform from a template if it does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Name of the Thing.
    pub name: String,
    /// Name of the Thing Template, which must implement the Thing Shape `Gateway`.
    pub template: String,
}

/// A bind or an unbind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bind {
    /// The gateway part.
    pub gateway: Option<Gateway>,
    /// Names of Things, or `*` and an identifier; at most 65,535.
    pub names: Names,
}

impl Bind {
    /// A bind of these names.
    pub fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            gateway: None,
            names: names.into_iter().collect(),
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match &self.gateway {
            None => out.push(0),
            Some(Gateway { name, template }) => {
                out.push(1);
                put_str(out, name);
                put_str(out, template);
            }
        }
        let count = self.names.len();
        let max = usize::from(u16::MAX);
        let short = u16::try_from(count).map_err(|_| EncodeError::Count {
            what: "names to bind",
            count,
            max,
        })?;
        out.extend(short.to_be_bytes());
        out.extend_from_slice(self.names.packed());
        Ok(())
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let gateway = match reader.flag("the marker of a gateway")? {
            true => Some(Gateway {
                name: reader.str("a gateway's name")?.to_owned(),
                template: reader.str("a gateway's template")?.to_owned(),
            }),
            false => None,
        };
        let count = usize::from(reader.u16("a count of names")?);
        Ok(Self {
            gateway,
            names: Names::read(reader, count, "a name")?,
        })
    }
}
