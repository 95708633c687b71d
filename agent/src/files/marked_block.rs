//! A block of lines of ours in a file of somebody else's: everything outside stays byte for byte.

/// The file with the block in it, between `# BEGIN muster NAME` and `# END muster NAME`; replaced where it stands,
/// appended where it is missing. An unfinished block (its end line was lost) ends at the file's end.
pub fn with_block(file: &str, name: &str, lines: &str) -> String {
    let (begin, end) = (format!("# BEGIN muster {name}"), format!("# END muster {name}"));
    let block = format!("{begin}\n{}\n{end}\n", lines.trim_end());
    let mut result = String::with_capacity(file.len() + block.len());
    let (mut inside, mut placed) = (false, false);
    for line in file.split_inclusive('\n') {
        let bare = line.trim_end_matches(['\n', '\r']);
        if bare == begin {
            inside = true;
            if !placed {
                result.push_str(&block);
                placed = true;
            }
        } else if inside {
            inside = bare != end;
        } else {
            result.push_str(line);
        }
    }
    if !placed {
        if !result.is_empty() && !result.ends_with('\n') {
            result.push('\n');
        }
        result.push_str(&block);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::with_block;

    #[test]
    fn a_missing_block_is_appended_and_the_rest_stays_byte_for_byte() {
        assert_eq!(
            with_block("a \n\tb", "hosts", "1 x\n"),
            "a \n\tb\n# BEGIN muster hosts\n1 x\n# END muster hosts\n"
        );
        assert_eq!(with_block("", "hosts", "1 x"), "# BEGIN muster hosts\n1 x\n# END muster hosts\n");
    }

    #[test]
    fn a_block_is_replaced_where_it_stands_and_doing_it_twice_changes_nothing() {
        let once = with_block("a\n# BEGIN muster hosts\nold\n# END muster hosts\nb\n", "hosts", "new");
        assert_eq!(once, "a\n# BEGIN muster hosts\nnew\n# END muster hosts\nb\n");
        assert_eq!(with_block(&once, "hosts", "new"), once);
    }

    #[test]
    fn a_second_block_of_the_same_name_goes_away() {
        let twice = "# BEGIN muster h\n1\n# END muster h\n# BEGIN muster h\n2\n# END muster h\n";
        assert_eq!(with_block(twice, "h", "3"), "# BEGIN muster h\n3\n# END muster h\n");
    }
}
