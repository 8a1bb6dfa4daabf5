//! What volumes may be called, and that such a name comes through whole
//! wherever it is written: JSON, CSV, templates, metrics, shells, mount tables,
//! archives, manifests, messages.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{Mount, TestDir, run, wait_for};

/// Each has something that one of the formats takes for its own.
const NAMES: [&str; 9] = [
    "New Folder",
    "Entwürfe (2)",
    "日本 語",
    "double \"quoted\" \\ and 'single'",
    "a,b;c=d:e",
    "$HOME `id` $(id) !!",
    "*?[x]{{name}} #~",
    "%s\\n\\040 & <b>",
    "👩\u{200d}🔧 e\u{301}",
];

fn longest() -> String {
    format!("{}n", "ü".repeat(127))
}

/// A mount of a store that takes any name.
fn mount() -> Mount {
    let mount = Mount::new();
    mount.volfs().ok(&["config", "names", "any"]);
    mount
}

/// Volumes of all the names, each with a file that says which it is.
fn with_volumes() -> (Mount, Vec<String>) {
    let mount = mount();
    let mut names: Vec<String> = NAMES.iter().map(|&name| name.to_owned()).collect();
    names.push(longest());
    for name in &names {
        fs::write(mount.volume(name).join("f"), name).unwrap();
    }
    (mount, names)
}

fn set(names: impl IntoIterator<Item = impl Into<String>>) -> BTreeSet<String> {
    names.into_iter().map(Into::into).collect()
}

