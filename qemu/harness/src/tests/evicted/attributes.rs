// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What an inode says of itself, after it has left the cache and come back.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::case::{case, Case, Test};
use crate::eviction::{evict, statx_fields};
use crate::failure::{expect, expect_bytes, expect_eq, expect_errno, Context, Outcome};
use crate::fileattr::{get_flags, Flagged, APPEND, DIRSYNC, IMMUTABLE, NOATIME, NODUMP, SYNC};
use crate::filesystem::{Btrfs, Tmpfs, Xfs};
use crate::pattern::{pattern, BLOCK};
use crate::posix_acl::{decode, encode, ACCESS, DEFAULT};
use crate::process::as_user;
use crate::sys::{
    chmod, chown, link, lstat, mkdir, path_call, readlink, set_times, symlink, timespec, unlink,
    wait_for_the_clock, File,
};
use crate::tests::acl::{expect_acl, set_acl};
use crate::tests::xattr;

pub const CASES: &[Case] = &[
    case!(everything_that_stat_says_is_kept),
    case!(attributes_are_kept),
    case!(attributes_can_be_changed_afterwards),
    case!(access_lists_are_kept_and_decide),
    case!(a_default_acl_is_inherited),
    case!(a_file_without_an_acl_has_none),
    case!(flags_are_kept_and_obeyed),
    case!(flags_of_a_directory_are_kept_and_inherited).except(Btrfs, "inherits neither"),
    case!(synchronous_files_are_kept).except(Tmpfs, "has none"),
    case!(synchronous_directories_are_kept)
        .except(Tmpfs, "has none")
        .except(Xfs, "has none"),
    case!(targets_of_every_length_are_kept),
    case!(long_targets_are_kept)
        .except(Xfs, "up to 1024 bytes")
        .except(Btrfs, "up to what fits in a node"),
    case!(devices_work),
    case!(a_fifo_and_a_socket_work),
    case!(times_change_as_ever),
];

fn mknod(path: &Path, mode: u32, device: libc::dev_t) -> Outcome {
    path_call!(mknod(path, mode, device)).or_fail(format_args!("mknod {}", path.display()))
}

/// Creates an inode of each kind, no two alike.
fn one_of_each(t: &Test) -> Outcome<Vec<PathBuf>> {
    let names = [
        "file", "empty", "dir", "short", "long", "fifo", "socket", "char", "block",
    ];
    let paths: Vec<_> = names.iter().map(|name| t.path(name)).collect();
    t.create_with("file", &pattern(1, 3 * BLOCK + 77))?;
    t.create("empty")?;
    mkdir(&paths[2], 0o755).or_fail("mkdir")?;
    mkdir(paths[2].join("inside"), 0o755).or_fail("mkdir")?;
    symlink("x", &paths[3]).or_fail("symlink")?;
    symlink("y/".repeat(200), &paths[4]).or_fail("symlink")?;
    mknod(&paths[5], libc::S_IFIFO | 0o644, 0)?;
    mknod(&paths[6], libc::S_IFSOCK | 0o644, 0)?;
    mknod(&paths[7], libc::S_IFCHR | 0o644, libc::makedev(259, 70_000))?;
    mknod(&paths[8], libc::S_IFBLK | 0o644, libc::makedev(7, 3))?;
    link(&paths[1], t.path("empty, again")).or_fail("link")?;
    for (i, path) in (0..).zip(&paths) {
        path_call!(lchown(path, 1000 + i, u32::MAX - 5 - i)).or_fail("lchown")?;
        if lstat(path).or_fail("lstat")?.st_mode & libc::S_IFMT != libc::S_IFLNK {
            let mode = [0o4751, 0o2000, 0o1777, 0, 0, 0o612, 0o7777, 0o400, 0o066];
            chmod(path, mode[i as usize]).or_fail("chmod")?;
        }
        // Before 1970, and with all digits.
        let accessed = timespec(-1_000_000 - i64::from(i), 123_456_789);
        let modified = timespec(1_700_000_000, 999_999_999 - i64::from(i));
        set_times(path, [accessed, modified]).or_fail("utimensat")?;
    }
    Ok(paths)
}

