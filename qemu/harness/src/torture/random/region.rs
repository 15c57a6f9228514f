// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The memory that random calls may do anything to: pages that files are mapped in, and a buffer.

use crate::failure::{Context, Outcome};
use crate::mapping::Mapping;
use crate::pattern::BLOCK;

/// How many pages files are mapped in.
pub const PAGES: usize = 128;

/// Behind those pages there is as much again for what reaches beyond them, and then a page that nothing
/// may touch: what the kernel is asked to store without end ends there.
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
