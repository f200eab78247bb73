//! The kinds of pictures in the report's figures.

use super::canvas::{Canvas, Ink, LETTERS, Mark, Picture, Place, SERIES, Scale, Side, pixels, width_of};
use super::units;
use crate::results::{Kind, kind};

/// The colour and mark of each engine, the same in all figures.
#[derive(Clone, Debug)]
pub(crate) struct Palette(Vec<String>);

impl Palette {
    pub(crate) fn new(engines: &[String]) -> Self {
        const FIRST: [&str; 4] = ["wasmtime.cranelift", "wasmtime.winch", "wasmer.singlepass", "wasmi.lazy"];
        let others = engines.iter().map(String::as_str).filter(|engine| !FIRST.contains(engine));
        Self(
            FIRST
                .into_iter()
                .chain(others.filter(|engine| matches!(kind(engine), Kind::Single | Kind::Peer)))
                .map(ToOwned::to_owned)
                .collect(),
        )
    }

    pub(crate) fn of(&self, engine: &str) -> (Ink, Mark) {
        const MARKS: [Mark; 6] = [Mark::Circle, Mark::Square, Mark::Diamond, Mark::Up, Mark::Down, Mark::Cross];
        match kind(engine) {
            Kind::Native => (Ink::Native, Mark::Bar),
            Kind::Auto => (Ink::Auto, Mark::Ring),
            Kind::Racing => (Ink::Auto, Mark::Cross),
            Kind::Single | Kind::Peer => {
                let index = self.0.iter().position(|known| known == engine).unwrap_or(self.0.len());
                #[allow(clippy::cast_possible_truncation, reason = "less than the number of colours")]
                let color = (index % usize::from(SERIES)) as u8;
                (Ink::Series(color), MARKS[index % MARKS.len()])
            }
        }
    }
}

/// A value of an engine, with the ends of its interval.
#[derive(Clone, Debug)]
pub(crate) struct Dot {
    pub engine: String,
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// A row of a plot of dots.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub label: String,
    pub strong: bool,
    pub dots: Vec<Dot>,
}

/// Rows of dots on one logarithmic axis.
pub(crate) struct Dots<'a> {
    pub palette: &'a Palette,
    pub rows: &'a [Row],
    /// Writes a value on the axis.
    pub tick: fn(f64) -> String,
    /// The axis's label.
    pub axis: &'a str,
    /// The value of the line that all dots are compared with.
    pub reference: Option<f64>,
}

const LANE: i32 = 4;

impl Dots<'_> {
    pub(crate) fn draw(&self, words: String) -> Picture {
        let engines = self.engines();
        let row_height = LANE * i32::try_from(engines.len()).unwrap_or(0).max(3) + 8;
        let rows = i32::try_from(self.rows.len()).unwrap_or(0);
        Picture::draw(
            words,
            |width| legend_height(&engines, width) + rows * row_height + 52,
            |canvas| {
                let top = legend(canvas, self.palette, &engines);
                let labels = self.rows.iter().map(|row| width_of(&row.label, LETTERS)).max().unwrap_or(0) + 16;
                let (left, right) = (labels, canvas.width - 24);
                let bottom = top + rows * row_height;
                let values = self.rows.iter().flat_map(|row| &row.dots).flat_map(|dot| [dot.value, dot.low, dot.high]);
                let scale = Scale::logarithmic(values.chain(self.reference), left + 8, right);
                for y in (0..rows).step_by(2).map(|row| top + row * row_height) {
                    canvas.rectangle((0, y), (right + 16, y + row_height), Ink::Stripe);
                }
                axis_below(canvas, &scale, self.tick, (top, bottom), self.axis);
                if let Some(reference) = self.reference {
                    let x = scale.at(reference);
                    canvas.line(&[(x, top), (x, bottom)], Ink::Muted, 1);
                }
                for (index, row) in self.rows.iter().enumerate() {
                    let y = top + i32::try_from(index).unwrap_or(0) * row_height;
                    let middle = y + row_height / 2;
                    if row.strong {
                        canvas.bold((labels - 6, middle), Side::Left, Ink::Text, &row.label);
                    } else {
                        canvas.text((labels - 6, middle), Side::Left, Ink::Text, &row.label);
                    }
                    for dot in &row.dots {
                        let lane = engines.iter().position(|engine| *engine == dot.engine).unwrap_or(0);
                        let y = y + 4 + LANE * i32::try_from(lane).unwrap_or(0) + LANE / 2;
                        let (ink, mark) = self.palette.of(&dot.engine);
                        canvas.line(&[(scale.at(dot.low), y), (scale.at(dot.high), y)], ink, 1);
                        canvas.mark((scale.at(dot.value), y), mark, ink, if row.strong { 6 } else { 4 });
                    }
                }
            },
        )
    }

    fn engines(&self) -> Vec<String> {
        let mut engines: Vec<String> = Vec::new();
        for dot in self.rows.iter().flat_map(|row| &row.dots) {
            if !engines.contains(&dot.engine) {
                engines.push(dot.engine.clone());
            }
        }
        engines
    }
}

