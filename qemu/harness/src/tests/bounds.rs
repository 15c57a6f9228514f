// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Users' allocations are limited by `size=` and `nr_inodes=`, and are freed.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::fallocate::fallocate;
use super::splice::vmsplice;
use super::sysfs::{summary, summary_path};
use super::xattr;
use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{Feature, Tmpfs, CLONES_COUNTED, INSTANCE};
use crate::instance::{Instance, Space};
use crate::mapping::Mapping;
use crate::pattern::{blocks, Random, BLOCK, BLOCK64};
use crate::sys::{
    clone_file, clone_range, link, mkdir, new_clone, pipe, rename, rmdir, symlink, unlink, File,
};
use crate::wait::eventually;

const OTHER_COUNTS: &str = "does not count its trees";

pub const CASES: &[Case] = &[
    case!(blocks_in_pipes_stay_counted_until_they_are_read).needs(CLONES_COUNTED),
    case!(mapped_blocks_in_pipes_stay_counted_until_they_are_read).needs(CLONES_COUNTED),
    case!(a_mount_goes_while_a_pipe_keeps_its_blocks).needs(CLONES_COUNTED),
    case!(moving_pinned_blocks_stays_within_the_limit).needs(CLONES_COUNTED),
    case!(trees_take_the_room_of_blocks)
        .needs(INSTANCE)
        .except(Tmpfs, OTHER_COUNTS),
    case!(clones_of_pieces_take_the_room_of_blocks).needs(CLONES_COUNTED),
    case!(a_dense_file_fills_a_mount_to_the_last_block).needs(INSTANCE),
    case!(long_targets_of_links_are_bounded).needs(INSTANCE),
    case!(attributes_take_the_space_of_inodes).needs(INSTANCE),
    case!(attributes_are_found_among_many).needs(INSTANCE),
    case!(truncating_clones_stays_within_the_limit).needs(CLONES_COUNTED),
    case!(truncation_that_gives_back_works_in_a_full_mount).needs(CLONES_COUNTED),
    case!(truncating_to_the_same_size_gives_back_what_is_behind),
    case!(everything_that_was_made_is_given_back).needs(CLONES_COUNTED),
    case!(the_defaults_leave_a_third_of_memory).needs(&[Feature::Reflinkfs]),
    case!(an_inode_takes_no_more_than_the_manual_says)
        .needs(&[Feature::Reflinkfs, Feature::FastKernel]),
];

/// The number of pages that fit into a pipe.
const IN_PIPE: usize = 16;

/// The reading and the writing end of a pipe.
pub(super) type Pipe = (OwnedFd, OwnedFd);

/// Moves as many blocks as fit into a pipe, and truncates their file. `None` if there was no room
/// for the file.
pub(super) fn leave_in_pipe(fs: &Instance, name: &str, store: bool) -> Outcome<Option<Pipe>> {
    let pipe = pipe()?;
    let file = fs.create(name)?;
    let written = file.try_pwrite(&blocks(1, IN_PIPE), 0);
    if !matches!(written, Ok(len) if len == IN_PIPE * BLOCK) {
        file.truncate(0)?;
        return Ok(None);
    }
    let map = Mapping::shared(&file, IN_PIPE * BLOCK)?;
    for block in 0..IN_PIPE {
        if store {
            map.store(block * BLOCK, b"stored");
        } else {
            map.load_byte(block * BLOCK);
        }
    }
    let n = vmsplice(&pipe.1, map.at(0), map.len()).or_fail("vmsplice")?;
    expect_eq(n, IN_PIPE * BLOCK, "bytes in the pipe")?;
    file.truncate(0)?;
    Ok(Some(pipe))
}

