//! ufw as its files say it, and the one rule that lets the nodes dial the coordinator. `coordinator init` looks before
//! there may be an agent, the master's agent again before it changes anything.

use std::fmt;
use std::net::IpAddr;

/// Whether ufw is on.
pub const CONFIGURATION: &str = "/etc/ufw/ufw.conf";

/// What becomes of what no rule names.
pub const DEFAULTS: &str = "/etc/default/ufw";

/// ufw's own lists of the rules that somebody gave it.
pub const RULES: [&str; 2] = ["/etc/ufw/user.rules", "/etc/ufw/user6.rules"];

/// Whether ufw.conf says that ufw is on; ufw itself takes the last line, and no line as no.
fn is_enabled(configuration: &str) -> bool {
    setting(configuration, "enabled").is_some_and(|value| value.eq_ignore_ascii_case("yes"))
}

/// Whether /etc/default/ufw lets in what no rule names.
fn lets_in_by_default(defaults: &str) -> bool {
    setting(defaults, "default_input_policy").is_some_and(|value| value.eq_ignore_ascii_case("accept"))
}

/// What ufw's files say; empty where a file is missing.
#[derive(Debug, Clone, Default)]
pub struct Files {
    pub configuration: String,
    pub defaults: String,
    /// All lists of rules, one after another.
    pub rules: String,
}

impl Files {
    /// Whether ufw is on.
    pub fn say_on(&self) -> bool {
        is_enabled(&self.configuration)
    }

    /// Whether ufw drops what a stranger sends to where the rule points.
    pub fn keep_out(&self, rule: &Rule) -> bool {
        self.say_on() && !lets_in_by_default(&self.defaults) && !rule.is_covered_by(&self.rules)
    }
}

fn setting<'a>(file: &'a str, key: &str) -> Option<&'a str> {
    let value = |line: &'a str| {
        let (found, value) = line.split_once('=')?;
        let value = value.split('#').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        found.trim().eq_ignore_ascii_case(key).then_some(value)
    };
    file.lines().filter_map(value).next_back()
}

/// The rule that lets everybody dial this address and port over TCP, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub address: IpAddr,
    pub port: u16,
}

impl Rule {
    /// The arguments with which ufw adds it. Every word is a constant, an address or a number.
    pub fn words(&self) -> [String; 8] {
        let (address, port) = (self.address.to_string(), self.port.to_string());
        ["allow", "in", "proto", "tcp", "to", &address, "port", &port].map(str::to_owned)
    }

    /// The arguments with which ufw takes it away.
    pub fn deletion(&self) -> Vec<String> {
        std::iter::once("delete".to_owned()).chain(self.words()).collect()
    }

    /// The rule that ufw was given with these arguments, when it was one of these.
    pub fn of(arguments: &[String]) -> Option<Self> {
        let [.., address, _, port] = arguments else { return None };
        let rule = Self { address: address.parse().ok()?, port: port.parse().ok()? };
        (rule.words() == arguments).then_some(rule)
    }

    /// The rule that ufw was told with these arguments to take away.
    pub fn deleted(arguments: &[String]) -> Option<Self> {
        let (first, rule) = arguments.split_first()?;
        if first == "delete" { Self::of(rule) } else { None }
    }

    /// Whether the list of rules lets everybody in here, by this rule or a wider one.
    fn is_covered_by(&self, rules: &str) -> bool {
        tuples(rules).any(|[action, protocol, port, to, from, direction]| {
            matches!(action, "allow" | "limit")
                && matches!(protocol, "tcp" | "any")
                && (port == self.port.to_string() || port == "any")
                && (to == self.address.to_string() || to == "0.0.0.0/0" || to == "::/0")
                && is_everybody(from)
                && direction.starts_with("in")
        })
    }

    /// Whether the list of rules holds this very rule.
    pub fn is_among(&self, rules: &str) -> bool {
        let (address, port) = (self.address.to_string(), self.port.to_string());
        tuples(rules).any(|[action, protocol, to_port, to, from, direction]| {
            [action, protocol, to_port, to, direction] == ["allow", "tcp", &port, &address, "in"]
                && is_everybody(from)
        })
    }
}

fn is_everybody(from: &str) -> bool {
    matches!(from, "0.0.0.0/0" | "::/0")
}

