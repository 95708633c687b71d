use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

fn folder() -> (tempfile::TempDir, Folder) {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(place.path()).unwrap().unwrap();
    (place, folder)
}

fn name() -> &'static Path {
    Path::new("file")
}

#[test]
fn a_file_is_written_with_its_mode_and_read_back() {
    let (place, folder) = folder();
    assert!(folder.read(name()).unwrap().is_none());
    folder.write(name(), b"one", FileMode::IfNew(0o640)).unwrap();
    folder.write(name(), b"two", FileMode::exactly(0o600)).unwrap();
    assert_eq!(folder.read(name()).unwrap().unwrap(), b"two");
    assert_eq!(fs::metadata(place.path().join("file")).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(folder.names().unwrap(), ["file"]);
    folder.remove(name()).unwrap();
    folder.remove(name()).unwrap();
    assert!(folder.names().unwrap().is_empty());
}

fn permissions(place: &tempfile::TempDir) -> (u32, u32, u32) {
    let found = fs::metadata(place.path().join("file")).unwrap();
    (found.permissions().mode() & 0o7777, found.uid(), found.gid())
}

#[test]
fn an_existing_file_keeps_its_mode_and_its_owner() {
    let (place, folder) = folder();
    folder.write(name(), b"password=one", FileMode::IfNew(0o600)).unwrap();
    folder.write(name(), b"password=two", FileMode::IfNew(0o644)).unwrap();
    assert_eq!(permissions(&place).0, 0o600);
    assert_eq!([0o664, 0o640, 0o602, 0o600].map(for_another_group), [0o644, 0o600, 0o602, 0o600]);
    // Only root may give a file away.
    if nix::unistd::geteuid().is_root() {
        fs::set_permissions(place.path().join("file"), fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::chown(place.path().join("file"), Some(1234), Some(4321)).unwrap();
        folder.write(name(), b"password=three", FileMode::IfNew(0o644)).unwrap();
        assert_eq!(permissions(&place), (0o640, 1234, 4321));
    }
    assert_eq!(folder.names().unwrap(), ["file"]);
}

#[test]
fn a_planted_link_is_refused_and_its_target_untouched() {
    let (place, folder) = folder();
    let target = place.path().join("target");
    fs::write(&target, "untouched").unwrap();
    symlink(&target, place.path().join("file")).unwrap();
    for problem in [
        folder.read(name()).unwrap_err(),
        folder.write(name(), b"x", FileMode::IfNew(0o644)).unwrap_err(),
        folder.remove(name()).unwrap_err(),
    ] {
        assert!(matches!(problem, FileProblem::NotPlain { what: "a symbolic link" }), "{problem}");
    }
    assert_eq!(fs::read(&target).unwrap(), b"untouched");
}

#[test]
fn a_second_name_of_a_file_keeps_its_old_content() {
    let (place, folder) = folder();
    let backup = place.path().join("backup");
    fs::write(&backup, "untouched").unwrap();
    fs::hard_link(&backup, place.path().join("file")).unwrap();
    folder.write(name(), b"x", FileMode::IfNew(0o644)).unwrap();
    assert_eq!(fs::read(&backup).unwrap(), b"untouched");
    assert_eq!(fs::metadata(&backup).unwrap().nlink(), 1);
    assert_eq!(fs::read(place.path().join("file")).unwrap(), b"x");
}

#[test]
fn a_pipe_or_a_folder_is_refused_without_waiting_for_it() {
    let (place, folder) = folder();
    nix::unistd::mkfifo(&place.path().join("file"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(folder.read(name()), Err(FileProblem::NotPlain { what: "a named pipe" })));
    fs::create_dir(place.path().join("sub")).unwrap();
    assert!(matches!(folder.read(Path::new("sub")), Err(FileProblem::NotPlain { what: "a folder" })));
}

#[test]
fn the_mode_is_set_before_there_is_content() {
    let (place, folder) = folder();
    let replacement = folder.begin(name(), FileMode::IfNew(0o600)).unwrap();
    let metadata = fs::metadata(place.path().join(&replacement.temporary)).unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o7777), (0, 0o600));
}

#[test]
fn a_writer_that_dies_half_way_leaves_the_old_file_and_no_obstacle() {
    let (_place, folder) = folder();
    folder.write(name(), b"old", FileMode::IfNew(0o644)).unwrap();
    let mut replacement = folder.begin(name(), FileMode::IfNew(0o644)).unwrap();
    replacement.file.write_all(b"hal").unwrap();
    drop(replacement);
    assert_eq!(folder.read(name()).unwrap().unwrap(), b"old");
    folder.write(name(), b"new", FileMode::IfNew(0o644)).unwrap();
    assert_eq!(folder.read(name()).unwrap().unwrap(), b"new");
    assert_eq!(folder.names().unwrap(), ["file"]);
}

#[test]
fn no_link_is_followed_on_the_way_down() {
    let (place, _) = folder();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), place.path().join("planted")).unwrap();
    let below = |path: &str, make| Folder::open(place.path()).unwrap().unwrap().below(Path::new(path), make);
    for path in ["planted", "planted/deep", "../x", "/etc"] {
        assert!(matches!(below(path, Some(0o700)), Err(FileProblem::NotPlain { .. })), "{path}");
    }
    assert!(below("a/b", None).unwrap().is_none());
    below("a/b", Some(0o700)).unwrap().unwrap().write(name(), b"x", FileMode::IfNew(0o600)).unwrap();
    assert_eq!(fs::metadata(place.path().join("a")).unwrap().permissions().mode() & 0o7777, 0o700);
    assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
}

#[test]
fn an_enormous_file_is_not_read_into_memory() {
    let (place, folder) = folder();
    fs::File::create(place.path().join("file")).unwrap().set_len(LARGEST + 1).unwrap();
    assert!(matches!(folder.read(name()), Err(FileProblem::TooLarge)));
}

#[test]
fn two_that_make_the_same_folders_at_once_both_get_them() {
    for _ in 0..50 {
        let place = tempfile::tempdir().unwrap();
        let make = || {
            let root = Folder::open(place.path()).unwrap().unwrap();
            root.below(Path::new("muster-agent/output"), Some(0o700)).map(|folder| folder.is_some())
        };
        let start = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            let all = [(); 8].map(|()| {
                scope.spawn(|| {
                    start.wait();
                    make()
                })
            });
            all.into_iter().for_each(|one| assert!(one.join().unwrap().unwrap()));
        });
    }
}