/// Fills a mount of 1 MiB with blocks that only pipes hold.
fn expect_bounded_in_pipes(t: &Test, store: bool) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let mut pipes = Vec::new();
    while let Some(pipe) = leave_in_pipe(&fs, "file", store)? {
        pipes.push(pipe);
        expect(
            fs.used()? as usize >= pipes.len() * IN_PIPE,
            format_args!("{} blocks used", fs.used()?),
        )?;
        expect(pipes.len() <= 256 / IN_PIPE, "no more than fit")?;
    }
    expect(pipes.len() >= 256 / IN_PIPE - 1, "as much as fits")?;
    // Nor after the file is removed.
    unlink(fs.path("file")).or_fail("unlink")?;
    let kept = (pipes.len() * IN_PIPE) as u64;
    expect(fs.used()? >= kept, "blocks used without the file")?;
    pipes.truncate(1);
    eventually("blocks that are in no pipe any more are free", || {
        Ok(fs.used()? == IN_PIPE as u64)
    })?;
    // A block that is still in a pipe keeps its bytes.
    let mut expected = blocks(1, IN_PIPE);
    if store {
        for block in expected.chunks_mut(BLOCK) {
            block[..6].copy_from_slice(b"stored");
        }
    }
    let seen = crate::sys::read_all(&pipes[0].0, IN_PIPE * BLOCK)?;
    expect(seen == expected, "the bytes in the pipe")?;
    eventually("all is free", || Ok(fs.used()? == 0))?;
    fs.fill(0).map(drop)
}

fn blocks_in_pipes_stay_counted_until_they_are_read(t: &Test) -> Outcome {
    expect_bounded_in_pipes(t, false)
}

fn mapped_blocks_in_pipes_stay_counted_until_they_are_read(t: &Test) -> Outcome {
    expect_bounded_in_pipes(t, true)
}

fn a_mount_goes_while_a_pipe_keeps_its_blocks(t: &Test) -> Outcome {
    let mut pipes = Vec::new();
    for store in [false, true] {
        let fs = t.mount_at(&format!("fs-{store}"), &[("size", "1M")])?;
        for name in ["one", "two"] {
            pipes.extend(leave_in_pipe(&fs, name, store)?);
        }
        unlink(fs.path("one")).or_fail("unlink")?;
        fs.unmount()?;
    }
    expect_eq(pipes.len(), 4, "pipes")?;
    for (output, input) in pipes {
        drop(input);
        let seen = crate::sys::read_all(&output, IN_PIPE * BLOCK)?;
        let (bytes, expected) = (&seen[6..], &blocks(1, IN_PIPE)[6..BLOCK]);
        expect(&bytes[..BLOCK - 6] == expected, "the bytes in a pipe")?;
    }
    Ok(())
}

fn moving_pinned_blocks_stays_within_the_limit(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = fs.create_with("file", &blocks(1, 1 + IN_PIPE))?;
    let mut pipes = Vec::new();
    loop {
        let pipe = pipe()?;
        let map = Mapping::shared(&file, (1 + IN_PIPE) * BLOCK)?;
        for block in 1..=IN_PIPE {
            map.store(block * BLOCK, b"stored");
        }
        vmsplice(&pipe.1, map.at(BLOCK), IN_PIPE * BLOCK).or_fail("vmsplice")?;
        pipes.push(pipe);
        drop(map);
        // All blocks move, and pinned ones, which may be written to, are copied.
        let result = fallocate(&file, libc::FALLOC_FL_COLLAPSE_RANGE, 0, BLOCK64)
            .and_then(|()| file.try_pwrite(&blocks(1, 1), IN_PIPE as u64 * BLOCK64));
        if result.is_err() {
            expect_errno(result, libc::ENOSPC, "moving blocks")?;
            break;
        }
        expect(
            pipes.len() * IN_PIPE <= 256,
            format_args!("{} pipes have {IN_PIPE} blocks of 256 each", pipes.len()),
        )?;
    }
    expect(pipes.len() > 10, format_args!("{} pipes", pipes.len()))?;
    drop((pipes, file));
    unlink(fs.path("file")).or_fail("unlink")?;
    eventually("all is free", || Ok(fs.used()? == 0))
}

/// The offset of a block far away from all others, below nine nodes.
const FAR: u64 = 1 << 62;

