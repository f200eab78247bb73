//! The canvas for pictures: SVG in which colours are names, so that the page's style decides what they look like.

use plotters::prelude::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, IntoFont, RGBColor, TextStyle};

/// A place in a picture: the distance from the left and from the top, in pixels.
pub(crate) type Place = (i32, i32);

/// The colour of a thing in a picture, by its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Important words.
    Text,
    /// Words and lines that help the reader, such as axes.
    Muted,
    /// Lines in the background.
    Grid,
    /// A stripe behind every other row.
    Stripe,
    /// Native code.
    Native,
    /// Remuda's choice.
    Auto,
    /// A single engine or another program, by its colour's number (see [`Palette`](super::plot::Palette)).
    Series(u8),
    /// A phase of a call, by its number.
    Phase(u8),
}

/// The number of colours for engines. If there are more engines, colours repeat with other marks.
pub(crate) const SERIES: u8 = 7;

impl Ink {
    /// The blue part of the colour that stands for this ink until the picture is finished.
    fn code(self) -> u8 {
        match self {
            Self::Text => 0,
            Self::Muted => 1,
            Self::Grid => 2,
            Self::Stripe => 3,
            Self::Native => 4,
            Self::Auto => 5,
            Self::Series(index) => 16 + index % SERIES,
            Self::Phase(index) => 32 + index,
        }
    }

    /// The CSS variable that holds the colour.
    pub(crate) fn variable(self) -> String {
        match self {
            Self::Text => "--text".into(),
            Self::Muted => "--muted".into(),
            Self::Grid => "--grid".into(),
            Self::Stripe => "--stripe".into(),
            Self::Native => "--native".into(),
            Self::Auto => "--auto".into(),
            Self::Series(index) => format!("--series-{}", index % SERIES),
            Self::Phase(index) => format!("--phase-{index}"),
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        [Self::Text, Self::Muted, Self::Grid, Self::Stripe, Self::Native, Self::Auto]
            .into_iter()
            .chain((0..SERIES).map(Self::Series))
            .chain((0..6).map(Self::Phase))
    }

    fn color(self) -> RGBColor {
        RGBColor(0xc0, 0x5e, self.code())
    }
}

/// The form of a mark. It tells engines apart where the colour does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Circle,
    Square,
    Diamond,
    Up,
    Down,
    Ring,
    Bar,
    Cross,
}

/// The side of its anchor on which a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Right,
    Left,
    Middle,
}

/// The size of letters, in pixels.
pub(crate) const LETTERS: f64 = 13.0;

/// The approximate width of a text in the page's font, in pixels.
pub(crate) fn width_of(text: &str, size: f64) -> i32 {
    let letters = text.chars().map(|letter| match letter {
        'i' | 'l' | 'j' | '.' | ',' | ' ' | 't' | 'f' | '\'' | '|' | ':' => 0.34,
        'm' | 'w' | 'M' | 'W' => 0.88,
        letter if letter.is_ascii_uppercase() => 0.68,
        _ => 0.57,
    });
    pixels(letters.sum::<f64>() * size)
}

/// Rounds to the nearest pixel.
#[allow(clippy::cast_possible_truncation, reason = "a place in a picture, which is smaller than that by far")]
pub(crate) fn pixels(value: f64) -> i32 {
    value.round() as i32
}

/// A finished picture.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    /// The SVG for wide windows.
    pub wide: String,
    /// The SVG for telephones.
    pub narrow: String,
    /// A description in words.
    pub words: String,
}

/// The widths that pictures are drawn for.
const WIDE: i32 = 1000;
const NARROW: i32 = 360;

