//! The fake programs: what each of them does to the host and its cluster.

use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use muster_proto::names::KubernetesVersion;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::cluster::key_of;
use super::stock::unit;
use super::{Ended, FakeHost, State};
use crate::host::change::{Program, ProgramName};
use crate::host::query::KubernetesProgram;

/// Links that are two ends of one pair.
const PAIRS: [[&str; 2]; 1] = [["cilium_host", "cilium_net"]];

/// The arguments of one call, and its standard input.
pub(super) struct Call<'a> {
    words: Vec<&'a str>,
    pub(super) input: &'a str,
}

impl<'a> Call<'a> {
    /// The n-th word that is no flag.
    pub(super) fn word(&self, nth: usize) -> &'a str {
        let mut skip = false;
        let plain = self.words.iter().filter(|word| {
            let value = std::mem::replace(&mut skip, takes_value(word));
            !value && !word.starts_with('-')
        });
        plain.copied().nth(nth).unwrap_or_default()
    }

    /// The value of a flag, written with a space or with `=`.
    pub(super) fn flag(&self, names: &[&str]) -> Option<&'a str> {
        self.words.iter().enumerate().find_map(|(at, word)| match word.split_once('=') {
            Some((name, value)) if names.contains(&name) => Some(value),
            None if names.contains(word) => self.words.get(at + 1).copied(),
            _ => None,
        })
    }

    pub(super) fn has(&self, flag: &str) -> bool {
        self.words.contains(&flag)
    }
}

fn takes_value(word: &str) -> bool {
    let flags = [
        "-n",
        "-f",
        "-o",
        "-l",
        "--config",
        "--description",
        "--kubeconfig",
        "--namespace",
        "--ttl",
        "--filename",
        "--timeout",
    ];
    flags.contains(&word)
}

/// A program that ended well and wrote this.
pub(super) fn well(standard_output: impl Into<String>) -> Ended {
    Ended { exit_code: 0, standard_output: standard_output.into(), standard_error: String::new() }
}

/// A program that failed and wrote this on its standard error.
pub(super) fn failed(exit_code: i32, standard_error: impl Into<String>) -> Ended {
    Ended { exit_code, standard_output: String::new(), standard_error: standard_error.into() }
}

/// Every document of a YAML text; none when it is no YAML.
pub(super) fn documents(text: &str) -> Option<Vec<Value>> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).ok()?;
    Some(all.into_iter().filter(|document| !document.is_null()).collect())
}

impl FakeHost {
    pub(super) fn run(&self, program: &Program) -> Ended {
        let call = Call {
            words: program.arguments.iter().map(String::as_str).collect(),
            input: program.input.as_ref().map_or("", |input| input.expose_secret()),
        };
        let installed = |program| self.state().versions.get(&program).copied();
        match program.program {
            ProgramName::Kubeadm => match installed(KubernetesProgram::Kubeadm) {
                Some(version) => self.kubeadm(&call, version),
                None => not_installed("kubeadm"),
            },
            ProgramName::Kubectl => match installed(KubernetesProgram::Kubectl) {
                Some(version) => self.kubectl(&call, version),
                None => not_installed("kubectl"),
            },
            ProgramName::Modprobe => self.modprobe(&call),
            ProgramName::Ufw => self.ufw(&call),
            ProgramName::Swapon => self.swapon(&call),
            ProgramName::Ip => self.ip(&call),
            ProgramName::IptablesRestore => {
                self.state().packet_filter = call.input.to_owned();
                well("")
            }
            ProgramName::Ip6tablesRestore | ProgramName::Ipvsadm => well(""),
        }
    }

