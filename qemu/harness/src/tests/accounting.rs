// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The blocks that sharing, and its end, take; the inodes that names take.

use crate::case::{case, Case, Test};
use crate::extents::{block_map, Block};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{Feature, CLONES_COUNTED, INSTANCE};
use crate::instance::Instance;
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::sys::{
    clone_range, copy_once, dedupe, link, lstat, mkdir, new_clone, rename, rmdir, unlink, Deduped,
    File,
};

const ALL: &[Feature] = &[Feature::Reflink, Feature::Instance, Feature::Fiemap];

pub const CASES: &[Case] = &[
    case!(a_full_filesystem_takes_writes_to_the_source_of_a_removed_clone).needs(CLONES_COUNTED),
    case!(a_full_filesystem_takes_stores_to_the_source_of_a_removed_clone).needs(CLONES_COUNTED),
    case!(a_full_filesystem_takes_writes_to_the_clone_of_a_removed_source).needs(CLONES_COUNTED),
    case!(blocks_beside_a_cloned_range_are_written_in_place).needs(ALL),
    case!(blocks_beside_a_copied_range_are_written_in_place).needs(ALL),
    case!(blocks_beside_a_deduplicated_range_are_written_in_place).needs(ALL),
    case!(blocks_beside_a_large_cloned_range_cost_nothing_to_write).needs(CLONES_COUNTED),
    case!(further_names_count_as_inodes).needs(INSTANCE),
    case!(names_that_are_replaced_or_refused_give_their_inode_back).needs(INSTANCE),
];

