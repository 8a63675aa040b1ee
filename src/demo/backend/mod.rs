//! The demo's backend: it answers HTTP/1.1 with the identity that it was handed in the PROXY
//! header, and echoes whatever isn't HTTP.
//!
//! It listens on loopback in one thread of its own, and is a model of what a backend has to do,
//! not of how to do it fast.

mod http;
mod identity;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    time::{sleep, timeout},
};

use crate::proxy;
use http::Sniff;
use identity::Identity;

/// More wait in the kernel's accept queue. Each may hold a header of 64 KiB: 64 MiB at worst.
pub const MAX_CONNECTIONS: usize = 1024;
/// From accept to the end of the PROXY header.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// For each further read of an HTTP request that has begun, and each write.
pub const IO_TIMEOUT: Duration = Duration::from_secs(30);
/// Until the next request, or the next byte to echo: long enough to type it.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long a few letters that may become an HTTP method are held back before they are echoed.
const SNIFF_TIMEOUT: Duration = Duration::from_millis(200);
/// How long what a client still sends is read after a refusal, so that it sees the answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// Read at a time.
const READ_BYTES: usize = 16 * 1024;

/// A running backend; it ends, with its connections, when this is dropped.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    /// Dropping it tells the thread to end.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If the port, the runtime or the thread can't be had.
    pub fn start() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("demo-backend".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // An error says that the sender was dropped, which is how it is told.
                    _ = stopped => {}
                    () = accept_forever(listener) => {}
                }
            });
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // Before the join, or that would wait for ever.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was already reported on stderr.
            let _ = thread.join();
        }
    }
}

async fn accept_forever(listener: TcpListener) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(async move {
                    // The other side's business: a demo backend has nobody to tell.
                    let _ = converse(&stream).await;
                    drop(permit);
                });
            }
            // The peer gave up, or descriptors ran out: neither gets better by hurrying.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn converse(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    let Some(identity) = timeout(HEADER_TIMEOUT, read_header(stream, &mut buffer)).await?? else {
        return Ok(());
    };
    if is_http(stream, &mut buffer).await? {
        serve_http(stream, buffer, &identity).await
    } else {
        echo(stream, buffer).await
    }
}

/// Reads the PROXY header and leaves in `buffer` what follows it; `None` if the sender closed
/// before the header was whole.
async fn read_header(stream: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Identity>> {
    loop {
        let parsed = proxy::parse(buffer)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if let Some((header, length)) = parsed {
            let identity = Identity::from_header(&header);
            buffer.drain(..length);
            return Ok(Some(identity));
        }
        if read_more(stream, buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Reads until the bytes are a request line or can't become one.
async fn is_http(stream: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let patience = match http::sniff(buffer) {
            Sniff::Http => return Ok(true),
            Sniff::Other => return Ok(false),
            Sniff::Undecided if buffer.is_empty() => IDLE_TIMEOUT,
            Sniff::Undecided => SNIFF_TIMEOUT,
            Sniff::Method => IO_TIMEOUT,
        };
        match timeout(patience, read_more(stream, buffer)).await {
            Ok(read) => {
                if read? == 0 {
                    return Ok(false);
                }
            }
            Err(_) if buffer.is_empty() => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => return Ok(false),
        }
    }
}

async fn serve_http(
    stream: &TcpStream,
    mut buffer: Vec<u8>,
    identity: &Identity,
) -> io::Result<()> {
    loop {
        let request = match http::parse(&buffer) {
            Ok(Some((request, length))) => {
                buffer.drain(..length);
                request
            }
            Ok(None) => {
                let patience = if buffer.is_empty() { IDLE_TIMEOUT } else { IO_TIMEOUT };
                if timeout(patience, read_more(stream, &mut buffer)).await?? == 0 {
                    return Ok(());
                }
                continue;
            }
            Err(refusal) => {
                write_all(stream, &refusal.response()).await?;
                return linger(stream).await;
            }
        };
        if request.expects_continue && buffer.len() < request.body_bytes {
            write_all(stream, http::CONTINUE).await?;
        }
        while buffer.len() < request.body_bytes {
            if timeout(IO_TIMEOUT, read_more(stream, &mut buffer)).await?? == 0 {
                return Ok(());
            }
        }
        buffer.drain(..request.body_bytes);
        write_all(stream, &http::response(&request, identity)).await?;
        if !request.keep_alive {
            return linger(stream).await;
        }
    }
}

/// Gives back `buffer` and whatever comes, until the client has sent all.
async fn echo(stream: &TcpStream, mut buffer: Vec<u8>) -> io::Result<()> {
    loop {
        write_all(stream, &buffer).await?;
        buffer.clear();
        if timeout(IDLE_TIMEOUT, read_more(stream, &mut buffer)).await?? == 0 {
            // All is given back; closing sends the FIN.
            return Ok(());
        }
    }
}

/// Ends our direction, and reads on a little: closing with unread bytes would send a reset, which
/// may overtake the answer.
async fn linger(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).shutdown(Shutdown::Write)?;
    let drain = async {
        let mut rest = Vec::new();
        while read_more(stream, &mut rest).await? != 0 {
            rest.clear();
        }
        Ok(())
    };
    // Whoever still sends after that has had time to read.
    timeout(LINGER_TIMEOUT, drain).await.unwrap_or(Ok(()))
}

/// Appends what has come, at most [`READ_BYTES`]; 0 is the end of the stream.
async fn read_more(stream: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        // Room is made only once there is something to read: a waiting connection holds none.
        stream.readable().await?;
        let length = buffer.len();
        buffer.resize(length + READ_BYTES, 0);
        let read = stream.try_read(&mut buffer[length..]);
        buffer.truncate(length + read.as_ref().copied().unwrap_or(0));
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        timeout(IO_TIMEOUT, stream.writable()).await??;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
