//! What becomes of the process, and of its connections, when a part of it is lost.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::aws_lc_rs};
use tempfile::TempDir;

use super::{App, StartError};
use crate::{
    config::{Config, Disk},
    pki::{Authority, Spec, Validity},
    worker::Command,
};

/// A serving application in this process, and what a client needs.
struct Scene {
    app: App,
    address: SocketAddr,
    backend: TcpListener,
    ca: Authority,
    _folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let validity = Validity::from_now(Duration::from_secs(3600));
        let ca = Authority::root(&Spec::new("Contoso Root", validity)).unwrap();
        let server = Spec::new("www", validity).dns("www.contoso.test").server();
        let server = ca.issue(&server).unwrap();
        server.write(&file("server.pem"), &file("server.key")).unwrap();
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "[admin]\nlisten = \"off\"\n\
             [backends.app]\nservers = [\"{}\"]\n\
             [[listener]]\nname = \"main\"\nlisten = [\"{address}\"]\nclient_auth = \"none\"\n\
             certificates = [{{ chain = \"server.pem\", key = \"server.key\" }}]\n\
             backend = \"app\"\n",
            backend.local_addr().unwrap()
        );
        fs::write(file("countersign.toml"), text).unwrap();
        let config = Config::load(&file("countersign.toml")).unwrap();
        let app = App::start(&file("countersign.toml"), config, Disk::default()).unwrap();
        Self { app, address, backend, ca, _folder: folder }
    }

    fn connect(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "www.contoso.test".try_into().unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(tls, TcpStream::connect(self.address).unwrap())
    }
}

#[test]
fn a_worker_that_is_gone_ends_the_process_with_an_error() {
    let mut scene = Scene::new();
    let cpu = scene.app.workers[0].cpu;
    scene.app.workers[0].tell(Command::Stop);
    let lost = scene.app.serve().expect_err("it doesn't go on without the worker");
    assert!(matches!(lost, StartError::WorkerLost { cpu: lost } if lost == cpu), "{lost}");
    scene.app.drain(Duration::ZERO).expect("the others end in order");
}

#[test]
fn a_stream_that_a_stopped_worker_cut_has_no_end_for_the_backend() {
    let scene = Scene::new();
    let mut client = scene.connect();
    client.write_all(b"half of").unwrap();
    let (mut backend, _) = scene.backend.accept().unwrap();
    backend.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut begun = [0; 7];
    backend.read_exact(&mut begun).unwrap();
    scene.app.tell_all(|| Command::Stop);
    let end = backend.read(&mut begun).expect_err("no orderly end");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}