/// A bar that is divided into shares of one whole.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub engine: String,
    /// Nanoseconds of each phase.
    pub parts_ns: Vec<f64>,
    /// Nanoseconds of the whole.
    pub total_ns: f64,
}

/// Bars below one heading.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub label: String,
    pub bars: Vec<Bar>,
}

/// Groups of bars. All bars have the same length and are divided into shares.
pub(crate) struct Shares<'a> {
    pub groups: &'a [Group],
    pub phases: &'a [&'a str],
}

impl Shares<'_> {
    pub(crate) fn draw(&self, words: String) -> Picture {
        const BAR: i32 = 20;
        const HEADING: i32 = 26;
        let phases: Vec<(String, Ink)> =
            self.phases.iter().zip(0..).map(|(phase, index)| ((*phase).to_owned(), Ink::Phase(index))).collect();
        let column = |groups: &[Group]| -> i32 {
            groups.iter().map(|group| HEADING + BAR * i32::try_from(group.bars.len()).unwrap_or(0) + 6).sum()
        };
        Picture::draw(
            words,
            |width| swatches_height(&phases, width) + column(self.groups) + 40,
            |canvas| {
                let mut y = swatches(canvas, &phases);
                let engines =
                    self.groups.iter().flat_map(|group| &group.bars).map(|bar| width_of(&bar.engine, LETTERS));
                let left = engines.max().unwrap_or(0) + 14;
                let right = canvas.width - width_of("123 ms", LETTERS) - 16;
                let across = |share: f64| left + pixels(share * f64::from(right - left));
                for group in self.groups {
                    canvas.bold((0, y + HEADING / 2 + 2), Side::Right, Ink::Text, &group.label);
                    y += HEADING;
                    for bar in &group.bars {
                        let middle = y + BAR / 2;
                        canvas.text((left - 8, middle), Side::Left, Ink::Text, &bar.engine);
                        let whole: f64 = bar.parts_ns.iter().sum();
                        let mut before = 0.0;
                        for (part, index) in bar.parts_ns.iter().zip(0..) {
                            let after = before + part / whole;
                            canvas.rectangle((across(before), y + 2), (across(after), y + BAR - 2), Ink::Phase(index));
                            before = after;
                        }
                        canvas.text((right + 8, middle), Side::Right, Ink::Muted, &units::time(bar.total_ns));
                        y += BAR;
                    }
                    y += 6;
                }
                for percent in (0..=100).step_by(if canvas.is_narrow() { 50 } else { 25 }) {
                    let x = across(f64::from(percent) / 100.0);
                    canvas.line(&[(x, y - 4), (x, y + 2)], Ink::Muted, 1);
                    canvas.text((x, y + 14), Side::Middle, Ink::Muted, &format!("{percent} %"));
                }
            },
        )
    }
}

/// Points of one engine, with intervals in y.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub engine: String,
    /// For each point: x, y, and the low and high end of y's interval.
    pub points: Vec<(f64, f64, f64, f64)>,
}

/// Lines on two logarithmic axes, each with its engine's name at its end; below them, the best engine at each x.
pub(crate) struct Lines<'a> {
    pub palette: &'a Palette,
    pub lines: &'a [Line],
    pub x_axis: &'a str,
    /// Writes a value on the axis.
    pub x_tick: fn(f64) -> String,
    /// The values on the axis, if they are not round decimal numbers.
    pub x_ticks: &'a [f64],
    pub y_axis: &'a str,
    pub y_tick: fn(f64) -> String,
    pub best: &'a [(f64, String)],
}

