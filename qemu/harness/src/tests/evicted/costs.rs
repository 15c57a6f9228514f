// SPDX-License-Identifier: GPL-2.0 OR MIT
//! That inodes leave the cache at all, and that nothing that is counted depends on it.

use std::path::{Path, PathBuf};

use crate::case::{case, Case, Test};
use crate::eviction::{drop_caches, evict, Watched};
use crate::failure::{expect_eq, expect_errno, Context, Outcome};
use crate::fileattr::{get_flags, set_flags, NODUMP};
use crate::filesystem::{Feature, Tmpfs, CLONES_COUNTED, INSTANCE, QUOTA};
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::posix_acl::ACCESS;
use crate::quota::{as_one, expect_used, mount_for_alice, ALICE, BOB};
use crate::sys::{
    chmod, chown, link, mkdir, new_clone, rename, rmdir, set_times, symlink, timespec, unlink, File,
};
use crate::tests::acl::set_acl;
use crate::tests::fallocate::{fallocate, PUNCH};
use crate::tests::sysfs::{summary, summary_path};
use crate::tests::xattr;
use crate::wait::eventually;

pub const CASES: &[Case] = &[
    case!(an_inode_in_use_stays).except(Tmpfs, "keeps all inodes"),
    case!(inodes_leave_after_ordinary_use),
    case!(inodes_leave_after_each_kind_of_use),
    case!(space_and_inodes_are_counted_as_before).needs(INSTANCE),
    case!(everything_is_given_back).needs(&[Feature::Reflinkfs]),
    case!(a_file_that_was_mapped_is_given_back).needs(CLONES_COUNTED),
    case!(quotas_are_charged_and_enforced_as_before).needs(QUOTA),
    case!(an_owner_changes_when_nothing_is_cached).needs(QUOTA),
    case!(a_mount_ends_with_nothing_cached).needs(INSTANCE),
];

/// Shows that the other tests see whether an inode leaves.
fn an_inode_in_use_stays(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let closed = t.create_with("closed", b"data")?.path;
    let watched = Watched::new([&file.path, &closed])?;
    evict(t, [&closed])?;
    for _ in 0..3 {
        drop_caches(t)?;
    }
    let cached = watched.cached()?;
    expect_eq(cached, [file.path.as_path()], "what is in the cache")?;
    drop(file);
    watched.evict(t)
}

fn inodes_leave_after_ordinary_use(t: &Test) -> Outcome {
    let count = t.rounds(2000);
    let dir = t.mkdir("dir")?;
    let mut paths = Vec::new();
    for i in 0..count {
        let path = dir.join(format!("file-{i}"));
        let file = File::create_with(&path, &pattern(1, 100 + i))?;
        file.contents()?;
        drop(file);
        chmod(&path, 0o600 + i as u32 % 0o100).or_fail("chmod")?;
        set_times(&path, [timespec(i as i64, 1), timespec(i as i64, 2)]).or_fail("utimensat")?;
        xattr::set(&path, "user.name", &pattern(2, i % 300), 0).or_fail("setxattr")?;
        paths.push(path);
    }
    let watched = Watched::new(&paths)?;
    watched.evict(t)?;
    // And again, once they have been looked at.
    for (i, path) in paths.iter().enumerate() {
        let file = File::open(path, libc::O_RDONLY).or_fail("open")?;
        expect_eq(file.size()? as usize, 100 + i, "size")?;
    }
    evict(t, &paths)
}

