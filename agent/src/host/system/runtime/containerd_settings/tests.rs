use super::*;

/// What containerd 1.6.20 and 2.4 print of these settings when no file sets anything.
const OLD_DEFAULTS: &str = "disabled_plugins = []\nimports = [\"/etc/containerd/config.toml\"]\nversion = 2\n\n[plugins]\n\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    sandbox_image = \"registry.k8s.io/pause:3.6\"\n\n    [plugins.\"io.containerd.grpc.v1.cri\".cni]\n      bin_dir = \"/opt/cni/bin\"\n\n    [plugins.\"io.containerd.grpc.v1.cri\".containerd]\n      default_runtime_name = \"runc\"\n\n      [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n        SystemdCgroup = false\n";
const NEW_DEFAULTS: &str = "version = 4\ndisabled_plugins = []\nimports = []\n\n[plugins]\n  [plugins.'io.containerd.cri.v1.images'.pinned_images]\n    sandbox = 'registry.k8s.io/pause:3.10.2'\n  [plugins.'io.containerd.cri.v1.runtime'.containerd]\n    default_runtime_name = 'runc'\n  [plugins.'io.containerd.cri.v1.runtime'.cni]\n    bin_dirs = ['/opt/cni/bin']\n";

fn wish(driver: CgroupDriver, image: &str) -> RuntimeWish {
    RuntimeWish { cgroup_driver: Some(driver), sandbox_image: Some(image.parse().unwrap()) }
}

fn rewritten(
    main: Option<&str>,
    merged: &str,
    imports: &[(PathBuf, String)],
    wanted: &RuntimeWish,
) -> String {
    match decide(main, &Ok(merged.to_owned()), imports, wanted) {
        RuntimeSettings::Rewrite { content, restart: true, .. } => content,
        other => panic!("{other:?}"),
    }
}

