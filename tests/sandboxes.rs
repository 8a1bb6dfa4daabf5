//! Sandboxes bind a volume, read-write and read-only, and see each other's
//! data: bubblewrap jails, and OCI containers run by crun.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use support::{Mount, install, output, run};

/// A jail with the host's programs and a volume on /data.
fn bwrap(volume: &Path, bind: &str, script: &str) -> Command {
    let mut command = Command::new("bwrap");
    command
        .args(["--ro-bind", "/usr", "/usr"])
        .args([
            "--symlink",
            "usr/bin",
            "/bin",
            "--symlink",
            "usr/sbin",
            "/sbin",
        ])
        .args([
            "--symlink",
            "usr/lib",
            "/lib",
            "--symlink",
            "usr/lib64",
            "/lib64",
        ])
        .args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"])
        .args([
            "--unshare-all",
            "--die-with-parent",
            "--chdir",
            "/data",
            bind,
        ])
        .arg(volume)
        .args(["/data", "sh", "-euc", script]);
    command
}

#[test]
fn bubblewrap_writes_and_a_second_jail_reads() {
    let mount = Mount::new();
    let volume = mount.volume("cache");
    run(&mut bwrap(
        &volume,
        "--bind",
        "mkdir dir; echo from the first > dir/f; ln dir/f g; ln -s dir/f soft; chmod 600 g",
    ));
    assert_eq!(
        fs::read_to_string(volume.join("g")).unwrap(),
        "from the first\n"
    );
    let seen = run(&mut bwrap(
        &volume,
        "--bind",
        "cat soft; echo and the second >> dir/f",
    ));
    assert_eq!(seen, "from the first\n");

    let read_only = run(&mut bwrap(
        &volume,
        "--ro-bind",
        "cat g; ! touch new 2>&1; ! rm g 2>&1; ! echo x >> g",
    ));
    assert!(
        read_only.starts_with("from the first\nand the second\n"),
        "{read_only}"
    );
    assert!(read_only.contains("Read-only file system"), "{read_only}");
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 3);
}

#[test]
fn two_jails_at_once_share_locks_and_data() {
    let mount = Mount::new();
    let volume = mount.volume("shared");
    fs::write(volume.join("count"), "0").unwrap();
    let script = "i=0; while [ $i -lt 100 ]; do \
        flock lock sh -c 'n=$(cat count); echo $((n + 1)) > count'; i=$((i + 1)); done";
    let jails: Vec<_> = (0..2)
        .map(|_| {
            bwrap(&volume, "--bind", script)
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut jail in jails {
        assert!(jail.wait().unwrap().success());
    }
    assert_eq!(
        fs::read_to_string(volume.join("count")).unwrap().trim(),
        "200"
    );
}

#[test]
fn a_jail_that_runs_keeps_its_volume() {
    let mount = Mount::new();
    let volume = mount.volume("used");
    let mut jail = bwrap(&volume, "--bind", "cd /; cat > /dev/null")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    support::wait_for("the jail has the volume", || {
        !mount.volfs().holders("used").is_empty()
    });
    let error = fs::remove_dir(&volume).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    let refusal = mount.volfs().fails(1, &["rm", "used"]);
    assert!(refusal.contains("in use"), "{refusal}");
    drop(jail.stdin.take());
    assert!(jail.wait().unwrap().success());
    support::wait_for("the volume can be removed", || {
        fs::remove_dir(&volume).is_ok()
    });
}

/// A root file system with busybox, and a bundle that mounts a volume in it.
fn bundle(mount: &Mount, name: &str, volume: &Path, options: &[&str], script: &str) -> Command {
    let dir = mount.dir().mkdir(name);
    let root = dir.join("rootfs");
    for part in ["bin", "proc", "dev", "data"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    let busybox = root.join("bin/busybox");
    install(Path::new("/bin/busybox"), &busybox);
    run(Command::new("chroot")
        .arg(&root)
        .args(["/bin/busybox", "--install", "-s", "/bin"]));
    run(Command::new("crun").arg("spec").current_dir(&dir));

    let file = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/sh", "-euc", script]);
    config["process"]["cwd"] = json!("/data");
    config["process"]["rlimits"] = json!([]);
    let keep = |m: &&Value| ["/proc", "/dev"].iter().any(|d| m["destination"] == *d);
    let mut mounts: Vec<Value> = config["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(keep)
        .cloned()
        .collect();
    mounts.push(json!({
        "destination": "/data",
        "type": "bind",
        "source": volume,
        "options": options,
    }));
    config["mounts"] = json!(mounts);
    // No network but the container's own loopback; no control groups, which
    // are the machine's business.
    config["linux"]["namespaces"] = json!([
        {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}
    ]);
    config["linux"]["resources"] = json!({});
    fs::write(&file, serde_json::to_vec(&config).unwrap()).unwrap();

    // crun refuses to run at all under a hybrid control group mount, even when
    // it is told to keep out of control groups: out of its sight with it.
    let start = "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
        exec crun --cgroup-manager=disabled \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-euc", start, "crun", "--root"])
        .arg(dir.join("state"))
        .args(["run", "--bundle"])
        .arg(&dir)
        .arg(format!("{name}-{}", std::process::id()));
    command
}

#[test]
fn containers_write_and_another_container_reads() {
    let mount = Mount::new();
    let volume = mount.volume("data");
    run(&mut bundle(
        &mount,
        "first",
        &volume,
        &["rbind", "rw"],
        "echo from the container > f; mkdir d; chmod 700 d; ln f d/hard",
    ));
    assert_eq!(
        fs::read_to_string(volume.join("d/hard")).unwrap(),
        "from the container\n"
    );
    let seen = run(&mut bundle(
        &mount,
        "second",
        &volume,
        &["rbind", "rw"],
        "cat d/hard; echo more >> f",
    ));
    assert_eq!(seen, "from the container\n");
    let refused = output(&mut bundle(
        &mount,
        "third",
        &volume,
        &["rbind", "ro"],
        "cat f; echo x > new",
    ));
    assert!(!refused.status.success());
    assert_eq!(
        String::from_utf8_lossy(&refused.stdout),
        "from the container\nmore\n"
    );
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(complaint.contains("Read-only file system"), "{complaint}");
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 2);
}
