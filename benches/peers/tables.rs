//! The tables for people, in Markdown.

use std::fmt::Write;

use super::{
    Peer,
    handshakes::plain_line,
    results::{Results, Series, Spread, digits},
    rows::{Row, Table},
    throughput::Throughput,
};

/// What the table in short says of a comparison of all work: names of lines, and titles.
const IN_SHORT: [(&str, &str); 7] = [
    ("full", "full mutual-TLS handshake, µs of CPU"),
    ("resumed", "resumed handshake, µs of CPU"),
    ("request", "1 KiB round trip on 64 connections, µs of CPU"),
    ("down", "bulk to the client, CPU-s a GB"),
    ("up", "bulk to the backend, CPU-s a GB"),
    ("idle", "an idle connection, kB"),
    ("beside-p50", "1 KiB round trip beside 4 downloads, p50, µs"),
];

/// All tables of a comparison.
pub(super) fn markdown(results: &Results) -> String {
    let mut text = opening(results);
    write_medians(results, &mut text);
    write_left_out(results, &mut text);
    match results.plan.table {
        Table::Work => {
            write_scaling(results, &mut text);
            write_throughput(results, &mut text);
        }
        Table::Handshakes => write_multiples(results, &mut text),
    }
    write_own_costs(results, &mut text);
    write_short(results, &mut text);
    text += "\nVersions:\n\n";
    for (peer, version) in &results.versions {
        let _ = writeln!(text, "- {peer}: {version}");
    }
    let _ = writeln!(text, "\nCommand: `{}`", results.command.trim_end_matches(" -- "));
    text
}

fn opening(results: &Results) -> String {
    let plan = &results.plan;
    let (title, work) = match plan.table {
        Table::Work => (
            "Termination cost",
            "X25519, P-256 certificates, client certificate required. A handshake is accept, \
             handshake, dial, one byte there and back, close.",
        ),
        Table::Handshakes => (
            "Handshakes",
            "client certificate required, P-256 keys where nothing else is said. A \
             handshake is accept, handshake, dial, one byte there and back, close; the floor does \
             the same without TLS, of which there is one kind. All clients show the same certificate, which a server may \
             remember; in rotation they show 64, each with a key of its own, which it may remember \
             as well; where each is new it has seen none of them.",
        ),
    };
    let base = plan.peers.contains(&Peer::Countersign) && plan.table == Table::Work;
    format!(
        "# {title}, {}\n\n{} CPUs of {}, Linux {}. Server on CPU 0, load and backends on CPU 1, \
         loopback; {}, {work} Medians of {} rounds of {:?} (lowest–highest); less is better.{} \
         Only ratios within this run count: absolute figures vary with the machine. Latencies hold \
         the share of the generator and the backends, which have one CPU together.\n\n",
        results.date,
        results.cpus,
        results.cpu,
        results.kernel,
        plan.cipher,
        plan.rounds,
        plan.scale.duration,
        if base { " Each ratio is countersign's median by the peer's." } else { "" },
    )
}

/// With ratios where all work is compared: below 1, countersign costs less.
fn write_medians(results: &Results, text: &mut String) {
    let peers = results.peers();
    let ratios = results.plan.table == Table::Work && peers.contains(&Peer::Countersign);
    let has_ratio = |peer: Peer| ratios && peer != Peer::Countersign;
    let header = peers.iter().fold("| |".to_owned(), |line, &peer| {
        line + &if has_ratio(peer) { format!(" {peer} | ratio |") } else { format!(" {peer} |") }
    });
    write_header(text, &header);
    for (_, line) in results.lines() {
        let _ = write!(text, "| {}, {} |", line.title, line.unit);
        for &peer in peers {
            let spread = results.spread(&line.name, Series::Peer(peer));
            let _ = write!(text, " {} |", cell(spread));
            if has_ratio(peer) {
                let own = results.spread(&line.name, Series::Peer(Peer::Countersign));
                let ratio = own.zip(spread).map(|(own, theirs)| own.median / theirs.median);
                let _ = write!(text, " {} |", plain(ratio));
            }
        }
        text.push('\n');
    }
}

fn write_left_out(results: &Results, text: &mut String) {
    for ((row, peer), why) in &results.left_out {
        let lines = row.lines(results.plan.scale);
        let titles: Vec<_> = lines.into_iter().map(|line| line.title).collect();
        let _ = writeln!(text, "\n–: {peer}, {}: left out, {why}.", titles.join("; "));
    }
}

/// How many times a handshake costs what others cost, by their medians.
fn write_multiples(results: &Results, text: &mut String) {
    if !results.peers().contains(&Peer::Countersign) {
        return;
    }
    *text += "\ncountersign's figure in those of as many plain connections (the floor), and the \
              others' figures in countersign's:\n\n";
    write_header(
        text,
        "| | to the floor | without crypto_mb | crypto_mb verifies too | nginx | the best other |",
    );
    for (_, line) in results.lines() {
        let median = |line: &str, peer| Some(results.spread(line, Series::Peer(peer))?.median);
        let own = median(&line.name, Peer::Countersign);
        let times = |peer| Some(median(&line.name, peer)? / own?);
        let floor = own.zip(median(&plain_line(&line.name), Peer::Floor));
        let others = results.peers().iter().filter(|peer| peer.is_other_terminator());
        let best = others
            .filter_map(|&peer| Some((peer, times(peer)?)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b));
        let _ = writeln!(
            text,
            "| {}, {} | {} | {} | {} | {} | {} |",
            line.title,
            line.unit,
            plain(floor.map(|(own, floor)| own / floor)),
            plain(times(Peer::CountersignScalar)),
            plain(times(Peer::CountersignVerify)),
            plain(times(Peer::Nginx)),
            best.map_or_else(|| "–".to_owned(), |(peer, times)| format!("{times:.2} ({peer})")),
        );
    }
}

