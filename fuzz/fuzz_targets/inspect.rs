//! Fuzzes `diskimg::inspect`: no input may make it panic or run away. Every
//! input is also tried with magic number and checksum made right, or the
//! fuzzer would never get past them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use volfs::diskimg::inspect;

fuzz_target!(|data: &[u8]| {
    let _ = inspect(&data);
    if data.len() < 2048 {
        return;
    }
    let mut repaired = data.to_vec();
    repaired[1024 + 0x38..1024 + 0x3a].copy_from_slice(&0xef53u16.to_le_bytes());
    repaired[1024 + 0x175] = 1;
    let checksum = !crc32c::crc32c(&repaired[1024..1024 + 0x3fc]);
    repaired[1024 + 0x3fc..2048].copy_from_slice(&checksum.to_le_bytes());
    let _ = inspect(&&repaired[..]);
});
