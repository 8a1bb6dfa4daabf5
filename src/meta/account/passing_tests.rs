//! Reservations of more than is used, and those who wait for their end.

use super::*;
use crate::meta::BLOCK;

const UNIT: AllocationUnit = AllocationUnit::SMALLEST;

fn limited(blocks: u64) -> Account {
    let limits = Limits {
        bytes: Some(Bytes(blocks * BLOCK)),
        inodes: None,
    };
    Account::new(Usage::default(), limits, UNIT)
}

fn blocks(n: u64) -> Bytes {
    Bytes(n * BLOCK)
}

fn wait_for_waiters(account: &Account, count: u64) {
    while account.state.lock().turns.len() != count {
        std::thread::yield_now();
    }
}

#[test]
fn what_fits_beside_them_in_the_end_waits() {
    let account = limited(4);
    let held = account.reserve_passing(blocks(3), 0).unwrap();
    std::thread::scope(|scope| {
        let all = scope.spawn(|| account.reserve(blocks(2), 1).map(Reservation::commit));
        wait_for_waiters(&account, 1);
        let part = scope.spawn(|| account.reserve_up_to(blocks(9)).amount().bytes);
        wait_for_waiters(&account, 2);
        // It is not asked of them that they give all back.
        held.commit_part(blocks(1), 0);
        assert_eq!(all.join().unwrap(), Ok(()));
        assert_eq!(part.join().unwrap(), blocks(1));
    });
    assert_eq!(account.usage().bytes, blocks(3));
}

#[test]
fn what_does_not_fit_is_refused_at_once() {
    let account = limited(4);
    account.reserve(blocks(2), 0).unwrap().commit();
    let held = account.reserve_passing(blocks(2), 0).unwrap();
    assert!(account.reserve(blocks(3), 0).is_err());
    assert!(account.reserve_passing(blocks(3), 0).is_err());
    // What others hold for good is as used.
    drop(held);
    let held = account.reserve(blocks(2), 0).unwrap();
    assert!(account.reserve(blocks(1), 0).is_err());
    assert_eq!(account.reserve_up_to(blocks(1)).amount().bytes, Bytes(0));
    drop(held);
}

#[test]
fn none_begins_while_somebody_waits() {
    let account = limited(4);
    let held = account.reserve_passing(blocks(2), 0).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| account.reserve(blocks(3), 0).map(Reservation::commit));
        wait_for_waiters(&account, 1);
        // There is room for it now.
        let later = scope.spawn(|| account.reserve_passing(blocks(1), 0).is_ok());
        wait_for_waiters(&account, 2);
        // Whoever keeps what it gets need not wait.
        drop(account.reserve(blocks(1), 0).unwrap());
        drop(held);
        assert_eq!(waits.join().unwrap(), Ok(()));
        assert!(later.join().unwrap());
    });
}

#[test]
fn a_change_of_the_limit_wakes() {
    let account = limited(4);
    let held = account.reserve_passing(blocks(4), 0).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| account.reserve(blocks(1), 0).is_ok());
        wait_for_waiters(&account, 1);
        account.set_limits(Limits::default());
        assert!(waits.join().unwrap());
    });
    drop(held);
}

#[test]
fn a_part_for_something_else() {
    let account = limited(4);
    let mut made = account.reserve_passing(blocks(3), 1).unwrap();
    let more = made.split(blocks(2));
    assert_eq!((made.amount().bytes, made.amount().inodes), (blocks(1), 1));
    made.commit();
    assert!(account.reserve(blocks(4), 0).is_err());
    account.resettle(Some(more), blocks(1), blocks(2));
    assert_eq!(account.usage().bytes, blocks(2));
    account.reserve(blocks(2), 0).unwrap().commit();
    assert!(account.is_trusted());
}

/// Nobody who keeps within his own share is refused, whatever names others
/// reserve for a moment.
#[test]
fn racing_threads() {
    let account = limited(32);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let account = &account;
            scope.spawn(move || {
                for round in 0..20_000 {
                    let own = 1 + (round + thread) % 7;
                    let room = account.reserve_up_to(blocks(own));
                    assert_eq!(room.amount().bytes, blocks(own));
                    room.commit();
                    account.release(blocks(own), 0);
                }
            });
            scope.spawn(move || {
                for round in 0..20_000 {
                    if let Ok(room) = account.reserve_passing(blocks(1 + (round + thread) % 4), 0) {
                        let used = round % 2;
                        room.commit_part(blocks(used), 0);
                        assert!(account.usage().bytes <= blocks(32));
                        account.release(blocks(used), 0);
                    }
                }
            });
        }
    });
    assert_eq!(account.usage(), Usage::default());
    assert!(account.is_trusted());
}
