// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Every flag on every filesystem, with every alignment and every way to give offsets.

use libc::{EBADE, EINVAL, EOPNOTSUPP};

use super::{
    apply, call, copy_all, flag_name, range, Given, Range, COPY, DEDUP, PLAIN, REFLINK, WAYS,
};
use crate::case::{case, Case, Test};
use crate::extents::{block_map, expect_shared, Block};
use crate::failure::{expect, expect_errno, Context, Failure, Outcome};
use crate::filesystem::{Btrfs, Ext4, Filesystem, Reflinkfs, Tmpfs, Xfs};
use crate::pattern::{pattern, BLOCK, BLOCK64};
use crate::sys::{new_clone, File};

pub const CASES: &[Case] = &[
    case!(every_cell_of_a_call_without_a_flag),
    case!(every_cell_of_copy),
    case!(every_cell_of_reflink),
    case!(every_cell_of_dedup),
];

/// The source ends in a partial block.
const TAIL: usize = 123;
const SOURCE: usize = 6 * BLOCK + TAIL;

/// The alignment of the range in both files.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Whole blocks.
    Aligned,
    /// Whole blocks and the source's last bytes, to the end of the destination.
    TailOntoTheEnd,
    /// The same, to behind the destination's end.
    TailBehindTheEnd,
    /// The same, to before the destination's end.
    TailIntoTheMiddle,
    UnalignedSource,
    UnalignedDestination,
    /// Both unaligned, by the same.
    Congruent,
    /// From a block's start into a block, not at the source's end.
    UnalignedLength,
}

use Place::*;

impl Place {
    /// Returns the range, and the length of the destination before the call.
    fn range(self) -> (Range, usize) {
        let tail = 2 * BLOCK + TAIL;
        let (start, old) = (4 * BLOCK64, 9 * BLOCK + 50);
        match self {
            Aligned => (range(BLOCK64, 2 * BLOCK64, 3 * BLOCK), old),
            TailOntoTheEnd => (range(start, 3 * BLOCK64, tail), 3 * BLOCK + tail),
            TailBehindTheEnd => (range(start, 3 * BLOCK64, tail), BLOCK + 7),
            TailIntoTheMiddle => (range(start, 3 * BLOCK64, tail), old),
            UnalignedSource => (range(100, 2 * BLOCK64, 3 * BLOCK), old),
            UnalignedDestination => (range(BLOCK64, 200, 3 * BLOCK), old),
            Congruent => (range(100, 3 * BLOCK64 + 100, 3 * BLOCK), old),
            UnalignedLength => (range(BLOCK64, 2 * BLOCK64, 2 * BLOCK + 10), old),
        }
    }
}

/// The expected result of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    /// All bytes; the filesystem may share blocks or not.
    All,
    /// The first bytes, at least one: a caller continues from there.
    Some,
    /// All bytes, none of them in a shared block.
    Own,
    /// All bytes, all in the source's blocks.
    Same,
    /// Nothing: both files are unchanged.
    Fails(i32),
}

use Cell::{All, Fails, Own, Same};

const INVAL: Cell = Fails(EINVAL);
const UNSUP: Cell = Fails(EOPNOTSUPP);

/// The columns of the table.
const COLUMNS: [Filesystem; 5] = [Reflinkfs, Xfs, Btrfs, Ext4, Tmpfs];

type Row = (u32, Place, [Cell; 5]);

