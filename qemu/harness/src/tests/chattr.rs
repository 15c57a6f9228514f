// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Immutable, append-only and other flags of files: chattr(1).

use std::os::fd::AsRawFd;
use std::path::Path;

use super::fallocate::fallocate;
use super::xattr;
use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Outcome, Sys};
use crate::fileattr::{
    get_attributes, get_extended, get_flags, set_attributes, set_extended, set_flags, Attributes,
    Extended, Flagged, APPEND, DIRSYNC, EXTENDED, IMMUTABLE, NOATIME, NODUMP, SYNC,
};
use crate::filesystem::{Btrfs, Ext4, Tmpfs, Xfs, CLONES};
use crate::mapping::{Mapping, READ, WRITE};
use crate::pattern::{blocks, BLOCK64};
use crate::process::{as_user, in_child, run_program, End};
use crate::sys::{
    c_path, check, chmod, chown, clone_file, clone_range, copy_once, dedupe, link, lstat, mkdir,
    new_clone, rename, rmdir, set_times, symlink, timespec, truncate, unlink, wait_for_the_clock,
    Deduped, File, Times,
};

pub const CASES: &[Case] = &[
    case!(flags_are_set_and_read_by_every_call),
    case!(statx_shows_the_flags),
    case!(an_immutable_file_cannot_be_changed),
    case!(a_clone_into_an_immutable_file_is_refused).needs(CLONES),
    case!(an_immutable_directory_cannot_be_changed),
    case!(an_append_only_file_only_grows),
    case!(an_append_only_directory_only_gains_names),
    case!(what_is_made_in_a_directory_inherits_nodump_and_noatime)
        .except(Btrfs, "inherits neither"),
    case!(reading_a_file_with_noatime_leaves_its_access_time),
    case!(a_clone_has_no_flags_of_the_source).needs(CLONES),
    case!(flags_that_nobody_keeps_are_refused)
        .except(Ext4, "keeps some of them")
        .except(Btrfs, "keeps some of them"),
    case!(an_extent_size_is_refused)
        .except(Xfs, "has them")
        .except(Ext4, "has them"),
    case!(synchronous_files_are_kept_and_shown).except(Tmpfs, "has none"),
    case!(synchronous_directories_are_kept_and_shown)
        .except(Tmpfs, "has none")
        .except(Xfs, "has none"),
    case!(an_open_file_that_becomes_immutable_cannot_be_truncated)
        .except(Tmpfs, "allows open descriptors")
        .except(Xfs, "allows open descriptors"),
    case!(immutable_and_append_only_need_the_capability),
    case!(only_the_owner_may_change_flags),
    case!(a_read_only_mount_refuses_flags),
    case!(changing_flags_changes_the_change_time),
    case!(chattr_and_lsattr_work),
];

const ALL: u32 = IMMUTABLE | APPEND | NODUMP | NOATIME;

fn open(path: impl AsRef<Path>) -> Outcome<File> {
    File::open(path, libc::O_RDONLY).or_fail("open")
}

/// Returns the flags of a file, of those that these tests use.
fn flags_of(path: impl AsRef<Path>) -> Outcome<u32> {
    Ok(get_flags(&open(path)?).or_fail("FS_IOC_GETFLAGS")? & ALL)
}

fn extended(flags: u32) -> u32 {
    let chosen = EXTENDED.iter().filter(|(flag, _)| flags & flag != 0);
    chosen.map(|(_, xflag)| xflag).sum()
}