fn everything_that_stat_says_is_kept(t: &Test) -> Outcome {
    let paths = one_of_each(t)?;
    // Before a first look, too.
    evict(t, &paths)?;
    let seen = paths
        .iter()
        .map(statx_fields)
        .collect::<Outcome<Vec<_>>>()?;
    for round in 0..3 {
        evict(t, &paths)?;
        for (path, seen) in paths.iter().zip(&seen) {
            let again = statx_fields(path)?;
            let what = format!("round {round}, {}", path.display());
            expect_eq(&again, seen, what)?;
        }
    }
    let empty = |name| statx_fields(t.path(name));
    expect_eq(
        empty("empty, again")?,
        empty("empty")?,
        "the other name of a file",
    )
}

/// The attributes of a file: short, long, empty.
fn attributes() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("user.short", b"value".to_vec()),
        ("user.empty", Vec::new()),
        ("user.long", pattern(3, 3000)),
        ("trusted.overlay.opaque", b"y".to_vec()),
        ("security.test", pattern(4, 300)),
        (xattr::CAPABILITY, xattr::capability()),
    ]
}

fn attributes_are_kept(t: &Test) -> Outcome {
    t.create("file")?;
    t.mkdir("dir")?;
    symlink("file", t.path("symlink")).or_fail("symlink")?;
    let paths = ["file", "dir", "symlink"].map(|name| t.path(name));
    for path in &paths {
        let is_link = path.ends_with("symlink");
        for (name, value) in attributes() {
            // The VFS has user attributes of files and directories only.
            if !is_link || !name.starts_with("user.") {
                xattr::set(path, name, &value, 0).or_fail(name)?;
            }
        }
    }
    for _ in 0..2 {
        evict(t, &paths)?;
        for path in &paths {
            let names = xattr::list(path)?;
            let mut expected: Vec<_> = attributes().iter().map(|(name, _)| *name).collect();
            expected.retain(|name| !path.ends_with("symlink") || !name.starts_with("user."));
            expected.sort_unstable();
            expect_eq(names, expected, format_args!("names: {}", path.display()))?;
            for (name, value) in attributes() {
                if !path.ends_with("symlink") || !name.starts_with("user.") {
                    let seen = xattr::get(path, name).or_fail(name)?;
                    expect_bytes(&seen, &value, name)?;
                }
            }
        }
    }
    Ok(())
}

fn attributes_can_be_changed_afterwards(t: &Test) -> Outcome {
    let path = t.create("file")?.path;
    for (name, value) in attributes() {
        xattr::set(&path, name, &value, 0).or_fail(name)?;
    }
    evict(t, [&path])?;
    let again = xattr::set(&path, "user.short", b"new", libc::XATTR_CREATE);
    expect_errno(again, libc::EEXIST, "creating what is there")?;
    xattr::set(&path, "user.short", b"new", libc::XATTR_REPLACE).or_fail("replacing")?;
    xattr::remove(&path, "user.long").or_fail("removing")?;
    let removed = xattr::remove(&path, "user.other");
    expect_errno(removed, libc::ENODATA, "removing what is not there")?;
    // The capability goes with a write, although the file has just come back.
    evict(t, [&path])?;
    let file = File::open(&path, libc::O_RDWR).or_fail("open")?;
    file.write_at(b"data", 0)?;
    drop(file);
    evict(t, [&path])?;
    let expected = [
        "security.test",
        "trusted.overlay.opaque",
        "user.empty",
        "user.short",
    ];
    expect_eq(xattr::list(&path)?, expected, "names")?;
    let value = xattr::get(&path, "user.short").or_fail("get")?;
    expect_bytes(&value, b"new", "the new value")
}

/// Expects users to be able to read and to write a file, or not.
#[track_caller]
fn expect_access(path: &Path, user: u32, read: bool, write: bool) -> Outcome {
    as_user(user, user, || {
        for (flags, allowed) in [(libc::O_RDONLY, read), (libc::O_WRONLY, write)] {
            let opened = File::open(path, flags);
            let what = format!("user {user} opens the file with flags {flags}");
            match allowed {
                true => drop(opened.or_fail(what)?),
                false => expect_errno(opened, libc::EACCES, what)?,
            }
        }
        Ok(())
    })
}

