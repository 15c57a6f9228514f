// SPDX-License-Identifier: GPL-2.0 OR MIT
//! splice(2) and sendfile(2) of a file pass its blocks on, and copy none.

use std::os::fd::{AsRawFd, OwnedFd};

use crate::case::{case, Case, Test};
use crate::extents::{block_map, Block};
use crate::failure::{expect, expect_bytes, expect_eq, Context, Failure, Outcome};
use crate::filesystem::Feature;
use crate::mapping::Mapping;
use crate::memory;
use crate::pattern::{blocks, BLOCK};
use crate::sys::{check, pipe, read_all, write_all, File};

pub const CASES: &[Case] = &[
    case!(a_block_that_was_handed_on_is_not_written_in_place).needs(&[Feature::Reflinkfs]),
    case!(a_block_that_is_mapped_writable_is_copied).needs(&[Feature::Reflinkfs]),
    case!(what_lies_in_pipes_takes_no_memory),
];

/// Creates a pipe with room for so many blocks.
fn pipe_for(count: usize) -> Outcome<(OwnedFd, OwnedFd)> {
    let (output, input) = pipe()?;
    // SAFETY: plain call on an open descriptor.
    check(unsafe { libc::fcntl(input.as_raw_fd(), libc::F_SETPIPE_SZ, count * BLOCK) })
        .or_fail("F_SETPIPE_SZ")?;
    Ok((output, input))
}

/// Splices `count` blocks from block `first` on. Returns the reading end of the pipe.
pub fn splice(file: &File, first: usize, count: usize) -> Outcome<OwnedFd> {
    let (output, input) = pipe_for(count)?;
    let len = count * BLOCK;
    let (start, mut at) = ((first * BLOCK) as i64, (first * BLOCK) as i64);
    while ((at - start) as usize) < len {
        let left = len - (at - start) as usize;
        // SAFETY: the offset is valid for the call; the pipe has none.
        let n = check(unsafe {
            let (from, to) = (file.as_raw_fd(), input.as_raw_fd());
            libc::splice(from, &mut at, to, std::ptr::null_mut(), left, 0) as i64
        });
        expect(n.or_fail("splice")? > 0, "splice moves something")?;
    }
    Ok(output)
}

/// Sends blocks to a socket, as `splice`.
fn send(file: &File, first: usize, count: usize) -> Outcome<OwnedFd> {
    let (one, other) = std::os::unix::net::UnixStream::pair().or_fail("socketpair")?;
    let mut at = (first * BLOCK) as i64;
    // SAFETY: the offset is valid for the call.
    let n = check(unsafe {
        let (to, from) = (one.as_raw_fd(), file.as_raw_fd());
        libc::sendfile(to, from, &mut at, count * BLOCK) as i64
    });
    expect_eq(n.or_fail("sendfile")?, count * BLOCK, "bytes sent")?;
    Ok(other.into())
}

