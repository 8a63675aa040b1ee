//! Any text is either a configuration or a list of errors with places; nothing panics, and a
//! configuration that is accepted describes itself.
#![no_main]

use std::{io, path::Path};

use countersign::config::{Config, FileData, Files};
use libfuzzer_sys::fuzz_target;

/// No file can be read, so that only the text decides.
struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &Path) -> io::Result<FileData> {
        Err(io::ErrorKind::NotFound.into())
    }
}

fuzz_target!(|text: &str| {
    match Config::parse(text, Path::new("/fuzz/countersign.toml"), &NoFiles, 1_800_000_000) {
        Ok(config) => assert!(!config.summary().is_empty()),
        Err(errors) => assert!(errors.iter().len() > 0 && !errors.to_string().is_empty()),
    }
});
