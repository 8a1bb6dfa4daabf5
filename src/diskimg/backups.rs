//! Which groups hold a copy of the superblock and the group descriptors:
//! `sparse_super`'s rule, groups 0, 1 and the powers of 3, 5 and 7.

/// Whether the group holds a copy.
pub(in crate::diskimg) const fn has_superblock(group: u32) -> bool {
    group <= 1 || is_power_of(3, group) || is_power_of(5, group) || is_power_of(7, group)
}

const fn is_power_of(base: u32, mut group: u32) -> bool {
    while group >= base && group.is_multiple_of(base) {
        group /= base;
    }
    group == 1
}

/// The backup groups (without group 0) below `groups_count`, in order.
pub(in crate::diskimg) fn backup_groups(groups_count: u32) -> Vec<u32> {
    let powers = [3u32, 5, 7].into_iter().flat_map(|base| {
        std::iter::successors(Some(base), move |power| power.checked_mul(base))
            .take_while(move |power| *power < groups_count)
    });
    let mut groups: Vec<u32> = powers.chain((groups_count > 1).then_some(1)).collect();
    groups.sort_unstable();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_forms_of_the_rule_agree() {
        assert!(backup_groups(1).is_empty());
        assert_eq!(backup_groups(50), [1, 3, 5, 7, 9, 25, 27, 49]);
        let all: Vec<u32> = (1..200_000)
            .filter(|group| has_superblock(*group))
            .collect();
        assert_eq!(backup_groups(200_000), all);
    }
}
