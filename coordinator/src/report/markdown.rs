//! The report as Markdown that reads as a lab report. Values are escaped by the template; what programs said stands in fences that
//! it cannot close.

use std::fmt;

use askama::Template;
use askama::filters::Escaper;

use super::rendering::{Page, duration, gibibytes, moment, time_of_day};
use super::words::Language;
use crate::view::report::Report;
use crate::view::status::StepState;

#[derive(Template)]
#[template(path = "report/page.md", whitespace = "preserve")]
struct MarkdownPage<'a> {
    page: Page<'a>,
}

/// The report as Markdown.
pub fn markdown(report: &Report, language: Language) -> String {
    let page = MarkdownPage { page: Page::of(report, language) };
    page.render().expect("writing into a text does not fail")
}

/// Text within a line of Markdown: nothing in it formats, links or begins a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Markdown;

impl Escaper for Markdown {
    fn write_escaped_str<W: fmt::Write>(&self, mut to: W, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.write_escaped_char(&mut to, c))
    }

    fn write_escaped_char<W: fmt::Write>(&self, mut to: W, c: char) -> fmt::Result {
        match c {
            '\n' => to.write_char(' '),
            '<' => to.write_str("&lt;"),
            '&' => to.write_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' | '>' | '!' | '$' => {
                to.write_char('\\')?;
                to.write_char(c)
            }
            c => to.write_char(c),
        }
    }
}

/// The text as a block, in a fence that is longer than any in it; indented so that it belongs to a list's item.
fn block(text: &str, language: &str, indent: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let lines = text.trim_end().lines().map(|line| format!("{indent}{line}\n"));
    format!("{indent}{fence}{language}\n{}{indent}{fence}", lines.collect::<String>())
}

/// The text as a span of code, on one line.
fn code(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // In a table even a span of code ends with a bar.
    let text = text.replace('\n', " ").replace('|', "\u{2223}");
    match longest {
        0 => format!("{fence}{text}{fence}"),
        _ => format!("{fence} {text} {fence}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_not_ended_by_what_stands_in_it() {
        assert_eq!(block("a\n```\nb\n", "", "  "), "  ````\n  a\n  ```\n  b\n  ````");
        assert_eq!(code("a `b` c"), "`` a `b` c ``");
        assert_eq!(code("plain"), "`plain`");
    }

    #[test]
    fn within_a_line_nothing_formats_links_or_begins_another_line() {
        let mut told = String::new();
        Markdown.write_escaped_str(&mut told, "<b>*x*\n# [a](b) | c").unwrap();
        assert_eq!(told, "&lt;b>\\*x\\* \\# \\[a\\](b) \\| c".replace('>', "\\>"));
    }
}
