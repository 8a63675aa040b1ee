//! What the loop does with sockets that wait, end, and are dropped.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    rc::Rc,
    time::Duration,
};

use super::{Io, Socket, run, spawn, watch};

/// Enough for anything on this machine; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(10);

fn pair() -> (Rc<Socket>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    theirs.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    (Socket::new(ours.into()), theirs)
}

fn is_cancelled(result: std::io::Result<()>) -> bool {
    result.is_err_and(|error| error.raw_os_error() == Some(libc::ECANCELED))
}

/// Lets the loop take note of what the kernel has to say.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[test]
fn an_end_that_comes_with_the_last_data_is_not_missed() {
    run(async {
        let (socket, mut peer) = pair();
        let mut buffer = [0; 64];
        assert_eq!(socket.try_read(&mut buffer).expect("nothing yet"), Io::WouldBlock);
        peer.write_all(b"last").expect("room");
        drop(peer);
        socket.readable().await.expect("data");
        assert_eq!(socket.try_read(&mut buffer).expect("data"), Io::Bytes(4));
        tokio::time::timeout(PATIENCE, socket.readable()).await.expect("it comes").expect("end");
        assert_eq!(socket.try_read(&mut buffer).expect("the end"), Io::Bytes(0));
    });
}

#[test]
fn a_stream_that_has_more_is_read_again_after_the_others_turn() {
    run(async {
        let (socket, mut peer) = pair();
        peer.write_all(&[7; 300]).expect("room");
        let (other, mut other_peer) = pair();
        other_peer.write_all(&[8; 300]).expect("room");
        let order = Rc::new(std::cell::RefCell::new(Vec::new()));
        for (name, socket) in [("one", socket), ("other", other)] {
            let order = order.clone();
            spawn(async move {
                let mut buffer = [0; 100];
                for _ in 0..3 {
                    socket.readable().await.expect("data");
                    assert_eq!(socket.try_read(&mut buffer).expect("data"), Io::Bytes(100));
                    order.borrow_mut().push(name);
                }
            });
        }
        while order.borrow().len() < 6 {
            a_moment().await;
        }
        let order = order.borrow();
        assert!(order.chunks(2).all(|turn| turn[0] != turn[1]), "{order:?}");
    });
}

#[test]
fn whoever_waits_to_read_or_to_write_wakes_when_the_socket_is_cancelled() {
    run(async {
        let (socket, _peer) = pair();
        while socket.try_write(&[0; 65_536]).expect("open") != Io::WouldBlock {}
        let (reading, writing) = (socket.clone(), socket.clone());
        let reads = tokio::task::spawn_local(async move { reading.readable().await });
        let writes = tokio::task::spawn_local(async move { writing.writable().await });
        a_moment().await;
        socket.cancel();
        assert!(is_cancelled(reads.await.expect("no panic")));
        assert!(is_cancelled(writes.await.expect("no panic")));
        assert!(is_cancelled(socket.readable().await));
    });
}

#[test]
fn a_revived_socket_is_read_from_again() {
    run(async {
        let (socket, mut peer) = pair();
        let reading = socket.clone();
        let reads = tokio::task::spawn_local(async move { reading.readable().await });
        a_moment().await;
        socket.cancel();
        assert!(is_cancelled(reads.await.expect("no panic")));
        socket.revive();
        peer.write_all(b"x").expect("room");
        tokio::time::timeout(PATIENCE, socket.readable()).await.expect("it comes").expect("data");
    });
}

#[test]
fn a_dropped_socket_is_closed_and_leaves_nothing_behind() {
    run(async {
        let before = watch::count();
        let (socket, mut peer) = pair();
        let reading = socket.clone();
        let reads = tokio::task::spawn_local(async move { reading.readable().await });
        a_moment().await;
        assert_eq!(watch::count(), before + 1);
        reads.abort();
        drop(socket);
        // Only a file that the kernel has let go of ends the peer's stream.
        let end = tokio::task::spawn_blocking(move || peer.read(&mut [0; 1]));
        assert_eq!(end.await.expect("no panic").expect("the end"), 0);
        a_moment().await;
        assert_eq!(watch::count(), before);
    });
}

#[test]
fn a_socket_that_is_dropped_before_its_wait_was_submitted_is_closed_too() {
    run(async {
        let (socket, mut peer) = pair();
        {
            let mut waits = std::pin::pin!(socket.readable());
            let once = std::future::poll_fn(|context| {
                std::task::Poll::Ready(waits.as_mut().poll(context).is_pending())
            });
            assert!(once.await);
        }
        drop(socket);
        let end = tokio::task::spawn_blocking(move || peer.read(&mut [0; 1]));
        assert_eq!(end.await.expect("no panic").expect("the end"), 0);
    });
}

#[test]
fn a_socket_that_is_dropped_while_data_comes_is_closed_too() {
    run(async {
        let before = watch::count();
        for _ in 0..100 {
            let (socket, mut peer) = pair();
            let reading = socket.clone();
            let writes = tokio::task::spawn_blocking(move || while peer.write(b"more").is_ok() {});
            reading.readable().await.expect("data");
            drop((socket, reading));
            // It only ends because the file is closed.
            tokio::time::timeout(PATIENCE, writes).await.expect("closed").expect("no panic");
        }
        a_moment().await;
        assert_eq!(watch::count(), before);
    });
}

#[test]
fn a_loop_that_ends_takes_what_still_waits_with_it() {
    let (kept, mut peer) = UnixStream::pair().expect("a pair of sockets");
    peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    run(async move {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let listening = Socket::new(listener.into());
        spawn(async move { drop(listening.accept().await) });
        let socket = Socket::new(kept.into());
        spawn(async move { drop(socket.readable().await) });
        a_moment().await;
    });
    // It goes on where the kernel interrupts it, which it does while a ring ends.
    assert_eq!(peer.read_to_end(&mut Vec::new()).expect("the end"), 0);
}
