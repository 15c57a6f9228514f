// SPDX-License-Identifier: GPL-2.0

//! Mount options, in the syntax of tmpfs.

use super::quota::QuotaOptions;
use crate::{
    bindings,
    store::block::BLOCK_SIZE,
    vfs::{self, Context, Parameter},
};
use kernel::prelude::*;

/// A limit, as an option sets it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Not given.
    Default,
    /// Given as 0.
    None,
    /// Given.
    At(u64),
}

impl Limit {
    fn new(limit: u64) -> Self {
        if limit == 0 {
            Self::None
        } else {
            Self::At(limit)
        }
    }

    /// The limit, `default` where none was given; `None` for no limit.
    pub(crate) fn or(self, default: u64) -> Option<u64> {
        match self {
            Self::Default => Some(default),
            Self::None => None,
            Self::At(limit) => Some(limit),
        }
    }
}

/// What a mount's options say.
pub(crate) struct Options {
    /// `size=`: the most blocks.
    pub(crate) blocks: Limit,
    /// `nr_inodes=`: the most inodes.
    pub(crate) inodes: Limit,
    /// `mode=`: the permissions of the root directory.
    pub(crate) mode: u16,
    /// `uid=`: its owner.
    pub(crate) uid: bindings::kuid_t,
    /// `gid=`: its group.
    pub(crate) gid: bindings::kgid_t,
    /// Those for quotas.
    pub(crate) quota: QuotaOptions,
}

impl Options {
    /// The permissions of the root directory where no option says otherwise.
    pub(crate) const DEFAULT_MODE: u16 = 0o1777;

    /// The defaults.
    pub(crate) fn new(context: &Context<'_>) -> Self {
        let (uid, gid) = context.caller();
        Self {
            blocks: Limit::Default,
            inodes: Limit::Default,
            mode: Self::DEFAULT_MODE,
            uid,
            gid,
            quota: QuotaOptions::default(),
        }
    }

    /// Notes an option. `Ok(false)` if there is none of this name.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a value that makes no sense, which the context is told.
    pub(crate) fn set(&mut self, context: &Context<'_>, parameter: &Parameter<'_>) -> Result<bool> {
        let value = parameter.value.unwrap_or_default();
        let result = match parameter.key {
            b"size" => blocks(value).map(|blocks| self.blocks = Limit::new(blocks)),
            b"nr_inodes" => scaled(value).map(|inodes| self.inodes = Limit::new(inodes)),
            b"mode" => number(value, 8)
                .filter(|&mode| mode <= 0o7777)
                .map(|mode| self.mode = mode as u16),
            b"uid" => id(value)
                .and_then(|id| context.uid(id))
                .map(|uid| self.uid = uid),
            b"gid" => id(value)
                .and_then(|id| context.gid(id))
                .map(|gid| self.gid = gid),
            _ => return self.quota.set(context, parameter, scaled),
        };
        result
            .map(|()| true)
            .ok_or_else(|| context.bad_value(parameter))
    }
}

/// The blocks in a size in bytes, or in percent of the machine's memory.
fn blocks(value: &[u8]) -> Option<u64> {
    match value.strip_suffix(b"%") {
        Some(percent) => integer(percent)?
            .checked_mul(vfs::total_ram_pages())
            .map(|hundredths| hundredths / 100),
        None => Some(scaled(value)?.div_ceil(BLOCK_SIZE as u64)),
    }
}

/// A number with a suffix as `memparse` takes them, but without its silent overflow.
fn scaled(value: &[u8]) -> Option<u64> {
    let (digits, shift) = match value.split_last()? {
        (b'k' | b'K', rest) => (rest, 10),
        (b'm' | b'M', rest) => (rest, 20),
        (b'g' | b'G', rest) => (rest, 30),
        (b't' | b'T', rest) => (rest, 40),
        (b'p' | b'P', rest) => (rest, 50),
        // The last letter of "0xe" is a digit.
        (b'e' | b'E', rest) if !is_hex(value) => (rest, 60),
        _ => (value, 0),
    };
    integer(digits)?.checked_mul(1 << shift)
}

fn is_hex(value: &[u8]) -> bool {
    value.starts_with(b"0x") || value.starts_with(b"0X")
}

/// A number in C's notation: decimal, `0x..`, `0..`.
fn integer(value: &[u8]) -> Option<u64> {
    if is_hex(value) {
        number(&value[2..], 16)
    } else if value.len() > 1 && value[0] == b'0' {
        number(&value[1..], 8)
    } else {
        number(value, 10)
    }
}

fn number(value: &[u8], radix: u64) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |number, &digit| {
        let digit = u64::from((digit as char).to_digit(radix as u32)?);
        number.checked_mul(radix)?.checked_add(digit)
    })
}

fn id(value: &[u8]) -> Option<u32> {
    integer(value).and_then(|id| u32::try_from(id).ok())
}
