//! The picture of a task's chart, drawn by the node: marks in the order of their time against the metric, and for each
//! hardware class the line of the best confirmed so far.
//!
//! As on the page, claims never move a line, values that no run can measure scale no axis, and a few extreme values stand at
//! the edge. The picture is bounded: of many records it shows those that hold, and a sample of the others.

use std::{collections::BTreeMap, io};

use spore_protocol::Status;
use spore_storage::TaskGraph;

use super::canvas::{Canvas, Colour};
use crate::{dto::TaskSummary, markup::escaped, view::plain_line};

/// The size that services show previews in.
const WIDTH: u16 = 1200;
const HEIGHT: u16 = 630;
/// Edges of the plot.
const LEFT: f64 = 110.0;
const RIGHT: f64 = 1160.0;
const TOP: f64 = 130.0;
const BOTTOM: f64 = 580.0;
/// Marks drawn at most: more cover each other. About 60 kB of SVG.
const MAX_MARKS: usize = 3_000;
/// Lines drawn at most: more hide the marks.
const MAX_LINES: usize = 3;
/// Ticks of the vertical axis.
const TICKS: u8 = 5;
/// Values further than this many interquartile ranges from the quartiles stand at the edge.
const FENCE: f64 = 3.0;
/// Largest size of a metric that scales an axis.
const LARGEST: f64 = 1e15;
/// Most bits that a byte can cost in a measured model: one that knows nothing needs 8.
const MOST_BITS: f64 = 1_000.0;
/// Characters of the task's name and of other names.
const MAX_TITLE: usize = 50;
const MAX_NAME: usize = 32;

const GROUND: Colour = [0xff, 0xff, 0xff];
const GRID: Colour = [0xe1, 0xe6, 0xe0];
const BEST: Colour = [0xa5, 0x64, 0x0a];

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum MarkKind {
    Discard,
    /// Kept by its publisher, refused here.
    Refused,
    /// Kept by its publisher, neither confirmed nor refused here.
    Claim,
    Confirmed,
    Frontier,
}

impl MarkKind {
    const ALL: [Self; 5] = [Self::Discard, Self::Refused, Self::Claim, Self::Confirmed, Self::Frontier];

    const fn colour(self) -> Colour {
        match self {
            Self::Discard => [0x9a, 0xa5, 0x9e],
            Self::Refused => [0xb8, 0x40, 0x2f],
            Self::Claim | Self::Confirmed => [0x2b, 0x8f, 0x70],
            Self::Frontier => [0xc4, 0x7a, 0x06],
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Discard => "discarded",
            Self::Refused => "refused here",
            Self::Claim => "claim",
            Self::Confirmed => "confirmed",
            Self::Frontier => "frontier",
        }
    }

    /// Radius in pixels, and the width of a ring. No ring is a disc.
    const fn shape(self) -> (f64, Option<f64>) {
        match self {
            Self::Discard => (3.0, None),
            Self::Refused | Self::Claim => (5.0, Some(2.0)),
            Self::Confirmed => (5.0, None),
            Self::Frontier => (6.5, None),
        }
    }
}

/// A chart with its coordinates in pixels.
pub struct Chart {
    title: String,
    about: String,
    marks: Vec<(MarkKind, f64, f64)>,
    /// With the names of their classes.
    lines: Vec<(String, Vec<(f64, f64)>)>,
    /// Values of the vertical axis and where they stand.
    ticks: Vec<(f64, f64)>,
}

/// The class that a request chooses, as the task names it. None for all classes.
pub fn chosen_class(task: &TaskSummary, class: Option<&str>) -> Option<String> {
    let class = class?;
    task.classes.iter().find(|one| one.class.eq_ignore_ascii_case(class)).map(|one| one.class.clone())
}

/// Whether a run could have measured a value.
fn is_possible(metric: &str, value: f64) -> bool {
    let metric = metric.to_ascii_lowercase();
    let is_bits = metric.contains("bpb") || metric.contains("bits per byte") || metric.contains("bits_per_byte");
    value.is_finite() && value.abs() <= LARGEST && (!is_bits || (value > 0.0 && value <= MOST_BITS))
}

/// A record of the graph that has a metric.
#[derive(Clone, Copy)]
struct Point {
    kind: MarkKind,
    value: f64,
    class: u32,
    stray: bool,
}

