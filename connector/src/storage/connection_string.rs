//! The connection string of an Azure Storage account.
//!
//! Its parts as Microsoft Learn: "Configure Azure Storage connection strings" tells them. Parts of other
//! services (`QueueEndpoint` and so on) are let through: the portal puts them into every string.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use iothub::{ConnectionStringError, ConnectionStringParts, SecretKey};
use url::Url;

const FORM: &str = "DefaultEndpointsProtocol=https;AccountName=…;AccountKey=…;\
                    EndpointSuffix=core.windows.net, or BlobEndpoint=https://…;SharedAccessSignature=…";
/// The public cloud's.
const SUFFIX: &str = "core.windows.net";
const KNOWN: [&str; 14] = [
    "DefaultEndpointsProtocol",
    "AccountName",
    "AccountKey",
    "EndpointSuffix",
    "SharedAccessSignature",
    "BlobEndpoint",
    "BlobSecondaryEndpoint",
    "QueueEndpoint",
    "QueueSecondaryEndpoint",
    "TableEndpoint",
    "TableSecondaryEndpoint",
    "FileEndpoint",
    "FileSecondaryEndpoint",
    "DfsEndpoint",
];

/// An account and how to get in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConnectionString {
    /// Name of the account.
    pub account: String,
    /// The account's blobs, without `/` at the end.
    pub endpoint: Url,
    /// What opens it.
    pub access: Access,
}

/// What opens an account. Hidden in `Debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// A key of the account.
    Key(SecretKey),
    /// A shared access signature: the query of a URL, without `?`.
    Signature(SecretKey),
}

impl FromStr for StorageConnectionString {
    type Err = ConnectionStringError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = ConnectionStringParts::read(text, FORM)?;
        parts.refuse(
            "UseDevelopmentStorage",
            "write out what it stands for: AccountName, AccountKey and BlobEndpoint",
        )?;
        parts.only(&KNOWN)?;
        let access = match (
            parts.find("AccountKey")?,
            parts.find("SharedAccessSignature")?,
        ) {
            (Some(_), Some(_)) => {
                return Err(ConnectionStringError::Unsuitable {
                    part: "SharedAccessSignature",
                    why: "it has AccountKey as well; give one of the two",
                });
            }
            (Some(key), None) => Access::Key(account_key(key)?),
            (None, Some(signature)) => Access::Signature(shared_access(signature)?),
            (None, None) => return Err(missing("AccountKey")),
        };
        let endpoint = endpoint(&parts)?;
        // What is signed is the way on the wire, so it may lie open; a signature may not.
        if endpoint.scheme() == "http" && matches!(access, Access::Signature(_)) {
            return Err(ConnectionStringError::Unsuitable {
                part: "SharedAccessSignature",
                why: "it would be readable on the way; use https",
            });
        }
        let account = match parts.find("AccountName")? {
            Some(name) => account_name(name)?,
            None => account_name(&named_by(&endpoint))?,
        };
        Ok(Self {
            account,
            endpoint,
            access,
        })
    }
}

impl fmt::Display for StorageConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "storage account {}", self.account)
    }
}

fn missing(part: &'static str) -> ConnectionStringError {
    ConnectionStringError::Missing { part, form: FORM }
}

fn invalid(part: &'static str, why: &'static str) -> ConnectionStringError {
    ConnectionStringError::Invalid { part, why }
}

fn account_key(key: &str) -> Result<SecretKey, ConnectionStringError> {
    if STANDARD.decode(key).is_ok_and(|key| !key.is_empty()) {
        return Ok(SecretKey::new(key));
    }
    Err(invalid(
        "AccountKey",
        "is not base64; copy it again from the portal",
    ))
}

fn shared_access(signature: &str) -> Result<SecretKey, ConnectionStringError> {
    let query = signature.trim_start_matches('?');
    let has = |name: &str| query.split('&').any(|pair| pair.starts_with(name));
    if has("sig=") && has("sv=") {
        return Ok(SecretKey::new(query));
    }
    Err(invalid(
        "SharedAccessSignature",
        "is no shared access signature: sv and sig must be in it",
    ))
}

