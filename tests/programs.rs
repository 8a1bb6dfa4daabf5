//! Real programs in a volume do what they do on the host's file system.

mod support;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{Mount, install, output, run, run_in, when_free};

/// git that sees no configuration but its own defaults and an identity.
fn git(dir: &Path, arguments: &[&str]) -> String {
    run(Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@localhost"])
        .args(["-c", "init.defaultBranch=main", "-c", "safe.directory=*"])
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .current_dir(dir))
}

/// A repository with a history, a directory tree, a symlink and a program.
fn make_repository(dir: &Path) {
    fs::create_dir(dir).unwrap();
    git(dir, &["init", "--quiet"]);
    for commit in 0..15 {
        for i in 0..40 {
            let place = dir.join(format!("dir-{}/sub-{}", i % 8, i % 3));
            fs::create_dir_all(&place).unwrap();
            let text = format!("file {i} of commit {commit}\n").repeat(1 + i * 7);
            fs::write(place.join(format!("file-{i}.txt")), text).unwrap();
        }
        if commit == 3 {
            std::os::unix::fs::symlink("dir-0", dir.join("link")).unwrap();
            fs::write(dir.join("program"), "#!/bin/sh\nexit 0\n").unwrap();
            run_in(dir, "chmod", &["755", "program"]);
        }
        git(dir, &["add", "--all"]);
        git(
            dir,
            &["commit", "--quiet", "-m", &format!("Commit {commit}")],
        );
        git(dir, &["branch", &format!("branch-{commit}")]);
    }
}

#[test]
fn git_clones_checks_and_collects() {
    let mount = Mount::new();
    let volume = mount.volume("work");
    let origin = mount.dir().join("origin");
    make_repository(&origin);

    let source = origin.to_str().unwrap();
    git(
        &volume,
        &["clone", "--quiet", "--no-local", source, "clone"],
    );
    let clone = volume.join("clone");
    git(&clone, &["fsck", "--full", "--strict"]);
    assert_eq!(git(&clone, &["status", "--porcelain"]), "");
    assert_eq!(
        git(&clone, &["rev-parse", "HEAD"]),
        git(&origin, &["rev-parse", "HEAD"])
    );

    for branch in ["branch-2", "branch-9", "main"] {
        let start = if branch == "main" {
            "main".into()
        } else {
            format!("origin/{branch}")
        };
        git(&clone, &["checkout", "--quiet", "-B", branch, &start]);
        assert_eq!(git(&clone, &["status", "--porcelain"]), "");
    }
    fs::write(clone.join("new"), "new").unwrap();
    assert_eq!(git(&clone, &["status", "--porcelain"]), "?? new\n");
    git(&clone, &["add", "new"]);
    git(&clone, &["commit", "--quiet", "-m", "Made in the volume"]);
    git(&clone, &["gc", "--quiet", "--prune=now"]);
    git(&clone, &["fsck", "--full", "--strict"]);
    git(
        &clone,
        &["push", "--quiet", "origin", "HEAD:refs/heads/from-volume"],
    );
    git(&origin, &["fsck", "--full", "--strict"]);

    // A repository that begins in the volume, with hard-linked objects.
    git(&volume, &["clone", "--quiet", "clone", "second"]);
    git(&volume.join("second"), &["fsck", "--full", "--strict"]);
    assert_eq!(git(&volume.join("second"), &["status", "--porcelain"]), "");
}

/// 20,000 files in 200 directories, some empty, some of many pages.
fn make_tree(dir: &Path) {
    for i in 0..200 {
        let place = dir.join(format!("d{:02}/e{:03}", i % 20, i));
        fs::create_dir_all(&place).unwrap();
        for j in 0..100 {
            let length = match j {
                0 => 0,
                1 => 100_000,
                _ => (i * 37 + j * 101) % 5000,
            };
            let byte = (i + j) as u8;
            let content: Vec<u8> = (0..length).map(|k| byte.wrapping_add(k as u8)).collect();
            fs::write(place.join(format!("file-{j:02}")), content).unwrap();
        }
    }
}

