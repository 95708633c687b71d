//! containerd's config.toml: what it says, and the file with what is wanted in it, every comment and other setting kept.
//! Names of tables as in containerd's docs/cri/config.md and docs/PLUGINS.md, for all versions of the file: 1 (no `version`
//! in it; short names of plugins), 2 (containerd 1.3 to 1.7), 3 (2.0), 4 (2.3; the same tables for CRI).

use std::path::{Path, PathBuf};

use muster_proto::event::Complaint;
use muster_proto::kubernetes::runtime::{CgroupDriver, RuntimeName};
use toml_edit::{DocumentMut, Item, Table, TableLike, Value, value};

use crate::host::query::{RuntimeSettings, RuntimeWish};

/// The plugins of the interface by all their names; a file that disables one of them switches it off.
const CRI_PLUGINS: [&str; 4] =
    ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"];

/// Where Kubernetes' package and every pod network put their CNI programs; distributions name a folder of their own.
const CNI_PROGRAMS: &str = muster_proto::kubernetes::network::PROGRAM_FOLDER;

/// The shim that runs containers with runc. In a file that has a table of the runtime this line is needed too: the table
/// takes the place of containerd's own (seen with 1.6.20).
const SHIM: &str = "io.containerd.runc.v2";

/// The tables of one version of the file.
struct Tables {
    runtime: &'static [&'static str],
    images: &'static [&'static str],
    /// Below `images`: the path to the pause image's name.
    sandbox: &'static [&'static str],
}

fn tables(version: i64) -> Tables {
    match version {
        ..=1 => {
            Tables { runtime: &["plugins", "cri"], images: &["plugins", "cri"], sandbox: &["sandbox_image"] }
        }
        2 => Tables {
            runtime: &["plugins", "io.containerd.grpc.v1.cri"],
            images: &["plugins", "io.containerd.grpc.v1.cri"],
            sandbox: &["sandbox_image"],
        },
        _ => Tables {
            runtime: &["plugins", "io.containerd.cri.v1.runtime"],
            images: &["plugins", "io.containerd.cri.v1.images"],
            sandbox: &["pinned_images", "sandbox"],
        },
    }
}

/// One setting that has to be as Muster wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    Cri,
    CgroupDriver,
    SandboxImage,
    CniPrograms,
}

impl Setting {
    const ALL: [Self; 4] = [Self::Cri, Self::CgroupDriver, Self::SandboxImage, Self::CniPrograms];

    fn words(self) -> &'static str {
        match self {
            Self::Cri => "disabled_plugins (which holds the plugin of the Container Runtime Interface)",
            Self::CgroupDriver => "SystemdCgroup",
            Self::SandboxImage => "the sandbox image",
            Self::CniPrograms => "the folder of the CNI programs (bin_dir)",
        }
    }
}

/// What a file, or all files merged, says.
#[derive(Debug, Default)]
pub(crate) struct Said {
    document: DocumentMut,
    version: i64,
}

