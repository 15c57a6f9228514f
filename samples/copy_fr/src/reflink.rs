// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `COPY_FR_REFLINK`.

use crate::{fallback::Range, sys};
use std::io;

/// Shares the range. The kernel checks alignment and ends.
pub(crate) fn reflink(range: &Range<'_>) -> io::Result<usize> {
    sys::clone_range(
        range.from,
        range.from_pos,
        range.to,
        range.to_pos,
        range.len as u64,
    )?;
    Ok(range.len)
}