impl Picture {
    /// Draws the picture for both widths; `height` gives the height for a width.
    pub(crate) fn draw(words: String, height: impl Fn(i32) -> i32, draw: impl Fn(&mut Canvas)) -> Self {
        let at = |width: i32| {
            let height = height(width);
            let mut svg = String::new();
            {
                let size = (width.unsigned_abs(), height.unsigned_abs());
                let mut canvas = Canvas { backend: SVGBackend::with_string(&mut svg, size), width, height };
                draw(&mut canvas);
                canvas.backend.present().expect("a string takes everything");
            }
            finish(&svg, width, height, &words)
        };
        let (wide, narrow) = (at(WIDE), at(NARROW));
        Self { wide, narrow, words }
    }
}

/// Completes the SVG: CSS variables instead of colours, a description for screen readers, and no fixed size.
fn finish(svg: &str, width: i32, height: i32, words: &str) -> String {
    let inner = svg.split_once("xmlns").and_then(|(_, rest)| rest.split_once('>')).map_or("", |(_, inner)| inner);
    let label: String = words
        .chars()
        .map(|letter| match letter {
            '"' => "&quot;".to_owned(),
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            letter => letter.to_string(),
        })
        .collect();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 {width} {height}\" \
         aria-label=\"{label}\">{}",
        inner.replace(" font-family=\"sans-serif\"", "").replace(" opacity=\"1\"", "").replace(">\n", ">")
    );
    for ink in Ink::all() {
        let RGBColor(red, green, blue) = ink.color();
        svg = svg.replace(&format!("#{red:02X}{green:02X}{blue:02X}"), &format!("var({})", ink.variable()));
    }
    svg
}

/// A picture while it is drawn. Places are in pixels from the upper left corner.
pub(crate) struct Canvas<'a> {
    backend: SVGBackend<'a>,
    pub width: i32,
    pub height: i32,
}

impl Canvas<'_> {
    pub(crate) fn is_narrow(&self) -> bool {
        self.width < 600
    }

    pub(crate) fn text(&mut self, at: Place, side: Side, ink: Ink, text: &str) {
        self.letters(at, side, ink, text, LETTERS, false);
    }

    pub(crate) fn bold(&mut self, at: Place, side: Side, ink: Ink, text: &str) {
        self.letters(at, side, ink, text, LETTERS, true);
    }

    fn letters(&mut self, at: Place, side: Side, ink: Ink, text: &str, size: f64, bold: bool) {
        // The backend divides by this factor; so the result is the size in CSS pixels.
        let font = ("sans-serif", size * 1.24).into_font();
        let font = if bold { font.style(FontStyle::Bold) } else { font };
        let horizontal = match side {
            Side::Right => HPos::Left,
            Side::Left => HPos::Right,
            Side::Middle => HPos::Center,
        };
        let color = ink.color();
        let style = TextStyle::from(font).color(&color).pos(Pos::new(horizontal, VPos::Center));
        self.backend.draw_text(text, &style, at).expect("a string takes everything");
    }

    pub(crate) fn rectangle(&mut self, from: Place, to: Place, ink: Ink) {
        if to.0 > from.0 && to.1 > from.1 {
            self.backend.draw_rect(from, to, &ink.color(), true).expect("a string takes everything");
        }
    }

    pub(crate) fn line(&mut self, points: &[Place], ink: Ink, wide: u32) {
        use plotters::style::Color;
        let style = ink.color().stroke_width(wide);
        self.backend.draw_path(points.iter().copied(), &style).expect("a string takes everything");
    }

    pub(crate) fn mark(&mut self, (x, y): Place, mark: Mark, ink: Ink, radius: i32) {
        use plotters::style::Color;
        let color = ink.color();
        let r = radius;
        let polygon = |backend: &mut SVGBackend<'_>, points: &[Place]| {
            backend.fill_polygon(points.iter().copied(), &color).expect("a string takes everything");
        };
        match mark {
            Mark::Circle => {
                self.backend.draw_circle((x, y), r.unsigned_abs(), &color, true).expect("a string takes everything");
            }
            Mark::Ring => self
                .backend
                .draw_circle((x, y), r.unsigned_abs(), &color.stroke_width(2), false)
                .expect("a string takes everything"),
            Mark::Square => self.rectangle((x - r + 1, y - r + 1), (x + r, y + r), ink),
            Mark::Bar => self.rectangle((x - 1, y - r - 2), (x + 2, y + r + 2), ink),
            Mark::Diamond => {
                polygon(&mut self.backend, &[(x, y - r - 1), (x + r + 1, y), (x, y + r + 1), (x - r - 1, y)]);
            }
            Mark::Up => polygon(&mut self.backend, &[(x, y - r), (x + r, y + r - 1), (x - r, y + r - 1)]),
            Mark::Down => polygon(&mut self.backend, &[(x, y + r), (x + r, y - r + 1), (x - r, y - r + 1)]),
            Mark::Cross => {
                self.line(&[(x - r, y - r), (x + r, y + r)], ink, 2);
                self.line(&[(x - r, y + r), (x + r, y - r)], ink, 2);
            }
        }
    }
}

