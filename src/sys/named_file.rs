//! Opening a file whose name somebody gave, or that lies where others may put
//! things: whatever it is, it is answered at once.
//!
//! Opening a FIFO waits for its other end, reading some devices never ends, and
//! the error of a socket tells nobody that it is one.

use std::fs::{File, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens a regular file for reading.
///
/// # Errors
/// As `open(2)`; for anything else an error that says what it is.
pub fn open(path: &Path) -> io::Result<File> {
    open_if(path, File::options().read(true), FileType::is_file)
}

/// Opens a regular file for reading and writing.
///
/// # Errors
/// As [`open`].
pub fn open_to_change(path: &Path) -> io::Result<File> {
    open_if(
        path,
        File::options().read(true).write(true),
        FileType::is_file,
    )
}

/// Opens for reading what can be read at any place: a regular file or a block
/// device.
///
/// # Errors
/// As [`open`].
pub fn open_seekable(path: &Path) -> io::Result<File> {
    let serves = |found: &FileType| found.is_file() || found.is_block_device();
    open_if(path, File::options().read(true), serves)
}

/// Why a file of any kind could not be opened, where a FIFO and a device serve
/// as well: of a socket the system says that there is no such device.
#[must_use]
pub fn why_not_opened(path: &Path, error: io::Error) -> io::Error {
    match path.metadata() {
        Ok(found) if found.file_type().is_socket() => refused(found.file_type()),
        Ok(_) | Err(_) => error,
    }
}

fn open_if(
    path: &Path,
    options: &mut OpenOptions,
    serves: impl Fn(&FileType) -> bool,
) -> io::Result<File> {
    // Neither waits for the other end of a FIFO, nor for a terminal's line; and
    // without a meaning for what serves.
    let opened = options
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let found = match &opened {
        Ok(file) => file.metadata()?.file_type(),
        // So it is with a socket (ENXIO), or with a directory that was to be
        // written (EISDIR).
        Err(_) => match path.metadata() {
            Ok(found) if !serves(&found.file_type()) => found.file_type(),
            Ok(_) | Err(_) => return opened,
        },
    };
    if serves(&found) {
        return opened;
    }
    Err(refused(found))
}

fn refused(found: FileType) -> io::Error {
    io::Error::other(format!("it is {}, not a file", kind(found)))
}

fn kind(found: FileType) -> &'static str {
    match found {
        it if it.is_dir() => "a directory",
        it if it.is_fifo() => "a FIFO",
        it if it.is_socket() => "a socket",
        it if it.is_char_device() => "a character device",
        it if it.is_block_device() => "a block device",
        _ => "neither file nor directory",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::os::unix::net::UnixListener;

    #[test]
    fn whatever_it_is_it_is_said_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        nix::unistd::mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
        let _listener = UnixListener::bind(path("socket")).unwrap();
        let refused = |found: &Path| {
            let reading = open(found).unwrap_err().to_string();
            assert_eq!(reading, open_to_change(found).unwrap_err().to_string());
            assert_eq!(reading, open_seekable(found).unwrap_err().to_string());
            reading
        };
        assert_eq!(refused(&path("fifo")), "it is a FIFO, not a file");
        assert_eq!(refused(&path("socket")), "it is a socket, not a file");
        assert_eq!(refused(dir.path()), "it is a directory, not a file");
        let device = "it is a character device, not a file";
        assert_eq!(refused(Path::new("/dev/zero")), device);
        let missing = open(&path("none")).unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
        std::fs::write(path("file"), "x").unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut open(&path("file")).unwrap(), &mut text).unwrap();
        assert_eq!(text, "x");
    }
}