impl Lines<'_> {
    pub(crate) fn draw(&self, words: String) -> Picture {
        Picture::draw(
            words,
            |width| if width < 600 { 420 } else { 520 },
            |canvas| {
                let engines = self.lines.iter().map(|line| width_of(&line.engine, LETTERS));
                let names = engines.max().unwrap_or(0) + 16;
                let (left, right) = (58, canvas.width - names - 8);
                let (top, bottom) = (28, canvas.height - 96);
                let all = || self.lines.iter().flat_map(|line| &line.points);
                let x = Scale::logarithmic(all().map(|point| point.0), left, right);
                let y = Scale::logarithmic(all().flat_map(|point| [point.1, point.2, point.3]), bottom, top);
                // A narrow picture has no room for all of them.
                let step = if canvas.is_narrow() { 2 } else { 1 };
                let ticks: Vec<f64> = self.x_ticks.iter().copied().step_by(step).collect();
                grid(
                    canvas,
                    (&x, self.x_tick, &ticks),
                    (&y, self.y_tick),
                    self.x_axis,
                    self.y_axis,
                    [left, right, top, bottom],
                );
                let mut ends = Vec::new();
                for line in self.lines {
                    let (ink, mark) = self.palette.of(&line.engine);
                    let places: Vec<Place> = line.points.iter().map(|point| (x.at(point.0), y.at(point.1))).collect();
                    canvas.line(&places, ink, 2);
                    for (place, point) in places.iter().zip(&line.points) {
                        canvas.line(&[(place.0, y.at(point.2)), (place.0, y.at(point.3))], ink, 1);
                        canvas.mark(*place, mark, ink, 4);
                    }
                    if let Some(last) = places.last() {
                        ends.push((last.1, line.engine.clone(), ink));
                    }
                }
                spread(&mut ends, 16, top, bottom);
                for (end, engine, ink) in ends {
                    canvas.text((right + 12, end), Side::Right, ink, &engine);
                }
                let strip = bottom + 56;
                if !self.best.is_empty() {
                    canvas.text((0, strip), Side::Right, Ink::Muted, "best:");
                }
                for (size, engine) in self.best {
                    let (ink, mark) = self.palette.of(engine);
                    canvas.mark((x.at(*size), strip), mark, ink, 6);
                }
            },
        )
    }
}

/// A point with two coordinates.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    pub engine: String,
    pub x: f64,
    pub y: f64,
    /// Whether the spot is the engine's mean over guests, and not one guest.
    pub whole: bool,
}

/// Spots on two logarithmic axes, and a line through the engines that no other engine beats in both coordinates.
pub(crate) struct Spots<'a> {
    pub palette: &'a Palette,
    pub spots: &'a [Spot],
    pub x_axis: &'a str,
    pub y_axis: &'a str,
    /// The height of the physical limit, which no engine gets below, and its name.
    pub limit: Option<(f64, String)>,
}

impl Spots<'_> {
    pub(crate) fn draw(&self, words: String) -> Picture {
        Picture::draw(
            words,
            |width| if width < 600 { 400 } else { 500 },
            |canvas| {
                let (left, right) = (58, canvas.width - 24);
                let (top, bottom) = (28, canvas.height - 60);
                let x = Scale::logarithmic(self.spots.iter().map(|spot| spot.x), left, right);
                let limit = self.limit.iter().map(|limit| limit.0);
                let y = Scale::logarithmic(self.spots.iter().map(|spot| spot.y).chain(limit), bottom, top);
                grid(
                    canvas,
                    (&x, units::time_tick, &[]),
                    (&y, units::ratio_tick),
                    self.x_axis,
                    self.y_axis,
                    [left, right, top, bottom],
                );
                if let Some((height, _)) = &self.limit {
                    canvas.line(&[(left, y.at(*height)), (right, y.at(*height))], Ink::Native, 2);
                }
                for spot in self.spots.iter().filter(|spot| !spot.whole) {
                    let (ink, mark) = self.palette.of(&spot.engine);
                    canvas.mark((x.at(spot.x), y.at(spot.y)), mark, ink, 2);
                }
                let mut front: Vec<&Spot> = self.front().collect();
                front.sort_by(|one, other| one.x.total_cmp(&other.x));
                let steps: Vec<Place> = front.iter().map(|spot| (x.at(spot.x), y.at(spot.y))).collect();
                canvas.line(&steps, Ink::Muted, 1);
                let mut taken: Vec<(i32, i32, i32)> = Vec::new();
                if let Some((height, name)) = &self.limit {
                    canvas.text((left + 8, y.at(*height) - 10), Side::Right, Ink::Native, name);
                    taken.push((left, left + 8 + width_of(name, LETTERS), y.at(*height) - 10));
                }
                for spot in self.spots.iter().filter(|spot| spot.whole) {
                    let (ink, mark) = self.palette.of(&spot.engine);
                    let (sx, sy) = (x.at(spot.x), y.at(spot.y));
                    canvas.mark((sx, sy), mark, ink, 8);
                    let width = width_of(&spot.engine, LETTERS) + 4;
                    // The name stands to the left if there is no room to the right, and higher or lower if another name
                    // stands there already.
                    let (from, side) =
                        if sx + 14 + width > right { (sx - 14 - width, Side::Left) } else { (sx + 14, Side::Right) };
                    let free = |at: &i32| {
                        taken
                            .iter()
                            .all(|(start, end, line)| from > *end || from + width < *start || (line - at).abs() >= 16)
                    };
                    let at = [0, -16, 16, -32, 32].into_iter().map(|step| sy + step).find(free).unwrap_or(sy);
                    taken.push((from, from + width, at));
                    let anchor = if side == Side::Left { sx - 14 } else { sx + 14 };
                    canvas.bold((anchor, at), side, ink, &spot.engine);
                }
            },
        )
    }

    /// The engines that no other engine beats in both coordinates.
    pub(crate) fn front(&self) -> impl Iterator<Item = &Spot> {
        let whole = || self.spots.iter().filter(|spot| spot.whole);
        whole().filter(move |spot| {
            !whole().any(|other| other.x <= spot.x && other.y <= spot.y && (other.x < spot.x || other.y < spot.y))
        })
    }
}

