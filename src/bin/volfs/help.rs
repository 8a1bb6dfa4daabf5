//! Examples at the end of the help texts.

/// `volfs --help`.
pub const MAIN: &str = "\
Examples:
  volfs mount /mnt/vol              mount the store; mkdir /mnt/vol/cache makes a volume
  volfs create cache --quota 10G    the same by command, with a limit
  volfs set cache --quota 20G       more; 'none' lifts the limit
  volfs ls                          all volumes, newest first
  volfs inspect cache               all there is to know, and who uses it
  volfs clone cache cache-2         a second one with the same contents
  volfs rm cache                    to the trash; 'volfs trash restore cache' brings it back
  volfs umount /mnt/vol
  volfs doctor                      what this machine can do, and what it lacks

Volumes live in a store, a directory that the first 'create' or 'mount' makes.
Sizes are bytes, or with a unit: 512M, 1.5GiB, 10g (powers of 1024).

Exit codes: 0 done, 1 failed, 2 the command line makes no sense.";

/// `volfs mount --help`.
pub const MOUNT: &str = "\
Examples:
  volfs mount /mnt/vol
  volfs mount --store /srv/volumes --rmdir trash --default-quota 10G /mnt/vol
  volfs mount --foreground -v /mnt/vol           as a service manager runs it
  mount -t fuse.volfs /srv/volumes /mnt/vol -o ro

In /etc/fstab:
  /srv/volumes  /mnt/vol  fuse.volfs  defaults,rmdir=trash  0  0

Options of -o:
  ro, rw                            refuse every change, or not
  exec, noexec, atime, noatime      as for every mount
  nosuid, suid, nodev, dev          set-user-id programs, file capabilities and devices
                                    of volumes do not work unless root asks for it;
                                    mount(8) does not pass suid and dev on: with it
                                    and in fstab write allow_suid and allow_dev
  allow_other                       let other users in, when mounted without root
  rmdir=empty|trash, root_mode=OCTAL, default_quota=SIZE|none,
  default_quota_inodes=N|none, default_kind=directory|disk, default_size=SIZE,
  user_volumes=N, user_bytes=SIZE, user_inodes=N,
  trash_retention=AGE|none, trust_guest_images, passthrough, nopassthrough,
  birth_time, low_latency, supervisor, nosupervisor, threads=N,
  log=file|journal
                                    as the options above
  store=DIR                         as --store
  defaults, auto, noauto, nofail, _netdev, user, x-...
                                    for mount(8) and systemd; let pass

The command returns when the mount can be used, or with the reason why not.
The daemon writes its log to daemon.log in the store.";

/// `volfs umount --help`.
pub const UMOUNT: &str = "\
Examples:
  volfs umount /mnt/vol
  volfs umount --lazy /mnt/vol      who uses it finishes undisturbed
  volfs umount --force /mnt/vol     who uses it gets errors

When the command returns the daemon has ended, and the store can be mounted
again. A busy mount stays, and the error says who uses it. Where a process in
another mount namespace has a copy of the mount, the command waits 10 seconds
for it and then fails, naming it; --force ends the daemon nevertheless. --lazy
and --force also work when the daemon is stopped or hangs.";

/// `volfs upgrade --help`.
pub const UPGRADE: &str = "\
Examples:
  volfs upgrade                     after a new version was installed in place of the old

Whoever uses the mount sees a short pause. A version that cannot go on with what
the old one left is not used: the old one serves until the store is unmounted.";

/// `volfs create --help`.
pub const CREATE: &str = "\
Examples:
  volfs create cache
  volfs create cache --quota 10G --quota-inodes 1000000 --label team=build
  volfs create db --disk --size 10G
  volfs create scratch --owner alice --mode 1777

Sizes are bytes, or with a unit: 512M, 1.5GiB, 10g (powers of 1024).";

/// `volfs ls --help`.
pub const LS: &str = "\
Examples:
  volfs ls
  volfs ls --filter label=team=build --filter 'used>90%' --sort -used
  volfs ls -q --filter kind=disk    names only
  volfs ls --format csv > volumes.csv
  volfs ls --format '{{name}}\\t{{used}}\\t{{label.team}}'
  volfs ls --json | jq -r '.[].name'

USE% is of the limit. A figure with '~' is being recounted. On a narrow terminal
columns are left out; --format and --json always have all. Quote filters with
'<', '>' or '*', which the shell would take for itself.";

/// `volfs prune --help`.
pub const PRUNE: &str = "\
Examples:
  volfs prune --older-than 30d --dry-run          what would be removed
  volfs prune --older-than 30d --filter label=stage=test
  volfs prune --filter 'name=tmp-*' --purge --yes for ever, without a question

Volumes go to the trash, 'volfs trash restore NAME' brings them back. Pinned
volumes and those that somebody uses are kept, and it is said why.";

/// `volfs inspect --help`.
pub const INSPECT: &str = "\
Examples:
  volfs inspect cache
  volfs inspect --json cache db";

