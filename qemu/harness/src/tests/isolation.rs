// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Once a process holds a block of a file (in a pipe, in a read in progress, pinned for a store),
//! it sees and changes that file and no other, whatever blocks are shared meanwhile.

use std::os::fd::AsRawFd;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::fallocate::{fallocate, PUNCH};
use super::splice::vmsplice;
use crate::case::{case, Case, Test};
use crate::failure::{
    expect, expect_bytes, expect_eq, expect_errno, Context, Failure, Outcome, Sys,
};
use crate::filesystem::{Btrfs, Xfs, CLONES, CLONES_COUNTED};
use crate::instance::Instance;
use crate::mapping::Mapping;
use crate::pattern::{BLOCK, BLOCK64};
use crate::stall::Stall;
use crate::sys::{
    check, clone_file, clone_range, dedupe, new_clone, pipe, pread_to, read_all, unlink, Deduped,
    File,
};

pub const CASES: &[Case] = &[
    case!(a_pipe_filled_from_a_clone_never_shows_the_sources_new_bytes).needs(CLONES),
    case!(a_pipe_filled_from_the_source_never_shows_a_clones_new_bytes).needs(CLONES),
    case!(a_read_under_way_never_shows_another_files_new_bytes)
        .needs(CLONES)
        .except(
            Xfs,
            "a read keeps the file locked while it waits for its buffer",
        ),
    case!(a_store_under_way_stays_in_its_file_when_that_is_cloned)
        .needs(CLONES)
        .except(
            Btrfs,
            "leaves the stores out of clones that are made afterwards",
        ),
    case!(a_store_under_way_is_not_lost_when_there_is_no_room_to_share_its_block)
        .needs(CLONES_COUNTED),
    case!(a_store_under_way_to_blocks_that_were_cut_off_lands_nowhere).needs(CLONES),
    case!(a_store_under_way_to_a_destination_stays_out_of_the_source).needs(CLONES),
    case!(a_store_under_way_never_reaches_what_was_deduplicated).needs(CLONES),
    case!(a_mapped_block_survives_the_file_that_shared_it).needs(CLONES),
    case!(a_write_under_way_is_not_lost_when_the_block_goes_into_a_pipe)
        .except(Xfs, "a splice waits for the write"),
];

/// Bytes that are written to one file only, after it was cloned.
const SECRET: u8 = b'S';

