//! The bounded queue to the writer.

use super::message::Message;
use std::{
    collections::VecDeque,
    sync::{Arc, mpsc},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many messages wait at most; who comes then waits outside. Some batches' worth: more would only
/// make answers later.
pub(super) const WAITING_MAX: usize = 4096;

/// So many notes wait at most besides; they must never take the room of calls.
const NOTES_MAX: usize = 1024;

/// The writer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// The senders' side. The channel itself has no bound; the permits are it, because waiting for one
/// does not block a thread.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    room: Arc<Semaphore>,
    room_for_notes: Arc<Semaphore>,
    channel: mpsc::Sender<Queued>,
}

/// There is no room, or no writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotTaken;

#[derive(Debug)]
struct Queued {
    message: Message,
    /// Held until the writer takes the message. Stopping needs none.
    _room: Option<OwnedSemaphorePermit>,
}

/// The writer's side. Dropping it turns everybody away.
#[derive(Debug)]
pub struct Inbox {
    room: Arc<Semaphore>,
    channel: mpsc::Receiver<Queued>,
}

/// How long to wait for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: there is work.
    No,
    /// Until one comes, but no longer than this.
    AtMost(Duration),
    /// Until one comes.
    ForMessage,
}

/// Whether anybody can still send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Senders {
    /// There are some.
    Alive,
    /// There are none.
    AllGone,
}

pub(super) fn inbox() -> (Sender, Inbox) {
    let room = Arc::new(Semaphore::new(WAITING_MAX));
    let (sender, receiver) = mpsc::channel();
    let room_for_notes = Arc::new(Semaphore::new(NOTES_MAX));
    let sender = Sender { room: Arc::clone(&room), room_for_notes, channel: sender };
    (sender, Inbox { room, channel: receiver })
}

impl Sender {
    pub(super) async fn send(&self, message: Message) -> Result<(), Gone> {
        let permit = Arc::clone(&self.room).acquire_owned().await.map_err(|_| Gone)?;
        let queued = Queued { message, _room: Some(permit) };
        self.channel.send(queued).map_err(|_| Gone)
    }

    /// How many messages wait, or are about to be sent.
    pub(super) fn waiting(&self) -> usize {
        WAITING_MAX.saturating_sub(self.room.available_permits())
    }

    /// Sends what nobody waits for, if there is room.
    pub(super) fn note(&self, message: Message) -> Result<(), NotTaken> {
        let permit = Arc::clone(&self.room_for_notes).try_acquire_owned().map_err(|_| NotTaken)?;
        let queued = Queued { message, _room: Some(permit) };
        self.channel.send(queued).map_err(|_| NotTaken)
    }

    pub(super) fn stop(&self) {
        // If the writer is gone already there is nothing to stop.
        let _ = self.channel.send(Queued { message: Message::Stop, _room: None });
    }
}

impl Inbox {
    /// Waits, then takes what is there, up to `most` messages in all.
    pub fn receive(&self, wait: Wait, taken: &mut VecDeque<Message>, most: usize) -> Senders {
        let first = match wait {
            Wait::No => self.channel.try_recv().map_err(|error| match error {
                mpsc::TryRecvError::Empty => Senders::Alive,
                mpsc::TryRecvError::Disconnected => Senders::AllGone,
            }),
            Wait::AtMost(time) => self.channel.recv_timeout(time).map_err(|error| match error {
                mpsc::RecvTimeoutError::Timeout => Senders::Alive,
                mpsc::RecvTimeoutError::Disconnected => Senders::AllGone,
            }),
            Wait::ForMessage => self.channel.recv().map_err(|_| Senders::AllGone),
        };
        match first {
            Ok(queued) => taken.push_back(queued.message),
            Err(senders) => return senders,
        }
        while taken.len() < most
            && let Ok(queued) = self.channel.try_recv()
        {
            taken.push_back(queued.message);
        }
        Senders::Alive
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.room.close();
    }
}
