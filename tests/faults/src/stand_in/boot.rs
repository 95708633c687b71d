//! The beginning of a machine: `enter` puts this process into a control group and namespaces of their own; `machine`, inside
//! of them, builds a root that holds nothing of the testing machine but its programs, read-only, and becomes systemd.

use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::{Said, memory, said};

/// What a machine is made of; `machine.json` in its folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub address: Ipv4Addr,
    /// usr and units, the same for all machines.
    pub tools: PathBuf,
    /// What the stand-ins remember.
    pub memory: PathBuf,
    /// Through which a test arms failpoints.
    pub faults: PathBuf,
    pub groups: Vec<PathBuf>,
}

const NAMESPACES: [&str; 8] =
    ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork", "--kill-child"];
/// A link that does not come in this time does not come.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn run(arguments: &[&str]) -> Said<()> {
    let [what, folder] = arguments else { return Err("enter FOLDER or machine FOLDER".to_owned()) };
    let folder = Path::new(folder);
    let text = std::fs::read_to_string(folder.join("machine.json")).map_err(said)?;
    let plan: Plan = serde_json::from_str(&text).map_err(said)?;
    match *what {
        "enter" => enter(folder, &plan),
        _ => become_machine(folder, &plan),
    }
}

fn enter(folder: &Path, plan: &Plan) -> Said<()> {
    // Whoever tests and dies takes the machines along.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(said)?;
    for group in &plan.groups {
        let file = group.join("cgroup.procs");
        std::fs::write(&file, "0").map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let own = std::env::current_exe().map_err(said)?;
    let failed =
        Command::new("unshare").args(NAMESPACES).arg("--").arg(own).arg("machine").arg(folder).exec();
    Err(format!("unshare: {failed}"))
}

fn become_machine(folder: &Path, plan: &Plan) -> Said<()> {
    let root = folder.join("root");
    mounted("none", Path::new("/"), "", MsFlags::MS_REC | MsFlags::MS_PRIVATE, "")?;
    std::fs::create_dir_all(&root).map_err(said)?;
    mounted("tmpfs", &root, "tmpfs", MsFlags::empty(), "mode=755")?;
    let at = |path: &str| root.join(path);
    for name in
        ["usr", "etc", "var", "root", "home", "proc", "sys", "dev", "tmp", "run", "faults", "memory", "old"]
    {
        std::fs::create_dir(at(name)).map_err(said)?;
    }
    std::fs::set_permissions(at("tmp"), PermissionsExt::from_mode(0o1777)).map_err(said)?;
    for name in ["bin", "sbin", "lib", "lib64"] {
        if let Ok(target) = std::fs::read_link(Path::new("/").join(name)) {
            symlink(target, at(name)).map_err(said)?;
        }
    }
    programs(&root, plan)?;
    disk(folder, &root)?;
    bind(&plan.faults, &at("faults"))?;
    bind(&plan.memory, Path::new(&at(memory::FOLDER.trim_start_matches('/'))))?;
    mounted("proc", &at("proc"), "proc", MsFlags::empty(), "")?;
    mounted("sysfs", &at("sys"), "sysfs", MsFlags::empty(), "")?;
    mounted("tmpfs", &at("run"), "tmpfs", MsFlags::empty(), "mode=755")?;
    devices(&root)?;
    groups(&root)?;
    swaps(&root)?;
    // What systemd-tmpfiles makes of the agent's package.
    std::fs::create_dir(at("run/muster-agent")).map_err(said)?;
    std::fs::set_permissions(at("run/muster-agent"), PermissionsExt::from_mode(0o700)).map_err(said)?;
    network(plan.address)?;
    sysctls(&root);
    std::env::set_current_dir(&root).map_err(said)?;
    nix::unistd::pivot_root(".", "old").map_err(said)?;
    umount2("/old", MntFlags::MNT_DETACH).map_err(said)?;
    std::env::set_current_dir("/").map_err(said)?;
    let failed = Command::new("/lib/systemd/systemd")
        .args(["--unit=multi-user.target", "--log-target=null", "--show-status=0"])
        .env_clear()
        .envs([("container", "muster-faults"), ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")])
        .exec();
    Err(format!("systemd: {failed}"))
}

fn mounted(source: &str, target: &Path, kind: &str, flags: MsFlags, options: &str) -> Said<()> {
    mount(Some(source), target, Some(kind), flags, Some(options))
        .map_err(|error| format!("mounting {}: {error}", target.display()))
}

fn bind(source: &Path, target: &Path) -> Said<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|error| format!("binding {}: {error}", target.display()))
}

/// The testing machine's programs, with Muster's and the stand-ins before them, and none of its units.
fn programs(root: &Path, plan: &Plan) -> Said<()> {
    let layers = format!("lowerdir={}:/usr", plan.tools.join("usr").display());
    mounted("overlay", &root.join("usr"), "overlay", MsFlags::MS_RDONLY, &layers)?;
    bind(&plan.tools.join("units"), &root.join("usr/lib/systemd/system"))?;
    bind(&plan.tools.join("empty"), &root.join("usr/lib/systemd/system-generators"))
}

/// What survives a reboot: a folder, or a file system in a file.
fn disk(folder: &Path, root: &Path) -> Said<()> {
    let (disk, image) = (folder.join("disk"), folder.join("disk.img"));
    if image.exists() {
        std::fs::create_dir_all(&disk).map_err(said)?;
        let ended =
            Command::new("mount").arg("-o").arg("loop").arg(&image).arg(&disk).status().map_err(said)?;
        if !ended.success() {
            return Err(format!("mount -o loop {}: {ended}", image.display()));
        }
    }
    for name in ["etc", "var", "root", "home"] {
        bind(&disk.join(name), &root.join(name))?;
    }
    let small = [
        ("tiny-state", "var/lib/muster-agent"),
        ("tiny-coordinator", "var/lib/muster-coordinator"),
        ("tiny-etc", "etc"),
    ];
    for (tiny, at) in small {
        if let Ok(size) = std::fs::read_to_string(folder.join(tiny)) {
            full_soon(&root.join(at), size.trim())?;
        }
    }
    Ok(())
}

/// A file system of so many bytes with what stood there in it.
fn full_soon(place: &Path, size: &str) -> Said<()> {
    let kept = place.with_extension("kept");
    std::fs::create_dir_all(&kept).map_err(said)?;
    let copy = |from: &Path, to: &Path| {
        let ended = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().map_err(said)?;
        if ended.success() { Ok(()) } else { Err(format!("cp: {ended}")) }
    };
    copy(place, &kept)?;
    mounted("tmpfs", place, "tmpfs", MsFlags::empty(), &format!("mode=700,size={size}"))?;
    copy(&kept, place)?;
    std::fs::remove_dir_all(&kept).map_err(said)
}

fn devices(root: &Path) -> Said<()> {
    let dev = root.join("dev");
    mounted("tmpfs", &dev, "tmpfs", MsFlags::empty(), "mode=755")?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        std::fs::write(dev.join(name), "").map_err(said)?;
        bind(&Path::new("/dev").join(name), &dev.join(name))?;
    }
    for name in ["shm", "pts"] {
        std::fs::create_dir(dev.join(name)).map_err(said)?;
    }
    mounted("tmpfs", &dev.join("shm"), "tmpfs", MsFlags::empty(), "mode=1777")?;
    mounted("devpts", &dev.join("pts"), "devpts", MsFlags::empty(), "newinstance,ptmxmode=0666")?;
    for (target, name) in [("pts/ptmx", "ptmx"), ("/proc/self/fd", "fd")] {
        symlink(target, dev.join(name)).map_err(said)?;
    }
    Ok(())
}

