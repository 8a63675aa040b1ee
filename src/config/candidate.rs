//! `shadow`: another configuration that is tried beside this one, and how it differs.

use std::{
    fmt::{self, Display},
    sync::Arc,
};

use super::{
    Config, Listener, TrustProfile,
    certificates::Surroundings,
    reader::Reader,
    summary::{describe_decisions, describe_profile, line},
};

/// The candidate, loaded whole; its errors and warnings are those of the file that names it.
pub(super) fn read(
    around: Surroundings<'_>,
    root: &mut Reader<'_>,
    listeners: &[Arc<Listener>],
) -> Option<Box<Config>> {
    let name = root.string("shadow")?;
    let report = around.report;
    if around.is_candidate {
        let problem = "is for the configuration that serves; a candidate has no candidate";
        report.error(&name.at, format_args!("{problem}, take the line out"));
        return None;
    }
    let (path, data) = around.read(&name)?;
    let Ok(text) = std::str::from_utf8(&data.bytes) else {
        let path = path.display();
        report.error(&name.at, format_args!("{path} is not UTF-8; TOML is UTF-8 text"));
        return None;
    };
    let candidate = match Config::parse_as(true, text, &path, around.files, around.now) {
        Ok(candidate) => candidate,
        Err(errors) => {
            let path = path.display();
            report.error(&name.at, format_args!("the candidate {path} has errors, which follow"));
            report.adopt(&name.at, errors);
            return None;
        }
    };
    for listener in listeners {
        if !candidate.listeners.iter().any(|other| other.name == listener.name) {
            let (path, name_of) = (path.display(), &listener.name);
            let problem = "so nothing is tried there";
            report.warn(&name.at, format_args!("{path} has no listener {name_of}, {problem}"));
        }
    }
    report.adopt_warnings(&name.at, &candidate.warnings);
    Some(Box::new(candidate))
}

/// Says for `check` which candidate is tried, and in what it would decide otherwise.
pub(super) fn describe(f: &mut fmt::Formatter<'_>, config: &Config) -> fmt::Result {
    let Some(candidate) = &config.shadow else { return Ok(()) };
    let mut differences = String::new();
    for listener in &config.listeners {
        let other = candidate.listeners.iter().find(|other| other.name == listener.name);
        let name = format!("listener {}", listener.name);
        match other {
            None => differences.push_str(&format!("  {name}: not in the candidate\n")),
            Some(other) => {
                push_difference(&mut differences, &name, [listener, other].map(decisions))
            }
        }
    }
    for (name, profile) in &config.trust {
        if let Some(other) = candidate.trust.get(name) {
            let sections = [profile, other].map(|profile| section(Profile(profile)));
            push_difference(&mut differences, &format!("trust {name}"), sections);
        }
    }
    for (name, profile) in
        candidate.trust.iter().filter(|(name, _)| !config.trust.contains_key(*name))
    {
        let sections = [Vec::new(), section(Profile(profile))];
        push_difference(&mut differences, &format!("trust {name}"), sections);
    }
    let source = candidate.source.display();
    if differences.is_empty() {
        return line(f, "shadow", format_args!("{source}, which decides as this one does"));
    }
    line(f, "shadow", format_args!("{source}, which serves nobody, and differs in:"))?;
    f.write_str(&differences)
}

struct Profile<'c>(&'c TrustProfile);

impl Display for Profile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe_profile(f, self.0)
    }
}

struct Decisions<'c>(&'c Listener);

impl Display for Decisions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe_decisions(f, self.0)
    }
}

fn decisions(listener: &Arc<Listener>) -> Vec<String> {
    section(Decisions(listener))
}

fn section(of: impl Display) -> Vec<String> {
    of.to_string().lines().map(str::to_owned).collect()
}

/// The lines that only one of the two has.
fn push_difference(out: &mut String, name: &str, [ours, theirs]: [Vec<String>; 2]) {
    let gone = ours.iter().filter(|line| !theirs.contains(line)).map(|line| ('-', line));
    let new = theirs.iter().filter(|line| !ours.contains(line)).map(|line| ('+', line));
    let mut changed = gone.chain(new).peekable();
    if changed.peek().is_some() {
        out.push_str(&format!("  {name}\n"));
    }
    for (sign, line) in changed {
        out.push_str(&format!("    {sign} {}\n", line.trim_start()));
    }
}
