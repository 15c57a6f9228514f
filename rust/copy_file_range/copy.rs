// SPDX-License-Identifier: GPL-2.0

//! `COPY_FR_COPY`: all bytes, no sharing.

use super::in_pieces;
use crate::{
    compat::EOPNOTSUPP,
    copy_flags::COPY_FR_COPY,
    file::Range, //
};
use kernel::prelude::*;

/// Copies the range. Returns how many bytes: fewer than all after a signal or a failure.
///
/// # Errors
///
/// Those of reading and writing, if not one byte was copied; `EINVAL` where the source has become
/// so short that there is none.
pub(super) fn copy(range: &Range<'_>) -> Result<u64> {
    match in_pieces(range, copy_piece)? {
        0 => Err(EINVAL),
        done => Ok(done),
    }
}

/// By the filesystem's own method where it has one, with a single copy in memory.
fn copy_piece(piece: &Range<'_>) -> Result<u64> {
    match piece.call_copy_file_range(COPY_FR_COPY) {
        Err(err) if err == EOPNOTSUPP && piece.is_direct() => piece.copy_buffered(),
        Err(err) if err == EOPNOTSUPP => piece.splice(),
        result => result,
    }
}
