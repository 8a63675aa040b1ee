//! Watches: told of a socket each time that something came to read.
//!
//! A wait for data is what a connection does most. As a one-shot poll each would cost a submission
//! and the kernel's setting it up and taking it down; a watch is submitted once for a socket, and
//! completes again and again (a multishot poll). The runtime's own ring only takes one-shots, so
//! watches have a ring beside it, whose descriptor the runtime watches. While there is work, the
//! loop looks at the ring in memory and the runtime doesn't sleep, so that data that comes to many
//! connections is taken note of without a system call.
//!
//! What the kernel finds when it is told to stop watching is the user data, by a hash: ending
//! thousands of connections takes no search through all of them.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    os::fd::{AsRawFd, RawFd},
    task::{Context, Poll, Waker},
};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use slab::Slab;
use tokio::io::unix::AsyncFd;

use super::{
    setup::sized,
    socket::{push_entry, register},
};

/// Entries of the submission queue: new sockets and removals of one turn. A full queue is
/// submitted at once.
const MAX_SUBMISSION_ENTRIES: u32 = 512;

/// The user data of removals, whose completion nobody waits for.
const UNHEARD: u64 = u64::MAX;

/// What a watch asks for. POLLHUP and POLLERR always come along.
const WATCHED: i16 = libc::POLLIN | libc::POLLRDHUP;

/// The stream has ended, or broken: the kernel has no other news, and reading tells so at any time.
const ENDED: i16 = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;

thread_local! {
    static WATCHES: RefCell<Option<Watches>> = const { RefCell::new(None) };
}

/// Calls `f` with this thread's watches; `None` where there are none, or none any more.
fn with<R>(f: impl FnOnce(&mut Watches) -> R) -> Option<R> {
    WATCHES.with_borrow_mut(|watches| watches.as_mut().map(f))
}

/// What is known of a socket's incoming stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// All was read; the kernel tells when more comes.
    None,
    /// There is something to read.
    Some,
    /// The last read took all that it had room for: there may be more, after the others' turn.
    Perhaps,
    /// The same, and the reader waits for its turn.
    Waiting,
    /// The kernel can't watch, for this error.
    Failed(i32),
}

/// One socket.
#[derive(Debug)]
struct Watched {
    /// Who waits for news.
    waker: Option<Waker>,
    news: News,
    /// The stream has ended.
    ended: bool,
    /// The kernel watches, or will once the queue is submitted.
    armed: bool,
    /// The socket is gone, the kernel's last word isn't there yet.
    forgotten: bool,
    /// How often the queue had been submitted when the watch was queued.
    queued: u32,
}

/// All watches of a worker.
struct Watches {
    ring: IoUring,
    /// The index of each is its user data.
    sockets: Slab<Watched>,
    /// Those whose readers wait for their turn.
    again: Vec<usize>,
    /// Wakes [`drive`].
    waker: Option<Waker>,
    /// How often the queue was submitted.
    submitted: u32,
}

impl Watches {
    fn new() -> io::Result<Self> {
        let ring = sized(|entries| {
            IoUring::builder()
                .setup_coop_taskrun()
                .setup_single_issuer()
                .setup_cqsize(entries.completion)
                .build(entries.submission.min(MAX_SUBMISSION_ENTRIES))
        })?;
        let (sockets, again) = Default::default();
        Ok(Self { ring, sockets, again, waker: None, submitted: 0 })
    }

    /// Queues an entry for the next turn.
    fn queue(&mut self, entry: &squeue::Entry) {
        while !push_entry(&mut self.ring.submission(), entry) {
            self.submit();
        }
        self.wake_loop();
    }

