// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A call copies or shares up to a limit, however large the files are; or it fails and has done
//! nothing.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::Feature;
use crate::pattern::{pattern, BLOCK, BLOCK64};
use crate::sys::{clone_range, copy_once, File};

pub const CASES: &[Case] = &[
    case!(a_hole_of_any_length_is_copied_in_pieces).needs(&[Feature::Reflinkfs]),
    case!(what_is_shared_block_by_block_is_shared_in_pieces).needs(&[Feature::Reflinkfs]),
    case!(what_is_shared_as_a_whole_is_shared_in_one_call).needs(&[Feature::Reflinkfs]),
    case!(a_clone_that_takes_too_many_nodes_does_nothing).needs(&[Feature::Reflinkfs]),
];

/// The size of the largest file that doubling makes, in bytes.
const LARGE: u64 = 1 << 62;

/// The limit of one call for copied bytes.
const LIMIT: usize = 1 << 28;

/// Creates a file of [`LARGE`] bytes that repeats two blocks and a hole after each.
fn large(dir: &std::path::Path, name: &str) -> Outcome<File> {
    let file = File::create(dir.join(name))?;
    file.write_at(&pattern(1, BLOCK), BLOCK64)?;
    file.write_at(&pattern(2, BLOCK), 3 * BLOCK64)?;
    let mut have = 4 * BLOCK64;
    while have < LARGE {
        clone_range(&file, 0, have, &file, have).or_fail("FICLONERANGE")?;
        have *= 2;
    }
    expect_eq(file.size()?, LARGE, "size of the file")?;
    Ok(file)
}

fn a_hole_of_any_length_is_copied_in_pieces(t: &Test) -> Outcome {
    let source = t.create("source")?;
    source.truncate(LARGE)?;
    let to = t.create("to")?;
    let copied = copy_once(&source, 1, &to, 0, 1 << 61).or_fail("copy_file_range")?;
    expect_eq(copied, LIMIT, "bytes copied of a hole")?;
    expect_eq(to.size()?, LIMIT as u64, "size of the copy")
}

fn what_is_shared_block_by_block_is_shared_in_pieces(t: &Test) -> Outcome {
    let source = large(&t.dir, "source")?;
    let to = t.create("to")?;
    let copied = copy_once(&source, BLOCK64, &to, 0, 1 << 61).or_fail("copy_file_range")?;
    expect(
        (LIMIT / 4..=LIMIT + 1024 * 64 * BLOCK).contains(&copied),
        format_args!("{copied} bytes are shared by one call"),
    )?;
    expect_eq(to.size()?, copied as u64, "size of the copy")?;
    for at in [0, copied as u64 / 2, copied as u64 - 4 * BLOCK64] {
        let seen = to.read_at(at, 4 * BLOCK)?;
        let expected = source.read_at(at + BLOCK64, 4 * BLOCK)?;
        expect_bytes(&seen, &expected, format_args!("the range shared at {at}"))?;
    }
    Ok(())
}

/// Each leaf begins with a hole.
fn what_is_shared_as_a_whole_is_shared_in_one_call(t: &Test) -> Outcome {
    let source = large(&t.dir, "source")?;
    let to = t.create_with("to", &pattern(3, 2 * BLOCK))?;
    let len = LARGE - BLOCK64;
    let copied = copy_once(&source, BLOCK64, &to, BLOCK64, len as usize);
    expect_eq(
        copied.or_fail("copy_file_range")?,
        len as usize,
        "bytes shared",
    )?;
    clone_range(&source, BLOCK64, len, &to, BLOCK64).or_fail("FICLONERANGE")?;
    let last = LARGE - BLOCK64;
    let seen = to.read_at(last, BLOCK)?;
    expect_bytes(&seen, &pattern(2, BLOCK), "the last block")?;
    let seen = to.read_at(0, BLOCK)?;
    expect_bytes(&seen, &pattern(3, 2 * BLOCK)[..BLOCK], "the first block")
}

fn a_clone_that_takes_too_many_nodes_does_nothing(t: &Test) -> Outcome {
    let instance = t.mount(&[("size", "4M")])?;
    let source = large(&instance.root, "source")?;
    let data = pattern(3, 2 * BLOCK);
    let to = File::create_with(instance.root.join("to"), &data)?;
    let cloned = clone_range(&source, 0, LARGE / 2, &to, BLOCK64);
    expect_errno(cloned, libc::ENOSPC, "FICLONERANGE of all, by a block")?;
    to.expect_contents(&data, "the destination")
}
