//! Values that no parser of Muster may take, in one place, and what holds of every value that one took. For the tests of
//! all crates; no part of a program.

/// The largest value of the corpus.
pub const ENORMOUS: usize = 10_000_000;

/// What every text type refuses, whatever it stands for.
const SHORT: &[&str] = &[
    // For a shell, a template or printf.
    "",
    " ",
    "$(id)",
    "`id`",
    "${HOME}",
    "a;reboot",
    "a|b",
    "a&b",
    "a>b",
    "a b",
    "'a'",
    "\"a\"",
    "a\\b",
    "%n",
    "%s%n",
    "{{a}}",
    "a*",
    "~root",
    // Read as an option by the program that is given it.
    "--help",
    "-a",
    "-",
    // Out of a folder, or an address of something else.
    "../x",
    "../../etc/shadow",
    "a/../b",
    "/etc/shadow",
    "file:///etc/shadow",
    "http://a/b",
    // A second line of a file, of a header or of a terminal.
    "a\nb",
    "a\n",
    "\na",
    "a\r\nb",
    "a\tb",
    "a\0b",
    "a\0",
    "\u{1b}[2Ja",
    "a\u{7}",
    "a\u{9b}31m",
    // Looks like something else: right-to-left marks, nothing at all, another alphabet, a number of another script.
    "\u{202e}abc",
    "abc\u{202e}",
    "a\u{200f}b",
    "a\u{2066}b",
    "a\u{61c}b",
    "a\u{200b}b",
    "\u{feff}a",
    "a\u{2028}b",
    "\u{430}dmin",
    "e\u{301}",
    "\u{663}",
    // For a reader of YAML or JSON.
    "*a",
    "&a [*a, *a]",
    "!!python/object/apply:os.system [id]",
    "{a: b}",
    "[a]",
    "a: b",
    "a #b",
    "? a",
    "a\n---\nb",
];

/// The values of the corpus that a reader of whole texts gets through in no time.
pub fn short_values() -> impl Iterator<Item = String> {
    values().filter(|value| value.len() < ENORMOUS / 10)
}

/// Every value of the corpus; the last ones are long.
pub fn values() -> impl Iterator<Item = String> {
    let long = ["a", "a.", "1", "["];
    let long = long.into_iter().map(|unit| unit.repeat(ENORMOUS / unit.len()));
    SHORT.iter().map(|value| (*value).to_owned()).chain([yaml_bomb(), yaml_depth()]).chain(long)
}

/// What turns a good value into a bad one wherever it is put in.
pub const PIECES: &[&str] = &[
    "$(id)",
    "\n",
    "\0",
    " ",
    "%n",
    "\u{202e}",
    "\u{200f}",
    "\u{1b}[0m",
    "`",
    ";",
    "\"",
    "\\",
    "\u{e9}",
    "*",
];

/// Ten to the power of 26 letters for whoever expands its references.
pub fn yaml_bomb() -> String {
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
    for (last, next) in ('a'..='y').zip('b'..='z') {
        bomb.push_str(&format!("{next}: &{next} [{}]\n", vec![format!("*{last}"); 10].join(",")));
    }
    bomb
}

/// Deeper than any stack.
pub fn yaml_depth() -> String {
    format!("a: {}", "[".repeat(100_000))
}

/// Whether a value that a parser took means nothing to a shell, a terminal, printf or a command line, and leads out of no
/// folder. Brackets only as they stand around an IPv6 address.
pub fn is_inert(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "./:@_-".contains(c);
    let bare = value.strip_prefix('[').map_or(value.to_owned(), |rest| rest.replacen("]:", ":", 1));
    !bare.is_empty()
        && bare.len() <= 512
        && bare.chars().all(plain)
        && bare.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_' || first == ':')
        && !bare.split('/').any(|part| part == "..")
}

/// Whether a sentence can be shown and sent: nothing in it steers a terminal, and it does not repeat an enormous value.
pub fn is_showable(sentence: &str) -> bool {
    crate::redaction::printable(sentence) == sentence && sentence.len() <= 2_000
}
