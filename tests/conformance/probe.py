"""System calls that programs rarely make, tried on files of the current directory.

Run with the name of a section; prints a label and what was seen, one pair a line, with a
tab between. What differs between two directories of one file system (inode numbers, times)
is left out, so that a plain directory and a volume can be compared.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import select
import struct
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100
BLOCK = 4096


def name_of(number):
    """An error number as Rust's nix calls it."""
    return {"ENOTSUP": "EOPNOTSUPP"}.get(errno.errorcode.get(number), errno.errorcode.get(number))


def note(label, seen):
    print(f"{label}\t{seen}")


def tried(label, act):
    """Notes what `act` gives, or its error."""
    try:
        seen = act()
    except OSError as error:
        seen = name_of(error.errno)
    note(label, "done" if seen is None else seen)


def call(function, *arguments):
    """A function of the C library that returns -1 and sets errno."""
    ctypes.set_errno(0)
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    function.restype = ctypes.c_long
    result = function(*wide)
    if ctypes.c_int(result & 0xFFFFFFFF).value == -1:
        raise OSError(ctypes.get_errno(), "")
    return result


def syscall(number, *arguments):
    """A call that the C library may not have; from 424 on the same number everywhere."""
    return call(libc.syscall, number, *arguments)


def file(name, content=b"x" * (16 * BLOCK), flags=os.O_RDWR):
    with open(name, "wb") as new:
        new.write(content)
    return os.open(name, flags)


def ioctl(label, fd, request, argument=b"", size=256):
    def act():
        buffer = bytearray(argument.ljust(size, b"\0"))
        fcntl.ioctl(fd, request, buffer)

    tried(label, act)


def statx():
    """Every field of statx(2) that is no number of the inode."""
    os.close(file("f"))
    os.mkdir("d")
    os.symlink("f", "l")
    os.mkfifo("p")
    buffer = ctypes.create_string_buffer(256)
    for name in ("f", "d", "l", "p"):
        call(libc.statx, AT_FDCWD, name.encode(), AT_SYMLINK_NOFOLLOW, 0xFFFFFF, buffer)
        mask, block, attributes = struct.unpack_from("IIQ", buffer)
        known = struct.unpack_from("Q", buffer, 56)[0]
        born = struct.unpack_from("qI", buffer, 80)
        direct = struct.unpack_from("II", buffer, 152)
        atomic = struct.unpack_from("III", buffer, 168)
        note(f"{name}: fields", f"{mask & 0xFFF:x}")
        note(f"{name}: block size", block)
        note(f"{name}: attributes", f"{attributes & ~0x2000:x}")
        note(f"{name}: attributes known", known & 0x874 != 0)
        note(f"{name}: born just now", abs(time.time() - born[0]) < 100 and born[1] > 0)
        note(f"{name}: born is changed by nothing", born_later(name) == born)
        note(f"{name}: mount id", mask & 0x5000 != 0)
        note(f"{name}: alignment of direct I/O", direct != (0, 0))
        note(f"{name}: atomic writes", atomic)


def born_later(name):
    """The time of birth after a change."""
    os.chown(name, 1000, 1000, follow_symlinks=False)
    buffer = ctypes.create_string_buffer(256)
    call(libc.statx, AT_FDCWD, name.encode(), AT_SYMLINK_NOFOLLOW, 0x800, buffer)
    return struct.unpack_from("qI", buffer, 80)