/// The expected result, for each way to give the offsets. For `COPY_FR_DEDUP` the destination has
/// the source's bytes already; if it has others, `Same` becomes `EBADE`.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    //                              reflinkfs  XFS         btrfs       ext4   tmpfs
    (PLAIN,   Aligned,              [All,      All,        All,        All,   All]),
    (PLAIN,   TailOntoTheEnd,       [All,      All,        All,        All,   All]),
    (PLAIN,   TailBehindTheEnd,     [All,      All,        All,        All,   All]),
    (PLAIN,   TailIntoTheMiddle,    [All,      Cell::Some, Cell::Some, All,   All]),
    (PLAIN,   UnalignedSource,      [All,      All,        All,        All,   All]),
    (PLAIN,   UnalignedDestination, [All,      All,        All,        All,   All]),
    (PLAIN,   Congruent,            [All,      All,        All,        All,   All]),
    (PLAIN,   UnalignedLength,      [All,      Cell::Some, Cell::Some, All,   All]),

    (COPY,    Aligned,              [Own,      Own,        Own,        Own,   Own]),
    (COPY,    TailOntoTheEnd,       [Own,      Own,        Own,        Own,   Own]),
    (COPY,    TailBehindTheEnd,     [Own,      Own,        Own,        Own,   Own]),
    (COPY,    TailIntoTheMiddle,    [Own,      Own,        Own,        Own,   Own]),
    (COPY,    UnalignedSource,      [Own,      Own,        Own,        Own,   Own]),
    (COPY,    UnalignedDestination, [Own,      Own,        Own,        Own,   Own]),
    (COPY,    Congruent,            [Own,      Own,        Own,        Own,   Own]),
    (COPY,    UnalignedLength,      [Own,      Own,        Own,        Own,   Own]),

    (REFLINK, Aligned,              [Same,     Same,       Same,       UNSUP, UNSUP]),
    (REFLINK, TailOntoTheEnd,       [Same,     Same,       Same,       UNSUP, UNSUP]),
    (REFLINK, TailBehindTheEnd,     [Same,     Same,       Same,       UNSUP, UNSUP]),
    (REFLINK, TailIntoTheMiddle,    [INVAL,    INVAL,      INVAL,      UNSUP, UNSUP]),
    (REFLINK, UnalignedSource,      [INVAL,    INVAL,      INVAL,      UNSUP, UNSUP]),
    (REFLINK, UnalignedDestination, [INVAL,    INVAL,      INVAL,      UNSUP, UNSUP]),
    (REFLINK, Congruent,            [INVAL,    INVAL,      INVAL,      UNSUP, UNSUP]),
    (REFLINK, UnalignedLength,      [INVAL,    INVAL,      INVAL,      UNSUP, UNSUP]),

    (DEDUP,   Aligned,              [Same,     Same,       Same,       UNSUP, UNSUP]),
    (DEDUP,   TailOntoTheEnd,       [Same,     Same,       Same,       UNSUP, UNSUP]),
    (DEDUP,   TailBehindTheEnd,     [INVAL,    INVAL,      INVAL,      UNSUP, UNSUP]),
    (DEDUP,   TailIntoTheMiddle,    [INVAL,    INVAL,      INVAL,      UNSUP, UNSUP]),
    (DEDUP,   UnalignedSource,      [INVAL,    INVAL,      INVAL,      UNSUP, UNSUP]),
    (DEDUP,   UnalignedDestination, [INVAL,    INVAL,      INVAL,      UNSUP, UNSUP]),
    (DEDUP,   Congruent,            [INVAL,    INVAL,      INVAL,      UNSUP, UNSUP]),
    (DEDUP,   UnalignedLength,      [INVAL,    INVAL,      INVAL,      UNSUP, UNSUP]),
];

/// Returns the block map of a file, if the filesystem has FIEMAP.
fn map_of(t: &Test, file: &File) -> Outcome<Vec<Block>> {
    if t.filesystem == Tmpfs {
        return Ok(Vec::new());
    }
    block_map(file)
}

/// Returns the blocks of a range of bytes.
fn blocks_of(offset: u64, count: usize) -> std::ops::Range<usize> {
    let offset = offset as usize;
    offset / BLOCK..(offset + count).div_ceil(BLOCK)
}

/// One call: its arguments, and the files before it.
struct Attempt<'a> {
    t: &'a Test,
    source: &'a File,
    data: &'a [u8],
    flags: u32,
    place: Place,
    given: Given,
    /// Whether the destination has the source's bytes in the range.
    equal: bool,
}