/// What the load itself took for each of its operations.
fn write_own_costs(results: &Results, text: &mut String) {
    *text += "\nThe load's own CPU for the same operations, by the server that they went to \
              (generator and backends, which are one process; medians):\n\n";
    let names: String = results.peers().iter().map(|peer| format!(" {peer} |")).collect();
    write_header(text, &format!("| |{names}"));
    for (_, line) in results.lines() {
        let cost = |&peer: &Peer| results.own_cost(&line.name, Series::Peer(peer));
        let costs: Vec<_> = results.peers().iter().map(cost).collect();
        if costs.iter().any(Option::is_some) {
            let cells: String =
                costs.iter().map(|cost| format!(" {} |", short(*cost, false))).collect();
            let _ = writeln!(text, "| {}, {} |{cells}", line.title, line.unit);
        }
    }
}

/// The table as the README and `docs/performance.md` show it.
fn write_short(results: &Results, text: &mut String) {
    let lines: Vec<(String, String)> = match results.plan.table {
        Table::Work => IN_SHORT
            .iter()
            .filter(|(name, _)| results.lines().any(|(_, line)| line.name == *name))
            .map(|(name, title)| ((*name).to_owned(), (*title).to_owned()))
            .collect(),
        Table::Handshakes => results
            .lines()
            .map(|(_, line)| (line.name, format!("{}, {}", line.title, line.unit)))
            .collect(),
    };
    *text += "\nIn short:\n\n";
    let header = results.peers().iter().fold("| |".to_owned(), |header, &peer| {
        let version = results.versions.get(&peer).map_or("", String::as_str);
        header + &format!(" {} |", heading(peer, version))
    });
    write_header(text, &header);
    for (name, title) in lines {
        let _ = write!(text, "| {title} |");
        for &peer in results.peers() {
            let spread = results.spread(&name, Series::Peer(peer));
            let _ = write!(text, " {} |", short(spread, peer == Peer::Countersign));
        }
        text.push('\n');
    }
}

fn write_scaling(results: &Results, text: &mut String) {
    let workers: Vec<_> = results.workers().collect();
    if workers.is_empty() {
        return;
    }
    *text += "\ncountersign by number of workers, each on a CPU of its own, which it shares \
              with a thread of the load:\n\n";
    let names: String = workers.iter().map(|count| format!(" workers: {count} |")).collect();
    write_header(text, &format!("| |{names}"));
    for (_, line) in results.lines().filter(|(row, _)| Row::SCALING.contains(row)) {
        let _ = write!(text, "| {}, {} |", line.title, line.unit);
        for &count in &workers {
            let spread = results.spread(&line.name, Series::Workers(count));
            let _ = write!(text, " {} |", cell(spread));
        }
        text.push('\n');
    }
}

fn write_throughput(results: &Results, text: &mut String) {
    *text += "\nRecords sealed in memory on one CPU, GB of plaintext a second:\n\n\
              | bytes a record | countersign | rustls |\n|---|---|---|\n";
    for point in &results.throughput {
        let Throughput { length, countersign, rustls } = point;
        let _ = writeln!(text, "| {length} | {countersign:.2} | {rustls:.2} |");
    }
}

/// The first line of a table and the one that makes it one.
fn write_header(text: &mut String, header: &str) {
    let _ = writeln!(text, "{header}\n|{}", "---|".repeat(header.matches('|').count() - 1));
}

/// A spread as a cell of a table.
fn cell(spread: Option<Spread>) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |Spread { low, median, high }| {
            let digits = digits(median);
            format!("**{median:.digits$}** ({low:.digits$}–{high:.digits$})")
        },
    )
}

/// Its median alone.
fn short(spread: Option<Spread>, bold: bool) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |Spread { median, .. }| {
            let marks = if bold { "**" } else { "" };
            format!("{marks}{median:.*}{marks}", digits(median))
        },
    )
}

fn plain(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// A server as a reader knows it: its name, and its version where it is another's.
fn heading(peer: Peer, version: &str) -> String {
    let name = match peer {
        Peer::Countersign => return "countersign".to_owned(),
        Peer::CountersignScalar => return "without crypto_mb".to_owned(),
        Peer::CountersignVerify => return "crypto_mb verifies too".to_owned(),
        Peer::Floor => return "no TLS".to_owned(),
        Peer::Haproxy => "HAProxy",
        other => other.name(),
    };
    // The first word that begins like a version, as far as it is one.
    let number = version
        .split([' ', '/'])
        .find(|word| word.contains('.') && word.starts_with(|first: char| first.is_ascii_digit()));
    let end = |word: &str| word.find(|c: char| c != '.' && !c.is_ascii_digit());
    let number = number.map(|word| &word[..end(word).unwrap_or(word.len())]);
    number.map_or_else(|| name.to_owned(), |number| format!("{name} {number}"))
}
