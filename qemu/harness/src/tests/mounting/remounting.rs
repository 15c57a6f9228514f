// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Remounting: changes of options while the filesystem is in use.

use super::options::ALL_OPTIONS;
use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Failure, Outcome};
use crate::filesystem::INSTANCE;
use crate::instance::{mount, shown_options, Instance};
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::sys::{mkdir, unlink, File};

pub const CASES: &[Case] = &[
    case!(remounting_read_only_and_back_works).needs(INSTANCE),
    case!(remounting_changes_the_size).needs(INSTANCE),
    case!(remounting_below_what_is_used_is_refused).needs(INSTANCE),
    case!(remounting_changes_the_number_of_inodes).needs(INSTANCE),
    case!(remounting_with_a_bad_option_changes_nothing).needs(INSTANCE),
    case!(remounting_without_options_keeps_them).needs(INSTANCE),
    case!(a_read_only_mount_takes_no_changes).needs(INSTANCE),
];

fn remount_flags(fs: &Instance, flags: u64, options: &str) -> crate::failure::Sys {
    mount("none", &fs.root, flags | libc::MS_REMOUNT, options)
}

fn remounting_read_only_and_back_works(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = fs.create_with("file", b"data")?;
    let refused = remount_flags(&fs, libc::MS_RDONLY, "");
    expect_errno(
        refused,
        libc::EBUSY,
        "read-only while a file is open for writing",
    )?;
    drop(file);
    remount_flags(&fs, libc::MS_RDONLY, "").or_fail("remounting read-only")?;
    let options = shown_options(&fs.root)?;
    expect(
        options.iter().any(|o| o == "ro"),
        format_args!("ro in {options:?}"),
    )?;
    let opened = File::open(fs.path("file"), libc::O_RDWR);
    expect_errno(opened, libc::EROFS, "opening for writing")?;
    remount_flags(&fs, 0, "").or_fail("remounting read-write")?;
    let file = File::open(fs.path("file"), libc::O_RDWR).or_fail("open")?;
    file.write_at(b"DATA", 0)?;
    file.expect_contents(b"DATA", "after remounting read-write")
}

fn remounting_changes_the_size(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let file = fs.create_with("file", &blocks(1, 16))?;
    expect_errno(
        file.try_pwrite(b"x", 16 * BLOCK64),
        libc::ENOSPC,
        "a write when full",
    )?;
    fs.reconfigure(&[("size", "128k")])
        .map_err(|(error, log)| format!("{error}: {log}"))
        .or_fail("reconfiguring with size=128k")?;
    expect_eq(fs.space()?.blocks, 32, "blocks after size=128k")?;
    file.write_at(&blocks(2, 16), 16 * BLOCK64)?;
    file.truncate(4 * BLOCK64)?;
    remount_flags(&fs, 0, "size=20k").or_fail("remounting with size=20k")?;
    let space = fs.space()?;
    expect_eq(
        (space.blocks, space.free),
        (5, 1),
        "blocks and free ones after size=20k",
    )?;
    file.expect_contents(&blocks(1, 16)[..4 * BLOCK], "the file")
}

fn remounting_below_what_is_used_is_refused(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k"), ("nr_inodes", "10")])?;
    let file = fs.create_with("file", &blocks(1, 10))?;
    for i in 0..5 {
        fs.create(&format!("{i}"))?;
    }
    let before = fs.space()?;
    for (key, value) in [("size", "32k"), ("nr_inodes", "3")] {
        match fs.reconfigure(&[(key, value)]) {
            Ok(()) => return Err(Failure::new(format_args!("{key}={value} was accepted"))),
            Err((error, log)) => {
                expect_eq(error, Errno(libc::EINVAL), format_args!("{key}={value}"))?;
                expect(
                    !log.trim().is_empty(),
                    format_args!("{key}={value}: a message says why"),
                )?;
            }
        }
    }
    expect_eq(fs.space()?, before, "space after the refusals")?;
    file.expect_contents(&blocks(1, 10), "the file")
}

fn remounting_changes_the_number_of_inodes(t: &Test) -> Outcome {
    let fs = t.mount(&[("nr_inodes", "2"), ("size", "1M")])?;
    fs.create("one")?;
    let flags = libc::O_RDWR | libc::O_CREAT;
    expect_errno(
        File::open(fs.path("two"), flags),
        libc::ENOSPC,
        "one file too many",
    )?;
    remount_flags(&fs, 0, "nr_inodes=3").or_fail("remounting with nr_inodes=3")?;
    fs.create("two")?;
    let space = fs.space()?;
    expect_eq(
        (space.inodes, space.free_inodes),
        (3, 0),
        "inodes and free ones",
    )
}

fn remounting_with_a_bad_option_changes_nothing(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let before = (fs.space()?, shown_options(&fs.root)?);
    for options in ["size=banana", "bogus=1", "size=1M,mode=x"] {
        let refused = remount_flags(&fs, 0, options);
        expect_errno(
            refused,
            libc::EINVAL,
            format_args!("remounting with {options}"),
        )?;
        let after = (fs.space()?, shown_options(&fs.root)?);
        expect_eq(
            &after,
            &before,
            format_args!("after remounting with {options}"),
        )?;
    }
    Ok(())
}

fn remounting_without_options_keeps_them(t: &Test) -> Outcome {
    let fs = t.mount(&ALL_OPTIONS)?;
    let before = (fs.space()?, shown_options(&fs.root)?);
    remount_flags(&fs, libc::MS_RDONLY, "").or_fail("remounting read-only")?;
    remount_flags(&fs, 0, "").or_fail("remounting read-write")?;
    expect_eq(
        (fs.space()?, shown_options(&fs.root)?),
        before,
        "space and options",
    )
}

fn a_read_only_mount_takes_no_changes(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    drop(fs.create_with("file", b"data")?);
    mkdir(fs.path("dir"), 0o755).or_fail("mkdir")?;
    remount_flags(&fs, libc::MS_RDONLY, "").or_fail("remounting read-only")?;
    let path = |name: &str| fs.path(name);
    let create = File::open(path("new"), libc::O_RDWR | libc::O_CREAT);
    expect_errno(create, libc::EROFS, "create")?;
    expect_errno(mkdir(path("new"), 0o755), libc::EROFS, "mkdir")?;
    expect_errno(unlink(path("file")), libc::EROFS, "unlink")?;
    expect_errno(crate::sys::rmdir(path("dir")), libc::EROFS, "rmdir")?;
    expect_errno(
        crate::sys::rename(path("file"), path("x")),
        libc::EROFS,
        "rename",
    )?;
    expect_errno(
        crate::sys::link(path("file"), path("x")),
        libc::EROFS,
        "link",
    )?;
    expect_errno(crate::sys::symlink("x", path("x")), libc::EROFS, "symlink")?;
    expect_errno(crate::sys::chmod(path("file"), 0o600), libc::EROFS, "chmod")?;
    expect_errno(
        crate::sys::truncate(path("file"), 0),
        libc::EROFS,
        "truncate",
    )?;
    let file = File::open(path("file"), libc::O_RDONLY).or_fail("open")?;
    file.expect_contents(b"data", "the file")
}
