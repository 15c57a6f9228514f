// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Blocks that several files share: each owner is charged for all blocks of the file.

use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, expect_errno, Context, Errno, Outcome};
use crate::filesystem::CLONES_CHARGED;
use crate::instance::Instance;
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::quota::{as_one, expect_used, mount, mount_for_alice, ALICE, BOB};
use crate::sys::{clone_file, clone_range, copy_once, dedupe, new_clone, unlink, Deduped, File};
use crate::tests::fallocate::fallocate;

pub const CASES: &[Case] = &[
    case!(a_clone_is_charged_to_its_owner).needs(CLONES_CHARGED),
    case!(a_clone_beyond_the_limit_is_refused).needs(CLONES_CHARGED),
    case!(a_clone_over_data_costs_the_difference).needs(CLONES_CHARGED),
    case!(a_clone_of_a_range_costs_the_holes_it_fills).needs(CLONES_CHARGED),
    case!(copying_is_refused_like_writing).needs(CLONES_CHARGED),
    case!(deduplication_costs_nothing_but_holes).needs(CLONES_CHARGED),
    case!(private_copies_cost_nothing_more).needs(CLONES_CHARGED),
    case!(a_large_clone_is_charged_at_once).needs(CLONES_CHARGED),
    case!(sums_that_would_overflow_are_refused).needs(CLONES_CHARGED),
];

/// Creates a file of `count` blocks that root owns and all users may read.
fn source(fs: &Instance, count: usize) -> Outcome<File> {
    fs.create_with("source", &blocks(1, count))
}

fn open_source(fs: &Instance) -> Outcome<File> {
    File::open(fs.path("source"), libc::O_RDONLY).or_fail("open")
}

fn a_clone_is_charged_to_its_owner(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    source(&fs, 10)?;
    for user in [ALICE, BOB] {
        as_one(user, || {
            new_clone(&open_source(&fs)?, fs.path(&format!("of-{user}"))).map(|_| ())
        })?;
        expect_used(&fs, user, (10, 1), "a clone")?;
    }
    unlink(fs.path("source")).or_fail("unlink")?;
    expect_used(&fs, 0, (0, 1), "the remover of the source")?;
    expect_used(&fs, ALICE, (10, 1), "whose clone stays")?;
    as_one(ALICE, || {
        File::open(fs.path("of-1000"), libc::O_RDWR)
            .or_fail("open")?
            .truncate(3 * BLOCK64 + 5)
    })?;
    expect_used(&fs, ALICE, (4, 1), "a clone cut off")?;
    expect_used(&fs, BOB, (10, 1), "the other clone")
}

fn a_clone_beyond_the_limit_is_refused(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 9, 0)?;
    source(&fs, 10)?;
    let before = fs.used()?;
    as_one(ALICE, || {
        let (from, to) = (open_source(&fs)?, fs.create_with("clone", b"old")?);
        let refused = clone_file(&from, &to);
        expect_errno(refused, libc::EDQUOT, "10 blocks where there may be 9")?;
        to.expect_contents(b"old", "the destination")?;
        let refused = clone_range(&from, 0, 9 * BLOCK64, &to, BLOCK64);
        expect_errno(refused, libc::EDQUOT, "9 blocks more than one")?;
        to.expect_contents(b"old", "the destination")?;
        clone_range(&from, 0, 8 * BLOCK64, &to, BLOCK64).or_fail("FICLONERANGE of 8")?;
        expect_eq(to.data_blocks()?, 9, "blocks")
    })?;
    expect_used(&fs, ALICE, (9, 1), "at the limit")?;
    expect_eq(fs.used()?, before + 1, "blocks in use")?;
    as_one(ALICE, || {
        let to = File::open(fs.path("clone"), libc::O_RDWR).or_fail("open")?;
        let refused = to.try_pwrite(b"x", 9 * BLOCK64);
        expect_errno(refused, libc::EDQUOT, "a write to a tenth block")
    })
}

