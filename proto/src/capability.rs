//! Who may call what. Everything that does not stand here is denied, and a test compares this with the descriptors.

/// Where a call comes from; each place serves the services that stand here for it and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The coordinator, over the connection that an agent opened and on which both proved who they are.
    Coordinator,
    /// Anybody who reaches the coordinator's port, on a `muster-enroll/1` connection.
    Stranger,
    /// Root and the group muster, on admin.sock.
    Administrator,
    /// Every local user, on status.sock.
    LocalUser,
}

use Caller::{Administrator, Coordinator, LocalUser, Stranger};

/// Method by method, who may call it.
pub const TABLE: [(&str, &[Caller]); 19] = [
    ("/muster.agent.v1.NodeAgent/Hello", &[Coordinator]),
    ("/muster.agent.v1.NodeAgent/CheckStep", &[Coordinator]),
    ("/muster.agent.v1.NodeAgent/RunStep", &[Coordinator]),
    ("/muster.agent.v1.NodeAgent/Inspect", &[Coordinator]),
    ("/muster.agent.v1.NodeAgent/Listen", &[Coordinator]),
    ("/muster.agent.v1.NodeAgent/Reach", &[Coordinator]),
    ("/muster.enrolment.v1.Enrolment/Enrol", &[Stranger]),
    ("/muster.coordinator.v1.Admin/CreateToken", &[Administrator]),
    ("/muster.coordinator.v1.Admin/ListTokens", &[Administrator]),
    ("/muster.coordinator.v1.Admin/RevokeToken", &[Administrator]),
    ("/muster.coordinator.v1.Admin/ListNodes", &[Administrator]),
    ("/muster.coordinator.v1.Admin/RevokeNode", &[Administrator]),
    ("/muster.coordinator.v1.Admin/LetNodesIn", &[Administrator]),
    ("/muster.coordinator.v1.Admin/Plan", &[Administrator]),
    ("/muster.coordinator.v1.Admin/Preflight", &[Administrator]),
    ("/muster.coordinator.v1.Admin/Bootstrap", &[Administrator]),
    ("/muster.coordinator.v1.Admin/Reset", &[Administrator]),
    ("/muster.coordinator.v1.Status/Get", &[Administrator, LocalUser]),
    ("/muster.coordinator.v1.Status/Watch", &[Administrator, LocalUser]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn every_method_of_the_descriptors_stands_in_the_table_and_no_other() {
        let set = prost_types::FileDescriptorSet::decode(crate::generated::DESCRIPTORS).unwrap();
        let mut described: Vec<String> = Vec::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    described.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
        let mut listed: Vec<String> = TABLE.iter().map(|(method, _)| (*method).to_owned()).collect();
        described.sort();
        listed.sort();
        assert_eq!(described, listed);
    }
}
