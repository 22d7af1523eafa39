//! A badge: a task's best confirmed result in a small picture, for other pages.

use crate::{dto::TaskSummary, markup::escaped, view::plain_line};

/// Characters of the metric's name and of a class that a badge shows.
const MOST: usize = 24;
/// Width of a character and of the space beside a text, in pixels: badges have one font of eleven pixels.
const CHARACTER: usize = 7;
const SPACE: usize = 12;

/// The badge of a task: of its best class, or of the given one.
pub fn of_task(task: &TaskSummary, class: Option<&str>) -> String {
    let of_class = |name: &str| {
        let found = task.classes.iter().find(|one| one.class.eq_ignore_ascii_case(name));
        found.and_then(|one| Some((one.best?, one.class.clone())))
    };
    let best = match class {
        Some(name) => of_class(name),
        None => task.best.zip(task.best_class.clone()),
    };
    let label = plain_line(&task.metric, MOST);
    let (value, colour) = match best {
        Some((best, class)) => (format!("{best:.4} on {}", plain_line(&class, MOST)), "#1f6f54"),
        None => ("nothing confirmed".to_owned(), "#5f6c65"),
    };
    drawn(if label.is_empty() { "spore" } else { &label }, &value, colour)
}

fn drawn(label: &str, value: &str, colour: &str) -> String {
    let width = |text: &str| text.chars().count() * CHARACTER + SPACE;
    let (left, right) = (width(label), width(value));
    let (all, middle, other) = (left + right, left / 2, left + right / 2);
    let (label, value) = (escaped(label), escaped(value));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{all}\" height=\"20\" role=\"img\" aria-label=\"{label}: {value}\">\
         <title>{label}: {value}</title>\
         <rect width=\"{all}\" height=\"20\" rx=\"3\" fill=\"#4c5a52\"/>\
         <path d=\"M{left} 0h{inner}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{inner}z\" fill=\"{colour}\"/>\
         <g fill=\"#fff\" text-anchor=\"middle\" font-family=\"Verdana,DejaVu Sans,sans-serif\" font-size=\"11\">\
         <text x=\"{middle}\" y=\"14\">{label}</text><text x=\"{other}\" y=\"14\">{value}</text></g></svg>\n",
        inner = right.saturating_sub(3),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn badge_escapes_and_bounds_what_a_task_says_of_itself() {
        let badge = drawn("<b>\"", "1.0 & \u{1}", "#000");
        assert!(
            !badge.contains("<b>") && badge.contains("&lt;b&gt;&quot;") && badge.contains("1.0 &amp; <"),
            "{badge}"
        );
        assert!(width_of(&drawn("val_bpb", "0.9 on CPU", "#000")) > width_of(&drawn("val_bpb", "0.9", "#000")));
    }

    fn width_of(svg: &str) -> usize {
        svg.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
    }
}