type Way = (&'static str, fn(&File, usize, usize) -> Outcome<OwnedFd>);

const WAYS: [Way; 2] = [("splice", splice), ("sendfile", send)];

/// Returns the address of each block of a file, none of which is shared.
fn places(file: &File) -> Outcome<Vec<u64>> {
    let place = |block| match block {
        Block::Private(place) => Ok(place),
        other => Err(Failure::new(format_args!("a block is {other:?}"))),
    };
    block_map(file)?.into_iter().map(place).collect()
}

/// Writes to the start of each block, and returns the number of those that moved.
fn moved_by_writes(file: &File, model: &mut [u8], byte: u8) -> Outcome<Vec<usize>> {
    let before = places(file)?;
    for at in (0..model.len()).step_by(BLOCK) {
        file.write_at(&[byte; 10], at as u64)?;
        model[at..at + 10].fill(byte);
    }
    file.expect_contents(model, "the file after writes")?;
    let after = places(file)?;
    Ok((0..before.len())
        .filter(|&i| before[i] != after[i])
        .collect())
}

/// The pipe has the block itself, so that a write has to go to another block: if it does, there is
/// no copy in the pipe.
fn a_block_that_was_handed_on_is_not_written_in_place(t: &Test) -> Outcome {
    for (what, way) in WAYS {
        let mut model = blocks(1, 6);
        let file = t.create_with("file", &model)?;
        let moved = moved_by_writes(&file, &mut model, 1)?;
        expect_eq(moved, vec![], format_args!("blocks moved before {what}"))?;
        let (before, output) = (model.clone(), way(&file, 2, 3)?);
        let moved = moved_by_writes(&file, &mut model, 2)?;
        expect_eq(
            moved,
            vec![2, 3, 4],
            format_args!("blocks moved after {what} of these"),
        )?;
        // No pipe has the new ones.
        let moved = moved_by_writes(&file, &mut model, 3)?;
        expect_eq(moved, vec![], format_args!("blocks moved later, {what}"))?;
        let seen = read_all(&output, 3 * BLOCK)?;
        let expected = &before[2 * BLOCK..5 * BLOCK];
        expect_bytes(
            &seen,
            expected,
            format_args!("the bytes that came by {what}"),
        )?;
    }
    Ok(())
}

/// Stores to it are not noticed: so the pipe gets a copy, and the block stays. (The mapping has one
/// block only, as a store maps the neighbours, too.)
fn a_block_that_is_mapped_writable_is_copied(t: &Test) -> Outcome {
    for (what, way) in WAYS {
        let mut model = blocks(1, 3);
        let file = t.create_with("file", &model)?;
        let (protection, at) = (libc::PROT_READ | libc::PROT_WRITE, BLOCK as u64);
        let map = Mapping::try_new(&file, at, BLOCK, protection, libc::MAP_SHARED);
        let map = map.or_fail("mmap")?;
        map.store(0, &model[BLOCK..BLOCK + 1]);
        let (before, output) = (model.clone(), way(&file, 0, 3)?);
        let moved = moved_by_writes(&file, &mut model, 2)?;
        expect_eq(moved, vec![0, 2], format_args!("blocks moved after {what}"))?;
        map.store(0, b"stored");
        let seen = read_all(&output, 3 * BLOCK)?;
        expect_bytes(
            &seen,
            &before,
            format_args!("the bytes that came by {what}"),
        )?;
    }
    Ok(())
}

/// Returns the memory of so many pipes that are filled so.
fn taken_by_pipes(fill: impl Fn() -> Outcome<OwnedFd>) -> Outcome<i64> {
    // Other allocations come and go: the most frequent result counts.
    let mut taken = Vec::new();
    for _ in 0..5 {
        let before = memory::free()? as i64;
        let pipes = (0..PIPES).map(|_| fill()).collect::<Outcome<Vec<_>>>()?;
        taken.push(before - memory::free()? as i64);
        let seen = read_all(&pipes[PIPES - 1], COUNT * BLOCK)?;
        expect_bytes(&seen, &blocks(1, COUNT), "the last pipe")?;
    }
    taken.sort();
    Ok(taken[2])
}

const PIPES: usize = 64;

/// The number of blocks of each pipe.
const COUNT: usize = 256;

fn what_lies_in_pipes_takes_no_memory(t: &Test) -> Outcome {
    const ALL: i64 = (PIPES * COUNT * BLOCK) as i64;
    let data = blocks(1, COUNT);
    let file = t.create_with("file", &data)?;
    file.sync()?;
    file.contents()?;
    let taken = taken_by_pipes(|| splice(&file, 0, COUNT))?;
    expect(
        taken < ALL / 4,
        format_args!("{ALL} bytes spliced into pipes take {taken} of memory"),
    )?;
    // Writing to them does.
    let taken = taken_by_pipes(|| {
        let (output, input) = pipe_for(COUNT)?;
        write_all(&input, &data)?;
        Ok(output)
    })?;
    expect(
        taken > ALL / 2,
        format_args!("{ALL} bytes written to pipes take {taken} of memory"),
    )
}
