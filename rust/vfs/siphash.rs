// SPDX-License-Identifier: GPL-2.0

//! A hash that holds against a user who chooses what is hashed.
//!
//! C header: [`include/linux/siphash.h`](srctree/include/linux/siphash.h).

use crate::bindings;

/// A secret key, `siphash_key_t`.
pub struct SiphashKey(bindings::siphash_key_t);

impl SiphashKey {
    /// Returns a random one.
    pub fn random() -> Self {
        let word = || {
            // SAFETY: Has no requirements.
            unsafe { bindings::get_random_u64() }
        };
        Self(bindings::siphash_key_t {
            key: [word(), word()],
        })
    }

    /// Returns the hash of `bytes`, `siphash`.
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        // SAFETY: The bytes and the key are valid for reads.
        unsafe { bindings::siphash(bytes.as_ptr().cast(), bytes.len(), &self.0) }
    }
}
