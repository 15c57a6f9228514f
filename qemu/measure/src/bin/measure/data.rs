// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The contents of files, and the order of accesses.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;

use crate::sys;

pub const BLOCK: u64 = 4096;

/// Pseudo-random numbers, the same in each run (xorshift).
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

    /// Returns the numbers 0 to `count`, in random order.
    pub fn order(&mut self, count: u64) -> Vec<u64> {
        let mut order: Vec<u64> = (0..count).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
        order
    }
}

/// Returns bytes that differ from block to block.
pub fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let words = std::iter::repeat_with(|| random.next().to_le_bytes());
    words.take(len.div_ceil(8)).flatten().take(len).collect()
}

/// Creates a file of `len` bytes, with large writes, and writes it back to the disk.
pub fn write_file(path: &Path, len: u64) -> Result<File> {
    write(path, len, CALL)
}

/// Creates the same file with a write of one block, and large writes after it: if the blocks of a
/// write are adjacent in memory, their addresses modulo 1 MiB differ from those of [`write_file`].
///
/// For work on two files at once: the TLB of an emulated processor may have one entry for two pages
/// at the same offset in a MiB, and each access to one evicts the other.
pub fn write_file_shifted(path: &Path, len: u64) -> Result<File> {
    write(path, len, BLOCK)
}

/// The size of one write, in bytes.
const CALL: u64 = 1 << 20;

fn write(path: &Path, len: u64, first_call: u64) -> Result<File> {
    let bytes = bytes(CALL as usize, 1).repeat(2);
    let mut file = sys::create(path)?;
    let (mut at, mut call) = (0, first_call);
    while at < len {
        let start = (at % CALL) as usize;
        let part = call.min(len - at);
        file.write_all(&bytes[start..][..part as usize])?;
        (at, call) = (at + part, CALL);
    }
    file.sync_all()?;
    Ok(file)
}

/// Creates a file of `len` bytes with allocated, unwritten blocks.
pub fn allocate_file(path: &Path, len: u64) -> Result<File> {
    let file = sys::create(path)?;
    sys::allocate(&file, 0, len)?;
    file.sync_all()?;
    Ok(file)
}

/// Creates a file of `2 * extents` blocks in as many extents: clones it to `NAME.clone`, which
/// stays, and rewrites every second block, in random order.
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