/// A way to end the sharing of a file, which it may return.
type Removal = (&'static str, fn(&Instance, File) -> Outcome<Option<File>>);

const REMOVALS: &[Removal] = &[
    ("unlinked", |_, file| {
        unlink(&file.path).or_fail("unlink")?;
        Ok(None)
    }),
    ("truncated", |_, file| {
        file.truncate(0)?;
        Ok(Some(file))
    }),
    ("replaced", |fs, file| {
        fs.create("new")?;
        rename(fs.path("new"), &file.path).or_fail("rename")?;
        Ok(None)
    }),
    ("cloned onto", |fs, file| {
        let hole = fs.create("hole")?;
        hole.truncate(file.size()?)?;
        crate::sys::clone_file(&hole, &file).or_fail("FICLONE")?;
        Ok(Some(file))
    }),
];

/// Clones a file, removes one of the two, fills the filesystem to the last block, and changes every
/// block of the other, twice.
fn expect_room_for_changes(
    t: &Test,
    source_stays: bool,
    change: impl Fn(&File, &[u8]) -> Outcome,
) -> Outcome {
    const COUNT: usize = 150;
    for (number, (what, remove)) in REMOVALS.iter().enumerate() {
        let fs = t.mount_at(&format!("fs-{number}"), &[("size", "1M")])?;
        let source = fs.create_with("source", &blocks(1, COUNT))?;
        let clone = new_clone(&source, fs.path("clone"))?;
        let (stays, goes) = if source_stays {
            (source, clone)
        } else {
            (clone, source)
        };
        let _kept = remove(&fs, goes)?;
        expect_eq(
            fs.used()?,
            COUNT as u64,
            format_args!("blocks used, other {what}"),
        )?;
        let filler = fs.fill(0)?;
        for tag in [2, 3] {
            let data = blocks(tag, COUNT);
            change(&stays, &data).or_fail(format_args!("on a full filesystem, other {what}"))?;
            stays.expect_contents(&data, what)?;
            expect_eq(
                fs.space()?.free,
                0,
                format_args!("free blocks, other {what}"),
            )?;
            expect_eq(
                stays.data_blocks()?,
                COUNT as u64,
                format_args!("st_blocks, other {what}"),
            )?;
        }
        filler.truncate(0)?;
        expect_eq(
            fs.used()?,
            COUNT as u64,
            format_args!("blocks used, {what}"),
        )?;
        stays.truncate(0)?;
        expect_eq(
            fs.used()?,
            0,
            format_args!("blocks used by nothing, {what}"),
        )?;
    }
    Ok(())
}

fn write_in_pieces(file: &File, data: &[u8]) -> Outcome {
    // At unaligned offsets, so that most blocks are written twice, in part.
    let mut at = 0;
    for piece in data.chunks(5000) {
        file.write_at(piece, at)?;
        at += piece.len() as u64;
    }
    Ok(())
}

fn store_everywhere(file: &File, data: &[u8]) -> Outcome {
    Mapping::shared(file, data.len())?.store(0, data);
    Ok(())
}

fn a_full_filesystem_takes_writes_to_the_source_of_a_removed_clone(t: &Test) -> Outcome {
    expect_room_for_changes(t, true, write_in_pieces)
}

fn a_full_filesystem_takes_stores_to_the_source_of_a_removed_clone(t: &Test) -> Outcome {
    expect_room_for_changes(t, true, store_everywhere)
}

fn a_full_filesystem_takes_writes_to_the_clone_of_a_removed_source(t: &Test) -> Outcome {
    expect_room_for_changes(t, false, |file, data| file.write_at(data, 0))
}

/// The number of blocks of the file with some shared blocks.
const COUNT: usize = 200;
const SHARED: std::ops::Range<usize> = 50..60;

/// Shares some blocks of a file and changes all of them: only the shared ones are copied.
fn expect_only_shared_blocks_to_move(
    t: &Test,
    share: impl Fn(&Instance, &File) -> Outcome<File>,
) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let source = fs.create_with("source", &blocks(1, COUNT))?;
    let before = block_map(&source)?;
    let other = share(&fs, &source)?;
    let others = other.contents()?;
    let used = fs.used()?;
    let mut model = source.contents()?;
    let map = Mapping::shared(&source, COUNT * BLOCK)?;
    let change = |block: usize, model: &mut [u8]| -> Outcome {
        let at = block * BLOCK + 7;
        model[at..at + 5].copy_from_slice(b"again");
        match block % 3 {
            0 => map.store(at, b"again"),
            1 => source.write_at(b"again", at as u64)?,
            _ => {
                let whole = block * BLOCK;
                source.write_at(&model[whole..whole + BLOCK], whole as u64)?;
            }
        }
        Ok(())
    };
    let outside = (0..COUNT).filter(|block| !SHARED.contains(block));
    for block in outside.clone() {
        change(block, &mut model)?;
        expect_eq(
            fs.used()?,
            used,
            format_args!("blocks used after block {block} was changed"),
        )?;
    }
    source.expect_contents(&model, "the file, changed outside the shared range")?;
    let after = block_map(&source)?;
    for block in outside {
        expect_eq(
            after[block],
            before[block],
            format_args!("block {block}, changed in place"),
        )?;
    }
    for block in SHARED {
        change(block, &mut model)?;
    }
    source.expect_contents(&model, "the file, changed everywhere")?;
    other.expect_contents(&others, "the file that shared a range")?;
    let shared = SHARED.len() as u64;
    expect_eq(
        fs.used()?,
        used + shared,
        "blocks used after the shared ones were changed",
    )?;
    for block in block_map(&source)? {
        expect(
            matches!(block, Block::Private(_)),
            format_args!("no block is shared any more, but one is {block:?}"),
        )?;
    }
    Ok(())
}

fn bounds() -> (u64, u64) {
    (SHARED.start as u64 * BLOCK64, SHARED.len() as u64 * BLOCK64)
}

fn blocks_beside_a_cloned_range_are_written_in_place(t: &Test) -> Outcome {
    expect_only_shared_blocks_to_move(t, |fs, source| {
        let (at, len) = bounds();
        let to = fs.create("to")?;
        clone_range(source, at, len, &to, 3 * BLOCK64).or_fail("FICLONERANGE")?;
        Ok(to)
    })
}

fn blocks_beside_a_copied_range_are_written_in_place(t: &Test) -> Outcome {
    expect_only_shared_blocks_to_move(t, |fs, source| {
        let (at, len) = bounds();
        let to = fs.create("to")?;
        let n = copy_once(source, at, &to, 0, len as usize).or_fail("copy_file_range")?;
        expect_eq(n as u64, len, "bytes copied")?;
        Ok(to)
    })
}

fn blocks_beside_a_deduplicated_range_are_written_in_place(t: &Test) -> Outcome {
    expect_only_shared_blocks_to_move(t, |fs, source| {
        let (at, len) = bounds();
        let to = fs.create_with("to", &source.read_at(at, len as usize)?)?;
        let result = dedupe(source, at, len, &to, 0).or_fail("FIDEDUPERANGE")?;
        expect_eq(result, Deduped::Same(len), "FIDEDUPERANGE")?;
        Ok(to)
    })
}