    fn wake_loop(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Where it fails, for want of memory, entries stay queued for the next turn.
    fn submit(&mut self) {
        if self.ring.submit().is_ok() && self.ring.submission().is_empty() {
            self.submitted = self.submitted.wrapping_add(1);
        }
    }

    /// A turn of the loop: submits what is queued, and wakes those for whom there is news; how
    /// many there were. What couldn't be submitted counts too: the loop must not sleep on it.
    fn turn(&mut self) -> usize {
        let queue = self.ring.submission();
        // What didn't fit into the completion queue has to be asked for.
        let needed = !queue.is_empty() || queue.cq_overflow();
        drop(queue);
        if needed {
            self.submit();
        }
        let mut count = self.again.len() + self.ring.submission().len();
        for index in self.again.drain(..) {
            if let Some(watched) = self.sockets.get_mut(index)
                && watched.news == News::Waiting
            {
                watched.tell(News::Some);
            }
        }
        for completed in self.ring.completion() {
            count += 1;
            complete(&mut self.sockets, &completed);
        }
        count
    }

    fn arm(&mut self, index: usize, fd: RawFd) {
        let watch = opcode::PollAdd::new(types::Fd(fd), u32::from(WATCHED.cast_unsigned()))
            .multi(true)
            .build();
        self.queue(&watch.user_data(index as u64));
        // Queueing it may have submitted others before.
        self.sockets[index].queued = self.submitted;
    }
}

impl Watched {
    fn tell(&mut self, news: News) {
        self.news = news;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Takes note of a completion, and wakes who waits for it.
fn complete(sockets: &mut Slab<Watched>, completed: &cqueue::Entry) {
    let goes_on = cqueue::more(completed.flags());
    let Some(index) = usize::try_from(completed.user_data()).ok() else { return };
    // A removal has no entry.
    let Some(watched) = sockets.get_mut(index) else { return };
    if watched.forgotten {
        if !goes_on {
            sockets.remove(index);
        }
        return;
    }
    watched.armed = goes_on;
    match completed.result() {
        error @ ..0 => watched.tell(News::Failed(-error)),
        events => {
            watched.ended |= events & i32::from(ENDED) != 0;
            watched.tell(News::Some);
        }
    }
}

/// This thread's watches, as long as this lives. It must outlive all sockets.
pub(super) struct Installed;

impl Installed {
    /// Makes the ring.
    ///
    /// # Errors
    /// Those of `io_uring_setup`(2).
    pub(super) fn new() -> io::Result<Self> {
        let watches = Watches::new()?;
        WATCHES.with_borrow_mut(|place| *place = Some(watches));
        Ok(Self)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // The last sockets are gone, and shall be closed at once.
        with(Watches::submit);
        // What is left has no memory of ours.
        drop(WATCHES.take());
    }
}

/// The descriptor of a ring, for the runtime to sleep on.
pub(super) struct RingFd(RawFd);

impl AsRawFd for RingFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// Wakes those for whom there is news, without waiting for [`drive`]'s turn.
pub(super) fn look() {
    with(Watches::turn);
}

/// Goes round while there is news, each time behind the tasks that it woke; else it sleeps.
pub(super) async fn drive() {
    let Some(ring) = with(|watches| RingFd(watches.ring.as_raw_fd())) else { return };
    let ready: AsyncFd<RingFd> = register(ring).expect("a ring can be polled");
    poll_fn(|context| {
        loop {
            let news = with(|watches| {
                remember(&mut watches.waker, context);
                watches.turn()
            });
            if news.is_some_and(|count| count > 0) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            match ready.poll_read_ready(context) {
                Poll::Ready(Ok(mut guard)) => guard.clear_ready(),
                // The runtime is ending.
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

/// Remembers whom to wake.
fn remember(waker: &mut Option<Waker>, context: &Context<'_>) {
    match waker {
        Some(known) if known.will_wake(context.waker()) => {}
        _ => *waker = Some(context.waker().clone()),
    }
}

/// What a read leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing: the read said so.
    Nothing,
    /// Nothing but perhaps the stream's end: the read was short.
    End,
    /// Anything: the read was full.
    Perhaps,
}

/// Watches one socket. It must end before the descriptor is closed.
#[derive(Debug)]
pub(super) struct Watch(usize);

impl Watch {
    /// Begins to watch `fd`.
    ///
    /// # Panics
    /// Outside of [`super::run`].
    pub(super) fn begin(fd: RawFd) -> Self {
        let index = with(|watches| {
            let index = watches.sockets.insert(Watched {
                waker: None,
                news: News::None,
                ended: false,
                armed: true,
                forgotten: false,
                queued: 0,
            });
            watches.arm(index, fd);
            index
        });
        Self(index.expect("a socket waits on a worker's thread"))
    }

    /// Waits until there is something to read. One task at a time may wait for it.
    pub(super) fn poll(&self, fd: RawFd, context: &Context<'_>) -> Poll<io::Result<()>> {
        let news = with(|watches| {
            let watched = &mut watches.sockets[self.0];
            match watched.news {
                News::Some => return Poll::Ready(Ok(())),
                News::Failed(error) => {
                    watched.news = News::None;
                    return Poll::Ready(Err(io::Error::from_raw_os_error(error)));
                }
                News::None | News::Waiting | News::Perhaps => {}
            }
            remember(&mut watched.waker, context);
            if watched.news == News::Perhaps {
                watched.news = News::Waiting;
                watches.again.push(self.0);
                watches.wake_loop();
            } else if !watched.armed {
                watched.armed = true;
                watches.arm(self.0, fd);
            }
            Poll::Pending
        });
        news.unwrap_or(Poll::Pending)
    }

    /// Something was read; `rest` says what may still be there.
    pub(super) fn note(&self, rest: Rest) {
        with(|watches| {
            let watched = &mut watches.sockets[self.0];
            watched.news = match rest {
                Rest::Perhaps => News::Perhaps,
                // The kernel has told of the end, and won't again.
                Rest::End if watched.ended => News::Perhaps,
                Rest::End => News::None,
                Rest::Nothing => {
                    watched.ended = false;
                    News::None
                }
            };
        });
    }

    /// Wakes whoever waits.
    pub(super) fn wake(&self) {
        with(|watches| {
            if let Some(waker) = watches.sockets[self.0].waker.take() {
                waker.wake();
            }
        });
    }
}

impl Drop for Watch {
    /// The kernel holds on to the file that it watches: until it is told, nothing is closed.
    fn drop(&mut self) {
        with(|watches| {
            let watched = &mut watches.sockets[self.0];
            if !watched.armed {
                watches.sockets.remove(self.0);
                return;
            }
            watched.forgotten = true;
            watched.waker = None;
            let queued = watched.queued;
            // Not a removal of the poll, which gives up where data comes at the same moment.
            let removal = opcode::AsyncCancel::new(self.0 as u64).build();
            watches.queue(&removal.user_data(UNHEARD));
            // The kernel must see the descriptor while it still means this socket.
            if queued == watches.submitted {
                watches.submit();
            }
        });
    }
}

/// Sockets that the kernel watches for this thread.
#[cfg(test)]
pub(super) fn count() -> usize {
    with(|watches| watches.sockets.len()).unwrap_or(0)
}
