//! Who listens on this host.

use std::time::Duration;

use super::child::{find, run};
use super::errand::{self, Errand};
use crate::host::HostError;
use crate::host::query::Listener;

const LIMIT: Duration = Duration::from_secs(30);

/// Who listens on a TCP port; nothing where `ss` is not installed.
pub(super) async fn listeners() -> Result<Vec<Listener>, HostError> {
    let Some(path) = find("ss") else { return Ok(Vec::new()) };
    // Whose sockets they are is told to nobody without root's capabilities, which the agent does not have.
    let answer = match errand::possible() {
        true => {
            let errand = Errand { path, arguments: vec!["-ltnp".to_owned()], user: None, limit: LIMIT };
            errand.run("ss", None).await?
        }
        false => run("ss", &["-ltnp"], LIMIT).await?,
    };
    Ok(parse_listeners(&answer.success("ss -ltnp")?))
}

/// `LISTEN 0 128 127.0.0.1:10248 0.0.0.0:* users:(("kubelet",pid=812,fd=21))`; of several users of a socket the first.
fn parse_listeners(said: &str) -> Vec<Listener> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = fields.get(3)?.rsplit(':').next()?.parse().ok()?;
        let (_, users) = line.split_once("users:((\"")?;
        let (process, rest) = users.split_once('"')?;
        let pid = rest.strip_prefix(",pid=")?.split(',').next()?.parse().ok()?;
        (fields[0] == "LISTEN").then(|| Listener { port, process: process.to_owned(), pid })
    };
    let mut found: Vec<Listener> = said.lines().filter_map(parse).collect();
    found.sort_by_key(|listener| (listener.port, listener.pid));
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_read_once_for_every_port_and_program() {
        let said = "State  Recv-Q Send-Q Local Address:Port Peer Address:PortProcess\n\
                    LISTEN 0      128        127.0.0.1:10248     0.0.0.0:*    users:((\"kubelet\",pid=812,fd=21))\n\
                    LISTEN 0      4096               *:6443            *:*    users:((\"kube-apiserver\",pid=99,fd=7))\n\
                    LISTEN 0      4096            [::]:10248        [::]:*    users:((\"kubelet\",pid=812,fd=22))\n\
                    LISTEN 0      64           0.0.0.0:2049      0.0.0.0:*\n";
        let listener = |port, process: &str, pid| Listener { port, process: process.into(), pid };
        assert_eq!(
            parse_listeners(said),
            [listener(6443, "kube-apiserver", 99), listener(10248, "kubelet", 812)]
        );
    }
}
