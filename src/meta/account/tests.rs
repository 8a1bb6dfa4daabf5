use proptest::prelude::*;

use super::*;
use crate::meta::BLOCK;

const UNIT: AllocationUnit = AllocationUnit::SMALLEST;

fn limits(bytes: u64, inodes: u64) -> Limits {
    Limits {
        bytes: Some(Bytes(bytes)),
        inodes: Some(inodes),
    }
}

fn usage(bytes: u64, inodes: u64) -> Usage {
    Usage {
        bytes: Bytes(bytes),
        inodes,
    }
}

#[test]
fn a_reservation_that_is_dropped_is_given_back() {
    let account = Account::new(Usage::default(), limits(8192, 2), UNIT);
    let held = account.reserve(Bytes(8192), 1).unwrap();
    assert_eq!(account.usage(), Usage::default());
    let refused = account.reserve(Bytes(4096), 0).unwrap_err();
    assert_eq!(
        refused,
        OverLimit {
            resource: Resource::Bytes,
            limit: 8192,
            taken: 8192,
            asked: 4096,
            user: None,
        }
    );
    drop(held);
    account.reserve(Bytes(8192), 2).unwrap().commit();
    assert_eq!(account.usage(), usage(8192, 2));
    let refused = account.reserve(Bytes(0), 1).unwrap_err();
    assert_eq!(refused.resource, Resource::Inodes);
}

#[test]
fn the_pair_is_granted_together_or_not_at_all() {
    let account = Account::new(Usage::default(), limits(8192, 1), UNIT);
    account.reserve(Bytes(0), 1).unwrap().commit();
    assert!(account.reserve(Bytes(4096), 1).is_err());
    account.reserve(Bytes(8192), 0).unwrap().commit();
}

#[test]
fn part_of_a_reservation() {
    let account = Account::new(Usage::default(), limits(10_000, 9), UNIT);
    let part = account.reserve_up_to(Bytes(1 << 20));
    assert_eq!(part.amount().bytes, Bytes(8192), "whole blocks only");
    part.commit_part(Bytes(4096), 0);
    assert_eq!(account.usage(), usage(4096, 0));
    let rest = account.reserve_up_to(Bytes(4096));
    assert_eq!(rest.amount().bytes, Bytes(4096));
    assert_eq!(account.reserve_up_to(Bytes(4096)).amount().bytes, Bytes(0));
}

#[test]
fn a_limit_below_usage_stops_growth_and_nothing_else() {
    let account = Account::new(usage(40_960, 10), limits(81_920, 20), UNIT);
    account.set_limits(limits(4096, 5));
    assert!(account.reserve(Bytes(4096), 0).is_err());
    assert!(account.reserve(Bytes(0), 1).is_err());
    account.reserve(Bytes(0), 0).unwrap().commit();
    account.release(Bytes(40_960), 6);
    account.reserve(Bytes(4096), 1).unwrap().commit();
    assert_eq!(account.usage(), usage(4096, 5));
    assert!(account.is_trusted());
}

#[test]
fn releasing_what_is_not_there_is_noticed() {
    let account = Account::new(usage(4096, 1), Limits::default(), UNIT);
    account.release(Bytes(8192), 1);
    assert_eq!(account.usage(), Usage::default());
    assert!(!account.is_trusted());
    account.set_counted(usage(4096, 1));
    assert!(account.is_trusted());
}

#[test]
fn racing_threads_fill_the_limit_to_the_byte() {
    const THREADS: u64 = 8;
    const LIMIT_BLOCKS: u64 = 10_007;
    let account = Account::new(
        Usage::default(),
        limits(LIMIT_BLOCKS * BLOCK, u64::MAX),
        UNIT,
    );
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let account = &account;
            scope.spawn(move || {
                let mut step = thread;
                loop {
                    step = step.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let blocks = 1 + (step >> 60);
                    match account.reserve(Bytes(blocks * BLOCK), 1) {
                        Ok(room) if step & 3 == 0 => drop(room),
                        Ok(room) => room.commit(),
                        // One block that does not fit beside what is committed
                        // and held by others: full, or others are about to give back.
                        Err(_)
                            if blocks == 1 && account.usage().bytes.0 == LIMIT_BLOCKS * BLOCK =>
                        {
                            break;
                        }
                        Err(refused) => {
                            assert!(refused.taken + refused.asked > refused.limit);
                            assert!(refused.taken <= refused.limit);
                        }
                    }
                    assert!(account.usage().bytes.0 <= LIMIT_BLOCKS * BLOCK);
                }
            });
        }
    });
    assert_eq!(account.usage().bytes.0, LIMIT_BLOCKS * BLOCK);
    assert!(account.is_trusted());
}