def ioctls():
    """What linux/fs.h and friends define for files and directories."""
    f, g, d = file("f"), file("g"), None
    os.mkdir("d")
    d = os.open("d", os.O_RDONLY)
    for label, request in (
        ("FIBMAP", 1),
        ("FIGETBSZ", 2),
        ("FIONREAD", 0x541B),
        ("FIOQSIZE", 0x5460),
        ("FIONBIO", 0x5421),
        ("FIOASYNC", 0x5452),
        ("TCGETS", 0x5401),
        ("FS_IOC_GETVERSION", 0x80087601),
        ("FS_IOC_SETVERSION", 0x40087602),
        ("FS_IOC_GETFSLABEL", 0x81009431),
        ("FS_IOC_GETFSUUID", 0x80111500),
        ("FS_IOC_GETFSSYSFSPATH", 0x80811501),
        ("FS_IOC_GET_ENCRYPTION_POLICY", 0x400C6615),
        ("FS_IOC_ENABLE_VERITY", 0x40806685),
        ("FS_IOC_MEASURE_VERITY", 0xC0046686),
        ("EXT4_IOC_MOVE_EXT", 0xC028660F),
        ("BTRFS_IOC_DEFRAG", 0x50009402),
        ("BTRFS_IOC_SUBVOL_CREATE", 0x5000940E),
    ):
        ioctl(label, f, request)
        if request < 0x10000 or label == "FS_IOC_GETVERSION":
            ioctl(f"{label} of a directory", d, request)
    extents = struct.pack("QQIIII", 0, 1 << 62, 1, 0, 4, 0)
    ioctl("FS_IOC_FIEMAP", f, 0xC020660B, extents)
    tried("FICLONE", lambda: fcntl.ioctl(g, 0x40049409, f))
    whole = struct.pack("qQQQ", f, 0, BLOCK, 0)
    tried("FICLONERANGE", lambda: done(fcntl.ioctl(g, 0x4020940D, whole)))
    same = struct.pack("QQHHIqQQiI", 0, BLOCK, 1, 0, 0, g, 0, 0, 0, 0)
    tried("FIDEDUPERANGE", lambda: done(fcntl.ioctl(f, 0xC0189436, same)))


def done(_result):
    return None


def file_attributes():
    """file_getattr(2) and file_setattr(2), by name."""
    os.close(file("f"))
    os.mkdir("d")
    os.symlink("f", "l")
    os.mkfifo("p")
    buffer = ctypes.create_string_buffer(24)
    for name in (b"f", b"d", b"l", b"p"):
        arguments = (AT_FDCWD, name, buffer, 24, AT_SYMLINK_NOFOLLOW)
        tried(f"get of {name.decode()}", lambda: done(syscall(468, *arguments)))
    syscall(468, AT_FDCWD, b"f", buffer, 24, 0)
    tried("set", lambda: done(syscall(469, AT_FDCWD, b"f", buffer, 24, 0)))
    changed = bytearray(buffer.raw)
    struct.pack_into("I", changed, 16, 7)
    other = ctypes.create_string_buffer(bytes(changed), 24)
    tried("set another project", lambda: done(syscall(469, AT_FDCWD, b"f", other, 24, 0)))


def opens():
    """Open flags."""
    os.close(file("f"))
    for label, name, flags in (
        ("O_TMPFILE", ".", 0o20200000 | os.O_RDWR),
        ("O_PATH", "f", 0o10000000),
        ("O_DIRECT", "f", os.O_DIRECT),
        ("O_NOATIME", "f", os.O_NOATIME),
        ("O_ASYNC", "f", 0o20000),
        ("O_NONBLOCK", "f", os.O_NONBLOCK),
        ("O_DSYNC", "f", os.O_RDWR | os.O_DSYNC),
        ("O_DIRECTORY of a file", "f", os.O_DIRECTORY),
        ("O_CREAT and O_DIRECTORY", "new", os.O_CREAT | os.O_DIRECTORY),
        ("O_EXCL alone", "f", os.O_EXCL),
    ):
        tried(label, lambda: os.close(os.open(name, flags, 0o600)))


