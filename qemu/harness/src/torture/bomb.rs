// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Files of 2^62 bytes that take a block or two: their contents were cloned behind themselves.

use crate::failure::{expect_eq, Context, Outcome};
use crate::instance::Instance;
use crate::pattern::{blocks, BLOCK64};
use crate::sys::{chown, clone_file, clone_range, File};
use crate::tests::fallocate::fallocate;

/// The size of a bomb in bytes.
pub const SIZE: u64 = 1 << 62;

/// The unprivileged owner of these files.
pub const USER: u32 = 1000;

/// The contents of a bomb, and of the other file of calls that take two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Holes only.
    Holes,
    /// One block of data; the other file has the same bytes in another block.
    Data,
    /// Blocks that were allocated and never written.
    Unwritten,
    /// Data, unwritten blocks, a hole, other data.
    Mixed,
    /// One block of data, and unwritten blocks behind the end; the other file has the same block,
    /// by other nodes.
    Leaves,
    /// Two alternating blocks; the other file has the same two, beginning with the second.
    Shifted,
}

/// Two files of this shape.
pub struct Bomb {
    pub shape: Shape,
    pub file: File,
    pub other: File,
}

impl Bomb {
    #[track_caller]
    pub fn new(fs: &Instance, shape: Shape) -> Outcome<Self> {
        let file = fs.create("bomb")?;
        let other = fs.create("other")?;
        match shape {
            Shape::Holes => {
                file.truncate(SIZE)?;
                other.truncate(SIZE)?;
            }
            Shape::Data => {
                for file in [&file, &other] {
                    file.write_at(&blocks(1, 1), 0)?;
                    double(file, BLOCK64)?;
                }
            }
            Shape::Unwritten => {
                for file in [&file, &other] {
                    fallocate(file, 0, 0, BLOCK64).or_fail("fallocate")?;
                    double(file, BLOCK64)?;
                }
            }
            Shape::Mixed => {
                for file in [&file, &other] {
                    file.write_at(&blocks(1, 1), 0)?;
                    fallocate(file, 0, BLOCK64, BLOCK64).or_fail("fallocate")?;
                    file.write_at(&blocks(2, 1), 3 * BLOCK64)?;
                    double(file, 4 * BLOCK64)?;
                }
            }
            Shape::Leaves => {
                file.write_at(&blocks(1, 1), 0)?;
                clone_file(&file, &other).or_fail("FICLONE")?;
                for file in [&file, &other] {
                    double(file, BLOCK64)?;
                    let keep = libc::FALLOC_FL_KEEP_SIZE;
                    fallocate(file, keep, SIZE, BLOCK64).or_fail("fallocate")?;
                }
            }
            Shape::Shifted => {
                file.write_at(&blocks(1, 2), 0)?;
                for (from, to) in [(BLOCK64, 0), (0, BLOCK64)] {
                    clone_range(&file, from, BLOCK64, &other, to).or_fail("FICLONERANGE")?;
                }
                double(&file, 2 * BLOCK64)?;
                double(&other, 2 * BLOCK64)?;
            }
        }
        for file in [&file, &other] {
            chown(&file.path, USER, USER).or_fail("chown")?;
        }
        Ok(Self { shape, file, other })
    }

    /// Returns by how many bytes the contents of one file are shifted in the other.
    pub fn shift(&self) -> u64 {
        if self.shape == Shape::Shifted {
            BLOCK64
        } else {
            0
        }
    }
}

/// Clones the contents of a file behind itself until the file has the size of a bomb.
fn double(file: &File, len: u64) -> Outcome {
    let mut size = len;
    while size < SIZE {
        clone_range(file, 0, size, file, size).or_fail(format_args!(
            "FICLONERANGE of {size} bytes behind themselves"
        ))?;
        size *= 2;
    }
    expect_eq(file.size()?, SIZE, "size of a bomb")
}
