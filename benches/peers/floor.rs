//! The floor below every terminator: countersign's sockets and ring, and nothing between them.
//!
//! A plain TCP relay. What it costs is what connections and bytes cost on this machine before any
//! cryptography: a terminator can come close to it, and no closer than that.

use std::{fs, io, net::SocketAddr, path::Path, rc::Rc, time::Duration};

use countersign::ring::{self, BufferSize, Io, Pool, PoolLimits, Socket};
use socket2::{Domain, Protocol, SockAddr, Type};

/// After a failed accept.
const PAUSE: Duration = Duration::from_millis(1);

/// Serves the routes of a file, `LISTEN BACKEND` a line, until the process is ended.
pub(crate) fn serve(routes: &Path) -> io::Result<()> {
    let routes = fs::read_to_string(routes)?;
    ring::run(async {
        // Who listens can serve: not before there is a ring.
        let routes = routes.lines().map(route).collect::<io::Result<Vec<_>>>()?;
        let pool = Pool::new(PoolLimits::default());
        for (listener, backend) in routes {
            ring::spawn(accept_all(listener, backend, pool.clone()));
        }
        std::future::pending().await
    })
}

fn route(line: &str) -> io::Result<(Rc<Socket>, SockAddr)> {
    let malformed = || io::Error::other(format!("no route: {line:?}"));
    let (listen, backend) = line.split_once(' ').ok_or_else(malformed)?;
    let parse = |text: &str| text.parse::<SocketAddr>().map_err(|_| malformed());
    let listen = parse(listen)?;
    let socket =
        socket2::Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&listen.into())?;
    socket.listen(4096)?;
    Ok((Socket::new(socket.into()), parse(backend)?.into()))
}

async fn accept_all(listener: Rc<Socket>, backend: SockAddr, pool: Rc<Pool>) {
    loop {
        // A client that is gone before it was accepted is no reason to refuse the next one.
        let Ok(accepted) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (backend, pool) = (backend.clone(), pool.clone());
        ring::spawn(async move {
            // A connection that fails ends; the load counts it.
            let _ = relay(accepted.socket, backend, pool).await;
        });
    }
}

async fn relay(client: Rc<Socket>, address: SockAddr, pool: Rc<Pool>) -> io::Result<()> {
    let backend = Socket::open(&address)?;
    backend.options().set_tcp_nodelay(true)?;
    backend.connect(address).await?;
    let up = pump(client.clone(), backend.clone(), pool.clone());
    ring::spawn(async move {
        let _ = up.await;
    });
    pump(backend, client, pool).await
}

/// Moves one direction until its end, which is passed on.
async fn pump(from: Rc<Socket>, to: Rc<Socket>, pool: Rc<Pool>) -> io::Result<()> {
    loop {
        from.readable().await?;
        // An idle connection holds no buffer, as in the terminator.
        let mut buffer = pool.take(BufferSize::Large);
        match from.try_read(&mut buffer)? {
            Io::Bytes(0) => {
                to.finish();
                return Ok(());
            }
            Io::Bytes(bytes) => to.write_all(&buffer[..bytes]).await?,
            Io::WouldBlock => {}
        }
    }
}