impl Said {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
        let version = document.get("version").and_then(Item::as_integer).unwrap_or(1);
        Ok(Self { document, version })
    }

    fn at(&self, table: &[&str], path: &[&str]) -> Option<&Item> {
        table.iter().chain(path).try_fold(self.document.as_item(), |item, key| item.get(key))
    }

    fn text(&self, table: &[&str], path: &[&str]) -> Option<&str> {
        self.at(table, path).and_then(Item::as_str).filter(|text| !text.is_empty())
    }

    pub(crate) fn disables_cri(&self) -> bool {
        let list = self.document.get("disabled_plugins").and_then(Item::as_array);
        list.is_some_and(|all| all.iter().any(is_cri))
    }

    fn default_runtime(&self) -> &str {
        let tables = tables(self.version);
        self.text(tables.runtime, &["containerd", "default_runtime_name"]).unwrap_or("runc")
    }

    pub(crate) fn driver(&self, runtime: &str) -> Option<CgroupDriver> {
        let tables = tables(self.version);
        let path = ["containerd", "runtimes", runtime, "options", "SystemdCgroup"];
        let set = self.at(tables.runtime, &path).and_then(Item::as_bool)?;
        Some(if set { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs })
    }

    pub(crate) fn sandbox(&self) -> Option<&str> {
        let tables = tables(self.version);
        self.text(tables.images, tables.sandbox)
    }

    /// `bin_dir`, and from containerd 2.1 on the list `bin_dirs`.
    pub(crate) fn cni_programs(&self) -> Vec<&str> {
        let tables = tables(self.version);
        let list = self.at(tables.runtime, &["cni", "bin_dirs"]).and_then(Item::as_array);
        let one = self.text(tables.runtime, &["cni", "bin_dir"]);
        list.into_iter().flatten().filter_map(Value::as_str).chain(one).collect()
    }

    /// Whether it sets this at all.
    fn sets(&self, setting: Setting, runtime: &str) -> bool {
        match setting {
            Setting::Cri => self.disables_cri(),
            Setting::CgroupDriver => self.driver(runtime).is_some(),
            Setting::SandboxImage => self.sandbox().is_some(),
            Setting::CniPrograms => !self.cni_programs().is_empty(),
        }
    }

    /// Whether what it says is what is wanted; silence is not.
    fn fits(&self, setting: Setting, runtime: &str, wanted: &RuntimeWish) -> bool {
        match setting {
            Setting::Cri => !self.disables_cri(),
            Setting::CgroupDriver => match wanted.cgroup_driver {
                Some(driver) => self.driver(runtime).unwrap_or(CgroupDriver::Cgroupfs) == driver,
                None => true,
            },
            Setting::SandboxImage => match &wanted.sandbox_image {
                Some(image) => self.sandbox() == Some(image.as_str()),
                None => true,
            },
            Setting::CniPrograms => self.cni_programs().contains(&CNI_PROGRAMS),
        }
    }
}

fn is_cri(plugin: &Value) -> bool {
    plugin.as_str().is_some_and(|name| CRI_PLUGINS.contains(&name))
}

/// The files that were merged into the settings, without the main one, in the order in which they count; the name of one may
/// be a pattern such as `*.toml`.
pub(crate) fn imports(merged: &Result<String, String>, main: &Path) -> Vec<PathBuf> {
    let Some(said) = merged.as_ref().ok().and_then(|text| Said::parse(text).ok()) else { return Vec::new() };
    let list = said.document.get("imports").and_then(Item::as_array);
    let paths = list.into_iter().flatten().filter_map(Value::as_str).map(PathBuf::from);
    paths.filter(|path| path != main && path.is_absolute()).collect()
}

/// Whether a name is one of those that a pattern stands for: `*` for any letters, as often as it stands there.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|name| {
            let mut starts = name.char_indices().map(|(start, _)| start).chain([name.len()]);
            starts.any(|start| matches(rest, &name[start..]))
        }),
    }
}

/// Where the file says that all data lies.
pub(crate) fn root(file: &str) -> Option<PathBuf> {
    let document: DocumentMut = file.parse().ok()?;
    document.get("root").and_then(Item::as_str).filter(|path| path.starts_with('/')).map(PathBuf::from)
}

