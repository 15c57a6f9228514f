// SPDX-License-Identifier: GPL-2.0 OR MIT
//! renameat2(2): NOREPLACE, EXCHANGE, WHITEOUT.

use std::collections::BTreeMap;
use std::path::Path;

use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome, Sys};
use crate::filesystem::{Btrfs, Tmpfs, INSTANCE};
use crate::sys::{c_path, check, exists, lstat, mkdir, unlink, File};

const NOREPLACE: u32 = libc::RENAME_NOREPLACE;
const EXCHANGE: u32 = libc::RENAME_EXCHANGE;
pub const WHITEOUT: u32 = libc::RENAME_WHITEOUT;

pub const CASES: &[Case] = &[
    case!(noreplace_moves_to_a_free_name_and_refuses_a_taken_one),
    case!(exchange_swaps_two_files),
    case!(exchange_swaps_names_in_two_directories),
    case!(exchange_of_a_file_and_a_directory_counts_links)
        .except(Btrfs, "directories always have one link"),
    case!(exchange_wants_both_names),
    case!(exchange_keeps_a_listing_whole).except(Tmpfs, "names move to other positions"),
    case!(a_whiteout_is_left_behind),
    case!(a_whiteout_replaces_and_is_counted).needs(INSTANCE),
    case!(a_whiteout_without_an_inode_to_be_had_is_enospc).needs(INSTANCE),
    case!(flags_that_make_no_sense_are_einval),
    case!(exchanges_race_and_lose_nothing),
];

pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>, flags: u32) -> Sys {
    let (from, to) = (c_path(from.as_ref()), c_path(to.as_ref()));
    // SAFETY: both paths are NUL-terminated and outlive the call.
    check(unsafe {
        libc::renameat2(
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            flags,
        )
    })
    .map(|_| ())
}

fn contents(path: impl AsRef<Path>) -> Outcome<Vec<u8>> {
    File::open(path, libc::O_RDONLY).or_fail("open")?.contents()
}

fn noreplace_moves_to_a_free_name_and_refuses_a_taken_one(t: &Test) -> Outcome {
    t.create_with("a", b"a")?;
    t.create_with("b", b"b")?;
    let refused = rename(t.path("a"), t.path("b"), NOREPLACE);
    expect_errno(refused, libc::EEXIST, "onto a name that is taken")?;
    rename(t.path("a"), t.path("c"), NOREPLACE).or_fail("onto a free name")?;
    expect(!exists(t.path("a")), "the old name is gone")?;
    expect_eq(contents(t.path("b"))?, b"b".to_vec(), "b")?;
    expect_eq(contents(t.path("c"))?, b"a".to_vec(), "c")
}

fn exchange_swaps_two_files(t: &Test) -> Outcome {
    t.create_with("a", b"a")?;
    t.create_with("b", b"b")?;
    rename(t.path("a"), t.path("b"), EXCHANGE).or_fail("exchange")?;
    expect_eq(contents(t.path("a"))?, b"b".to_vec(), "a")?;
    expect_eq(contents(t.path("b"))?, b"a".to_vec(), "b")?;
    rename(t.path("a"), t.path("a"), EXCHANGE).or_fail("exchange with itself")?;
    expect_eq(contents(t.path("a"))?, b"b".to_vec(), "a")?;
    for name in ["a", "b"] {
        unlink(t.path(name)).or_fail("unlink")?;
    }
    expect_eq(names(&t.dir)?.len(), 0, "names left")
}

fn exchange_swaps_names_in_two_directories(t: &Test) -> Outcome {
    let (x, y) = (t.mkdir("x")?, t.mkdir("y")?);
    File::create_with(x.join("file"), b"one")?;
    mkdir(y.join("dir"), 0o755).or_fail("mkdir")?;
    File::create_with(y.join("dir/inside"), b"two")?;
    rename(x.join("file"), y.join("dir"), EXCHANGE).or_fail("exchange")?;
    expect_eq(
        contents(x.join("file/inside"))?,
        b"two".to_vec(),
        "x/file/inside",
    )?;
    expect_eq(contents(y.join("dir"))?, b"one".to_vec(), "y/dir")?;
    expect_eq(names(&x)?, vec!["file".to_owned()], "names in x")?;
    expect_eq(names(&y)?, vec!["dir".to_owned()], "names in y")?;
    unlink(x.join("file/inside")).or_fail("unlink")?;
    crate::sys::rmdir(x.join("file")).or_fail("rmdir")?;
    unlink(y.join("dir")).or_fail("unlink")?;
    crate::sys::rmdir(x).or_fail("rmdir x")?;
    crate::sys::rmdir(y).or_fail("rmdir y")
}

fn exchange_of_a_file_and_a_directory_counts_links(t: &Test) -> Outcome {
    let (x, y) = (t.mkdir("x")?, t.mkdir("y")?);
    File::create(x.join("file"))?;
    mkdir(y.join("dir"), 0o755).or_fail("mkdir")?;
    rename(x.join("file"), y.join("dir"), EXCHANGE).or_fail("exchange")?;
    expect_eq(lstat(&x).or_fail("lstat")?.st_nlink, 3, "links of x")?;
    expect_eq(lstat(&y).or_fail("lstat")?.st_nlink, 2, "links of y")
}