fn access_lists_are_kept_and_decide(t: &Test) -> Outcome {
    const WORDS: &str = "u::rw- u:1000:rw- u:1001:r-- g::--- m::rw- o::---";
    let path = t.create("file")?.path;
    set_acl(&path, ACCESS, WORDS).or_fail("set")?;
    let dir = t.mkdir("dir")?;
    set_acl(&dir, ACCESS, "u::rwx u:1000:r-x g::--- m::r-x o::---").or_fail("set")?;
    File::create(dir.join("inside"))?;
    let before = statx_fields(&path)?;
    // Each user is the first to ask.
    for (user, read, write) in [
        (1000, true, true),
        (1001, true, false),
        (1002, false, false),
    ] {
        evict(t, [path.clone(), dir.clone(), dir.join("inside")])?;
        expect_access(&path, user, read, write)?;
        as_user(user, user, || {
            let found = lstat(dir.join("inside"));
            match user {
                1000 => found.map(drop).or_fail("a search"),
                _ => expect_errno(found.map(drop), libc::EACCES, "a search"),
            }
        })?;
    }
    evict(t, [&path])?;
    expect_acl(&path, ACCESS, WORDS)?;
    expect_eq(statx_fields(&path)?, before, "what stat says")?;
    // The mask follows the mode.
    evict(t, [&path])?;
    chmod(&path, 0o640).or_fail("chmod")?;
    evict(t, [&path])?;
    expect_access(&path, 1000, true, false)?;
    set_acl(&path, ACCESS, "u::rw- g::--- o::---").or_fail("set")?;
    evict(t, [&path])?;
    let gone = xattr::get(&path, ACCESS).map(|acl| decode(&acl));
    expect_errno(gone, libc::ENODATA, "an ACL that is only a mode")?;
    expect_access(&path, 1000, false, false)
}

fn a_default_acl_is_inherited(t: &Test) -> Outcome {
    const WORDS: &str = "u::rwx u:1000:rw- g::r-x m::rwx o::---";
    let dir = t.mkdir("dir")?;
    set_acl(&dir, DEFAULT, WORDS).or_fail("set")?;
    evict(t, [&dir])?;
    let flags = libc::O_RDWR | libc::O_CREAT;
    File::open_mode(dir.join("file"), flags, 0o777).or_fail("create")?;
    evict(t, [dir.clone(), dir.join("file")])?;
    mkdir(dir.join("sub"), 0o777).or_fail("mkdir")?;
    evict(t, [dir.clone(), dir.join("file"), dir.join("sub")])?;
    expect_acl(&dir, DEFAULT, WORDS)?;
    expect_acl(dir.join("file"), ACCESS, WORDS)?;
    expect_acl(dir.join("sub"), ACCESS, WORDS)?;
    expect_acl(dir.join("sub"), DEFAULT, WORDS)
}

fn a_file_without_an_acl_has_none(t: &Test) -> Outcome {
    let path = t.create("file")?.path;
    chmod(&path, 0o604).or_fail("chmod")?;
    evict(t, [&path])?;
    expect_access(&path, 1000, true, false)?;
    let none = xattr::get(&path, ACCESS).map(|acl| decode(&acl));
    expect_errno(none, libc::ENODATA, "an ACL")?;
    evict(t, [&path])?;
    xattr::set(
        &path,
        ACCESS,
        &encode("u::rw- u:1000:-w- g::r-- m::rw- o::---"),
        0,
    )
    .or_fail("set")?;
    expect_access(&path, 1000, false, true)
}

fn flags_of(path: &Path) -> Outcome<u32> {
    let file = File::open(path, libc::O_RDONLY).or_fail("open")?;
    get_flags(&file).or_fail("FS_IOC_GETFLAGS")
}

