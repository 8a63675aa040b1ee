//! The figures as pictures: SVG on white, so that they can be read on dark pages too.

use std::path::{Path, PathBuf};

use plotters::{
    chart::ChartContext,
    coord::{Shift, ranged1d::Ranged},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{
    BenchError, Peer,
    handshakes::plain_line,
    results::{Results, Series, Spread, digits},
    rows::{Line, QUANTILES, Row, Table, rss_name},
    throughput::Throughput,
};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;
/// A line's name, colour and points.
type Curve<'a> = (&'a str, RGBColor, Vec<(f64, f64)>);

const WIDTH: u32 = 960;
const MARGIN: i32 = 16;
const TEXT: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FAINT: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const FONT: &str = "sans-serif";
/// Of a bar and the space to the next.
const BAR_PITCH: i32 = 24;
const BAR_HEIGHT: i32 = 16;
/// Room for the name of a peer.
const NAME_WIDTH: i32 = 124;
/// Room for a figure behind its bar.
const FIGURE_WIDTH: i32 = 60;
const TITLE_HEIGHT: i32 = 44;
const CAPTION_HEIGHT: u32 = 28;
const CHART_HEIGHT: u32 = 460;
/// How many peers stand beside countersign where all of them would be too many.
const BEST_PEERS: usize = 2;

/// Draws what the results have samples for, and names the files.
pub(crate) fn draw(
    results: &Results,
    folder: &Path,
    stem: &str,
) -> Result<Vec<PathBuf>, BenchError> {
    let mut files = Vec::new();
    let mut plot = |name: &str, height: u32, draw: &dyn Fn(&Area<'_>) -> Drawn| {
        let file = folder.join(format!("{stem}{name}.svg"));
        sheet(results, &file, height, draw)
            .map_err(|error| BenchError::Plot { file: file.clone(), reason: error.to_string() })?;
        files.push(file);
        Ok::<_, BenchError>(())
    };
    let bars: Vec<_> = results
        .rows()
        .iter()
        .filter(|row| !matches!(row, Row::Idle | Row::Beside))
        .flat_map(|row| row.lines(results.scale()))
        .collect();
    if !bars.is_empty() {
        let panels = u32::try_from(bars.len().div_ceil(2)).unwrap_or(1);
        // Where bars are all that there is, the file needs no name of its own.
        let name =
            if results.rows().iter().all(|row| row.is_of(Table::Handshakes)) { "" } else { "-cpu" };
        plot(name, panels * panel_height(results), &|area| cpu(results, &bars, area))?;
    }
    if results.rows().contains(&Row::Idle) {
        plot("-memory", CHART_HEIGHT, &|area| memory(results, area))?;
    }
    if results.rows().contains(&Row::Beside) {
        plot("-latency", CHART_HEIGHT, &|area| latency(results, area))?;
    }
    if !results.throughput().is_empty() {
        plot("-throughput", CHART_HEIGHT, &|area| throughput(results, area))?;
    }
    Ok(files)
}

