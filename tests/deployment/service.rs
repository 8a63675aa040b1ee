//! The systemd unit.

use std::{fs, path::PathBuf, process::Command};

use super::tool;

/// The exposure that `systemd-analyze security` may find, in tenths (0 is none, 100 all).
const EXPOSURE_MAX_TENTHS: u32 = 20;

/// Where the unit expects the program.
const INSTALLED: &str = "/usr/local/bin/countersign";

fn unit() -> String {
    tool::read("systemd/countersign.service")
}

/// The values of a setting, in order.
fn settings(name: &str) -> Vec<String> {
    let unit = unit();
    let prefix = format!("{name}=");
    unit.lines().filter_map(|line| line.strip_prefix(&prefix)).map(ToOwned::to_owned).collect()
}

fn setting(name: &str) -> String {
    let found = settings(name);
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found.into_iter().next().unwrap()
}

/// The unit as it would be with the program that was built just now installed.
fn unit_of_the_built_program() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("countersign.service");
    fs::write(&file, unit().replace(INSTALLED, env!("CARGO_BIN_EXE_countersign"))).unwrap();
    (folder, file)
}

fn systemd_analyze(arguments: &[&str]) -> String {
    tool::run("systemd-analyze", "systemd", &tool::shipped("systemd"), arguments)
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let (_folder, file) = unit_of_the_built_program();
    let said = systemd_analyze(&["verify", "--man=no", file.to_str().unwrap()]);
    assert_eq!(said, "", "systemd-analyze verify has something to say");
}

#[test]
fn systemd_finds_the_service_well_contained() {
    let (_folder, file) = unit_of_the_built_program();
    let threshold = format!("--threshold={EXPOSURE_MAX_TENTHS}");
    let said = systemd_analyze(&[
        "security",
        "--offline=true",
        "--no-pager",
        &threshold,
        file.to_str().unwrap(),
    ]);
    assert!(said.contains("Overall exposure level for countersign.service"), "{said}");
}

#[test]
fn the_program_takes_the_commands_of_the_unit() {
    let commands = [settings("ExecStart"), settings("ExecReload")].concat();
    let mut own = 0;
    for command in commands {
        let words: Vec<_> = command.split(' ').collect();
        if words[0] != INSTALLED {
            continue;
        }
        own += 1;
        assert_eq!(words[2..], ["--config", "/etc/countersign/countersign.toml"], "{command}");
        let program = env!("CARGO_BIN_EXE_countersign");
        let output = Command::new(program).args([words[1], "--help"]).output().unwrap();
        assert!(output.status.success(), "{command}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("--config"), "{command}");
    }
    assert_eq!(own, 2);
}

#[test]
fn the_account_of_the_unit_is_the_one_that_is_shipped() {
    let folder = tempfile::tempdir().unwrap();
    let file = tool::shipped("systemd/countersign.sysusers");
    let root = format!("--root={}", folder.path().display());
    let arguments = ["--dry-run", &root, file.to_str().unwrap()];
    let said = tool::run("systemd-sysusers", "systemd", folder.path(), &arguments);
    let account = setting("User");
    assert!(said.contains(&format!("Creating user '{account}'")), "{said}");
    assert_eq!(setting("Group"), account);
}

#[test]
fn the_system_calls_of_io_uring_are_allowed_by_name() {
    let filters = settings("SystemCallFilter").join(" ");
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(filters.split(' ').any(|allowed| allowed == call), "{call}: {filters}");
    }
}

#[test]
fn the_system_calls_that_place_threads_are_allowed_by_name() {
    let filters = settings("SystemCallFilter").join(" ");
    for call in ["sched_setaffinity", "getpriority", "setpriority", "prlimit64"] {
        assert!(filters.split(' ').any(|allowed| allowed == call), "{call}: {filters}");
    }
}

#[test]
fn systemd_waits_longer_for_the_end_than_connections_may_take_to_drain() {
    let stop: u64 = setting("TimeoutStopSec").strip_suffix('s').unwrap().parse().unwrap();
    assert!(stop >= default("drain_timeout") + 5, "{stop} s");
}

#[test]
fn the_descriptors_of_the_unit_are_enough_for_the_default_number_of_connections() {
    let descriptors: u64 = setting("LimitNOFILE").parse().unwrap();
    assert!(descriptors >= 2 * default("max_connections") + 256, "{descriptors}");
}

/// A default of the configuration, as the first example states it.
fn default(key: &str) -> u64 {
    let example = tool::read("config/countersign.toml");
    let line = example.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap()
}
