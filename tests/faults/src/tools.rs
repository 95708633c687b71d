//! What all machines share: the programs under test, the stand-ins under their names, and the few units that a machine has.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{Done, told};
use crate::stand_in::NAMES;

/// The folder with `usr`, `units` and `empty`.
pub struct Tools {
    pub folder: PathBuf,
    pub stand_in: PathBuf,
}

/// The stand-ins' one program, as a machine sees it.
pub const STAND_IN: &str = "/usr/bin/muster-stand-in";

const AGENT: &str = include_str!("../../../deploy/systemd/muster-agent.service");
const COORDINATOR: &str = include_str!("../../../deploy/systemd/muster-coordinator.service");

/// Beside the packages' own units: the folder of the faults, a log that the test can read, and no second's wait.
const DROP_IN: &str = "[Service]\nRestartSec=50ms\nEnvironment=MUSTER_FAULTS=/faults RUST_LOG=info\n\
    ReadWritePaths=/faults\nStandardOutput=append:/faults/log\nStandardError=append:/faults/log\n";

const DBUS: &str = "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\nType=notify\n\
    ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation\n\
    StandardOutput=null\nStandardError=null\n";
const DBUS_SOCKET: &str =
    "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n";

const DOCKER: &str = "[Unit]\nDescription=Docker's stand-in\n[Service]\nExecStart=/usr/local/sbin/dockerd\n\
    ExecStopPost=/usr/bin/rm -f /run/docker.driver\nStandardOutput=null\nStandardError=null\n\
    [Install]\nWantedBy=multi-user.target\n";
const KUBELET: &str = "[Unit]\nDescription=the kubelet's stand-in\nStartLimitIntervalSec=0\n[Service]\n\
    ExecStart=/usr/local/sbin/kubelet\nRestart=always\nRestartSec=50ms\nStandardOutput=null\n\
    StandardError=append:/faults/kubelet.log\n[Install]\nWantedBy=multi-user.target\n";
const SWAP: &str =
    "[Unit]\nDefaultDependencies=no\n[Swap]\nWhat=/swapfile\n[Install]\nWantedBy=swap.target\n";

const TARGETS: [&str; 15] = [
    "sysinit",
    "basic",
    "network",
    "network-online",
    "swap",
    "local-fs",
    "local-fs-pre",
    "sockets",
    "paths",
    "timers",
    "slices",
    "shutdown",
    "umount",
    "final",
    "time-set",
];

impl Tools {
    /// Lays them out; `programs` is the folder of the built binaries.
    pub fn lay_out(folder: &Path, programs: &Path) -> Done<Self> {
        let (bin, sbin, units) =
            (folder.join("usr/bin"), folder.join("usr/local/sbin"), folder.join("units"));
        let system = std::fs::canonicalize("/usr/sbin").map_err(told)?;
        let own_sbin = folder.join(system.strip_prefix("/").map_err(told)?);
        for place in [&bin, &sbin, &own_sbin, &units, &folder.join("empty")] {
            std::fs::create_dir_all(place).map_err(told)?;
        }
        let copy = |name: &str, to: &Path| {
            let from = programs.join(name);
            std::fs::copy(&from, to).map(|_| ()).map_err(|error| format!("{}: {error}", from.display()))
        };
        copy("faults-agent", &bin.join("agent"))?;
        copy("faults-coordinator", &bin.join("coordinator"))?;
        let stand_in = folder.join("usr/bin/muster-stand-in");
        copy("faults-stand-in", &stand_in)?;
        let clock = folder.join("clock.c");
        std::fs::write(&clock, include_str!("clock.c")).map_err(told)?;
        let ended = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&bin.join("muster-clock.so"), &clock])
            .arg("-ldl")
            .output()
            .map_err(told)?;
        if !ended.status.success() {
            return Err(format!("cc clock.c: {}", String::from_utf8_lossy(&ended.stderr)));
        }
        for name in NAMES {
            symlink(STAND_IN, sbin.join(name)).map_err(told)?;
        }
        // systemd starts these by their whole path, and the kernel's list of swaps is one for all machines.
        for name in ["swapon", "swapoff"] {
            symlink(STAND_IN, own_sbin.join(name)).map_err(told)?;
        }
        let put = |name: &str, text: &str| {
            let path = units.join(name);
            if let Some(place) = path.parent() {
                std::fs::create_dir_all(place).map_err(told)?;
            }
            std::fs::write(path, text).map_err(told)
        };
        for target in TARGETS {
            put(&format!("{target}.target"), "[Unit]\nDefaultDependencies=no\n")?;
        }
        put(
            "multi-user.target",
            "[Unit]\nRequires=basic.target dbus.service\nAfter=basic.target dbus.service\nAllowIsolate=yes\n",
        )?;
        for (name, text) in [
            ("dbus.service", DBUS),
            ("dbus.socket", DBUS_SOCKET),
            ("docker.service", DOCKER),
            ("kubelet.service", KUBELET),
            ("swapfile.swap", SWAP),
            ("muster-agent.service", AGENT),
            ("muster-coordinator.service", COORDINATOR),
            ("muster-agent.service.d/faults.conf", DROP_IN),
            ("muster-coordinator.service.d/faults.conf", DROP_IN),
        ] {
            put(name, text)?;
        }
        Ok(Self { folder: folder.to_owned(), stand_in })
    }
}

/// What this machine lacks for making machines; none when it can.
pub fn lacking() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("root".to_owned());
    }
    let places = ["/usr/local/sbin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let is_there = |program: &&str| !places.iter().any(|place| Path::new(place).join(program).exists());
    let programs =
        ["unshare", "nsenter", "ip", "mount", "mkfs.ext4", "dbus-daemon", "systemctl", "sysctl", "cc"];
    let missing: Vec<&str> = programs.into_iter().filter(is_there).collect();
    if !missing.is_empty() {
        return Some(format!("the programs {}", missing.join(", ")));
    }
    if !Path::new("/dev/shm").is_dir() {
        return Some("/dev/shm".to_owned());
    }
    let namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork", "true"];
    let made = Command::new("unshare").args(namespaces).output();
    match made {
        Ok(ended) if ended.status.success() => None,
        _ => Some("the right to make namespaces".to_owned()),
    }
}