fn a_clone_over_data_costs_the_difference(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 10, 0)?;
    source(&fs, 6)?;
    as_one(ALICE, || {
        let to = fs.create_with("clone", &blocks(2, 6))?;
        fs.create_with("more", &blocks(3, 4))?;
        clone_file(&open_source(&fs)?, &to).or_fail("FICLONE at the limit")?;
        to.expect_contents(&blocks(1, 6), "the clone")
    })?;
    expect_used(&fs, ALICE, (10, 2), "a clone in place of as many blocks")?;
    let small = fs.create("source-of-a-hole")?;
    small.truncate(6 * BLOCK64)?;
    as_one(ALICE, || {
        let from = File::open(&small.path, libc::O_RDONLY).or_fail("open")?;
        let to = File::open(fs.path("clone"), libc::O_RDWR).or_fail("open")?;
        clone_file(&from, &to).or_fail("FICLONE of a hole")
    })?;
    expect_used(&fs, ALICE, (4, 2), "the clone of a hole")
}

fn a_clone_of_a_range_costs_the_holes_it_fills(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 7, 0)?;
    source(&fs, 8)?;
    as_one(ALICE, || {
        let to = fs.create("clone")?;
        for block in [0, 2, 5] {
            to.write_at(b"old", block * BLOCK64)?;
        }
        to.truncate(8 * BLOCK64)?;
        let from = open_source(&fs)?;
        let refused = clone_range(&from, 0, 8 * BLOCK64, &to, 0);
        expect_errno(refused, libc::EDQUOT, "5 holes where 4 blocks are left")?;
        clone_range(&from, BLOCK64, 6 * BLOCK64, &to, BLOCK64).or_fail("FICLONERANGE")?;
        expect_eq(to.data_blocks()?, 7, "blocks")
    })?;
    expect_used(&fs, ALICE, (7, 1), "at the end")
}

fn copying_is_refused_like_writing(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 4, 0)?;
    source(&fs, 8)?;
    as_one(ALICE, || {
        let (from, to) = (open_source(&fs)?, fs.create("copy")?);
        // Not congruent: copied byte by byte.
        let n = copy_once(&from, 1, &to, 0, 6 * BLOCK).or_fail("copy_file_range")?;
        expect_eq(n, 4 * BLOCK, "bytes copied where 4 blocks may be")?;
        let refused = copy_once(&from, 1, &to, 4 * BLOCK64, BLOCK);
        expect_errno(refused, libc::EDQUOT, "copying at the limit")?;
        to.truncate(0)?;
        // Congruent: shared, as a whole or not at all.
        let refused = copy_once(&from, 0, &to, 0, 5 * BLOCK);
        expect_errno(refused, libc::EDQUOT, "sharing 5 blocks")?;
        expect_eq(to.size()?, 0, "size after that")?;
        let n = copy_once(&from, 0, &to, 0, 4 * BLOCK).or_fail("copy_file_range")?;
        expect_eq(n, 4 * BLOCK, "bytes shared")
    })?;
    expect_used(&fs, ALICE, (4, 1), "at the end")
}

fn deduplication_costs_nothing_but_holes(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 4, 0)?;
    let mut data = blocks(1, 4);
    data.extend_from_slice(&[0; BLOCK]);
    as_one(ALICE, || {
        let to = fs.create_with("twin", &data[..4 * BLOCK])?;
        to.truncate(5 * BLOCK64)
    })?;
    fs.create_with("source", &data)?;
    as_one(ALICE, || {
        let to = File::open(fs.path("twin"), libc::O_RDWR).or_fail("open")?;
        let from = open_source(&fs)?;
        // A block of zeros replaces a hole.
        let said = dedupe(&from, 0, 5 * BLOCK64, &to, 0).or_fail("FIDEDUPERANGE")?;
        let refused = Deduped::Failed(Errno(libc::EDQUOT));
        expect_eq(said, refused, "sharing 5 blocks where there may be 4")?;
        expect_eq(to.data_blocks()?, 4, "blocks of the twin")?;
        let said = dedupe(&from, 0, 4 * BLOCK64, &to, 0).or_fail("FIDEDUPERANGE")?;
        expect_eq(said, Deduped::Same(4 * BLOCK64), "sharing 4 blocks")
    })?;
    expect_used(&fs, ALICE, (4, 1), "at the end")?;
    expect_eq(fs.used()?, 5, "blocks in use")
}