impl Chart {
    /// The chart of a graph; of one class, if one is given.
    pub fn new(task: &TaskSummary, graph: &TaskGraph, class: Option<&str>) -> Self {
        let points = points(graph, class);
        let possible: Vec<f64> =
            points.iter().map(|point| point.value).filter(|value| is_possible(&task.metric, *value)).collect();
        let (low, high) = range(possible).unwrap_or((0.0, 1.0));
        let last = points.len().saturating_sub(1).max(1);
        let x = |index: usize| LEFT + (RIGHT - LEFT) * index as f64 / last as f64;
        let y = |value: f64| (BOTTOM - (BOTTOM - TOP) * (value - low) / (high - low)).clamp(TOP, BOTTOM);
        let place = |index: usize, point: &Point| (point.kind, x(index), y(finite(point.value)));
        let mut marks: Vec<_> = sampled(&points).into_iter().filter_map(|i| Some(place(i, points.get(i)?))).collect();
        marks.sort_by_key(|(kind, ..)| *kind);
        let lines = best_lines(task, &points).into_iter();
        let lines = lines.map(|(class, line)| {
            let name = usize::try_from(class).ok().and_then(|class| graph.class_names.get(class));
            let name = name.map(|name| plain_line(name.as_str(), MAX_NAME)).unwrap_or_default();
            (name, stepped(line.into_iter().map(|(i, value)| (x(i), y(value))), x(last)))
        });
        let ticks = (0..TICKS).map(|tick| low + (high - low) * f64::from(tick) / f64::from(TICKS - 1));
        Self {
            title: plain_line(&task.name, MAX_TITLE),
            about: about(task, class, points.len()),
            marks,
            lines: lines.collect(),
            ticks: ticks.map(|value| (value, y(value))).collect(),
        }
    }

    /// The chart as SVG.
    pub fn svg(&self) -> String {
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" \
             font-family=\"system-ui,Segoe UI,Roboto,Helvetica,Arial,sans-serif\" fill=\"#18211c\">\n<title>{title}: {about}</title>\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"{ground}\"/>\n\
             <text x=\"40\" y=\"58\" font-size=\"34\" font-weight=\"650\">{title}</text>\n\
             <text x=\"40\" y=\"94\" font-size=\"20\" fill=\"#4c5a52\">{about}</text>\n",
            title = escaped(&self.title),
            about = escaped(&self.about),
            ground = hex(GROUND),
        );
        for (value, y) in &self.ticks {
            out.push_str(&format!(
                "<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"{}\"/><text x=\"{:.0}\" y=\"{:.1}\" font-size=\"17\" text-anchor=\"end\" fill=\"#5f6c65\">{}</text>\n",
                hex(GRID),
                LEFT - 12.0,
                y + 6.0,
                number(*value)
            ));
        }
        for kind in MarkKind::ALL {
            out.push_str(&self.svg_marks(kind));
        }
        for (name, line) in &self.lines {
            let points: Vec<_> = line.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            out.push_str(&format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"3\" stroke-linejoin=\"round\"/>\n",
                points.join(" "),
                hex(BEST)
            ));
            if let Some((x, y)) = line.last() {
                out.push_str(&format!(
                    "<text x=\"{x:.0}\" y=\"{:.1}\" font-size=\"15\" text-anchor=\"end\" fill=\"{}\" stroke=\"#fff\" stroke-width=\"4\" paint-order=\"stroke\">{}</text>\n",
                    y - 7.0,
                    hex(BEST),
                    escaped(name)
                ));
            }
        }
        out.push_str(&self.svg_legend());
        out.push_str("</svg>\n");
        out
    }

    /// Discs are ends of strokes without length, which takes few bytes.
    fn svg_marks(&self, kind: MarkKind) -> String {
        let of_kind = self.marks.iter().filter(|(one, ..)| *one == kind);
        let (radius, ring) = kind.shape();
        let colour = hex(kind.colour());
        match ring {
            None => {
                let path: String = of_kind.map(|(_, x, y)| format!("M{x:.1} {y:.1}h0")).collect();
                format!(
                    "<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"{}\" stroke-linecap=\"round\"/>\n",
                    2.0 * radius
                )
            }
            Some(width) => {
                let inner = radius - width / 2.0;
                let rings: String =
                    of_kind.map(|(_, x, y)| format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{inner}\"/>")).collect();
                format!("<g fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\">{rings}</g>\n")
            }
        }
    }

    fn svg_legend(&self) -> String {
        let mut out = String::from("<g font-size=\"16\" fill=\"#4c5a52\">");
        let mut x = LEFT;
        for kind in MarkKind::ALL.into_iter().rev() {
            if self.marks.iter().any(|(one, ..)| *one == kind) {
                let (radius, ring) = kind.shape();
                let (fill, stroke) = if ring.is_some() { ("none".to_owned(), 2.0) } else { (hex(kind.colour()), 0.0) };
                out.push_str(&format!(
                    "<circle cx=\"{x:.0}\" cy=\"607\" r=\"{radius}\" fill=\"{fill}\" stroke=\"{}\" stroke-width=\"{stroke}\"/><text x=\"{:.0}\" y=\"613\">{}</text>",
                    hex(kind.colour()),
                    x + 14.0,
                    kind.name()
                ));
                x += 46.0 + 9.0 * kind.name().len() as f64;
            }
        }
        out.push_str("</g>\n");
        out
    }

    /// The chart as PNG, without words.
    ///
    /// # Errors
    /// None in practice: see [`Canvas::png`].
    pub fn png(&self) -> io::Result<Vec<u8>> {
        let mut canvas = Canvas::new(WIDTH, HEIGHT, GROUND);
        // Without words, the plot takes the place of the title.
        let lift = |y: f64| 40.0 + (y - TOP) * (HEIGHT as f64 - 80.0) / (BOTTOM - TOP);
        for (_, y) in &self.ticks {
            canvas.line((40.0, lift(*y)), (RIGHT, lift(*y)), 1.0, GRID);
        }
        let across = |x: f64| 50.0 + (x - LEFT) * (RIGHT - 60.0) / (RIGHT - LEFT);
        for (kind, x, y) in &self.marks {
            let (radius, ring) = kind.shape();
            canvas.disc(
                (across(*x), lift(*y)),
                radius + 1.0,
                ring,
                kind.colour(),
                if *kind == MarkKind::Discard { 0.6 } else { 1.0 },
            );
        }
        for (_, line) in &self.lines {
            for (from, to) in line.iter().zip(line.iter().skip(1)) {
                canvas.line((across(from.0), lift(from.1)), (across(to.0), lift(to.1)), 4.0, BEST);
            }
        }
        canvas.png()
    }
}

