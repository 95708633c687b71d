//! A panic is a flaw of the program's own: it ends what it struck and nothing else, and it is told, with its place, and counted.

use std::any::Any;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::pin;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use crate::redaction::{one_line, printable, redact};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// More of a panic's text is not kept, in characters.
const LONGEST: usize = 300;

thread_local! {
    /// The place of this thread's last panic: whoever catches it is on the same thread, and only the hook is told the place.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic that was caught.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a flaw in this program struck at {place}: {text}")]
pub struct Panicked {
    /// FILE:LINE in the sources.
    pub place: String,
    /// One line, without secrets.
    pub text: String,
}

/// How many there were since this program began, caught or not.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Counts every panic of this program from now on, and writes it to standard error, which is the service's log, without
/// secrets. First thing in every daemon; a second call changes nothing.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            COUNT.fetch_add(1, Ordering::Relaxed);
            let place = place_of(panic);
            let payload = panic.payload();
            let text = payload
                .downcast_ref::<&str>()
                .copied()
                .or(payload.downcast_ref::<String>().map(String::as_str));
            let text = text.unwrap_or_default();
            eprintln!("panicked at {place}: {}", redact(&printable(text)));
            PLACE.with_borrow_mut(|last| *last = place);
        }));
    });
}

fn place_of(panic: &PanicHookInfo<'_>) -> String {
    panic
        .location()
        .map_or_else(|| "an unknown place".to_owned(), |at| format!("{}:{}", at.file(), at.line()))
}

/// The work to its end; a panic in it ends it as an error. What it held is dropped, as with any future that ends early.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    watch();
    let mut work = pin!(work);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(payload) => Poll::Ready(Err(Panicked::of(payload.as_ref()))),
    })
    .await
}

impl Panicked {
    fn of(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let place = PLACE.with_borrow(String::clone);
        Self { place, text: one_line(&redact(text.unwrap_or("without a word")), LONGEST) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_with_its_place_and_text_is_counted_and_holds_no_secret() {
        let before = count();
        let struck = caught(async {
            tokio::task::yield_now().await;
            panic!("the token is abcdef.0123456789abcdef\nand more");
        });
        let panicked: Panicked = struck.await.unwrap_err();
        assert!(panicked.place.contains("panics.rs:"), "{panicked:?}");
        assert_eq!(panicked.text, "the token is <redacted> and more");
        assert_eq!(caught(async { 7 }).await, Ok(7));
        assert!(count() > before);
    }
}
