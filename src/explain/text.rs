//! The answer for people.

use std::fmt::{self, Display, Write};

use super::{Answer, ServerName};
use crate::trust::{Alert, Shown, Step, Verdict};

/// Width of the column of labels.
const LABEL_WIDTH: usize = 22;

/// What stands before a line that is good, or isn't.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    good: &'static str,
    bad: &'static str,
}

impl Marks {
    /// For a terminal.
    pub const SIGNS: Self = Self { good: "\u{2713}", bad: "\u{2717}" };
    /// For everything else.
    pub const WORDS: Self = Self { good: "ok", bad: "NO" };

    fn of(self, good: bool) -> &'static str {
        if good { self.good } else { self.bad }
    }
}

impl Answer {
    /// The answer in words, ending with a newline.
    pub fn to_text(&self, marks: Marks) -> String {
        let mut out = String::new();
        // Writing to a String can't fail.
        let _ = self.write(&mut Writer { out: &mut out, marks });
        out
    }

    fn write(&self, to: &mut Writer<'_>) -> fmt::Result {
        let Self { listener, configuration, explanation, .. } = self;
        to.line(0, format_args!("listener {listener} of {configuration}, {}", explanation.at))?;
        if let Some(name) = &self.server_name {
            to.title("server name")?;
            write_server_name(to, name)?;
        } else if self.strict_server_name {
            to.title("server name")?;
            to.line(1, "only names of our certificates are accepted; --sni NAME looks at one")?;
        }
        to.title("what the client shows")?;
        if self.client_auth == "none" {
            to.line(1, "nothing: the listener asks for no certificate")?;
        } else if explanation.chain.is_empty() {
            to.line(1, "no certificate")?;
        }
        for (number, shown) in (1..).zip(&explanation.chain) {
            write_shown(to, number, shown)?;
        }
        to.title("what is looked at")?;
        let mut progress = Progress::default();
        for step in &explanation.steps {
            progress.write(to, step)?;
        }
        to.title("what comes of it")?;
        self.write_verdict(to)
    }

    fn write_verdict(&self, to: &mut Writer<'_>) -> fmt::Result {
        if self.server_name.as_ref().is_some_and(|name| !name.accepted) {
            to.check(1, false, "refused", "by its server name, before a certificate is asked for")?;
            to.line(1, "by its certificate it would be:")?;
        }
        match &self.explanation.verdict {
            Verdict::Admitted { peers, profile, name, listed, anchor, valid_until } => {
                to.check(1, true, "admitted", format_args!("by peers.{peers}"))?;
                to.field(1, "name", format_args!("{name}, listed as {listed}"))?;
                to.field(1, "CA", format_args!("{anchor} of trust.{profile}"))?;
                to.field(1, "valid until", valid_until)?;
                to.line(0, "")?;
                to.line(0, "whether the client has the key isn't checked here: a handshake does")
            }
            Verdict::Anonymous => to.check(1, true, "admitted", "anonymously"),
            Verdict::Refused { reason, detail, alert, advice } => {
                to.check(1, false, "refused", reason)?;
                to.field(1, "why", detail)?;
                to.field(1, "alert", describe(alert))?;
                to.field(1, "what to do", advice)
            }
        }
    }
}

fn describe(Alert { tls13, tls12 }: &Alert) -> String {
    if tls13 == tls12 { tls13.clone() } else { format!("{tls13}; in TLS 1.2 {tls12}") }
}

fn write_server_name(to: &mut Writer<'_>, name: &ServerName) -> fmt::Result {
    let ServerName { asked, accepted, certificates } = name;
    if *accepted {
        let files = certificates.join(" or ");
        return to.check(1, true, asked, format_args!("is shown {files}"));
    }
    to.check(1, false, asked, "is no name of our certificates, and the listener is strict")?;
    to.field(1, "alert", "unrecognized_name")
}

