//! As many links to one file as there can be. Apart from the other cases on
//! links because it takes tens of thousands of calls; `pjdfstest` leaves it out
//! on FUSE, since the C library does not know the limit there.

use crate::table::Case;

pub const CASES: &[Case] = &[("as many as there can be", |d, t| {
    d.file("f", b"");
    // ext4 has 65,000, btrfs and XFS have more; enough to see it on ext4.
    let refused = (1..66_000).find_map(|i| d.link("f", i.to_string()).err().map(|e| (i, e)));
    t.note("refused at", refused.map(|(i, _)| i));
    t.note(
        "with",
        refused.map(|(_, errno)| crate::trace::Seen::seen(&errno)),
    );
    t.note("links", d.stat("f"));
})];
