// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Every system call that takes a file or a range of one, with ranges up to the longest.

pub mod asking;
pub mod data;
pub mod flags;
pub mod maps;
pub mod ranges;
pub mod sharing;

use std::os::fd::OwnedFd;

use super::bomb::{Bomb, SIZE};
use crate::failure::{Context, Errno, Outcome, Sys};
use crate::filesystem::Feature;
use crate::mapping::Mapping;
use crate::pattern::{Random, BLOCK64};
use crate::sys::{clone_file, read_to, File};

/// One call; only its errno is checked.
pub type Call = fn(&Caller<'_>, Piece) -> Sys<usize>;

/// A range of a file, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub offset: u64,
    pub len: u64,
}

impl Piece {
    /// Returns the longest range first, then the same without its ends; then random ranges of all
    /// lengths, every second one of whole blocks.
    fn choose(turn: u64, random: &mut Random) -> Self {
        match turn {
            0 => Self {
                offset: 0,
                len: SIZE,
            },
            1 => Self {
                offset: BLOCK64,
                len: SIZE - 3 * BLOCK64,
            },
            _ => {
                let any = |random: &mut Random| (random.next() % SIZE) >> (random.next() % 50);
                let (offset, len) = (any(random), any(random).max(1));
                if random.one_in(2) {
                    Self { offset, len }
                } else {
                    Self {
                        offset: offset / BLOCK64 * BLOCK64,
                        len: len.next_multiple_of(BLOCK64),
                    }
                }
            }
        }
    }
}

/// Errors for a range that is refused, or for a full filesystem.
const REFUSED: &[i32] = &[
    libc::EINVAL,
    libc::ENOSPC,
    libc::EFBIG,
    libc::ENXIO,
    libc::EOPNOTSUPP,
    libc::EINTR,
    libc::EAGAIN,
    libc::ENOMEM,
    libc::EFAULT,
    libc::EBADE,
    libc::EBUSY,
    libc::EOVERFLOW,
    libc::ENODATA,
];

/// The features that these tests need.
pub const NEEDS: &[Feature] = &[Feature::Reflinkfs, Feature::FastKernel];

/// The length of the buffer of a read or write.
pub const BUFFER: usize = 1 << 20;

/// The caller's resources besides the bomb.
pub struct Caller<'a> {
    pub bomb: &'a Bomb,
    pub buffer: Mapping,
    /// The reading end and the writing end of a pipe, both non-blocking.
    pub pipe: (OwnedFd, OwnedFd),
    pub null: File,
    turns: u64,
}

impl<'a> Caller<'a> {
    pub fn new(bomb: &'a Bomb) -> Outcome<Self> {
        Ok(Self {
            bomb,
            buffer: Mapping::anonymous(BUFFER)?,
            pipe: data::impatient_pipe()?,
            null: File::open("/dev/null", libc::O_RDWR).or_fail("open /dev/null")?,
            turns: 0,
        })
    }

    /// Makes one call, on a file of the size of a bomb.
    pub fn turn(&mut self, call: Call, random: &mut Random) -> Outcome {
        let Bomb { file, other, .. } = self.bomb;
        if file.size()? < SIZE / 2 {
            file.truncate(0)?;
            // If the others have filled the filesystem, uses the file as short as it is.
            let _ = clone_file(other, file);
        }
        let piece = Piece::choose(self.turns, random);
        self.turns += 1;
        match call(self, piece) {
            Err(Errno(errno)) if !REFUSED.contains(&errno) => {
                Err(Errno(errno)).or_fail(format_args!("with {piece:?}"))?
            }
            _ => {}
        }
        while let Ok(1..) = read_to(&self.pipe.0, self.buffer.at(0), BUFFER) {}
        Ok(())
    }
}
