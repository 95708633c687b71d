//! Two machines with a cable between them: the master m1 with the coordinator, and the worker w1.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{Done, Machine, Said, open_to_all, told, wait_for};
use crate::stand_in::pod_network::READY;
use crate::tools::Tools;

pub const MASTER: &str = "m1";
pub const WORKER: &str = "w1";
const ADDRESSES: [(&str, Ipv4Addr); 2] =
    [(MASTER, Ipv4Addr::new(10, 88, 0, 11)), (WORKER, Ipv4Addr::new(10, 88, 0, 12))];

const CLUSTER: &str = "apiVersion: muster/v1\nkind: Cluster\nmetadata: {name: faults}\nspec:\n  kubernetesVersion: v1.20.2\n  \
    nodes:\n    - {name: m1, role: control-plane}\nWORKERS  controlPlane: {runsPods: true}\n  \
    networking: {podSubnet: 10.244.0.0/16, manifest: pod-network.yaml}\n  \
    host: {disableFirewall: true, cgroupDriver: systemd}\n  kubectlUsers: [student]\n  smokeTest: {image: 'nginx:1.22', keep: KEEP}\n";
const NETWORK: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kube-flannel-cfg, namespace: kube-system}\ndata:\n  \
    net-conf.json: |\n    {\"Network\": \"10.244.0.0/16\", \"Backend\": {\"Type\": \"vxlan\"}}\n---\napiVersion: apps/v1\nkind: DaemonSet\n\
    metadata: {name: kube-flannel-ds, namespace: kube-system}\nspec: {template: {spec: {initContainers: [{name: install-cni, args: [-f, /etc/kube-flannel/cni-conf.json, /etc/cni/net.d/10-flannel.conflist]}]}}}\n";

/// The cluster files, in root's home: by name, whether the worker is in it and the smoke test's pods are kept.
const FILES: [(&str, bool, bool); 3] =
    [("cluster.yaml", true, true), ("once.yaml", true, false), ("alone.yaml", false, true)];

/// The two machines of a cell, and what the stand-ins remember of it.
pub struct Pair {
    pub master: Machine,
    pub worker: Machine,
    pub memory: PathBuf,
    pub folder: PathBuf,
}

impl Pair {
    /// Both machines, off, with these disks: fresh ones, or copies of a template's.
    pub fn new(folder: &Path, tools: &Tools, template: Option<&Path>, images: bool) -> Done<Self> {
        let memory = folder.join("memory");
        std::fs::create_dir_all(&memory).map_err(told)?;
        open_to_all(&memory)?;
        let mut machines = Vec::new();
        for (name, address) in ADDRESSES {
            let place = folder.join(name);
            std::fs::create_dir_all(&place).map_err(told)?;
            match template {
                Some(template) if images => {
                    image(&template.join(name).join("disk"), &place.join("disk.img"))?
                }
                Some(template) => copy(&template.join(name).join("disk"), &place.join("disk"))?,
                None => fresh_disk(name, &place.join("disk"))?,
            }
            machines.push(Machine::new(name, address, &place, &memory, tools)?);
        }
        let worker = machines.pop().ok_or("no worker")?;
        let master = machines.pop().ok_or("no master")?;
        Ok(Self { master, worker, memory, folder: folder.to_owned() })
    }

    /// Switches both on and connects them.
    pub fn switch_on(&mut self, tools: &Tools) -> Done<()> {
        self.master.switch_on(tools)?;
        self.worker.switch_on(tools)?;
        self.plug()?;
        self.master.wait_until_up()?;
        self.worker.wait_until_up()
    }

    fn plug(&self) -> Done<()> {
        let (one, other) = (self.master.leader().to_string(), self.worker.leader().to_string());
        let words =
            ["link", "add", "eth0", "netns", &one, "type", "veth", "peer", "name", "eth0", "netns", &other];
        let ended = Command::new("ip").args(words).output().map_err(told)?;
        match ended.status.success() {
            true => Ok(()),
            false => Err(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&ended.stderr))),
        }
    }

    /// One machine's power is cut. The cable goes with it, and with the cable the other one's address, which no real machine
    /// loses to its neighbour: until the cable is there again it stands on the loopback.
    pub fn cut_power(&mut self, name: &str) -> Done<()> {
        self.keep_address(self.neighbour(name), "add")?;
        self.machine_mut(name).power_off()
    }

    fn keep_address(&self, machine: &Machine, verb: &str) -> Done<()> {
        let (net, address) = (machine.leader().to_string(), format!("{}/32", machine.address));
        let words = ["-t", &net, "-n", "ip", "addr", verb, &address, "dev", "lo"];
        let ended = Command::new("nsenter").args(words).output().map_err(told)?;
        match ended.status.success() {
            true => Ok(()),
            false => Err(format!("ip addr {verb} {address}: {}", String::from_utf8_lossy(&ended.stderr))),
        }
    }

    fn neighbour(&self, name: &str) -> &Machine {
        if name == MASTER { &self.worker } else { &self.master }
    }

    /// One machine comes back after its power was cut.
    pub fn switch_on_again(&mut self, name: &str, tools: &Tools) -> Done<()> {
        self.machine_mut(name).switch_on(tools)?;
        let other = self.neighbour(name);
        let net = other.leader().to_string();
        // The old cable's end goes with the dead machine's network, which the kernel clears away in its own time.
        let unplug = ["-t", &net, "-n", "ip", "link", "del", "eth0"];
        Command::new("nsenter").args(unplug).output().map_err(told)?;
        self.plug()?;
        let address = format!("{}/24", other.address);
        for words in [&["addr", "add", &address, "dev", "eth0"][..], &["link", "set", "eth0", "up"]] {
            Command::new("nsenter").args(["-t", &net, "-n", "ip"]).args(words).output().map_err(told)?;
        }
        self.keep_address(other, "del")?;
        self.machine(name).wait_until_up()
    }

    pub fn machine(&self, name: &str) -> &Machine {
        if name == MASTER { &self.master } else { &self.worker }
    }

    pub fn machine_mut(&mut self, name: &str) -> &mut Machine {
        if name == MASTER { &mut self.master } else { &mut self.worker }
    }

    /// Sets up the coordinator and enrols both agents, as a person does.
    pub fn enrol(&self) -> Done<()> {
        let address = self.master.address.to_string();
        self.master.must(&["coordinator", "init", "--address", &address, "--node", MASTER])?;
        let said = self.master.must(&["coordinator", "token", "create", "--node", WORKER])?;
        let token = said
            .split_whitespace()
            .find(|word| word.starts_with("muster-token"))
            .ok_or_else(|| format!("no token in: {said}"))?;
        let file = self.worker.inside("/root/token");
        std::fs::write(&file, token).map_err(told)?;
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).map_err(told)?;
        self.worker.must(&["agent", "enroll", "--coordinator", &address, "--token-file", "/root/token"])?;
        std::fs::remove_file(&file).map_err(told)
    }

    /// Waits until the coordinator takes commands.
    pub fn wait_for_coordinator(&self) -> Done<()> {
        let socket = self.master.inside("/run/muster-coordinator/admin.sock");
        wait_for("the coordinator to answer", || {
            std::os::unix::net::UnixStream::connect(&socket).ok().map(|_| ())
        })
        .map_err(|problem| format!("{problem}\n{}", self.logs()))
    }

    /// Waits until these are members again after they were switched on.
    pub fn wait_for_members(&self, nodes: &[&str]) -> Done<()> {
        for node in nodes {
            let ready = self.machine(node).inside(READY);
            wait_for(&format!("{node} to be a member"), || ready.exists().then_some(()))
                .map_err(|problem| format!("{problem}\n{}", self.logs()))?;
        }
        Ok(())
    }

    /// The one command that a person repeats.
    pub fn give(&self, command: &[&str]) -> Done<Said> {
        self.wait_for_coordinator()?;
        self.master.run(command)
    }

    /// The last lines that agents and coordinator logged.
    pub fn logs(&self) -> String {
        let tail = |machine: &Machine| {
            let text = std::fs::read_to_string(machine.folder.join("faults/log")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("--- log of {}\n{}\n", machine.name, lines[lines.len().saturating_sub(12)..].join("\n"))
        };
        tail(&self.master) + &tail(&self.worker)
    }

    pub fn power_off(&mut self) -> Done<()> {
        self.master.power_off()?;
        self.worker.power_off()
    }
}

