//! What a program wrote: redacted, made printable, and cut to what a journal can hold.

use std::path::Path;

use muster_proto::redaction::{printable, redact};
use secrecy::SecretString;

use super::plain_file::FileProblem;

/// Of each of the two streams, head and tail of this size are kept: 1 MiB in all.
const HALF: usize = 256 * 1024;

/// More of a stream is not read into memory; the middle is left out before redaction.
const READ_HALF: u64 = 4 * 1024 * 1024;

/// A stream that a program wrote to a file.
#[derive(Debug, Default)]
pub(super) struct Stream {
    text: String,
    /// Bytes between the head and the tail that were not read.
    unread: u64,
}

impl Stream {
    /// Reads the file that systemd wrote for us; an absent one is an empty stream.
    pub(super) fn read(path: &Path) -> Result<Self, FileProblem> {
        use std::io::{Read, Seek, SeekFrom};
        let failed = |source| FileProblem::System { action: "reading", source };
        let mut file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
        };
        let size = file.metadata().map_err(failed)?.len();
        let unread = size.saturating_sub(2 * READ_HALF);
        let mut bytes = Vec::new();
        file.by_ref().take(READ_HALF).read_to_end(&mut bytes).map_err(failed)?;
        if unread > 0 {
            bytes.push(b'\n');
            file.seek(SeekFrom::End(-(READ_HALF as i64))).map_err(failed)?;
        }
        file.take(READ_HALF).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Self { text: String::from_utf8_lossy(&bytes).into_owned(), unread })
    }

    /// As it was written, secrets and all: only for capture.
    pub(super) fn secret(&self) -> SecretString {
        self.text.clone().into()
    }

    /// The text that may be kept, and how many bytes were left out of its middle.
    fn for_the_journal(&self) -> (String, u64) {
        // An escape sequence in its middle must not hide a secret from redaction.
        let (text, cut) = cut(&redact(&printable(&self.text)));
        (text, cut + self.unread)
    }
}

/// Both streams as one text, what was said on standard error last, and how many bytes were left out.
pub(super) fn both(standard_output: &Stream, standard_error: &Stream) -> (String, u64) {
    let (mut text, cut) = standard_output.for_the_journal();
    let (error, error_cut) = standard_error.for_the_journal();
    if !text.is_empty() && !text.ends_with('\n') && !error.is_empty() {
        text.push('\n');
    }
    text.push_str(&error);
    (text, cut + error_cut)
}

/// Head and tail of the text, and how many bytes of the middle were left out.
fn cut(text: &str) -> (String, u64) {
    if text.len() <= 2 * HALF {
        return (text.to_owned(), 0);
    }
    let head = (0..=HALF).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let tail = (text.len() - HALF..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let left_out = tail - head;
    (format!("{}\n[{left_out} bytes left out]\n{}", &text[..head], &text[tail..]), left_out as u64)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn stream(text: &str) -> Stream {
        Stream { text: text.to_owned(), unread: 0 }
    }

    #[test]
    fn head_and_tail_are_kept_and_the_middle_counted() {
        let text = format!("BEGIN{}END", "ä".repeat(HALF));
        let (kept, left_out) = cut(&text);
        assert!(kept.starts_with("BEGINä") && kept.ends_with("äEND"));
        assert!(kept.len() <= 2 * HALF + 64, "{}", kept.len());
        let note = format!("\n[{left_out} bytes left out]\n");
        assert!(kept.contains(&note));
        assert_eq!(left_out as usize, text.len() - (kept.len() - note.len()));
        assert_eq!(cut("short"), ("short".to_owned(), 0));
    }

    #[test]
    fn secrets_and_escapes_are_out_of_the_journal_and_in_the_capture() {
        let said = stream("kubeadm join 10.88.0.11:6443 --token s41abx.\u{1b}[1mqkb1j0cxvu3rp1j0\u{1b}[0m");
        let (text, cut) = both(&said, &stream("warning\n"));
        assert_eq!((text.as_str(), cut), ("kubeadm join 10.88.0.11:6443 --token <redacted>\nwarning\n", 0));
        assert!(said.secret().expose_secret().contains("qkb1j0cxvu3rp1j0"));
    }

    #[test]
    fn an_enormous_stream_is_read_at_both_ends_only() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("output");
        let middle = vec![b'x'; 9 * 1024 * 1024];
        std::fs::write(&path, [b"BEGIN".as_slice(), &middle, b"END"].concat()).unwrap();
        let stream = Stream::read(&path).unwrap();
        assert_eq!(stream.unread, 1024 * 1024 + 8);
        let (text, cut) = both(&stream, &Stream::default());
        assert!(text.starts_with("BEGIN") && text.ends_with("END") && cut > stream.unread);
        assert!(Stream::read(&place.path().join("absent")).unwrap().text.is_empty());
    }
}
