//! The SQLite files of both sides: made whole or not at all, every commit on the disk before it counts. A file that is
//! damaged, or that a newer version wrote, is refused as it lies there: nothing of it is overwritten.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::private_file::{self, FileError};

/// What one kind of file holds.
#[derive(Debug)]
pub struct Schema {
    /// What a person calls the file, for instance `journal`.
    pub what: &'static str,
    /// Raised by every change of the tables; a newer one is refused, not guessed at.
    pub version: i64,
    /// Makes the tables.
    pub tables: &'static str,
    /// From version 1 to 2, from 2 to 3 and so on.
    pub upgrades: &'static [&'static str],
    /// What a person does with a damaged file; `{}` stands for its path.
    pub remedy: &'static str,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("the {what} {path} cannot be opened or written: {}; {}", hint(.source).0, hint(.source).1)]
    Storage { what: &'static str, path: PathBuf, source: rusqlite::Error },
    #[error("there is no {what} {path}: nothing was recorded there yet")]
    Missing { what: &'static str, path: PathBuf },
    #[error(
        "the {what} {path} was written by a newer Muster (schema {found}, this one knows {known}) and was not touched: install that version again"
    )]
    Newer { what: &'static str, path: PathBuf, found: i64, known: i64 },
    #[error("the {what} {path} is damaged ({found}) and was not touched: {remedy}")]
    Damaged { what: &'static str, path: PathBuf, found: String, remedy: String },
    #[error(transparent)]
    File(#[from] FileError),
}

impl DatabaseError {
    /// What to do about it, for a complaint whose cause it is.
    pub fn remedy(&self) -> String {
        match self {
            Self::Storage { source, .. } => hint(source).1.to_owned(),
            Self::Missing { .. } => "run the same command again: it makes a new one".to_owned(),
            Self::Newer { .. } => "install the newer version of Muster again".to_owned(),
            Self::Damaged { remedy, .. } => remedy.clone(),
            Self::File(_) => "remove the cause, then run the same command again".to_owned(),
        }
    }
}

/// What keeps SQLite from its work, and what to do about it.
fn hint(error: &rusqlite::Error) -> (&'static str, &'static str) {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            ("the disk is full", "free space on it, then run the same command again")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ("another program holds it", "end that one, then run the same command again")
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => (
            "this user may not read or write it or its folder (root may), or the disk is full",
            "mend its owner and mode or free space, then run the same command again",
        ),
        _ => (
            "is the disk full, or the folder not writable?",
            "free space or mend the disk (`df` and `dmesg` tell), then run the same command again",
        ),
    }
}

impl Schema {
    /// The error of a file of this kind.
    pub fn error(&self, path: &Path, source: rusqlite::Error) -> DatabaseError {
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                self.damaged(path, source.to_string())
            }
            _ => DatabaseError::Storage { what: self.what, path: path.to_owned(), source },
        }
    }

    /// For a file whose content cannot be right.
    pub fn damaged(&self, path: &Path, found: impl Into<String>) -> DatabaseError {
        let remedy = self.remedy.replace("{}", &path.display().to_string());
        DatabaseError::Damaged { what: self.what, path: path.to_owned(), found: found.into(), remedy }
    }

    /// Opens the file, making it when there is none: readable by its owner alone, with WAL and synchronous=FULL, so that
    /// what was committed is on the disk.
    pub fn open(&self, path: &Path) -> Result<Connection, DatabaseError> {
        let failed = |source| self.error(path, source);
        if let Ok(false) = path.try_exists() {
            self.make(path)?;
        }
        // Looked at through a connection that cannot write: what is refused stays as it is, byte for byte.
        let found = self.examine(path, &self.connect_read_only(path)?)?;
        let mut connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        let upgrade = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            for upgrade in self.upgrades.iter().skip(usize::try_from(found - 1).unwrap_or(0)) {
                transaction.execute_batch(upgrade)?;
            }
            transaction.pragma_update(None, "user_version", self.version)?;
            transaction.commit()
        };
        if found < self.version {
            upgrade(&mut connection).map_err(failed)?;
        }
        Ok(connection)
    }

    /// Opens the file, or a copy of it, for reading only; nothing else need be running.
    pub fn read_only(&self, path: &Path) -> Result<Connection, DatabaseError> {
        // Of a folder that may not be entered, opening tells.
        if let Ok(false) = path.try_exists() {
            return Err(DatabaseError::Missing { what: self.what, path: path.to_owned() });
        }
        let connection = self.connect_read_only(path)?;
        self.examine(path, &connection)?;
        Ok(connection)
    }

    fn connect_read_only(&self, path: &Path) -> Result<Connection, DatabaseError> {
        let failed = |source| self.error(path, source);
        let log = PathBuf::from(format!("{}-wal", path.display()));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        if log.exists() {
            return Connection::open_with_flags(path, flags).map_err(failed);
        }
        // Without a log beside it nobody has the file open; SQLite would want to make one, which it may not everywhere.
        let escaped = path.display().to_string().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let uri = format!("file:{escaped}?immutable=1");
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI).map_err(failed)
    }

    /// The version of the tables, of a file that SQLite finds whole.
    fn examine(&self, path: &Path, connection: &Connection) -> Result<i64, DatabaseError> {
        let failed = |source| self.error(path, source);
        let found: i64 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        if found > self.version {
            let (what, path) = (self.what, path.to_owned());
            return Err(DatabaseError::Newer { what, path, found, known: self.version });
        }
        // Every file of ours was put in its place with its tables in it.
        if found < 1 {
            return Err(self.damaged(path, "it is empty, or no file of Muster's"));
        }
        let said: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if said == "ok" { Ok(found) } else { Err(self.damaged(path, said.replace('\n', " "))) }
    }

    /// A crash in the middle leaves no file, or a whole one: an empty file is always a damaged one.
    fn make(&self, path: &Path) -> Result<(), DatabaseError> {
        let temporary = private_file::temporary_beside(path)?;
        private_file::write(&temporary, b"", 0o600)?;
        let filled = (|| {
            let connection = Connection::open(&temporary)?;
            // No side file, which a crash could leave to the next one of this name.
            connection.pragma_update(None, "journal_mode", "MEMORY")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(self.tables)?;
            connection.pragma_update(None, "user_version", self.version)?;
            connection.close().map_err(|(_, error)| error)
        })();
        let put = filled
            .map_err(|source| self.error(path, source))
            .and_then(|()| Ok(private_file::put_new(&temporary, path)?));
        private_file::remove(&temporary);
        put
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test damages its own files")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const NOTES: Schema = Schema {
        what: "notebook",
        version: 2,
        tables: "CREATE TABLE note (number INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;",
        upgrades: &["ALTER TABLE note RENAME COLUMN line TO text;"],
        remedy: "move {} away",
    };

    fn filled(path: &Path) {
        let connection = NOTES.open(path).unwrap();
        for number in 1..=200 {
            connection.execute("INSERT INTO note VALUES (?1, ?2)", (number, "x".repeat(100))).unwrap();
        }
    }

    fn refused(path: &Path) -> String {
        let before = fs::read(path).unwrap();
        let error = NOTES.open(path).unwrap_err().to_string();
        assert_eq!(NOTES.read_only(path).unwrap_err().to_string(), error);
        assert_eq!(fs::read(path).unwrap(), before, "nothing of it was changed");
        error
    }

    #[test]
    fn a_file_is_private_and_a_copy_is_read_where_nothing_may_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("a.db"), folder.path().join("copy?#.db"));
        filled(&path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::copy(&path, &copy).unwrap();
        let count = |connection: Connection| -> i64 {
            connection.query_row("SELECT count(*) FROM note", [], |row| row.get(0)).unwrap()
        };
        assert_eq!(count(NOTES.read_only(&copy).unwrap()), 200);
        let names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "reading leaves no side file: {names:?}");
    }

    #[test]
    fn what_was_committed_is_in_the_log_and_the_log_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let connection = NOTES.open(&folder.path().join("a.db")).unwrap();
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        // 2 is FULL: every commit waits until the log is on the disk.
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    }

    #[test]
    fn what_is_in_the_log_of_a_process_that_was_killed_is_read_too() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("a.db"), folder.path().join("copy.db"));
        let open = NOTES.open(&path).unwrap();
        open.execute("INSERT INTO note VALUES (1, 'x')", []).unwrap();
        for end in ["", "-wal"] {
            fs::copy(format!("{}{end}", path.display()), format!("{}{end}", copy.display())).unwrap();
        }
        let count: i64 = NOTES
            .read_only(&copy)
            .unwrap()
            .query_row("SELECT count(*) FROM note", [], |row| row.get(0))
            .unwrap();
        assert_eq!(count, 1);
    }

    #[test]
    fn damaged_truncated_and_foreign_files_are_refused_with_the_remedy_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        filled(&path);
        let whole = fs::read(&path).unwrap();
        let remedy = format!("and was not touched: move {} away", path.display());
        let mut scribbled = whole.clone();
        scribbled[4096..5000].fill(0xa5);
        for (what, bytes) in [
            ("empty", Vec::new()),
            ("cut", whole[..whole.len() / 2].to_vec()),
            ("scribbled", scribbled),
            ("text", b"not a database at all, but long enough to look at".repeat(40)),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = refused(&path);
            assert!(error.starts_with("the notebook ") && error.ends_with(&remedy), "{what}: {error}");
        }
    }

    #[test]
    fn a_newer_file_is_refused_and_an_older_one_brought_up_to_date() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        filled(&path);
        let older = Connection::open(&path).unwrap();
        older.execute_batch("ALTER TABLE note RENAME COLUMN text TO line; PRAGMA user_version = 1;").unwrap();
        older.close().unwrap();
        NOTES.open(&path).unwrap().execute("INSERT INTO note (text) VALUES ('y')", []).unwrap();
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 3).unwrap();
        let error = refused(&path);
        assert!(error.contains("newer Muster (schema 3, this one knows 2)"), "{error}");
    }

    #[test]
    fn a_full_disk_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let connection = NOTES.open(&path).unwrap();
        connection.pragma_update(None, "max_page_count", 3).unwrap();
        let full = connection.execute("INSERT INTO note VALUES (1, ?1)", ["x".repeat(100_000)]).unwrap_err();
        let error = NOTES.error(&path, full).to_string();
        assert!(error.contains("the disk is full; free space on it"), "{error}");
        let full = connection.execute("INSERT INTO note VALUES (1, ?1)", ["x".repeat(100_000)]).unwrap_err();
        assert!(NOTES.error(&path, full).remedy().starts_with("free space"));
        assert_eq!(NOTES.damaged(&path, "x").remedy(), format!("move {} away", path.display()));
        let held = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(5), None);
        assert!(NOTES.error(&path, held).remedy().starts_with("end that one"));
        connection.execute("INSERT INTO note VALUES (1, 'x')", []).unwrap();
    }
}
