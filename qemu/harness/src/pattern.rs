// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Data that shows its origin, and reproducible random numbers.

/// The block size of every filesystem under test: the page size.
pub const BLOCK: usize = 4096;

/// `BLOCK` for offsets.
pub const BLOCK64: u64 = BLOCK as u64;

/// Returns bytes that differ between tags and between offsets, and are never zero.
pub fn pattern(tag: u8, len: usize) -> Vec<u8> {
    let mut random = Random::new(0x5eed_0000 + u64::from(tag));
    (0..len).map(|_| (random.next() >> 32) as u8 | 1).collect()
}

/// Returns `count` blocks of `pattern`.
pub fn blocks(tag: u8, count: usize) -> Vec<u8> {
    pattern(tag, count * BLOCK)
}

/// A seeded generator (splitmix64).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Returns a number below `bound`, which is above 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8 | 1).collect()
    }
}

/// Mixes 64 bits so that every input bit matters to every output bit.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
