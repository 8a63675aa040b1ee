//! Programs that are run: never without a deadline.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use rustix::process::{Pid, Signal, kill_process};

use super::eventually;

/// Fails unless the program is there, and says which package of Debian has it.
pub fn require_tool(program: &str) {
    let package = match program {
        "sipp" => "sip-tester",
        "openssl" => "openssl",
        "haproxy" => "haproxy",
        "nginx" => "nginx-light and libnginx-mod-stream",
        "stunnel" => "stunnel4",
        "curl" => "curl",
        "prlimit" => "util-linux",
        other => other,
    };
    let found = std::env::var("PATH")
        .unwrap_or_default()
        .split(':')
        .chain(["/usr/sbin", "/usr/bin"])
        .any(|folder| std::path::Path::new(folder).join(program).is_file());
    assert!(found, "this test needs {program}: install Debian's package {package}");
}

/// A program that has ended.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Run {
    /// Runs it to its end, with nothing to read.
    pub fn of(command: &mut Command) -> Self {
        let mut process = Process::spawn(command);
        process.close_stdin();
        process.wait_end()
    }

    /// Holds it to exit code 0.
    pub fn succeeded(self) -> Self {
        assert!(self.status.success(), "{self:#?}");
        self
    }
}

/// How long what an ended program wrote may take to be collected.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(200);

type Collected = Arc<Mutex<Vec<u8>>>;

/// A program that runs, with its output collected as it comes. Dropping it kills it.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Collected,
    stderr: Collected,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts it.
    pub fn spawn(command: &mut Command) -> Self {
        require_tool_of(command.get_program());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (stdout, stderr) = (Collected::default(), Collected::default());
        let readers = vec![
            collect(child.stdout.take().unwrap(), stdout.clone()),
            collect(child.stderr.take().unwrap(), stderr.clone()),
        ];
        Self { stdin: child.stdin.take(), child, stdout, stderr, readers }
    }

    /// Writes to its standard input. It may have ended: then nothing happens.
    pub fn say(&mut self, bytes: &[u8]) {
        let _ = self.stdin.as_mut().expect("standard input is open").write_all(bytes);
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> String {
        text_of(&self.stdout)
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> String {
        text_of(&self.stderr)
    }

    /// Waits until its standard output holds `text`; fails when the program ends without it.
    pub fn wait_stdout(&mut self, text: &str) {
        let Self { child, stdout, stderr, .. } = self;
        let described = || format!("{}\nstandard error:\n{}", text_of(stdout), text_of(stderr));
        let mut ended = false;
        eventually(
            || format!("{text:?} in\n{}", described()),
            || {
                let found = text_of(stdout).contains(text).then_some(());
                // What it wrote last may come in a moment after its end.
                assert!(found.is_some() || !ended, "it ended without {text:?}:\n{}", described());
                if found.is_none() && child.try_wait().unwrap().is_some() {
                    std::thread::sleep(SETTLE);
                    ended = true;
                }
                found
            },
        );
    }

    /// Waits until its standard error holds `text`.
    pub fn wait_stderr(&self, text: &str) {
        eventually(
            || format!("{text:?} in\n{}\nstandard output:\n{}", self.stderr(), self.stdout()),
            || self.stderr().contains(text).then_some(()),
        );
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end; its standard input stays as it is.
    pub fn wait_end(mut self) -> Run {
        let status = eventually(
            || {
                let (stdout, stderr) = (text_of(&self.stdout), text_of(&self.stderr));
                format!("the program's end\n{stdout}\nstandard error:\n{stderr}")
            },
            || self.child.try_wait().unwrap(),
        );
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Run { status, stdout: text_of(&self.stdout), stderr: text_of(&self.stderr) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn require_tool_of(program: &OsStr) {
    if let Some(name) = program.to_str().filter(|name| !name.contains('/')) {
        require_tool(name);
    }
}

fn collect(mut from: impl Read + Send + 'static, into: Collected) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
            into.lock().unwrap().extend_from_slice(&buffer[..bytes]);
        }
    })
}

fn text_of(collected: &Collected) -> String {
    String::from_utf8_lossy(&collected.lock().unwrap()).into_owned()
}

/// Runs curl, silent but for errors, with a limit of its own.
pub fn curl<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    let mut command = Command::new("curl");
    Run::of(command.args(["--silent", "--show-error", "--max-time", "20"]).args(arguments))
}

/// Waits until something listens on that port of 127.0.0.1, without connecting to it.
pub fn wait_listening(port: u16) {
    const LISTEN: &str = "0A";
    let wanted = format!("0100007F:{port:04X}");
    eventually(
        || format!("a listener on port {port}"),
        || {
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            table
                .lines()
                .any(|line| {
                    let mut columns = line.split_whitespace().skip(1);
                    columns.next() == Some(&wanted) && columns.nth(1) == Some(LISTEN)
                })
                .then_some(())
        },
    );
}
