//! A server of CRLs over HTTP that misbehaves as it is told.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{DEADLINE, free_port};

/// What it answers.
#[derive(Debug, Clone)]
pub enum Reply {
    /// These bytes, as HTTP wants it.
    Body(Vec<u8>),
    /// The same with an ETag, or 304 if the client has it.
    Tagged(Vec<u8>, &'static str),
    /// Half of these bytes, though all of them were announced.
    Cut(Vec<u8>),
    /// This status, and nothing.
    Status(u16),
    /// A redirect.
    Redirect(String),
    /// Nothing, ever.
    Silence,
    /// These bytes, one after the other with long pauses.
    Drip(Vec<u8>),
    /// The promise of a body with so many bytes.
    Announced(usize),
    /// A body that doesn't end.
    Endless,
    /// Something that isn't HTTP.
    Noise,
    /// The connection is closed at once.
    Close,
}

/// The server; it ends with the process, or when it is taken down.
pub struct CrlServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    reply: Reply,
    /// The heads of the requests.
    requests: Vec<String>,
    is_down: bool,
}

impl CrlServer {
    /// Serves `reply` for whatever is asked.
    pub fn start(reply: Reply) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let state = State { reply, requests: Vec::new(), is_down: false };
        let server = Self { address, state: Arc::new(Mutex::new(state)) };
        server.listen();
        server
    }

    fn listen(&self) {
        let listener = TcpListener::bind(self.address).unwrap();
        let state = Arc::clone(&self.state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if state.lock().unwrap().is_down {
                    return;
                }
                let state = Arc::clone(&state);
                // Whoever goes away in the middle is not this server's business.
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
    }

    /// A URL of it.
    pub fn url(&self) -> String {
        format!("http://{}/root.crl", self.address)
    }

    /// What it answers from now on.
    pub fn answer(&self, reply: Reply) {
        self.state.lock().unwrap().reply = reply;
    }

    /// Nobody listens any more.
    pub fn down(&self) {
        self.state.lock().unwrap().is_down = true;
        // The listener sees it with the next connection, and is gone.
        drop(TcpStream::connect(self.address));
        while TcpStream::connect(self.address).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Listens again.
    pub fn up(&self) {
        self.state.lock().unwrap().is_down = false;
        self.listen();
    }

    /// The heads of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let reply = {
        let mut state = state.lock().unwrap();
        state.requests.push(head.clone());
        state.reply.clone()
    };
    match reply {
        Reply::Body(body) => answer(&mut stream, "", &body, body.len())?,
        Reply::Tagged(_, tag) if head.contains(&format!("if-none-match: \"{tag}\"")) => {
            stream.write_all(b"HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n")?;
        }
        Reply::Tagged(body, tag) => {
            answer(&mut stream, &format!("etag: \"{tag}\"\r\n"), &body, body.len())?;
        }
        Reply::Cut(body) => answer(&mut stream, "", &body[..body.len() / 2], body.len())?,
        Reply::Status(status) => {
            write!(stream, "HTTP/1.1 {status} Odd\r\ncontent-length: 0\r\n\r\n")?
        }
        Reply::Redirect(to) => {
            write!(stream, "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")?;
        }
        Reply::Silence => drop(stream.read(&mut [0])?),
        Reply::Drip(body) => {
            for byte in body {
                stream.write_all(&[byte])?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Reply::Announced(length) => answer(&mut stream, "", b"", length)?,
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            loop {
                stream.write_all(&[0x30; 65536])?;
            }
        }
        Reply::Noise => stream.write_all(b"SSH-2.0-noise\r\n\r\n\r\n")?,
        Reply::Close => {}
    }
    stream.shutdown(Shutdown::Both)
}

fn answer(stream: &mut TcpStream, more: &str, body: &[u8], length: usize) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/pkix-crl\r\n{more}\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    stream.write_all(body)
}
