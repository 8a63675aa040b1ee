//! The tools that read what is shipped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A file of the repository.
pub(crate) fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// The text of a file of the repository.
pub(crate) fn read(file: &str) -> String {
    fs::read_to_string(shipped(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Runs `tool` of the Debian package `package` in `folder`; what it said, on both channels, if
/// it succeeded.
pub(crate) fn run(tool: &str, package: &str, folder: &Path, arguments: &[&str]) -> String {
    run_with(Stdio::null(), tool, package, folder, arguments)
}

fn run_with(input: Stdio, tool: &str, package: &str, folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(tool)
        .args(arguments)
        .stdin(input)
        .current_dir(folder)
        .env("SYSTEMD_COLORS", "0")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap_or_else(|error| panic!("{tool} can't be run ({error}): install {package}"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{tool} {arguments:?}: {}\n{said}", output.status);
    said
}

/// Prometheus' own checker.
pub(crate) fn promtool(folder: &Path, arguments: &[&str]) -> String {
    run("promtool", "prometheus", folder, arguments)
}

/// The same, and it reads `input`.
pub(crate) fn promtool_reading(input: fs::File, arguments: &[&str]) -> String {
    run_with(input.into(), "promtool", "prometheus", Path::new("/"), arguments)
}