fn points(graph: &TaskGraph, class: Option<&str>) -> Vec<Point> {
    let wanted = class.map(|class| graph.class_names.iter().position(|name| name.as_str() == class));
    let row = |i: usize| {
        let (status, class) = (*graph.statuses.get(i)?, *graph.classes.get(i)?);
        let is_wanted = wanted.is_none_or(|wanted| wanted == usize::try_from(class).ok());
        if status == Status::Crash || !is_wanted {
            return None;
        }
        let is = |column: &[bool]| column.get(i).copied().unwrap_or_default();
        let kind = match status {
            Status::Keep if is(&graph.refused) => MarkKind::Refused,
            Status::Keep if is(&graph.on_frontier) => MarkKind::Frontier,
            Status::Keep if is(&graph.verified) => MarkKind::Confirmed,
            Status::Keep => MarkKind::Claim,
            _ => MarkKind::Discard,
        };
        Some(Point { kind, value: *graph.metrics.get(i)?, class, stray: is(&graph.stray) })
    };
    (0..graph.ids.len()).filter_map(row).collect()
}

/// Which points are drawn: those that hold, and every so many of the others.
fn sampled(points: &[Point]) -> Vec<usize> {
    let (good, rest): (Vec<usize>, Vec<usize>) =
        (0..points.len()).partition(|i| points.get(*i).is_some_and(|point| point.kind >= MarkKind::Confirmed));
    let every = |of: &[usize], most: usize| {
        of.iter().copied().step_by(of.len().div_ceil(most.max(1)).max(1)).collect::<Vec<_>>()
    };
    let good = every(&good, MAX_MARKS / 2);
    let mut all = every(&rest, MAX_MARKS - good.len());
    all.extend(good);
    all
}

/// The range of the vertical axis: of the values within Tukey's outer fences, a little wider.
fn range(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let quantile = |share: f64| values.get(((values.len().saturating_sub(1)) as f64 * share).round() as usize).copied();
    let (first, third) = (quantile(0.25)?, quantile(0.75)?);
    let spread = match third - first {
        spread if spread > 0.0 => spread,
        _ => quantile(0.97)? - quantile(0.03)?,
    };
    let within = |value: &&f64| spread <= 0.0 || (first - FENCE * spread..=third + FENCE * spread).contains(*value);
    let (low, high) = (*values.iter().find(within)?, *values.iter().rev().find(within)?);
    let pad = if high > low { (high - low) * 0.06 } else { high.abs().max(1e-6) * 0.01 };
    Some((low - pad, high + pad))
}