fn errno(result: std::io::Result<()>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

fn last_error(mount: &Mount) -> String {
    fs::read_to_string(mount.join(".volfs/last_error")).unwrap()
}

#[test]
fn roots_stores_take_portable_names() {
    let mount = Mount::new();
    let volfs = mount.volfs();
    assert_eq!(volfs.ok(&["config", "names"]), "portable\n");
    assert_eq!(
        errno(fs::create_dir(mount.join("New Folder"))),
        Some(libc::EINVAL)
    );
    let told = last_error(&mount);
    assert!(told.contains("volfs config names any"), "{told}");

    let v = mount.volume("v");
    assert_eq!(errno(fs::rename(&v, mount.join("Neü"))), Some(libc::EINVAL));
    let archive = mount.dir().join("v.tar");
    volfs.ok(&[
        "export".as_ref(),
        "v".as_ref(),
        "-o".as_ref(),
        archive.as_os_str(),
    ]);
    volfs.ok(&["create", "removed"]);
    volfs.ok(&["rm", "removed"]);
    for refused in [
        // None is made, not even the good one.
        &["create", "good", "a b"][..],
        &["mv", "v", "a b"],
        &["clone", "v", "a b"],
        &["import", "a b", archive.to_str().unwrap()],
        &["trash", "restore", "removed", "--as", "a b"],
    ] {
        let said = volfs.fails(2, refused);
        assert!(said.contains("volfs config names any"), "{said}");
    }
    assert_eq!(volfs.names(), ["v"]);
}

#[test]
fn what_people_type_is_taken() {
    let (mount, names) = with_volumes();
    let volfs = mount.volfs();
    assert_eq!(set(volfs.names()), set(names.clone()));
    for bad in [
        ".hidden",
        ".Trash-1000",
        "-rf",
        " a",
        "a ",
        "a\nb",
        "a\tb",
        "a\u{1b}[2J",
    ] {
        let expected = if bad.starts_with('.') {
            libc::EPERM
        } else {
            libc::EINVAL
        };
        assert_eq!(
            errno(fs::create_dir(mount.join(bad))),
            Some(expected),
            "{bad:?}"
        );
        volfs.fails(2, &["create", "--", bad]);
    }
    let too_long = "ü".repeat(128);
    assert_eq!(
        errno(fs::create_dir(mount.join(&too_long))),
        Some(libc::ENAMETOOLONG)
    );
    volfs.fails(2, &["create", &too_long]);

    // By command and by the mount, to and fro.
    for name in &names {
        volfs.ok(&["mv", name, "between"]);
        fs::rename(mount.join("between"), mount.join(name)).unwrap();
        volfs.ok(&["rm", name]);
        volfs.ok(&["trash", "restore", name]);
        volfs.ok(&["clone", name, "clone of it"]);
        assert_eq!(
            fs::read_to_string(mount.join("clone of it/f")).unwrap(),
            *name
        );
        volfs.ok(&["rm", "--purge", "clone of it"]);
        // As the shell completes it.
        volfs.ok(&["inspect", &format!("{name}/")]);
    }
    assert_eq!(set(volfs.names()), set(names));
}

#[test]
fn nothing_is_normalised() {
    let mount = mount();
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    fs::write(mount.volume(composed).join("f"), "1").unwrap();
    fs::write(mount.volume(decomposed).join("f"), "2").unwrap();
    mount.volume("Café");
    let listed: BTreeSet<String> = fs::read_dir(mount.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(listed, set([composed, decomposed, "Café"]));
    assert_eq!(
        fs::read_to_string(mount.join(composed).join("f")).unwrap(),
        "1"
    );
}

#[test]
fn names_that_volumes_have_stay_good() {
    let (mount, names) = with_volumes();
    let volfs = mount.volfs();
    volfs.ok(&["config", "names", "portable"]);
    for name in &names {
        assert_eq!(
            fs::read_to_string(mount.join(name).join("f")).unwrap(),
            *name
        );
    }
    // A removed one comes back as what it was.
    volfs.ok(&["rm", "New Folder"]);
    volfs.fails(2, &["create", "New Folder"]);
    volfs.ok(&["trash", "restore", "New Folder"]);
    // An archive becomes a volume of a name that the store takes.
    let archive = mount.dir().join("it.tar");
    let archive = archive.to_str().unwrap();
    volfs.ok(&["export", "New Folder", "-o", archive]);
    volfs.fails(2, &["import", "Newer Folder", archive]);
    volfs.ok(&["import", "new-folder", archive]);
    assert_eq!(
        fs::read_to_string(mount.join("new-folder/f")).unwrap(),
        "New Folder"
    );
    fs::rename(mount.join("New Folder"), mount.join("renamed")).unwrap();
    assert_eq!(
        errno(fs::rename(mount.join("renamed"), mount.join("New Folder"))),
        Some(libc::EINVAL)
    );
}

#[test]
fn listings_for_programs_give_names_whole() {
    let (mount, names) = with_volumes();
    let volfs = mount.volfs();
    let expected = set(names.clone());

    let csv = volfs.ok(&["ls", "--format", "csv"]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let read: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(set(read.iter().map(|record| &record[0])), expected);

    let lines = volfs.ok(&["ls", "--format", "{{name}}"]);
    assert_eq!(set(lines.lines()), expected);
    let lines = volfs.ok(&["ls", "-q"]);
    assert_eq!(set(lines.lines()), expected);
    let table = volfs.ok(&["ls"]);
    for name in &names {
        assert!(table.contains(name.as_str()), "{name:?} is not in {table}");
    }

    let control = |file: &str| -> Value {
        let text = fs::read_to_string(mount.join(".volfs").join(file)).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let listed = control("volumes.json").to_string();
    let stats = control("stats.json");
    for name in &names {
        let quoted = serde_json::to_string(name).unwrap();
        assert!(listed.contains(&quoted), "{quoted} is not in {listed}");
        assert!(stats["volumes"].get(name).is_some(), "{name:?}: {stats}");
    }
}

/// The values of the label `volume`, read as Prometheus reads them.
fn volumes_in_metrics(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text
        .lines()
        .filter(|line| line.starts_with("volfs_volume_"))
    {
        let mut rest = line.split_once("volume=\"").unwrap().1.chars();
        let mut value = String::new();
        loop {
            match rest.next().unwrap() {
                '"' => break,
                '\\' => value.push(match rest.next().unwrap() {
                    'n' => '\n',
                    other => other,
                }),
                other => value.push(other),
            }
        }
        assert!(rest.as_str().starts_with(",id=\""), "{line}");
        found.insert(value);
    }
    found
}

#[test]
fn metrics_and_filters_give_names_whole() {
    let (mount, names) = with_volumes();
    let volfs = mount.volfs();
    assert_eq!(
        volumes_in_metrics(&volfs.ok(&["metrics"])),
        set(names.clone())
    );
    for name in &names {
        let glob: String = name
            .chars()
            .flat_map(|c| {
                ['\\', c]
                    .into_iter()
                    .skip(usize::from(!"*?[]{}\\!".contains(c)))
            })
            .collect();
        let found = volfs.ok(&["ls", "-q", "--filter", &format!("name={glob}")]);
        assert_eq!(found, format!("{name}\n"));
    }
    assert_eq!(
        volfs.ok(&["ls", "-q", "--filter", "name=New*"]),
        "New Folder\n"
    );
}

#[test]
fn a_shell_finds_the_path_of_every_volume() {
    let (mount, names) = with_volumes();
    let volfs = mount.volfs();
    for name in &names {
        let script = r#"cat "$("$0" path "$1")/f""#;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script])
            .arg(support::cli::BINARY)
            .arg(name);
        shell.env("VOLFS_STORE", volfs.store());
        assert_eq!(run(&mut shell), *name);
    }
}

/// The command that a message has in quotes.
fn advised(said: &str) -> &str {
    let start = said
        .find("'volfs ")
        .unwrap_or_else(|| panic!("no advice in {said}"));
    let advice = &said[start + 1..];
    // It may have quotes itself, which are escaped.
    let end = advice
        .char_indices()
        .find(|&(at, c)| c == '\'' && !advice[..at].ends_with('\\'));
    &advice[..end.unwrap().0]
}

#[test]
fn what_a_message_advises_can_be_pasted() {
    let (mount, names) = with_volumes();
    let volfs = mount.volfs();
    let bin = mount.dir().mkdir("bin");
    symlink(support::cli::binary(), bin.join("volfs")).unwrap();
    let paste = |command: &str| {
        let path = format!("{}:/usr/sbin:/usr/bin:/bin", bin.display());
        let mut shell = Command::new("bash");
        shell.args(["-c", command]).env("PATH", path);
        run(shell.env("VOLFS_STORE", volfs.store()))
    };
    for name in &names {
        volfs.ok(&["pin", name]);
        let said = volfs.fails(1, &["rm", name]);
        paste(advised(&said));
        fs::remove_dir(mount.join(name)).unwrap_err();
        let told = last_error(&mount);
        paste(advised(&told));
    }
    assert_eq!(volfs.names(), [""; 0]);
}

#[test]
fn who_holds_a_volume_is_found_by_any_name() {
    let (mount, names) = with_volumes();
    let volfs = mount.volfs();
    for name in &names {
        let place = mount.dir().mkdir("bound here");
        run(Command::new("mount")
            .arg("--bind")
            .arg(mount.join(name))
            .arg(&place));
        let said = volfs.fails(1, &["rm", name]);
        assert!(said.contains("bind mount"), "{name:?}: {said}");
        // Nobody is in it.
        volfs.ok(&["rm", "--force", name]);
        fs::remove_dir(&place).unwrap();
        volfs.ok(&["trash", "restore", name]);

        // Something that is mounted inside.
        let inside = mount.join(name).join("sub dir");
        fs::create_dir(&inside).unwrap();
        run(Command::new("mount")
            .args(["-t", "tmpfs", "none"])
            .arg(&inside));
        let said = volfs.fails(1, &["rm", name]);
        run(Command::new("umount").arg(&inside));
        assert!(said.contains("mounted"), "{name:?}: {said}");
        wait_for("it is free", || volfs.holders(name).is_empty());
    }
}

#[test]
fn an_overlay_is_found_by_a_name_with_spaces() {
    let (mount, _) = with_volumes();
    let volfs = mount.volfs();
    let place = mount.dir().mkdir("merged");
    let empty = mount.dir().mkdir("empty");
    for name in ["New Folder", "Entwürfe (2)", "日本 語", "a,b;c=d:e"] {
        let escaped = |path: &Path| {
            let path = path.to_str().unwrap();
            path.replace('\\', "\\\\")
                .replace(':', "\\:")
                .replace(',', "\\,")
        };
        let options = format!(
            "lowerdir={}:{}",
            escaped(&mount.join(name)),
            escaped(&empty)
        );
        // mount(8) would take the commas for its own.
        let mounted = nix::mount::mount(
            Some("overlay"),
            &place,
            Some("overlay"),
            nix::mount::MsFlags::MS_RDONLY,
            Some(options.as_str()),
        );
        mounted.unwrap_or_else(|error| panic!("{options}: {error}"));
        let said = volfs.fails(1, &["rm", name]);
        nix::mount::umount(&place).unwrap();
        assert!(said.contains("an overlay mount on"), "{name:?}: {said}");
        wait_for("it is free", || volfs.holders(name).is_empty());
    }
}

#[test]
fn an_image_has_the_name_of_its_volume() {
    let mount = mount();
    let volfs = mount.volfs();
    let longest = "ü".repeat(125) + "n";
    for name in ["my disk", "50% \"off\"", &longest] {
        volfs.ok(&["create", "--disk", "--size", "8M", name]);
        let image = mount.join(".volfs/disks").join(format!("{name}.raw"));
        assert_eq!(
            volfs.ok(&["path", "--disk", name]),
            format!("{}\n", image.display())
        );
        assert_eq!(fs::metadata(&image).unwrap().len(), 8 << 20);
    }
}

#[test]
fn a_rebuilt_catalogue_takes_the_names_of_the_old() {
    let (mut mount, names) = with_volumes();
    mount.stop();
    let store = mount.store().to_owned();
    fs::remove_file(store.join("meta.db")).unwrap();
    let volfs = mount.volfs();
    volfs.ok(&["doctor", "--rebuild-catalogue"]);
    assert_eq!(set(volfs.names()), set(names));
    // What gave volumes such names does so again.
    assert_eq!(volfs.ok(&["config", "names"]), "any\n");
}

#[test]
fn shells_complete_names_of_volumes() {
    let (mount, _) = with_volumes();
    let dir = TestDir::new();
    let script = |shell: &str| {
        let path = dir.join(shell);
        fs::write(&path, mount.volfs().ok(&["completions", shell])).unwrap();
        path
    };
    let bin = dir.mkdir("bin");
    symlink(support::cli::binary(), bin.join("volfs")).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    // In the directory of the volumes, with the key for completion.
    let type_in = |shell: &[&str], typed: &str| {
        let mut terminal = Command::new("script");
        terminal
            .args(["-qec", &shell.join(" "), "/dev/null"])
            .current_dir(mount.path())
            .env("PATH", &path)
            .env("VOLFS_STORE", mount.store())
            .env("HOME", dir.path())
            .env("TERM", "dumb")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped());
        let mut child = terminal.stdout(Stdio::piped()).spawn().unwrap();
        use std::io::Write;
        child
            .stdin
            .take()
            .unwrap()
            .write_all(typed.as_bytes())
            .unwrap();
        let out = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    for (typed, name) in [
        ("New", "New Folder"),
        ("Entw", "Entwürfe (2)"),
        ("double", NAMES[3]),
    ] {
        let quoted = serde_json::to_string(name).unwrap();
        let command = format!("volfs inspect --json {typed}\t\n");
        for (shell, before) in [
            (&["bash", "--norc", "--noprofile", "-i"][..], ""),
            (
                &["zsh", "-f", "-i"],
                "autoload -U compinit; compinit -u -D\n",
            ),
        ] {
            let source = script(shell[0]);
            let typed = format!("{before}. {}\n{command}exit\n", source.display());
            let said = type_in(shell, &typed);
            let expected = format!("\"name\": {quoted}");
            assert!(said.contains(&expected), "{}: {said}", shell[0]);
        }
        // Which it writes with a backslash where one is needed.
        let ask = format!(
            "source {}; complete -C 'volfs inspect {typed}'",
            script("fish").display()
        );
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", &ask])
            .env("HOME", dir.path());
        let said = run(fish.current_dir(mount.path()).env("PATH", &path));
        assert_eq!(said, format!("{name}/\n"), "fish");
    }
}