    fn kubectl(&self, call: &Call<'_>, version: KubernetesVersion) -> Ended {
        if call.word(0) == "version" {
            return well(format!("Client Version: {version}\n"));
        }
        let kubeconfig = call.flag(&["--kubeconfig"]).is_some();
        if !kubeconfig {
            return failed(
                1,
                "The connection to the server localhost:8080 was refused - did you specify the right host or port?\n",
            );
        }
        if call.word(0) == "drain" {
            return self.drain(call.word(1));
        }
        let given = match call.flag(&["-f", "--filename"]) {
            Some("-" | "/dev/stdin") => call.input.to_owned(),
            Some(file) => self.file(file).unwrap_or_default(),
            None => String::new(),
        };
        let Some(objects) = documents(&given) else {
            return failed(1, "error: error parsing STDIN: error converting YAML to JSON\n");
        };
        let objects: Vec<Value> = objects
            .into_iter()
            .flat_map(|object| match &object["items"] {
                Value::Array(items) => items.clone(),
                _ => vec![object],
            })
            .collect();
        if let Some(wrong) = objects.iter().find(|object| !object["kind"].is_string()) {
            return failed(
                1,
                format!("error: unable to decode \"STDIN\": Object 'Kind' is missing in '{wrong}'\n"),
            );
        }
        let result = match call.word(0) {
            "apply" if objects.is_empty() => return failed(1, "error: no objects passed to apply\n"),
            "apply" => self.api(|cluster| {
                let word = |new| if new { "created" } else { "configured" };
                let line = |object: Value| {
                    let key = key_of(&object);
                    format!("{}/{} {}\n", key.0.to_lowercase(), key.2, word(cluster.put(object)))
                };
                objects.into_iter().map(line).collect::<String>()
            }),
            "delete" => self.api(|cluster| {
                let named =
                    (call.word(1), call.flag(&["-n", "--namespace"]).unwrap_or("default"), call.word(2));
                let mut keys: Vec<_> = objects.iter().map(key_of).collect();
                if keys.is_empty() {
                    let known = cluster.objects.keys();
                    let wanted = known.filter(|key| {
                        key.0.eq_ignore_ascii_case(named.0) && key.1 == named.1 && key.2 == named.2
                    });
                    keys = wanted.cloned().collect();
                }
                let line = |key: super::cluster::ObjectKey| {
                    cluster.delete(&key.0, &key.1, &key.2);
                    format!("{} \"{}\" deleted\n", key.0.to_lowercase(), key.2)
                };
                keys.into_iter().map(line).collect()
            }),
            other => return failed(1, format!("error: unknown command \"{other}\" for \"kubectl\"\n")),
        };
        result.map_or_else(|error| failed(1, format!("{error}\n")), well)
    }