fn exchange_wants_both_names(t: &Test) -> Outcome {
    t.create("a")?;
    expect_errno(
        rename(t.path("a"), t.path("b"), EXCHANGE),
        libc::ENOENT,
        "no b",
    )?;
    expect_errno(
        rename(t.path("b"), t.path("a"), EXCHANGE),
        libc::ENOENT,
        "no b",
    )?;
    let dir = t.mkdir("dir")?;
    let inside = rename(&dir, dir.join("inside"), EXCHANGE);
    expect(inside.is_err(), "a directory with a name inside it")
}

/// Returns the names in a directory, in the order of readdir.
fn names(dir: &Path) -> Outcome<Vec<String>> {
    let entries = std::fs::read_dir(dir).or_fail("read_dir")?;
    entries
        .map(|entry| {
            let name = entry.or_fail("readdir")?.file_name();
            Ok(name.to_string_lossy().into_owned())
        })
        .collect()
}

fn exchange_keeps_a_listing_whole(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    // More than one call of getdents returns.
    for i in 0..3000 {
        File::create(dir.join(format!("file-with-a-rather-long-name-{i:05}")))?;
    }
    let mut seen = BTreeMap::new();
    for (i, entry) in std::fs::read_dir(&dir).or_fail("read_dir")?.enumerate() {
        let name = entry.or_fail("readdir")?.file_name();
        *seen.entry(name).or_insert(0) += 1;
        if i % 10 == 0 {
            let name = |i: usize| dir.join(format!("file-with-a-rather-long-name-{i:05}"));
            rename(name(i), name(2999 - i), EXCHANGE).or_fail("exchange")?;
        }
    }
    expect_eq(seen.len(), 3000, "names seen")?;
    expect(seen.values().all(|&n| n == 1), "each of them once")
}

fn a_whiteout_is_left_behind(t: &Test) -> Outcome {
    let file = t.create_with("a", b"a")?;
    rename(t.path("a"), t.path("b"), WHITEOUT).or_fail("rename with a whiteout")?;
    expect_eq(contents(t.path("b"))?, b"a".to_vec(), "b")?;
    let whiteout = lstat(t.path("a")).or_fail("lstat of the whiteout")?;
    expect_eq(whiteout.st_mode & libc::S_IFMT, libc::S_IFCHR, "its type")?;
    expect_eq(whiteout.st_rdev, 0, "its device")?;
    expect_eq(
        lstat(t.path("b")).or_fail("lstat")?.st_ino,
        file.stat()?.st_ino,
        "the inode at the new name",
    )?;
    let mut listed = names(&t.dir)?;
    listed.sort();
    expect_eq(listed, vec!["a".to_owned(), "b".to_owned()], "names")?;
    unlink(t.path("a")).or_fail("unlink of the whiteout")?;
    unlink(t.path("b")).or_fail("unlink of the file")
}

fn a_whiteout_replaces_and_is_counted(t: &Test) -> Outcome {
    let fs = t.mount(&[("nr_inodes", "100")])?;
    let before = fs.space()?.free_inodes;
    fs.create("a")?;
    fs.create("b")?;
    rename(fs.path("a"), fs.path("b"), WHITEOUT).or_fail("onto another file")?;
    expect_eq(
        fs.space()?.free_inodes,
        before - 2,
        "free inodes: the file and the whiteout",
    )?;
    unlink(fs.path("a")).or_fail("unlink")?;
    unlink(fs.path("b")).or_fail("unlink")?;
    expect_eq(fs.space()?.free_inodes, before, "free inodes after removal")
}

fn a_whiteout_without_an_inode_to_be_had_is_enospc(t: &Test) -> Outcome {
    let fs = t.mount(&[("nr_inodes", "3")])?;
    fs.create_with("a", b"a")?;
    fs.create("b")?;
    let refused = rename(fs.path("a"), fs.path("c"), WHITEOUT);
    expect_errno(refused, libc::ENOSPC, "no inode for the whiteout")?;
    expect_eq(contents(fs.path("a"))?, b"a".to_vec(), "a")?;
    expect(!exists(fs.path("c")), "no c")
}

fn flags_that_make_no_sense_are_einval(t: &Test) -> Outcome {
    t.create("a")?;
    t.create("b")?;
    for flags in [EXCHANGE | NOREPLACE, EXCHANGE | WHITEOUT, 8, 1 << 31] {
        let refused = rename(t.path("a"), t.path("b"), flags);
        expect_errno(refused, libc::EINVAL, format_args!("flags {flags:#x}"))?;
    }
    Ok(())
}

fn exchanges_race_and_lose_nothing(t: &Test) -> Outcome {
    let (x, y) = (t.mkdir("x")?, t.mkdir("y")?);
    for i in 0..8 {
        File::create_with(x.join(format!("{i}")), &[b'x', i])?;
        File::create_with(y.join(format!("{i}")), &[b'y', i])?;
    }
    let exchange = |step: usize| {
        let turn = std::cell::Cell::new(step);
        let (x, y) = (x.clone(), y.clone());
        move || {
            turn.set(turn.get() + step);
            let (i, j) = (turn.get() % 8, turn.get() / 8 % 8);
            rename(x.join(format!("{i}")), y.join(format!("{j}")), EXCHANGE).or_fail("exchange")
        }
    };
    t.race(vec![
        worker("one", exchange(3)),
        worker("other", exchange(5)),
        worker("lister", || {
            for dir in [&x, &y] {
                expect_eq(names(dir)?.len(), 8, "names")?;
            }
            Ok(())
        }),
    ])?;
    let mut all = Vec::new();
    for dir in [&x, &y] {
        for name in names(dir)? {
            all.push(contents(dir.join(name))?);
        }
    }
    all.sort();
    all.dedup();
    expect_eq(all.len(), 16, "files")
}
