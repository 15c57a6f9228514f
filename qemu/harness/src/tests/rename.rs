// SPDX-License-Identifier: GPL-2.0 OR MIT
//! rename(2), without flags.

use std::path::Path;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, expect_one_of, Context, Outcome};
use crate::filesystem::{Btrfs, Xfs};
use crate::sys::{exists, link, mkdir, readlink, rename, rmdir, symlink, File};

use super::names::{inode, links};

pub const CASES: &[Case] = &[
    case!(rename_moves_a_file_within_and_between_directories),
    case!(rename_onto_an_existing_file_replaces_it),
    case!(rename_onto_the_same_file_does_nothing),
    case!(rename_moves_a_directory_and_its_parent),
    case!(rename_of_directories_counts_links).except(Btrfs, "directories always have one link"),
    case!(rename_onto_an_empty_directory_replaces_it),
    case!(rename_onto_a_full_directory_is_enotempty),
    case!(rename_into_its_own_child_is_einval),
    case!(rename_does_not_mix_files_and_directories),
    case!(rename_of_nothing_is_enoent),
    case!(rename_of_an_open_file_keeps_it_open),
    case!(rename_moves_a_symlink_itself),
];

fn rename_moves_a_file_within_and_between_directories(t: &Test) -> Outcome {
    let file = t.create_with("a", b"data")?;
    let number = file.stat()?.st_ino;
    let dir = t.mkdir("dir")?;
    for (from, to) in [
        (t.path("a"), t.path("b")),
        (t.path("b"), dir.join("b")),
        (dir.join("b"), dir.join("c")),
        (dir.join("c"), t.path("a")),
    ] {
        rename(&from, &to).or_fail("rename")?;
        expect(!exists(&from), "the old name is gone")?;
        expect_eq(inode(&to)?, number, "inode number at the new name")?;
        expect_eq(links(&to)?, 1, "links")?;
    }
    file.expect_contents(b"data", "after four renames")
}

fn rename_onto_an_existing_file_replaces_it(t: &Test) -> Outcome {
    let new = t.create_with("new", b"new")?;
    let old = t.create_with("old", b"old contents")?;
    rename(t.path("new"), t.path("old")).or_fail("rename")?;
    expect_eq(inode(t.path("old"))?, new.stat()?.st_ino, "the name's file")?;
    expect_eq(old.stat()?.st_nlink, 0, "links of the replaced file")?;
    old.expect_contents(b"old contents", "the replaced file, still open")?;
    expect(!exists(t.path("new")), "the old name is gone")?;
    symlink("x", t.path("symlink")).or_fail("symlink")?;
    rename(t.path("symlink"), t.path("old")).or_fail("rename of a symlink onto a file")?;
    expect_eq(new.stat()?.st_nlink, 0, "links of the replaced file")
}

fn rename_onto_the_same_file_does_nothing(t: &Test) -> Outcome {
    t.create("one")?;
    rename(t.path("one"), t.path("one")).or_fail("rename onto itself")?;
    expect_eq(links(t.path("one"))?, 1, "links after renaming onto itself")?;
    link(t.path("one"), t.path("two")).or_fail("link")?;
    rename(t.path("one"), t.path("two")).or_fail("rename onto another link of it")?;
    expect_eq(links(t.path("one"))?, 2, "both names stay")?;
    expect(exists(t.path("two")), "both names stay")
}

fn rename_moves_a_directory_and_its_parent(t: &Test) -> Outcome {
    let (a, b) = (t.mkdir("a")?, t.mkdir("b")?);
    mkdir(a.join("moving"), 0o755).or_fail("mkdir")?;
    File::create(a.join("moving/file"))?.write_at(b"inside", 0)?;
    rename(a.join("moving"), b.join("moved")).or_fail("rename")?;
    expect_eq(
        inode(b.join("moved/.."))?,
        inode(&b)?,
        "the parent of the moved directory",
    )?;
    let file = File::open(b.join("moved/file"), libc::O_RDONLY).or_fail("open")?;
    file.expect_contents(b"inside", "in the moved directory")?;
    rmdir(&a).or_fail("rmdir of the directory it left")?;
    expect_errno(
        rmdir(&b),
        libc::ENOTEMPTY,
        "rmdir of the directory it is in",
    )
}