type Use = (&'static str, fn(&Test, &Path) -> Outcome);

/// What is done with a file of 8 blocks.
const USES: &[Use] = &[
    ("nothing", |_, _| Ok(())),
    ("stat", |_, path| {
        crate::sys::lstat(path).map(drop).or_fail("lstat")
    }),
    ("truncating", |_, path| open(path)?.truncate(100)),
    ("growing", |_, path| open(path)?.truncate(1 << 30)),
    ("allocating", |_, path| {
        fallocate(&open(path)?, 0, 0, 30 * BLOCK64).or_fail("fallocate")
    }),
    ("punching", |_, path| {
        fallocate(&open(path)?, PUNCH, 0, 2 * BLOCK64).or_fail("fallocate")
    }),
    ("syncing", |_, path| open(path)?.sync()),
    ("linking", |t, path| {
        link(path, t.path("link")).or_fail("link")?;
        unlink(t.path("link")).or_fail("unlink")
    }),
    ("renaming", |t, path| {
        rename(path, t.path("renamed")).or_fail("rename")?;
        rename(t.path("renamed"), path).or_fail("rename")
    }),
    ("chown", |_, path| chown(path, 1, 2).or_fail("chown")),
    ("flags", |_, path| {
        let file = open(path)?;
        let flags = get_flags(&file).or_fail("FS_IOC_GETFLAGS")?;
        set_flags(&file, flags | NODUMP).or_fail("FS_IOC_SETFLAGS")
    }),
    ("an ACL", |_, path| {
        set_acl(path, ACCESS, "u::rw- u:1000:rwx g::r-- m::rwx o::---").or_fail("set")
    }),
    ("a private mapping", |_, path| {
        let map = Mapping::private(&open(path)?, BLOCK)?;
        map.store(0, b"private");
        Ok(())
    }),
    ("a mapping to read", |_, path| {
        let file = File::open(path, libc::O_RDONLY).or_fail("open")?;
        Mapping::shared_read(&file, 8 * BLOCK)?.load_all();
        Ok(())
    }),
    ("seeking", |_, path| open(path)?.data_ranges().map(drop)),
    ("splicing", |_, path| {
        let (_output, input) = crate::sys::pipe()?;
        let n = crate::tests::splice::splice(&open(path)?, None, &input, None, 8192);
        n.map(drop).or_fail("splice")
    }),
    ("cloning", |t, path| {
        if t.filesystem.can_share() {
            let clone = new_clone(&open(path)?, t.path("clone"))?;
            clone.write_at(b"clone", 0)?;
            unlink(t.path("clone")).or_fail("unlink")?;
        }
        Ok(())
    }),
    ("a refused change", |_, path| {
        let file = File::open(path, libc::O_RDONLY).or_fail("open")?;
        expect_errno(file.try_pwrite(b"x", 0), libc::EBADF, "pwrite")
    }),
];

fn open(path: &Path) -> Outcome<File> {
    File::open(path, libc::O_RDWR).or_fail("open")
}

fn inodes_leave_after_each_kind_of_use(t: &Test) -> Outcome {
    for (what, use_it) in USES {
        let path = t.create_with(what, &blocks(1, 8))?.path;
        use_it(t, &path)?;
        evict(t, [&path])?;
        // Once it has come back, too.
        use_it(t, &path)?;
        evict(t, [&path])?;
    }
    // And other kinds of files.
    let dir = t.mkdir("dir")?;
    mkdir(dir.join("sub"), 0o755).or_fail("mkdir")?;
    symlink("sub", dir.join("symlink")).or_fail("symlink")?;
    std::fs::read_dir(dir.join("symlink"))
        .or_fail("read_dir")?
        .count();
    evict(t, ["sub", "symlink", ""].map(|name| dir.join(name)))
}

/// Creates files, directories and links, and what they have, in a directory. Returns their names.
fn fill(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for i in 0..50 {
        let path = dir.join(format!("file-{i}"));
        let file = File::create_with(&path, &blocks(1, i % 7))?;
        file.truncate(i as u64 * 5000)?;
        xattr::set(&path, "trusted.name", &pattern(2, 10 * i), 0).or_fail("setxattr")?;
        set_acl(&path, ACCESS, "u::rw- u:1000:rwx g::r-- m::rwx o::---").or_fail("set")?;
        let other = dir.join(format!("{i}-{}", "link".repeat(i + 1)));
        link(&path, &other).or_fail("link")?;
        let long = dir.join(format!("symlink-{i}"));
        symlink("x".repeat(10 * i + 1), &long).or_fail("symlink")?;
        paths.extend([path, other, long]);
    }
    Ok(paths)
}

/// Removes files and their directory.
fn remove(dir: &Path, paths: &[PathBuf]) -> Outcome {
    for path in paths {
        unlink(path).or_fail("unlink")?;
    }
    rmdir(dir).or_fail("rmdir")
}

fn space_and_inodes_are_counted_as_before(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64M"), ("nr_inodes", "1000")])?;
    let empty = fs.space()?;
    let dir = fs.path("dir");
    mkdir(&dir, 0o755).or_fail("mkdir")?;
    let paths = fill(&dir)?;
    let full = fs.space()?;
    for _ in 0..2 {
        evict(t, &paths)?;
        expect_eq(fs.space()?, full, "with nothing cached")?;
        for path in &paths {
            crate::sys::lstat(path).or_fail("lstat")?;
        }
        expect_eq(fs.space()?, full, "when all was looked at")?;
    }
    evict(t, &paths)?;
    remove(&dir, &paths)?;
    eventually("everything is free", || Ok(fs.space()? == empty))
}

fn everything_is_given_back(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64M")])?;
    let path = summary_path(&fs.root)?;
    let before = summary(&path)?;
    let dir = fs.path("dir");
    for _ in 0..3 {
        mkdir(&dir, 0o755).or_fail("mkdir")?;
        let mut paths = fill(&dir)?;
        for i in 0..10 {
            let file = File::open(&paths[3 * i], libc::O_RDONLY).or_fail("open")?;
            paths.push(dir.join(format!("clone-{i}")));
            new_clone(&file, dir.join(format!("clone-{i}")))?;
        }
        let full = summary(&path)?;
        evict(t, paths.iter().chain([&dir]))?;
        expect_eq(summary(&path)?, full, "with nothing cached")?;
        remove(&dir, &paths)?;
        eventually("the mount holds what it held", || {
            Ok(summary(&path)? == before)
        })?;
    }
    Ok(())
}

fn a_file_that_was_mapped_is_given_back(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64M")])?;
    for name in ["a", "b"] {
        let file = fs.create_with(name, &blocks(1, 20))?;
        let map = Mapping::shared(&file, 20 * BLOCK)?;
        map.store(0, b"stored");
        new_clone(&file, fs.path("clone"))?;
        map.store(BLOCK, b"stored");
    }
    drop_caches(t)?;
    rename(fs.path("a"), fs.path("b")).or_fail("rename")?;
    drop_caches(t)?;
    for name in ["b", "clone"] {
        unlink(fs.path(name)).or_fail("unlink")?;
    }
    eventually("all blocks are free", || Ok(fs.used()? == 0))?;
    fs.unmount()
}

fn quotas_are_charged_and_enforced_as_before(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 10, 4)?;
    let path = fs.path("file");
    as_one(ALICE, || {
        fs.create_with("file", &blocks(1, 8))?;
        mkdir(fs.path("dir"), 0o755).or_fail("mkdir")?;
        fs.create_with("dir/other", b"x").map(drop)
    })?;
    let all = || [fs.path("file"), fs.path("dir"), fs.path("dir/other")];
    evict(t, all())?;
    expect_used(&fs, ALICE, (9, 3), "with nothing cached")?;
    as_one(ALICE, || {
        let file = File::open(&path, libc::O_RDWR).or_fail("open")?;
        let written = file
            .try_pwrite(&blocks(2, 4), 8 * BLOCK64)
            .or_fail("pwrite")?;
        expect_eq(written, BLOCK, "bytes written up to the limit")
    })?;
    evict(t, all())?;
    as_one(ALICE, || {
        let file = File::open(&path, libc::O_RDWR).or_fail("open")?;
        let written = file.try_pwrite(b"x", 20 * BLOCK64);
        expect_errno(written, libc::EDQUOT, "a write at the limit")?;
        File::create(fs.path("dir/fourth"))?;
        let fifth = mkdir(fs.path("dir/fifth"), 0o755);
        expect_errno(fifth, libc::EDQUOT, "a fifth inode")
    })?;
    expect_used(&fs, ALICE, (10, 4), "at the limits")?;
    evict(t, all())?;
    as_one(ALICE, || {
        File::open(&path, libc::O_RDWR)
            .or_fail("open")?
            .truncate(BLOCK64)
    })?;
    expect_used(&fs, ALICE, (2, 4), "truncated")?;
    evict(t, all())?;
    as_one(ALICE, || {
        unlink(&path).or_fail("unlink")?;
        unlink(fs.path("dir/other")).or_fail("unlink")
    })?;
    expect_used(&fs, ALICE, (0, 2), "removed")
}

