//! The hub's own authority, for Microsoft's Event Hubs SDK.
//!
//! The SDK trusts what the operating system trusts and takes no certificate by its interface, only by
//! the variable `SSL_CERT_FILE` that its TLS library reads. A process cannot safely change its own
//! environment while threads run, so it becomes a new one with the variable set.

use std::{env, io, os::unix::process::CommandExt, process::Command};

use connector_config::Settings;

/// What the SDK's TLS library reads.
const VARIABLE: &str = "SSL_CERT_FILE";

/// Goes on if the SDK trusts what `iotHub.tls.ca` says; else this process becomes one that does.
/// Without the setting the variable stays as it is.
///
/// # Errors
/// If the program could not be started again.
pub fn established(settings: &Settings) -> io::Result<()> {
    let Some(ca) = settings
        .iot_hub
        .tls
        .as_ref()
        .and_then(|tls| tls.ca.as_ref())
    else {
        return Ok(());
    };
    if env::var_os(VARIABLE).is_some_and(|trusted| trusted == ca.file.as_os_str()) {
        return Ok(());
    }
    // Returns only if it failed.
    Err(Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(VARIABLE, &ca.file)
        .exec())
}
