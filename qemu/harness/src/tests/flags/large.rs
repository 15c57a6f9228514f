// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Ranges longer than the limits of the kernel's own calls: 2 GiB for a copy, 1 GiB for a
//! deduplication, 16 MiB for one on btrfs.

use libc::EBADE;

use super::data::usable;
use super::{call, copy_all, flag_name, range, COPY, DEDUP, REFLINK, WAYS};
use crate::case::{case, Case, Test};
use crate::extents::{block_map, expect_nothing_shared, Block};
use crate::failure::{expect, expect_bytes, expect_eq, Context, Outcome};
use crate::filesystem::Feature;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::sys::File;

pub const CASES: &[Case] = &[
    case!(tens_of_megabytes_are_one_call),
    case!(a_difference_after_tens_of_megabytes_leaves_all_unshared)
        .needs(&[Feature::Reflink, Feature::Fiemap]),
    case!(a_long_range_that_is_not_aligned_is_refused_at_once).needs(&[Feature::Reflink]),
    case!(more_than_two_gigabytes_are_copied_in_one_call).needs(&[Feature::Reflinkfs]),
    case!(more_than_two_gigabytes_are_shared_in_one_call).needs(&[Feature::Reflink]),
    case!(more_than_a_gigabyte_is_deduplicated_in_one_call).needs(&[Feature::Reflinkfs]),
    case!(a_difference_after_a_gigabyte_leaves_all_unshared).needs(&[Feature::Reflinkfs]),
];

/// Two steps of 16 MiB and an unaligned rest.
const TENS: usize = (33 << 20) + 5 * BLOCK + 77;

/// More than `MAX_RW_COUNT`.
const GIGABYTES: usize = (2 << 30) + 5 * BLOCK + 77;

/// Creates a file of some size, mostly holes.
fn sparse(t: &Test, name: &str, size: usize) -> Outcome<File> {
    let file = t.create(name)?;
    for at in [0, size / 3, size - BLOCK] {
        file.write_at(&pattern((at % 251) as u8, BLOCK), at as u64)?;
    }
    expect_eq(file.size()?, size as u64, "size of the sparse file")?;
    Ok(file)
}

/// Expects the contents of `sparse`.
fn expect_sparse(file: &File, size: usize, what: &str) -> Outcome {
    expect_eq(file.size()?, size as u64, format_args!("{what}: size"))?;
    for at in [0, size / 3, size - BLOCK] {
        let seen = file.read_at(at as u64, BLOCK)?;
        expect_bytes(
            &seen,
            &pattern((at % 251) as u8, BLOCK),
            format_args!("{what}, at {at}"),
        )?;
    }
    for at in [2 * BLOCK, size / 2, size - 3 * BLOCK] {
        expect_bytes(
            &file.read_at(at as u64, BLOCK)?,
            &[0; BLOCK],
            format_args!("{what}, at {at}"),
        )?;
    }
    Ok(())
}

fn tens_of_megabytes_are_one_call(t: &Test) -> Outcome {
    let source = sparse(t, "source", TENS)?;
    for flags in usable(t) {
        let what = flag_name(flags);
        let to = if flags == DEDUP {
            sparse(t, "to", TENS)?
        } else {
            t.create("to")?
        };
        let way = WAYS[flags as usize % 4];
        let copied = call(way, &source, &to, range(0, 0, TENS), flags)?.or_fail(&what)?;
        expect_eq(copied, TENS, format_args!("{what}: bytes done"))?;
        expect_sparse(&to, TENS, &what)?;
        if flags == COPY && t.filesystem.can_share() {
            expect_nothing_shared(&source, &to)?;
        }
    }
    Ok(())
}

fn a_difference_after_tens_of_megabytes_leaves_all_unshared(t: &Test) -> Outcome {
    let source = sparse(t, "source", TENS)?;
    let to = sparse(t, "to", TENS)?;
    let last = to.read_at(TENS as u64 - 1, 1)?;
    to.write_at(&[!last[0]], TENS as u64 - 1)?;
    let before = (block_map(&source)?, block_map(&to)?);
    let whole = range(0, 0, TENS);
    for way in [WAYS[0], WAYS[3]].into_iter().take(t.rounds(2)) {
        let result = call(way, &source, &to, whole, DEDUP)?;
        crate::failure::expect_errno(result, EBADE, "files that differ in the last byte")?;
    }
    expect_eq(&block_map(&source)?, &before.0, "the source's blocks")?;
    expect_eq(&block_map(&to)?, &before.1, "the destination's blocks")?;
    expect(
        before
            .1
            .iter()
            .all(|block| !matches!(block, Block::Shared(_))),
        "no block is shared",
    )
}

