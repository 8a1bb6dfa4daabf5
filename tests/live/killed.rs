//! SIGKILL of the serving process: whoever uses the mount sees a pause.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Mount, wait_for};

#[test]
fn open_files_and_names_go_on() {
    let mount = Mount::builder().supervised().start();
    let dir = mount.volume("v");
    fs::write(dir.join("f"), "before").unwrap();
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(dir.join("f"))
        .unwrap();
    for round in 0..5 {
        let old = mount.serving_pid().unwrap();
        mount.kill_serving();
        // By name, by an open file, and new ones.
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1 + round);
        fs::write(dir.join(format!("new-{round}")), "x").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("before"), "{text}");
        file.write_all(b"+").unwrap();
        wait_for("another process", || {
            mount.serving_pid().is_some_and(|pid| pid != old)
        });
    }
    assert_eq!(fs::read_to_string(dir.join("f")).unwrap(), "before+++++");
}

#[test]
fn work_goes_on_while_it_is_killed_again_and_again() {
    let mount = Mount::builder().supervised().start();
    let dir = mount.volume("v");
    let stop = AtomicBool::new(false);
    let longest = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (dir, stop, longest) = (dir.join(worker.to_string()), &stop, &longest);
            fs::create_dir(&dir).unwrap();
            scope.spawn(move || {
                let mut n = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    let (path, moved) = (dir.join(format!("{n}")), dir.join(format!("{n}-m")));
                    fs::write(&path, n.to_string()).unwrap();
                    assert_eq!(fs::read_to_string(&path).unwrap(), n.to_string());
                    fs::rename(&path, &moved).unwrap();
                    assert_eq!(
                        fs::metadata(&moved).unwrap().len(),
                        n.to_string().len() as u64
                    );
                    fs::remove_file(&moved).unwrap();
                    let took = start.elapsed().as_micros() as u64;
                    longest.fetch_max(took, Ordering::Relaxed);
                    n += 1;
                }
                assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
            });
        }
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(150));
            mount.kill_serving();
        }
        stop.store(true, Ordering::Relaxed);
    });
    eprintln!("longest: {} us", longest.load(Ordering::Relaxed));
}