fn write_shown(to: &mut Writer<'_>, number: usize, shown: &Shown) -> fmt::Result {
    let Some(contents) = &shown.contents else {
        to.line(1, format_args!("{number}  can't be read"))?;
        return write_rest(to, shown);
    };
    let which = if number == 1 { " (its own)" } else { "" };
    to.line(1, format_args!("{number}  {}{which}", contents.subject))?;
    to.field(1, "issuer", &contents.issuer)?;
    to.field(1, "serial number", &contents.serial)?;
    to.field(1, "valid", format_args!("{} to {}", contents.not_before, contents.not_after))?;
    to.field(1, "key", format_args!("{}, signed with {}", contents.key, contents.signature))?;
    if !contents.names.is_empty() {
        to.field(1, "names", contents.names.join(", "))?;
    }
    write_rest(to, shown)
}

fn write_rest(to: &mut Writer<'_>, shown: &Shown) -> fmt::Result {
    if let Some(problem) = &shown.problem {
        to.field(1, "problem", problem)?;
    }
    to.field(1, "SHA-256", &shown.fingerprint)
}

/// Where the steps are: what is about a path stands below it, what is about a rule below that.
#[derive(Default)]
struct Progress {
    paths: usize,
    depth: usize,
}

impl Progress {
    fn write(&mut self, to: &mut Writer<'_>, step: &Step) -> fmt::Result {
        let depth = 1 + self.depth;
        match step {
            Step::Check { check, passed, detail } => {
                to.check(depth, *passed, check.title(), detail)
            }
            Step::Path { certificates, anchor, profiles } => {
                self.paths += 1;
                self.depth = 1;
                let mut subjects: Vec<&str> =
                    certificates.iter().map(|link| &*link.subject).collect();
                subjects.push(anchor);
                let of = profiles.iter().map(|profile| format!("trust.{profile}"));
                let of = of.collect::<Vec<_>>().join(", ");
                to.line(1, format_args!("path {}: {}", self.paths, subjects.join(" from ")))?;
                to.line(2, format_args!("its CA belongs to {of}"))
            }
            Step::Rule { peers, profile, bound } => {
                self.depth = 2;
                if *bound {
                    return to
                        .line(2, format_args!("peers.{peers}, for the CAs of trust.{profile}"));
                }
                to.line(2, format_args!("peers.{peers} has no say: it is for trust.{profile}"))
            }
            Step::Name { name, vouched_for, listed } => {
                let both = vouched_for.is_some() && listed.is_some();
                let vouched_for = match vouched_for {
                    Some(pattern) => format!("the CA may vouch for it by {pattern}"),
                    None => "the CA may not vouch for it".to_owned(),
                };
                let listed = match listed {
                    Some(pattern) => format!("listed as {pattern}"),
                    None => "not listed".to_owned(),
                };
                to.check(depth, both, name, format_args!("{listed}; {vouched_for}"))
            }
            Step::Nearest { listed, peers } => {
                to.line(2, format_args!("nearest is {listed} in peers.{peers}"))
            }
            Step::SetAside { reason, most_telling, .. } => {
                self.depth = 0;
                let kept = if *most_telling { ", the most telling objection so far" } else { "" };
                to.check(2, false, "path set aside", format_args!("{reason}{kept}"))
            }
        }
    }
}

struct Writer<'a> {
    out: &'a mut String,
    marks: Marks,
}

impl Writer<'_> {
    fn title(&mut self, title: &str) -> fmt::Result {
        writeln!(self.out, "\n{title}")
    }

    fn line(&mut self, depth: usize, text: impl Display) -> fmt::Result {
        writeln!(self.out, "{:1$}{text}", "", 2 * depth)
    }

    fn field(&mut self, depth: usize, label: &str, value: impl Display) -> fmt::Result {
        self.line(depth, format_args!("   {label:<LABEL_WIDTH$} {value}"))
    }

    fn check(&mut self, depth: usize, good: bool, label: &str, value: impl Display) -> fmt::Result {
        let mark = self.marks.of(good);
        self.line(depth, format_args!("{mark:<2} {label:<LABEL_WIDTH$} {value}"))
    }
}