/// Before any comparison, which would find a difference, and before a block is shared.
fn a_long_range_that_is_not_aligned_is_refused_at_once(t: &Test) -> Outcome {
    let source = sparse(t, "source", TENS)?;
    for differ in [false, true] {
        let to = sparse(t, "to", TENS)?;
        if differ {
            to.write_at(&[!to.read_at(0, 1)?[0]], 0)?;
        }
        for place in [
            range(1, 0, TENS - BLOCK),
            range(0, 1, TENS - BLOCK),
            range(0, 0, TENS - 1),
            range(0, 0, (32 << 20) + 1),
        ] {
            let what = format!("{place:?}, differ: {differ}");
            crate::failure::expect_errno(
                super::copy(&source, &to, place, DEDUP),
                libc::EINVAL,
                &what,
            )?;
            if !differ {
                expect_nothing_shared(&source, &to)?;
            }
        }
    }
    Ok(())
}

fn more_than_two_gigabytes_are_copied_in_one_call(t: &Test) -> Outcome {
    let source = sparse(t, "source", GIGABYTES)?;
    let to = t.create("to")?;
    let copied = call(WAYS[0], &source, &to, range(0, 0, GIGABYTES), COPY)?;
    expect_eq(copied.or_fail("the copy")?, GIGABYTES, "bytes copied")?;
    expect_sparse(&to, GIGABYTES, "the copy")?;
    expect_nothing_shared(&source, &to)
}

fn more_than_two_gigabytes_are_shared_in_one_call(t: &Test) -> Outcome {
    let size = 2 * GIGABYTES;
    let source = sparse(t, "source", size)?;
    let to = t.create("to")?;
    let copied = call(WAYS[3], &source, &to, range(0, 0, size), REFLINK)?;
    expect_eq(copied.or_fail("sharing")?, size, "bytes shared")?;
    expect_sparse(&to, size, "the clone")
}

/// Creates a file of 4 GiB that takes a few blocks: cloned behind itself again and again.
fn doubled(t: &Test, name: &str) -> Outcome<(File, usize)> {
    let file = t.create_with(name, &blocks(1, 2))?;
    let mut size = 2 * BLOCK;
    while size < 4 << 30 {
        copy_all(&file, &file, range(0, size as u64, size), REFLINK)?;
        size *= 2;
    }
    Ok((file, size))
}

fn more_than_a_gigabyte_is_deduplicated_in_one_call(t: &Test) -> Outcome {
    let (source, size) = doubled(t, "source")?;
    let to = t.create("to")?;
    copy_all(&source, &to, range(0, 0, size), REFLINK)?;
    // The same bytes in other blocks, here and there.
    for at in [0, 1 << 30, 3 << 30, size as u64 - BLOCK64] {
        to.write_at(&source.read_at(at, BLOCK)?, at)?;
    }
    let result = call(WAYS[0], &source, &to, range(0, 0, size), DEDUP)?;
    expect_eq(result.or_fail("the deduplication")?, size, "bytes shared")?;
    for at in [0, 1 << 30, 3 << 30, size as u64 - BLOCK64] {
        let physical = |file: &File| -> Outcome<u64> {
            let (_, extents) = crate::extents::fiemap(file, at, BLOCK64, 0, 1).or_fail("FIEMAP")?;
            let extent = extents
                .first()
                .ok_or("no extent")
                .or_fail(format_args!("at {at}"))?;
            Ok(extent.physical + (at - extent.logical))
        };
        expect_eq(
            physical(&to)?,
            physical(&source)?,
            format_args!("where the block at {at} is"),
        )?;
    }
    Ok(())
}

fn a_difference_after_a_gigabyte_leaves_all_unshared(t: &Test) -> Outcome {
    let (source, size) = doubled(t, "source")?;
    let to = t.create("to")?;
    copy_all(&source, &to, range(0, 0, size), REFLINK)?;
    // One block that could be shared, at the beginning; one that cannot, at the end.
    to.write_at(&source.read_at(0, BLOCK)?, 0)?;
    to.write_at(b"different", size as u64 - 9)?;
    expect_first_block_own(&to)?;
    for way in WAYS {
        let result = call(way, &source, &to, range(0, 0, size), DEDUP)?;
        crate::failure::expect_errno(result, EBADE, "files that differ in the last bytes")?;
    }
    expect_first_block_own(&to)?;
    expect_eq(
        to.read_at(size as u64 - 9, 20)?,
        b"different",
        "the last bytes",
    )?;
    let tail = range(size as u64 - BLOCK64, size as u64 - BLOCK64, BLOCK);
    expect_eq(
        call(WAYS[3], &source, &to, tail, DEDUP)?,
        Err(crate::failure::Errno(EBADE)),
        "the end",
    )?;
    let place = range(0, 0, size - BLOCK);
    copy_all(&source, &to, place, DEDUP)
}

fn expect_first_block_own(file: &File) -> Outcome {
    let (_, extents) = crate::extents::fiemap(file, 0, BLOCK64, 0, 1).or_fail("FIEMAP")?;
    let shared = extents.first().is_some_and(|extent| extent.shared());
    expect(!shared, "the first block belongs to the file alone")
}