def vectored():
    """Flags of preadv2(2) and pwritev2(2)."""
    memory = mmap.mmap(-1, 4 * BLOCK)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    plain = file("f")
    direct = os.open("f", os.O_RDWR | os.O_DIRECT)
    os.pread(plain, 16 * BLOCK, 0)

    def move(function, fd, flags, offset=0, length=BLOCK, shift=0):
        vector = ctypes.create_string_buffer(struct.pack("QQ", address + shift, length))
        return call(function, fd, vector, 1, offset, flags)

    ways = {"read": libc.preadv2, "write": libc.pwritev2}
    flags = {"RWF_HIPRI": 1, "RWF_DSYNC": 2, "RWF_SYNC": 4, "RWF_NOWAIT": 8}
    flags |= {"RWF_APPEND": 16, "RWF_NOAPPEND": 32, "RWF_ATOMIC": 64}
    flags |= {"RWF_DONTCACHE": 128, "RWF_NOSIGNAL": 256, "unknown": 1 << 20}
    for name, fd in (("", plain), (" with O_DIRECT", direct)):
        for flag, bit in flags.items():
            for way, function in ways.items():
                # Refused at any time, unless it is a read of what is cached.
                if flag != "RWF_NOWAIT" or (way, name) == ("read", ""):
                    tried(f"{way} {flag}{name}", lambda: move(function, fd, bit))
    for way, function in ways.items():
        for label, how in (
            ("of 100 bytes", {"length": 100}),
            ("at 10", {"offset": 10}),
            ("at memory of any address", {"shift": 1}),
            ("of a block", {}),
            ("of 512 bytes", {"length": 512, "offset": 512}),
        ):
            tried(f"direct {way} {label}", lambda: move(function, direct, 0, **how))


def allocations():
    """Modes of fallocate(2)."""
    f = file("f", b"x" * (64 * BLOCK))
    for label, mode in (
        ("plain", 0),
        ("KEEP_SIZE", 1),
        ("PUNCH_HOLE", 3),
        ("PUNCH_HOLE alone", 2),
        ("NO_HIDE_STALE", 4),
        ("COLLAPSE_RANGE", 8),
        ("ZERO_RANGE", 16),
        ("ZERO_RANGE | KEEP_SIZE", 17),
        ("INSERT_RANGE", 32),
        ("UNSHARE_RANGE", 64),
        ("UNSHARE_RANGE | KEEP_SIZE", 65),
        ("WRITE_ZEROES", 128),
        ("unknown", 1 << 20),
    ):
        tried(label, lambda: call(libc.fallocate, f, mode, 4 * BLOCK, BLOCK))


def commands():
    """Commands of fcntl(2), and locks."""
    writer, d = file("f"), None
    os.mkdir("d")
    d = os.open("d", os.O_RDONLY)
    reader = os.open("f", os.O_RDONLY)
    control = fcntl.fcntl
    tried("a lease to read while somebody writes", lambda: control(reader, 1024, fcntl.F_RDLCK))
    os.close(writer)
    tried("a lease to read", lambda: control(reader, 1024, fcntl.F_RDLCK))
    tried("the lease", lambda: control(reader, 1025))
    tried("a lease to write", lambda: control(reader, 1024, fcntl.F_WRLCK))
    tried("no lease", lambda: control(reader, 1024, fcntl.F_UNLCK))
    tried("a lease of a directory", lambda: control(d, 1024, fcntl.F_RDLCK))
    writer = os.open("f", os.O_RDWR)
    for label, command, argument in (
        ("F_SETPIPE_SZ", 1031, 65536),
        ("F_ADD_SEALS", 1033, 1),
        ("F_GET_SEALS", 1034, 0),
        ("F_GETSIG", 11, 0),
        ("F_SETSIG", 10, 0),
        ("F_DUPFD_QUERY", 1027, writer),
        ("F_CREATED_QUERY", 1028, 0),
    ):
        tried(label, lambda: control(writer, command, argument))
    tried("F_NOTIFY of a file", lambda: control(writer, 1026, 2))
    tried("F_NOTIFY of a directory", lambda: control(d, 1026, 0))

    def hint(command, value=0):
        return struct.unpack("Q", control(writer, command, struct.pack("Q", value)))[0]

    tried("F_GET_RW_HINT", lambda: hint(1035))
    tried("F_SET_RW_HINT", lambda: hint(1036, 2))
    tried("F_GET_RW_HINT again", lambda: hint(1035))
    tried("F_GET_FILE_RW_HINT", lambda: hint(1037))
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
    for label, command in (("F_SETLK", 6), ("F_GETLK", 5), ("F_OFD_SETLK", 37), ("F_OFD_GETLK", 36)):
        tried(label, lambda: done(control(writer, command, lock)))
    for label, how in (("LOCK_SH", 1 | 4), ("LOCK_EX", 2 | 4), ("LOCK_MAND", 32 | 1), ("LOCK_UN", 8)):
        tried(label, lambda: call(libc.flock, writer, how))


