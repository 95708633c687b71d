//! The host name, in the kernel and in /etc/hostname, which are set one after the other.

use std::path::Path;

use muster_proto::names::HostName;

use super::Undoing;
use super::plain_file::put;
use crate::host::HostError;
use crate::host::change::Change;
use crate::host::query::Observe;
use crate::undo::ledger::Place;

/// What puts both back; nothing where somebody changed one of them after us.
pub(super) async fn put_back<H: Observe>(
    host: &H,
    kernel: &str,
    file: Option<&str>,
    ours: &str,
) -> Result<Undoing, HostError> {
    let path = Path::new("/etc/hostname");
    let (now, held) = (host.hostname().await?, host.read_file(path).await?);
    // The two are set one after the other, so that an agent that died between them left either at either name.
    let text = held.as_deref().map(str::trim);
    let is_known = (now == ours || now == kernel)
        && (text == Some(ours) || text == Some(kernel) || held.as_deref() == file);
    if (now == kernel && held.as_deref() == file) || !is_known {
        return Ok(Undoing::default());
    }
    let Ok(name) = kernel.parse::<HostName>() else {
        return Ok(Undoing::gone(format!(
            "the host name stays {ours}: it was {kernel:?}, which nothing but `sudo hostnamectl set-hostname` puts back"
        )));
    };
    let mut undoing = Undoing::default();
    if now != kernel || text != Some(kernel) {
        undoing.changes.push(Change::SetHostname { name });
    }
    if file != Some(format!("{kernel}\n").as_str()) {
        undoing.changes.push(put(&Place::Host(path.to_owned()), file.map(str::to_owned), None));
    }
    Ok(undoing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};

    #[tokio::test]
    async fn a_host_name_is_put_back_from_wherever_an_agent_died_and_left_alone_where_somebody_changed_it() {
        for (now, held, file, expected) in [
            ("w1", "w1\n", "debian\n", &["set the host name to debian"][..]),
            ("w1", "debian\n", "debian\n", &["set the host name to debian"]),
            ("debian", "w1\n", "debian\n", &["set the host name to debian"]),
            ("debian", "debian\n", "debian\n", &[]),
            ("debian", "debian\n", "# mine\ndebian\n", &["write /etc/hostname"]),
            ("w1", "w1\n", "# mine\ndebian\n", &["set the host name to debian", "write /etc/hostname"]),
            ("other", "w1\n", "debian\n", &[]),
            ("w1", "other\n", "debian\n", &[]),
        ] {
            let host = FakeHost::debian("w1", FakeCluster::default());
            host.with(|state| state.hostname = now.to_owned());
            host.put_file("/etc/hostname", held);
            let undoing = put_back(&host, "debian", Some(file), "w1").await.unwrap();
            let found: Vec<String> = undoing.changes.iter().map(ToString::to_string).collect();
            let same =
                found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| a.starts_with(b));
            assert!(same, "{now} {held:?} {file:?}: {found:?}");
        }
    }

    #[tokio::test]
    async fn a_name_that_no_node_may_have_is_put_back_all_the_same() {
        let put_back = async |kernel: &str| {
            let host = FakeHost::debian("m1", FakeCluster::default());
            put_back(&host, kernel, Some(&format!("{kernel}\n")), "m1").await.unwrap()
        };
        for kernel in ["M1", "K8S-Master-1", "my_host", "M1.Lab.Example", "_x", "a."] {
            let undoing = put_back(kernel).await;
            let [Change::SetHostname { name }] = &undoing.changes[..] else {
                panic!("{kernel}: {undoing:?}")
            };
            assert_eq!((name.as_str(), undoing.kept, undoing.gone), (kernel, None, None));
        }
        let undoing = put_back("my host").await;
        assert!(undoing.changes.is_empty() && undoing.kept.is_none(), "it keeps no reset from its end");
        assert!(undoing.gone.unwrap().contains("\"my host\""));
    }
}
