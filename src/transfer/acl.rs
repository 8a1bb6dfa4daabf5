//! POSIX ACLs: as the kernel has them in an extended attribute, and as archives
//! have them in text.
//!
//! The binary form is that of `linux/posix_acl_xattr.h`: version 2, then
//! entries of tag, permissions and id, little endian. The text is that of
//! `acl_to_text(3)`, which GNU tar, star and bsdtar write, with numeric ids.

pub(super) use crate::sys::acl::{ACCESS, DEFAULT};

const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;

/// `e_tag` with its word and whether it has an id.
const TAGS: [(u16, &str, bool); 6] = [
    (0x01, "user", false),
    (0x02, "user", true),
    (0x04, "group", false),
    (0x08, "group", true),
    (0x10, "mask", false),
    (0x20, "other", false),
];

/// The text of an ACL; `None` when it is not one.
pub(super) fn to_text(value: &[u8]) -> Option<String> {
    let (version, entries) = value.split_at_checked(4)?;
    if version != VERSION.to_le_bytes() || entries.len() % 8 != 0 {
        return None;
    }
    let mut texts = Vec::new();
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let perm = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let (_, word, has_id) = TAGS.iter().find(|(known, _, _)| *known == tag)?;
        let id = if *has_id {
            id.to_string()
        } else {
            String::new()
        };
        let bit = |bit: u16, letter| if perm & bit != 0 { letter } else { '-' };
        let (r, w, x) = (bit(4, 'r'), bit(2, 'w'), bit(1, 'x'));
        texts.push(format!("{word}:{id}:{r}{w}{x}"));
    }
    Some(texts.join(","))
}

/// Reads the text of an ACL.
///
/// # Errors
/// In words: what is wrong with it.
pub(super) fn from_text(text: &str) -> Result<Vec<u8>, String> {
    let mut entries = Vec::new();
    for part in text.split([',', '\n']) {
        // "#effective:r--" is a remark.
        let part = part.split('#').next().unwrap_or_default().trim();
        if !part.is_empty() {
            entries.push(entry(part).ok_or_else(|| format!("{part:?} is no entry of an ACL"))?);
        }
    }
    // The kernel wants them in this order.
    entries.sort_unstable();
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, perm) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(perm.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    Ok(value)
}

/// `WORD:[ID]:PERM[:NUMBER]`: star adds the number of a name.
fn entry(part: &str) -> Option<(u16, u32, u16)> {
    let mut fields = part.split(':');
    let word = match fields.next()? {
        "u" => "user",
        "g" => "group",
        "m" => "mask",
        "o" => "other",
        word => word,
    };
    let mut second = fields.next()?;
    let mut third = fields.next();
    // "other:rwx" and "mask:rwx" are written without the empty id, too.
    if third.is_none() && matches!(word, "other" | "mask") {
        third = Some(std::mem::take(&mut second));
    }
    let perm = third?;
    let number = fields.next();
    let (tag, _, has_id) = TAGS
        .iter()
        .find(|(_, known, has_id)| *known == word && *has_id != second.is_empty())?;
    let id = if *has_id {
        number
            .and_then(|number| number.parse().ok())
            .or_else(|| second.parse().ok())
            .or_else(|| by_name(word, second))?
    } else {
        NO_ID
    };
    let mut bits = 0;
    for letter in perm.chars() {
        bits |= match letter {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return None,
        };
    }
    Some((*tag, id, bits))
}

fn by_name(word: &str, name: &str) -> Option<u32> {
    use nix::unistd::{Group, User};
    if word == "user" {
        return Some(User::from_name(name).ok()??.uid.as_raw());
    }
    Some(Group::from_name(name).ok()??.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let text =
            "user::rwx,user:1000:r-x,user:1001:---,group::r-x,group:7:rw-,mask::rwx,other::r--";
        let value = from_text(text).unwrap();
        assert_eq!(value.len(), 4 + 7 * 8);
        assert_eq!(to_text(&value).unwrap(), text);
        // As others write it.
        let other = "u::rwx\nuser:root:r--\t#effective:r--\ngroup::r-x\nmask:rwx\nother:---\n";
        assert_eq!(
            to_text(&from_text(other).unwrap()).unwrap(),
            "user::rwx,user:0:r--,group::r-x,mask::rwx,other::---"
        );
        let star = from_text("user::rw-,user:nobody-here:r--:1234,group::r--,mask::r--,other::r--");
        assert!(to_text(&star.unwrap()).unwrap().contains("user:1234:r--"));
        for bad in [
            "user::rwz",
            "user",
            "king::rwx",
            "user:no such user:rwx",
            "other:5:r--",
        ] {
            assert!(from_text(bad).is_err(), "{bad}");
        }
        assert_eq!(to_text(b"\x02\0\0\0\x01\0"), None);
        assert_eq!(to_text(b"\x03\0\0\0"), None);
    }
}