def mappings():
    """Flags of mmap(2), advice of madvise(2)."""
    f = file("f")
    for label, flags in (
        ("MAP_SHARED", 1),
        ("MAP_PRIVATE", 2),
        ("MAP_SHARED_VALIDATE", 3),
        ("MAP_SHARED_VALIDATE | MAP_SYNC", 3 | 0x80000),
        ("MAP_SHARED_VALIDATE | unknown", 3 | 1 << 26),
        ("MAP_POPULATE", 1 | 0x8000),
        ("MAP_LOCKED", 1 | 0x2000),
        ("MAP_HUGETLB", 2 | 0x40000),
    ):
        tried(label, lambda: done(call(libc.mmap, None, 4 * BLOCK, 3, flags, f, 0)))
    memory = mmap.mmap(f, 16 * BLOCK)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    advice = {"NORMAL": 0, "RANDOM": 1, "SEQUENTIAL": 2, "WILLNEED": 3, "DONTNEED": 4}
    advice |= {"FREE": 8, "REMOVE": 9, "DONTFORK": 10, "MERGEABLE": 12, "NOHUGEPAGE": 15}
    advice |= {"DONTDUMP": 16, "COLD": 20, "PAGEOUT": 21, "POPULATE_READ": 22}
    advice |= {"POPULATE_WRITE": 23, "unknown": 1000}
    for label, number in advice.items():
        at = ctypes.c_void_p(address)
        tried(f"MADV_{label}", lambda: call(libc.madvise, at, 4 * BLOCK, number))
    note("after MADV_REMOVE", os.pread(f, 4, 0))
    note("after what was removed", os.pread(f, 4, 4 * BLOCK))
    for label, how in (("MS_ASYNC", 1), ("MS_INVALIDATE", 2), ("MS_SYNC", 4)):
        tried(label, lambda: call(libc.msync, ctypes.c_void_p(address), 16 * BLOCK, how))
    tried("executable", lambda: call(libc.mprotect, ctypes.c_void_p(address), BLOCK, 7))
    tried("mlock", lambda: call(libc.mlock, ctypes.c_void_p(address), BLOCK))
    state = ctypes.create_string_buffer(16)
    tried("mincore", lambda: call(libc.mincore, ctypes.c_void_p(address), BLOCK, state))


