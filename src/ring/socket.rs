//! A stream socket owned by one worker.
#![allow(unsafe_code)]

use std::{
    cell::{Cell, OnceCell},
    future::poll_fn,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr,
    rc::Rc,
    task::{Context, Poll},
};

use io_uring::{opcode, squeue, types};
use socket2::{SockAddr, SockRef};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    check, check_len, op,
    watch::{Rest, RingFd, Watch},
};

/// What a non-blocking call found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Io {
    /// That many bytes moved; for a read, 0 is the end of the stream.
    Bytes(usize),
    /// Nothing can move now: wait for readiness.
    WouldBlock,
}

/// What there would be to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peek {
    /// Bytes.
    Bytes,
    /// Nothing yet.
    Nothing,
    /// Nothing any more: the peer has ended its stream, or is gone.
    Ended,
}

/// A connection as `accept` hands it over.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub socket: Rc<Socket>,
    /// The client's address.
    pub peer: SocketAddr,
}

/// A stream socket (TCP or Unix), connected or listening, used by one worker only.
#[derive(Debug)]
pub struct Socket {
    // Dropped before the descriptor, which the kernel holds on to while it watches it.
    watch: OnceCell<Watch>,
    fd: OwnedFd,
    /// Set by [`Socket::cancel`]: every later wait fails at once.
    cancelled: Cell<bool>,
    /// One-shot operations that wait on it now; never too few.
    waiting: Cell<u8>,
}

impl Socket {
    /// Takes over a descriptor; it must be in non-blocking mode or only be used through the
    /// methods here, which never block either way.
    pub fn new(fd: OwnedFd) -> Rc<Self> {
        let (watch, cancelled, waiting) = Default::default();
        Rc::new(Self { watch, fd, cancelled, waiting })
    }

    fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Borrows the descriptor for socket options.
    pub fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.fd)
    }

    /// Waits for a connection on a listening socket.
    ///
    /// # Errors
    /// Those of accept(2), `ECANCELED` after [`Socket::cancel`].
    pub async fn accept(self: &Rc<Self>) -> io::Result<Accepted> {
        self.live()?;
        let mut address = Box::new((MaybeUninit::<libc::sockaddr_storage>::zeroed(), SOCKADDR_MAX));
        let entry = opcode::Accept::new(
            types::Fd(self.raw()),
            address.0.as_mut_ptr().cast(),
            &raw mut address.1,
        )
        .flags(libc::SOCK_CLOEXEC)
        .build();
        self.waiting.update(|count| count.saturating_add(1));
        let (result, (_, address)) = op::submit(entry, (self.clone(), address)).await;
        self.waiting.update(|count| count.saturating_sub(1));
        let fd = result?;
        // JUSTIFICATION: the ring returns a bare number.
        // SAFETY: accept succeeded, so `fd` is an open descriptor that nothing else owns.
        let socket = Self::new(unsafe { OwnedFd::from_raw_fd(fd) });
        // JUSTIFICATION: the ring fills C memory that no safe type describes.
        // SAFETY: the storage was zeroed before the kernel wrote the address into it, and both
        // states are valid for this plain C structure.
        let storage = unsafe { address.0.assume_init() };
        let peer = socket_addr(storage, address.1)?;
        Ok(Accepted { socket, peer })
    }

    /// Takes a connection that the kernel has accepted already, on a socket that is about to be
    /// closed.
    ///
    /// # Errors
    /// Those of accept(2), `EAGAIN` when there is none left.
    pub fn accept_waiting(&self) -> io::Result<Accepted> {
        let listening = self.options();
        listening.set_nonblocking(true)?;
        let (socket, peer) = listening.accept()?;
        let peer = peer.as_socket().ok_or_else(not_ip)?;
        Ok(Accepted { socket: Self::new(socket.into()), peer })
    }

    /// Takes connections that the kernel has accepted already, as many as there are, but no more
    /// than `most`. While this goes on, nothing waits on the socket.
    pub fn accept_more(&self, most: usize) -> Vec<Accepted> {
        let more = (0..most).map_while(|_| self.accept_waiting().ok()).collect();
        // The ring would hand on that there is nothing, instead of waiting. What went wrong here
        // it finds as well.
        let _ = self.options().set_nonblocking(false);
        more
    }

    /// Connects a fresh socket of `address`' family.
    ///
    /// # Errors
    /// Those of socket(2) and connect(2), `ECANCELED` after [`Socket::cancel`].
    pub async fn connect(self: &Rc<Self>, address: SockAddr) -> io::Result<()> {
        self.live()?;
        let address = Box::new(address);
        let entry =
            opcode::Connect::new(types::Fd(self.raw()), address.as_ptr().cast(), address.len())
                .build();
        self.waiting.update(|count| count.saturating_add(1));
        let result = op::submit(entry, (self.clone(), address)).await.0.map(|_| ());
        self.waiting.update(|count| count.saturating_sub(1));
        result
    }

    /// Waits until a read would not block: data, the end of the stream, or an error. Where the
    /// last read took all that it had room for, this waits for the turn of others. One task at a
    /// time may wait here.
    ///
    /// # Errors
    /// `ECANCELED` after [`Socket::cancel`].
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_readable(context)).await
    }

    fn poll_readable(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        self.live()?;
        self.watch.get_or_init(|| Watch::begin(self.raw())).poll(self.raw(), context)
    }

    /// Waits until a write would not block.
    ///
    /// # Errors
    /// `ECANCELED` after [`Socket::cancel`].
    pub async fn writable(self: &Rc<Self>) -> io::Result<()> {
        self.live()?;
        let entry =
            opcode::PollAdd::new(types::Fd(self.raw()), u32::from(libc::POLLOUT.cast_unsigned()))
                .build();
        self.waiting.update(|count| count.saturating_add(1));
        let result = op::submit(entry, self.clone()).await.0.map(|_| ());
        self.waiting.update(|count| count.saturating_sub(1));
        result
    }

    /// Wakes everything that waits on this socket with `ECANCELED`, and lets every later wait
    /// fail at once. Reads and writes of what is ready still work, so that a last alert can be
    /// sent. Nothing is sent or closed by this.
    pub fn cancel(self: &Rc<Self>) {
        if self.cancelled.replace(true) {
            return;
        }
        if let Some(watch) = self.watch.get() {
            watch.wake();
        }
        // The kernel looks through all one-shots of the ring for each of these. They are few:
        // those that wait for data are none of them.
        let one = types::CancelBuilder::fd(types::Fd(self.raw()));
        let wanted = match self.waiting.get() {
            0 => return,
            1 => one,
            _ => one.all(),
        };
        drop(op::submit(opcode::AsyncCancel2::new(wanted).build(), self.clone()));
    }

    /// Makes waits possible again after [`Socket::cancel`], for the orderly end of a connection
    /// whose operations have all completed.
    pub fn revive(&self) {
        self.cancelled.set(false);
    }

    /// Whether it was cancelled, and not revived.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    fn live(&self) -> io::Result<()> {
        if self.is_cancelled() {
            Err(io::Error::from_raw_os_error(libc::ECANCELED))
        } else {
            Ok(())
        }
    }

    /// Reads what is there into `buffer`, which must not be empty.
    ///
    /// # Errors
    /// Those of recv(2), `EAGAIN` excepted.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<Io> {
        // JUSTIFICATION: std offers MSG_DONTWAIT nowhere; the C library's wrapper is a point of
        // thread cancellation, which cost 1% of a round trip.
        // SAFETY: pointer and length are those of a live, exclusively borrowed slice; no address
        // is asked for.
        let result = unsafe {
            libc::syscall(
                libc::SYS_recvfrom,
                self.raw(),
                buffer.as_mut_ptr(),
                buffer.len(),
                libc::MSG_DONTWAIT,
                ptr::null_mut::<libc::sockaddr>(),
                ptr::null_mut::<libc::socklen_t>(),
            )
        };
        self.note_read(check_len(result), buffer.len())
    }

    /// Looks at what a read would find, and leaves it there.
    pub fn peek(&self) -> Peek {
        let mut byte = [MaybeUninit::uninit()];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        match blocked(self.options().recv_with_flags(&mut byte, flags)) {
            Ok(Io::Bytes(1..)) => Peek::Bytes,
            Ok(Io::WouldBlock) => Peek::Nothing,
            Ok(Io::Bytes(0)) | Err(_) => Peek::Ended,
        }
    }

    /// Reads what is there into `buffers`, in their order.
    ///
    /// # Errors
    /// Those of recvmsg(2), `EAGAIN` excepted.
    pub fn try_read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<Io> {
        let mut message = empty_message();
        message.msg_iov = buffers.as_mut_ptr().cast();
        message.msg_iovlen = buffers.len();
        // JUSTIFICATION: std offers MSG_DONTWAIT nowhere.
        // SAFETY: IoSliceMut is ABI-compatible with iovec, the slices are live and exclusively
        // borrowed, and the message names nothing else.
        let result = unsafe {
            libc::syscall(libc::SYS_recvmsg, self.raw(), &raw mut message, libc::MSG_DONTWAIT)
        };
        let room = buffers.iter().map(|buffer| buffer.len()).sum();
        self.note_read(check_len(result), room)
    }

    /// What a read found says what the next wait has to wait for.
    fn note_read(&self, found: io::Result<usize>, room: usize) -> io::Result<Io> {
        if let Some(watch) = self.watch.get() {
            watch.note(match &found {
                Ok(bytes) if *bytes == room => Rest::Perhaps,
                Ok(_) => Rest::End,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Rest::Nothing,
                // Interrupted, or broken.
                Err(_) => Rest::Perhaps,
            });
        }
        blocked(found)
    }

    /// Writes as much of `bytes` as the socket takes now.
    ///
    /// # Errors
    /// Those of send(2), `EAGAIN` excepted; never a SIGPIPE.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<Io> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // JUSTIFICATION: as for reading.
        // SAFETY: pointer and length are those of a live slice; no address is given.
        let result = unsafe {
            libc::syscall(
                libc::SYS_sendto,
                self.raw(),
                bytes.as_ptr(),
                bytes.len(),
                flags,
                ptr::null::<libc::sockaddr>(),
                0,
            )
        };
        blocked(check_len(result))
    }

    /// Writes as much of `pieces`, in their order, as the socket takes now.
    ///
    /// # Errors
    /// Those of sendmsg(2), `EAGAIN` excepted; never a SIGPIPE.
    pub fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<Io> {
        let mut message = empty_message();
        message.msg_iov = pieces.as_ptr().cast_mut().cast();
        message.msg_iovlen = pieces.len();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // JUSTIFICATION: std offers MSG_NOSIGNAL | MSG_DONTWAIT nowhere.
        // SAFETY: IoSlice is ABI-compatible with iovec, the slices are live, and sendmsg only
        // reads through the pointers.
        let result = unsafe {
            let (call, socket) = (libc::SYS_sendmsg, self.raw());
            libc::syscall(call, socket, &raw const message, flags)
        };
        blocked(check_len(result))
    }

    /// Writes all of `bytes`, waiting where the socket is full.
    ///
    /// # Errors
    /// Those of send(2), `ECANCELED` after [`Socket::cancel`].
    pub async fn write_all(self: &Rc<Self>, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes)? {
                Io::Bytes(n) => bytes = &bytes[n..],
                Io::WouldBlock => self.writable().await?,
            }
        }
        Ok(())
    }

    /// Ends the outgoing stream (FIN). An error means that the connection is gone already.
    pub fn finish(&self) {
        // JUSTIFICATION: no owned std type fits both families here.
        // SAFETY: shutdown takes a descriptor, which is open as long as `self` lives.
        unsafe { libc::shutdown(self.raw(), libc::SHUT_WR) };
    }

    /// Makes the coming close a reset (RST) that discards what is unsent: the peer must not
    /// take this end for a clean one. Unix sockets know no reset; there it stays a close.
    pub fn reset_on_close(&self) {
        // An error means that the connection is gone already.
        let _ = self.options().set_linger(Some(std::time::Duration::ZERO));
    }

    /// Bytes that were sent and that the peer has not acknowledged yet, its end included.
    ///
    /// # Errors
    /// Those of ioctl(2).
    pub fn unacknowledged(&self) -> io::Result<usize> {
        let mut bytes: libc::c_int = 0;
        // JUSTIFICATION: no safe crate at hand offers SIOCOUTQ (TIOCOUTQ is the same number).
        // SAFETY: the request writes one int to the pointer, which is that of a live local.
        check(unsafe { libc::ioctl(self.raw(), libc::TIOCOUTQ, &raw mut bytes) })?;
        Ok(usize::try_from(bytes).unwrap_or(0))
    }

    /// The address that the client connected to.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.options().local_addr()?.as_socket().ok_or_else(not_ip)
    }
}