fn blocks_beside_a_large_cloned_range_cost_nothing_to_write(t: &Test) -> Outcome {
    const LARGE: usize = 1300;
    let fs = t.mount(&[("size", "16M")])?;
    let source = fs.create_with("source", &blocks(1, LARGE + 200))?;
    let to = fs.create("to")?;
    clone_range(&source, 0, (LARGE * BLOCK) as u64, &to, 0).or_fail("FICLONERANGE")?;
    let used = fs.used()?;
    let data = blocks(2, 200);
    for _ in 0..2 {
        source.write_at(&data, (LARGE * BLOCK) as u64)?;
        expect_eq(
            fs.used()?,
            used,
            "blocks used after everything except the range was written",
        )?;
    }
    to.expect_contents(&blocks(1, LARGE), "the range")?;
    drop(to);
    unlink(fs.path("to")).or_fail("unlink")?;
    expect_eq(
        fs.used()?,
        used,
        "blocks used after the range's other owner was removed",
    )?;
    let data = blocks(3, LARGE + 200);
    source.write_at(&data, 0)?;
    expect_eq(fs.used()?, used, "blocks used after everything was written")?;
    source.expect_contents(&data, "the file")
}

fn further_names_count_as_inodes(t: &Test) -> Outcome {
    let fs = t.mount(&[("nr_inodes", "4"), ("size", "1M")])?;
    let free = |expected: u64, what: &str| expect_eq(fs.space()?.free_inodes, expected, what);
    free(3, "free inodes: the root is one")?;
    drop(fs.create("file")?);
    let another = |name: &str| link(fs.path("file"), fs.path(name));
    another("second").or_fail("link")?;
    another("third").or_fail("link")?;
    free(0, "free inodes after a file got three names")?;
    expect_errno(another("fourth"), libc::ENOSPC, "a fourth name")?;
    expect_errno(mkdir(fs.path("dir"), 0o755), libc::ENOSPC, "a directory")?;
    expect_eq(
        lstat(fs.path("file")).or_fail("lstat")?.st_nlink,
        3,
        "names of the file",
    )?;
    // Any name may be removed first.
    unlink(fs.path("file")).or_fail("unlink")?;
    free(1, "free inodes after a name was removed")?;
    link(fs.path("second"), fs.path("file")).or_fail("link in its place")?;
    free(0, "free inodes after a name was added")?;
    for name in ["second", "file"] {
        unlink(fs.path(name)).or_fail("unlink")?;
    }
    free(2, "free inodes with one name left")?;
    unlink(fs.path("third")).or_fail("unlink")?;
    free(3, "free inodes after the last name was removed")?;
    mkdir(fs.path("dir"), 0o755).or_fail("mkdir")?;
    rmdir(fs.path("dir")).or_fail("rmdir")?;
    free(3, "free inodes after a directory came and went")
}

fn names_that_are_replaced_or_refused_give_their_inode_back(t: &Test) -> Outcome {
    let fs = t.mount(&[("nr_inodes", "6"), ("size", "1M")])?;
    let free = |expected: u64, what: &str| expect_eq(fs.space()?.free_inodes, expected, what);
    drop(fs.create("file")?);
    link(fs.path("file"), fs.path("second")).or_fail("link")?;
    drop(fs.create("other")?);
    free(2, "free inodes with two files of three names")?;
    let exists = link(fs.path("file"), fs.path("other"));
    expect_errno(exists, libc::EEXIST, "a link to a name that is there")?;
    free(2, "free inodes after that")?;
    // Renaming one name of a file to another does nothing.
    rename(fs.path("file"), fs.path("second")).or_fail("rename to itself")?;
    free(
        2,
        "free inodes after a name was renamed to another of the same file",
    )?;
    rename(fs.path("other"), fs.path("second")).or_fail("rename over a name")?;
    free(3, "free inodes after a name of two was replaced")?;
    expect_eq(
        lstat(fs.path("file")).or_fail("lstat")?.st_nlink,
        1,
        "names left",
    )?;
    let open = fs.create("open")?;
    link(&open.path, fs.path("again")).or_fail("link")?;
    free(1, "free inodes with a new file of two names")?;
    for name in ["open", "again"] {
        unlink(fs.path(name)).or_fail("unlink")?;
    }
    free(2, "free inodes while a file without a name is open")?;
    drop(open);
    free(3, "free inodes after it was closed")
}