fn flags_are_set_and_read_by_every_call(t: &Test) -> Outcome {
    t.create("file")?;
    t.mkdir("dir")?;
    for name in ["file", "dir"] {
        let path = t.path(name);
        let file = open(&path)?;
        let _guard = Flagged::new(&path, 0)?;
        for flags in [NODUMP, IMMUTABLE, APPEND, NOATIME, ALL, 0] {
            let expect_flags = |set_by: &str| -> Outcome {
                let what = format!("flags of the {name}, set by {set_by}");
                expect_eq(flags_of(&path)?, flags, &what)?;
                let seen = get_extended(&file).or_fail("FS_IOC_FSGETXATTR")?.xflags;
                expect_eq(
                    seen & 0xff,
                    extended(flags),
                    format_args!("extended {what}"),
                )?;
                let seen = get_attributes(&path).or_fail("file_getattr")?.xflags;
                expect_eq(
                    seen & 0xff,
                    extended(flags).into(),
                    format_args!("file_getattr: {what}"),
                )
            };
            set_flags(&file, flags).or_fail("FS_IOC_SETFLAGS")?;
            expect_flags("FS_IOC_SETFLAGS")?;
            set_flags(&file, 0).or_fail("FS_IOC_SETFLAGS of none")?;
            let wanted = Extended {
                xflags: extended(flags),
                ..Extended::default()
            };
            set_extended(&file, wanted).or_fail("FS_IOC_FSSETXATTR")?;
            expect_flags("FS_IOC_FSSETXATTR")?;
            set_flags(&file, 0).or_fail("FS_IOC_SETFLAGS of none")?;
            let wanted = Attributes {
                xflags: extended(flags).into(),
                ..Attributes::default()
            };
            set_attributes(&path, wanted).or_fail("file_setattr")?;
            expect_flags("file_setattr")?;
        }
    }
    Ok(())
}

fn statx_shows_the_flags(t: &Test) -> Outcome {
    // STATX_ATTR_IMMUTABLE, APPEND and NODUMP have the values of the flags.
    const SHOWN: u64 = (IMMUTABLE | APPEND | NODUMP) as u64;
    t.create("file")?;
    t.mkdir("dir")?;
    for name in ["file", "dir"] {
        for flags in [0, IMMUTABLE, APPEND, NODUMP, APPEND | NODUMP] {
            let _guard = Flagged::new(t.path(name), flags)?;
            let path = c_path(&t.path(name));
            // SAFETY: a statx of zeros is a valid value; path and buffer outlive the call.
            let statx = unsafe {
                let mut statx: libc::statx = std::mem::zeroed();
                let mask = libc::STATX_BASIC_STATS;
                check(libc::statx(
                    libc::AT_FDCWD,
                    path.as_ptr(),
                    0,
                    mask,
                    &mut statx,
                ))
                .or_fail("statx")?;
                statx
            };
            let mask = statx.stx_attributes_mask & SHOWN;
            expect_eq(mask, SHOWN, "attributes that statx knows")?;
            expect_eq(
                statx.stx_attributes & SHOWN,
                flags.into(),
                format_args!("attributes of the {name}"),
            )?;
        }
    }
    Ok(())
}

/// Expects each of these calls to be EPERM.
fn expect_refused(subject: &str, calls: Vec<(&str, Sys)>) -> Outcome {
    calls.into_iter().try_for_each(|(what, result)| {
        expect_errno(result, libc::EPERM, format_args!("{what}, {subject}"))
    })
}

fn opened(path: &Path, flags: i32) -> Sys {
    File::open(path, flags).map(drop)
}

/// Makes two files of the same bytes.
fn two_files(t: &Test) -> Outcome<(Vec<u8>, File, File)> {
    let data = blocks(1, 4);
    let file = t.create_with("file", &data)?;
    let other = t.create_with("other", &data)?;
    Ok((data, file, other))
}

/// Makes the calls that change a file's names and attributes.
fn change_names_and_attributes(t: &Test, path: &Path, other: &Path) -> Vec<(&'static str, Sys)> {
    vec![
        ("truncate", truncate(path, 5)),
        ("unlink", unlink(path)),
        ("rename", rename(path, t.path("renamed"))),
        ("rename onto it", rename(other, path)),
        ("link", link(path, t.path("link"))),
        ("chmod", chmod(path, 0o600)),
        ("chown", chown(path, 1, 1)),
        ("setxattr", xattr::set(path, "user.b", b"x", 0)),
    ]
}