/// Queues `entry`, a poll or a removal; false if there is no room.
pub(super) fn push_entry(queue: &mut squeue::SubmissionQueue<'_>, entry: &squeue::Entry) -> bool {
    // JUSTIFICATION: io-uring can't know what an entry points to.
    // SAFETY: neither polls nor removals point to anything.
    unsafe { queue.push(entry).is_ok() }
}

/// Lets the runtime sleep on a ring.
pub(super) fn register(ring: RingFd) -> io::Result<AsyncFd<RingFd>> {
    // JUSTIFICATION: the ring lives where all tasks reach it, so that none can borrow from it.
    // SAFETY: a worker's ring is closed after the runtime and all that it holds.
    Ok(unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?)
}

const SOCKADDR_MAX: libc::socklen_t = {
    #[allow(clippy::cast_possible_truncation)] // 128 bytes
    let len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    len
};

fn empty_message() -> libc::msghdr {
    // JUSTIFICATION: msghdr has private padding on some targets and no constructor.
    // SAFETY: all zeroes is a valid msghdr: no name, no vectors, no control data.
    unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() }
}

fn socket_addr(storage: libc::sockaddr_storage, len: libc::socklen_t) -> io::Result<SocketAddr> {
    // JUSTIFICATION: socket2 can't know what the kernel wrote.
    // SAFETY: the kernel filled `storage` and told its length; sockaddr_storage of libc and of
    // socket2 are the same C structure.
    let address = unsafe {
        SockAddr::new(
            std::mem::transmute::<libc::sockaddr_storage, socket2::SockAddrStorage>(storage),
            len,
        )
    };
    address.as_socket().ok_or_else(not_ip)
}

fn not_ip() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not an internet address")
}

fn blocked(result: io::Result<usize>) -> io::Result<Io> {
    match result {
        Ok(n) => Ok(Io::Bytes(n)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Io::WouldBlock),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Io::WouldBlock),
        Err(error) => Err(error),
    }
}

impl Socket {
    /// Opens a TCP or Unix stream socket for [`Socket::connect`].
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open(address: &SockAddr) -> io::Result<Rc<Self>> {
        let flags = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        // JUSTIFICATION: socket2's constructor makes a second call for each flag.
        // SAFETY: socket(2) takes no pointers.
        let fd = check(unsafe { libc::socket(i32::from(address.family()), flags, 0) })?;
        // JUSTIFICATION: socket(2) returns a bare number.
        // SAFETY: socket(2) succeeded, so `fd` is open and nothing else owns it.
        Ok(Self::new(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}
