// SPDX-License-Identifier: GPL-2.0

//! The flags of `copy_file_range(2)`, for the filesystem and for the module that lets them in.

/// Copy all bytes: afterwards the call has shared none.
pub(crate) const COPY_FR_COPY: u32 = 1;
/// Share, or fail.
pub(crate) const COPY_FR_REFLINK: u32 = 2;
/// Share if the bytes are equal.
pub(crate) const COPY_FR_DEDUP: u32 = 4;

/// In `struct file_operations`, `fop_flags`: `->copy_file_range` takes these flags, does less than
/// it was asked for when a signal is pending, and shares all that it says to have shared.
///
/// Where only its `->remap_file_range` is reached, as below overlayfs, it does the same where
/// `REMAP_FILE_CAN_SHORTEN` is what no ioctl makes it: set for a clone, not set for a
/// deduplication.
///
/// The kernel has given out the bits from below. On a filesystem without this, files are copied by
/// splicing, and cloned and deduplicated as the ioctls do it.
pub(crate) const FOP_COPY_FLAGS: u32 = 1 << 31;
