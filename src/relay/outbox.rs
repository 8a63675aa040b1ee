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
    /// A failed send left a record unfinished on the wire, or may have.
    broken: Cell<bool>,
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
        self.broken.get()
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

impl Hold<'_> {
    /// Sends what waits, then `batch` (which was sealed after it), then what was sealed
    /// meanwhile. Each byte that the client takes counts as activity of `session`.
    pub(super) async fn send(
        &self,
        client: &Rc<Socket>,
        session: &Session,
        batch: &[u8],
    ) -> io::Result<()> {
        self.0.broken.set(true);
        let mut batch = batch;
        loop {
            let first = self.0.take();
            if first.is_empty() && batch.is_empty() {
                break;
            }
            write_both(client, session, &first, batch).await?;
            batch = &[];
        }
        self.0.broken.set(false);
        Ok(())
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.held.set(false);
    }
}

/// Writes all of two pieces, as one segment where they fit.
async fn write_both(
    client: &Rc<Socket>,
    session: &Session,
    first: &[u8],
    second: &[u8],
) -> io::Result<()> {
    let mut written = 0;
    while written < first.len() + second.len() {
        let found = if let Some(rest) = first.get(written..).filter(|rest| !rest.is_empty()) {
            client.try_write_vectored(&[IoSlice::new(rest), IoSlice::new(second)])?
        } else {
            client.try_write(&second[written - first.len()..])?
        };
        match found {
            Io::Bytes(bytes) => {
                written += bytes;
                session.touch();
            }
            Io::WouldBlock => client.writable().await?,
        }
    }
    Ok(())
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
