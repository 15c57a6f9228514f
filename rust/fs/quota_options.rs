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
    /// `usrquota`, `quota`.
    users: bool,
    /// `grpquota`, `quota`.
    groups: bool,
    /// `usrquota_block_hardlimit=`, `usrquota_inode_hardlimit=`: for users without limits of their
    /// own.
    user: Limits,
    /// `grpquota_block_hardlimit=`, `grpquota_inode_hardlimit=`.
    group: Limits,
}

impl QuotaOptions {
    /// Enables accounting: for users, for groups, or for both.
    ///
    /// # Errors
    ///
    /// `EINVAL`, which the context is told: in a user namespace.
    pub(crate) fn enable(&mut self, context: &FsContext<'_>, users: bool, groups: bool) -> Result {
        if !context.is_init_user_ns() {
            context.error(fmt!("Quotas in unprivileged mounts are unsupported"));
            return Err(EINVAL);
        }
        self.users |= users;
        self.groups |= groups;
        Ok(())
    }

    /// Returns the default limits of a kind, to be set.
    pub(crate) fn limits_mut(&mut self, kind: Kind) -> &mut Limits {
        match kind {
            Kind::User => &mut self.user,
            Kind::Group => &mut self.group,
        }
    }

    /// Returns whether any are enabled.
    fn any(&self) -> bool {
        self.users || self.groups
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
        match kind {
            Kind::User => self.users.then_some(self.user),
            Kind::Group => self.groups.then_some(self.group),
        }
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
        let limits =
            |new: &Limits, old: &Limits| same(new.space, old.space) && same(new.inodes, old.inodes);
        if !limits(&new.user, &self.user) || !limits(&new.group, &self.group) {
            context.error(fmt!("Cannot change global quota limit on remount"));
            return Err(EINVAL);
        }
        Ok(())
    }

    /// The options for `/proc/mounts`.
    pub(crate) fn show(&self, line: &SeqFile) {
        if self.users {
            seq_print!(line, ",usrquota");
        }
        if self.groups {
            seq_print!(line, ",grpquota");
        }
        for (name, limit) in [
            ("usrquota_block", self.user.space),
            ("grpquota_block", self.group.space),
            ("usrquota_inode", self.user.inodes),
            ("grpquota_inode", self.group.inodes),
        ] {
            if limit != 0 {
                seq_print!(line, ",{name}_hardlimit={limit}");
            }
        }
    }
}