fn private_copies_cost_nothing_more(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 8, 0)?;
    source(&fs, 8)?;
    as_one(ALICE, || {
        let clone = new_clone(&open_source(&fs)?, fs.path("clone"))?;
        clone.write_at(b"written", 5)?;
        let mapping = Mapping::shared(&clone, 8 * BLOCK)?;
        mapping.store(2 * BLOCK, b"stored");
        let unshare = libc::FALLOC_FL_UNSHARE_RANGE;
        fallocate(&clone, unshare, 4 * BLOCK64, 2 * BLOCK64).or_fail("unshare")?;
        let zero = libc::FALLOC_FL_ZERO_RANGE;
        fallocate(&clone, zero, 6 * BLOCK64 + 9, BLOCK64).or_fail("zero")?;
        expect_eq(clone.data_blocks()?, 8, "blocks of the clone")
    })?;
    expect_used(&fs, ALICE, (8, 1), "at the limit")?;
    open_source(&fs)?.expect_contents(&blocks(1, 8), "the source")
}

fn a_large_clone_is_charged_at_once(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 8000, 0)?;
    source(&fs, 3000)?;
    as_one(ALICE, || {
        let from = open_source(&fs)?;
        for name in ["1", "2"] {
            new_clone(&from, fs.path(name))?;
        }
        let third = fs.create("3")?;
        expect_errno(clone_file(&from, &third), libc::EDQUOT, "a third clone")?;
        clone_range(&from, 0, 2000 * BLOCK64, &third, 0).or_fail("FICLONERANGE of the rest")
    })?;
    expect_used(&fs, ALICE, (8000, 3), "three clones")?;
    for name in ["1", "2", "3"] {
        unlink(fs.path(name)).or_fail("unlink")?;
    }
    expect_used(&fs, ALICE, (0, 0), "removed")?;
    expect_eq(fs.used()?, 3000, "blocks in use")
}

/// The kernel's sum of charges is a signed number of bytes.
fn sums_that_would_overflow_are_refused(t: &Test) -> Outcome {
    const HUGE: u64 = 1 << 62;
    const HUGE_BLOCKS: u64 = HUGE / BLOCK64;
    let fs = mount(t, &[])?;
    let huge = fs.create_with("huge", &blocks(1, 1))?;
    let mut size = BLOCK64;
    while size < HUGE {
        clone_range(&huge, 0, size, &huge, size).or_fail(format_args!("doubling {size} bytes"))?;
        size *= 2;
    }
    expect_used(&fs, 0, (HUGE_BLOCKS, 2), "a huge file")?;
    // Root has no limits, except this one.
    let second = fs.create("second")?;
    expect_errno(clone_file(&huge, &second), libc::EDQUOT, "twice as much")?;
    expect_errno(
        clone_range(&huge, 0, HUGE - BLOCK64, &huge, HUGE),
        libc::EDQUOT,
        "nearly twice as much in one file",
    )?;
    expect_used(&fs, 0, (HUGE_BLOCKS, 3), "after both were refused")?;
    crate::sys::chown(&huge.path, ALICE, ALICE).or_fail("chown")?;
    expect_used(&fs, ALICE, (HUGE_BLOCKS, 1), "the new owner")?;
    clone_file(&huge, &second).or_fail("a second one for root")?;
    for (uid, gid) in [(ALICE, u32::MAX), (u32::MAX, ALICE), (ALICE, ALICE)] {
        let given = crate::sys::chown(&second.path, uid, gid);
        expect_errno(given, libc::EDQUOT, format_args!("chown to {uid}:{gid}"))?;
    }
    expect_used(
        &fs,
        ALICE,
        (HUGE_BLOCKS, 1),
        "the user who did not become owner of another",
    )?;
    expect_used(
        &fs,
        0,
        (HUGE_BLOCKS, 2),
        "the owner who could not give it away",
    )?;
    // Limits are still enforced.
    crate::quota::limit(&fs, ALICE, 2, 0)?;
    as_one(ALICE, || {
        let file = fs.create("small")?;
        expect_errno(file.try_pwrite(b"x", 0), libc::EDQUOT, "a write")
    })?;
    drop((huge, second));
    for name in ["huge", "second", "small"] {
        unlink(fs.path(name)).or_fail("unlink")?;
    }
    expect_used(&fs, ALICE, (0, 0), "nothing")?;
    expect_used(&fs, 0, (0, 1), "nothing but the root")
}
