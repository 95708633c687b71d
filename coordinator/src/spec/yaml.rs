//! The file as a tree, every value with its line. What a cluster file has no use for (aliases, tags) is kept as such and
//! refused with its line by whoever reads the tree; so nothing grows while it is read, however it was written.

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, options};

use super::Problem;

/// More levels than any cluster file has.
const DEEPEST: usize = 32;

/// A value and the line where it begins, from 1.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    /// Left empty, `null` or `~`.
    Nothing,
    /// As it was written: `1.20` is not yet a number.
    Text {
        text: String,
        quoted: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// What is not read here, in words.
    Strange(&'static str),
}

/// A key, its line and its value; a key may come twice.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: u64,
    pub(super) value: Node,
}

impl Value {
    /// For a sentence: "... stands here".
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::Text { text, .. } => format!("{:?}", text.chars().take(80).collect::<String>()),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a group of fields".to_owned(),
            Self::Strange(what) => (*what).to_owned(),
        }
    }
}

/// The one document of the file.
pub(super) fn read(text: &str) -> Result<Node, Problem> {
    let options = options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    let mut events = Events(Parser::new_from_str_with_options(text, options));
    let mut document = None;
    loop {
        match events.next()? {
            (Event::StreamEnd, _) => {
                return Ok(document.unwrap_or(Node { line: 1, value: Value::Nothing }));
            }
            (Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _) => {}
            (_, line) if document.is_some() => {
                return Err(Problem::new(
                    line,
                    "",
                    "a second document begins here; a file holds one cluster",
                ));
            }
            (event, line) => document = Some(events.node(event, line)?),
        }
    }
}

struct Events<I>(I);

impl<'a, I: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> Events<I> {
    fn next(&mut self) -> Result<(Event<'a>, u64), Problem> {
        match self.0.next() {
            Some(Ok((event, span))) => Ok((event, span.start.line() as u64)),
            Some(Err(error)) => {
                let line = error.marker().line() as u64;
                Err(Problem::new(line, "", format!("not YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    /// The value that this event begins.
    fn node(&mut self, event: Event<'a>, line: u64) -> Result<Node, Problem> {
        let tagged = event.tag().is_some();
        let value = match event {
            Event::Scalar(text, style, ..) => match (&*text, style) {
                ("" | "~" | "null" | "Null" | "NULL", ScalarStyle::Plain) => Value::Nothing,
                _ => Value::Text { text: text.into_owned(), quoted: style != ScalarStyle::Plain },
            },
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd | Event::StreamEnd, _) => break Value::List(items),
                        (event, line) => items.push(self.node(event, line)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut entries = Vec::new();
                loop {
                    match self.next()? {
                        (Event::MappingEnd | Event::StreamEnd, _) => break Value::Map(entries),
                        (event, line) => entries.push(self.entry(event, line)?),
                    }
                }
            }
            _ => Value::Strange("a reference to another place (*name)"),
        };
        Ok(Node { line, value: if tagged { Value::Strange("a tag (!name)") } else { value } })
    }

    fn entry(&mut self, event: Event<'a>, line: u64) -> Result<Entry, Problem> {
        let key = match self.node(event, line)?.value {
            Value::Text { text, .. } => text,
            other => other.in_words(),
        };
        let (event, value_line) = self.next()?;
        Ok(Entry { key, line, value: self.node(event, value_line)? })
    }
}
