//! The file's tree against the table of fields: what is unknown, missing, twice there, or not what belongs there is
//! noted, all of it; what is good becomes values by their path.

use std::collections::{BTreeMap, BTreeSet};

use super::Problem;
use super::fields::{Absent, CLUSTER, Field, Form};
use super::yaml::{Entry, Node, Value};

/// A value of the file, or the default of a field that is not there.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) line: u64,
}

/// The good values of the file.
#[derive(Debug, Default)]
pub(super) struct Values {
    texts: BTreeMap<String, Text>,
    /// Where a list stands, and how long it is.
    lists: BTreeMap<String, (u64, usize)>,
}

impl Values {
    pub(super) fn text(&self, path: &str) -> Option<&Text> {
        self.texts.get(path)
    }

    /// Line and length of the list; none when it is not there or not a list.
    pub(super) fn list(&self, path: &str) -> Option<(u64, usize)> {
        self.lists.get(path).copied()
    }
}

/// The good values, and everything about the fields that is wrong.
pub(super) fn check(tree: Node) -> (Values, Vec<Problem>) {
    let mut checker = Checker::default();
    checker.value("", &CLUSTER, tree);
    let Checker { mut values, mut problems, missing, meant } = checker;
    // A field that was written under another name is not said to be missing too, and has no default.
    values.texts.retain(|path, _| !meant.contains(path));
    problems.extend(missing.into_iter().filter(|problem| !meant.contains(&problem.field)));
    (values, problems)
}

#[derive(Default)]
struct Checker {
    values: Values,
    problems: Vec<Problem>,
    missing: Vec<Problem>,
    /// The fields that unknown ones were taken for.
    meant: BTreeSet<String>,
}

impl Checker {
    fn value(&mut self, path: &str, form: &'static Form, Node { line, value }: Node) {
        match (form, value) {
            (Form::Fields(fields), Value::Map(entries)) => self.fields(path, fields, line, entries),
            (Form::List(item), Value::List(nodes)) => {
                self.values.lists.insert(path.to_owned(), (line, nodes.len()));
                for (index, node) in nodes.into_iter().enumerate() {
                    self.value(&format!("{path}[{index}]"), item, node);
                }
            }
            (form, Value::Text { text, quoted }) => match form.refusal(&text, quoted) {
                Some(what) => self.problems.push(Problem::new(line, path, what)),
                None => {
                    self.values.texts.insert(path.to_owned(), Text { text, line });
                }
            },
            (form, value) => {
                let what = format!("{} stands here; write {}", value.in_words(), form.in_words());
                self.problems.push(Problem::new(line, path, what));
            }
        }
    }

    fn fields(&mut self, path: &str, fields: &'static [Field], line: u64, entries: Vec<Entry>) {
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        let here: BTreeSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        let absent = |field: &&Field| !here.contains(field.name);
        let mut left_empty = BTreeMap::new();
        for Entry { key, line, value } in entries {
            let at = join(path, &key);
            if let Some(first) = seen.get(&key) {
                let what = format!("it stands here a second time, first in line {first}; keep one of them");
                self.problems.push(Problem::new(line, at, what));
                continue;
            }
            seen.insert(key.clone(), line);
            match (fields.iter().find(|field| field.name == key), &value.value) {
                (Some(field), Value::Nothing) => {
                    left_empty.insert(field.name, line);
                }
                (Some(field), _) => self.value(&at, &field.form, value),
                (None, _) => {
                    let meant = fields.iter().filter(absent).find(|field| similar(field.name, &key));
                    let what = self.unknown(path, fields, &key, meant);
                    self.problems.push(Problem::new(line, at, what));
                }
            }
        }
        for field in fields {
            let line = left_empty.get(field.name).copied().or_else(|| absent(&field).then_some(line));
            if let Some(line) = line {
                self.absent(&join(path, field.name), field, line);
            }
        }
    }

    fn absent(&mut self, path: &str, field: &'static Field, line: u64) {
        match (field.absent, &field.form) {
            (Absent::Wrong, form) => {
                let what = format!("it is missing; write for instance `{}: {}`", field.name, form.example());
                self.missing.push(Problem::new(line, path, what));
            }
            (Absent::Means(text), _) => {
                let text = Text { text: text.to_owned(), line };
                self.values.texts.insert(path.to_owned(), text);
            }
            (Absent::Unset, Form::Fields(fields)) => self.fields(path, fields, line, Vec::new()),
            (Absent::Unset, _) => {}
        }
    }

    /// What to write instead of a field that is not known.
    fn unknown(&mut self, path: &str, fields: &'static [Field], key: &str, meant: Option<&Field>) -> String {
        if let Some(field) = meant {
            self.meant.insert(join(path, field.name));
            return format!("there is no such field; did you mean {}?", field.name);
        }
        if let Some(elsewhere) = place_of(key, &CLUSTER, "") {
            self.meant.insert(join(&elsewhere, key));
            let whose = if elsewhere.is_empty() { "the file itself" } else { &elsewhere };
            return format!("it does not belong here; it is a field of {whose}");
        }
        let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
        format!("there is no such field; here may stand {}", names.join(", "))
    }
}

fn join(path: &str, name: &str) -> String {
    let name: String = name.chars().take(80).collect();
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// Whether the one is the other with a slip of the finger, or in another style of writing.
fn similar(name: &str, written: &str) -> bool {
    let plain =
        |text: &str| text.chars().filter(|c| c.is_alphanumeric()).take(40).collect::<String>().to_lowercase();
    strsim::damerau_levenshtein(&plain(name), &plain(written)) <= name.len() / 4
}

/// The path of the fields among which this one belongs; lists are not looked into.
fn place_of(name: &str, form: &'static Form, path: &str) -> Option<String> {
    let Form::Fields(fields) = form else { return None };
    if fields.iter().any(|field| field.name == name) {
        return Some(path.to_owned());
    }
    fields.iter().find_map(|field| place_of(name, &field.form, &join(path, field.name)))
}
