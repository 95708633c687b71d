//! The generated code is checked in, so that a build needs neither protoc nor a build script.

use std::fs;
use std::path::{Path, PathBuf};

const FILES: [&str; 3] = ["agent.proto", "coordinator.proto", "enrolment.proto"];

/// What container runtimes serve. Only clients are made of it, and nobody holds its methods against a list of callers.
const FOREIGN: [&str; 3] = ["cri.proto", "containerd_version.proto", "containerd_introspection.proto"];

#[allow(clippy::disallowed_methods, reason = "the checked-in code is written by this test alone")]
fn generate_into(folder: &Path) {
    let descriptors = protox::compile(FILES.map(|file| format!("proto/{file}")), ["proto"])
        .expect("the .proto files compile");
    let bytes = prost::Message::encode_to_vec(&descriptors);
    fs::write(folder.join("descriptors.bin"), bytes).unwrap();
    tonic_prost_build::configure()
        .out_dir(folder)
        .btree_map(".")
        .compile_fds(descriptors)
        .expect("the descriptors generate");
    let foreign = protox::compile(FOREIGN.map(|file| format!("foreign/{file}")), ["foreign"])
        .expect("the .proto files of others compile");
    tonic_prost_build::configure()
        .out_dir(folder)
        .btree_map(".")
        .build_server(false)
        .compile_fds(foreign)
        .expect("the descriptors of others generate");
}

#[test]
fn the_generated_code_is_what_the_proto_files_say() {
    let checked_in = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/generated");
    if std::env::var_os("MUSTER_REGENERATE").is_some() {
        generate_into(&checked_in);
        return;
    }
    let fresh = tempfile::tempdir().unwrap();
    generate_into(fresh.path());
    for entry in fs::read_dir(fresh.path()).unwrap() {
        let name = entry.unwrap().file_name();
        let same = fs::read(fresh.path().join(&name)).unwrap()
            == fs::read(checked_in.join(&name)).unwrap_or_default();
        assert!(same, "{name:?} is stale: run `make generate` and commit the result");
    }
}
