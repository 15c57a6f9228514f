// SPDX-License-Identifier: GPL-2.0

//! Checks whether a call makes sense: `generic_copy_file_checks` of `fs/read_write.c`, but that a
//! range beyond the end of the source is an error.
//!
//! Alignment is not looked at here. `->remap_file_range` is given all or nothing to do, and judges
//! by the unit in which its filesystem shares, which the VFS does not know: `i_blkbits` is the size
//! of a write over NFS, and the server's unit another.

use super::Flag;
use crate::{
    bindings,
    compat::EOPNOTSUPP,
    file::{
        AnyFile,
        Range, //
    },
};
use kernel::prelude::*;

/// Returns the range of a call, `None` if it is empty.
///
/// # Errors
///
/// `EISDIR`, `EINVAL`, `EBADF`, `EXDEV`, `EOPNOTSUPP`, `EPERM`, `ETXTBSY`, `EOVERFLOW`, `EFBIG`
/// and those of the security modules.
pub(super) fn check<'a>(
    from: &'a AnyFile,
    from_pos: i64,
    to: &'a AnyFile,
    to_pos: i64,
    len: u64,
    flag: Flag,
) -> Result<Option<Range<'a>>> {
    check_files(from, to, flag)?;
    let pos = |pos| u64::try_from(pos).map_err(|_| EINVAL);
    let mut range = Range {
        from,
        from_pos: pos(from_pos)?,
        to,
        to_pos: pos(to_pos)?,
        len,
    };
    let from_end = end(range.from_pos, len)?;
    let to_end = end(range.to_pos, len)?;
    if len == 0 {
        return Ok(None);
    }
    let shares = flag != Flag::Copy;
    if shares && !(from.can_remap() && to.can_remap()) {
        return Err(EOPNOTSUPP);
    }
    if from_end > from.size() {
        return Err(EINVAL);
    }
    if from.same_inode(to) && to_end > range.from_pos && range.to_pos < from_end {
        return Err(EINVAL);
    }
    if flag == Flag::Dedup && to_end > to.size() {
        return Err(EINVAL);
    }
    range.len = to.write_check_limits(range.to_pos, len)?;
    // All bytes are shared, or none.
    if shares && range.len < len {
        return Err(EINVAL);
    }
    range.rw_verify_area()?;
    Ok(Some(range))
}

fn check_files(from: &AnyFile, to: &AnyFile, flag: Flag) -> Result {
    let types = [from.file_type(), to.file_type()];
    if types.contains(&bindings::S_IFDIR) {
        return Err(EISDIR);
    }
    if types != [bindings::S_IFREG; 2] {
        return Err(EINVAL);
    }
    if !from.is_readable() || !to.is_writable() || to.is_append() {
        return Err(EBADF);
    }
    let copies_across = flag == Flag::Copy && from.same_copy_file_range(to);
    if !from.same_super_block(to) && !copies_across {
        return Err(EXDEV);
    }
    if to.is_immutable() {
        return Err(EPERM);
    }
    if from.is_swapfile() || to.is_swapfile() {
        return Err(ETXTBSY);
    }
    Ok(())
}

/// Returns where a range ends.
fn end(pos: u64, len: u64) -> Result<u64> {
    pos.checked_add(len)
        .filter(|&end| i64::try_from(end).is_ok())
        .ok_or(EOVERFLOW)
}
