//! A file of somebody else as text that is edited line by line and written back byte for byte, whatever its encoding is. A byte
//! that is no UTF-8 stands in the text as one character of a range that nobody uses (the last private one), and a character of
//! that range in the file as those of its bytes: so every file has one text, and every text that was read, its file.

/// Stands for the byte 0x00; the others follow.
const FIRST: u32 = 0x10_FE00;

/// The text of these bytes.
pub(super) fn of_bytes(bytes: Vec<u8>) -> String {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| byte_of(c).is_some()) => return text,
        Ok(text) => text.into_bytes(),
        Err(error) => error.into_bytes(),
    };
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match byte_of(c) {
                None => text.push(c),
                Some(_) => text.extend(c.encode_utf8(&mut [0; 4]).bytes().filter_map(character_of)),
            }
        }
        text.extend(chunk.invalid().iter().copied().filter_map(character_of));
    }
    text
}

/// The bytes of this text.
pub(super) fn to_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match byte_of(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

fn byte_of(c: char) -> Option<u8> {
    u32::from(c).checked_sub(FIRST).and_then(|byte| u8::try_from(byte).ok())
}

fn character_of(byte: u8) -> Option<char> {
    char::from_u32(FIRST + u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_comes_back_byte_for_byte_and_lines_stay_lines() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let of_the_range = "a\u{10fe00}b\u{10feff}\n".as_bytes();
        for bytes in
            [&b"plain\n"[..], "B\u{fc}ro\n".as_bytes(), b"B\xfcro\r\nlast", &all, of_the_range, b"\xf4\x8f"]
        {
            let text = of_bytes(bytes.to_vec());
            assert_eq!(to_bytes(&text), bytes, "{bytes:?}");
            assert_eq!(text.matches('\n').count(), bytes.iter().filter(|byte| **byte == b'\n').count());
        }
        assert_eq!(of_bytes(b"B\xfcro".to_vec()), "B\u{10fefc}ro");
    }
}
