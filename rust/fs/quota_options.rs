// SPDX-License-Identifier: GPL-2.0

//! The mount options for quotas, as tmpfs has them. (Charging is in `file_blocks.rs`.)

use crate::{
    memfs::quota::{
        Kind,
        Limits, //
    },
    vfs::FsContext, //
};
use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

/// What a mount's options say about quotas.
#[derive(Clone, Copy, Default)]
pub(crate) struct QuotaOptions {
    /// By kind: `usrquota`, `grpquota`, `quota` for both.
    enabled: [bool; 2],
    /// By kind: `usrquota_block_hardlimit=`, `usrquota_inode_hardlimit=` and so on, for those
    /// without limits of their own.
    limits: [Limits; 2],
}

impl QuotaOptions {
    /// Enables accounting.
    ///
    /// # Errors
    ///
    /// `EINVAL`, which the context is told: in a user namespace.
    pub(crate) fn enable(&mut self, context: &FsContext<'_>, kinds: &[Kind]) -> Result {
        if !context.is_init_user_ns() {
            context.error(fmt!("Quotas in unprivileged mounts are unsupported"));
            return Err(EINVAL);
        }
        for &kind in kinds {
            self.enabled[kind as usize] = true;
        }
        Ok(())
    }

    /// Returns the default limits of a kind, to be set.
    pub(crate) fn limits_mut(&mut self, kind: Kind) -> &mut Limits {
        &mut self.limits[kind as usize]
    }

    /// Returns whether any are enabled.
    pub(crate) fn any(&self) -> bool {
        self.enabled.contains(&true)
    }

    /// Returns what a new mount gets: no limits without quotas.
    pub(crate) fn for_mount(self) -> Self {
        if self.any() {
            self
        } else {
            Self::default()
        }
    }

    /// Returns the limits of a kind, if it is enabled.
    pub(crate) fn of(&self, kind: Kind) -> Option<Limits> {
        self.enabled[kind as usize].then_some(self.limits[kind as usize])
    }

    /// Checks whether a mount with these options may be remounted with `new`, which must not change
    /// any of them.
    ///
    /// # Errors
    ///
    /// `EINVAL`, which the context is told.
    pub(crate) fn may_become(&self, context: &FsContext<'_>, new: &Self) -> Result {
        if new.any() && !self.any() {
            context.error(fmt!("Cannot enable quota on remount"));
            return Err(EINVAL);
        }
        let same = |new: i64, old| new == 0 || new == old;
        let mut limits = new.limits.iter().zip(&self.limits);
        if !limits.all(|(new, old)| same(new.space, old.space) && same(new.inodes, old.inodes)) {
            context.error(fmt!("Cannot change global quota limit on remount"));
            return Err(EINVAL);
        }
        Ok(())
    }

    /// The options for `/proc/mounts`.
    pub(crate) fn show(&self, line: &SeqFile) {
        for (name, enabled) in ["usrquota", "grpquota"].iter().zip(self.enabled) {
            if enabled {
                seq_print!(line, ",{name}");
            }
        }
        let [user, group] = &self.limits;
        for (name, limit) in [
            ("usrquota_block", user.space),
            ("grpquota_block", group.space),
            ("usrquota_inode", user.inodes),
            ("grpquota_inode", group.inodes),
        ] {
            if limit != 0 {
                seq_print!(line, ",{name}_hardlimit={limit}");
            }
        }
    }
}
