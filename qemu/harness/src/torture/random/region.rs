// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The memory that random calls may change in any way: pages for mappings of files, and a buffer.

use crate::failure::{Context, Outcome};
use crate::mapping::Mapping;
use crate::pattern::BLOCK;

/// The number of pages for mappings of files.
pub const PAGES: usize = 128;

/// After those pages there are as many for ranges that end beyond them, and then an inaccessible
/// page, which ends stores of the kernel without a limit.
const LEN: usize = 2 * PAGES * BLOCK;

pub struct Region {
    mapped: Mapping,
    buffer: Mapping,
}

fn guarded() -> Outcome<Mapping> {
    let map = Mapping::anonymous(LEN + BLOCK)?;
    map.protect(LEN, BLOCK, libc::PROT_NONE)
        .or_fail("mprotect")?;
    Ok(map)
}

impl Region {
    pub fn new() -> Outcome<Self> {
        Ok(Self {
            mapped: guarded()?,
            buffer: guarded()?,
        })
    }

    pub fn mapped_at(&self, offset: usize) -> u64 {
        self.mapped.at(offset) as u64
    }

    pub fn buffer_at(&self, offset: usize) -> u64 {
        self.buffer.at(offset) as u64
    }
}