fn an_immutable_file_cannot_be_changed(t: &Test) -> Outcome {
    let (data, file, other) = two_files(t)?;
    let path = &file.path;
    xattr::set(path, "user.a", b"x", 0).or_fail("set")?;
    let guard = Flagged::new(path, IMMUTABLE)?;
    let calls = || {
        vec![
            ("open(O_WRONLY)", opened(path, libc::O_WRONLY)),
            ("open(O_RDWR)", opened(path, libc::O_RDWR)),
            (
                "open(O_RDWR | O_APPEND)",
                opened(path, libc::O_RDWR | libc::O_APPEND),
            ),
            (
                "open(O_TRUNC)",
                opened(path, libc::O_RDONLY | libc::O_TRUNC),
            ),
            (
                "utimensat",
                set_times(path, [timespec(5, 5), timespec(5, 5)]),
            ),
            ("removexattr", xattr::remove(path, "user.a")),
            ("fallocate", fallocate(&file, 0, 0, 10 * BLOCK64)),
            (
                "punching a hole",
                fallocate(
                    &file,
                    libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                    0,
                    4096,
                ),
            ),
            (
                "copy_file_range",
                copy_once(&other, 0, &file, 0, 100).map(|_| ()),
            ),
        ]
    };
    expect_refused("an immutable file", calls())?;
    expect_refused(
        "an immutable file",
        change_names_and_attributes(t, path, &other.path),
    )?;
    // Reads still work, and a private mapping does not change the file.
    let read = open(path)?;
    read.expect_contents(&data, "an immutable file")?;
    let map = Mapping::private(&read, data.len())?;
    map.store(0, b"mine");
    let shared = Mapping::try_new(&read, 0, data.len(), READ | WRITE, libc::MAP_SHARED);
    expect_errno(shared, libc::EACCES, "a shared writable mapping")?;
    expect_eq(xattr::list(path)?, vec!["user.a"], "attributes")?;
    drop(guard);
    file.write_at(b"changed", 0)?;
    opened(path, libc::O_RDWR).or_fail("open once it is ordinary again")?;

    // A file without a name cannot be linked.
    let nameless = File::open_mode(&t.dir, libc::O_RDWR | libc::O_TMPFILE, 0o600)
        .or_fail("open(O_TMPFILE)")?;
    set_flags(&nameless, IMMUTABLE).or_fail("FS_IOC_SETFLAGS")?;
    let from = c_path(format!("/proc/self/fd/{}", nameless.as_raw_fd()).as_ref());
    let to = c_path(&t.path("named"));
    // SAFETY: both paths are valid during the call.
    let linked = check(unsafe {
        let at = libc::AT_FDCWD;
        libc::linkat(at, from.as_ptr(), at, to.as_ptr(), libc::AT_SYMLINK_FOLLOW)
    });
    expect_errno(linked, libc::EPERM, "linkat of a nameless immutable file")
}

fn a_clone_into_an_immutable_file_is_refused(t: &Test) -> Outcome {
    let (_, file, other) = two_files(t)?;
    let _guard = Flagged::new(&file.path, IMMUTABLE)?;
    expect_refused(
        "an immutable file",
        vec![
            ("FICLONE", clone_file(&other, &file)),
            ("FICLONERANGE", clone_range(&other, 0, BLOCK64, &file, 0)),
        ],
    )?;
    expect_eq(
        dedupe(&other, 0, BLOCK64, &file, 0).or_fail("FIDEDUPERANGE")?,
        Deduped::Failed(Errno(libc::EPERM)),
        "FIDEDUPERANGE into an immutable file",
    )
}

fn an_immutable_directory_cannot_be_changed(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    let at = |name: &str| dir.join(name);
    let file = File::create_with(at("file"), b"data")?;
    let other = t.create("other")?;
    mkdir(at("sub"), 0o755).or_fail("mkdir")?;
    let _guard = Flagged::new(&dir, IMMUTABLE)?;
    let new = [
        ("create", opened(&at("new"), libc::O_RDWR | libc::O_CREAT)),
        ("mkdir", mkdir(at("new"), 0o755)),
        ("symlink", symlink("x", at("new"))),
        ("link", link(&other.path, at("new"))),
        ("rename into it", rename(&other.path, at("new"))),
    ];
    // Some kernels return EACCES for it.
    for (what, result) in new {
        crate::failure::expect_one_of(result, &[libc::EPERM, libc::EACCES], what)?;
    }
    expect_refused(
        "an immutable directory",
        vec![
            ("unlink", unlink(at("file"))),
            ("rmdir", rmdir(at("sub"))),
            ("rename out of it", rename(at("file"), t.path("out"))),
            ("rename within it", rename(at("file"), at("other"))),
            ("its own removal", rmdir(&dir)),
            ("its own renaming", rename(&dir, t.path("moved"))),
            ("chmod", chmod(&dir, 0o700)),
        ],
    )?;
    // The files in the directory can be changed as before.
    file.write_at(b"changed", 0)?;
    File::create(at("sub/new"))?;
    unlink(at("sub/new")).or_fail("unlink in a subdirectory")
}

