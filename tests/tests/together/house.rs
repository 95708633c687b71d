//! How the sources hang together: the map of ARCHITECTURE.md names every file, no file is too long to be read at once, and no two
//! modules need each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

const LONGEST: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All Rust sources below a folder but the generated ones, with their paths from there.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                if !path.ends_with("generated") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(folder).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "{} has no sources", folder.display());
    found
}

/// `engine/mod.rs` and `engine.rs` are the module `engine`; the root is the empty one.
fn module_of(path: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if ["mod", "lib", "main"].contains(&parts.last().unwrap().as_str()) {
        parts.pop();
    }
    parts
}

fn is_of_tests(path: &Path) -> bool {
    path.iter().any(|part| part == "tests" || part == "tests.rs")
}

#[test]
fn the_map_names_every_file_of_the_product() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let map = page.split("## The map").nth(1).unwrap().split("\n## ").next().unwrap();
    let words: BTreeSet<&str> = map.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let mut lacking = Vec::new();
    for side in ["proto", "agent", "coordinator"] {
        for (path, _) in sources(&root().join(side).join("src")) {
            let name = module_of(&path).pop();
            if !is_of_tests(&path) && name.is_some_and(|name| !words.contains(name.as_str())) {
                lacking.push(format!("{side}/src/{}", path.display()));
            }
        }
    }
    assert!(lacking.is_empty(), "ARCHITECTURE.md's map does not name {lacking:#?}");
}

#[test]
fn no_file_is_longer_than_a_person_reads_at_once() {
    let folders =
        ["proto/src", "agent/src", "coordinator/src", "tests/src", "tests/tests", "tests/faults/src"];
    let long: Vec<_> = folders
        .iter()
        .flat_map(|folder| sources(&root().join(folder)).into_iter().map(move |source| (folder, source)))
        .filter(|(_, (_, text))| text.lines().count() > LONGEST)
        .map(|(folder, (path, _))| format!("{folder}/{}", path.display()))
        .collect();
    assert!(long.is_empty(), "longer than {LONGEST} lines: {long:?}");
}

/// The paths that a use tree brings: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(tree: &str) -> Vec<String> {
    let Some((before, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
    let (mut depth, mut part, mut found) = (0, String::new(), Vec::new());
    for c in inside.chars().chain([',']) {
        match c {
            ',' if depth == 0 => {
                if !part.trim().is_empty() {
                    found.extend(paths(&format!("{}{}", before.trim(), part.trim())));
                }
                part.clear();
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        part.push(c);
    }
    found
}

/// Which modules each module names in its product code, a module's own files below it apart: they are its inside.
fn needs(folder: &Path) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let (comment, tree) = (Regex::new("//.*").unwrap(), Regex::new(r"(?s)\buse\s+([^;]+);").unwrap());
    let inline = Regex::new(r"\b(?:crate|super)(?:::\w+)+").unwrap();
    let product: Vec<_> = sources(folder).into_iter().filter(|(path, _)| !is_of_tests(path)).collect();
    let modules: BTreeSet<Vec<String>> = product.iter().map(|(path, _)| module_of(path)).collect();
    let of = |own: &[String], text: &str| {
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let text = comment.replace_all(text, "");
        let uses = tree.captures_iter(&text).flat_map(|found| paths(&found[1]));
        let mentioned = inline.find_iter(&text).map(|found| found.as_str().to_owned());
        let mut found = BTreeSet::new();
        for path in uses.chain(mentioned) {
            let mut parts: Vec<String> = path.split("::").map(|part| part.trim().to_owned()).collect();
            let mut base = own.to_vec();
            match parts[0].as_str() {
                "crate" => base.clear(),
                "self" => {}
                "super" => {
                    while parts.get(1).is_some_and(|part| part == "super") {
                        parts.remove(0);
                        base.pop();
                    }
                    base.pop();
                }
                _ => continue,
            }
            base.extend(parts.drain(1..));
            while !base.is_empty() && !modules.contains(&base) {
                base.pop();
            }
            let is_inside = base.starts_with(own) || own.starts_with(&base);
            if !is_inside {
                found.insert(base);
            }
        }
        found
    };
    product.iter().map(|(path, text)| (module_of(path), of(&module_of(path), text))).collect()
}

#[test]
fn no_modules_need_each_other_in_a_circle() {
    for side in ["proto", "agent", "coordinator"] {
        let mut left = needs(&root().join(side).join("src"));
        assert!(left.values().any(|needed| !needed.is_empty()), "nothing was read of {side}");
        loop {
            let free: Vec<_> = left
                .iter()
                .filter(|(_, needed)| needed.iter().all(|module| !left.contains_key(module)))
                .map(|(module, _)| module.clone())
                .collect();
            if free.is_empty() {
                break;
            }
            free.iter().for_each(|module| drop(left.remove(module)));
        }
        // Who only needs a circle is no part of it.
        while let Some(outside) =
            left.keys().find(|module| !left.values().any(|needed| needed.contains(*module))).cloned()
        {
            left.remove(&outside);
        }
        let circle: Vec<String> = left
            .iter()
            .map(|(module, needed)| {
                let needed = needed.iter().filter(|module| left.contains_key(*module)).map(|m| m.join("::"));
                format!("{} -> {}", module.join("::"), needed.collect::<Vec<_>>().join(", "))
            })
            .collect();
        assert!(circle.is_empty(), "{side}: {circle:#?}");
    }
}