/// Compares what containerd makes of its files with what is wanted. `merged` is its own account of them, or what it
/// complains of; `imports` are the files that it reads beside the main one.
pub(crate) fn decide(
    main: Option<&str>,
    merged: &Result<String, String>,
    imports: &[(PathBuf, String)],
    wanted: &RuntimeWish,
) -> RuntimeSettings {
    let path = RuntimeName::Containerd.row().settings;
    let unreadable = |evidence: &str| {
        RuntimeSettings::Unfit(Complaint::new(
            "containerd's configuration cannot be read, and containerd would not start with it",
            evidence,
            format!("correct {path}, then run again"),
        ))
    };
    let merged = match merged {
        Ok(text) => text,
        Err(error) => return unreadable(error),
    };
    let said = match (Said::parse(merged), Said::parse(main.unwrap_or_default())) {
        (Ok(merged), Ok(_)) => merged,
        (_, Err(error)) => return unreadable(&format!("{path}: {error}")),
        (Err(error), _) => return unreadable(&format!("containerd config dump: {error}")),
    };
    let runtime = said.default_runtime().to_owned();
    let lacking: Vec<Setting> =
        Setting::ALL.into_iter().filter(|setting| !said.fits(*setting, &runtime, wanted)).collect();
    if lacking.is_empty() {
        return RuntimeSettings::Fit;
    }
    for setting in &lacking {
        let sets = |text: &String| Said::parse(text).is_ok_and(|said| said.sets(*setting, &runtime));
        if let Some((import, _)) = imports.iter().rev().find(|(_, text)| sets(text)) {
            return RuntimeSettings::Unfit(Complaint::new(
                format!("another file than {path} decides about {} of containerd", setting.words()),
                format!("{} sets it and is read after {path} (`imports` there)", import.display()),
                format!(
                    "take it out of {}; Muster writes {path} alone{}",
                    import.display(),
                    match (setting, wanted.cgroup_driver) {
                        (Setting::CgroupDriver, Some(_)) =>
                            ". Or name the driver that it sets as host.cgroupDriver in the cluster file",
                        _ => "",
                    }
                ),
            ));
        }
    }
    match edited(main, said.version, &lacking, &runtime, wanted) {
        Some(content) => RuntimeSettings::Rewrite { path: path.into(), content, restart: true },
        None => unreadable(&format!(
            "{path}: a table on the way to {} is none",
            lacking.iter().map(|setting| setting.words()).collect::<Vec<_>>().join(", ")
        )),
    }
}

/// The main file with these settings as they are wanted. None when something else stands where a table has to be.
fn edited(
    main: Option<&str>,
    newest: i64,
    lacking: &[Setting],
    runtime: &str,
    wanted: &RuntimeWish,
) -> Option<String> {
    let mut said = match main.filter(|text| !text.trim().is_empty()) {
        Some(text) => Said::parse(text).ok()?,
        // A file without `version` would be one of the first version.
        None => Said::parse(&format!("version = {}\n", newest.clamp(2, 3))).ok()?,
    };
    let tables = tables(said.version);
    let document = said.document.as_table_mut();
    for setting in lacking {
        match (setting, wanted.cgroup_driver, &wanted.sandbox_image) {
            (Setting::Cri, ..) => {
                let list = document.get_mut("disabled_plugins")?.as_array_mut()?;
                list.retain(|plugin| !is_cri(plugin));
                if let Some(first) = list.get_mut(0) {
                    first.decor_mut().set_prefix("");
                }
            }
            (Setting::CgroupDriver, Some(driver), _) => {
                let own = table(document, tables.runtime, &["containerd", "runtimes", runtime])?;
                if !own.contains_key("runtime_type") {
                    own.insert("runtime_type", value(SHIM));
                }
                let path = ["containerd", "runtimes", runtime, "options"];
                set(
                    table(document, tables.runtime, &path)?,
                    "SystemdCgroup",
                    driver == CgroupDriver::Systemd,
                );
            }
            (Setting::SandboxImage, _, Some(image)) => {
                let (key, below) = tables.sandbox.split_last()?;
                set(table(document, tables.images, below)?, key, image.as_str());
            }
            (Setting::CniPrograms, ..) => {
                let cni = table(document, tables.runtime, &["cni"])?;
                match cni.get_mut("bin_dirs").and_then(Item::as_array_mut) {
                    Some(list) => list.push(CNI_PROGRAMS),
                    None => set(cni, "bin_dir", CNI_PROGRAMS),
                }
            }
            _ => {}
        }
    }
    Some(said.document.to_string())
}

/// The value of a key, with what stood around the old one (its comment above all).
fn set(table: &mut dyn TableLike, key: &str, new: impl Into<Value>) {
    let mut new = new.into();
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => {
            table.insert(key, Item::Value(new));
        }
    }
}

/// The table at this path, made with those above it where it is missing.
fn table<'a>(root: &'a mut Table, first: &[&str], path: &[&str]) -> Option<&'a mut dyn TableLike> {
    let mut here: &mut dyn TableLike = root;
    for key in first.iter().chain(path) {
        let new = || {
            let mut table = Table::new();
            // Only its own keys make a heading for it.
            table.set_implicit(true);
            Item::Table(table)
        };
        here = here.entry(key).or_insert_with(new).as_table_like_mut()?;
    }
    Some(here)
}

#[cfg(test)]
#[path = "containerd_settings/tests.rs"]
mod tests;
