use super::*;
use crate::diskimg::Damage;

#[test]
fn what_is_said_of_damaged_groups() {
    let (group, block) = (GroupNumber(7), BlockNumber(9));
    let damaged = GrowError::Damaged {
        what: "block bitmap",
        group,
        block,
    };
    assert_eq!(
        damaged.to_string(),
        "the block bitmap at block 9 of group 7 is damaged: run `e2fsck -fy` on the image, then grow"
    );
    let outside = Damage::TableOutside {
        group,
        what: "inode table",
        block: 9,
    };
    assert_eq!(
        outside.to_string(),
        "group 7 has its inode table at block 9, outside the file system: run e2fsck"
    );
    let free = Damage::FreeCount {
        group,
        what: "blocks",
        free: 5,
    };
    assert_eq!(
        free.to_string(),
        "group 7 claims 5 free blocks, more than it has: run e2fsck"
    );
}
