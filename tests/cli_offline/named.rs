//! Paths that lead to something else than a file: said at once as what it is.

use std::os::unix::net::UnixListener;
use std::process::Command;

use super::fixture;
use super::support::cli::BINARY;
use super::support::{Answer, Volfs, run};

/// Ends by itself, or is ended and has failed.
fn at_once(volfs: &Volfs, arguments: &[&str]) -> Answer {
    let out = Command::new("timeout")
        .arg("20")
        .arg(BINARY)
        .args(arguments)
        .env("VOLFS_STORE", volfs.store())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Answer {
        code: out.status.code(),
        out: text(&out.stdout),
        err: text(&out.stderr),
    }
}

#[test]
fn what_is_no_file_is_said() {
    let (dir, volfs) = fixture();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (fifo, socket) = (path("fifo"), path("socket"));
    run(Command::new("mkfifo").arg(&fifo));
    let _listener = UnixListener::bind(&socket).unwrap();
    let directory = dir.mkdir("directory").to_str().unwrap().to_owned();
    let kinds = [
        (fifo.as_str(), "a FIFO"),
        (&socket, "a socket"),
        (&directory, "a directory"),
        ("/dev/zero", "a character device"),
    ];
    for (named, kind) in kinds {
        for command in [
            &["image", "inspect", named][..],
            &["image", "grow", named, "--size", "32M"],
        ] {
            let answer = at_once(&volfs, command);
            assert_eq!(answer.code, Some(1), "{command:?}: {}", answer.err);
            let said = format!("it is {kind}, not a file");
            assert!(answer.err.contains(&said), "{command:?}: {}", answer.err);
        }
        let format = at_once(&volfs, &["image", "format", named, "--size", "16M"]);
        assert_eq!(format.code, Some(1));
        assert!(format.err.contains("exists"), "{}", format.err);
    }
    // A FIFO serves as an archive, as it does for tar.
    volfs.ok(&["create", "v"]);
    for (named, said) in [
        (
            &socket,
            format!("cannot open the archive {socket}: it is a socket, not a file"),
        ),
        (
            &directory,
            format!(
                "{directory} is a directory; name an archive, as 'volfs export' and tar make them"
            ),
        ),
    ] {
        let answer = at_once(&volfs, &["import", "w", named]);
        assert_eq!(answer.code, Some(1));
        assert_eq!(answer.err, format!("volfs: {said}\n"));
    }
    for (named, kind) in [(&socket, "socket"), (&directory, "directory")] {
        let answer = at_once(&volfs, &["export", "v", "-o", named]);
        assert_eq!(answer.code, Some(1));
        assert!(answer.err.contains(kind), "{}", answer.err);
    }
    assert_eq!(volfs.names(), ["v"]);
    volfs.ok(&["export", "v", "-o", &path("v.tar")]);
    run(Command::new("sh")
        .args([
            "-c",
            &format!(
                "cat '{}' > '{fifo}' & exec '{BINARY}' import w '{fifo}'",
                path("v.tar")
            ),
        ])
        .env("VOLFS_STORE", volfs.store()));
    let mut names = volfs.names();
    names.sort();
    assert_eq!(names, ["v", "w"]);
}

#[test]
fn a_store_whose_files_are_none_is_said() {
    let (_dir, volfs) = fixture();
    volfs.ok(&["create", "v"]);
    let store = volfs.store();
    for (file, code) in [("lock", 1), ("meta.db", 1)] {
        let (there, aside) = (store.join(file), store.join("aside"));
        std::fs::rename(&there, &aside).unwrap();
        run(Command::new("mkfifo").arg(&there));
        let answer = at_once(&volfs, &["doctor"]);
        assert_eq!(answer.code, Some(code), "{file}: {}", answer.out);
        assert!(answer.out.contains(file), "{}", answer.out);
        std::fs::remove_file(&there).unwrap();
        std::fs::rename(&aside, &there).unwrap();
    }
    let id = volfs.list()[0]["id"].as_str().unwrap().to_owned();
    let manifest = store.join("volumes").join(id).join("volume.json");
    std::fs::remove_file(&manifest).unwrap();
    run(Command::new("mkfifo").arg(&manifest));
    let answer = at_once(&volfs, &["doctor", "--rebuild-catalogue"]);
    assert_eq!(answer.code, Some(0), "{}", answer.err);
    assert!(answer.out.contains("recovered-"), "{}", answer.out);
}
