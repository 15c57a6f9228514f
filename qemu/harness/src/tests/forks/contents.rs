// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What a fork has, and that neither sees what the other does.

use std::path::Path;

use crate::case::{case, Case, Test};
use crate::eviction::{drop_caches, statx_fields};
use crate::failure::{expect, expect_eq, Context, Errno, Outcome};
use crate::filesystem::FORKS;
use crate::instance::Instance;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::sys::{
    chmod, copy_once, link, lstat, mkdir, rename, rmdir, symlink, truncate, unlink, File,
};
use crate::tests::fallocate::fallocate;

pub const CASES: &[Case] = &[
    case!(a_fork_has_what_the_base_has).needs(FORKS),
    case!(neither_sees_what_the_other_does).needs(FORKS),
    case!(a_fork_takes_no_room).needs(FORKS),
    case!(a_change_takes_the_room_of_the_change).needs(FORKS),
    case!(a_chain_of_forks).needs(FORKS),
    case!(mounts_go_in_any_order).needs(FORKS),
    case!(what_is_open_goes_on).needs(FORKS),
    case!(files_without_a_name_are_not_in_it).needs(FORKS),
    case!(options_are_those_of_the_base).needs(FORKS),
    case!(copies_between_forks_share_blocks).needs(FORKS),
    case!(times_do_not_change).needs(FORKS),
];

/// Mounts a fork.
#[track_caller]
pub fn fork(t: &Test, base: &Instance, name: &str) -> Outcome<Instance> {
    t.mount_at(name, &[("fork", &base.root.to_string_lossy())])
}

/// Makes a tree with something of each kind.
#[track_caller]
pub fn populate(at: &Path) -> Outcome {
    mkdir(at.join("dir"), 0o750).or_fail("mkdir")?;
    mkdir(at.join("dir/empty"), 0o700).or_fail("mkdir")?;
    File::create_with(at.join("dir/small"), b"small")?;
    File::create_with(at.join("large"), &pattern(3, 70 * BLOCK + 5))?;
    let sparse = File::create(at.join("sparse"))?;
    sparse.write_at(&blocks(4, 2), 5000 * BLOCK64)?;
    let room = File::create(at.join("room"))?;
    fallocate(&room, 0, 0, 20 * BLOCK64).or_fail("fallocate")?;
    symlink("dir/small", at.join("link")).or_fail("symlink")?;
    symlink("x".repeat(200), at.join("long link")).or_fail("symlink")?;
    link(at.join("large"), at.join("dir/other name")).or_fail("link")?;
    for i in 0..200 {
        File::create_with(at.join(format!("dir/{i}")), format!("{i}").as_bytes())?;
    }
    Ok(())
}

/// Everything below a directory: paths, attributes, contents.
#[track_caller]
pub fn snapshot(root: &Path) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        let mut names: Vec<_> = std::fs::read_dir(&dir)
            .or_fail(format_args!("read {}", dir.display()))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .or_fail("readdir")?;
        names.sort();
        for path in names {
            let mut fields = statx_fields(&path)?;
            fields.retain(|(name, _)| !matches!(*name, "accessed" | "minor number" | "mount"));
            let stat = lstat(&path).or_fail("lstat")?;
            let content = match stat.st_mode & libc::S_IFMT {
                libc::S_IFDIR => {
                    dirs.push(path.clone());
                    String::new()
                }
                libc::S_IFLNK => format!("{:?}", std::fs::read_link(&path).or_fail("readlink")?),
                _ => {
                    let file = File::open(&path, libc::O_RDONLY).or_fail("open")?;
                    let mut sum = 0u64;
                    for (start, end) in file.data_ranges()? {
                        for byte in file.read_at(start, (end - start) as usize)? {
                            sum = sum.wrapping_mul(31).wrapping_add(u64::from(byte));
                        }
                        sum = sum.wrapping_mul(31).wrapping_add(start ^ end);
                    }
                    format!("{sum:x}")
                }
            };
            let name = path.strip_prefix(root).unwrap_or(&path).display();
            found.push(format!("{name} {fields:?} {content}"));
        }
    }
    Ok(found)
}

/// Checks that two trees are the same.
#[track_caller]
pub fn expect_same(a: &Path, before: &[String], what: &str) -> Outcome {
    let now = snapshot(a)?;
    for (now, before) in now.iter().zip(before) {
        expect_eq(now, before, what)?;
    }
    expect_eq(now.len(), before.len(), format_args!("{what}: how many"))
}

fn a_fork_has_what_the_base_has(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    populate(&base.root)?;
    let before = snapshot(&base.root)?;
    let copy = fork(t, &base, "fork")?;
    expect_same(&copy.root, &before, "in the fork")?;
    expect_same(&base.root, &before, "in the base")?;
    drop_caches(t)?;
    expect_same(&copy.root, &before, "in the fork, read again")?;
    let dev =
        |at: &Instance| Ok::<_, crate::failure::Failure>(lstat(&at.root).or_fail("stat")?.st_dev);
    expect(dev(&base)? != dev(&copy)?, "the devices differ")
}

