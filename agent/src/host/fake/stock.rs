//! The stock Debian host that most tests begin with.

use std::collections::BTreeMap;

use muster_proto::kubernetes::runtime::RuntimeName;
use muster_proto::names::KubernetesVersion;

use super::{FakeCluster, FakeHost, State};
use crate::host::query::{Disk, KubernetesProgram, Unit, User};

/// The CA that the fake kubeadm makes: real PEM, whose key nobody has.
pub const CA_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBgTCCASegAwIBAgIUXevNmqmOUZ5HNGfWIT7f90ZY15EwCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKa3ViZXJuZXRlczAgFw0yNjExMjIxMjM4MzRaGA8yMTI2MTAy
OTEyMzgzNFowFTETMBEGA1UEAwwKa3ViZXJuZXRlczBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABEZyBW1U/RTcNY9b73KlKgfpCKa9ZA4D/cyH4SW4l86TETVrhkM5
O4ZJfKWNuzARjrImfXlJqsICsm2LpCYcUQajUzBRMB0GA1UdDgQWBBTzX/sef28S
RKUUxNEr+pr2gHkrfzAfBgNVHSMEGDAWgBTzX/sef28SRKUUxNEr+pr2gHkrfzAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQD9U39V/XWfADxln/ds
Y/6oURLCli2ogV4v4L6YBhMHRQIgN6Hxk2JLnKzfHLvmw4LwjMzMC4P8a0PBpV8Y
IjDkNw4=
-----END CERTIFICATE-----
";

/// The pin of that CA's public key, as kubeadm prints it.
pub const CA_HASH: &str = "sha256:9a705cf59f80af8dd52f8590c1b492534a2a9ed438758a903de81a33ba220eaf";

impl FakeHost {
    /// A stock Debian 12 with Docker and Kubernetes 1.20.2 installed and nothing prepared. The address is
    /// 10.88.0.11 for a name that ends with 1 and so on.
    pub fn debian(name: &str, cluster: FakeCluster) -> Self {
        Self::new(State::debian(name), cluster)
    }
}

impl State {
    fn debian(name: &str) -> Self {
        let number = name.bytes().last().filter(u8::is_ascii_digit).map_or(0, |digit| digit - b'0');
        // m1 and w1 are two hosts of one cluster.
        let host_part = number + if name.starts_with('w') { 11 } else { 10 };
        let version = KubernetesVersion { major: 1, minor: 20, patch: 2 };
        let user = User {
            name: "student".parse().expect("the name is constant and valid"),
            uid: 1000,
            gid: 1000,
            home: "/home/student".into(),
        };
        let mut state = Self {
            hostname: name.to_owned(),
            swaps: ["/dev/sda5".into()].into(),
            sysctls: [("net.ipv4.ip_forward", "0"), ("vm.swappiness", "60"), ("kernel.panic", "0")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            modules: ["ext4".to_owned()].into(),
            loadable: ["br_netfilter", "overlay", "ip_vs", "nf_conntrack"].map(str::to_owned).into(),
            units: BTreeMap::new(),
            users: [(user.name.clone(), user)].into(),
            versions: KubernetesProgram::ALL.map(|program| (program, version)).into(),
            images: stock_images(version, "k8s.gcr.io")
                .into_iter()
                .chain(["nginx:1.22".to_owned()])
                .collect(),
            addresses: vec![[127, 0, 0, 1].into(), [10, 88, 0, host_part].into()],
            hardware_address: format!("02:00:0a:58:00:{host_part:02x}"),
            processors: 2,
            disk: Disk { total: 100 << 30, available: 60 << 30 },
            packet_filter: "*filter\n:DOCKER - [0:0]\n-A FORWARD -o docker0 -j DOCKER\nCOMMIT\n".to_owned(),
            ..Self::default()
        };
        state.put("/etc/machine-id", format!("{host_part:032x}\n"));
        state.put("/usr/lib/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n");
        state.put("/proc/meminfo", "MemTotal:        4028696 kB\nMemFree:         1000000 kB\n");
        state.put("/proc/partitions", "major minor  #blocks  name\n\n   8        5     999424 sda5\n");
        state.put(
            "/proc/net/route",
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\nens3\t00000000\t0100580A\t0003\t0\t0\t0\t00000000\n",
        );
        state.put("/proc/net/dev", "Inter-|   Receive\n face |bytes\n    lo: 0\n");
        state.put("/etc/hostname", format!("{name}\n"));
        state.put(
            "/etc/hosts",
            format!("127.0.0.1\tlocalhost\n127.0.1.1\t{name}.example.org\t{name}\n\n::1     localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"),
        );
        state.put(
            "/etc/fstab",
            "# /etc/fstab: static file system information.\nUUID=9c6f7a0e-0d0b-4c7e-8f3c-0d1f3a1c0d11 /               ext4    errors=remount-ro 0       1\n# swap was on /dev/sda5 during installation\nUUID=5d1f4e9c-6a53-4b5e-9a36-5c2b8f6f6f10 none            swap    sw              0       0\n",
        );
        state.put(
            "/etc/ufw/ufw.conf",
            "# /etc/ufw/ufw.conf\n\n# Set to yes to start on boot.\nENABLED=yes\n\nLOGLEVEL=low\n",
        );
        for (name, active, file_state) in [
            ("docker.service", true, "enabled"),
            ("kubelet.service", false, "enabled"),
            ("ufw.service", true, "enabled"),
            ("dev-sda5.swap", true, "generated"),
        ] {
            state.units.insert(name.to_owned(), unit(active, file_state));
        }
        state.runtime_ran(RuntimeName::Docker, true);
        state
    }
}

/// A unit that exists, as `state` says.
pub(super) fn unit(active: bool, file_state: &str) -> Unit {
    let state = if active { "active (running)" } else { "inactive (dead)" };
    let (file_state, state) = (file_state.to_owned(), state.to_owned());
    Unit { exists: true, active, file_state, state, inactive_at: None }
}

/// What kubeadm 1.20.2 says it wants.
pub(super) fn stock_images(version: KubernetesVersion, repository: &str) -> Vec<String> {
    [
        format!("kube-apiserver:{version}"),
        format!("kube-controller-manager:{version}"),
        format!("kube-scheduler:{version}"),
        format!("kube-proxy:{version}"),
        "pause:3.2".to_owned(),
        "etcd:3.4.13-0".to_owned(),
        "coredns:1.7.0".to_owned(),
    ]
    .map(|image| format!("{repository}/{image}"))
    .into()
}
