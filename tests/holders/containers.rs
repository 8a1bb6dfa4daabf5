//! Containers that have a volume: run by podman and by crun, with the control
//! groups that these make.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Mount, install, run, wait_for};
use crate::{Guest, assert_free, assert_refused, how};

/// A root file system with busybox.
fn busybox_root(root: &Path) {
    for part in ["bin", "proc", "dev", "data", "sys", "etc", "run", "tmp"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    install(Path::new("/bin/busybox"), &root.join("bin/busybox"));
    run(Command::new("chroot")
        .arg(root)
        .args(["/bin/busybox", "--install", "-s", "/bin"]));
}

/// Runs a command where the hybrid control group mount is out of the way:
/// crun refuses to run at all under it.
fn without_hybrid(command: &str) -> Command {
    let mut unshare = Command::new("unshare");
    let script = format!(
        "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; {command}"
    );
    unshare.args(["--mount", "sh", "-euc", &script, "sh"]);
    unshare
}

#[test]
fn a_podman_container() {
    let _in_turn = super::NAMESPACES.read();
    let mount = Mount::new();
    let volume = mount.volume("v");
    let root = mount.dir().mkdir("rootfs");
    busybox_root(&root);
    let state = mount.dir().mkdir("podman");
    let name = format!("volfs-test-{}", std::process::id());
    let podman = r#"exec podman --root "$1/root" --runroot "$1/run" --storage-driver vfs run --rm -i \
        --name "$2" --network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \
        --volume "$3:/data" --workdir /data --rootfs "$4" /bin/sh -c 'echo in > f; exec 5< f; read end'"#;
    let mut command = without_hybrid(podman);
    command.arg(&state).arg(&name).arg(&volume).arg(&root);
    let guest = Guest::start(&mut command);
    let volfs = mount.volfs();
    let in_container = || {
        volfs
            .holders("v")
            .into_iter()
            .find(|it| it["how"] == "open-file" && it["within"]["container"]["engine"] == "podman")
    };
    let mut found = None;
    wait_for("the container has a file open", || {
        found = in_container();
        found.is_some()
    });
    let found = found.unwrap();
    assert_eq!(found["command"], "sh");
    let id = found["within"]["container"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(id.len(), 64, "{id}");
    let all = volfs.holders("v");
    assert_eq!(
        how(&all),
        ["bind-mount", "open-file", "working-directory"],
        "{all:?}"
    );
    assert!(all.iter().any(|it| it["mountpoint"] == "/data"), "{all:?}");
    let short = format!("podman container {}", &id[..12]);
    assert_refused(&mount, "v", &["(sh)"]);
    let text = volfs.ok(&["inspect", "v"]);
    assert!(text.contains(&short), "{text}");
    guest.end();
    assert_free(&mount, "v");
}

#[test]
fn a_crun_container() {
    let _in_turn = super::NAMESPACES.read();
    let mount = Mount::new();
    let volume = mount.volume("v");
    let bundle = mount.dir().mkdir("bundle");
    busybox_root(&bundle.join("rootfs"));
    run(Command::new("crun").arg("spec").current_dir(&bundle));
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["/bin/sh", "-c", "read end"]);
    config["process"]["cwd"] = "/".into();
    config["process"]["rlimits"] = serde_json::json!([]);
    config["mounts"] = serde_json::json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/data", "type": "bind", "source": volume, "options": ["rbind", "rw"]},
    ]);
    config["linux"]["namespaces"] = serde_json::json!([
        {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}
    ]);
    config["linux"]["resources"] = serde_json::json!({});
    // As an engine that runs crun names it.
    let id = format!("crun/volfs-test-{}", std::process::id());
    config["linux"]["cgroupsPath"] = format!("/{id}").into();
    fs::write(&file, serde_json::to_vec(&config).unwrap()).unwrap();
    let mut command =
        without_hybrid(r#"exec crun --cgroup-manager=cgroupfs --root "$1" run --bundle "$2" "$3""#);
    let name = format!("volfs-test-{}", std::process::id());
    command
        .arg(mount.dir().join("state"))
        .arg(&bundle)
        .arg(&name);
    let guest = Guest::start(&mut command);
    let volfs = mount.volfs();
    let mut found = Vec::new();
    wait_for("the container has the volume bound", || {
        found = volfs.holders("v");
        found
            .iter()
            // While it is being set up its root is not there yet.
            .any(|it| it["within"]["container"]["engine"] == "crun" && it["mountpoint"] == "/data")
    });
    assert_eq!(how(&found), ["bind-mount"], "{found:?}");
    let within = format!("crun container volfs-test-{}", std::process::id());
    assert_refused(&mount, "v", &["a bind mount on /data", &within]);
    guest.end();
    assert_free(&mount, "v");
    // The parent of the container's control groups is ours, and empty.
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
        let _ = fs::remove_dir(hierarchy.unwrap().path().join("crun"));
    }
}