fn an_owner_changes_when_nothing_is_cached(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 100, 100)?;
    let path = fs.path("file");
    as_one(ALICE, || fs.create_with("file", &blocks(1, 8)).map(drop))?;
    evict(t, [&path])?;
    chown(&path, BOB, BOB).or_fail("chown")?;
    evict(t, [&path])?;
    expect_used(&fs, ALICE, (0, 0), "the old owner")?;
    expect_used(&fs, BOB, (8, 1), "the new owner")?;
    unlink(&path).or_fail("unlink")?;
    expect_used(&fs, BOB, (0, 0), "removed")
}

fn a_mount_ends_with_nothing_cached(t: &Test) -> Outcome {
    for mapped in [false, true] {
        let name = if mapped { "mapped" } else { "evicted" };
        let fs = t.mount_at(name, &[("size", "64M")])?;
        let dir = fs.path("dir");
        mkdir(&dir, 0o755).or_fail("mkdir")?;
        let paths = fill(&dir)?;
        evict(t, paths.iter().chain([&dir]))?;
        if mapped {
            let file = open(&paths[3])?;
            file.truncate(BLOCK64)?;
            Mapping::shared(&file, BLOCK)?.store(0, b"stored");
        }
        fs.unmount()?;
    }
    Ok(())
}
