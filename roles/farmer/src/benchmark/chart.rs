//! Lines over depths, drawn as an SVG of its own to be looked at in a browser.

use std::fmt::Write as _;

/// All lengths in pixels.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 250.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const LINE: f64 = 18.0;
/// Lines of the grid, about.
const STEPS: f64 = 5.0;
/// Degrees between the colours of neighbouring lines: the golden angle, so that none come close to each other.
const HUE_STEP: usize = 137;

/// One diagram; the x axis is in powers of two.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Below the x axis.
    pub x_name: &'static str,
    /// Beside the y axis.
    pub y_name: &'static str,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// A line and its name in the legend.
#[derive(Debug, Clone)]
pub struct Line {
    /// In the legend.
    pub name: String,
    /// x, which is above zero, and y, which is not below.
    pub points: Vec<(f64, f64)>,
}

/// The charts, one below the other.
pub fn svg(charts: &[Chart]) -> String {
    let height = HEIGHT * charts.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (n, chart) in charts.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "<g transform=\"translate(0 {})\">", HEIGHT * n as f64);
        draw(&mut out, chart);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

/// From values to pixels.
struct Scale {
    x_from: f64,
    x_to: f64,
    y_to: f64,
}

impl Scale {
    fn of(chart: &Chart) -> Self {
        let points = || chart.lines.iter().flat_map(|line| &line.points);
        let x_from = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let x_to = points().map(|point| point.0).fold(0.0, f64::max);
        let y_to = points().map(|point| point.1).fold(0.0, f64::max);
        let (x_from, x_to) = if x_from < x_to { (x_from, x_to) } else { (1.0, 2.0) };
        Self { x_from, x_to, y_to: if y_to > 0.0 { y_to } else { 1.0 } }
    }

    fn x(&self, value: f64) -> f64 {
        let part = (value / self.x_from).log2() / (self.x_to / self.x_from).log2();
        LEFT + part.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value / self.y_to * (HEIGHT - TOP - BOTTOM)
    }
}

fn draw(out: &mut String, chart: &Chart) {
    let scale = Scale::of(chart);
    text(out, (LEFT, TOP - 16.0), "start", &format!("{} ", chart.title));
    axes(out, chart, &scale);
    for (n, line) in chart.lines.iter().enumerate() {
        let colour = format!("hsl({},70%,40%)", n * HUE_STEP % 360);
        let points = line.points.iter().map(|&(x, y)| format!("{:.1},{:.1}", scale.x(x), scale.y(y)));
        let points = points.collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{points}\"/>"
        );
        for &(x, y) in &line.points {
            let _ = writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\" fill=\"{colour}\"/>",
                scale.x(x),
                scale.y(y)
            );
        }
        let (x, y) = (WIDTH - RIGHT + 16.0, TOP + LINE * n as f64);
        let _ = writeln!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        text(out, (x + 18.0, y + 10.0), "start", &line.name);
    }
}

fn axes(out: &mut String, chart: &Chart, scale: &Scale) {
    let (left, right, bottom) = (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM);
    let rule = |out: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str| {
        let _ = writeln!(
            out,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
        );
    };
    let step = step(scale.y_to);
    let mut value = 0.0;
    while value <= scale.y_to {
        let y = scale.y(value);
        rule(out, (left, y), (right, y), "#dddddd");
        text(out, (left - 6.0, y + 4.0), "end", &number(value));
        value += step;
    }
    let mut value = scale.x_from;
    while value <= scale.x_to {
        let x = scale.x(value);
        rule(out, (x, bottom), (x, bottom + 4.0), "black");
        text(out, (x, bottom + 18.0), "middle", &number(value));
        value *= 2.0;
    }
    rule(out, (left, bottom), (right, bottom), "black");
    rule(out, (left, TOP), (left, bottom), "black");
    text(out, ((left + right) / 2.0, bottom + 36.0), "middle", chart.x_name);
    let (x, y) = (18.0, (TOP + bottom) / 2.0);
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" transform=\"rotate(-90 {x} {y})\">{}</text>",
        escape(chart.y_name)
    );
}

/// 1, 2 or 5 times a power of ten, so that there are some lines up to `to`.
fn step(to: f64) -> f64 {
    let power = 10f64.powf((to / STEPS).log10().floor());
    let wanted = to / STEPS / power;
    power * [1.0, 2.0, 5.0].into_iter().find(|step| *step >= wanted).unwrap_or(10.0)
}

/// Without digits behind the point that say nothing.
fn number(value: f64) -> String {
    if value >= 10.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}").trim_end_matches('0').to_owned()
    }
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, content: &str) {
    let _ =
        writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(content));
}

/// Paths may hold anything.
fn escape(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let text: String = text.chars().map(clean).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Panics unless every element is closed in its turn, and every attribute quoted.
    pub fn check_well_formed(xml: &str) {
        let (mut open, mut rest) = (Vec::new(), xml);
        while let Some(at) = rest.find('<') {
            let end = at + rest[at..].find('>').unwrap();
            let (tag, text) = (&rest[at + 1..end], &rest[..at]);
            assert!(!text.contains('>') && !tag.contains('<'), "{tag} after {text}");
            let entities = text.matches('&').count();
            let known = ["&amp;", "&lt;", "&gt;", "&quot;"].map(|entity| text.matches(entity).count());
            assert_eq!(entities, known.iter().sum::<usize>(), "{text}");
            assert!(
                tag.matches('"').count() % 2 == 0 && tag.matches('=').count() * 2 == tag.matches('"').count(),
                "{tag}"
            );
            let name = |tag: &str| tag.split_whitespace().next().unwrap().to_owned();
            match tag.strip_prefix('/') {
                Some(closed) => assert_eq!(open.pop(), Some(closed.to_owned())),
                None if tag.ends_with('/') => {}
                None => open.push(name(tag)),
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    }

    fn chart(points: &[(f64, f64)]) -> Chart {
        let lines = ["/mnt/a<b>&\"c\"\u{7}", "together"]
            .map(|name| Line { name: name.into(), points: points.to_vec() });
        Chart { title: "reads".into(), x_name: "depth", y_name: "reads/s", lines: lines.into() }
    }

    #[test]
    fn drawings_are_well_formed() {
        let some = chart(&[(1.0, 10.0), (2.0, 18.0), (256.0, 90_000.0)]);
        let drawing = svg(&[some.clone(), chart(&[]), chart(&[(4.0, 0.0)]), Chart { lines: vec![], ..some }]);
        check_well_formed(&drawing);
        assert!(
            drawing.contains("/mnt/a&lt;b&gt;&amp;&quot;c&quot;")
                && !drawing.contains("NaN")
                && !drawing.contains("inf")
        );
        assert_eq!(drawing.matches("<polyline").count(), 6);
        for label in [">depth<", ">reads/s<", ">together<", ">256<", ">20000<", ">80000<"] {
            assert!(drawing.contains(label), "{label}");
        }
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([1.0, 9.0, 90_000.0, 0.3, 1e6].map(step), [0.2, 2.0, 20_000.0, 0.1, 200_000.0]);
        assert_eq!([0.0, 0.5, 2.5, 20.0, 1000.4].map(number), ["0", "0.5", "2.5", "20", "1000"]);
    }
}
