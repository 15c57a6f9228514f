// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What is in the files, and in which order they are touched.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;

use crate::sys;

pub const BLOCK: u64 = 4096;

/// Numbers without a pattern, the same in each run (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The numbers 0 to `count`, in random order.
    pub fn order(&mut self, count: u64) -> Vec<u64> {
        let mut order: Vec<u64> = (0..count).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
        order
    }
}

/// Bytes that differ from block to block.
pub fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let words = std::iter::repeat_with(|| random.next().to_le_bytes());
    words.take(len.div_ceil(8)).flatten().take(len).collect()
}

/// Makes a file of `len` bytes, written in large calls, and has it written to the disk.
pub fn write_file(path: &Path, len: u64) -> Result<File> {
    let chunk = bytes(len.min(1 << 20) as usize, 1);
    let mut file = sys::create(path)?;
    let mut left = len;
    while left > 0 {
        let part = left.min(chunk.len() as u64);
        file.write_all(&chunk[..part as usize])?;
        left -= part;
    }
    file.sync_all()?;
    Ok(file)
}

/// Makes a file of `len` bytes whose blocks are allocated but not written.
pub fn allocate_file(path: &Path, len: u64) -> Result<File> {
    let file = sys::create(path)?;
    sys::allocate(&file, 0, len)?;
    file.sync_all()?;
    Ok(file)
}

/// Makes a file of `2 * extents` blocks in as many extents: a clone of it is made, which stays as
/// `NAME.clone`, then every second block is rewritten, in random order.
pub fn fragment_file(path: &Path, extents: u64) -> Result<File> {
    let file = write_file(path, 2 * extents * BLOCK)?;
    sys::clone(&file, &sys::create(&path.with_extension("clone"))?)?;
    let block = bytes(BLOCK as usize, 3);
    for i in Random::new(extents).order(extents) {
        file.write_all_at(&block, 2 * i * BLOCK)?;
    }
    file.sync_all()?;
    Ok(file)
}