impl Attempt<'_> {
    /// Creates the destination; on filesystems that can share, another file shares all its blocks.
    fn destination(&self, model: &[u8]) -> Outcome<File> {
        let old = self.t.create_with("old", model)?;
        if self.t.filesystem.can_share() {
            new_clone(&old, self.t.path("to"))
        } else {
            self.t.create_with("to", model)
        }
    }

    fn expect(&self, cell: Cell) -> Outcome {
        let (range, old) = self.place.range();
        let mut model = pattern(2, old);
        if self.equal {
            let inside = range.len.min(old.saturating_sub(range.off_out as usize));
            apply(&mut model, self.data, range, inside);
        }
        let to = self.destination(&model)?;
        let before = map_of(self.t, &to)?;
        let result = call(self.given, self.source, &to, range, self.flags)?;
        let count = match (cell, result) {
            (Fails(errno), result) => {
                expect_errno(result, errno, "the call")?;
                0
            }
            (Cell::Some, Ok(count)) if count > 0 && count <= range.len => count,
            (_, Ok(count)) if count == range.len => count,
            (_, result) => return Err(Failure::new(format_args!("the call returned {result:?}"))),
        };
        apply(&mut model, self.data, range, count);
        to.expect_contents(&model, "afterwards")?;
        self.source.expect_contents(self.data, "afterwards")?;
        self.expect_blocks(cell, range, &to, &before)?;
        if cell == Own && self.t.filesystem.can_share() {
            self.expect_own_after_a_clone(range, &to)?;
        }
        Ok(())
    }

    fn expect_blocks(&self, cell: Cell, range: Range, to: &File, before: &[Block]) -> Outcome {
        let after = map_of(self.t, to)?;
        let changed = match cell {
            Fails(_) => 0..0,
            _ => blocks_of(range.off_out, range.len),
        };
        // The rest of the old last block may be filled with zeros when the file grows.
        let kept = before.len() - usize::from(after.len() > before.len());
        for (number, block) in before[..kept].iter().enumerate() {
            expect(
                changed.contains(&number) || after[number] == *block,
                format_args!(
                    "block {number} is not in the range, but was {block:x?} and is {:x?}",
                    after[number]
                ),
            )?;
        }
        if self.t.filesystem == Tmpfs {
            return Ok(());
        }
        match cell {
            Same => expect_shared(
                self.source,
                (range.off_in / BLOCK64) as usize,
                to,
                changed.start,
                changed.len(),
            ),
            Own => expect_own(self.source, to, changed),
            _ => Ok(()),
        }
    }

    /// Copies again, after the destination was made to share as many blocks as possible.
    fn expect_own_after_a_clone(&self, range: Range, to: &File) -> Outcome {
        let whole = super::range(0, 0, self.data.len());
        to.truncate(0)?;
        copy_all(self.source, to, whole, REFLINK)?;
        expect_shared(self.source, 0, to, 0, self.data.len().div_ceil(BLOCK))?;
        let result = call(self.given, self.source, to, range, self.flags)?;
        let count = result.or_fail("the copy onto a clone")?;
        let mut model = self.data.to_vec();
        apply(&mut model, self.data, range, count);
        to.expect_contents(&model, "after the copy onto a clone")?;
        expect_own(self.source, to, blocks_of(range.off_out, count))
    }
}

/// Expects these blocks to belong to one file alone.
fn expect_own(source: &File, to: &File, blocks: std::ops::Range<usize>) -> Outcome {
    let source = block_map(source)?;
    let map = block_map(to)?;
    for number in blocks {
        let block = map[number];
        expect(
            matches!(block, Block::Private(_)),
            format_args!("block {number} should be private, but is {block:x?}"),
        )?;
        expect(
            source
                .iter()
                .all(|other| other.physical() != block.physical()),
            format_args!("block {number} is one of the source's: {block:x?}"),
        )?;
    }
    Ok(())
}

/// Tries all cells of a flag, and reports each mismatch with the table.
fn expect_cells(t: &Test, flags: u32) -> Outcome {
    let data = pattern(1, SOURCE);
    let source = t.create_with("source", &data)?;
    let column = COLUMNS.iter().position(|&column| column == t.filesystem);
    let column = column.ok_or("not a column").or_fail("the filesystem")?;
    // On a slow kernel only all offsets or none are given.
    let step = if t.settings.divisor > 1 { 3 } else { 1 };
    let ways = || WAYS.into_iter().step_by(step);
    let mut wrong = String::new();
    for (_, place, cells) in TABLE.iter().filter(|row| row.0 == flags) {
        for (given, equal) in ways().flat_map(|way| [(way, true), (way, false)]) {
            let cell = match (flags, cells[column]) {
                (DEDUP, Same) if !equal => Fails(EBADE),
                (DEDUP, cell) => cell,
                // For other flags the old contents of the destination do not matter.
                (_, _) if equal => continue,
                (_, cell) => cell,
            };
            let attempt = Attempt {
                t,
                source: &source,
                data: &data,
                flags,
                place: *place,
                given,
                equal,
            };
            if let Err(Failure(text)) = attempt.expect(cell) {
                wrong += &format!(
                    "\n{} of {place:?}, {given:?}, bytes equal: {equal}, expected {cell:?}: {text}",
                    flag_name(flags)
                );
            }
        }
    }
    expect(wrong.is_empty(), format_args!("wrong cells:{wrong}"))
}

fn every_cell_of_a_call_without_a_flag(t: &Test) -> Outcome {
    expect_cells(t, PLAIN)
}

fn every_cell_of_copy(t: &Test) -> Outcome {
    expect_cells(t, COPY)
}

fn every_cell_of_reflink(t: &Test) -> Outcome {
    expect_cells(t, REFLINK)
}

fn every_cell_of_dedup(t: &Test) -> Outcome {
    expect_cells(t, DEDUP)
}