fn flags_are_kept_and_obeyed(t: &Test) -> Outcome {
    let names = ["immutable", "append", "nodump", "noatime"];
    let paths = names.map(|name| t.path(name));
    let flags = [IMMUTABLE, APPEND, NODUMP, NOATIME];
    let mut guards = Vec::new();
    for (path, flags) in paths.iter().zip(flags) {
        File::create_with(path, b"data")?;
        let old = timespec(1_000_000_000, 1);
        set_times(path, [old, old]).or_fail("utimensat")?;
        guards.push(Flagged::new(path, flags)?);
    }
    let before: Vec<_> = paths.iter().map(statx_fields).collect::<Outcome<_>>()?;
    for _ in 0..2 {
        evict(t, &paths)?;
        for ((path, flags), before) in paths.iter().zip(flags).zip(&before) {
            expect_eq(&statx_fields(path)?, before, "what stat says")?;
            expect_eq(flags_of(path)? & flags, flags, "the flags")?;
        }
    }
    evict(t, &paths)?;
    let [immutable, append, _, noatime] = &paths;
    let opened = File::open(immutable, libc::O_WRONLY);
    expect_errno(opened, libc::EPERM, "opening what is immutable to write")?;
    evict(t, &paths)?;
    expect_errno(unlink(immutable), libc::EPERM, "removing it")?;
    let opened = File::open(append, libc::O_WRONLY);
    expect_errno(opened, libc::EPERM, "opening what only grows")?;
    File::open(append, libc::O_WRONLY | libc::O_APPEND)
        .or_fail("opening it to append")?
        .write_at(b"more", 0)?;
    evict(t, &paths)?;
    let file = File::open(noatime, libc::O_RDONLY).or_fail("open")?;
    let accessed = file.times()?.accessed;
    file.expect_contents(b"data", "a file without access times")?;
    expect_eq(file.times()?.accessed, accessed, "the access time")?;
    drop((file, guards));
    // They can be cleared.
    evict(t, &paths)?;
    File::open(immutable, libc::O_WRONLY)
        .or_fail("open")?
        .write_at(b"D", 0)
}

fn flags_of_a_directory_are_kept_and_inherited(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    let guard = Flagged::new(&dir, NODUMP | NOATIME)?;
    evict(t, [&dir])?;
    File::create(dir.join("file"))?;
    evict(t, [dir.clone(), dir.join("file")])?;
    let inherited = NODUMP | NOATIME;
    expect_eq(flags_of(&dir.join("file"))? & inherited, inherited, "flags")?;
    drop(guard);
    let guard = Flagged::new(&dir, IMMUTABLE)?;
    evict(t, [dir.clone(), dir.join("file")])?;
    expect_errno(mkdir(dir.join("new"), 0o755), libc::EPERM, "mkdir in it")?;
    evict(t, [dir.clone(), dir.join("file")])?;
    expect_errno(unlink(dir.join("file")), libc::EPERM, "unlink in it")?;
    drop(guard);
    unlink(dir.join("file")).or_fail("unlink")
}

fn synchronous_files_are_kept(t: &Test) -> Outcome {
    let path = t.create("file")?.path;
    let _guard = Flagged::new(&path, SYNC)?;
    evict(t, [&path])?;
    expect_eq(flags_of(&path)? & SYNC, SYNC, "flags")
}

fn synchronous_directories_are_kept(t: &Test) -> Outcome {
    let path = t.mkdir("dir")?;
    let _guard = Flagged::new(&path, DIRSYNC)?;
    evict(t, [&path])?;
    expect_eq(flags_of(&path)? & DIRSYNC, DIRSYNC, "flags")
}

/// Makes symbolic links to a file whose targets have these lengths, and follows them.
fn expect_targets(t: &Test, lengths: &[usize]) -> Outcome {
    for name in ["f", "ff"] {
        t.create_with(name, b"data")?;
    }
    // With a name of one letter or of two.
    let target = |len: usize| {
        let name = &"ff"[len % 2..];
        "./".repeat((len - name.len()) / 2) + name
    };
    let paths: Vec<_> = lengths.iter().map(|len| t.path(&len.to_string())).collect();
    for (path, len) in paths.iter().zip(lengths) {
        symlink(target(*len), path).or_fail("symlink")?;
    }
    for _ in 0..2 {
        evict(t, &paths)?;
        for (path, len) in paths.iter().zip(lengths) {
            let size = lstat(path).or_fail("lstat")?.st_size as usize;
            expect_eq(size, *len, "the size")?;
            let seen = readlink(path).or_fail("readlink")?;
            expect_eq(seen, PathBuf::from(target(*len)), "the target")?;
        }
        evict(t, &paths)?;
        for path in &paths {
            let file = File::open(path, libc::O_RDONLY).or_fail("open through a link")?;
            file.expect_contents(b"data", "through a link")?;
        }
    }
    Ok(())
}

