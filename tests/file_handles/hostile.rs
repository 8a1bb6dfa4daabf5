//! Handles that somebody has made up.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::support::{Handle, Mount, OwnFs, proc};

/// Bits of a node id below the volume's slot.
const INO_BITS: u32 = 40;

/// Everything below `top`, and itself.
fn tree(top: &Path) -> Vec<PathBuf> {
    let mut all = vec![top.to_owned()];
    if top.symlink_metadata().unwrap().is_dir() {
        for entry in fs::read_dir(top).unwrap() {
            all.extend(tree(&entry.unwrap().path()));
        }
    }
    all
}

fn slot_of(volume: &Path) -> u64 {
    volume.metadata().unwrap().ino() >> INO_BITS
}

#[test]
fn they_do_not_lead_out_of_their_volume() {
    do_not_lead_out(&std::env::temp_dir());
    // Where inodes are not found by number alone, too.
    let xfs = OwnFs::new(&["mkfs.xfs", "-q"], 512 << 20);
    do_not_lead_out(xfs.path());
}

fn do_not_lead_out(parent: &Path) {
    let mount = Mount::builder().parent(parent).start();
    let (a, b) = (mount.volume("a"), mount.volume("b"));
    for volume in [&a, &b, &mount.volume("trashed")] {
        fs::create_dir(volume.join("dir")).unwrap();
        fs::write(volume.join("dir/file"), "text").unwrap();
    }
    let trashed = slot_of(&mount.join("trashed"));
    mount.volfs().ok(&["rm", "trashed"]);
    let tmp = mount.store().join("tmp/being-made");
    fs::create_dir(&tmp).unwrap();
    fs::write(tmp.join("file"), "text").unwrap();
    let outside = mount.dir().join("outside");
    fs::write(&outside, "text").unwrap();

    let opened = File::open(mount.path()).unwrap();
    let (host_a, host_b) = (mount.host_path("a"), mount.host_path("b"));
    let mut inodes = tree(mount.store());
    let above = mount.dir().path().ancestors();
    let device = parent.metadata().unwrap().dev();
    let same = above.filter(|dir| dir.metadata().unwrap().dev() == device);
    inodes.extend(same.map(Path::to_owned));
    inodes.push(outside);
    let mut refused = 0;
    for (volume, own) in [(slot_of(&a), &host_a), (slot_of(&b), &host_b)] {
        for path in &inodes {
            let number = path.symlink_metadata().unwrap().ino();
            let generation = Handle::of(path).unwrap().generation();
            let handle = |slot, generation| Handle::of_node(slot << INO_BITS | number, generation);
            let is_own = path.starts_with(own);
            crate::forget();
            let found = handle(volume, generation).open(&opened, libc::O_PATH);
            assert_eq!(found.is_ok(), is_own, "{path:?} in {volume}: {found:?}");
            for wrong in [
                handle(volume, generation ^ 1),
                handle(trashed, generation),
                handle(volume + 1000, generation),
                handle((1 << 23) - 1, generation),
                handle((1 << 24) - 1, generation),
                handle(0, generation),
            ] {
                let found = wrong.open(&opened, libc::O_PATH);
                assert_eq!(found.err(), Some(nix::Error::ESTALE), "{path:?}: {wrong:?}");
                refused += 1;
            }
        }
    }
    assert!(refused > 100, "{refused}");
    fs::remove_dir_all(&tmp).unwrap();
}

/// Numbers of all kinds: small ones are inodes of the host.
#[test]
fn any_number_is_answered_and_costs_nothing() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    fs::write(volume.join("file"), "text").unwrap();
    mount
        .volfs()
        .ok(&["create", "disk", "--disk", "--size", "8M"]);
    fs::write(mount.join("disk/file"), "text").unwrap();
    let slots = [slot_of(&volume), slot_of(&mount.join("disk"))];
    let opened = File::open(mount.path()).unwrap();
    let ask = |node: u64, generation: u32| {
        let found = Handle::of_node(node, generation).open(&opened, libc::O_PATH);
        if let Ok(found) = found {
            // Something that can be had by name too.
            let number = found.metadata().unwrap().ino();
            assert_eq!(number, node);
        }
    };
    let rounds = |seed: u64| {
        let mut state = seed;
        for n in 0..2000_u64 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            let random = state ^ state >> 33;
            ask(random, n as u32);
            ask(n, 0);
            ask(1 << 31 | n, 0);
            for slot in slots {
                ask(slot << INO_BITS | n, 0);
                ask(slot << INO_BITS | random >> 40, 0);
                ask(slot << INO_BITS | random & ((1 << INO_BITS) - 1), 1);
            }
        }
    };
    rounds(1);
    crate::forget();
    let pid = mount.pid();
    let (descriptors, memory) = (proc::descriptors(pid), proc::anonymous_memory(pid));
    rounds(2);
    crate::forget();
    let (later, grown) = (proc::descriptors(pid), proc::anonymous_memory(pid));
    assert!(later <= descriptors + 8, "{descriptors} to {later}");
    assert!(grown < memory + (4 << 20), "{memory} to {grown}");
    assert_eq!(crate::complaints(&mount), [""; 0]);
    assert_eq!(fs::read(volume.join("file")).unwrap(), b"text");
}
