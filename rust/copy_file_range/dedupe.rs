// SPDX-License-Identifier: GPL-2.0

//! `COPY_FR_DEDUP`: sharing what is equal.
//!
//! To compare takes long, and filesystems do it with both files locked and without looking for
//! signals, unless they take flags themselves. So where the data goes through the page cache this
//! is done in pieces. As a difference at the end must leave the beginning unshared too, all pieces
//! are compared first.

use super::{
    in_pieces,
    LIMIT_BYTES,
    PIECE_BYTES, //
};
use crate::{
    compat::{
        EBADE,
        EOPNOTSUPP, //
    },
    copy_flags::COPY_FR_DEDUP,
    file::{
        signal_pending,
        Range, //
    },
};
use kernel::prelude::*;

/// Shares the range if the bytes are equal. Returns how many: fewer than all after a signal, or
/// where the files were changed meanwhile.
///
/// # Errors
///
/// `EBADE` where they differ; those of `FIDEDUPERANGE`.
pub(super) fn dedupe(range: &Range<'_>) -> Result<u64> {
    match range.call_copy_file_range(COPY_FR_DEDUP) {
        Err(err) if err == EOPNOTSUPP => (),
        result => return result,
    }
    if range.len <= PIECE_BYTES || !range.from.has_page_cache() || !range.to.has_page_cache() {
        return range.part(0, range.len.min(LIMIT_BYTES)).dedupe();
    }
    check_alignment(range)?;
    let equal = compare(range)?;
    in_pieces(&range.part(0, equal), |piece| piece.dedupe())
}

/// Finds what the filesystem will refuse, before it is compared: later it sees only pieces.
///
/// # Errors
///
/// `EINVAL` where the range is not aligned, `EOPNOTSUPP` where the filesystem cannot deduplicate.
fn check_alignment(range: &Range<'_>) -> Result {
    range.try_dedupe()?;
    let ends = (range.from_pos + range.len, range.to_pos + range.len);
    let whole = range.len & (range.to.super_block_size() - 1) == 0;
    if !whole && ends != (range.from.size(), range.to.size()) {
        return Err(EINVAL);
    }
    Ok(())
}

/// Returns how much from the beginning is equal: all of it, or what was compared when a signal
/// came.
fn compare(range: &Range<'_>) -> Result<u64> {
    let mut done = 0;
    while done < range.len {
        let len = PIECE_BYTES.min(range.len - done);
        if !range.part(done, len).is_equal()? {
            return Err(EBADE);
        }
        done += len;
        if signal_pending() {
            break;
        }
    }
    Ok(done)
}