/// Values along a line of pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    from: i32,
    to: i32,
}

impl Scale {
    /// A logarithmic scale that holds all values, with a little room.
    pub(crate) fn logarithmic(values: impl Iterator<Item = f64>, from: i32, to: i32) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite() && *value > 0.0) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        let room = (high / low).powf(0.03).max(1.02);
        Self { low: low / room, high: high * room, from, to }
    }

    /// The pixel at which a value stands.
    pub(crate) fn at(&self, value: f64) -> i32 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        pixels(f64::from(self.from) + share.clamp(-0.01, 1.01) * f64::from(self.to - self.from))
    }

    /// Round numbers along the scale, at least `apart` pixels from each other: powers of ten, and round numbers between
    /// them if there is room.
    pub(crate) fn ticks(&self, apart: i32) -> Vec<f64> {
        const STEPS: [&[f64]; 5] = [
            &[1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0],
            &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
            &[1.0, 2.0, 5.0],
            &[1.0, 3.0],
            &[1.0],
        ];
        #[allow(clippy::cast_possible_truncation, reason = "an exponent")]
        let decades = (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32);
        let mut ticks = Vec::new();
        for (step, skip) in STEPS.iter().map(|steps| (steps, 1)).chain((2..=6).map(|skip| (&STEPS[4], skip))) {
            ticks = decades
                .clone()
                .filter(|decade| decade.rem_euclid(skip) == 0)
                .flat_map(|decade| step.iter().map(move |part| part * 10_f64.powi(decade)))
                .filter(|tick| self.low <= *tick && *tick <= self.high)
                .collect();
            let far_enough = ticks.windows(2).all(|pair| (self.at(pair[1]) - self.at(pair[0])).abs() >= apart);
            if far_enough {
                break;
            }
        }
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_apart() {
        let scale = Scale::logarithmic([3.0, 40_000.0].into_iter(), 0, 400);
        assert_eq!(scale.ticks(60), [10.0, 100.0, 1000.0, 10_000.0]);
        assert_eq!(scale.ticks(30), [3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0]);
        let close = Scale::logarithmic([0.9, 1.3].into_iter(), 0, 400);
        assert_eq!(close.ticks(50), [1.0, 1.2]);
    }

    #[test]
    fn colours_are_names() {
        let picture = Picture::draw(
            "a \"quoted\" <word>".into(),
            |_| 20,
            |canvas| {
                canvas.text((5, 5), Side::Right, Ink::Series(9), "a<b");
                canvas.mark((9, 9), Mark::Circle, Ink::Auto, 3);
            },
        );
        assert!(picture.wide.contains("fill=\"var(--series-2)\""), "{}", picture.wide);
        assert!(picture.wide.contains("fill=\"var(--auto)\""));
        assert!(picture.wide.contains("a&lt;b"));
        assert!(picture.wide.contains("aria-label=\"a &quot;quoted&quot; &lt;word>\""));
        assert!(!picture.wide.contains('#'), "a colour is left: {}", picture.wide);
    }
}