/// Moves labels apart that would overlap. Their first field is the height.
fn spread<T, U>(labels: &mut [(i32, T, U)], apart: i32, top: i32, bottom: i32) {
    labels.sort_by_key(|label| label.0);
    let mut least = top;
    for label in labels.iter_mut() {
        label.0 = label.0.max(least);
        least = label.0 + apart;
    }
    let mut most = bottom;
    for label in labels.iter_mut().rev() {
        label.0 = label.0.min(most);
        most = label.0 - apart;
    }
}

fn axis_below(canvas: &mut Canvas<'_>, scale: &Scale, tick: fn(f64) -> String, (top, bottom): (i32, i32), name: &str) {
    for value in scale.ticks(if canvas.is_narrow() { 52 } else { 64 }) {
        let x = scale.at(value);
        canvas.line(&[(x, top), (x, bottom + 4)], Ink::Grid, 1);
        canvas.text((x, bottom + 16), Side::Middle, Ink::Muted, &tick(value));
    }
    canvas.text((canvas.width - 4, bottom + 38), Side::Left, Ink::Muted, name);
}

fn grid(
    canvas: &mut Canvas<'_>,
    (x, x_tick, x_ticks): (&Scale, fn(f64) -> String, &[f64]),
    (y, y_tick): (&Scale, fn(f64) -> String),
    x_axis: &str,
    y_axis: &str,
    [left, right, top, bottom]: [i32; 4],
) {
    for value in y.ticks(34) {
        let at = y.at(value);
        canvas.line(&[(left, at), (right, at)], Ink::Grid, 1);
        canvas.text((left - 8, at), Side::Left, Ink::Muted, &y_tick(value));
    }
    let ticks = if x_ticks.is_empty() { x.ticks(56) } else { x_ticks.to_vec() };
    for value in ticks {
        let at = x.at(value);
        canvas.line(&[(at, top), (at, bottom)], Ink::Grid, 1);
        canvas.text((at, bottom + 16), Side::Middle, Ink::Muted, &x_tick(value));
    }
    canvas.text((right, bottom + 36), Side::Left, Ink::Muted, x_axis);
    canvas.text((0, 10), Side::Right, Ink::Muted, y_axis);
}

const LEGEND_LINE: i32 = 22;

fn legend_height(engines: &[String], width: i32) -> i32 {
    let lines = flow(engines.iter().map(String::as_str), width).last().map_or(0, |place| place.1 + 1);
    lines * LEGEND_LINE + 8
}

fn legend(canvas: &mut Canvas<'_>, palette: &Palette, engines: &[String]) -> i32 {
    for (engine, (x, line)) in engines.iter().zip(flow(engines.iter().map(String::as_str), canvas.width)) {
        let (ink, mark) = palette.of(engine);
        let y = line * LEGEND_LINE + 10;
        canvas.mark((x + 6, y), mark, ink, 5);
        canvas.text((x + 18, y), Side::Right, Ink::Text, engine);
    }
    legend_height(engines, canvas.width)
}

fn swatches_height(phases: &[(String, Ink)], width: i32) -> i32 {
    let lines = flow(phases.iter().map(|phase| phase.0.as_str()), width).last().map_or(0, |place| place.1 + 1);
    lines * LEGEND_LINE + 4
}

fn swatches(canvas: &mut Canvas<'_>, phases: &[(String, Ink)]) -> i32 {
    for ((phase, ink), (x, line)) in phases.iter().zip(flow(phases.iter().map(|phase| phase.0.as_str()), canvas.width))
    {
        let y = line * LEGEND_LINE + 10;
        canvas.rectangle((x, y - 6), (x + 12, y + 6), *ink);
        canvas.text((x + 18, y), Side::Right, Ink::Text, phase);
    }
    swatches_height(phases, canvas.width)
}

/// The place of each word of a legend: its x in pixels, and the number of its line.
fn flow<'a>(words: impl Iterator<Item = &'a str>, width: i32) -> Vec<Place> {
    let (mut x, mut line) = (0, 0);
    words
        .map(|word| {
            let needed = 18 + width_of(word, LETTERS) + 18;
            if x > 0 && x + needed > width {
                (x, line) = (0, line + 1);
            }
            let place = (x, line);
            x += needed;
            place
        })
        .collect()
}
