//! Taking secrets out of text before it is stored or shown.

use std::sync::LazyLock;

use regex::Regex;

/// What stands in a text where a secret was.
pub const REDACTED: &str = "<redacted>";

/// Bootstrap tokens anywhere; 64 hexadecimal digits only after the words that kubeadm puts before a certificate key,
/// because a CA hash has the same form and is no secret; PEM private keys; kubeconfig key data and bearer tokens; who logs
/// in as what in an address; passwords behind their own word.
static SECRETS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b", "<redacted>"),
        (r"(certificate[- ]key[:=]?\s*)[0-9a-f]{64}\b", "${1}<redacted>"),
        (r"(?s)-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", "<redacted>"),
        (r"((?:client-key-data|token|token-secret):\s*)[A-Za-z0-9+/=._-]{16,}", "${1}<redacted>"),
        (r"(?i)(authorization:\s*bearer\s+)\S+", "${1}<redacted>"),
        (r"muster-token\.1\.[A-Za-z0-9_.-]+", "<redacted>"),
        (r#"(://)[^/\s@"']+@"#, "${1}<redacted>@"),
        (r#"(?i)(\bpass(?:word|wd)["']?\s*[:=]\s*["']?)[^\s"',;]+"#, "${1}<redacted>"),
    ]
    .map(|(pattern, replacement)| {
        (Regex::new(pattern).expect("the pattern is constant and valid"), replacement)
    })
    .into()
});

/// The text without its secrets.
pub fn redact(text: &str) -> String {
    let mut clean = std::borrow::Cow::Borrowed(text);
    for (pattern, replacement) in SECRETS.iter() {
        if pattern.is_match(&clean) {
            clean = pattern.replace_all(&clean, *replacement).into_owned().into();
        }
    }
    clean.into_owned()
}

/// The text as one line of at most so many characters, without control characters: whoever wrote it cannot begin a line of its
/// own with it.
pub fn one_line(text: &str, most: usize) -> String {
    // A character has four bytes at most; what is taken out of it is not shown, for which there is room once more.
    let shown = printable(beginning(text, most.saturating_mul(8)));
    let mut line = String::new();
    for word in shown.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let cut = line.chars().count() > most || shown.len() < text.len() && text.len() > most.saturating_mul(8);
    if cut { line.chars().take(most.saturating_sub(1)).chain(['…']).collect() } else { line }
}

/// At most so many bytes of the text, cut between two characters.
pub fn beginning(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The text without control characters (a program's output must not steer a terminal); line ends and tabs stay.
pub fn printable(text: &str) -> String {
    static ESCAPES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\x1b\[[0-9;?]*[A-Za-z]").expect("the pattern is constant and valid"));
    ESCAPES
        .replace_all(text, "")
        .chars()
        .filter(|c| *c == '\n' || *c == '\t' || !(c.is_control() || is_direction_mark(*c)))
        .collect()
}

/// What makes a terminal or an editor show the characters of a line in another order.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_join_command_keeps_its_hash_and_loses_its_token() {
        let hash = "58bebb5a08acf2f61c443ebc45f3f860d481bc528790d1c88cf336935a679e7e";
        let text = format!(
            "kubeadm join 10.88.0.11:6443 --token s41abx.qkb1j0cxvu3rp1j0 \\\n    --discovery-token-ca-cert-hash sha256:{hash} "
        );
        let clean = redact(&text);
        assert!(!clean.contains("qkb1j0cxvu3rp1j0") && clean.contains(hash), "{clean}");
    }

    #[test]
    fn certificate_keys_private_keys_and_kubeconfig_keys_are_taken_out() {
        let key = "a".repeat(64);
        for text in [
            format!("--control-plane --certificate-key {key}"),
            format!("[upload-certs] Using certificate key:\n{key}"),
            format!("-----BEGIN RSA PRIVATE KEY-----\n{key}\n-----END RSA PRIVATE KEY-----"),
            format!("    client-key-data: {key}=="),
        ] {
            assert!(!redact(&text).contains(&key), "{text}");
        }
    }

    #[test]
    fn a_password_is_taken_out_of_an_address_and_behind_its_word_and_the_rest_stays() {
        for (text, clean) in [
            ("http://me:hunter2@proxy:3128/", "http://<redacted>@proxy:3128/"),
            ("\"password\": \"hunter2\", \"user\"", "\"password\": \"<redacted>\", \"user\""),
            ("PASSWD=hunter2", "PASSWD=<redacted>"),
            ("https://10.88.0.11:6443/api @here", "https://10.88.0.11:6443/api @here"),
        ] {
            assert_eq!(redact(text), clean);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_token_is_taken_out_wherever_it_stands(
            before in any::<String>(), id in "[a-z0-9]{6}", secret in "[a-z0-9]{16}", after in any::<String>()
        ) {
            let clean = redact(&format!("{before} {id}.{secret} {after}"));
            prop_assert!(!clean.contains(&format!("{id}.{secret}")), "{}", clean);
        }

        #[test]
        fn nothing_that_steers_a_terminal_is_left_of_any_text(
            parts in prop::collection::vec(prop_oneof![any::<String>(), "[\u{1b}\u{9b}\\[0-9;m\u{7}\u{200e}-\u{202e}]{0,9}"], 0..6)
        ) {
            let shown = printable(&parts.concat());
            let steers = |c: char| (c.is_control() && c != '\n' && c != '\t') || is_direction_mark(c);
            prop_assert!(!shown.chars().any(steers), "{:?}", shown);
        }
    }

    #[test]
    fn escape_sequences_and_direction_marks_do_not_reach_a_terminal() {
        assert_eq!(printable("\u{1b}[0;32m6.1\u{1b}[0m\r\u{202e}\u{200f}\u{61c}x\ty\n\u{7}"), "6.1x\ty\n");
    }
}