    /// Pods of DaemonSets stay, the others go; nothing is put on the node any more.
    fn drain(&self, name: &str) -> Ended {
        let drained = self.api(|cluster| {
            let node = cluster.get_mut("Node", "", name)?;
            node["spec"]["unschedulable"] = serde_json::json!(true);
            let taint =
                serde_json::json!({ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" });
            if let Some(taints) = node["spec"]["taints"].as_array_mut() {
                taints.push(taint);
            }
            let goes = |pod: &Value| {
                pod["spec"]["nodeName"] == name
                    && pod["metadata"]["ownerReferences"][0]["kind"] != "DaemonSet"
            };
            let gone: Vec<_> = cluster.of_kind("Pod").filter(|pod| goes(pod)).map(key_of).collect();
            for key in &gone {
                cluster.delete(&key.0, &key.1, &key.2);
            }
            Some(())
        });
        match drained {
            Ok(Some(())) => well(format!("node/{name} cordoned\nnode/{name} drained\n")),
            Ok(None) => failed(1, format!("Error from server (NotFound): nodes \"{name}\" not found\n")),
            Err(error) => failed(1, format!("{error}\n")),
        }
    }

    fn modprobe(&self, call: &Call<'_>) -> Ended {
        let mut state = self.state();
        for name in call.words.iter().filter(|word| !word.starts_with('-')) {
            if !state.loadable.contains(*name) && !state.modules.contains(*name) {
                return failed(
                    1,
                    format!(
                        "modprobe: FATAL: Module {name} not found in directory /lib/modules/6.1.0-28-amd64\n"
                    ),
                );
            }
            state.modules.insert((*name).to_owned());
            if *name == "br_netfilter" {
                for key in ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"] {
                    state.sysctls.insert(key.to_owned(), "1".to_owned());
                }
            }
        }
        well("")
    }

    /// Rules as `ufw allow in proto tcp to ADDRESS port PORT` and with `delete` before it.
    fn ufw_rule(&self, call: &Call<'_>, delete: bool) -> Ended {
        let place = usize::from(delete);
        let line = format!(
            "### tuple ### allow tcp {} {} any 0.0.0.0/0 in\n",
            call.word(place + 7),
            call.word(place + 5)
        );
        let mut state = self.state();
        let path = Path::new("/etc/ufw/user.rules");
        let before = state.files.get(path).map(|file| file.content.clone()).unwrap_or_default();
        if delete {
            let after = before.replacen(&line, "", 1);
            if after.is_empty() {
                state.files.remove(path);
            } else {
                state.put("/etc/ufw/user.rules", after);
            }
            return well("Rule deleted\n");
        }
        state.put("/etc/ufw/user.rules", before + &line);
        well("Rule added\n")
    }

    fn ufw(&self, call: &Call<'_>) -> Ended {
        match (call.word(0), call.word(1)) {
            ("allow", "in") => return self.ufw_rule(call, false),
            ("delete", "allow") => return self.ufw_rule(call, true),
            _ => {}
        }
        let mut state = self.state();
        let (from, to, said) = match call.word(0) {
            "disable" => ("ENABLED=yes", "ENABLED=no", "Firewall stopped and disabled on system startup\n"),
            "enable" => ("ENABLED=no", "ENABLED=yes", "Firewall is active and enabled on system startup\n"),
            _ => return failed(1, "ERROR: Invalid syntax\n"),
        };
        let Some(file) = state.files.get_mut(Path::new("/etc/ufw/ufw.conf")) else {
            return not_installed("ufw");
        };
        file.content = file.content.replace(from, to);
        well(said)
    }

    fn swapon(&self, call: &Call<'_>) -> Ended {
        let mut state = self.state();
        let device = call.word(0);
        if !state.has_device(device) {
            return failed(255, format!("swapon: cannot open {device}: No such file or directory\n"));
        }
        state.swaps.insert(device.into());
        let name = format!("{}.swap", device.trim_start_matches('/').replace('/', "-"));
        if let Some(held) = state.units.get_mut(&name) {
            *held = unit(true, &held.file_state);
        }
        well("")
    }

    /// `ip link delete NAME` and `ip route delete RANGE`. As the kernel does it: a link takes its routes along, one end of
    /// a pair takes the other, and a route that is not there cannot be deleted.
    fn ip(&self, call: &Call<'_>) -> Ended {
        let mut state = self.state();
        match (call.word(0), call.word(1)) {
            ("link", "delete") => {
                let own = |line: &str, link: &str| line.trim_start().split(':').next() == Some(link);
                if !state.take_lines("/proc/net/dev", |line| own(line, call.word(2))) {
                    return failed(1, format!("Cannot find device \"{}\"\n", call.word(2)));
                }
                let other_end = PAIRS.iter().find_map(|pair| match call.word(2) {
                    link if link == pair[0] => Some(pair[1]),
                    link if link == pair[1] => Some(pair[0]),
                    _ => None,
                });
                for link in [Some(call.word(2)), other_end].into_iter().flatten() {
                    state.take_lines("/proc/net/dev", |line| own(line, link));
                    state.take_lines("/proc/net/route", |line| line.split_whitespace().next() == Some(link));
                    state.take_lines("/proc/net/ipv6_route", |line| {
                        line.split_whitespace().next_back() == Some(link)
                    });
                }
            }
            ("route", "delete") => {
                let (table, leads) = match call.word(2).parse() {
                    Ok(IpNet::V4(to)) => ("/proc/net/route", ipv4_columns(to)),
                    Ok(IpNet::V6(to)) => ("/proc/net/ipv6_route", ipv6_columns(to)),
                    Err(_) => return failed(1, "Error: any valid prefix is expected.\n"),
                };
                let mut gone = false;
                let first = |line: &str| {
                    let columns: Vec<&str> = line.split_whitespace().collect();
                    let fits = leads.iter().all(|(at, text)| columns.get(*at) == Some(&text.as_str()));
                    fits && !std::mem::replace(&mut gone, true)
                };
                if !state.take_lines(table, first) {
                    return failed(2, "RTNETLINK answers: No such process\n");
                }
            }
            _ => return failed(255, "Object unknown, try \"ip help\".\n"),
        }
        well("")
    }
}

impl State {
    /// Whether there is such a partition or file.
    fn has_device(&self, path: &str) -> bool {
        let partitions = self.files.get(Path::new("/proc/partitions")).map(|table| table.content.as_str());
        match path.strip_prefix("/dev/") {
            Some(name) => partitions
                .unwrap_or_default()
                .lines()
                .any(|line| line.split_whitespace().next_back() == Some(name)),
            None => self.files.contains_key(Path::new(path)),
        }
    }

    /// Takes the lines that fit out of one of the kernel's tables; whether there was one.
    fn take_lines(&mut self, table: &str, mut fits: impl FnMut(&str) -> bool) -> bool {
        let Some(table) = self.files.get_mut(Path::new(table)) else { return false };
        let kept: String = table.content.split_inclusive('\n').filter(|line| !fits(line)).collect();
        let taken = kept != table.content;
        table.content = kept;
        taken
    }
}

/// The columns of /proc/net/route that tell where a route leads to.
fn ipv4_columns(to: Ipv4Net) -> [(usize, String); 2] {
    let shown = |address: Ipv4Addr| format!("{:08X}", u32::from(address).swap_bytes());
    [(1, shown(to.network())), (7, shown(to.netmask()))]
}

/// The columns of /proc/net/ipv6_route that tell where a route leads to.
fn ipv6_columns(to: Ipv6Net) -> [(usize, String); 2] {
    [(0, format!("{:032x}", u128::from(to.network()))), (1, format!("{:02x}", to.prefix_len()))]
}

fn not_installed(program: &str) -> Ended {
    failed(203, format!("{program}: No such file or directory\n"))
}
