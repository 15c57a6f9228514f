// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Files without a name: O_TMPFILE, and giving them one.

use std::os::fd::AsRawFd;
use std::path::Path;

use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, expect_errno, Context, Outcome, Sys};
use crate::filesystem::{CLONES, INSTANCE};
use crate::pattern::blocks;
use crate::sys::{c_path, check, clone_file, unlink, File};

pub const CASES: &[Case] = &[
    case!(a_file_without_a_name_works_and_is_seen_nowhere),
    case!(a_file_without_a_name_can_be_given_one),
    case!(an_exclusive_one_never_gets_a_name),
    case!(a_second_name_works_as_ever),
    case!(it_takes_an_inode_and_gives_everything_back).needs(INSTANCE),
    case!(it_can_be_a_clone).needs(CLONES),
    case!(no_inode_to_be_had_is_enospc).needs(INSTANCE),
];

fn open(dir: &Path, flags: i32) -> Sys<File> {
    File::open_mode(dir, libc::O_TMPFILE | libc::O_RDWR | flags, 0o640)
}

pub(super) fn give_name(file: &File, path: &Path) -> Sys {
    let (from, to) = (
        c_path(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd()))),
        c_path(path),
    );
    // SAFETY: both paths are NUL-terminated and outlive the call.
    check(unsafe {
        libc::linkat(
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::AT_SYMLINK_FOLLOW,
        )
    })
    .map(|_| ())
}

fn a_file_without_a_name_works_and_is_seen_nowhere(t: &Test) -> Outcome {
    let file = open(&t.dir, 0).or_fail("O_TMPFILE")?;
    let data = blocks(1, 3);
    file.write_at(&data, 0)?;
    file.expect_contents(&data, "without a name")?;
    let stat = file.stat()?;
    expect_eq(stat.st_nlink, 0, "links")?;
    expect_eq(stat.st_mode & 0o7777, 0o640, "permissions")?;
    let entries = std::fs::read_dir(&t.dir).or_fail("read_dir")?.count();
    expect_eq(entries, 0, "names in the directory")
}

fn a_file_without_a_name_can_be_given_one(t: &Test) -> Outcome {
    let file = open(&t.dir, 0).or_fail("O_TMPFILE")?;
    file.write_at(b"data", 0)?;
    give_name(&file, &t.path("name")).or_fail("linkat")?;
    expect_eq(file.stat()?.st_nlink, 1, "links")?;
    drop(file);
    let named = File::open(t.path("name"), libc::O_RDONLY).or_fail("open")?;
    named.expect_contents(b"data", "by its name")
}

fn an_exclusive_one_never_gets_a_name(t: &Test) -> Outcome {
    let file = open(&t.dir, libc::O_EXCL).or_fail("O_TMPFILE | O_EXCL")?;
    expect_errno(give_name(&file, &t.path("name")), libc::ENOENT, "linkat")
}

fn a_second_name_works_as_ever(t: &Test) -> Outcome {
    let file = open(&t.dir, 0).or_fail("O_TMPFILE")?;
    give_name(&file, &t.path("one")).or_fail("linkat")?;
    give_name(&file, &t.path("two")).or_fail("linkat again")?;
    expect_eq(file.stat()?.st_nlink, 2, "links")?;
    unlink(t.path("one")).or_fail("unlink")?;
    unlink(t.path("two")).or_fail("unlink")?;
    expect_eq(file.stat()?.st_nlink, 0, "links without a name")?;
    expect_errno(
        give_name(&file, &t.path("three")),
        libc::ENOENT,
        "a name after the last",
    )
}

fn it_takes_an_inode_and_gives_everything_back(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M"), ("nr_inodes", "100")])?;
    let before = fs.space()?;
    let file = open(&fs.root, 0).or_fail("O_TMPFILE")?;
    file.write_at(&blocks(1, 5), 0)?;
    expect_eq(
        fs.space()?.free_inodes,
        before.free_inodes - 1,
        "free inodes",
    )?;
    expect_eq(fs.space()?.free, before.free - 5, "free blocks")?;
    give_name(&file, &fs.path("name")).or_fail("linkat")?;
    expect_eq(
        fs.space()?.free_inodes,
        before.free_inodes - 1,
        "free inodes with a name",
    )?;
    give_name(&file, &fs.path("second")).or_fail("linkat")?;
    for name in ["name", "second"] {
        unlink(fs.path(name)).or_fail("unlink")?;
    }
    drop(file);
    expect_eq(fs.space()?, before, "space after it was closed")
}

fn it_can_be_a_clone(t: &Test) -> Outcome {
    let data = blocks(1, 100);
    let source = t.create_with("source", &data)?;
    let file = open(&t.dir, 0).or_fail("O_TMPFILE")?;
    clone_file(&source, &file).or_fail("FICLONE")?;
    file.expect_contents(&data, "the clone")?;
    give_name(&file, &t.path("name")).or_fail("linkat")?;
    file.write_at(b"!", 5)?;
    source.expect_contents(&data, "the source")
}

fn no_inode_to_be_had_is_enospc(t: &Test) -> Outcome {
    let fs = t.mount(&[("nr_inodes", "2")])?;
    let first = open(&fs.root, 0).or_fail("O_TMPFILE")?;
    expect_errno(open(&fs.root, 0).map(drop), libc::ENOSPC, "a second one")?;
    drop(first);
    open(&fs.root, 0).or_fail("once there is one")?;
    Ok(())
}