#[test]
fn racing_reserve_and_release_end_where_they_began() {
    let account = Account::new(usage(BLOCK, 1), limits(64 * BLOCK, 64), UNIT);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..20_000_u64 {
                    let room = account.reserve_up_to(Bytes((round % 20) * BLOCK));
                    let got = room.amount().bytes;
                    room.commit();
                    account.release(got, 0);
                    if let Ok(room) = account.reserve(Bytes(BLOCK), 1) {
                        room.commit();
                        account.release(Bytes(BLOCK), 1);
                    }
                }
            });
        }
        scope.spawn(|| {
            for round in 0..20_000_u64 {
                account.set_limits(limits((round % 64) * BLOCK, round % 64));
            }
        });
    });
    assert_eq!(account.usage(), usage(BLOCK, 1));
    assert!(account.is_trusted());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Reserve {
        blocks: u64,
        inodes: u64,
        commit: u64,
    },
    UpTo {
        blocks: u64,
    },
    Release {
        blocks: u64,
        inodes: u64,
    },
    Limit {
        bytes: Option<u64>,
        inodes: Option<u64>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..40_u64, 0..4_u64, 0..40_u64).prop_map(|(blocks, inodes, commit)| Step::Reserve {
            blocks,
            inodes,
            commit
        }),
        (0..40_u64).prop_map(|blocks| Step::UpTo { blocks }),
        (0..40_u64, 0..4_u64).prop_map(|(blocks, inodes)| Step::Release { blocks, inodes }),
        (
            proptest::option::of(0..400_000_u64),
            proptest::option::of(0..20_u64)
        )
            .prop_map(|(bytes, inodes)| Step::Limit { bytes, inodes }),
    ]
}

proptest! {
    /// Against a model in plain integers: every decision and every figure.
    #[test]
    fn as_the_model(steps in proptest::collection::vec(step(), 1..200)) {
        let account = Account::new(Usage::default(), Limits::default(), UNIT);
        let (mut bytes, mut inodes) = (0_u64, 0_u64);
        let (mut most_bytes, mut most_inodes) = (None::<u64>, None::<u64>);
        for step in steps {
            match step {
                Step::Reserve { blocks, inodes: more, commit } => {
                    let asked = blocks * BLOCK;
                    let fits = (asked == 0 || most_bytes.is_none_or(|most| bytes + asked <= most))
                        && (more == 0 || most_inodes.is_none_or(|most| inodes + more <= most));
                    let room = account.reserve(Bytes(asked), more);
                    prop_assert_eq!(room.is_ok(), fits);
                    if let Ok(room) = room {
                        let part = commit.min(blocks) * BLOCK;
                        room.commit_part(Bytes(part), more);
                        bytes += part;
                        inodes += more;
                    }
                }
                Step::UpTo { blocks } => {
                    let room = account.reserve_up_to(Bytes(blocks * BLOCK));
                    let free = most_bytes.map_or(u64::MAX, |most| most.saturating_sub(bytes));
                    let fits = blocks.min(free / BLOCK) * BLOCK;
                    prop_assert_eq!(room.amount().bytes, Bytes(fits));
                    room.commit();
                    bytes += fits;
                }
                Step::Release { blocks, inodes: fewer } => {
                    let (less, fewer) = ((blocks * BLOCK).min(bytes), fewer.min(inodes));
                    account.release(Bytes(less), fewer);
                    bytes -= less;
                    inodes -= fewer;
                }
                Step::Limit { bytes, inodes } => {
                    (most_bytes, most_inodes) = (bytes, inodes);
                    account.set_limits(Limits { bytes: bytes.map(Bytes), inodes });
                }
            }
            prop_assert_eq!(account.usage(), usage(bytes, inodes));
            prop_assert!(account.is_trusted());
        }
    }
}
