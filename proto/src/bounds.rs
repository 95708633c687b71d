//! How much an agent may say at once. The coordinator refuses what is more, by the agent's name: an agent is a machine that
//! somebody else may hold by now. An honest agent cuts what it says to the same bounds, by the same table, before it sends it.
//! Sizes are bytes of UTF-8, or of the encoded message.

mod of_events;
mod of_messages;
mod values;

use crate::event::Event;

/// A name, an address, a version, a path.
pub const NAME: usize = 256;
/// A sentence or two: what a change does, what is waited for, a cause, a remedy.
pub const SENTENCE: usize = 4 << 10;
/// Twelve lines of a log with 2,000 characters each, and some.
pub const EVIDENCE: usize = 32 << 10;
/// What a program said: head and tail of both its streams, as much as the node's own journal keeps, with the marks between.
pub const OUTPUT: usize = (1 << 20) + 512;

/// An encoded answer to Hello: a dozen names.
pub const GREETING: usize = 16 << 10;
/// An encoded answer to CheckStep; /etc/hosts of 5,000 nodes, as lines of a difference, has room in it.
pub const FINDING: usize = 512 << 10;
/// An encoded message of RunStep: an event, or the addresses of the pods on 5,000 nodes.
pub const STEP_MESSAGE: usize = EVENT + (4 << 10);
/// An encoded message of Listen: the doors, at most 10 bytes each.
pub const LISTENING: usize = 16 << 10;
/// Of doors, names or targets an agent answers to so many in one question.
pub const MOST_ASKED: usize = 1024;

/// An event as JSON: the longest output, of characters that are two in JSON.
pub const EVENT: usize = 2 * OUTPUT + (64 << 10);
/// Values of JSON in one event: a value of two bytes becomes hundreds in memory.
pub const EVENT_VALUES: usize = 4096;
/// Messages of one step in one run: a look a second that says something new, for as long as a step may take.
pub const STEP_MESSAGES: usize = 2400;
/// The bodies of all events of one step in one run.
pub const STEP_BYTES: usize = 8 << 20;

/// An encoded answer to Inspect with this many names to resolve.
pub fn host_report(names: usize) -> usize {
    (384 << 10) + 256 * names.min(MOST_ASKED)
}

/// An encoded answer to Reach with this many targets.
pub fn reached(targets: usize) -> usize {
    (4 << 10) + 512 * targets.min(MOST_ASKED)
}

/// Something is larger than it may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {found}, where at most {most} are taken")]
pub struct TooMuch {
    pub what: &'static str,
    pub found: usize,
    pub most: usize,
}

impl TooMuch {
    /// An error when there is more of it than that.
    pub fn unless(what: &'static str, found: usize, most: usize) -> Result<(), Self> {
        if found > most { Err(Self { what, found, most }) } else { Ok(()) }
    }
}

/// Every text and every list of what is sent, each with the most that it may have: the one table that both sides go by.
pub trait Bounded {
    fn each(&mut self, bound: &mut dyn Bound);
}

/// What is done to each.
pub trait Bound {
    fn text(&mut self, what: &'static str, text: &mut String, most: usize);
    fn list(&mut self, what: &'static str, list: &mut dyn List, most: usize);
}

/// A list of anything.
pub trait List {
    fn length(&self) -> usize;
    fn shorten(&mut self, most: usize);
}

impl<T> List for Vec<T> {
    fn length(&self) -> usize {
        self.len()
    }

    fn shorten(&mut self, most: usize) {
        self.truncate(most);
    }
}

/// The message, when nothing in it is too large.
pub fn taken<T: Bounded>(mut message: T) -> Result<T, TooMuch> {
    let mut found = First(Ok(()));
    message.each(&mut found);
    found.0.map(|()| message)
}

/// The message with everything cut that is too large: lists at their ends, texts in their middle.
pub fn fitted<T: Bounded>(mut message: T) -> T {
    message.each(&mut Cut);
    message
}

/// The first that is too large.
struct First(Result<(), TooMuch>);

impl Bound for First {
    fn text(&mut self, what: &'static str, text: &mut String, most: usize) {
        if self.0.is_ok() {
            self.0 = TooMuch::unless(what, text.len(), most);
        }
    }

    fn list(&mut self, what: &'static str, list: &mut dyn List, most: usize) {
        if self.0.is_ok() {
            self.0 = TooMuch::unless(what, list.length(), most);
        }
    }
}

struct Cut;

impl Bound for Cut {
    fn text(&mut self, _: &'static str, text: &mut String, most: usize) {
        if text.len() > most {
            *text = middle_out(text, most);
        }
    }

    fn list(&mut self, _: &'static str, list: &mut dyn List, most: usize) {
        list.shorten(most);
    }
}

/// Head and tail of a text, with a mark of what is left out: at most this many bytes in all.
fn middle_out(text: &str, most: usize) -> String {
    // As long as the longest mark.
    const MARK: usize = 48;
    let half = most.saturating_sub(MARK) / 2;
    let head = boundary(text, half);
    let tail = (text.len() - half..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let left_out = tail - head;
    let whole = format!("{}[{left_out} bytes left out]{}", &text[..head], &text[tail..]);
    if whole.len() > most {
        return text[..boundary(text, most)].to_owned();
    }
    whole
}

/// The last place at or before this one at which a character begins.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Why a text is no event that is taken.
#[derive(Debug, thiserror::Error)]
pub enum NoEvent {
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// The event of an agent's journal in this text. What would become large in memory is refused before it is read.
pub fn event(body: &str) -> Result<Event, NoEvent> {
    TooMuch::unless("the bytes of an event", body.len(), EVENT)?;
    TooMuch::unless("the values of an event", values::count(body)?, EVENT_VALUES)?;
    Ok(taken(serde_json::from_str::<Event>(body)?)?)
}

#[cfg(test)]
mod tests;