#[test]
fn tar_of_20000_files_is_the_same_to_the_byte() {
    let mount = Mount::new();
    let volume = mount.volume("work");
    let tree = mount.dir().mkdir("tree");
    make_tree(&tree);
    let archive = mount.dir().join("tree.tar");
    let archive = archive.to_str().unwrap();
    run_in(&tree, "tar", &["cf", archive, "."]);

    run_in(&volume, "tar", &["xpf", archive]);
    let count = run_in(&volume, "sh", &["-c", "find . -type f | wc -l"]);
    assert_eq!(count.trim(), "20000");
    // Contents by diff; modes, owners, sizes and times by tar itself.
    run(Command::new("diff").arg("-r").args([&tree, &volume]));
    assert_eq!(run_in(&volume, "tar", &["df", archive]), "");

    // And out of the volume again, after the kernel has forgotten it.
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    let again = mount.dir().join("again.tar");
    run_in(&volume, "tar", &["cf", again.to_str().unwrap(), "."]);
    assert_eq!(run_in(&tree, "tar", &["df", again.to_str().unwrap()]), "");
    run_in(&volume, "sh", &["-c", "rm -rf d*"]);
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
}

#[test]
fn sqlite_in_wal_mode_with_two_writing_processes() {
    const ROWS: usize = 300;
    let mount = Mount::new();
    let volume = mount.volume("db");
    let sqlite = |commands: &[&str]| {
        let mut command = Command::new("sqlite3");
        command.args(["-batch", "-bail", "t.db"]).args(commands);
        command.current_dir(&volume);
        command
    };
    let mode = run(&mut sqlite(&[
        "PRAGMA journal_mode=WAL;",
        "CREATE TABLE t(writer TEXT, n INTEGER, payload BLOB);",
    ]));
    assert_eq!(mode.trim(), "wal");

    let writers: Vec<_> = ["a", "b"]
        .iter()
        .map(|writer| {
            let mut script = String::from(".timeout 60000\n");
            for n in 0..ROWS {
                let _ = writeln!(
                    script,
                    "BEGIN IMMEDIATE; INSERT INTO t VALUES('{writer}', {n}, randomblob(2000)); COMMIT;"
                );
            }
            let file = mount.dir().join(format!("{writer}.sql"));
            fs::write(&file, script).unwrap();
            sqlite(&[&format!(".read {}", file.display())])
                .stdin(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for writer in writers {
        let out = writer.wait_with_output().unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
    let count = run(&mut sqlite(&[
        "SELECT writer, count(*), count(DISTINCT n), sum(length(payload)) FROM t GROUP BY writer;",
    ]));
    assert_eq!(
        count,
        format!("a|{ROWS}|{ROWS}|{0}\nb|{ROWS}|{ROWS}|{0}\n", ROWS * 2000)
    );
    assert_eq!(run(&mut sqlite(&["PRAGMA integrity_check;"])), "ok\n");
    run(&mut sqlite(&["PRAGMA wal_checkpoint(TRUNCATE); VACUUM;"]));
    assert_eq!(run(&mut sqlite(&["PRAGMA integrity_check;"])), "ok\n");
}

/// A tree with all that `rsync -aHAX` promises to keep.
fn make_rich_tree(dir: &Path) {
    let script = r#"
        umask 022
        mkdir -p a/b/c empty shared
        for i in $(seq 300); do echo "file $i" > a/b/f$i; done
        ln a/b/f1 a/hard; ln a/b/f1 a/b/c/hard
        ln -s b/f2 a/soft; ln -s /nowhere dangling
        mkfifo pipe; mknod null c 1 3; mknod disk b 7 99
        truncate -s 10M sparse; printf end >> sparse
        chown 1000:1000 a/b/f3; chown 1001:2000 a/b/f4; chown -h 1000:1000 a/soft
        chmod 0600 a/b/f5; chmod 4755 a/b/f6; chmod 2775 shared; chmod 1777 empty
        setfattr -n user.comment -v "a value" a/b/f7
        setfattr -n trusted.mark -v "of root" a/b/f8
        setfattr -n user.dir -v "on a directory" a/b
        setfacl -m u:1000:rw,g:2000:r a/b/f9
        setfacl -d -m u:1001:rwx shared
        touch -d '2001-02-03 04:05:06.789012345' a/b/f10 a/b/c
        touch -d '2001-02-03 04:05:07' a/b
        printf 'with space' > 'a/name with space'
        printf x > "$(printf 'a/odd\377name')"
    "#;
    run_in(dir, "bash", &["-euc", script]);
}

#[test]
fn rsync_keeps_everything_and_finds_nothing_to_do_again() {
    let mount = Mount::new();
    let volume = mount.volume("work");
    let tree = mount.dir().mkdir("tree");
    make_rich_tree(&tree);
    let options = ["-aHAX", "--numeric-ids", "--delete"];
    let sync = |from: &Path, to: &Path, more: &[&str]| {
        run(Command::new("rsync")
            .args(options)
            .args(more)
            .arg(format!("{}/", from.display()))
            .arg(format!("{}/", to.display())))
    };
    let differences =
        |from: &Path, to: &Path| sync(from, to, &["-n", "--itemize-changes", "--checksum"]);
    sync(&tree, &volume, &[]);
    assert_eq!(differences(&tree, &volume), "");
    let back = mount.dir().mkdir("back");
    sync(&volume, &back, &[]);
    assert_eq!(differences(&tree, &back), "");

    // Changes go over, nothing else does.
    fs::write(tree.join("a/b/f11"), "changed").unwrap();
    fs::remove_file(tree.join("a/b/f12")).unwrap();
    run_in(&tree, "chmod", &["0700", "a/b/f13"]);
    let mut changed: Vec<String> = sync(&tree, &volume, &["--itemize-changes"])
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap().to_owned())
        .collect();
    changed.sort();
    assert_eq!(changed, ["a/b/", "a/b/f11", "a/b/f12", "a/b/f13"]);
    assert_eq!(differences(&tree, &volume), "");

    // The same with cp, between two volumes.
    let other = mount.volume("other");
    run(Command::new("cp")
        .arg("-a")
        .arg(volume.join("."))
        .arg(&other));
    assert_eq!(differences(&volume, &other), "");
}

#[test]
fn a_program_is_compiled_by_two_jobs() {
    const UNITS: usize = 60;
    let mount = Mount::new();
    let volume = mount.volume("src");
    let mut main = String::from("#include <stdio.h>\n");
    let mut sum = String::new();
    for i in 0..UNITS {
        let unit = format!("#include \"all.h\"\nint f{i}(void) {{ return {i} + ONE; }}\n");
        fs::write(volume.join(format!("u{i}.c")), unit).unwrap();
        let _ = writeln!(main, "int f{i}(void);");
        let _ = write!(sum, " + f{i}()");
    }
    let _ = writeln!(
        main,
        "int main(void) {{ printf(\"%d\\n\", 0{sum}); return 0; }}\n"
    );
    fs::write(volume.join("main.c"), main).unwrap();
    fs::write(volume.join("all.h"), "#define ONE 1\n").unwrap();
    fs::write(
        volume.join("Makefile"),
        "OBJ = $(patsubst %.c,%.o,$(wildcard *.c))\n\
         all: libu.a program\n\
         libu.a: $(filter-out main.o,$(OBJ))\n\tar rcs $@ $^\n\
         program: main.o libu.a\n\t$(CC) -o $@ main.o -L. -lu\n\
         %.o: %.c all.h\n\t$(CC) -c -o $@ $<\n",
    )
    .unwrap();
    run_in(&volume, "make", &["-j2", "--silent"]);
    let wanted: usize = (0..UNITS).map(|i| i + 1).sum();
    assert_eq!(
        run(&mut Command::new(volume.join("program"))),
        format!("{wanted}\n")
    );

    // make goes by time stamps: nothing to do, then everything.
    let nothing = run_in(&volume, "make", &["-j2"]);
    assert!(nothing.contains("Nothing to be done"), "{nothing}");
    support::wait::clock_tick();
    fs::write(volume.join("all.h"), "#define ONE 2\n").unwrap();
    run_in(&volume, "make", &["-j2", "--silent"]);
    let wanted = wanted + UNITS;
    assert_eq!(
        run(&mut Command::new(volume.join("program"))),
        format!("{wanted}\n")
    );
}

#[test]
fn flock_excludes_between_two_processes() {
    const TURNS: usize = 150;
    let mount = Mount::new();
    let volume = mount.volume("work");
    fs::write(volume.join("count"), "0").unwrap();
    let script = format!(
        "i=0; while [ $i -lt {TURNS} ]; do \
         flock lock sh -c 'n=$(cat count); echo $((n + 1)) > count' || exit 1; i=$((i + 1)); done"
    );
    let start = || {
        Command::new("sh")
            .args(["-euc", &script])
            .current_dir(&volume)
            .spawn()
            .unwrap()
    };
    let both = [start(), start()];
    for mut process in both {
        assert!(process.wait().unwrap().success());
    }
    let count = fs::read_to_string(volume.join("count")).unwrap();
    assert_eq!(count.trim(), (2 * TURNS).to_string());

    // A lock that is held is seen as such, and ends with its holder.
    let mut holder = Command::new("flock")
        .args(["lock", "cat"])
        .current_dir(&volume)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let try_lock = || {
        output(
            Command::new("flock")
                .args(["-n", "lock", "true"])
                .current_dir(&volume),
        )
        .status
        .success()
    };
    support::wait_for("the lock is taken", || !try_lock());
    holder.kill().unwrap();
    holder.wait().unwrap();
    support::wait_for("the lock is free", try_lock);
}

#[test]
fn mv_between_volumes_copies_and_keeps() {
    let mount = Mount::new();
    let (a, b) = (mount.volume("a"), mount.volume("b"));
    make_rich_tree(&a);
    let before = run_in(
        &a,
        "bash",
        &[
            "-c",
            "find . -printf '%p %m %U %G %s %y %l\\n' | grep -v '^\\. ' | grep -v ' d$' | sort | sha256sum",
        ],
    );
    run(Command::new("bash")
        .args(["-euc", "shopt -s dotglob; mv \"$0\"/* \"$1\"/"])
        .args([&a, &b]));
    assert_eq!(fs::read_dir(&a).unwrap().count(), 0);
    let after = run_in(
        &b,
        "bash",
        &[
            "-c",
            "find . -printf '%p %m %U %G %s %y %l\\n' | grep -v '^\\. ' | grep -v ' d$' | sort | sha256sum",
        ],
    );
    assert_eq!(before, after);
}

#[test]
fn a_running_program_is_not_truncated() {
    use std::os::unix::fs::OpenOptionsExt;
    for arguments in [&["-o", "passthrough"], &["-o", "nopassthrough"]] {
        let mount = Mount::builder().args(arguments).start();
        let program = mount.volume("v").join("program");
        for _ in 0..20 {
            install(Path::new("/usr/bin/sleep"), &program);
            let mut running = when_free(|| Command::new(&program).arg("60").spawn()).unwrap();
            let size = fs::metadata(&program).unwrap().len();
            // The kernel refuses it only after it has opened the file.
            let refused = fs::OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_TRUNC)
                .open(&program);
            let after = fs::metadata(&program).unwrap().len();
            let ended = running.try_wait().unwrap();
            running.kill().unwrap();
            running.wait().unwrap();
            assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ETXTBSY));
            assert_eq!((after, ended), (size, None));
            fs::remove_file(&program).unwrap();
        }
    }
}