/// `volfs rm --help`.
pub const RM: &str = "\
Examples:
  volfs rm cache                    to the trash
  volfs trash restore cache         and back
  volfs rm --purge cache scratch    for ever
  volfs rm --purge --wait cache     and return when its space is free
  volfs rm --force cache            although it is bind-mounted somewhere

A volume in use is not removed; the error says who uses it. A pinned volume is
not removed either; 'volfs unpin NAME' first.

'rm -rf' in the mount and file managers delete file by file, and for good: what they
delete is not in the trash. 'volfs rm' is the way that leads back.

--purge takes the volume out of sight at once; its files are deleted in the
background, and a deletion that is cut goes on when the store is next used.
'volfs trash progress' shows how far it is.

--force detaches (umount --lazy) bind mounts of the volume, but only in the
mount namespace where the daemon runs, and only if no process has a file, its
working directory or its root in the volume. Containers, sandboxes and
processes are never cut off: end them first.";

/// `volfs pin --help` and `volfs unpin --help`.
pub const PIN: &str = "\
Examples:
  volfs pin cache db                neither rm nor rmdir removes them
  volfs unpin cache

A pin protects the volume and its name, not its contents: what is in a pinned volume
can be changed and deleted as in any other, and 'rm -rf' of one leaves it there
empty. 'volfs set NAME --read-only' protects the contents, from root as well, and not
the name. Set both to keep a volume as it is.";

/// `volfs clone --help`.
pub const CLONE: &str = "\
Examples:
  volfs clone cache cache-2
  volfs clone cache test --quota 5G --label purpose=test

On btrfs, XFS and others that can, the new volume shares the space of the old
one until one of them is changed, and takes none. Elsewhere it is copied,
without holes. Limits and labels are those of SRC; it is not pinned.

A directory volume may be in use; what is changed meanwhile may be there or
not. Nobody may write to a disk volume meanwhile; the new one has an image with
the same UUID inside. When it is interrupted there is no new volume.";

/// `volfs export --help`.
pub const EXPORT: &str = "\
Examples:
  volfs export cache -o cache.tar.zst
  volfs export cache -o - | ssh host volfs import cache -
  tar -tvf cache.tar                it is a tar archive like any other

Owners, permissions, times, ACLs, extended attributes, hard links, holes and
device nodes are in it, and the volume's labels and limits; sockets are not.
The archive of a disk volume holds its image, disk.raw. The file appears when
it is complete.";

/// `volfs import --help`.
pub const IMPORT: &str = "\
Examples:
  volfs import cache cache.tar.zst
  volfs import site backup.tar --quota 10G --label from=backup
  gzip -dc backup.tar.gz | volfs import site -

Any tar archive will do. It is refused, and nothing is left of it, when an
entry would be outside of the volume or is reached through a symbolic link,
when it has device nodes (see --devices), when it is damaged, and when it does
not fit into the quota. Owners are taken by number. A disk volume has to be
trusted before this machine mounts it: 'volfs disk trust NAME'.";

/// `volfs config --help`.
pub const CONFIG: &str = "\
Examples:
  volfs config                              all settings
  volfs config trash.retention 30d          delete what was removed 30 days ago
  volfs config trash.retention none         keep it until the trash is emptied
  volfs config names any                    volumes may be called 'New Folder'

trash.retention: how long removed volumes stay in the trash, like 12h, 30d or
2w. The daemon sees to it while the store is mounted; 'volfs mount -o
trash_retention=7d' is for one mount and goes before it. The default is none.

names: which names volumes get. 'portable' is letters, digits, '.', '_' and '-',
with a letter or digit first. 'any' is what people type: spaces inside and every
character of UTF-8 but '/' and controls, with neither '.' nor '-' first, in at
most 255 bytes. It is the default of stores that are made without root;
'portable' is that of root's. Volumes keep the names that they have.";

/// `volfs mv --help`.
pub const MV: &str = "\
Examples:
  volfs mv cache build-cache

The volume may be in use.";

/// `volfs path --help`.
pub const PATH: &str = "\
Examples:
  cd \"$(volfs path cache)\"
  bwrap --bind \"$(volfs path cache)\" /cache ...

With the store mounted it is the directory under the mountpoint; otherwise the
directory in the store, where no limit is enforced.";

/// `volfs set --help`.
pub const SET: &str = "\
Examples:
  volfs set cache --quota 20G
  volfs set cache --quota none --quota-inodes none
  volfs set cache --label team=build --unset-label old
  volfs set db --size 20G           a disk volume grows
  volfs set cache --pin             as 'volfs pin cache'
  volfs set src --trash-files 5G    'volfs trash restore src:PATH' brings files back

