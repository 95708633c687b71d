//! One machine: its folder, its control groups, its PID 1, and what can be done to it from outside.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stand_in::boot::Plan;
use crate::tools::Tools;

/// What no machine exceeds, however busy the testing machine is.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// No look at anything takes longer.
const LONGEST_LOOK: Duration = Duration::from_secs(2);

/// With this, and the id of the process that made it, begins the name of everything that is outside of the machines.
pub const LEFTOVER: &str = "muster-faults-";

/// What went wrong with the test itself or with what it looks at.
pub type Problem = String;
pub type Done<T> = Result<T, Problem>;

pub fn told(error: impl std::fmt::Display) -> Problem {
    error.to_string()
}

/// A machine that is on, or off.
pub struct Machine {
    pub name: String,
    pub address: Ipv4Addr,
    /// Everything of it: `disk` or `disk.img`, `faults`, `machine.json`.
    pub folder: PathBuf,
    groups: Vec<PathBuf>,
    running: Option<Running>,
}

struct Running {
    supervisor: Child,
    leader: i32,
}

/// What a command in a machine said, and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    pub status: ExitStatus,
    pub text: String,
}

impl Said {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl Machine {
    /// A machine that is off. `disk` is in its folder already.
    pub fn new(name: &str, address: Ipv4Addr, folder: &Path, memory: &Path, tools: &Tools) -> Done<Self> {
        let faults = folder.join("faults");
        std::fs::create_dir_all(&faults).map_err(told)?;
        open_to_all(&faults)?;
        let cell = folder.parent().and_then(Path::file_name).and_then(OsStr::to_str).unwrap_or("cell");
        let label = format!("{LEFTOVER}{}-{cell}-{name}", std::process::id());
        let groups = own_groups(&label)?;
        let plan = Plan {
            address,
            tools: tools.folder.clone(),
            memory: memory.to_owned(),
            faults,
            groups: groups.clone(),
        };
        let text = serde_json::to_string(&plan).map_err(told)?;
        std::fs::write(folder.join("machine.json"), text).map_err(told)?;
        Ok(Self { name: name.to_owned(), address, folder: folder.to_owned(), groups, running: None })
    }

    /// Switches it on; it waits for its network, which `plug` brings.
    pub fn switch_on(&mut self, tools: &Tools) -> Done<()> {
        for group in &self.groups {
            make_group(group)?;
        }
        let console = std::fs::File::create(self.folder.join("console.log")).map_err(told)?;
        let supervisor = Command::new(&tools.stand_in)
            .arg("enter")
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(console.try_clone().map_err(told)?)
            .stderr(console)
            .spawn()
            .map_err(told)?;
        let pid = supervisor.id();
        self.running = Some(Running { supervisor, leader: 0 });
        let leader = wait_for("the machine's PID 1", || {
            let children =
                std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            children.split_whitespace().next().and_then(|text| text.parse().ok())
        })?;
        if let Some(running) = &mut self.running {
            running.leader = leader;
        }
        Ok(())
    }

    /// The process id of its PID 1, seen from outside.
    pub fn leader(&self) -> i32 {
        self.running.as_ref().map_or(0, |running| running.leader)
    }

    /// A path of the machine, seen from outside while it is on.
    pub fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.leader()))
    }

    /// Waits until systemd answers on its bus.
    pub fn wait_until_up(&self) -> Done<()> {
        let socket = self.inside("/run/dbus/system_bus_socket");
        wait_for(&format!("{} to boot", self.name), || socket.exists().then_some(()))
            .map_err(|problem| format!("{problem}; console: {}", self.console()))
    }

    fn console(&self) -> String {
        std::fs::read_to_string(self.folder.join("console.log")).unwrap_or_default()
    }

    /// The command, to be run inside.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.leader().to_string(), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"])
            .args(words)
            .env_clear()
            .envs([
                ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"),
                ("HOME", "/root"),
                ("LANG", "C"),
            ])
            .stdin(Stdio::null());
        command
    }

    /// Runs a command inside to its end.
    pub fn run(&self, words: &[&str]) -> Done<Said> {
        finish(self.command(words), &self.folder.join("said"))
    }

    /// Runs a command inside that has to succeed.
    pub fn must(&self, words: &[&str]) -> Done<String> {
        let said = self.run(words)?;
        match said.status.success() {
            true => Ok(said.text),
            false => {
                Err(format!("{}: {} ended with {}: {}", self.name, words.join(" "), said.status, said.text))
            }
        }
    }

    /// The process id, seen from outside, of a unit's main process.
    pub fn main_process(&self, unit: &str) -> Done<i32> {
        let text = self.must(&["systemctl", "show", "-p", "MainPID", "--value", unit])?;
        let wanted = text.trim().to_owned();
        let found = self.processes().into_iter().find(|pid| inner_id(*pid).as_deref() == Some(&wanted));
        found.filter(|_| wanted != "0").ok_or_else(|| format!("{unit} does not run on {}", self.name))
    }

    /// All its processes, seen from outside.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        for group in self.groups.iter().take(1) {
            collect(group, &mut found);
        }
        found
    }

    /// Processes of this name with this word among their arguments, seen from outside.
    pub fn processes_named(&self, name: &str, word: &str) -> Vec<i32> {
        let matching = |pid: &i32| {
            let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = arguments.split('\0');
            words.next().is_some_and(|first| first.ends_with(name)) && words.any(|other| other == word)
        };
        self.processes().into_iter().filter(matching).collect()
    }

    /// Nothing in it runs any more, though it is on.
    pub fn freeze(&self) {
        for process in self.processes() {
            let _ = kill(Pid::from_raw(process), Signal::SIGSTOP);
        }
    }

    /// What pulling the plug does.
    pub fn power_off(&mut self) -> Done<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        if running.leader > 0 {
            let _ = kill(Pid::from_raw(running.leader), Signal::SIGKILL);
        }
        let _ = running.supervisor.kill();
        let _ = running.supervisor.wait();
        let groups = self.groups.clone();
        wait_for(&format!("the end of {}", self.name), || {
            let mut left = Vec::new();
            groups.iter().for_each(|group| collect(group, &mut left));
            left.is_empty().then_some(())
        })?;
        self.groups.iter().rev().for_each(|group| remove_tree(group));
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.power_off();
    }
}

