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
    guard
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