/// Changes each kind of thing in a tree that [`populate`] made.
fn change(at: &Path) -> Outcome {
    chmod(at.join("dir"), 0o711).or_fail("chmod")?;
    rmdir(at.join("dir/empty")).or_fail("rmdir")?;
    let large = File::open(at.join("large"), libc::O_RDWR).or_fail("open")?;
    large.write_at(&blocks(9, 3), 7 * BLOCK64)?;
    large.write_at(b"x", 100 * BLOCK64)?;
    truncate(at.join("sparse"), 77).or_fail("truncate")?;
    let room = File::open(at.join("room"), libc::O_RDWR).or_fail("open")?;
    room.write_at(b"room", 3)?;
    unlink(at.join("link")).or_fail("unlink")?;
    unlink(at.join("dir/other name")).or_fail("unlink")?;
    rename(at.join("dir/small"), at.join("moved")).or_fail("rename")?;
    for i in (0..200).step_by(3) {
        unlink(at.join(format!("dir/{i}"))).or_fail("unlink")?;
    }
    File::create_with(at.join("dir/new"), b"new")?;
    mkdir(at.join("dir/empty"), 0o777).or_fail("mkdir")?;
    File::create_with(at.join("dir/empty/more"), &pattern(8, 10 * BLOCK))?;
    Ok(())
}

fn neither_sees_what_the_other_does(t: &Test) -> Outcome {
    for evicts in [false, true] {
        for changes_base in [false, true] {
            let base = t.mount(&[])?;
            populate(&base.root)?;
            let before = snapshot(&base.root)?;
            let copy = fork(t, &base, "fork")?;
            let (changed, kept) = match changes_base {
                true => (&base, &copy),
                false => (&copy, &base),
            };
            if evicts {
                drop_caches(t)?;
            }
            change(&changed.root)?;
            let after = snapshot(&changed.root)?;
            expect_same(&kept.root, &before, "the other one")?;
            drop_caches(t)?;
            expect_same(&kept.root, &before, "the other one, read again")?;
            expect_same(&changed.root, &after, "the changed one, read again")?;
            // Then the other one, too.
            change(&kept.root)?;
            expect_same(&changed.root, &after, "the changed one")?;
        }
    }
    Ok(())
}

fn a_fork_takes_no_room(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    populate(&base.root)?;
    let before = base.space()?;
    let copy = fork(t, &base, "fork")?;
    expect_eq(copy.space()?, before, "the fork's space")?;
    snapshot(&copy.root)?;
    expect_eq(base.space()?, before, "the base's space")
}

fn a_change_takes_the_room_of_the_change(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    populate(&base.root)?;
    let before = base.space()?;
    let copy = fork(t, &base, "fork")?;
    let file = File::open(copy.path("large"), libc::O_RDWR).or_fail("open")?;
    file.write_at(b"x", 0)?;
    expect_eq(base.used()?, before.used() + 1, "one block")?;
    expect(
        before.free_inodes - base.space()?.free_inodes <= 3,
        "one inode, and nodes",
    )?;
    drop(file);
    copy.unmount()?;
    expect_eq(base.space()?, before, "when the fork is gone")
}

fn a_chain_of_forks(t: &Test) -> Outcome {
    const LENGTH: usize = 30;
    let base = t.mount(&[])?;
    populate(&base.root)?;
    let before = base.space()?;
    let mut chain = vec![base];
    for i in 0..LENGTH {
        let last = &chain[i];
        last.create_with(&format!("by {i}"), &blocks(i as u8, 1))?;
        let next = fork(t, last, &format!("fork{i}"))?;
        unlink(next.path(&format!("by {}", i / 2)))
            .map_or(Ok(()), Ok::<_, Errno>)
            .or_fail("unlink")?;
        chain.push(next);
    }
    for (i, at) in chain.iter().enumerate() {
        for k in 0..LENGTH {
            let there = crate::sys::exists(at.path(&format!("by {k}")));
            let removed = (1..=i).any(|j| (j - 1) / 2 == k && k < j);
            let expected = k <= i && !(k == i && i == LENGTH) && !removed;
            expect_eq(there, expected, format_args!("{k} in {i}"))?;
        }
    }
    // The middle first.
    while chain.len() > 1 {
        chain.remove(chain.len() / 2).unmount()?;
    }
    for i in 0..LENGTH {
        let _ = unlink(chain[0].path(&format!("by {i}")));
    }
    expect_eq(chain[0].space()?, before, "when the forks are gone")
}

