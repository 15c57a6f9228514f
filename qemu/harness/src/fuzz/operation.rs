// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The operations on two files. Each operation is valid in any state, so that any part of a list of
//! operations is a valid list.

use crate::filesystem::Filesystem;
use crate::pattern::{mix, Random, BLOCK};

/// One of the two files, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    A,
    B,
}

pub use Which::{A, B};

/// Bytes that identify their origin, none of them zero.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    /// Unique to one operation.
    Unique(u64),
    /// The same at each write of this place: dedupe finds them.
    ByOffset(u64),
    /// The same in each block.
    ByBlock(u64),
}

impl Fill {
    fn random(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::ByOffset(random.next() % 2),
            1 => Self::ByBlock(random.next() % 2),
            _ => Self::Unique(random.next() >> 40),
        }
    }

    /// Returns the bytes for a place in a file.
    pub fn bytes(self, offset: usize, len: usize) -> Vec<u8> {
        let (key, start) = match self {
            Self::Unique(n) => (n << 24, offset),
            Self::ByOffset(n) => ((n << 24) + (1 << 60), offset),
            Self::ByBlock(n) => ((n << 24) + (2 << 60), offset % BLOCK),
        };
        let at = |place: usize| match self {
            Self::ByBlock(_) => place % BLOCK,
            _ => place,
        };
        let mut word = mix(key + (start / 8) as u64);
        (start..start + len)
            .map(|place| {
                let place = at(place);
                if place % 8 == 0 {
                    word = mix(key + (place / 8) as u64);
                }
                (word >> (place % 8 * 8)) as u8 | 1
            })
            .collect()
    }
}

/// A range of one file and a range of the same or the other file, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub from: Which,
    pub from_pos: usize,
    pub len: usize,
    pub to: Which,
    pub to_pos: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Allocate,
    Punch,
    Zero,
    Unshare,
    Collapse,
    Insert,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    Shared,
    Private,
}

pub use Sharing::{Private, Shared};

/// One operation. Positions and lengths are in bytes.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    Write(Which, usize, usize, Fill),
    WriteDirect(Which, usize, usize, Fill),
    Read(Which, usize, usize),
    ReadDirect(Which, usize, usize),
    Truncate(Which, usize),
    Fallocate {
        mode: Mode,
        file: Which,
        pos: usize,
        len: usize,
        keep_size: bool,
    },
    Clone {
        from: Which,
        to: Which,
    },
    CloneRange(Span),
    Dedupe(Span),
    Copy(Span),
    Splice(Span),
    /// Exchanges the names of the two files.
    Exchange,
    Reopen(Which),
    /// Calls fsync(2), and drops the file's cache.
    Sync(Which),
    Map(Sharing, Which),
    Unmap(Sharing, Which),
    /// Shrinks the mapping to so many pages, and grows it again, wherever there is room.
    Remap(Sharing, Which, usize),
    /// `MADV_DONTNEED` of the whole mapping.
    Forget(Sharing, Which),
    /// `MADV_POPULATE_READ`, or `WRITE`, from a page on.
    Populate {
        sharing: Sharing,
        file: Which,
        page: usize,
        pages: usize,
        write: bool,
    },
    Store(Sharing, Which, usize, usize, Fill),
    Load(Sharing, Which, usize, usize),
    /// Reads from one file into the shared mapping of a file.
    ReadInto(Span),
    /// Writes from the shared mapping of a file to one.
    WriteFrom(Span),
    /// Checks the mappings, holes and extents of a file.
    Check(Which),
}

/// The operations and guarantees of a filesystem.
#[derive(Clone, Copy, Debug)]
pub struct Repertoire {
    pub clone: bool,
    pub zero: bool,
    pub unshare: bool,
    /// `FALLOC_FL_COLLAPSE_RANGE`, `FALLOC_FL_INSERT_RANGE`.
    pub shift: bool,
    pub fiemap: bool,
    /// Bytes that were stored beyond the end are zeros after the end has moved up.
    pub hides: bool,
    /// FIEMAP and st_blocks are exact for each block: allocated, shared.
    pub exact: bool,
}

impl Repertoire {
    pub fn of(filesystem: Filesystem) -> Self {
        use crate::filesystem::{Btrfs, Ext4, Reflinkfs, Tmpfs, Xfs};
        Self {
            clone: filesystem.can_share(),
            zero: filesystem != Tmpfs,
            unshare: matches!(filesystem, Reflinkfs | Xfs),
            shift: matches!(filesystem, Reflinkfs | Xfs | Ext4),
            fiemap: matches!(filesystem, Reflinkfs | Xfs | Btrfs | Ext4),
            hides: filesystem != Tmpfs,
            exact: filesystem == Reflinkfs,
        }
    }
}

/// A generator of operations on files of a limited number of pages.
pub struct Generator<'a> {
    pub random: &'a mut Random,
    pub pages: usize,
    pub repertoire: Repertoire,
}

