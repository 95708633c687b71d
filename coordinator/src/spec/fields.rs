//! The one table of cluster.yaml's fields. Files are checked against it, and the JSON Schema is printed from it.

use std::fmt;
use std::str::FromStr;

use muster_proto::names::{NodeName, UserName};

use super::API_VERSION;
use super::limits::{file_path, kubernetes_version, pod_subnet, repository, service_subnet, tagged_image};

/// A field of the file.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    /// One or two sentences for whoever writes the file.
    pub(super) about: &'static str,
    pub(super) form: Form,
    pub(super) absent: Absent,
}

/// What it means that a field is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// The file is wrong.
    Wrong,
    /// Nothing is wanted of it.
    Unset,
    /// As though this stood there.
    Means(&'static str),
}

/// What may stand in a field.
#[derive(Debug)]
pub(super) enum Form {
    Fields(&'static [Field]),
    List(&'static Form),
    /// One of these.
    Words(&'static [&'static str]),
    /// true or false.
    Flag,
    Number {
        least: u32,
        most: u32,
    },
    Text {
        example: &'static str,
        /// What is wrong with a text, and what to write instead.
        wrong: fn(&str) -> Option<String>,
    },
}

impl Form {
    /// Something that may stand there, on one line.
    pub(super) fn example(&self) -> String {
        match self {
            Self::Fields(fields) => {
                let needed = fields.iter().filter(|field| field.absent == Absent::Wrong);
                let parts: Vec<String> =
                    needed.map(|field| format!("{}: {}", field.name, field.form.example())).collect();
                format!("{{{}}}", parts.join(", "))
            }
            Self::List(item) => format!("[{}]", item.example()),
            Self::Words(words) => words[0].to_owned(),
            Self::Flag => "true".to_owned(),
            Self::Number { least, .. } => least.to_string(),
            Self::Text { example, .. } => (*example).to_owned(),
        }
    }

    /// For a sentence: "write ...".
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Fields(_) => format!("fields such as {}", self.example()),
            Self::List(_) => format!("a list such as {}", self.example()),
            Self::Words(words) => words.join(" or "),
            Self::Flag => "true or false".to_owned(),
            Self::Number { least, most } => format!("a number from {least} to {most}"),
            Self::Text { example, .. } => format!("a text such as {example}"),
        }
    }

    /// What is wrong with this text in the place of a value, and what to write instead.
    pub(super) fn refusal(&self, text: &str, quoted: bool) -> Option<String> {
        let fits = match self {
            Self::Fields(_) | Self::List(_) => false,
            Self::Words(words) => words.contains(&text),
            Self::Flag => !quoted && matches!(text, "true" | "false"),
            Self::Number { least, most } => {
                !quoted && text.parse().is_ok_and(|number: u32| (*least..=*most).contains(&number))
            }
            Self::Text { wrong, .. } => return wrong(text),
        };
        let quotes = if quoted { " in quotes" } else { "" };
        let shown: String = text.chars().take(80).collect();
        (!fits).then(|| format!("{shown:?}{quotes} stands here; write {}", self.in_words()))
    }
}

const fn needed(name: &'static str, form: Form, about: &'static str) -> Field {
    Field { name, about, form, absent: Absent::Wrong }
}

const fn optional(name: &'static str, form: Form, about: &'static str) -> Field {
    Field { name, about, form, absent: Absent::Unset }
}

const fn with_default(name: &'static str, form: Form, default: &'static str, about: &'static str) -> Field {
    Field { name, about, form, absent: Absent::Means(default) }
}

/// A text that must be this type's.
const fn text<T: FromStr<Err: fmt::Display>>(example: &'static str) -> Form {
    Form::Text { example, wrong: |text| text.parse::<T>().err().map(|error| error.to_string()) }
}

const fn checked(example: &'static str, wrong: fn(&str) -> Option<String>) -> Form {
    Form::Text { example, wrong }
}

const NODE_NAME: Form = checked("master-1", |text| {
    let error = text.parse::<NodeName>().err()?;
    // What is longer than any name is nowhere near one.
    let text = if text.len() > 80 { "" } else { text };
    let near = text.to_ascii_lowercase().replace(['_', ' '], "-");
    let near = near.parse::<NodeName>().map(|near| format!("; write {near}")).unwrap_or_default();
    Some(format!("{error}{near}"))
});

