// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The exact costs of calls, on a kernel with fault injection: the number of their allocations, of
//! memory and of pages. Costs that must not depend on the size of a file do not.

use super::injection::Injection;
use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, Context, Errno, Outcome};
use crate::filesystem::Feature;
use crate::instance::Instance;
use crate::pattern::{pattern, BLOCK, BLOCK64};
use crate::sys::{clone_file, clone_range, dedupe, new_clone, unlink, Deduped, File};

const NEEDS: &[Feature] = &[Feature::Reflink, Feature::Instance, Feature::FaultInjection];

pub const CASES: &[Case] = &[
    case!(a_clone_allocates_nothing).needs(NEEDS),
    case!(a_clone_of_a_range_of_whole_subtrees_costs_the_same_at_any_length).needs(NEEDS),
    case!(removing_a_clone_costs_as_much_as_removing_an_empty_file).needs(NEEDS),
    case!(asking_for_what_is_shared_already_costs_the_same_at_any_length).needs(NEEDS),
    case!(the_first_write_to_a_clone_costs_the_same_whatever_it_is_a_clone_of).needs(NEEDS),
];

/// Numbers of blocks: one, a leaf's, and two and three levels of nodes.
const SIZES: [usize; 4] = [1, 64, 1_000, 5_000];

fn mount(t: &Test) -> Outcome<Instance> {
    t.mount(&[("size", "64M")])
}

/// Creates a file of so many blocks.
fn source(fs: &Instance, blocks: usize) -> Outcome<File> {
    fs.create_with(&format!("source{blocks}"), &pattern(1, blocks * BLOCK))
}

/// Creates a file, clones it, and rewrites every second block. The clone stays.
fn fragmented(fs: &Instance, blocks: usize) -> Outcome<File> {
    let file = fs.create_with("fragmented", &pattern(2, blocks * BLOCK))?;
    new_clone(&file, fs.path("its clone"))?;
    for block in (0..blocks).step_by(2) {
        file.write_at(&pattern(3, BLOCK), block as u64 * BLOCK64)?;
    }
    Ok(file)
}

/// Creates a file with unique contents.
fn new_file(fs: &Instance) -> Outcome<File> {
    let path = fs.path("new");
    let _ = unlink(&path);
    File::create(path)
}

fn a_clone_allocates_nothing(t: &Test) -> Outcome {
    let (fs, injection) = (mount(t)?, Injection::new()?);
    let mut sources = vec![fragmented(&fs, 2_000)?];
    for blocks in SIZES {
        sources.push(source(&fs, blocks)?);
    }
    for source in &sources {
        let points = injection.points(|| new_file(&fs), |new| clone_file(source, new))?;
        expect_eq(points, 0, format_args!("{}", source.path.display()))?;
        // Nor if it replaces another file's blocks.
        let other = || {
            let new = new_file(&fs)?;
            new.write_at(&pattern(3, BLOCK), 0)?;
            Ok(new)
        };
        let points = injection.points(other, |new| clone_file(source, new))?;
        expect_eq(
            points,
            0,
            format_args!("{} over another", source.path.display()),
        )?;
    }
    Ok(())
}

fn a_clone_of_a_range_of_whole_subtrees_costs_the_same_at_any_length(t: &Test) -> Outcome {
    let (fs, injection) = (mount(t)?, Injection::new()?);
    let source = source(&fs, 8_192)?;
    let clone = |blocks: u64| {
        injection.points(
            || new_file(&fs),
            |new| clone_range(&source, 0, blocks * BLOCK64, new, 0),
        )
    };
    // One leaf, and a node of 64 of them.
    expect_eq(clone(4_096)?, clone(64)?, "64 leaves, and one")
}

fn removing_a_clone_costs_as_much_as_removing_an_empty_file(t: &Test) -> Outcome {
    let (fs, injection) = (mount(t)?, Injection::new()?);
    let empty = injection.points(|| new_file(&fs).map(drop), |()| unlink(fs.path("new")))?;
    for blocks in SIZES {
        let source = source(&fs, blocks)?;
        let clone = || {
            let new = new_file(&fs)?;
            clone_file(&source, &new).or_fail("FICLONE")
        };
        let points = injection.points(clone, |()| unlink(fs.path("new")))?;
        expect_eq(points, empty, format_args!("{blocks} blocks"))?;
    }
    Ok(())
}

fn asking_for_what_is_shared_already_costs_the_same_at_any_length(t: &Test) -> Outcome {
    let (fs, injection) = (mount(t)?, Injection::new()?);
    let mut all = Vec::new();
    for blocks in SIZES {
        let source = source(&fs, blocks)?;
        let clone = new_clone(&source, fs.path("clone"))?;
        let len = blocks as u64 * BLOCK64;
        let ask = |(): &()| match dedupe(&source, 0, len, &clone, 0)? {
            Deduped::Same(n) if n == len => Ok(()),
            _ => Err(Errno(libc::EBADE)),
        };
        all.push(injection.points(|| Ok(()), ask)?);
    }
    let same = vec![all[0]; SIZES.len()];
    expect_eq(all, same, "by number of blocks")
}

fn the_first_write_to_a_clone_costs_the_same_whatever_it_is_a_clone_of(t: &Test) -> Outcome {
    let (fs, injection) = (mount(t)?, Injection::new()?);
    let block = pattern(4, BLOCK);
    // All of them have two levels of nodes.
    let sources = [
        source(&fs, 65)?,
        source(&fs, 1_000)?,
        source(&fs, 4_096)?,
        fragmented(&fs, 2_000)?,
    ];
    let cost = |source: &File| {
        injection.points(
            || new_clone(source, fs.path("clone")),
            |clone| clone.try_pwrite(&block, 64 * BLOCK64).map(drop),
        )
    };
    let first = cost(&sources[0])?;
    for source in &sources {
        expect_eq(cost(source)?, first, source.path.display())?;
    }
    // The number of other clones does not matter either.
    for i in 0..100 {
        new_clone(&sources[1], fs.path(&format!("clone {i}")))?;
    }
    expect_eq(cost(&sources[1])?, first, "of one with 100 clones")
}
