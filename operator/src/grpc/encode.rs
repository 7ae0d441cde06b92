//! Policy into messages of linkerd2-proxy-api. Pure; the shapes are those that a stock proxy insists on.

pub mod destination;
mod http;
pub mod inbound;
mod meta;
pub mod outbound;

use bytes::{BufMut, Bytes};
use prost::Message;
use std::time::Duration;

/// Messages as they go over the wire, each behind its length.
pub fn wire(messages: &[impl Message]) -> Bytes {
    let length = messages.iter().map(|message| 5 + message.encoded_len()).sum();
    let mut wire = Vec::with_capacity(length);
    for message in messages {
        // Not compressed.
        wire.put_u8(0);
        wire.put_u32(message.encoded_len().try_into().expect("far below 4 GiB"));
        message.encode(&mut wire).expect("a Vec has room");
    }
    wire.into()
}

/// Durations of ours are far below what the wire can carry.
fn duration(duration: Duration) -> prost_types::Duration {
    duration.try_into().expect("within 10,000 years")
}