fn trees_take_the_room_of_blocks(t: &Test) -> Outcome {
    const SIZE: u64 = 2 << 20;
    let fs = t.mount(&[("size", "2M")])?;
    let before = fs.space()?;
    let mut made = 0;
    while made < 1000 {
        let file = fs.create(&format!("file-{made}"))?;
        if let Err(error) = file.try_pwrite(b"x", FAR) {
            expect_errno::<()>(Err(error), libc::ENOSPC, "a byte too many")?;
            break;
        }
        made += 1;
    }
    let each = BLOCK64 + 9 * 576;
    let most = (SIZE + SIZE / 256 + (64 << 10)) / each;
    expect(
        (most * 7 / 10..=most).contains(&made),
        format_args!("{made} files, of {most} that there may be"),
    )?;
    expect(fs.space()?.free <= 2, "hardly a block is free")?;
    // Removing still works.
    for i in 0..=made {
        let path = fs.path(&format!("file-{i}"));
        if i % 2 == 0 {
            crate::sys::truncate(&path, 1).or_fail("truncate")?;
        }
        unlink(&path).or_fail("unlink")?;
    }
    expect_eq(fs.space()?, before, "space after everything was removed")?;
    fs.fill(0).map(drop)
}

fn clones_of_pieces_take_the_room_of_blocks(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let before = fs.space()?;
    let source = fs.create_with("source", &blocks(1, 1))?;
    let to = fs.create("to")?;
    let mut made = 0u64;
    let result = loop {
        // Each in a separate leaf, below a separate node.
        let result = clone_range(&source, 0, BLOCK64, &to, made * 64 * 64 * BLOCK64);
        if result.is_err() || made == 4000 {
            break result;
        }
        made += 1;
    };
    expect_errno(result, libc::ENOSPC, "a piece too many")?;
    let most = ((1 << 20) + (68 << 10)) / (2 * 576);
    expect(
        made <= most,
        format_args!("{made} pieces of at most {most}"),
    )?;
    to.truncate(0)?;
    expect_eq(fs.used()?, 1, "blocks used without the pieces")?;
    drop((source, to));
    for name in ["source", "to"] {
        unlink(fs.path(name)).or_fail("unlink")?;
    }
    expect_eq(fs.space()?, before, "space after everything was removed")
}

fn a_dense_file_fills_a_mount_to_the_last_block(t: &Test) -> Outcome {
    for (i, size) in ["4k", "8k", "1M", "8M"].into_iter().enumerate() {
        let fs = t.mount_at(&format!("fs-{i}"), &[("size", size)])?;
        let filler = fs.fill(0)?;
        expect_eq(
            filler.data_blocks()?,
            fs.space()?.blocks,
            format_args!("blocks of the file in {size}"),
        )?;
    }
    Ok(())
}

fn long_targets_of_links_are_bounded(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M"), ("nr_inodes", "1000")])?;
    let before = fs.space()?;
    symlink("x".repeat(100), fs.path("short")).or_fail("symlink")?;
    expect_eq(fs.used()?, before.used(), "blocks used by a short target")?;
    expect_eq(
        fs.space()?.free_inodes,
        before.free_inodes - 1,
        "free inodes",
    )?;
    let target = "x".repeat(4000);
    let mut made = 0;
    let result = loop {
        let result = symlink(&target, fs.path(&format!("link-{made}")));
        if result.is_err() || made == 1000 {
            break result;
        }
        made += 1;
    };
    expect_errno(result, libc::ENOSPC, "a link too many")?;
    expect(
        (150..=256).contains(&made),
        format_args!("{made} links of 4000 bytes in 1 MiB"),
    )?;
    expect_eq(
        crate::sys::readlink(fs.path("link-0")).or_fail("readlink")?,
        PathBuf::from(target),
        "a target",
    )?;
    unlink(fs.path("short")).or_fail("unlink")?;
    for i in 0..made {
        unlink(fs.path(&format!("link-{i}"))).or_fail("unlink")?;
    }
    expect_eq(fs.space()?, before, "space after they were removed")
}