/// The whole file.
pub(super) const CLUSTER: Form = Form::Fields(&[
    needed("apiVersion", Form::Words(&[API_VERSION]), "The version of this file's form."),
    needed("kind", Form::Words(&["Cluster"]), "What the file describes."),
    needed(
        "metadata",
        Form::Fields(&[needed(
            "name",
            NODE_NAME,
            "The cluster's name; a reset has to be confirmed with it.",
        )]),
        "What the cluster is called.",
    ),
    needed("spec", Form::Fields(SPEC), "What the cluster shall be."),
]);

const SPEC: &[Field] = &[
    needed(
        "kubernetesVersion",
        checked("v1.36.3", kubernetes_version),
        "The version of the packages kubelet, kubeadm and kubectl that are installed on the machines.",
    ),
    needed(
        "nodes",
        Form::List(&Form::Fields(&[
            needed(
                "name",
                NODE_NAME,
                "The name under which the machine was enrolled; it becomes its host name.",
            ),
            needed(
                "role",
                Form::Words(&["control-plane", "worker"]),
                "What the node is; one is the control plane.",
            ),
        ])),
        "The machines: one control plane, any number of workers.",
    ),
    optional("controlPlane", Form::Fields(CONTROL_PLANE), "How the control plane is made."),
    needed("networking", Form::Fields(NETWORKING), "Addresses inside the cluster, and the pod network."),
    optional("host", Form::Fields(HOST), "What is done to the machines themselves."),
    optional(
        "containerRuntime",
        Form::Fields(CONTAINER_RUNTIME),
        "What runs the containers on every machine.",
    ),
    optional(
        "kubectlUsers",
        Form::List(&text::<UserName>("student")),
        "Users of the control plane's machine for whom kubectl is set up.",
    ),
    optional(
        "smokeTest",
        Form::Fields(SMOKE_TEST),
        "A web server on every node, each asked from every node.",
    ),
];

const CONTROL_PLANE: &[Field] = &[
    with_default(
        "runsPods",
        Form::Flag,
        "false",
        "Pods may run on the control plane too; needed when there is no worker.",
    ),
    with_default("bindPort", Form::Number { least: 1, most: 65535 }, "6443", "Where the API server listens."),
    optional(
        "imageRepository",
        checked("registry.example/k8s", repository),
        "A mirror of the registry that kubeadm takes its images from.",
    ),
    optional(
        "skipPhases",
        // The only phases that a whole cluster can do without; the others are what init is for.
        Form::List(&Form::Words(&["addon/coredns", "addon/kube-proxy"])),
        "Parts of kubeadm init that are left out.",
    ),
    with_default(
        "redoHalfDoneInit",
        Form::Flag,
        "false",
        "A kubeadm init that was cut off is reset and done again by itself, if no other node ever joined.",
    ),
];

const NETWORKING: &[Field] = &[
    needed(
        "podSubnet",
        checked("10.244.0.0/16", pod_subnet),
        "The addresses of pods; the same range must stand in the manifest.",
    ),
    with_default(
        "serviceSubnet",
        checked("10.96.0.0/12", service_subnet),
        "10.96.0.0/12",
        "The addresses of services.",
    ),
    needed(
        "manifest",
        checked("pod-network.yaml", file_path),
        "The pod network's manifest, for instance flannel's; a path relative to this file.",
    ),
];

const CONTAINER_RUNTIME: &[Field] = &[optional(
    "name",
    Form::Words(&["containerd", "docker"]),
    "Docker up to Kubernetes v1.23 and containerd from v1.24 on when this is left out. From v1.24 on Docker needs cri-dockerd on \
     every machine.",
)];

const HOST: &[Field] = &[
    with_default(
        "disableFirewall",
        Form::Flag,
        "false",
        "ufw is switched off where it is on, also after a reboot.",
    ),
    optional(
        "cgroupDriver",
        Form::Words(&["systemd", "cgroupfs"]),
        "The runtime's and the kubelet's cgroup driver. When this is left out: systemd with containerd and from Kubernetes v1.22 on, \
         the one that Docker has before.",
    ),
    with_default(
        "cgroupV1",
        Form::Words(&["allow", "refuse"]),
        "refuse",
        "Whether a machine with cgroups v1 is taken from Kubernetes v1.35 on, which refuses it by itself: allow writes failCgroupV1: false \
         for the kubelets and passes over kubeadm's check SystemVerification there.",
    ),
];

const SMOKE_TEST: &[Field] = &[
    with_default("enabled", Form::Flag, "true", "Whether the test is done."),
    with_default(
        "image",
        checked("nginx:1.22", tagged_image),
        "nginx:1.22",
        "The web server; every machine must have it, nothing is pulled.",
    ),
    with_default("keep", Form::Flag, "true", "The web servers stay, so that they can be looked at."),
];
