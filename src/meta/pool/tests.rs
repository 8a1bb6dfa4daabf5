use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::meta::Account;
use crate::model::Limits;

const OWN: Usage = usage(4096, 1);

const fn usage(bytes: u64, inodes: u64) -> Usage {
    Usage {
        bytes: Bytes(bytes),
        inodes,
    }
}

fn pool(volumes: u64, blocks: u64, inodes: u64) -> Arc<Pool> {
    Arc::new(Pool::new(
        1000,
        UserLimits {
            volumes: Some(volumes),
            bytes: Some(Bytes(blocks * 4096)),
            inodes: Some(inodes),
        },
    ))
}

fn account(pool: &Arc<Pool>) -> Account {
    let account = Account::new(
        Usage::default(),
        Limits::default(),
        AllocationUnit::SMALLEST,
    );
    account.join(pool.admit(OWN).unwrap());
    account
}

#[test]
fn volumes_and_what_is_in_them_are_added_up() {
    let pool = pool(2, 10, 9);
    let (a, b) = (account(&pool), account(&pool));
    let over = pool.admit(OWN).unwrap_err();
    assert_eq!((over.resource, over.user), (Resource::Volumes, Some(1000)));
    a.reserve(Bytes(4 * 4096), 2).unwrap().commit();
    let held = b.reserve(Bytes(3 * 4096), 1).unwrap();
    let over = b.reserve(Bytes(2 * 4096), 0).unwrap_err();
    assert_eq!((over.taken, over.limit), (9 * 4096, 10 * 4096));
    // What fits is granted, of what does not as much as fits.
    let rest = b.reserve_up_to(Bytes(2 * 4096));
    assert_eq!(rest.amount(), usage(4096, 0));
    assert!(b.reserve_up_to(Bytes(4096)).amount().bytes.0 == 0);
    drop((held, rest));
    a.release(Bytes(4096), 1);
    assert_eq!(pool.taken().usage, usage(5 * 4096, 3));
    b.set_counted(usage(2 * 4096, 2));
    assert_eq!(pool.taken().usage, usage(7 * 4096, 5));
    drop(b);
    assert_eq!(pool.taken().usage, usage(4 * 4096, 2));
    assert_eq!(pool.taken().volumes, 1);
    a.leave();
    assert_eq!(pool.taken(), Taken::default());
    a.release(Bytes(4096), 1);
    assert_eq!(pool.taken(), Taken::default());
}

#[test]
fn above_a_limit_nothing_grows_and_all_shrinks() {
    let pool = pool(1, 2, 100);
    let account = Account::new(
        usage(8 * 4096, 8),
        Limits::default(),
        AllocationUnit::SMALLEST,
    );
    account.join(pool.admit_anyway(OWN));
    assert_eq!(pool.taken().usage, usage(9 * 4096, 9));
    account.reserve(Bytes(4096), 0).unwrap_err();
    account.reserve(Bytes(0), 1).unwrap().commit();
    account.release(Bytes(8 * 4096), 8);
    account.reserve(Bytes(4096), 0).unwrap().commit();
}

#[test]
fn what_a_volume_is_charged_by_itself_changes() {
    let pool = pool(1, 10, 10);
    let mut member = pool.admit(OWN).unwrap();
    member.set_own(usage(11 * 4096, 0)).unwrap_err();
    member.set_own(usage(10 * 4096, 0)).unwrap();
    assert_eq!(pool.taken().usage, usage(10 * 4096, 0));
    member.set_own(usage(4096, 0)).unwrap();
    drop(member);
    assert_eq!(pool.taken(), Taken::default());
}

#[test]
fn no_race_gets_past_a_limit() {
    let pool = pool(8, 64, 1000);
    let made = AtomicUsize::new(0);
    let all_have_asked = Barrier::new(16);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let admitted = pool.admit(OWN);
                // Before anybody takes the bytes that a volume needs itself.
                all_have_asked.wait();
                let Ok(member) = admitted else { return };
                made.fetch_add(1, Ordering::Relaxed);
                let account = Account::new(
                    Usage::default(),
                    Limits::default(),
                    AllocationUnit::SMALLEST,
                );
                account.join(member);
                for _ in 0..200 {
                    let room = account.reserve_up_to(Bytes(3 * 4096));
                    assert!(pool.taken().usage.bytes.0 <= 64 * 4096);
                    room.commit();
                    if let Ok(room) = account.reserve(Bytes(4096), 1) {
                        room.commit();
                    }
                    assert!(pool.taken().usage.bytes.0 <= 64 * 4096);
                    let used = account.usage().bytes;
                    account.release(Bytes(used.0 / 8192 * 4096), 0);
                }
                std::mem::forget(account);
            });
        }
    });
    assert_eq!(made.into_inner(), 8);
    assert_eq!(pool.taken().volumes, 8);
}
