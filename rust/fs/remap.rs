// SPDX-License-Identifier: GPL-2.0

//! What `copy_file_range(2)`, `FICLONE`, `FICLONERANGE` and `FIDEDUPERANGE` ask for.

use super::{
    Changing,
    ReflinkFs, //
};
use crate::vfs::{
    remap,
    FileRange,
    LockedPair, //
};
use core::ops::Deref;
use kernel::prelude::*;

/// What is to be done with a range.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RemapKind {
    /// Copy: share nothing.
    Copy,
    /// Share, or copy what cannot be shared.
    CopyOrClone,
    /// Share.
    Clone,
    /// Share if the bytes are equal.
    Dedupe,
}

/// A range, and what is to be done with it.
pub(crate) struct RemapRequest<'a> {
    pub(crate) range: FileRange<'a, ReflinkFs>,
    pub(crate) kind: RemapKind,
    /// Whether less than the whole range may be done.
    pub(crate) may_shorten: bool,
    /// Whether the call ends early with what is done: when a signal is pending, or after a bounded
    /// amount of work.
    pub(crate) may_stop: bool,
    /// Whether all that is reported as shared must be: the call ends before a block that cannot be
    /// shared, and fails with `EBUSY` if that is the first.
    pub(crate) only_shared: bool,
}

impl<'a> Deref for RemapRequest<'a> {
    type Target = FileRange<'a, ReflinkFs>;

    fn deref(&self) -> &Self::Target {
        &self.range
    }
}

impl RemapRequest<'_> {
    /// See [`FileRange::prepare_clone`].
    ///
    /// # Errors
    ///
    /// See `ioctl_ficlonerange(2)`.
    pub(crate) fn prepare_clone<'l>(
        &self,
        files: &'l LockedPair<'_, ReflinkFs>,
    ) -> Result<Option<(Changing<'l>, u64)>> {
        let flags = if self.may_shorten {
            remap::CAN_SHORTEN
        } else {
            0
        };
        self.range.prepare_clone(files, flags)
    }
}