/// Whoever may write to a program with a set-user-id bit takes the bit away by
/// that, and does not become its owner.
#[test]
fn what_was_written_to_is_not_run_as_its_owner() {
    use std::os::unix::fs::{FileExt, PermissionsExt};
    use support::user::{ALICE_IN_2000, as_user, command_as};

    let program = fs::read("/usr/bin/id").unwrap();
    let set_id = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o4775)).unwrap();
        fs::metadata(path).unwrap();
    };
    for arguments in [&["-o", "suid"][..], &["-o", "suid", "--no-passthrough"]] {
        let mount = Mount::builder().args(arguments).start();
        mount.volfs().ok(&["create", "plain"]);
        mount.volfs().ok(&["create", "limited", "--quota", "1G"]);
        mount
            .volfs()
            .ok(&["create", "disk", "--disk", "--size", "16M"]);
        for volume in ["plain", "limited", "disk"] {
            let path = mount.join(volume).join("tool");
            let make = || {
                fs::write(&path, &program).unwrap();
                std::os::unix::fs::chown(&path, Some(0), Some(2000)).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o775)).unwrap();
            };
            let open = || {
                as_user(ALICE_IN_2000, || {
                    fs::File::options().write(true).open(&path).unwrap()
                })
            };
            let write =
                |file: fs::File| as_user(ALICE_IN_2000, || file.write_all_at(&program, 0).unwrap());
            // Setpriv executes it, and says in words that it is busy.
            let runs_as = || {
                let once = || {
                    let out = output(command_as(ALICE_IN_2000, &path).arg("-u"));
                    if String::from_utf8_lossy(&out.stderr).contains("Text file busy") {
                        return Err(std::io::ErrorKind::ExecutableFileBusy.into());
                    }
                    Ok(out)
                };
                String::from_utf8(when_free(once).unwrap().stdout).unwrap()
            };
            make();
            set_id(&path);
            assert_eq!(
                runs_as(),
                "0\n",
                "{volume} {arguments:?}: the bit has no effect"
            );
            write(open());
            assert_eq!(runs_as(), "1000\n", "{volume} {arguments:?}");

            // Opened before it got the bit, and may be by passthrough.
            make();
            let file = open();
            set_id(&path);
            write(file);
            assert_eq!(runs_as(), "1000\n", "{volume} {arguments:?}: opened before");
        }
    }
}
