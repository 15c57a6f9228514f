// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Mounting and unmounting: busy, lazily, full, many times, by users.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::INSTANCE;
use crate::instance::{unmount, Configuration, Instance};
use crate::memory;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::as_user;
use crate::sys::{mkdir, File};

pub const CASES: &[Case] = &[
    case!(two_instances_have_nothing_in_common).needs(INSTANCE),
    case!(a_busy_filesystem_is_not_unmounted).needs(INSTANCE),
    case!(a_lazily_unmounted_filesystem_lives_until_its_last_file).needs(INSTANCE),
    case!(unmounting_with_everything_in_it_works).needs(INSTANCE),
    case!(many_mounts_and_unmounts_leave_nothing_behind).needs(INSTANCE),
    case!(an_instance_created_and_never_mounted_goes_away).needs(INSTANCE),
    case!(the_filesystem_needs_no_device).needs(INSTANCE),
    case!(an_ordinary_user_cannot_mount_it).needs(INSTANCE),
];

fn two_instances_have_nothing_in_common(t: &Test) -> Outcome {
    let one = t.mount_at("one", &[("size", "1M")])?;
    let other = t.mount_at("other", &[("size", "1M")])?;
    one.create_with("file", &blocks(1, 10))?;
    expect_eq(other.used()?, 0, "blocks used in the other instance")?;
    let opened = File::open(other.path("file"), libc::O_RDONLY);
    expect_errno(opened, libc::ENOENT, "the file in the other instance")?;
    one.unmount()?;
    other.create_with("file", b"still works")?;
    other.unmount()
}

fn a_busy_filesystem_is_not_unmounted(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = fs.create_with("file", b"data")?;
    expect_errno(unmount(&fs.root), libc::EBUSY, "umount with an open file")?;
    let map = crate::mapping::Mapping::shared(&file, BLOCK)?;
    drop(file);
    expect_errno(unmount(&fs.root), libc::EBUSY, "umount with a mapped file")?;
    drop(map);
    fs.unmount()
}

fn a_lazily_unmounted_filesystem_lives_until_its_last_file(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = fs.create_with("file", &blocks(1, 5))?;
    let map = crate::mapping::Mapping::shared(&file, 5 * BLOCK)?;
    drop(fs);
    file.write_at(b"still", 0)?;
    expect_eq(map.load(0, 5), b"still", "the mapping")?;
    map.store(4 * BLOCK, b"here");
    expect_eq(file.read_at(4 * BLOCK64, 4)?, b"here", "the file")
}

/// Leaves all kinds of things in a filesystem: files, clones, directories, links, deep trees.
fn litter(fs: &Instance, clones: bool) -> Outcome {
    let file = fs.create_with("file", &blocks(1, 70))?;
    if clones {
        let clone = crate::sys::new_clone(&file, fs.path("clone"))?;
        clone.write_at(b"x", 5 * BLOCK64)?;
        crate::sys::new_clone(&clone, fs.path("clone-of-clone"))?;
    }
    let map = crate::mapping::Mapping::shared(&file, 70 * BLOCK)?;
    map.store(3 * BLOCK, b"stored");
    let sparse = fs.create("sparse")?;
    sparse.write_at(b"far", 1 << 42)?;
    let mut dir = fs.root.clone();
    for _ in 0..10 {
        dir = dir.join("deeper");
        mkdir(&dir, 0o755).or_fail("mkdir")?;
        File::create(dir.join("file"))?.write_at(b"x", 0)?;
    }
    crate::sys::link(fs.path("file"), dir.join("link")).or_fail("link")?;
    crate::sys::symlink("t".repeat(1000), fs.path("symlink")).or_fail("symlink")
}

fn unmounting_with_everything_in_it_works(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    litter(&fs, t.is_reflinkfs())?;
    fs.unmount()
}

fn many_mounts_and_unmounts_leave_nothing_behind(t: &Test) -> Outcome {
    let round = |i: usize| -> Outcome {
        let fs = t.mount_at(&format!("round-{i}"), &[("size", "4M")])?;
        litter(&fs, t.is_reflinkfs())?;
        fs.create_with("ballast", &vec![1; 300 * BLOCK])?;
        fs.unmount()
    };
    round(0)?;
    let before = memory::available()?;
    let rounds = t.rounds(50);
    (1..=rounds).try_for_each(round)?;
    // Each round has 1.5 MiB: a leak would be plain to see.
    let lost = before.saturating_sub(memory::available()?);
    let held = rounds as u64 * 1_500_000;
    expect(
        lost < held / 2 + (8 << 20),
        format_args!("{lost} bytes of memory less after {rounds} rounds that held {held} in all"),
    )
}

fn an_instance_created_and_never_mounted_goes_away(t: &Test) -> Outcome {
    for _ in 0..t.rounds(20) {
        let configuration = Configuration::open(t.filesystem.name()).or_fail("fsopen")?;
        configuration.set("size", "1M").or_fail("size=1M")?;
        configuration.create().or_fail("creating")?;
    }
    // And contexts whose filesystem was never created.
    for _ in 0..t.rounds(20) {
        let configuration = Configuration::open(t.filesystem.name()).or_fail("fsopen")?;
        configuration.set("mode", "700").or_fail("mode=700")?;
    }
    Ok(())
}

fn the_filesystem_needs_no_device(t: &Test) -> Outcome {
    let list = std::fs::read_to_string("/proc/filesystems").or_fail("read /proc/filesystems")?;
    let wanted = format!("nodev\t{}", t.filesystem.name());
    expect(
        list.lines().any(|l| l == wanted),
        format_args!("{wanted:?} in /proc/filesystems"),
    )
}

fn an_ordinary_user_cannot_mount_it(t: &Test) -> Outcome {
    as_user(1000, 1000, || {
        let opened = Configuration::open(t.filesystem.name()).map(|_| ());
        expect_errno(opened, libc::EPERM, "fsopen by an ordinary user")
    })
}
