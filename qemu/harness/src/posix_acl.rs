// SPDX-License-Identifier: GPL-2.0 OR MIT
//! POSIX ACLs in the format of the attributes `system.posix_acl_access` and
//! `system.posix_acl_default`, written as words: `u::rw- u:1000:r-- g::r-- m::rw- o::---`.

pub const ACCESS: &str = "system.posix_acl_access";
pub const DEFAULT: &str = "system.posix_acl_default";

const VERSION: u32 = 2;
/// The identity of an entry without a user or group.
const NOBODY: u32 = u32::MAX;

/// (the letter, with an identity, the tag in the attribute)
const TAGS: [(&str, bool, u16); 6] = [
    ("u", false, 1),
    ("u", true, 2),
    ("g", false, 4),
    ("g", true, 8),
    ("m", false, 16),
    ("o", false, 32),
];

/// Returns the attribute for these words.
pub fn encode(words: &str) -> Vec<u8> {
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for word in words.split_whitespace() {
        let parts: Vec<_> = word.split(':').collect();
        let &[letter, id, permissions] = &parts[..] else {
            panic!("{word}: an entry has three parts");
        };
        let tag = TAGS
            .iter()
            .find(|(l, named, _)| *l == letter && *named != id.is_empty())
            .unwrap_or_else(|| panic!("{word}: no such entry"))
            .2;
        let permission = |letter, bit| if permissions.contains(letter) { bit } else { 0 };
        let bits: u16 = permission('r', 4) | permission('w', 2) | permission('x', 1);
        let id = if id.is_empty() {
            NOBODY
        } else {
            id.parse().expect("a number")
        };
        entry(&mut bytes, tag, bits, id);
    }
    bytes
}

/// Adds an entry, valid or not.
pub fn entry(bytes: &mut Vec<u8>, tag: u16, permissions: u16, id: u32) {
    bytes.extend(tag.to_le_bytes());
    bytes.extend(permissions.to_le_bytes());
    bytes.extend(id.to_le_bytes());
}

/// Returns the words for this attribute.
pub fn decode(bytes: &[u8]) -> String {
    if bytes.len() < 4 || bytes[..4] != VERSION.to_le_bytes() || bytes.len() % 8 != 4 {
        return format!("no ACL: {bytes:02x?}");
    }
    let words = bytes[4..].chunks_exact(8).map(|entry| {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let bits = entry[2];
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let letter = TAGS.iter().find(|(_, _, t)| *t == tag);
        let (letter, named) = letter.map_or(("?", true), |(letter, named, _)| (*letter, *named));
        let id = if named { id.to_string() } else { String::new() };
        let shown = |bit, letter| if bits & bit != 0 { letter } else { '-' };
        format!(
            "{letter}:{id}:{}{}{}",
            shown(4, 'r'),
            shown(2, 'w'),
            shown(1, 'x')
        )
    });
    words.collect::<Vec<_>>().join(" ")
}