fn complaint(main: Option<&str>, merged: Result<&str, &str>, imports: &[(PathBuf, String)]) -> Complaint {
    let merged = merged.map(str::to_owned).map_err(str::to_owned);
    match decide(main, &merged, imports, &wish(CgroupDriver::Systemd, "registry.k8s.io/pause:3.10.2")) {
        RuntimeSettings::Unfit(complaint) => complaint,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_file_is_written_with_what_is_wanted_in_the_tables_of_this_containerd() {
    let wanted = wish(CgroupDriver::Systemd, "registry.k8s.io/pause:3.7");
    assert_eq!(
        rewritten(None, OLD_DEFAULTS, &[], &wanted),
        "version = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"registry.k8s.io/pause:3.7\"\n\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = true\n"
    );
    assert_eq!(
        rewritten(None, NEW_DEFAULTS, &[], &wanted),
        "version = 3\n\n[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\n[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc.options]\nSystemdCgroup = true\n\n[plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = \"registry.k8s.io/pause:3.7\"\n"
    );
}

#[test]
fn debians_file_gets_the_settings_and_keeps_its_comments_and_its_own() {
    let main = "# Debian's own\nversion = 2\n\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    [plugins.\"io.containerd.grpc.v1.cri\".cni]\n      bin_dir = \"/usr/lib/cni\" # not where kubernetes-cni is\n      conf_dir = \"/etc/cni/net.d\"\n  [plugins.\"io.containerd.internal.v1.opt\"]\n    path = \"/var/lib/containerd/opt\"\n";
    let merged = OLD_DEFAULTS.replace("/opt/cni/bin", "/usr/lib/cni");
    let after =
        rewritten(Some(main), &merged, &[], &wish(CgroupDriver::Systemd, "registry.k8s.io/pause:3.6"));
    for kept in
        ["# Debian's own\n", "conf_dir = \"/etc/cni/net.d\"\n", "path = \"/var/lib/containerd/opt\"\n"]
    {
        assert!(after.contains(kept), "{after}");
    }
    assert!(after.contains("bin_dir = \"/opt/cni/bin\" # not where kubernetes-cni is\n"), "{after}");
    assert!(after.contains(".containerd.runtimes.runc.options]\nSystemdCgroup = true\n"), "{after}");
    assert!(!after.contains("sandbox_image"), "it was right already: {after}");
}

#[test]
fn only_the_interface_is_taken_out_of_the_disabled_plugins() {
    // The file of Docker's package containerd.io, which names no version.
    let main = "#   Copyright 2018-2022 Docker Inc.\n\ndisabled_plugins = [\"cri\", \"restart\"]\n\n#root = \"/var/lib/containerd\"\n";
    let merged = OLD_DEFAULTS.replace("disabled_plugins = []", "disabled_plugins = [\"cri\", \"restart\"]");
    let after =
        rewritten(Some(main), &merged, &[], &wish(CgroupDriver::Systemd, "registry.k8s.io/pause:3.9"));
    let said = Said::parse(&after).unwrap();
    assert_eq!(said.version, 1);
    assert!(
        after.contains("[\"restart\"]") && after.contains("#root = \"/var/lib/containerd\"\n"),
        "{after}"
    );
    assert_eq!(said.driver("runc"), Some(CgroupDriver::Systemd));
    assert_eq!(said.sandbox(), Some("registry.k8s.io/pause:3.9"));
    assert!(after.contains("[plugins.cri.containerd.runtimes.runc.options]"), "{after}");
}

#[test]
fn a_table_of_the_wrong_version_sets_nothing_and_stays() {
    let main = "version = 3\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = true\n";
    let after = rewritten(
        Some(main),
        NEW_DEFAULTS,
        &[],
        &wish(CgroupDriver::Systemd, "registry.k8s.io/pause:3.10.2"),
    );
    assert!(after.starts_with(main), "{after}");
    assert!(
        after.contains("[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc.options]\nSystemdCgroup = true\n"),
        "{after}"
    );
}

#[test]
fn the_default_runtime_gets_the_driver_whatever_its_name_is() {
    let merged = OLD_DEFAULTS.replace("default_runtime_name = \"runc\"", "default_runtime_name = \"nvidia\"");
    let main = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"nvidia\"\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia]\nruntime_type = \"io.containerd.runc.v2\"\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia.options]\nBinaryName = \"/usr/bin/nvidia-container-runtime\"\nSystemdCgroup = false # as it was\n";
    let after =
        rewritten(Some(main), &merged, &[], &wish(CgroupDriver::Systemd, "registry.k8s.io/pause:3.6"));
    assert_eq!(after, main.replace("false #", "true #"));
}

#[test]
fn what_an_imported_file_decides_is_told_with_that_file_before_anything_changes() {
    let import = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = false\n";
    let imports = [(PathBuf::from("/etc/containerd/conf.d/site.toml"), import.to_owned())];
    let main = "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n";
    let told = complaint(Some(main), Ok(OLD_DEFAULTS), &imports);
    assert!(told.cause.contains("SystemdCgroup") && told.evidence.contains("conf.d/site.toml"), "{told}");
    assert!(told.remedy.contains("host.cgroupDriver"), "{told}");
}

#[test]
fn a_file_that_containerd_cannot_read_is_told_in_its_own_words() {
    let told = complaint(Some("oops ["), Err("containerd: failed to load TOML: (1, 6): missing comma"), &[]);
    assert!(told.evidence.contains("(1, 6): missing comma") && told.remedy.contains("config.toml"), "{told}");
}

#[test]
fn settings_that_fit_are_left_alone() {
    let fits = |driver, image| {
        decide(None, &Ok(NEW_DEFAULTS.to_owned()), &[], &wish(driver, image)) == RuntimeSettings::Fit
    };
    assert!(fits(CgroupDriver::Cgroupfs, "registry.k8s.io/pause:3.10.2"));
    assert!(!fits(CgroupDriver::Cgroupfs, "registry.k8s.io/pause:3.9"));
    assert!(!fits(CgroupDriver::Systemd, "registry.k8s.io/pause:3.10.2"));
    assert_eq!(
        decide(None, &Ok(NEW_DEFAULTS.to_owned()), &[], &RuntimeWish::default()),
        RuntimeSettings::Fit
    );
}

#[test]
fn what_was_written_fits_when_it_is_read_again() {
    let wanted = wish(CgroupDriver::Systemd, "mirror.example.org:5000/google_containers/pause:3.9");
    for version in [1, 2, 3, 4] {
        let main = format!("version = {version}\n");
        let lacking = [Setting::CgroupDriver, Setting::SandboxImage, Setting::CniPrograms];
        let after = edited(Some(&main), version, &lacking, "runc", &wanted).unwrap();
        let said = Said::parse(&after).unwrap();
        for setting in Setting::ALL {
            assert!(said.fits(setting, "runc", &wanted), "{version} {setting:?} {after}");
        }
    }
}

#[test]
fn the_files_of_a_pattern_are_those_that_containerd_would_take() {
    for (pattern, name, taken) in [
        ("*.toml", "10-site.toml", true),
        ("*.toml", "10-site.toml.bak", false),
        ("site.toml", "site.toml", true),
        ("1*-*.toml", "10-site.toml", true),
        ("1*-*.toml", "20-site.toml", false),
    ] {
        assert_eq!(matches(pattern, name), taken, "{pattern} {name}");
    }
    let merged =
        Ok("version = 4\nimports = ['/etc/containerd/conf.d/*.toml', '/etc/containerd/config.toml']\n"
            .into());
    let found = imports(&merged, Path::new("/etc/containerd/config.toml"));
    assert_eq!(found, [PathBuf::from("/etc/containerd/conf.d/*.toml")]);
}