type Change = (&'static str, fn(&Test, &File) -> Outcome);

/// Changes of the file that the block came from.
const FATES: &[Change] = &[
    ("overwritten", |_, file| file.write_at(&[b'b'; BLOCK], 0)),
    ("overwritten in part", |_, file| {
        file.write_at(b"b", BLOCK64 - 1)
    }),
    ("stored to", |_, file| {
        Mapping::shared(file, BLOCK)?.store(9, b"b");
        Ok(())
    }),
    ("truncated", |_, file| file.truncate(0)),
    ("truncated inside the block", |_, file| file.truncate(100)),
    ("cloned onto", |t, file| {
        let other = t.create_with("other", &[b'o'; BLOCK])?;
        clone_file(&other, file).or_fail("FICLONE of the other")
    }),
    ("unlinked", |_, file| unlink(&file.path).or_fail("unlink")),
];

/// Ways to write the secret to the other file.
const WAYS: &[Change] = &[
    ("written", |_, file| file.write_at(&[SECRET; BLOCK], 0)),
    ("stored", |_, file| {
        Mapping::shared(file, BLOCK)?.store(0, &[SECRET; BLOCK]);
        Ok(())
    }),
    ("copied", |t, file| {
        // Not congruent, so that the bytes are copied into the block.
        let other = t.create_with("secret", &[SECRET; 2 * BLOCK])?;
        let n = crate::sys::copy_once(&other, 1, file, 0, BLOCK).or_fail("copy_file_range")?;
        expect_eq(n, BLOCK, "bytes copied")
    }),
];

/// Returns each change of one file with each way of the other.
fn turns() -> impl Iterator<Item = (String, Change, Change)> {
    let both = FATES
        .iter()
        .flat_map(|f| WAYS.iter().map(move |w| (*f, *w)));
    both.map(|(fate, way)| {
        let what = format!("one file {}, the other {}", fate.0, way.0);
        (what, fate, way)
    })
}

/// Creates a file of one block full of `a`, and its clone.
fn source_and_clone(t: &Test) -> Outcome<(File, File)> {
    let source = t.create_with("source", &[b'a'; BLOCK])?;
    let clone = new_clone(&source, t.path("clone"))?;
    Ok((source, clone))
}

fn expect_no_secret(seen: &[u8], what: impl std::fmt::Display) -> Outcome {
    let at = seen.iter().position(|&byte| byte == SECRET);
    expect(
        at.is_none(),
        format_args!("{what}: byte {at:?} is one that only the other file ever held"),
    )
}

/// Splices the page of one file into a pipe, changes that file, and writes the secret to the other.
fn expect_pipes_without_secret(t: &Test, of_the_clone: bool) -> Outcome {
    for (what, fate, way) in turns() {
        for still_mapped in [true, false] {
            let (source, clone) = source_and_clone(t)?;
            let (one, other) = if of_the_clone {
                (&clone, &source)
            } else {
                (&source, &clone)
            };
            let (output, input) = pipe()?;
            let map = Mapping::shared_read(one, BLOCK)?;
            let n = vmsplice(&input, map.at(0), map.len()).or_fail("vmsplice")?;
            let _map = still_mapped.then_some(map);
            (fate.1)(t, one)?;
            (way.1)(t, other)?;
            expect_no_secret(&read_all(&output, n)?, format_args!("the pipe, {what}"))?;
            expect_no_secret(&one.contents()?, format_args!("the one file, {what}"))?;
            other.expect_contents(&[SECRET; BLOCK], &what)?;
        }
    }
    Ok(())
}

fn a_pipe_filled_from_a_clone_never_shows_the_sources_new_bytes(t: &Test) -> Outcome {
    expect_pipes_without_secret(t, true)
}

fn a_pipe_filled_from_the_source_never_shows_a_clones_new_bytes(t: &Test) -> Outcome {
    expect_pipes_without_secret(t, false)
}

fn a_read_under_way_never_shows_another_files_new_bytes(t: &Test) -> Outcome {
    for (what, fate, way) in turns() {
        for of_the_clone in [true, false] {
            let (source, clone) = source_and_clone(t)?;
            let (one, other) = if of_the_clone {
                (&clone, &source)
            } else {
                (&source, &clone)
            };
            let stall = Stall::new()?;
            let read = || pread_to(one, stall.buffer().at(0), BLOCK, 0);
            let n = stall
                .during(read, 0, || {
                    (fate.1)(t, one)?;
                    (way.1)(t, other)
                })?
                .or_fail("pread that waited for its buffer")?;
            expect_no_secret(&stall.buffer().load(0, n), format_args!("the read, {what}"))?;
            expect_no_secret(&one.contents()?, format_args!("the one file, {what}"))?;
            other.expect_contents(&[SECRET; BLOCK], &what)?;
        }
    }
    Ok(())
}

/// Lets the kernel store a buffer to the start of a mapping: it pins the mapping's page before it
/// touches the buffer.
pub fn store_by_kernel(map: &Mapping, from: &Mapping) -> Sys<usize> {
    let vector = |map: &Mapping| libc::iovec {
        iov_base: map.at(0).cast(),
        iov_len: BLOCK,
    };
    let (local, remote) = (vector(from), vector(map));
    // SAFETY: both lie in mappings of this process.
    check(unsafe { libc::process_vm_writev(libc::getpid(), &local, 1, &remote, 1, 0) } as i64)
}

fn a_store_under_way_stays_in_its_file_when_that_is_cloned(t: &Test) -> Outcome {
    const SIZE: usize = 16 * BLOCK;
    let source = t.create_with("source", &[b'a'; SIZE])?;
    let map = Mapping::shared(&source, SIZE)?;
    let stall = Stall::new()?;
    let mut clones = Vec::new();
    let store = || store_by_kernel(&map, stall.buffer());
    stall
        .during(store, b'P', || {
            for number in 0..3 {
                clones.push(new_clone(&source, t.path(&format!("clone-{number}")))?);
                clone_file(&source, &clones[0]).or_fail("FICLONE once more")?;
            }
            clones.push(new_clone(&clones[0], t.path("clone of a clone"))?);
            let range = t.create("range")?;
            clone_range(&source, 0, BLOCK64, &range, 0).or_fail("FICLONERANGE")?;
            range.expect_contents(&[b'a'; BLOCK], "a range cloned meanwhile")?;
            // In place, although there are clones: the store must reach the file.
            source.write_at(b"w", BLOCK64 - 1)
        })?
        .or_fail("process_vm_writev")?;
    let mut model = vec![b'a'; SIZE];
    for clone in &clones {
        clone.expect_contents(&model, "a clone made before the bytes were stored")?;
    }
    model[..BLOCK].fill(b'P');
    source.expect_contents(&model, "the file that was stored to")?;
    // From here on they are ordinary clones.
    let later = new_clone(&source, t.path("later"))?;
    map.store(0, &[b'q'; BLOCK]);
    later.expect_contents(&model, "a clone made after that")?;
    for clone in &clones {
        clone.expect_contents(&[b'a'; SIZE], "an earlier clone after another store")?;
    }
    Ok(())
}

fn dedupe_or_fail(from: &File, len: u64, to: &File) -> Sys {
    match dedupe(from, 0, len, to, 0)? {
        Deduped::Failed(error) => Err(error),
        _ => Ok(()),
    }
}

/// Shares the first blocks of a file, or fails.
type Attempt = (&'static str, fn(&File, &File) -> Sys);

const ATTEMPTS: &[Attempt] = &[
    ("a clone of a block", |file, other| {
        clone_range(file, 0, BLOCK64, other, 0)
    }),
    ("a clone of many blocks", |file, other| {
        clone_range(file, 0, 300 * BLOCK64, other, 0)
    }),
    ("a dedupe of a block", |file, other| {
        dedupe_or_fail(file, BLOCK64, other)
    }),
    ("a dedupe of many blocks", |file, other| {
        dedupe_or_fail(file, 300 * BLOCK64, other)
    }),
    ("a dedupe with another file", |file, other| {
        dedupe_or_fail(other, BLOCK64, file)
    }),
];

/// Leaves no room for one more node of a tree.
fn take_all_nodes(fs: &Instance) -> Outcome {
    let (source, many) = (
        fs.create_with("source", &[0; 2 * BLOCK])?,
        fs.create("many")?,
    );
    let mut at = 0;
    // Each in a leaf of its own, below another node.
    while clone_range(&source, 0, BLOCK64, &many, at).is_ok() {
        at += 64 * 64 * BLOCK64;
    }
    // What is cloned has a leaf of its own after that, and takes nothing else.
    for number in 0.. {
        let one = new_clone(&source, fs.path(&format!("one-{number}")))?;
        if let Err(error) = fallocate(&one, PUNCH, 0, BLOCK64) {
            return expect_errno::<()>(Err(error), libc::ENOSPC, "punching a hole");
        }
    }
    Ok(())
}

/// What cannot be shared, as there is no room for a node, stays the file's own: the next store
/// through a mapping must not go to a copy, which the store under way does not reach.
fn a_store_under_way_is_not_lost_when_there_is_no_room_to_share_its_block(t: &Test) -> Outcome {
    const BLOCKS: usize = 400;
    for (number, (what, attempt)) in ATTEMPTS.iter().enumerate() {
        let fs = t.mount_at(&format!("fs-{number}"), &[("size", "4M")])?;
        let file = fs.create_with("file", &[b'a'; BLOCKS * BLOCK])?;
        let other = fs.create_with("other", &[b'a'; BLOCKS * BLOCK])?;
        let map = Mapping::shared(&file, BLOCKS * BLOCK)?;
        let spare = fs.create_with("spare", b"s")?;
        take_all_nodes(&fs)?;
        if what.starts_with("a clone") {
            // Room for the copy of the block, and for no node beside it.
            spare.truncate(0)?;
        }
        let stall = Stall::new()?;
        let store = || store_by_kernel(&map, stall.buffer());
        stall
            .during(store, b'P', || {
                let read_only = file.reopen(libc::O_RDONLY)?;
                let result = match *what {
                    "a dedupe with another file" => attempt(&file, &other),
                    _ => attempt(&read_only, &other),
                };
                expect_errno(result, libc::ENOSPC, what)?;
                map.store(BLOCK - 1, b"s");
                Ok(())
            })?
            .or_fail("process_vm_writev")?;
        let mut model = vec![b'a'; BLOCKS * BLOCK];
        model[..BLOCK].fill(b'P');
        let after = format!("the file that was stored to, after {what}");
        file.expect_contents(&model, &after)?;
        expect_bytes(&map.load_all(), &model, format_args!("{after}, mapped"))?;
    }
    Ok(())
}

fn a_store_under_way_to_blocks_that_were_cut_off_lands_nowhere(t: &Test) -> Outcome {
    for cloned_before in [false, true] {
        let source = t.create_with("source", &[b'a'; BLOCK])?;
        let clone = t.create("clone")?;
        let map = Mapping::shared(&source, BLOCK)?;
        let stall = Stall::new()?;
        let store = || store_by_kernel(&map, stall.buffer());
        stall
            .during(store, b'Q', || {
                if cloned_before {
                    clone_file(&source, &clone).or_fail("FICLONE before")?;
                }
                source.truncate(0)?;
                clone.truncate(0)?;
                source.write_at(b"zzzz", 0)?;
                clone_file(&source, &clone).or_fail("FICLONE after")
            })?
            .or_fail("process_vm_writev")?;
        source.expect_contents(b"zzzz", "the file, truncated and written again")?;
        clone.expect_contents(b"zzzz", "its clone")?;
    }
    Ok(())
}

fn a_store_under_way_to_a_destination_stays_out_of_the_source(t: &Test) -> Outcome {
    for cloned_before in [false, true] {
        let source = t.create_with("source", &[b'a'; BLOCK])?;
        let to = t.create_with("to", &[b't'; BLOCK])?;
        if cloned_before {
            clone_file(&source, &to).or_fail("FICLONE before")?;
        }
        let map = Mapping::shared(&to, BLOCK)?;
        let stall = Stall::new()?;
        let store = || store_by_kernel(&map, stall.buffer());
        stall
            .during(store, b'R', || {
                clone_file(&source, &to).or_fail("FICLONE")?;
                source.expect_contents(&[b'a'; BLOCK], "the source meanwhile")
            })?
            .or_fail("process_vm_writev")?;
        source.expect_contents(&[b'a'; BLOCK], "the source")?;
        let seen = to.contents()?;
        expect(
            seen == [b'a'; BLOCK] || seen == [b'R'; BLOCK],
            "the destination has the cloned or the stored bytes",
        )?;
        expect_bytes(&map.load_all(), &seen, "the destination, mapped")?;
        source.write_at(&[b's'; BLOCK], 0)?;
        to.expect_contents(&seen, "the destination after a write to the source")?;
    }
    Ok(())
}

fn a_store_under_way_never_reaches_what_was_deduplicated(t: &Test) -> Outcome {
    // Long enough for a store in the middle of the comparison.
    let size = if t.settings.divisor > 1 {
        16 << 20
    } else {
        64 << 20
    };
    let data = vec![b'e'; size];
    let run = |source: &File, to: &File| -> Outcome<(Deduped, Duration)> {
        let started = Instant::now();
        let result = dedupe(source, 0, size as u64, to, 0).or_fail("FIDEDUPERANGE")?;
        Ok((result, started.elapsed()))
    };
    let files = || Ok((t.create_with("source", &data)?, t.create_with("to", &data)?));
    let (source, to) = files()?;
    let whole = run(&source, &to)?.1;
    for (stored_to_source, tenths) in [(true, 1), (true, 4), (true, 8), (false, 4)] {
        let (source, to) = files()?;
        let (stored, other) = if stored_to_source {
            (&source, &to)
        } else {
            (&to, &source)
        };
        let map = Mapping::shared(stored, BLOCK)?;
        let stall = Stall::new()?;
        let mut result = None;
        let store = || store_by_kernel(&map, stall.buffer());
        stall
            .during(store, b'P', || {
                std::thread::scope(|scope| {
                    let running = scope.spawn(|| run(&source, &to));
                    std::thread::sleep(whole * tenths / 10);
                    let released = stall.release(b'P');
                    let ran = running.join();
                    let ran = ran.map_err(|_| Failure::new("the thread panicked"))?;
                    result = Some(ran?.0);
                    released
                })
            })?
            .or_fail("process_vm_writev")?;
        let what = format!("store after {tenths}/10 of the time, result {result:?}");
        let first = other.read_at(0, BLOCK)?;
        expect_bytes(
            &first,
            &data[..BLOCK],
            format_args!("never stored to; {what}"),
        )?;
        // On other filesystems a store to the destination may go to a page that the shared one
        // replaces.
        if stored_to_source || t.is_reflinkfs() {
            let first = stored.read_at(0, BLOCK)?;
            expect_bytes(&first, &[b'P'; BLOCK], format_args!("stored to; {what}"))?;
        }
        drop(map);
        stored.write_at(&[b'e'; BLOCK], 0)?;
        expect(stored.contents()? == data, format_args!("the rest; {what}"))?;
        expect(other.contents()? == data, format_args!("the other; {what}"))?;
    }
    Ok(())
}

fn a_mapped_block_survives_the_file_that_shared_it(t: &Test) -> Outcome {
    let deadline = Instant::now() + t.settings.race;
    let mut turn = 0;
    while turn < 2 || Instant::now() < deadline {
        let source = t.create_with("source", &[b'a'; BLOCK])?;
        // Records the block as mapped by the source.
        Mapping::shared(&source, BLOCK)?.store(1, b"x");
        let clone = new_clone(&source, t.path("clone"))?;
        let (goes, stays) = if turn % 2 == 0 {
            (source, clone)
        } else {
            (clone, source)
        };
        if turn % 4 < 2 {
            goes.truncate(0)?;
        }
        let map = Mapping::shared(&stays, BLOCK)?;
        let start = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                map.store(0, b"B");
            });
            start.wait();
            let removed = unlink(&goes.path).or_fail("unlink");
            drop(goes);
            removed
        })?;
        let mut model = [b'a'; BLOCK];
        model[..2].copy_from_slice(b"Bx");
        stays.expect_contents(&model, "the file that stays")?;
        expect_bytes(&map.load_all(), &model, "its mapping")?;
        turn += 1;
    }
    Ok(())
}