fn an_append_only_file_only_grows(t: &Test) -> Outcome {
    let (data, file, other) = two_files(t)?;
    let path = &file.path;
    let guard = Flagged::new(path, APPEND)?;
    let append = File::open(path, libc::O_WRONLY | libc::O_APPEND).or_fail("open to append")?;
    // SAFETY: plain calls on an open descriptor.
    let cleared = check(unsafe { libc::fcntl(append.as_raw_fd(), libc::F_SETFL, 0) });
    let mapped = Mapping::try_new(&file, 0, data.len(), READ | WRITE, libc::MAP_SHARED);
    expect_errno(mapped, libc::EACCES, "a shared writable mapping")?;
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    expect_refused(
        "an append-only file",
        vec![
            ("open(O_WRONLY)", opened(path, libc::O_WRONLY)),
            ("open(O_TRUNC)", opened(path, libc::O_RDWR | libc::O_TRUNC)),
            (
                "open(O_APPEND | O_TRUNC)",
                opened(path, libc::O_RDWR | libc::O_TRUNC | libc::O_APPEND),
            ),
            ("ftruncate", file.try_truncate(10)),
            ("clearing O_APPEND", cleared.map(|_| ())),
            ("punching a hole", fallocate(&file, punch, 0, BLOCK64)),
            (
                "zeroing",
                fallocate(&file, libc::FALLOC_FL_ZERO_RANGE, 0, BLOCK64),
            ),
            (
                "collapsing",
                fallocate(&file, libc::FALLOC_FL_COLLAPSE_RANGE, 0, BLOCK64),
            ),
            (
                "inserting",
                fallocate(&file, libc::FALLOC_FL_INSERT_RANGE, 0, BLOCK64),
            ),
        ],
    )?;
    expect_refused(
        "an append-only file",
        change_names_and_attributes(t, path, &other.path),
    )?;
    let more = blocks(2, 1);
    crate::sys::write_all(&append, &more)?;
    let all = [&data[..], &more[..]].concat();
    open(path)?.expect_contents(&all, "after appending")?;
    // Allocating behind the end does not change contents.
    fallocate(&file, libc::FALLOC_FL_KEEP_SIZE, 0, 8 * BLOCK64).or_fail("fallocate")?;
    drop(guard);
    truncate(path, 5).or_fail("truncate once it is ordinary again")
}

fn an_append_only_directory_only_gains_names(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    let at = |name: &str| dir.join(name);
    let _guard = Flagged::new(&dir, APPEND)?;
    let file = File::create(at("file"))?;
    mkdir(at("sub"), 0o755).or_fail("mkdir")?;
    let other = t.create("other")?;
    rename(&other.path, at("other")).or_fail("rename into it")?;
    link(at("file"), at("link")).or_fail("link")?;
    expect_refused(
        "an append-only directory",
        vec![
            ("unlink", unlink(at("file"))),
            ("rmdir", rmdir(at("sub"))),
            ("rename out of it", rename(at("file"), t.path("out"))),
            ("rename within it", rename(at("file"), at("new"))),
            ("its own removal", rmdir(&dir)),
        ],
    )?;
    file.write_at(b"anything", 0)?;
    file.truncate(0)
}

fn what_is_made_in_a_directory_inherits_nodump_and_noatime(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    File::create(dir.join("before"))?;
    for flags in [NODUMP, NODUMP | NOATIME, NOATIME, 0] {
        let _guard = Flagged::new(&dir, flags)?;
        let file = dir.join(format!("file-{flags}"));
        let sub = dir.join(format!("sub-{flags}"));
        File::create(&file)?;
        mkdir(&sub, 0o755).or_fail("mkdir")?;
        mkdir(sub.join("sub"), 0o755).or_fail("mkdir")?;
        for path in [&file, &sub, &sub.join("sub")] {
            expect_eq(flags_of(path)?, flags, format_args!("{}", path.display()))?;
        }
    }
    expect_eq(flags_of(dir.join("before"))?, 0, "an older file")?;
    let _guard = Flagged::new(&dir, APPEND)?;
    File::create(dir.join("new"))?;
    expect_eq(
        flags_of(dir.join("new"))?,
        0,
        "append-only is not inherited",
    )?;
    Ok(())
}

