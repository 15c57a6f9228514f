// SPDX-License-Identifier: GPL-2.0

//! The mount options for quotas, as tmpfs has them. (Charging is in `data.rs`.)

use crate::vfs::{
    quota::{Kind, Limits},
    Context, Parameter,
};
use kernel::{prelude::*, seq_file::SeqFile, seq_print};

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
    /// Notes an option. `Ok(false)` if there is none of this name.
    ///
    /// # Errors
    ///
    /// `EINVAL`, which the context is told: in a user namespace, for a limit that is 0, too large or
    /// no number.
    pub(crate) fn set(
        &mut self,
        context: &Context<'_>,
        parameter: &Parameter<'_>,
        scaled: impl FnOnce(&[u8]) -> Option<u64>,
    ) -> Result<bool> {
        let (name, limit) = match parameter.key {
            b"quota" | b"usrquota" | b"grpquota" => {
                self.turn_on(context, parameter)?;
                return Ok(true);
            }
            b"usrquota_block_hardlimit" => ("User quota block", &mut self.user.space),
            b"usrquota_inode_hardlimit" => ("User quota inode", &mut self.user.inodes),
            b"grpquota_block_hardlimit" => ("Group quota block", &mut self.group.space),
            b"grpquota_inode_hardlimit" => ("Group quota inode", &mut self.group.inodes),
            _ => return Ok(false),
        };
        let value = scaled(parameter.value.unwrap_or_default()).filter(|&value| value != 0);
        let value = value.ok_or_else(|| context.bad_value(parameter))?;
        *limit = i64::try_from(value).map_err(|_| {
            context.error(fmt!("{name} hardlimit too large."));
            EINVAL
        })?;
        Ok(true)
    }

    fn turn_on(&mut self, context: &Context<'_>, parameter: &Parameter<'_>) -> Result {
        if parameter.value.is_some() {
            return Err(context.bad_value(parameter));
        }
        if !context.is_initial() {
            context.error(fmt!("Quotas in unprivileged mounts are unsupported"));
            return Err(EINVAL);
        }
        self.users |= parameter.key != b"grpquota";
        self.groups |= parameter.key != b"usrquota";
        Ok(())
    }

    /// Whether any are on.
    fn any(&self) -> bool {
        self.users || self.groups
    }

    /// What a new mount is to have: no limits without quotas.
    pub(crate) fn for_mount(self) -> Self {
        if self.any() {
            self
        } else {
            Self::default()
        }
    }

    /// Whether a kind is on, and its limits.
    pub(crate) fn of(&self, kind: Kind) -> Option<Limits> {
        match kind {
            Kind::User => self.users.then_some(self.user),
            Kind::Group => self.groups.then_some(self.group),
        }
    }

    /// Whether a mount with these options may be remounted with `new`, which must not ask for
    /// anything else.
    ///
    /// # Errors
    ///
    /// `EINVAL`, which the context is told.
    pub(crate) fn may_become(&self, context: &Context<'_>, new: &Self) -> Result {
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
