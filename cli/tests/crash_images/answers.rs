//! What the server had told its callers at each moment of a record.
//!
//! The record holds the bytes that went through its connections. They are HTTP/2 frames; the DATA
//! frames of a stream are gRPC messages. So it is known exactly before which event an answer went out,
//! and nothing has to be guessed from when a caller saw it.

use crate::record::Event;
use std::collections::HashMap;

/// Follows connections, and collects the messages that went through them.
#[derive(Default)]
pub(crate) struct Answers {
    /// What was sent and is no whole frame yet.
    connections: HashMap<u64, Vec<u8>>,
    /// What came in DATA frames and is no whole message yet.
    streams: HashMap<(u64, u32), Vec<u8>>,
    /// Each message, with the first event after which it was out.
    pub(crate) sent: HashMap<Vec<u8>, usize>,
}

/// Length, type, flags and stream of a frame.
const FRAME_HEADER: usize = 9;
const DATA: u8 = 0;
const PADDED: u8 = 8;
/// Whether it is compressed, and its length.
const MESSAGE_HEADER: usize = 5;

impl Answers {
    pub(crate) fn follow(&mut self, at: usize, event: Event<'_>) {
        let Event::Sent { connection, data } = event else { return };
        let pending = self.connections.entry(connection).or_default();
        pending.extend(data);
        let mut frames = pending.as_slice();
        while let Some((header, rest)) = frames.split_at_checked(FRAME_HEADER) {
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8;
            let Some((payload, rest)) = rest.split_at_checked(length | usize::from(header[2]))
            else {
                break;
            };
            frames = rest;
            if header[3] == DATA {
                assert_eq!(header[4] & PADDED, 0, "the server pads its frames");
                let stream = u32::from_be_bytes(header[5..].try_into().unwrap());
                let message = self.streams.entry((connection, stream)).or_default();
                message.extend(payload);
                while let Some((header, rest)) = message.split_at_checked(MESSAGE_HEADER) {
                    assert_eq!(header[0], 0, "the server compresses");
                    let length = u32::from_be_bytes(header[1..].try_into().unwrap());
                    let Some((whole, rest)) = rest.split_at_checked(length as usize) else { break };
                    self.sent.entry(whole.to_vec()).or_insert(at);
                    *message = rest.to_vec();
                }
            }
        }
        *pending = frames.to_vec();
    }

    /// The server is gone, and its connections with it.
    pub(crate) fn process_ended(&mut self) {
        self.connections.clear();
        self.streams.clear();
    }
}