def moving():
    """Bytes that go from one file to another without a copy in the program."""
    f, g = file("f"), file("g")
    (out, into), (out2, into2) = os.pipe(), os.pipe()
    elsewhere = os.memfd_create("elsewhere")
    os.write(elsewhere, b"y" * BLOCK)
    tried("splice from a file", lambda: os.splice(f, into, BLOCK, offset_src=0))
    tried("tee", lambda: call(libc.tee, out, into2, BLOCK, 0))
    tried("splice to a file", lambda: os.splice(out, g, BLOCK, offset_dst=0))
    vector = ctypes.create_string_buffer(b"z" * BLOCK)
    one = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(vector), BLOCK))
    tried("vmsplice", lambda: call(libc.vmsplice, into, one, 1, 0))
    tried("splice of that", lambda: os.splice(out, g, BLOCK, offset_dst=BLOCK))
    tried("sendfile", lambda: os.sendfile(g, f, 0, BLOCK))
    tried("sendfile from a memfd", lambda: os.sendfile(g, elsewhere, 0, BLOCK))
    tried("sendfile to a memfd", lambda: os.sendfile(elsewhere, f, 0, BLOCK))
    for label, source, target, at in (
        ("copy_file_range", f, g, 0),
        ("copy_file_range in a file", f, f, 8 * BLOCK),
        ("copy_file_range in itself", f, f, BLOCK // 2),
        ("copy_file_range from a memfd", elsewhere, g, 0),
        ("copy_file_range to a memfd", f, elsewhere, 0),
    ):
        tried(label, lambda: os.copy_file_range(source, target, BLOCK, 0, at))
    note("contents", os.pread(g, 16 * BLOCK, 0) == b"x" * 16 * BLOCK)


def caching():
    """Advice and questions about cached pages."""
    f = file("f")
    d = os.open(".", os.O_RDONLY)
    tried("readahead", lambda: call(libc.readahead, f, 0, 16 * BLOCK))
    for number in (0, 1, 2, 3, 4, 5, 6):
        tried(f"posix_fadvise {number}", lambda: libc.posix_fadvise(f, 0, 0, number))
    for flags in (0, 1, 2, 4, 7, 8):
        tried(f"sync_file_range {flags}", lambda: call(libc.sync_file_range, f, 0, 0, flags))
    pages, found = ctypes.create_string_buffer(struct.pack("QQ", 0, 0)), ctypes.create_string_buffer(40)
    tried("cachestat", lambda: syscall(451, f, pages, found, 0))
    for label, act in (("syncfs", libc.syncfs), ("fsync", libc.fsync), ("fdatasync", libc.fdatasync)):
        tried(label, lambda: call(act, f))
        tried(f"{label} of a directory", lambda: call(act, d))


def identities():
    """File handles, watches, and where epoll and poll can be used."""
    f = file("f")
    os.mkdir("d")
    d = os.open(".", os.O_RDONLY)
    mount = ctypes.c_int()

    def handle(flags):
        buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136)
        arguments = (AT_FDCWD, b"f", buffer, ctypes.byref(mount), flags)
        call(libc.name_to_handle_at, *arguments)
        return buffer

    for label, flags in (("plain", 0), ("AT_HANDLE_FID", 0x200), ("AT_HANDLE_CONNECTABLE", 2)):
        tried(f"name_to_handle_at {label}", lambda: done(handle(flags)))

    def opened():
        os.close(call(libc.open_by_handle_at, d, handle(0), os.O_RDONLY))

    tried("open_by_handle_at", opened)
    watch = libc.inotify_init1(0)
    for events in (2, 0x100, 0xFFF):
        added = lambda: done(call(libc.inotify_add_watch, watch, b".", events))
        tried(f"inotify {events:x}", added)
    for kind, flags in (("", 0x200), (" with names", 0xC00 | 0x200)):
        group = libc.fanotify_init(flags, os.O_RDONLY)
        for label, mark, event in (
            ("an inode", 0, 0x20),
            ("a mount", 0x10, 0x20),
            ("a file system", 0x100, 0x20),
            ("names of a directory", 0, 0x100 | 0x40000000),
            ("names of a file system", 0x100, 0x100 | 0x40000000),
        ):
            arguments = (group, 1 | mark, ctypes.c_ulonglong(event), AT_FDCWD, b"d")
            tried(f"fanotify{kind}: {label}", lambda: call(libc.fanotify_mark, *arguments))
    tried("epoll", lambda: select.epoll().register(f))
    poll = select.poll()
    poll.register(f, select.POLLIN | select.POLLOUT)
    note("poll", poll.poll(0)[0][1])
    tried("select", lambda: len(select.select([f], [f], [], 0)[0]))