/// systemd's own hierarchy, seen from the group that this machine is in.
fn groups(root: &Path) -> Said<()> {
    let place = root.join("sys/fs/cgroup");
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return mounted("cgroup2", &place, "cgroup2", MsFlags::empty(), "nsdelegate");
    }
    mounted("tmpfs", &place, "tmpfs", MsFlags::empty(), "mode=755")?;
    std::fs::create_dir(place.join("systemd")).map_err(said)?;
    mounted("cgroup", &place.join("systemd"), "cgroup", MsFlags::empty(), "none,name=systemd,xattr")
}

/// The kernel's list of swaps is one for all machines: this one shows what its fstab switches on at boot.
fn swaps(root: &Path) -> Said<()> {
    let fstab = std::fs::read_to_string(root.join("etc/fstab")).unwrap_or_default();
    let mut list = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_owned();
    for line in fstab.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields.get(2) == Some(&"swap") {
            list.push_str(&swap_line(fields[0]));
        }
    }
    // The file itself lies on the disk, whatever fstab says of it.
    std::fs::write(root.join("swapfile"), "").map_err(said)?;
    std::fs::write(root.join("run/swaps"), list).map_err(said)?;
    bind(&root.join("run/swaps"), &root.join("proc/swaps"))
}

/// As /proc/swaps shows a swap file.
pub(super) fn swap_line(device: &str) -> String {
    format!("{device}\tfile\t\t524284\t\t0\t\t-2\n")
}

/// What systemd-sysctl does at boot; a key that this kernel does not have is passed over, as there.
fn sysctls(root: &Path) {
    let text = std::fs::read_to_string(root.join("etc/sysctl.d/99-zz-muster.conf")).unwrap_or_default();
    for (key, value) in text.lines().filter_map(|line| line.split_once(" = ")) {
        let _ = std::fs::write(format!("/proc/sys/{}", key.replace('.', "/")), value);
    }
}

/// Waits until the test has plugged in the cable.
fn network(address: Ipv4Addr) -> Said<()> {
    let deadline = Instant::now() + PATIENCE;
    while !std::fs::read_to_string("/proc/self/net/dev").is_ok_and(|links| links.contains("eth0:")) {
        if Instant::now() > deadline {
            return Err("nobody plugged in the network".to_owned());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    for words in [
        &["link", "set", "lo", "up"][..],
        &["addr", "add", &format!("{address}/24"), "dev", "eth0"],
        &["link", "set", "eth0", "up"],
    ] {
        let ended = Command::new("ip").args(words).status().map_err(said)?;
        if !ended.success() {
            return Err(format!("ip {}: {ended}", words.join(" ")));
        }
    }
    Ok(())
}