fn targets_of_every_length_are_kept(t: &Test) -> Outcome {
    let lengths: Vec<_> = (1..150).chain(1000..1010).collect();
    expect_targets(t, &lengths)
}

fn long_targets_are_kept(t: &Test) -> Outcome {
    expect_targets(t, &[2001, 4093, 4095])
}

fn devices_work(t: &Test) -> Outcome {
    let (null, zero) = (t.path("null"), t.path("zero"));
    mknod(&null, libc::S_IFCHR | 0o666, libc::makedev(1, 3))?;
    mknod(&zero, libc::S_IFCHR | 0o666, libc::makedev(1, 5))?;
    for _ in 0..2 {
        evict(t, [&null, &zero])?;
        let file = File::open(&null, libc::O_RDWR).or_fail("open")?;
        file.write_at(b"data", 0)?;
        expect_eq(file.read_at(0, 10)?.len(), 0, "bytes of the null device")?;
        let file = File::open(&zero, libc::O_RDWR).or_fail("open")?;
        expect_bytes(&file.read_at(0, 10)?, &[0; 10], "the device of zeros")?;
    }
    Ok(())
}

fn a_fifo_and_a_socket_work(t: &Test) -> Outcome {
    let (fifo, socket) = (t.path("fifo"), t.path("socket"));
    mknod(&fifo, libc::S_IFIFO | 0o644, 0)?;
    evict(t, [&fifo])?;
    let ends = File::open(&fifo, libc::O_RDWR).or_fail("open")?;
    crate::sys::write_all(&ends, b"data")?;
    // It stays as long as it is open.
    crate::eviction::drop_caches(t)?;
    let again = File::open(&fifo, libc::O_RDONLY | libc::O_NONBLOCK).or_fail("open")?;
    let bytes = crate::sys::read_all(&again, 4)?;
    expect_bytes(&bytes, b"data", "through the fifo")?;
    drop((ends, again));
    evict(t, [&fifo])?;
    let writer = File::open(&fifo, libc::O_WRONLY | libc::O_NONBLOCK);
    expect_errno(writer, libc::ENXIO, "opening it to write, without readers")?;
    // The path of a socket may have 107 bytes only.
    std::env::set_current_dir(&t.dir).or_fail("chdir")?;
    let connect = || std::os::unix::net::UnixStream::connect("socket");
    let listener = UnixListener::bind("socket").or_fail("bind")?;
    crate::eviction::drop_caches(t)?;
    connect().or_fail("connect to a bound socket")?;
    drop(listener);
    evict(t, [&socket])?;
    let refused = connect().map(drop).map_err(crate::failure::Errno::from);
    expect_errno(refused, libc::ECONNREFUSED, "connect to one that is not")
}

fn times_change_as_ever(t: &Test) -> Outcome {
    let path = t.create_with("file", b"data")?.path;
    let dir = t.mkdir("dir")?;
    let old = timespec(1_000_000_000, 5);
    for path in [&path, &dir] {
        set_times(path, [old, old]).or_fail("utimensat")?;
    }
    evict(t, [&path, &dir])?;
    let before = (statx_fields(&path)?, statx_fields(&dir)?);
    wait_for_the_clock();
    evict(t, [&path, &dir])?;
    File::open(&path, libc::O_RDWR)
        .or_fail("open")?
        .write_at(b"D", 0)?;
    File::create(dir.join("file"))?;
    evict(t, [&path, &dir])?;
    let after = (statx_fields(&path)?, statx_fields(&dir)?);
    for (before, after) in [(before.0, after.0), (before.1, after.1)] {
        for ((name, before), (_, after)) in before.into_iter().zip(after) {
            match name {
                "changed" | "modified" => {
                    expect(
                        after > before,
                        format_args!("{name}: {after}, was {before}"),
                    )?;
                }
                "size" | "blocks" => (),
                _ => expect_eq(after, before, name)?,
            }
        }
    }
    chown(&path, 5, 6).or_fail("chown")?;
    let changed = lstat(&path).or_fail("lstat")?;
    evict(t, [&path])?;
    let again = lstat(&path).or_fail("lstat")?;
    expect_eq(
        (again.st_uid, again.st_gid, again.st_ctime_nsec),
        (5, 6, changed.st_ctime_nsec),
        "after chown",
    )
}