fn attributes_take_the_space_of_inodes(t: &Test) -> Outcome {
    const INODES: u64 = 100;
    let fs = t.mount(&[("size", "1M"), ("nr_inodes", "100")])?;
    let before = fs.space()?;
    let file = fs.create("file")?;
    let mut bytes = 0;
    let result = loop {
        let result = xattr::set(&file.path, &format!("user.{bytes}"), &[7; 500], 0);
        if result.is_err() || bytes > 1000 * 500 {
            break result;
        }
        bytes += 500;
    };
    expect_errno(result, libc::ENOSPC, "an attribute too many")?;
    expect(
        (INODES * 1024 / 2..=INODES * 1024).contains(&bytes),
        format_args!("{bytes} bytes of values with {INODES} inodes"),
    )?;
    expect_eq(fs.used()?, before.used(), "blocks used by attributes")?;
    expect(fs.space()?.free_inodes < 2, "no inode is free")?;
    // A value of at most the old size can replace it; tmpfs needs room for both for a moment.
    if t.is_reflinkfs() {
        xattr::set(&file.path, "user.0", &[8; 500], libc::XATTR_REPLACE).or_fail("replace")?;
    }
    expect_errno(
        xattr::set(&file.path, "user.0", &[8; 2000], 0),
        libc::ENOSPC,
        "a larger one",
    )?;
    expect_eq(
        xattr::get(&file.path, "user.0").or_fail("get")?.len(),
        500,
        "bytes of the attribute that was not replaced",
    )?;
    xattr::remove(&file.path, "user.500").or_fail("remove")?;
    xattr::set(&file.path, "user.again", &[8; 400], 0).or_fail("set in its place")?;
    drop(file);
    unlink(fs.path("file")).or_fail("unlink")?;
    eventually("all is free", || Ok(fs.space()? == before))
}

fn attributes_are_found_among_many(t: &Test) -> Outcome {
    const COUNT: usize = 20_000;
    let count = t.rounds(COUNT);
    let fs = t.mount(&[("size", "1M"), ("nr_inodes", "10k")])?;
    let file = fs.create("file")?;
    let name = |i: usize| format!("user.attribute-{i}");
    for i in 0..count {
        xattr::set(&file.path, &name(i), &i.to_le_bytes(), 0).or_fail(name(i))?;
    }
    for i in (0..count).rev() {
        expect_eq(
            xattr::get(&file.path, &name(i)).or_fail(name(i))?,
            i.to_le_bytes().to_vec(),
            name(i),
        )?;
    }
    expect_errno(
        xattr::get(&file.path, "user.none"),
        libc::ENODATA,
        "none of them",
    )
}

fn truncating_clones_stays_within_the_limit(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let source = fs.create_with("source", &blocks(1, 2))?;
    let mut cut = 0;
    let result = loop {
        let clone = new_clone(&source, fs.path(&format!("clone-{cut}")))?;
        let result = clone.try_truncate(BLOCK64 + 1);
        if result.is_err() || cut == 600 {
            break result;
        }
        cut += 1;
    };
    expect_errno(result, libc::ENOSPC, "cutting a clone too many")?;
    let space = fs.space()?;
    expect_eq((space.blocks, space.free), (256, 0), "blocks")?;
    expect((200..=254).contains(&cut), format_args!("{cut} were cut"))?;
    // The file is unchanged, and can still be removed, or truncated to nothing.
    let last = File::open(fs.path(&format!("clone-{cut}")), libc::O_RDWR).or_fail("open")?;
    last.expect_contents(&blocks(1, 2), "the clone that was not cut")?;
    last.truncate(0)?;
    for i in 0..=cut {
        unlink(fs.path(&format!("clone-{i}"))).or_fail("unlink")?;
    }
    expect_eq(fs.used()?, 2, "blocks used by the source")
}