/// Action, protocol, port, address, source and direction of every rule.
fn tuples(rules: &str) -> impl Iterator<Item = [&str; 6]> {
    rules.lines().filter_map(|line| line.strip_prefix("### tuple ### ")).filter_map(|tuple| {
        let words: Vec<&str> = tuple.split_whitespace().collect();
        let [action, protocol, port, to, _, from, direction, ..] = words[..] else { return None };
        Some([action, protocol, port, to, from, direction])
    })
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ufw {}", self.words().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule { address: "10.88.0.11".parse().unwrap(), port: 7443 }
    }

    #[test]
    fn ufw_is_on_only_when_its_file_says_so() {
        let table = [
            ("# comment\nENABLED=yes\nLOGLEVEL=low\n", true),
            ("ENABLED=no\n", false),
            ("#ENABLED=yes\n", false),
            ("enabled = \"Yes\" # on\n", true),
            ("ENABLED=yes\nENABLED=no\n", false),
            ("", false),
        ];
        for (file, on) in table {
            assert_eq!(is_enabled(file), on, "{file:?}");
        }
        assert!(lets_in_by_default("IPV6=yes\nDEFAULT_INPUT_POLICY=\"ACCEPT\"\n"));
        assert!(!lets_in_by_default("DEFAULT_INPUT_POLICY=\"DROP\"\n") && !lets_in_by_default(""));
    }

    #[test]
    fn ufw_keeps_out_only_where_it_is_on_drops_and_has_no_such_rule() {
        let keep_out = |on: &str, policy: &str, rules: &str| {
            let configuration = format!("# ENABLED=yes\nENABLED={on}\nLOGLEVEL=low\n");
            let defaults = format!("IPV6=yes\nDEFAULT_INPUT_POLICY=\"{policy}\"\n");
            Files { configuration, defaults, rules: rules.to_owned() }.keep_out(&rule())
        };
        assert!(keep_out("yes", "DROP", "") && keep_out("yes", "REJECT", ""));
        assert!(!keep_out("no", "DROP", "") && !keep_out("yes", "ACCEPT", ""));
        assert!(!keep_out("yes", "DROP", "### tuple ### allow tcp 7443 0.0.0.0/0 any 0.0.0.0/0 in\n"));
        assert!(!Files::default().keep_out(&rule()), "no ufw at all");
    }

    #[test]
    fn a_rule_is_covered_by_wider_ones_and_is_itself_only_word_for_word() {
        for (there, covered, same) in [
            ("allow tcp 7443 10.88.0.11 any 0.0.0.0/0 in", true, true),
            ("allow tcp 7443 0.0.0.0/0 any 0.0.0.0/0 in", true, false),
            ("allow any any 0.0.0.0/0 any 0.0.0.0/0 in_eth0", true, false),
            // Somebody's rule for one machine lets no other in, and is not ours to take back.
            ("allow tcp 7443 10.88.0.11 any 10.88.0.12 in", false, false),
            ("allow any any 0.0.0.0/0 any 10.88.0.0/24 in", false, false),
            ("deny tcp 7443 10.88.0.11 any 0.0.0.0/0 in", false, false),
            ("allow udp 7443 10.88.0.11 any 0.0.0.0/0 in", false, false),
            ("allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in", false, false),
            ("allow tcp 7443 10.88.0.11 any 0.0.0.0/0 out", false, false),
            ("allow tcp", false, false),
        ] {
            let rules = format!("*filter\n### RULES ###\n\n### tuple ### {there}\n-A ufw-user-input\n");
            assert_eq!((rule().is_covered_by(&rules), rule().is_among(&rules)), (covered, same), "{there}");
        }
    }

    #[test]
    fn a_rule_is_known_again_by_the_words_that_it_was_given_with() {
        assert_eq!(rule().to_string(), "ufw allow in proto tcp to 10.88.0.11 port 7443");
        assert_eq!(Rule::of(&rule().words()), Some(rule()));
        assert_eq!((Rule::of(&rule().deletion()), Rule::deleted(&rule().words())), (None, None));
        assert_eq!(Rule::deleted(&rule().deletion()), Some(rule()));
        assert_eq!(Rule::of(&["--force".to_owned(), "disable".to_owned()]), None);
    }
}
