//! A block of lines of ours in a file of somebody else's: everything outside stays byte for byte.

const BEGIN: &str = "# BEGIN muster ";
const END: &str = "# END muster ";

/// The file with the block in it, between `# BEGIN muster NAME` and `# END muster NAME`; replaced where it stands,
/// appended where it is missing. An unfinished block (its end line was lost) ends at the file's end.
pub fn with_block(file: &str, name: &str, lines: &str) -> String {
    let (begin, end) = (format!("{BEGIN}{name}"), format!("{END}{name}"));
    let block = format!("{begin}\n{}\n{end}\n", lines.trim_end());
    let mut result = String::with_capacity(file.len() + block.len());
    let (mut inside, mut placed) = (false, false);
    for line in file.split_inclusive('\n') {
        let bare = bare(line);
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

/// Every whole block of ours in the file, markers included, whatever its name; line by line, without line ends.
pub fn blocks(file: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = file.split('\n').map(bare).collect();
    let begins = |at: &usize| lines[*at].starts_with(BEGIN);
    let block = |at: usize| {
        let end = format!("{END}{}", &lines[at][BEGIN.len()..]);
        let length = lines[at..].iter().position(|line| *line == end)?;
        Some(lines[at..=at + length].to_vec())
    };
    (0..lines.len()).filter(begins).filter_map(block).collect()
}

/// The file without these blocks, wherever they stand in it; every other byte stays.
pub fn without_blocks(file: &str, blocks: &[Vec<&str>]) -> String {
    let lines: Vec<&str> = file.split_inclusive('\n').collect();
    let (mut rest, mut at) = (String::with_capacity(file.len()), 0);
    while at < lines.len() {
        let starts_here = |block: &&Vec<&str>| {
            let here = lines[at..].iter().map(|line| bare(line));
            !block.is_empty() && here.take(block.len()).eq(block.iter().copied())
        };
        match blocks.iter().find(starts_here) {
            Some(block) => at += block.len(),
            None => {
                rest.push_str(lines[at]);
                at += 1;
            }
        }
    }
    rest
}

fn bare(line: &str) -> &str {
    line.trim_end_matches(['\n', '\r'])
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_block_is_found_and_taken_out_wherever_it_stands_and_only_if_it_is_the_same() {
        let ours = "a\n# BEGIN muster h\n1\n# END muster h\nb\n";
        let block = ["# BEGIN muster h", "1", "# END muster h"].to_vec();
        assert_eq!(blocks(ours), std::slice::from_ref(&block));
        assert!(blocks("# BEGIN muster h\n1\n").is_empty(), "its end is not there");
        let blocks = [block];
        for (file, rest) in [
            (ours, "a\nb\n"),
            ("x\r\n# BEGIN muster h\r\n1\r\n# END muster h\r\ny", "x\r\ny"),
            ("# BEGIN muster h\n1\n# END muster h", ""),
            ("# BEGIN muster h\n2\n# END muster h\n", "# BEGIN muster h\n2\n# END muster h\n"),
        ] {
            assert_eq!(without_blocks(file, &blocks), rest);
        }
    }
}