/// Asks until there is an answer. Whoever is stopped meanwhile, as all of the machines are then, has not waited.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Done<T> {
    let (mut waited, mut last) = (Duration::ZERO, Instant::now());
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        waited += last.elapsed().min(LONGEST_LOOK);
        last = Instant::now();
        if waited > PATIENCE {
            return Err(format!("waited {} s in vain for {what}", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// To its end, or killed when it takes too long; both streams in one text.
pub fn finish(mut command: Command, said: &Path) -> Done<Said> {
    let output = std::fs::File::create(said).map_err(told)?;
    let mut child = command.stdout(output.try_clone().map_err(told)?).stderr(output).spawn().map_err(told)?;
    let ended = wait_for(&format!("the end of {command:?}"), || child.try_wait().ok().flatten());
    let status = match ended {
        Ok(status) => status,
        Err(problem) => {
            let _ = child.kill();
            let _ = child.wait();
            let text = std::fs::read_to_string(said).unwrap_or_default();
            return Err(format!("{problem}; it said: {text}"));
        }
    };
    let text = std::fs::read_to_string(said).unwrap_or_default();
    if status.signal().is_some() {
        return Ok(Said { status, text });
    }
    Ok(Said { status, text })
}

pub fn open_to_all(folder: &Path) -> Done<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o777)).map_err(told)
}

/// The innermost of a process's ids: the one that its own machine knows.
fn inner_id(pid: i32) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last().map(str::to_owned)
}

/// A group of its own in every hierarchy, below the one that the test is in: two systemds must not share one.
fn own_groups(label: &str) -> Done<Vec<PathBuf>> {
    let own = std::fs::read_to_string("/proc/self/cgroup").map_err(told)?;
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let mut groups = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(name), Some(path)) = (fields.next(), fields.next()) else { continue };
        let place = match name {
            "" if unified => PathBuf::from("/sys/fs/cgroup"),
            "" => PathBuf::from("/sys/fs/cgroup/unified"),
            name => Path::new("/sys/fs/cgroup").join(name.trim_start_matches("name=")),
        };
        if place.join("cgroup.procs").exists() {
            groups.push(place.join(path.trim_start_matches('/')).join(label));
        }
    }
    match groups.is_empty() {
        true => Err("this machine has no control groups".to_owned()),
        false => Ok(groups),
    }
}

/// A new group of processors holds none, and nothing may enter an empty one.
fn make_group(group: &Path) -> Done<()> {
    std::fs::create_dir_all(group).map_err(|error| format!("{}: {error}", group.display()))?;
    for setting in ["cpuset.cpus", "cpuset.mems"] {
        let above = group.parent().map(|above| above.join(setting)).unwrap_or_default();
        if let Ok(text) = std::fs::read_to_string(above) {
            let _ = std::fs::write(group.join(setting), text);
        }
    }
    Ok(())
}

/// Folders and groups of runs that were killed. Their machines died with them.
pub fn sweep() -> Done<()> {
    let groups = own_groups("x")?;
    let places = groups.iter().filter_map(|group| group.parent());
    for place in places.chain([Path::new("/dev/shm")]) {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(rest) = name.strip_prefix(LEFTOVER) else { continue };
            let maker = rest.split('-').find(|part| part.parse::<u32>().is_ok());
            let lives = maker.is_some_and(|pid| Path::new("/proc").join(pid).exists());
            if lives || maker.is_none() {
                continue;
            }
            match place == Path::new("/dev/shm") {
                true => drop(std::fs::remove_dir_all(entry.path())),
                false => remove_tree(&entry.path()),
            }
        }
    }
    Ok(())
}

fn collect(group: &Path, found: &mut Vec<i32>) {
    let processes = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    found.extend(processes.split_whitespace().filter_map(|text| text.parse::<i32>().ok()));
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), found);
        }
    }
}

fn remove_tree(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}
