//! What goes to the client, in the order in which it was sealed.
//!
//! Records must arrive in the order of their sequence numbers. The downward direction sends
//! batches of data; the upward one has to answer a KeyUpdate, and a session ticket waits from
//! the handshake. Those small records are sealed at once and wait here: they go ahead of the
//! next batch, and whoever holds the outbox sends what has gathered meanwhile before letting go.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::{self, IoSlice},
    rc::Rc,
    task::Poll,
};

use crate::{
    ring::{Io, Socket},
    sessions::Session,
};

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Sealed control records, in order, later than anything being sent.
    waiting: RefCell<Vec<u8>>,
    /// Among them is a KeyUpdate of ours.
    key_update_waits: Cell<bool>,
    /// Somebody sends.
    held: Cell<bool>,
    /// A send that is unfinished or failed may have left part of a record on the wire.
    mid_record: Cell<bool>,
    /// Nobody may begin to send.
    closed: Cell<bool>,
}

impl Outbox {
    /// Adds sealed control records behind everything that was sealed before.
    pub(super) fn append(&self, sealed: Vec<u8>) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() { *waiting = sealed } else { waiting.extend_from_slice(&sealed) }
    }

    /// Adds a sealed KeyUpdate.
    pub(super) fn append_key_update(&self, sealed: Vec<u8>) {
        self.append(sealed);
        self.key_update_waits.set(true);
    }

    /// Whether a KeyUpdate of ours is still to be sent; one that is being sent doesn't count,
    /// since the peer may answer it before we hear of the end of that.
    pub(super) fn holds_key_update(&self) -> bool {
        self.key_update_waits.get()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// What waits, to be sent now.
    pub(super) fn take(&self) -> Vec<u8> {
        self.key_update_waits.set(false);
        self.waiting.take()
    }

    /// Whether the wire may be in the middle of a record.
    pub(super) fn is_mid_record(&self) -> bool {
        self.mid_record.get()
    }

    /// Whether somebody sends.
    pub(super) fn is_held(&self) -> bool {
        self.held.get()
    }

    /// Lets every later [`Outbox::acquire`] fail.
    pub(super) fn close(&self) {
        self.closed.set(true);
    }

    /// Waits for the right to send. Only the downward direction waits; it is polled after the
    /// upward one in the same turn, so it sees at once when that lets go.
    pub(super) async fn acquire(&self) -> io::Result<Hold<'_>> {
        poll_fn(|_| {
            if self.closed.get() {
                return Poll::Ready(Err(io::Error::from_raw_os_error(libc::ECANCELED)));
            }
            self.try_acquire().map_or(Poll::Pending, |hold| Poll::Ready(Ok(hold)))
        })
        .await
    }

    /// The right to send, if nobody has it.
    pub(super) fn try_acquire(&self) -> Option<Hold<'_>> {
        // Lazily: a `Hold` that is made and dropped would let go for the one who has it.
        (!self.held.replace(true)).then(|| Hold(self))
    }
}

/// The right to send.
#[derive(Debug)]
pub(super) struct Hold<'a>(&'a Outbox);

impl<'a> Hold<'a> {
    /// Begins to send what waits, and a batch behind it.
    pub(super) fn parcel(self) -> Parcel<'a> {
        let first = self.0.take();
        Parcel { hold: self, first, written: 0 }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.held.set(false);
    }
}

/// What is being sent: control records, then a batch that was sealed after them.
#[derive(Debug)]
pub(super) struct Parcel<'a> {
    hold: Hold<'a>,
    first: Vec<u8>,
    /// Bytes of both that the client's socket has taken.
    written: usize,
}

impl Parcel<'_> {
    /// Sends as much as the socket takes now; whether that was all. `batch` is the same at each
    /// call. Each byte that the client takes counts as activity of `session`.
    pub(super) fn push(
        &mut self,
        client: &Socket,
        session: &Session,
        batch: &[u8],
    ) -> io::Result<bool> {
        self.hold.0.mid_record.set(true);
        let ahead = self.first.len();
        while self.written < ahead + batch.len() {
            let found = if self.written < ahead {
                let pieces = [IoSlice::new(&self.first[self.written..]), IoSlice::new(batch)];
                client.try_write_vectored(&pieces)?
            } else {
                client.try_write(&batch[self.written - ahead..])?
            };
            match found {
                Io::Bytes(bytes) => self.written += bytes,
                Io::WouldBlock => return Ok(false),
            }
            session.touch();
        }
        self.hold.0.mid_record.set(false);
        Ok(true)
    }

    /// Sends all of it, waiting where the socket is full, and what was sealed meanwhile.
    pub(super) async fn finish(
        mut self,
        client: &Rc<Socket>,
        session: &Session,
        batch: &[u8],
    ) -> io::Result<()> {
        let mut batch = batch;
        loop {
            while !self.push(client, session, batch)? {
                client.writable().await?;
            }
            if self.hold.0.is_empty() {
                return Ok(());
            }
            (self.first, self.written, batch) = (self.hold.0.take(), 0, &[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_in_vain_does_not_let_go_for_the_holder() {
        let outbox = Outbox::default();
        let hold = outbox.try_acquire();
        assert!(hold.is_some());
        assert!(outbox.try_acquire().is_none() && outbox.try_acquire().is_none());
        drop(hold);
        assert!(outbox.try_acquire().is_some());
    }

    #[test]
    fn a_key_update_that_is_being_sent_does_not_wait_any_more() {
        let outbox = Outbox::default();
        outbox.append_key_update(vec![1]);
        assert!(outbox.holds_key_update());
        assert_eq!(outbox.take(), [1]);
        assert!(!outbox.holds_key_update());
    }
}