/// The write has found that it can be done in place, and waits; the pipe's bytes must stay, so the
/// write must go elsewhere then.
fn a_write_under_way_is_not_lost_when_the_block_goes_into_a_pipe(t: &Test) -> Outcome {
    let file = t.create_with("file", &[b'a'; BLOCK])?;
    let (reader, writer) = pipe()?;
    let map = Mapping::shared(&file, BLOCK)?;
    let stall = Stall::new()?;
    let half = BLOCK / 2;
    let write = || crate::sys::pwrite_from(&file, stall.buffer().at(0), half, half as i64);
    let written = stall.during(write, b'w', || {
        let mut at = 0;
        // SAFETY: plain call; the offset is valid during it.
        let spliced = check(unsafe {
            let (from, to) = (file.as_raw_fd(), writer.as_raw_fd());
            libc::splice(from, &mut at, to, std::ptr::null_mut(), BLOCK, 0) as i64
        });
        expect_eq(spliced.or_fail("splice")?, BLOCK, "bytes spliced")?;
        map.store(0, b"stored");
        Ok(())
    })?;
    expect_eq(written.or_fail("pwrite")?, half, "bytes written")?;
    let mut data = [vec![b'a'; half], vec![b'w'; half]].concat();
    data[..6].copy_from_slice(b"stored");
    file.expect_contents(&data, "after a write and a store")?;
    let seen = read_all(&reader, BLOCK)?;
    if t.is_reflinkfs() {
        expect_bytes(&seen, &[b'a'; BLOCK], "the bytes in the pipe")?;
    }
    Ok(())
}
