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
    write(path, len, CALL)
}

/// The same file, written in a call for its first block, and large ones from there on: where the blocks
/// of a call lie side by side in memory, each lies elsewhere in its MiB than in [`write_file`]'s.
///
/// For what goes through two files at once: an emulated processor's TLB may have one entry for two pages
/// at the same place of a MiB, and each access to one then throws out the other.
pub fn write_file_shifted(path: &Path, len: u64) -> Result<File> {
    write(path, len, BLOCK)
}

/// How much is written in a call.
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