def limits():
    """pathconf(3), statvfs(3), quotactl_fd(2) and the longest there is."""
    f = file("f")
    os.symlink("f", "l")
    for name in sorted(os.pathconf_names):
        tried(name, lambda: os.pathconf("f", name))
    shown = os.statvfs(".")
    note("longest name", shown.f_namemax)
    note("fragment size", shown.f_frsize)
    buffer = ctypes.create_string_buffer(512)
    for label, command in (("Q_SYNC", 1), ("Q_GETFMT", 4), ("Q_GETINFO", 5), ("Q_GETQUOTA", 7)):
        number = (0x800000 | command) << 8
        tried(f"quotactl_fd {label}", lambda: syscall(443, f, number, 0, buffer))
    for label, name in (("255 bytes", b"n" * 255), ("256 bytes", b"n" * 256), ("no UTF-8", b"\xff\xfe")):
        tried(f"a name of {label}", lambda: os.close(os.open(name, os.O_CREAT | os.O_RDWR)))
    for label, target in (("4095 bytes", b"t" * 4095), ("4096 bytes", b"t" * 4096)):
        tried(f"a link to {label}", lambda: os.symlink(target, label))
    for exponent in (41, 43, 44, 62):
        tried(f"lseek to 2^{exponent}", lambda: os.lseek(f, 1 << exponent, 0))
        tried(f"lseek for data at 2^{exponent}", lambda: os.lseek(f, 1 << exponent, os.SEEK_DATA))
    for label, seconds in (("1901", -(1 << 31)), ("2038", 1 << 31), ("2500", 16725225600), ("far", 1 << 40)):
        times = (seconds * 10**9 + 123456789,) * 2
        tried(f"times of {label}", lambda: os.utime("f", ns=times))
        note(f"times of {label} are", (os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns))


def attributes():
    """Namespaces of extended attributes, and where they may be."""
    os.close(file("f"))
    os.symlink("f", "l")
    os.mkfifo("p")
    for label, path, name, size in (
        ("user", "f", "user.a", 100),
        ("user, large", "f", "user.b", 3000),
        ("user, too large", "f", "user.c", 65536),
        ("user, larger", "f", "user.d", 65537),
        ("trusted", "f", "trusted.a", 10),
        ("security", "f", "security.foo", 10),
        ("system", "f", "system.foo", 10),
        ("no namespace", "f", "foo", 10),
        ("user of a link", "l", "user.a", 10),
        ("trusted of a link", "l", "trusted.a", 10),
        ("user of a FIFO", "p", "user.a", 10),
    ):
        value = b"v" * size
        tried(label, lambda: os.setxattr(path, name, value, follow_symlinks=False))
    note("all", sorted(os.listxattr("f")))


def renames():
    """Flags of renameat2(2) and linkat(2)."""
    os.close(file("f"))
    os.close(file("g"))
    os.mkdir("d")
    for label, old, new, flags in (
        ("NOREPLACE", b"f", b"g", 1),
        ("EXCHANGE", b"f", b"d", 2),
        ("EXCHANGE again", b"f", b"d", 2),
        ("WHITEOUT", b"g", b"h", 4),
        ("unknown", b"f", b"h", 1 << 10),
    ):
        tried(label, lambda: call(libc.renameat2, AT_FDCWD, old, AT_FDCWD, new, flags))
    note("left", sorted(os.listdir(".")))
    f = os.open("f", os.O_RDONLY)
    tried("linkat AT_EMPTY_PATH", lambda: call(libc.linkat, f, b"", AT_FDCWD, b"k", AT_EMPTY_PATH))
    path = f"/proc/self/fd/{f}".encode()
    tried("linkat of /proc", lambda: call(libc.linkat, AT_FDCWD, path, AT_FDCWD, b"m", 0x400))


SECTIONS = (
    statx,
    ioctls,
    file_attributes,
    opens,
    vectored,
    allocations,
    commands,
    mappings,
    moving,
    caching,
    identities,
    limits,
    attributes,
    renames,
)

if __name__ == "__main__":
    {section.__name__: section for section in SECTIONS}[sys.argv[1]]()