/// The best confirmed so far of the classes with the most steps, as indices and values.
fn best_lines(task: &TaskSummary, points: &[Point]) -> Vec<(u32, Vec<(usize, f64)>)> {
    let higher = task.goal == "maximize";
    let mut lines: BTreeMap<u32, Vec<(usize, f64)>> = BTreeMap::new();
    for (i, point) in points.iter().enumerate() {
        if point.kind < MarkKind::Confirmed || point.stray || !is_possible(&task.metric, point.value) {
            continue;
        }
        let line = lines.entry(point.class).or_default();
        if line.last().is_none_or(|(_, best)| if higher { point.value > *best } else { point.value < *best }) {
            line.push((i, point.value));
        }
    }
    let mut lines: Vec<_> = lines.into_iter().collect();
    lines.sort_by_key(|(_, line)| std::cmp::Reverse(line.len()));
    lines.truncate(MAX_LINES);
    lines
}

/// A line that keeps its height until the next point, and to the end.
fn stepped(points: impl Iterator<Item = (f64, f64)>, end: f64) -> Vec<(f64, f64)> {
    let mut line: Vec<(f64, f64)> = Vec::new();
    for (x, y) in points {
        if let Some((_, before)) = line.last().copied() {
            line.push((x, before));
        }
        line.push((x, y));
    }
    if let Some((_, y)) = line.last().copied() {
        line.push((end, y));
    }
    line
}

fn about(task: &TaskSummary, class: Option<&str>, shown: usize) -> String {
    let of_class = |name: &str| task.classes.iter().find(|one| one.class == name).and_then(|one| one.best);
    let best = match class {
        Some(name) => of_class(name).map(|best| (best, name)),
        None => task.best.zip(task.best_class.as_deref()),
    };
    let metric = plain_line(&task.metric, MAX_NAME);
    let best = match best {
        Some((best, class)) => format!("best confirmed {metric} {} on {}", number(best), plain_line(class, MAX_NAME)),
        None => format!("{metric}, nothing confirmed yet"),
    };
    let goal = if task.goal == "maximize" { "higher is better" } else { "lower is better" };
    format!("{best} \u{b7} {goal} \u{b7} {shown} results")
}

/// A value that can be placed: what is no number stands at the edge.
fn finite(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(-f64::MAX / 4.0, f64::MAX / 4.0) }
}

fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        0.0 => "0".to_owned(),
        _ if !(1e-3..1e5).contains(&size) => format!("{value:.3e}"),
        _ if size >= 1e3 => format!("{value:.1}"),
        _ => format!("{value:.4}"),
    }
}

fn hex([r, g, b]: Colour) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points_of(values: &[(MarkKind, f64)]) -> Vec<Point> {
        values.iter().map(|(kind, value)| Point { kind: *kind, value: *value, class: 0, stray: false }).collect()
    }

    #[test]
    fn impossible_and_extreme_values_scale_no_axis() {
        assert!(is_possible("val_bpb", 1.0) && is_possible("GFLOP/s", -3.0));
        for (metric, value) in
            [("val_bpb", 0.0), ("val_bpb", -1.0), ("bits per byte", 1e9), ("x", f64::NAN), ("x", 1e300)]
        {
            assert!(!is_possible(metric, value), "{metric} {value}");
        }
        let (low, high) = range((0..50).map(|n| 1.0 + f64::from(n) / 100.0).chain([1e9]).collect()).unwrap();
        assert!(low > 0.9 && high < 1.6, "{low} {high}");
        assert_eq!(range(Vec::new()), None);
        let (low, high) = range(vec![2.0, 2.0]).unwrap();
        assert!(low < 2.0 && high > 2.0);
    }

    #[test]
    fn marks_are_bounded_and_those_that_hold_stay() {
        let mut values = vec![(MarkKind::Discard, 1.0); 50_000];
        values[40_123].0 = MarkKind::Frontier;
        let chosen = sampled(&points_of(&values));
        assert!(chosen.len() <= MAX_MARKS && chosen.contains(&40_123), "{}", chosen.len());
    }

    #[test]
    fn line_steps_from_point_to_point_and_to_the_end() {
        let line = stepped([(1.0, 5.0), (3.0, 2.0)].into_iter(), 9.0);
        assert_eq!(line, [(1.0, 5.0), (3.0, 5.0), (3.0, 2.0), (9.0, 2.0)]);
    }
}