fn truncation_that_gives_back_works_in_a_full_mount(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let source = fs.create_with("source", &blocks(1, 10))?;
    // Shares its first blocks, and has more blocks of its own.
    let clone = new_clone(&source, fs.path("clone"))?;
    clone.write_at(&blocks(2, 20), 10 * BLOCK64)?;
    let own = fs.create_with("own", &blocks(3, 20))?;
    fs.fill(0)?;
    own.truncate(10 * BLOCK64 + 100)?;
    own.truncate(10 * BLOCK64)?;
    expect_eq(fs.space()?.free, 10, "free blocks")?;
    own.write_at(&blocks(4, 10), 10 * BLOCK64)?;
    expect_eq(fs.space()?.free, 0, "free blocks")?;
    // Takes one block, for the end, and frees 20.
    clone.truncate(5 * BLOCK64 + 100)?;
    expect_eq(fs.space()?.free, 19, "free blocks")?;
    let mut expected = blocks(1, 6);
    expected.truncate(5 * BLOCK + 100);
    clone.expect_contents(&expected, "the clone")?;
    source.expect_contents(&blocks(1, 10), "the source")?;
    fallocate(
        &own,
        libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
        100,
        3 * BLOCK64,
    )
    .or_fail("punch")?;
    expect_eq(fs.space()?.free, 21, "free blocks")
}

fn truncating_to_the_same_size_gives_back_what_is_behind(t: &Test) -> Outcome {
    for (i, size) in [0, 100, BLOCK64, BLOCK64 + 1].into_iter().enumerate() {
        let data = blocks(1, 2)[..size as usize].to_vec();
        let file = t.create_with(&format!("file-{i}"), &data)?;
        file.sync()?;
        let before = file.data_blocks()?;
        let room = || {
            let keep = libc::FALLOC_FL_KEEP_SIZE;
            fallocate(&file, keep, 1 << 20, 64 * BLOCK64).or_fail("fallocate")?;
            expect(
                file.data_blocks()? >= before + 64,
                "there is room behind the end",
            )
        };
        room()?;
        file.truncate(size)?;
        let what = format!("blocks of a file of {size} bytes");
        expect_eq(file.data_blocks()?, before, &what)?;
        file.expect_contents(&data, "its contents")?;
        if size == 0 {
            room()?;
            drop(file.reopen(libc::O_WRONLY | libc::O_TRUNC)?);
            expect_eq(file.data_blocks()?, before, "blocks after O_TRUNC")?;
        }
        room()?;
        file.truncate(2 << 20)?;
        file.truncate(size)?;
        expect_eq(file.data_blocks()?, before, &what)?;
    }
    Ok(())
}

/// Makes a random change to one of a few files; it may fail.
fn do_something(fs: &Instance, random: &mut Random, pipes: &mut Vec<Pipe>) -> Outcome {
    let name = |n: usize| fs.path(&format!("name-{n}"));
    let (path, other) = (name(random.below(20)), name(random.below(20)));
    let at = [0, BLOCK64, 100 * BLOCK64 + 77, 1 << 40, FAR][random.below(5)];
    let len = [1, 100, BLOCK, 5 * BLOCK + 9, 70 * BLOCK][random.below(5)];
    match random.below(16) {
        0 => _ = unlink(&path),
        1 => _ = rename(&path, &other),
        2 => _ = link(&path, &other),
        3 => _ = symlink("x".repeat(random.below(4000) + 1), &path),
        4 => _ = mkdir(&path, 0o755),
        5 => _ = rmdir(&path),
        6 => {
            let name = format!("user.{}", random.below(9));
            _ = xattr::set(&path, &name, &vec![1; random.below(5000)], 0);
        }
        7 => _ = xattr::remove(&path, &format!("user.{}", random.below(9))),
        8 => {
            pipes.truncate(random.below(4));
        }
        what => {
            let flags = libc::O_RDWR | libc::O_CREAT | libc::O_NOFOLLOW;
            let Ok(file) = File::open_mode(&path, flags, 0o644) else {
                return Ok(());
            };
            match what {
                9 | 10 => _ = file.try_pwrite(&vec![2; len], at),
                11 => _ = file.try_truncate(at),
                12 => {
                    let mode = [0, 1, 3, 8, 16, 32, 64][random.below(7)];
                    let (at, len) = (at / BLOCK64 * BLOCK64, len.next_multiple_of(BLOCK));
                    let _ = fallocate(&file, mode, at, len as u64);
                }
                13 => {
                    let pipe = pipe()?;
                    let size = file.size()?.min(64 << 10) as usize;
                    if size >= BLOCK {
                        let map = Mapping::shared(&file, size / BLOCK * BLOCK)?;
                        // A store without room would kill the test, so the kernel stores.
                        if map.kernel_store(0, 7)?.is_ok() {
                            let _ = vmsplice(&pipe.1, map.at(0), BLOCK);
                            pipes.push(pipe);
                        }
                    }
                }
                14 => {
                    if let Ok(from) = File::open(&other, libc::O_RDONLY | libc::O_NONBLOCK) {
                        let _ = clone_file(&from, &file);
                    }
                }
                _ => {
                    let to = random.below(1000) as u64 * BLOCK64;
                    let _ = clone_range(&file, 0, 2 * BLOCK64, &file, to);
                }
            }
        }
    }
    Ok(())
}