Limits hold at once, also for files that are open. Below what a volume holds
already, nothing is lost: it grows again when it holds less. With a limit of
bytes alone it may hold one inode for each 4 KiB of that (or each larger unit in
which the store's file system allocates), at least 1024.";

/// `volfs trash --help`.
pub const TRASH: &str = "\
Examples:
  volfs trash ls
  volfs trash restore cache
  volfs trash restore cache --as cache2   when the name is taken
  volfs trash empty cache                 that one, for ever
  volfs trash empty                       everything in the trash, for ever; asks
  volfs trash empty --yes                 the same without a question
  volfs trash progress                    what is being deleted, and how far it is
  volfs trash ls --files src              removed files that the volume 'src' keeps
  volfs trash restore src:dir/main.c
  volfs trash empty --files src

Files are kept by volumes with 'volfs set NAME --trash-files SIZE'.
'volfs config trash.retention 30d' empties it by itself.";

/// `volfs events --help`.
pub const EVENTS: &str = "\
Examples:
  volfs events
  volfs events --follow             goes on until Ctrl-C
  volfs events --json | jq '.[] | select(.percent >= 95)'
  tail -n 3 /mnt/vol/.volfs/events.jsonl

A volume that reaches 80 or 95 per cent of a limit is told once; again only
after it was 5 points below. The last 1000 events are kept, in events.jsonl in
the store too.";

/// `volfs disk --help`.
pub const DISK: &str = "\
Examples:
  volfs disk check db               says what is wrong, and changes nothing
  volfs disk check --repair db
  volfs disk trust db               after a virtual machine has had the image

The check is e2fsck's, which runs as a user without any rights. While it runs
nobody else can use the volume.";

/// `volfs verify --help`.
pub const VERIFY: &str = "\
Examples:
  volfs verify                      all volumes
  volfs verify cache --repair       and set what the volume is charged
  volfs verify --json | jq '.[] | select(.accounted != .found)'

Walks the files of each volume. Changes of that volume wait meanwhile, reads
and other volumes do not. Exit code 1: a difference was found and not repaired.";

/// `volfs image --help`.
pub const IMAGE: &str = "\
Examples:
  volfs image format db.raw --size 10G --label db
  volfs image inspect db.raw
  volfs image grow db.raw --size 20G

These work on files, not on volumes. Sizes are whole blocks of 4 KiB, 8 MiB to
64 TiB.";

/// `volfs doctor --help`.
pub const DOCTOR: &str = "\
Examples:
  volfs doctor
  volfs doctor --json | jq '.checks[] | select(.state != \"ok\")'
  volfs doctor --rebuild-catalogue

Every check is ok, degraded (it works with something missing, and says what)
or missing (a mount would fail; exit code 1).";

/// `volfs stats --help`.
pub const STATS: &str = "\
Examples:
  volfs stats               requests, errors and latency by operation since the mount
  volfs stats --json        the same, with the whole histogram

The latency buckets are powers of two of a microsecond. Counting takes no lock.";

/// `volfs df --help`.
pub const DF: &str = "\
Examples:
  volfs df                  all volumes, the trash, and the store's file system
  volfs df cache db
  volfs df --json | jq '.store.available'

AVAIL is the smaller of what a volume's limit and the store's file system leave.
df(1) on the mount shows the same figures.";

/// `volfs metrics --help`.
pub const METRICS: &str = "\
Examples:
  volfs metrics
  volfs metrics --listen 127.0.0.1:9464
  volfs metrics --listen /run/volfs/metrics.sock

Without a daemon there is volfs_up 0 alone. Nothing is served unless this runs;
addresses that other machines can reach are refused.";

/// `volfs top --help`.
pub const TOP: &str = "\
Examples:
  volfs top                         until Ctrl-C, busiest first
  volfs top --interval 10 --count 6 | tee rates.txt
  volfs top --json -n 1 | jq '.[0]'

REQ/S are requests of the kernel; READ/S and WRITTEN/S go through the daemon.
What the kernel does by itself (its caches, and files of volumes without a
limit) shows in GROWTH/S and OPEN only.";

/// `volfs completions --help`.
pub const COMPLETIONS: &str = "\
Examples:
  volfs completions bash > /etc/bash_completion.d/volfs
  volfs completions zsh > \"${fpath[1]}/_volfs\"
  volfs completions fish > ~/.config/fish/completions/volfs.fish";

/// `volfs man --help`.
pub const MAN: &str = "\
Examples:
  mkdir man && volfs man man && man -l man/volfs.1
  volfs man /usr/local/share/man/man1";

/// What volfs(1) has besides what the help says: headings and texts.
pub const MAN_SECTIONS: &[(&str, &str)] = &[
    (
        "FILES",
        "\
/var/lib/volfs is the store of root; for others it is volfs in the XDG data
directory. In it, meta.db is the catalogue, volumes/ID/data are the files of a
volume, trash/ID what was removed, daemon.log the log, control.sock the daemon's
socket.

.volfs/ in the mount is not listed, but can be entered: volumes.json, stats.json,
events.jsonl, last_error (why the last change that you asked for was refused),
version, disks/NAME.raw.",
    ),
    (
        "ENVIRONMENT",
        "\
VOLFS_STORE names the store. NO_COLOR turns colours off. RUST_LOG sets the log
level, as error, warn, info, debug or trace.",
    ),
    (
        "SEE ALSO",
        "volfs-mount(1), volfs-create(1), volfs-ls(1), volfs-rm(1), mount(8), fstab(5)",
    ),
];
