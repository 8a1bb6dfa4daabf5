use super::*;

#[test]
fn slots_go_round_and_skip_those_in_use() {
    let mut index = Index::new(Serial(i64::from(Slot::MAX) - 2));
    let mut next = || index.claim_place().map(|(_, slot)| slot.get()).unwrap();
    assert_eq!((next(), next(), next()), (Slot::MAX - 1, Slot::MAX, 1));
    // The next round comes to slots that are still taken.
    index.last_serial = i64::from(Slot::MAX) * 7 - 2;
    let (serial, slot) = index.claim_place().unwrap();
    assert_eq!(serial.0, i64::from(Slot::MAX) * 7 - 1);
    assert_eq!(slot.get(), 2, "{} to 1 are taken", Slot::MAX - 1);
    index.give_up_slot(Slot::new(1).unwrap());
    index.last_serial = i64::from(Slot::MAX) * 9;
    assert_eq!(index.claim_place().unwrap().1.get(), 1);
}

#[test]
fn a_claimed_name_is_taken() {
    let mut index = Index::default();
    let name: VolumeName = "a".parse().unwrap();
    index.claim_name(&name).unwrap();
    assert!(matches!(index.claim_name(&name), Err(Error::Exists { .. })));
    index.give_up_name(&name);
    index.claim_name(&name).unwrap();
}