fn mounts_go_in_any_order(t: &Test) -> Outcome {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for (n, order) in orders.into_iter().enumerate() {
        let base = t.mount_at(&format!("base{n}"), &[])?;
        populate(&base.root)?;
        let before = snapshot(&base.root)?;
        let one = fork(t, &base, &format!("one{n}"))?;
        change(&one.root)?;
        let changed = snapshot(&one.root)?;
        let two = fork(t, &one, &format!("two{n}"))?;
        let mut all = [
            Some((base, before)),
            Some((one, changed.clone())),
            Some((two, changed)),
        ];
        for i in order {
            for (at, expected) in all.iter().flatten() {
                expect_same(&at.root, expected, "what is left")?;
            }
            if let Some((at, _)) = all[i].take() {
                at.unmount()?;
            }
        }
    }
    Ok(())
}

fn what_is_open_goes_on(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    let file = base.create_with("file", &pattern(1, 3 * BLOCK))?;
    let removed = base.create_with("removed", &pattern(2, 3 * BLOCK))?;
    let copy = fork(t, &base, "fork")?;
    unlink(base.path("removed")).or_fail("unlink")?;
    file.write_at(b"base", 5)?;
    removed.write_at(b"gone", BLOCK64 + 5)?;
    removed.write_at(b"longer", 9 * BLOCK64)?;
    expect_eq(
        &removed.read_at(BLOCK64 + 5, 4)?[..],
        b"gone",
        "of the removed file",
    )?;
    let there = File::open(copy.path("file"), libc::O_RDONLY).or_fail("open")?;
    there.expect_contents(&pattern(1, 3 * BLOCK), "in the fork")?;
    let there = File::open(copy.path("removed"), libc::O_RDONLY).or_fail("open")?;
    there.expect_contents(&pattern(2, 3 * BLOCK), "removed in the base, in the fork")
}

fn files_without_a_name_are_not_in_it(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    let file = base.create_with("file", &pattern(1, 3 * BLOCK))?;
    unlink(base.path("file")).or_fail("unlink")?;
    let before = base.space()?;
    let copy = fork(t, &base, "fork")?;
    file.write_at(&blocks(7, 3), 0)?;
    expect_eq(base.space()?, before, "written in place")?;
    expect(!crate::sys::exists(copy.path("file")), "not in the fork")?;
    drop(file);
    expect_eq(copy.used()?, 0, "blocks when it is closed")
}

fn options_are_those_of_the_base(t: &Test) -> Outcome {
    let base = t.mount(&[("size", "1M"), ("nr_inodes", "100"), ("mode", "0750")])?;
    let copy = fork(t, &base, "fork")?;
    expect_eq(copy.space()?, base.space()?, "space")?;
    let mode = |at: &Instance| {
        Ok::<_, crate::failure::Failure>(lstat(&at.root).or_fail("stat")?.st_mode & 0o7777)
    };
    expect_eq(mode(&copy)?, 0o750, "mode")?;
    // Other limits are those of both.
    copy.reconfigure(&[("size", "2M")])
        .map_err(|(e, _)| e)
        .or_fail("remount")?;
    expect_eq(base.space()?.blocks, 512, "blocks")?;
    let root = base.root.to_string_lossy().into_owned();
    let other = t.mount_at("other", &[("mode", "0700"), ("fork", &root)])?;
    expect_eq(mode(&other)?, 0o700, "mode")?;
    expect_eq(mode(&base)?, 0o750, "mode")?;
    let shown = crate::instance::shown_options(&copy.root)?;
    expect(
        !shown.iter().any(|option| option.starts_with("fork")),
        format_args!("shown: {shown:?}"),
    )
}

fn copies_between_forks_share_blocks(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    let from = base.create_with("file", &pattern(1, 100 * BLOCK))?;
    let copy = fork(t, &base, "fork")?;
    let to = copy.create("copy")?;
    let before = base.used()?;
    let n = copy_once(&from, 0, &to, 0, 100 * BLOCK).or_fail("copy_file_range")?;
    expect_eq(n, 100 * BLOCK, "copied")?;
    to.expect_contents(&pattern(1, 100 * BLOCK), "the copy")?;
    expect(base.used()? - before <= 1, "shares blocks")?;
    from.write_at(b"other", 0)?;
    to.expect_contents(
        &pattern(1, 100 * BLOCK),
        "the copy, after a write to the base",
    )
}

fn times_do_not_change(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    populate(&base.root)?;
    let copy = fork(t, &base, "fork")?;
    let before = snapshot(&base.root)?;
    for i in 0..20 {
        File::open(copy.path(&format!("dir/{i}")), libc::O_RDONLY)
            .or_fail("open")?
            .read_at(0, 1)?;
    }
    drop_caches(t)?;
    expect_same(&base.root, &before, "the base")?;
    expect_same(&copy.root, &before, "the fork")
}