/// A white sheet with the caption below.
fn sheet(results: &Results, file: &Path, height: u32, draw: &dyn Fn(&Area<'_>) -> Drawn) -> Drawn {
    let root = SVGBackend::new(file, (WIDTH, height + CAPTION_HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, below) = root.split_vertically(height);
    draw(&above)?;
    below.draw_text(&results.caption(), &text(12), (MARGIN, 6))?;
    root.present()?;
    Ok(())
}

fn text(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&TEXT)
}

/// The same colour for the same server on every sheet, told apart by colour-blind eyes as well.
fn colour(peer: Peer) -> RGBColor {
    match peer {
        Peer::Countersign => RGBColor(0x00, 0x72, 0xb2),
        Peer::CountersignScalar => RGBColor(0x56, 0xb4, 0xe9),
        Peer::CountersignVerify => RGBColor(0x00, 0x4a, 0x74),
        Peer::Nginx => RGBColor(0x00, 0x9e, 0x73),
        Peer::Haproxy => RGBColor(0xe6, 0x9f, 0x00),
        Peer::Stunnel => RGBColor(0xcc, 0x79, 0xa7),
        Peer::Hitch => RGBColor(0x8c, 0x8c, 0x8c),
        Peer::Floor => RGBColor(0xcc, 0xcc, 0xcc),
    }
}

fn panel_height(results: &Results) -> u32 {
    let bars = i32::try_from(results.peers().len()).unwrap_or(1) * BAR_PITCH;
    (TITLE_HEIGHT + bars + MARGIN).unsigned_abs()
}

/// One panel a line, two beside each other.
fn cpu(results: &Results, lines: &[Line], area: &Area<'_>) -> Drawn {
    let panels = area.split_evenly((lines.len().div_ceil(2), 2));
    for (line, panel) in lines.iter().zip(&panels) {
        bars(results, line, panel)?;
    }
    Ok(())
}

/// A server's figure; of the floor that of as many plain connections, whatever they would be for.
fn reference(results: &Results, line: &str, peer: Peer) -> Option<Spread> {
    let spread = |line: &str| results.spread(line, Series::Peer(peer));
    spread(line).or_else(|| (peer == Peer::Floor).then(|| spread(&plain_line(line))).flatten())
}

/// A bar for each server as long as its median, with a whisker from the lowest to the highest.
fn bars(results: &Results, line: &Line, panel: &Area<'_>) -> Drawn {
    let spreads: Vec<_> =
        results.peers().iter().map(|&peer| (peer, reference(results, &line.name, peer))).collect();
    let most = spreads.iter().filter_map(|(_, spread)| Some(spread.as_ref()?.high));
    let most = most.fold(f64::MIN_POSITIVE, f64::max);
    let (width, _) = panel.dim_in_pixel();
    let room = f64::from(width) - f64::from(2 * MARGIN + NAME_WIDTH + FIGURE_WIDTH);
    let start = MARGIN + NAME_WIDTH;
    #[expect(clippy::cast_possible_truncation, reason = "at most the panel's width")]
    let x = |figure: f64| start + (figure / most * room).round() as i32;

    panel.draw_text(&format!("{}, {}", line.title, line.unit), &text(15), (MARGIN, MARGIN))?;
    let left = text(13).pos(Pos::new(HPos::Left, VPos::Center));
    let mut top = TITLE_HEIGHT;
    for (peer, spread) in spreads {
        let middle = top + BAR_HEIGHT / 2;
        panel.draw_text(peer.name(), &left, (MARGIN, middle))?;
        if let Some(spread) = spread {
            let corners = [(start, top), (x(spread.median), top + BAR_HEIGHT)];
            panel.draw(&Rectangle::new(corners, colour(peer).filled()))?;
            let whisker = vec![(x(spread.low), middle), (x(spread.high), middle)];
            panel.draw(&PathElement::new(whisker, TEXT.stroke_width(1)))?;
            let figure = format!("{:.*}", digits(spread.median), spread.median);
            panel.draw_text(&figure, &left, (x(spread.high) + 6, middle))?;
        } else {
            panel.draw_text("– (see the table)", &left, (start + 6, middle))?;
        }
        top += BAR_PITCH;
    }
    Ok(())
}

/// All memory by the number of idle connections: countersign and the best peers.
fn memory(results: &Results, area: &Area<'_>) -> Drawn {
    let counts: Vec<_> =
        [0].into_iter().chain(results.scale().idle_connections.iter().copied()).collect();
    let series = |peer: Peer| -> Vec<(f64, f64)> {
        let point = |&count: &u32| {
            let spread = results.spread(&rss_name(count), Series::Peer(peer))?;
            Some((f64::from(count), spread.median))
        };
        counts.iter().filter_map(point).collect()
    };
    let last = |peer: Peer| series(peer).last().map_or(f64::INFINITY, |point| point.1);
    let mut others: Vec<_> =
        results.peers().iter().copied().filter(|peer| peer.is_other_terminator()).collect();
    others.sort_by(|a, b| last(*a).total_cmp(&last(*b)));
    others.truncate(BEST_PEERS);
    let own = results.peers().iter().copied().filter(|peer| *peer == Peer::Countersign);
    let shown: Vec<_> = own.chain(others).map(|peer| (peer, series(peer))).collect();
    // The legend has the room above the highest figure.
    let highest = highest(&shown);
    let most = counts.last().copied().map_or(1.0, f64::from);

    let mut chart = ChartBuilder::on(area)
        .caption("Resident memory by idle mTLS connections", text(17))
        .margin(MARGIN)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..most * 1.02, 0.0..highest * 1.35)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .label_style(text(13))
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .x_desc("idle connections")
        .y_desc("MB")
        .draw()?;
    lines(&mut chart, named(shown))
}