pub fn copy(from: &Path, to: &Path) -> Done<()> {
    let ended = Command::new("cp").arg("-a").arg(from).arg(to).output().map_err(told)?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(format!("cp: {}", String::from_utf8_lossy(&ended.stderr))),
    }
}

/// A file system in a file that holds what the folder holds.
fn image(from: &Path, to: &Path) -> Done<()> {
    let ended = Command::new("mkfs.ext4")
        .args(["-q", "-O", "^metadata_csum,^resize_inode", "-E", "lazy_itable_init=1", "-d"])
        .arg(from)
        .arg(to)
        .arg("96M")
        .output()
        .map_err(told)?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(format!("mkfs.ext4: {}", String::from_utf8_lossy(&ended.stderr))),
    }
}

/// What a machine's id consists of.
pub fn machine_letter(name: &str) -> &'static str {
    if name == MASTER { "1" } else { "2" }
}

/// A machine as it comes from the installer: swap on, ufw on, Docker not yet set up on the master.
fn fresh_disk(name: &str, disk: &Path) -> Done<()> {
    let id = machine_letter(name);
    let put = |path: &str, text: &str| {
        let path = disk.join(path);
        if let Some(place) = path.parent() {
            std::fs::create_dir_all(place).map_err(told)?;
        }
        std::fs::write(path, text).map_err(told)
    };
    put(
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nmessagebus:x:100:100::/nonexistent:/usr/sbin/nologin\n\
        muster-coordinator:x:101:101::/var/lib/muster-coordinator:/usr/sbin/nologin\nstudent:x:1000:1000::/home/student:/bin/bash\n\
        nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n",
    )?;
    put(
        "etc/group",
        "root:x:0:\ntty:x:5:\nmessagebus:x:100:\nmuster-coordinator:x:101:\nmuster:x:102:\nstudent:x:1000:\nnogroup:x:65534:\n",
    )?;
    put("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")?;
    put("etc/machine-id", &format!("{}\n", id.repeat(32)))?;
    put("etc/hostname", "debian\n")?;
    put("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 debian\n")?;
    put("etc/fstab", "# the installer's\n/swapfile none swap sw 0 0\n")?;
    put("etc/ufw/ufw.conf", "# ufw\nENABLED=yes\nLOGLEVEL=low\n")?;
    put("etc/ufw/user.rules", "*filter\n### RULES ###\n\n### END RULES ###\nCOMMIT\n")?;
    put("etc/os-release", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n")?;
    // Everything on a machine has its clock, which a test may set wrong.
    put("etc/systemd/system.conf", "[Manager]\nDefaultEnvironment=LD_PRELOAD=/usr/bin/muster-clock.so\n")?;
    for (name, worker, keep) in FILES {
        let workers = if worker { "    - {name: w1, role: worker}\n" } else { "" };
        let text = CLUSTER.replace("WORKERS", workers).replace("KEEP", if keep { "true" } else { "false" });
        put(&format!("root/{name}"), &text)?;
    }
    put("root/pod-network.yaml", NETWORK)?;
    for place in [
        "etc/systemd/system",
        "var/lib/muster-agent",
        "var/lib/muster-coordinator",
        "var/lib/docker",
        "var/tmp",
        "var/log",
        "home/student",
    ] {
        std::fs::create_dir_all(disk.join(place)).map_err(told)?;
    }
    std::os::unix::fs::symlink("/run", disk.join("var/run")).map_err(told)?;
    if let Ok(cache) = std::fs::read("/etc/ld.so.cache") {
        std::fs::write(disk.join("etc/ld.so.cache"), cache).map_err(told)?;
    }
    let modes = [("var/lib/muster-agent", 0o700), ("var/lib/muster-coordinator", 0o700), ("var/tmp", 0o1777)];
    for (place, mode) in modes {
        std::fs::set_permissions(disk.join(place), PermissionsExt::from_mode(mode)).map_err(told)?;
    }
    let own = |place: &str, id| std::os::unix::fs::chown(disk.join(place), Some(id), Some(id)).map_err(told);
    own("var/lib/muster-coordinator", 101)?;
    own("home/student", 1000)
}