fn everything_that_was_made_is_given_back(t: &Test) -> Outcome {
    for round in 0..t.rounds(20) as u64 {
        let at = format!("fs-{round}");
        let fs = t.mount_at(&at, &[("size", "1M"), ("nr_inodes", "40")])?;
        let before = fs.space()?;
        let mut random = Random::new(t.settings.seed ^ round);
        let mut pipes = Vec::new();
        for _ in 0..300 {
            do_something(&fs, &mut random, &mut pipes)?;
            let space = fs.space()?;
            expect(
                space.free <= space.blocks && space.free_inodes <= space.inodes,
                format_args!("{space:?}"),
            )?;
        }
        if round % 4 == 3 {
            // With everything that exists, and with the blocks in pipes.
            fs.unmount()?;
            continue;
        }
        pipes.clear();
        for n in 0..20 {
            let path = fs.path(&format!("name-{n}"));
            let _ = unlink(&path);
            let _ = rmdir(&path);
        }
        let what = format!("everything is free, round {round}");
        eventually(what, || Ok(fs.space()? == before))?;
        if t.is_reflinkfs() {
            let summary = summary(&summary_path(&fs.root)?)?;
            for name in ["blocks", "nodes", "attribute_bytes"] {
                expect_eq(summary[name], 0, format_args!("{name}, round {round}"))?;
            }
        }
        fs.fill(0)?;
    }
    Ok(())
}

/// The most memory for each of `nr_inodes=`, in bytes.
const INODE: u64 = 2048;

fn the_defaults_leave_a_third_of_memory(t: &Test) -> Outcome {
    let fs = t.mount(&[])?;
    let Space { blocks, inodes, .. } = fs.space()?;
    let most = blocks * BLOCK64 / 256 * 257 + (2 << 20) + inodes * INODE;
    let total = crate::memory::total()?;
    expect(
        most < total / 3 * 2,
        format_args!("{most} bytes of {total} for {blocks} blocks and {inodes} inodes"),
    )?;
    expect(inodes > total / 65536, format_args!("{inodes} inodes"))
}

fn an_inode_takes_no_more_than_the_manual_says(_: &Test) -> Outcome {
    // name, active, all, bytes, in a slab, pages of a slab
    let slabs = std::fs::read_to_string("/proc/slabinfo").or_fail("read /proc/slabinfo")?;
    let bytes = |cache: &str| -> Outcome<u64> {
        let line = slabs
            .lines()
            .find(|line| line.starts_with(&format!("{cache} ")));
        let words: Vec<u64> = line
            .ok_or("not there")
            .or_fail(cache)?
            .split_whitespace()
            .skip(1)
            .take(5)
            .filter_map(|word| word.parse().ok())
            .collect();
        expect_eq(words.len(), 5, format_args!("numbers of {cache}"))?;
        Ok(words[4] * BLOCK64 / words[3])
    };
    let (inode, dentry) = (bytes("reflinkfs")?, bytes("dentry")?);
    // The name, and its place in the directory; a short symbolic link target.
    let all = inode + dentry + bytes("kmalloc-512")? + bytes("kmalloc-64")? + 128;
    expect(
        all <= INODE,
        format_args!("{all} bytes: an inode {inode}, a dentry {dentry}"),
    )
}
