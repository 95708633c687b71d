//! What both sides of Muster agree on: the messages, the names, the events and their one transition
//! function, the journal, redaction and the version handshake.

pub mod bounds;
pub mod capability;
pub mod cause;
pub mod change;
pub mod database;
pub mod difference;
pub mod event;
pub mod failpoint;
#[cfg(any(test, feature = "hostile"))]
pub mod hostile;
pub mod journal;
pub mod kubernetes;
pub mod listing;
pub mod malformed;
pub mod names;
pub mod panics;
pub mod pod_network;
pub mod private_file;
pub mod redaction;
pub mod settings_file;
pub mod step_kind;
pub mod token;
pub mod transport;
pub mod ufw;
pub mod version;

/// The generated messages and services; `make generate` renews them from `proto/*.proto` and `foreign/*.proto`.
#[allow(clippy::all, unreachable_pub)]
pub mod generated {
    pub mod agent {
        include!("generated/muster.agent.v1.rs");
    }
    pub mod coordinator {
        include!("generated/muster.coordinator.v1.rs");
    }
    pub mod enrolment {
        include!("generated/muster.enrolment.v1.rs");
    }
    /// What container runtimes serve: the Container Runtime Interface, and containerd's own questions.
    pub mod cri {
        include!("generated/runtime.v1.rs");
    }
    pub mod containerd {
        pub mod version {
            include!("generated/containerd.services.version.v1.rs");
        }
        pub mod introspection {
            include!("generated/containerd.services.introspection.v1.rs");
        }
    }
    /// The encoded descriptor set: reflection serves it, and the capability test reads it.
    pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");
}

pub use generated::{agent, containerd, coordinator, cri, enrolment};
