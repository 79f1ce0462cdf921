//! The face that devices connect to: MQTT 3.1.1.
//!
//! Source: Microsoft Learn, "Communicate with an IoT hub using the MQTT protocol". IoT Hub is no
//! broker: a device has a fixed set of topics, and nothing goes from device to device. The codec is
//! `mqttbytes`; [`Inbox`](inbox::Inbox) and [`Outbox`](outbox::Outbox) bound what a peer can make us
//! keep, [`Device`](device::Device) turns packets into calls of the hub and back, and [`serve`] alone
//! does I/O.
//!
//! Not here: last wills, uploads of files, certificates, MQTT 5.

mod bag;
mod device;
mod event;
mod inbox;
mod login;
mod outbox;
mod serve;
mod topic;

#[cfg(test)]
mod tests;

pub use serve::serve;

use mqttbytes::v4::ConnectReturnCode;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("a test asked for it")]
    Dropped,
    #[error("connected anew, disabled or deleted")]
    TakenOver,
    #[error("the token has expired")]
    Expired,
    #[error("no CONNECT in time")]
    NoConnect,
    #[error("nothing heard within the keep-alive time")]
    Idle,
    #[error("the peer does not read")]
    Stalled,
    #[error("refused: {0:?}")]
    Refused(ConnectReturnCode),
    #[error("DISCONNECT")]
    Disconnect,
    #[error("closed by the peer")]
    Closed,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("malformed packet: {0:?}")]
    Malformed(mqttbytes::Error),
    #[error("{0}")]
    Violation(&'static str),
}
