//! Log lines go to standard error through a thread of their own: a stalled reader of the log
//! never stalls a worker. When its queue is full, lines are dropped and counted.

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt;

use crate::config::{Log, LogFormat, LogLevel};

/// Lines that may wait for the log's reader.
const QUEUE_LINES: usize = 65_536;

/// Starts logging as configured. Keep the guard until the end: dropping it writes what waits.
/// A second call in one process changes nothing.
pub fn start(log: &Log) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE_LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    install(log, writer);
    report_panics();
    guard
}

/// A panic ends a single connection, silently but for this line.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let panic = panic.to_string();
        tracing::error!(panic, "our own fault: please report it");
    }));
}

fn install(log: &Log, writer: NonBlocking) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let lines = fmt().with_max_level(level).with_writer(writer).with_target(false);
    // An error means that logging was started before.
    let _ = match log.format {
        LogFormat::Text => {
            let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            tracing::subscriber::set_global_default(lines.with_ansi(terminal).finish())
        }
        LogFormat::Json => {
            tracing::subscriber::set_global_default(lines.json().flatten_event(true).finish())
        }
    };
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::fmt;

    /// Takes what is logged.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_name_can_neither_break_a_line_of_the_log_nor_fake_a_field_nor_move_the_cursor() {
        let written = Written::default();
        let writer = written.clone();
        let lines = fmt().with_writer(move || writer.clone()).with_ansi(false).with_target(false);
        tracing::subscriber::with_default(lines.finish(), || {
            let subject = Some("CN=a\" handshake=\"accepted\r\n\u{1b}[2K\u{202e}");
            tracing::info!(subject, "connection ended");
        });
        let line = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let line = line.strip_suffix('\n').unwrap();
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
        assert!(line.contains(r#"CN=a\" handshake=\"accepted"#), "{line:?}");
    }
}