fn rename_of_directories_counts_links(t: &Test) -> Outcome {
    let (a, b) = (t.mkdir("a")?, t.mkdir("b")?);
    mkdir(a.join("x"), 0o755).or_fail("mkdir")?;
    rename(a.join("x"), b.join("x")).or_fail("rename")?;
    expect_eq(
        (links(&a)?, links(&b)?),
        (2, 3),
        "links of the old and new parent",
    )?;
    rename(b.join("x"), b.join("y")).or_fail("rename within")?;
    expect_eq(links(&b)?, 3, "links of the parent after a rename within")?;
    mkdir(a.join("z"), 0o755).or_fail("mkdir")?;
    rename(a.join("z"), b.join("y")).or_fail("rename onto an empty directory")?;
    expect_eq(
        (links(&a)?, links(&b)?),
        (2, 3),
        "links after replacing a directory",
    )?;
    expect_eq(links(b.join("y"))?, 2, "links of the moved directory")?;
    mkdir(b.join("w"), 0o755).or_fail("mkdir")?;
    rename(b.join("w"), b.join("y")).or_fail("replace within one parent")?;
    expect_eq(links(&b)?, 3, "links after replacing within one parent")
}

fn rename_onto_an_empty_directory_replaces_it(t: &Test) -> Outcome {
    let (from, to) = (t.mkdir("from")?, t.mkdir("to")?);
    File::create(from.join("file"))?;
    let number = inode(&from)?;
    let old = File::open(&to, libc::O_RDONLY).or_fail("open")?;
    rename(&from, &to).or_fail("rename")?;
    expect_eq(inode(&to)?, number, "the name's directory")?;
    expect(exists(to.join("file")), "its file came along")?;
    expect_eq(old.stat()?.st_nlink, 0, "links of the replaced directory")
}

fn rename_onto_a_full_directory_is_enotempty(t: &Test) -> Outcome {
    let (from, to) = (t.mkdir("from")?, t.mkdir("to")?);
    File::create(to.join("file"))?;
    // POSIX allows both; tmpfs, which reflinkfs follows, returns ENOTEMPTY.
    let allowed: &[i32] = match t.filesystem {
        Xfs => &[libc::EEXIST],
        _ => &[libc::ENOTEMPTY],
    };
    expect_one_of(rename(&from, &to), allowed, "rename onto a full directory")?;
    expect(exists(&from) && exists(to.join("file")), "nothing changed")
}

fn rename_into_its_own_child_is_einval(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    mkdir(dir.join("sub"), 0o755).or_fail("mkdir")?;
    expect_errno(
        rename(&dir, dir.join("x")),
        libc::EINVAL,
        "rename into itself",
    )?;
    expect_errno(
        rename(&dir, dir.join("sub/x")),
        libc::EINVAL,
        "rename into a child",
    )?;
    let up = rename(dir.join("sub"), &dir);
    expect_errno(up, libc::ENOTEMPTY, "rename of a child onto its parent")?;
    expect_errno(
        rename(dir.join("."), t.path("x")),
        libc::EBUSY,
        "rename of .",
    )?;
    expect_errno(
        rename(dir.join("sub/.."), t.path("x")),
        libc::EBUSY,
        "rename of ..",
    )
}

fn rename_does_not_mix_files_and_directories(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    t.create("file")?;
    expect_errno(
        rename(t.path("file"), &dir),
        libc::EISDIR,
        "rename of a file onto a directory",
    )?;
    expect_errno(
        rename(&dir, t.path("file")),
        libc::ENOTDIR,
        "rename of a directory onto a file",
    )
}

fn rename_of_nothing_is_enoent(t: &Test) -> Outcome {
    t.create("file")?;
    expect_errno(
        rename(t.path("missing"), t.path("file")),
        libc::ENOENT,
        "rename of nothing",
    )?;
    expect(exists(t.path("file")), "the target is still there")?;
    let across = rename(t.path("file"), t.elsewhere.join("file"));
    expect_errno(across, libc::EXDEV, "rename across filesystems")
}

fn rename_of_an_open_file_keeps_it_open(t: &Test) -> Outcome {
    let file = t.create_with("file", b"before")?;
    rename(t.path("file"), t.path("renamed")).or_fail("rename")?;
    file.write_at(b" and after", 6)?;
    let renamed = File::open(t.path("renamed"), libc::O_RDONLY).or_fail("open")?;
    renamed.expect_contents(b"before and after", "written through the old descriptor")
}

fn rename_moves_a_symlink_itself(t: &Test) -> Outcome {
    t.create_with("target", b"data")?;
    symlink("target", t.path("symlink")).or_fail("symlink")?;
    rename(t.path("symlink"), t.path("moved")).or_fail("rename")?;
    expect_eq(
        readlink(t.path("moved")).or_fail("readlink")?,
        Path::new("target"),
        "target",
    )?;
    expect(exists(t.path("target")), "the target stays")
}
