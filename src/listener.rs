//! Listening sockets: bind, accept, and what to do when accept fails.

use std::{
    cell::RefCell,
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use crate::{
    connection,
    generation::Service,
    handshake,
    metrics::AcceptError,
    ring::{self, Accepted, Socket},
    worker::Worker,
};

/// Connections that the kernel may keep for one socket until they are accepted
/// (`net.core.somaxconn` may lower it).
const BACKLOG: i32 = 4096;

/// Connections that are accepted at once, where many come. The ring hands over one for each of its
/// passes, of which there are fewer the more there is to compute: whoever isn't accepted can't be
/// turned away, and keeps those out that there is room for.
const ACCEPTS_A_PASS: usize = 8;

/// The first pause after running out of descriptors or memory; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Binds one socket for each of `workers` to `address`, all sharing the port (SO_REUSEPORT).
///
/// # Errors
/// Those of bind(2); `EADDRINUSE` also where another process already shares the port, which
/// SO_REUSEPORT alone would let pass.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    // Without SO_REUSEPORT this one fails where anybody else listens.
    drop(open(address, false)?);
    (0..workers)
        .map(|_| {
            let socket = open(address, true)?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

fn open(address: SocketAddr, share: bool) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    // Accepted connections inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A worker's open listening socket; dropping it stops accepting.
#[derive(Debug)]
pub struct Listening {
    socket: Rc<Socket>,
    service: Rc<RefCell<Arc<Service>>>,
}

impl Listening {
    /// Begins to accept.
    pub fn start(worker: &Rc<Worker>, socket: TcpListener, service: Arc<Service>) -> Self {
        let socket = Socket::new(socket.into());
        let service = Rc::new(RefCell::new(service));
        worker.accepts(true);
        ring::spawn(accept_all(worker.clone(), socket.clone(), service.clone()));
        Self { socket, service }
    }

    /// New connections get `service` from now on.
    pub fn serve(&self, service: Arc<Service>) {
        *self.service.borrow_mut() = service;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.socket.cancel();
    }
}

async fn accept_all(worker: Rc<Worker>, socket: Rc<Socket>, service: Rc<RefCell<Arc<Service>>>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match socket.accept().await {
            Ok(accepted) => {
                pause = FIRST_PAUSE;
                if !worker.door.is_crowded() {
                    begin(&worker, &service, accepted);
                } else {
                    // What a storm costs here is counted among its handshakes.
                    handshake::charge(|| {
                        begin(&worker, &service, accepted);
                        for accepted in socket.accept_more(ACCEPTS_A_PASS - 1) {
                            begin(&worker, &service, accepted);
                        }
                    });
                }
                continue;
            }
            Err(error) => error,
        };
        if error.raw_os_error() == Some(libc::ECANCELED) {
            break;
        }
        let whose = sort(&error);
        worker.process.metrics.accept_failed(whose);
        match whose {
            AcceptError::Peer => {}
            AcceptError::Resources | AcceptError::Other => {
                if pause == FIRST_PAUSE {
                    tracing::error!(
                        listener = &*service.borrow().config.name,
                        %error,
                        "can't accept; trying again. If descriptors ran out, raise LimitNOFILE= \
                         or lower limits.max_connections"
                    );
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    // Clients that the kernel has accepted for this socket would be reset by closing it.
    // No more than the queue holds: whoever keeps connecting must not keep the worker here.
    for _ in 0..BACKLOG {
        let Ok(accepted) = socket.accept_waiting() else { break };
        begin(&worker, &service, accepted);
    }
    worker.accepts(false);
}

fn begin(worker: &Rc<Worker>, service: &RefCell<Arc<Service>>, accepted: Accepted) {
    // Without admission the connection closes here, before anything was spent on it.
    if let Some(admission) = worker.door.admit(&accepted.socket, accepted.peer.ip()) {
        let service = service.borrow().clone();
        ring::spawn(connection::serve(worker.clone(), service, accepted, admission));
    }
}

/// Whose fault a failed accept was (accept(2) lists them); none ends the process.
fn sort(error: &io::Error) -> AcceptError {
    match error.raw_os_error() {
        Some(
            libc::ECONNABORTED
            | libc::EINTR
            | libc::EAGAIN
            | libc::EPROTO
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH
            | libc::EPERM,
        ) => AcceptError::Peer,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => AcceptError::Resources,
        _ => AcceptError::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_another_listener_shares_is_still_in_use() {
        let first = bind(([127, 0, 0, 1], 0).into(), 1).expect("a free port");
        let taken = first[0].local_addr().expect("bound");
        let error = bind(taken, 1).expect_err("the port is in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn failed_accepts_are_sorted_by_whose_fault_they_are() {
        let of = |code| sort(&io::Error::from_raw_os_error(code));
        assert_eq!(of(libc::ECONNABORTED), AcceptError::Peer);
        assert_eq!(of(libc::EMFILE), AcceptError::Resources);
        assert_eq!(of(libc::EBADF), AcceptError::Other);
    }
}