/// The quantiles of the round trips beside downloads, on a logarithmic scale.
fn latency(results: &Results, area: &Area<'_>) -> Drawn {
    let series = |peer: Peer| -> Vec<(f64, f64)> {
        let point = |(place, (name, _)): (u32, &(&str, _))| {
            let spread = results.spread(&format!("beside-{name}"), Series::Peer(peer))?;
            Some((f64::from(place), spread.median))
        };
        (0..).zip(&QUANTILES).filter_map(point).collect()
    };
    let shown: Vec<_> = results.peers().iter().map(|&peer| (peer, series(peer))).collect();
    let lowest = shown.iter().flat_map(|(_, points)| points).map(|point| point.1);
    let lowest = lowest.fold(f64::INFINITY, f64::min).clamp(1.0, 1e9);
    // The legend has the room above the highest figure.
    let highest = highest(&shown).max(lowest);
    let top = highest * 1.5 * (highest / lowest).powf(0.4);

    let mut chart = ChartBuilder::on(area)
        .caption("1 KiB round trip on 8 connections beside 4 bulk downloads", text(17))
        .margin(MARGIN)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(-0.2..3.2, (lowest / 1.5..top).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .label_style(text(13))
        .x_labels(QUANTILES.len())
        .x_label_formatter(&|place| {
            let named = (0..).zip(&QUANTILES).find(|(n, _)| (f64::from(*n) - place).abs() < 0.01);
            named.map_or_else(String::new, |(_, (name, _))| (*name).to_owned())
        })
        .y_label_formatter(&|value| format!("{value:.0}"))
        .x_desc("quantile")
        .y_desc("µs, logarithmic")
        .draw()?;
    lines(&mut chart, named(shown))
}

fn named(shown: Vec<(Peer, Vec<(f64, f64)>)>) -> Vec<Curve<'static>> {
    shown.into_iter().map(|(peer, points)| (peer.name(), colour(peer), points)).collect()
}

/// What the record layers seal by size of record.
fn throughput(results: &Results, area: &Area<'_>) -> Drawn {
    let points = results.throughput();
    let of = |figure: fn(&Throughput) -> f64| {
        (0_u32..).zip(points).map(|(place, point)| (f64::from(place), figure(point))).collect()
    };
    let shown: Vec<Curve<'_>> = vec![
        ("countersign", colour(Peer::Countersign), of(|point| point.countersign)),
        ("rustls", colour(Peer::Haproxy), of(|point| point.rustls)),
    ];
    let all = shown.iter().flat_map(|(_, _, points)| points).map(|point| point.1);
    let highest = all.fold(1.0, f64::max);
    let last = (1..points.len()).fold(0.0, |place, _| place + 1.0);
    let mut chart = ChartBuilder::on(area)
        .caption("Records sealed in memory on one CPU", text(17))
        .margin(MARGIN)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(-0.2..last + 0.2, 0.0..highest * 1.3)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .label_style(text(13))
        .x_labels(points.len())
        .x_label_formatter(&|place| {
            let named = (0_u32..).zip(points).find(|(n, _)| (f64::from(*n) - place).abs() < 0.01);
            named.map_or_else(String::new, |(_, point)| point.length.to_string())
        })
        .x_desc("bytes of plaintext in a record")
        .y_desc("GB a second")
        .draw()?;
    lines(&mut chart, shown)
}

fn highest(series: &[(Peer, Vec<(f64, f64)>)]) -> f64 {
    let all = series.iter().flat_map(|(_, points)| points).map(|point| point.1);
    all.fold(1.0, f64::max)
}

/// A line with its points for each server, and the legend.
fn lines<'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    shown: Vec<Curve<'_>>,
) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    for (name, colour, points) in shown {
        let style = colour.stroke_width(3);
        chart.draw_series(points.iter().map(|&at| Circle::new(at, 4, colour.filled())))?;
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(FAINT)
        .label_font(text(13))
        .draw()?;
    Ok(())
}