/// Where the blobs are: as given, or as account and suffix make it.
fn endpoint(parts: &ConnectionStringParts<'_>) -> Result<Url, ConnectionStringError> {
    let (part, text) = match parts.find("BlobEndpoint")? {
        Some(endpoint) => ("BlobEndpoint", endpoint.trim_end_matches('/').to_owned()),
        None => {
            let account = account_name(parts.get("AccountName")?)?;
            let protocol = parts.find("DefaultEndpointsProtocol")?.unwrap_or("https");
            let suffix = parts.find("EndpointSuffix")?.unwrap_or(SUFFIX);
            let text = format!("{protocol}://{account}.blob.{suffix}");
            ("EndpointSuffix", text)
        }
    };
    let url = Url::parse(&text).map_err(|_| invalid(part, "makes no URL"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(invalid(part, "must be reached by https (or http)"));
    }
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !plain || url.host_str().is_none_or(str::is_empty) {
        return Err(invalid(part, "must be a plain URL, without user or query"));
    }
    Ok(url)
}

/// The account in a URL without `AccountName`: the first word of the host, or of the path where the host
/// is an address.
fn named_by(endpoint: &Url) -> String {
    let word = match endpoint.domain() {
        Some(host) => host.split('.').next(),
        None => endpoint.path_segments().and_then(|mut path| path.next()),
    };
    word.unwrap_or_default().to_owned()
}

fn account_name(name: &str) -> Result<String, ConnectionStringError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (3..=63).contains(&name.len()) && name.chars().all(plain) {
        return Ok(name.to_owned());
    }
    Err(invalid(
        "AccountName",
        "is no name of a storage account: lower-case letters and digits",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQ=";
    const SIGNATURE: &str = "sv=2025-01-05&sp=rcw&sig=c2VjcmV0LXNlY3JldA%3D%3D";

    fn read(text: &str) -> Result<StorageConnectionString, ConnectionStringError> {
        text.replace("KEY", KEY).replace("SAS", SIGNATURE).parse()
    }

    #[test]
    fn every_form_of_the_portal_is_read() {
        for (text, account, endpoint) in [
            (
                "DefaultEndpointsProtocol=https;AccountName=plant7;AccountKey=KEY;\
                 EndpointSuffix=core.windows.net\n",
                "plant7",
                "https://plant7.blob.core.windows.net/",
            ),
            (
                "AccountName=plant7;AccountKey=KEY",
                "plant7",
                "https://plant7.blob.core.windows.net/",
            ),
            (
                "BlobEndpoint=https://plant7.blob.core.chinacloudapi.cn/;\
                 QueueEndpoint=https://plant7.queue.core.chinacloudapi.cn/;SharedAccessSignature=?SAS",
                "plant7",
                "https://plant7.blob.core.chinacloudapi.cn/",
            ),
            (
                "AccountName=devstoreaccount1;AccountKey=KEY;\
                 BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;",
                "devstoreaccount1",
                "http://127.0.0.1:10000/devstoreaccount1",
            ),
            (
                "BlobEndpoint=https://127.0.0.1:10000/devstoreaccount1;SharedAccessSignature=SAS",
                "devstoreaccount1",
                "https://127.0.0.1:10000/devstoreaccount1",
            ),
        ] {
            let parsed = read(text).unwrap();
            assert_eq!(parsed.account, account, "{text}");
            assert_eq!(parsed.endpoint.as_str(), endpoint, "{text}");
            let expected = if text.contains("SAS") {
                Access::Signature(SecretKey::new(SIGNATURE))
            } else {
                Access::Key(SecretKey::new(KEY))
            };
            assert_eq!(parsed.access, expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for (text, says) in [
            ("", "no AccountKey"),
            ("AccountName=a77", "no AccountKey"),
            ("AccountKey=KEY", "no AccountName"),
            ("AccountName=a77;AccountKey=", "AccountKey is empty"),
            (
                "AccountName=a77;AccountKey=!KEY",
                "AccountKey of the connection string is not base64",
            ),
            ("AccountName=A b;AccountKey=KEY", "AccountName"),
            (
                "AccountName=a77;AccountKey=KEY;AccountKey=KEY",
                "AccountKey twice",
            ),
            (
                "AccountName=a77;AccountKey=KEY;SharedAccessSignature=SAS",
                "one of the two",
            ),
            (
                "AccountName=a77;SharedAccessSignature=sv=1&se=2",
                "sv and sig",
            ),
            (
                "BlobEndpoint=http://a77.blob/;SharedAccessSignature=SAS",
                "use https",
            ),
            (
                "BlobEndpoint=ftp://a77.blob/;AccountKey=KEY",
                "BlobEndpoint",
            ),
            (
                "BlobEndpoint=https://u:p@a77.blob/;AccountKey=KEY",
                "BlobEndpoint",
            ),
            ("BlobEndpoint=nonsense;AccountKey=KEY", "BlobEndpoint"),
            (
                "UseDevelopmentStorage=true",
                "UseDevelopmentStorage: write out",
            ),
            ("AccountName=a77;AccountKey=KEY;Colour=red", "\"Colour\""),
            (
                "HostName=h;SharedAccessKeyName=p;SharedAccessKey=KEY",
                "AccountName=…",
            ),
            ("AccountName=a77;secretsecret", "piece 2"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(
                !error.contains(&KEY[..10]) && !error.contains("secretsecret"),
                "{error}"
            );
        }
    }

    #[test]
    fn debug_hides_key_and_signature() {
        for text in [
            "AccountName=a77;AccountKey=KEY",
            "AccountName=a77;SharedAccessSignature=SAS",
        ] {
            let shown = format!("{:?}", read(text).unwrap());
            assert!(!shown.contains("c2VjcmV0"), "{shown}");
        }
    }
}