fn reading_a_file_with_noatime_leaves_its_access_time(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let old = timespec(1_000_000_000, 0);
    for (flags, changes) in [(0, true), (NOATIME, false), (0, true)] {
        set_times(&file.path, [old, old]).or_fail("utimensat")?;
        let _guard = Flagged::new(&file.path, flags)?;
        let before = file.times()?;
        file.read_at(0, 4)?;
        Mapping::shared_read(&file, 4096)?.load_byte(0);
        expect_eq(
            file.times()?.accessed != before.accessed,
            changes,
            format_args!("with flags {flags:#x}, whether reading changes the access time"),
        )?;
    }
    Ok(())
}

fn a_clone_has_no_flags_of_the_source(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(1, 4))?;
    let _guard = Flagged::new(&source.path, IMMUTABLE | NODUMP | NOATIME)?;
    let clone = new_clone(&open(&source.path)?, t.path("clone"))?;
    expect_eq(flags_of(&clone.path)?, 0, "flags of the clone")?;
    clone.write_at(b"changed", 0)
}

fn flags_that_nobody_keeps_are_refused(t: &Test) -> Outcome {
    let file = t.create("file")?;
    for flag in [0x1, 0x2, 0x4, 0x4000, 0x2_0000, 0x80_0000] {
        for flags in [flag, flag | NODUMP] {
            expect_errno(
                set_flags(&file, flags),
                libc::EOPNOTSUPP,
                format_args!("FS_IOC_SETFLAGS({flags:#x})"),
            )?;
        }
    }
    let unknown = Extended {
        xflags: 0x4000_0000,
        ..Extended::default()
    };
    expect_errno(
        set_extended(&file, unknown),
        libc::EOPNOTSUPP,
        "FS_IOC_FSSETXATTR of an unknown flag",
    )?;
    expect_eq(flags_of(&file.path)?, 0, "flags after all that was refused")
}

fn synchronous_files_are_kept_and_shown(t: &Test) -> Outcome {
    const LETTERS: u32 = ALL | SYNC;
    let dir = t.mkdir("dir")?;
    let file = t.create("file")?;
    for path in [&file.path, &dir] {
        let _guard = Flagged::new(path, SYNC | NODUMP)?;
        let opened = open(path)?;
        let seen = get_flags(&opened).or_fail("FS_IOC_GETFLAGS")?;
        expect_eq(seen & LETTERS, SYNC | NODUMP, "flags")?;
        let seen = get_extended(&opened).or_fail("FS_IOC_FSGETXATTR")?.xflags;
        expect_eq(seen & 0xff, extended(SYNC | NODUMP), "extended flags")?;
        let seen = get_attributes(path).or_fail("file_getattr")?.xflags;
        let wanted = extended(SYNC | NODUMP).into();
        expect_eq(seen & 0xff, wanted, "what file_getattr says")?;
        // By the other call, and back.
        let wanted = Extended {
            xflags: extended(NODUMP),
            ..Extended::default()
        };
        set_extended(&opened, wanted).or_fail("FS_IOC_FSSETXATTR")?;
        let seen = get_flags(&opened).or_fail("FS_IOC_GETFLAGS")?;
        expect_eq(seen & LETTERS, NODUMP, "flags after taking it away")?;
    }
    let _guard = Flagged::new(&file.path, SYNC)?;
    file.write_at(b"written at once", 0)?;
    file.expect_contents(b"written at once", "a synchronous file")
}

fn synchronous_directories_are_kept_and_shown(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    let _guard = Flagged::new(&dir, DIRSYNC)?;
    let flags = || get_flags(&open(&dir)?).or_fail("FS_IOC_GETFLAGS");
    expect_eq(flags()? & DIRSYNC, DIRSYNC, "flags")?;
    // The other call does not know the flag, and keeps it.
    let wanted = Extended {
        xflags: extended(NODUMP),
        ..Extended::default()
    };
    set_extended(&open(&dir)?, wanted).or_fail("FS_IOC_FSSETXATTR")?;
    let wanted = DIRSYNC | NODUMP;
    expect_eq(flags()? & wanted, wanted, "flags after FS_IOC_FSSETXATTR")?;
    File::create(dir.join("file"))?;
    unlink(dir.join("file")).or_fail("unlink")
}

