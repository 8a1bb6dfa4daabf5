//! `volfs image`: exit codes, JSON, and errors that name the file.

mod diskimg_common;

use diskimg_common::{assert_clean, run, scratch, text};

const VOLFS: &str = env!("CARGO_BIN_EXE_volfs");

fn json(args: &[&str]) -> serde_json::Value {
    let output = run(VOLFS, args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn refusal(args: &[&str]) -> String {
    let output = run(VOLFS, args);
    assert!(!output.status.success(), "{args:?} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_image_is_made_inspected_and_grown() {
    let dir = scratch();
    let image = dir.path().join("image");
    let file = text(&image);
    let uuid = "01234567-89ab-cdef-0123-456789abcdef";
    let made = json(&[
        "image", "format", file, "--size", "1.5GiB", "--label", "name", "--uuid", uuid, "--json",
    ]);
    assert_eq!(made["bytes"], 3u64 << 29);
    assert_clean(&image, "made");
    let found = json(&["image", "inspect", file, "--json"]);
    assert_eq!(
        (&found["label"], &found["uuid"], &found["state"]),
        (&"name".into(), &uuid.into(), &"clean".into())
    );
    assert_eq!(found["last_mount"], serde_json::Value::Null);
    let grown = json(&["image", "grow", file, "--size", "2g", "--json"]);
    assert_eq!(
        (&grown["old_blocks"], &grown["new_blocks"]),
        (&393_216.into(), &524_288.into())
    );
    assert_clean(&image, "grown");
    assert!(run(VOLFS, &["image", "inspect", file]).status.success());
}

#[test]
fn refusals_name_the_file_and_what_to_do() {
    let dir = scratch();
    let image = dir.path().join("image");
    let file = text(&image);
    assert!(refusal(&["image", "format", file, "--size", "7M"]).contains("at least 8388608 bytes"));
    assert!(refusal(&["image", "format", file, "--size", "8388609"]).contains("multiple of 4096"));
    assert!(refusal(&["image", "format", file, "--size", "10X"]).contains("powers of 1024"));
    assert!(refusal(&["image", "inspect", file]).contains(file));
    assert!(
        run(VOLFS, &["image", "format", file, "--size", "10M"])
            .status
            .success()
    );
    assert!(refusal(&["image", "format", file, "--size", "10M"]).contains("exists"));
    assert!(refusal(&["image", "grow", file, "--size", "9M"]).contains("not shrunk"));
    std::fs::OpenOptions::new()
        .write(true)
        .open(&image)
        .and_then(|f| f.set_len(9 << 20))
        .expect("shorter");
    assert!(refusal(&["image", "inspect", file]).contains("not sound"));
}
