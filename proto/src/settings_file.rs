//! A file of settings in TOML: read with every misspelt name refused, written whole.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::private_file::{self, FileError};

/// What one side keeps in its file of settings. No secret is among it.
pub trait SettingsFile: Serialize + DeserializeOwned {
    /// What makes the file, as a thing to do: "run `sudo coordinator init` on this machine".
    const MADE_BY: &'static str;
    /// The file's first line, which says what may be changed in it.
    const COMMENT: &'static str;

    /// Reads the file; none when it was not made yet.
    fn read(path: &Path) -> Result<Option<Self>, SettingsError> {
        let Some(bytes) = private_file::read(path)? else { return Ok(None) };
        let path = || path.to_owned();
        let text = String::from_utf8(bytes)
            .map_err(|_| SettingsError::NotText { path: path(), made_by: Self::MADE_BY })?;
        toml::from_str(&text).map(Some).map_err(|source| SettingsError::Malformed {
            path: path(),
            made_by: Self::MADE_BY,
            source: Box::new(source),
        })
    }

    /// Reads the file, which must be there.
    fn load(path: &Path) -> Result<Self, SettingsError> {
        Self::read(path)?
            .ok_or_else(|| SettingsError::Missing { path: path.to_owned(), made_by: Self::MADE_BY })
    }

    /// Writes the file, readable by everybody.
    fn write(&self, path: &Path) -> Result<(), SettingsError> {
        let body = toml::to_string(self)
            .map_err(|source| SettingsError::Unwritable { path: path.to_owned(), source })?;
        let text = format!("# {}\n{body}", Self::COMMENT);
        Ok(private_file::write(path, text.as_bytes(), 0o644)?)
    }
}

/// The settings file is missing or wrong.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("there is no {path}: first {made_by}")]
    Missing { path: PathBuf, made_by: &'static str },
    #[error("{path} cannot be understood: correct it, or remove it and {made_by}")]
    Malformed { path: PathBuf, made_by: &'static str, source: Box<toml::de::Error> },
    #[error("{path} is not UTF-8 text: remove it and {made_by}")]
    NotText { path: PathBuf, made_by: &'static str },
    #[error("{path} cannot be written as TOML")]
    Unwritable { path: PathBuf, source: toml::ser::Error },
    #[error(transparent)]
    File(#[from] FileError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Listens {
        port: u16,
    }

    impl SettingsFile for Listens {
        const MADE_BY: &'static str = "run `init`";
        const COMMENT: &'static str = "Written by a test.";
    }

    #[test]
    fn the_file_is_read_as_it_was_written_and_what_cannot_be_read_names_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        assert_eq!(Listens::read(&path).unwrap(), None);
        assert!(Listens::load(&path).unwrap_err().to_string().ends_with("settings.toml: first run `init`"));
        Listens { port: 7443 }.write(&path).unwrap();
        assert_eq!(private_file::read(&path).unwrap().unwrap(), b"# Written by a test.\nport = 7443\n");
        assert_eq!(Listens::load(&path).unwrap(), Listens { port: 7443 });
        for wrong in [&b"prot = 1\n"[..], b"port = 1\nprot = 1\n", b"port = 70000\n", b"port = \"\xff\"\n"] {
            private_file::write(&path, wrong, 0o644).unwrap();
            let told = Listens::load(&path).unwrap_err().to_string();
            assert!(told.ends_with("remove it and run `init`"), "{told}");
        }
    }
}