fn an_open_file_that_becomes_immutable_cannot_be_truncated(t: &Test) -> Outcome {
    let data = blocks(1, 4);
    let file = t.create_with("file", &data)?;
    let guard = Flagged::new(&file.path, IMMUTABLE)?;
    for size in [0, 5, data.len() as u64, 2 * data.len() as u64] {
        let refused = file.try_truncate(size);
        expect_errno(refused, libc::EPERM, format_args!("ftruncate to {size}"))?;
    }
    file.expect_contents(&data, "the file")?;
    drop(guard);
    file.truncate(5)
}

fn an_extent_size_is_refused(t: &Test) -> Outcome {
    const FS_XFLAG_EXTSIZE: u32 = 0x800;
    let file = t.create("file")?;
    let extent_size = Extended {
        xflags: FS_XFLAG_EXTSIZE,
        extsize: 65536,
        ..Extended::default()
    };
    let refused = set_extended(&file, extent_size);
    expect_errno(refused, libc::EOPNOTSUPP, "an extent size")
}

fn immutable_and_append_only_need_the_capability(t: &Test) -> Outcome {
    let file = t.create("file")?;
    chown(&file.path, 1000, 1000).or_fail("chown")?;
    as_user(1000, 1000, || {
        for flag in [IMMUTABLE, APPEND] {
            expect_errno(set_flags(&file, flag), libc::EPERM, "FS_IOC_SETFLAGS")?;
            let wanted = Extended {
                xflags: extended(flag),
                ..Extended::default()
            };
            let refused = set_extended(&file, wanted);
            expect_errno(refused, libc::EPERM, "FS_IOC_FSSETXATTR")?;
        }
        set_flags(&file, NODUMP | NOATIME).or_fail("the owner may set these")?;
        set_flags(&file, 0).or_fail("and take them away")
    })?;
    let _guard = Flagged::new(&file.path, IMMUTABLE)?;
    as_user(1000, 1000, || {
        expect_errno(set_flags(&file, 0), libc::EPERM, "taking it away")?;
        // Setting a flag that is set changes nothing.
        set_flags(&file, IMMUTABLE).or_fail("the same flags")
    })
}

fn only_the_owner_may_change_flags(t: &Test) -> Outcome {
    let file = t.create("file")?;
    chmod(&file.path, 0o666).or_fail("chmod")?;
    as_user(1000, 1000, || {
        let own = open(&file.path)?;
        get_flags(&own).or_fail("FS_IOC_GETFLAGS")?;
        expect_errno(set_flags(&own, NODUMP), libc::EPERM, "FS_IOC_SETFLAGS")
    })
}

fn a_read_only_mount_refuses_flags(t: &Test) -> Outcome {
    t.create("file")?;
    let file = open(t.read_only_view()?.join("file"))?;
    get_flags(&file).or_fail("FS_IOC_GETFLAGS")?;
    expect_errno(set_flags(&file, NODUMP), libc::EROFS, "FS_IOC_SETFLAGS")
}

fn changing_flags_changes_the_change_time(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let before = file.times()?;
    wait_for_the_clock();
    let _guard = Flagged::new(&file.path, NODUMP)?;
    let after = file.times()?;
    expect(after.changed > before.changed, "ctime is new")?;
    expect_eq(after.modified, before.modified, "mtime")?;
    let stat = lstat(&file.path).or_fail("lstat")?;
    expect_eq(Times::of(&stat), after, "what lstat says")
}

fn chattr_and_lsattr_work(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let path = file.path.to_string_lossy().into_owned();
    let _guard = Flagged::new(&file.path, 0)?;
    let run = |program: &str, arguments: &[&str]| -> Outcome<String> {
        let (end, said) = run_program(program.as_ref(), arguments)?;
        expect_eq(end, End::Exited(0), format_args!("{program} {arguments:?}"))?;
        Ok(said)
    };
    run("/usr/bin/chattr", &["+iadA", &path])?;
    let seen = run("/usr/bin/lsattr", &[&path])?;
    let letters = seen.split(' ').next().unwrap_or_default();
    expect_eq(
        letters.replace('-', ""),
        "iadA",
        "letters that lsattr prints",
    )?;
    in_child(|| expect_errno(unlink(&file.path), libc::EPERM, "unlink"))?;
    run("/usr/bin/chattr", &["=", &path])?;
    expect_eq(flags_of(&file.path)?, 0, "flags after chattr =")
}