impl Generator<'_> {
    fn capacity(&self) -> usize {
        self.pages * BLOCK
    }

    fn which(&mut self) -> Which {
        if self.random.one_in(2) {
            A
        } else {
            B
        }
    }

    fn sharing(&mut self) -> Sharing {
        if self.random.one_in(3) {
            Private
        } else {
            Shared
        }
    }

    /// Returns a position of at most `max`: mostly at or next to the edge of a block.
    fn position(&mut self, max: usize) -> usize {
        let edge = self.random.below(max / BLOCK + 1) * BLOCK;
        match self.random.below(10) {
            0..=4 => edge,
            5 => edge + 1,
            6 => edge.saturating_sub(1),
            _ => self.random.below(max + 1),
        }
        .min(max)
    }

    /// Returns a position below the largest size, and a length that is not 0 and ends within it.
    fn range(&mut self) -> (usize, usize) {
        let pos = self.position(self.capacity() - 1);
        let room = self.capacity() - pos;
        let most = if self.random.one_in(4) {
            room
        } else {
            room.min(4 * BLOCK)
        };
        let end = self.position(pos + most);
        let len = end.saturating_sub(pos).clamp(1, room);
        (pos, len)
    }

    /// Returns a range of whole blocks.
    fn blocks(&mut self) -> (usize, usize) {
        let first = self.random.below(self.pages);
        let most = (self.pages - first).min(if self.random.one_in(4) { self.pages } else { 4 });
        (first * BLOCK, (1 + self.random.below(most)) * BLOCK)
    }

    /// Returns two ranges, mostly of whole blocks.
    fn span(&mut self) -> Span {
        let (from, to) = (self.which(), self.which());
        let ((from_pos, len), (mut to_pos, room)) = if self.random.one_in(5) {
            (self.range(), self.range())
        } else {
            (self.blocks(), self.blocks())
        };
        // Congruent offsets, so that a copy with unaligned ends can share the blocks between.
        if self.random.one_in(2) {
            to_pos = to_pos / BLOCK * BLOCK + from_pos % BLOCK;
        }
        let room = self.capacity().saturating_sub(to_pos).min(room.max(len));
        let mut len = len.min(room);
        if self.random.one_in(8) {
            len = len.saturating_sub(self.random.below(BLOCK));
        }
        Span {
            from,
            from_pos,
            len,
            to,
            to_pos,
        }
    }

    /// Returns a range for calls where length 0, or a range to the source's end, is special.
    fn clone_span(&mut self) -> Span {
        let mut span = self.span();
        if self.random.one_in(4) {
            span.len = 0;
        }
        span
    }

    pub fn operation(&mut self) -> Operation {
        let file = self.which();
        let fill = Fill::random(self.random);
        loop {
            return match self.random.below(64) {
                0..=7 => {
                    let (pos, len) = self.range();
                    Operation::Write(file, pos, len, fill)
                }
                8..=9 => {
                    let (pos, len) = self.blocks();
                    Operation::WriteDirect(file, pos, len, fill)
                }
                10 => {
                    let (pos, len) = self.range();
                    Operation::Read(file, pos, len)
                }
                11 => {
                    let (pos, len) = self.blocks();
                    Operation::ReadDirect(file, pos, len)
                }
                12..=15 => Operation::Truncate(file, self.position(self.capacity())),
                16..=22 => self.fallocate(file),
                23 if self.repertoire.clone => Operation::Clone {
                    from: file,
                    to: self.which(),
                },
                24..=31 if self.repertoire.clone => Operation::CloneRange(self.clone_span()),
                32..=34 if self.repertoire.clone => {
                    let mut span = self.span();
                    // At the same offset, where the bytes are most likely equal.
                    if self.random.one_in(2) {
                        span.to_pos = span.from_pos;
                    }
                    Operation::Dedupe(span)
                }
                35..=39 => Operation::Copy(self.span()),
                40 => Operation::Splice(self.span()),
                41 => Operation::Exchange,
                42 => Operation::Reopen(file),
                43 => Operation::Sync(file),
                44..=45 => Operation::Map(self.sharing(), file),
                46 if self.random.one_in(2) => Operation::Unmap(self.sharing(), file),
                47 if self.random.one_in(2) => {
                    Operation::Remap(self.sharing(), file, 1 + self.random.below(self.pages))
                }
                48 if self.random.one_in(2) => Operation::Forget(self.sharing(), file),
                49 => {
                    let page = self.random.below(self.pages);
                    Operation::Populate {
                        sharing: self.sharing(),
                        file,
                        page,
                        pages: 1 + self.random.below((self.pages - page).min(8)),
                        write: self.random.one_in(2),
                    }
                }
                50..=55 => {
                    let (pos, len) = self.range();
                    Operation::Store(self.sharing(), file, pos, len, fill)
                }
                56..=58 => {
                    let (pos, len) = self.range();
                    Operation::Load(self.sharing(), file, pos, len)
                }
                59 => Operation::ReadInto(self.span()),
                60 => Operation::WriteFrom(self.span()),
                61..=63 => Operation::Check(file),
                _ => continue,
            };
        }
    }

    fn fallocate(&mut self, file: Which) -> Operation {
        loop {
            let mode = match self.random.below(6) {
                0 => Mode::Allocate,
                1 => Mode::Punch,
                2 if self.repertoire.zero => Mode::Zero,
                3 if self.repertoire.unshare => Mode::Unshare,
                4 if self.repertoire.shift => Mode::Collapse,
                5 if self.repertoire.shift => Mode::Insert,
                _ => continue,
            };
            let shifts = matches!(mode, Mode::Collapse | Mode::Insert);
            let (pos, len) = if shifts && !self.random.one_in(8) {
                self.blocks()
            } else {
                self.range()
            };
            return Operation::Fallocate {
                mode,
                file,
                pos,
                len,
                keep_size: mode == Mode::Punch || !shifts && self.random.one_in(2),
            };
        }
    }
}
