// SPDX-License-Identifier: GPL-2.0

//! The extended attributes in a record.

use super::{
    names::{
        Name,
        Named,
        Names, //
    },
    space::NodeCharge, //
};
use crate::vfs::PosixAcl;
use core::ops::ControlFlow;
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

const TRUSTED: &[u8] = b"trusted.";

/// Under which names the access list and the default list are listed.
const ACL_NAMES: [&CStr; 2] = [c"system.posix_acl_access", c"system.posix_acl_default"];

/// An extended attribute. Its name has its prefix.
pub(super) struct Xattr {
    pub(super) name: Name,
    pub(super) value: KVVec<u8>,
}

impl Named for Xattr {
    fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }
}

/// What an attribute counts as, in bytes, besides its name and value.
const XATTR_BYTES: usize = 72;

impl Xattr {
    /// Returns what it counts as, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        (XATTR_BYTES + self.name().len() + self.value.len()) as u64
    }
}

/// The attributes of an inode. A clone costs nothing.
pub(super) struct Xattrs {
    pub(super) by_name: Names<Xattr, NodeCharge>,
    /// The access list and the default list.
    pub(super) acls: [Option<ARef<PosixAcl>>; 2],
}

impl Clone for Xattrs {
    fn clone(&self) -> Self {
        Self {
            by_name: self.by_name.clone(),
            acls: self.acls.clone(),
        }
    }
}

impl Xattrs {
    /// Returns none.
    pub(super) const fn new() -> Self {
        Self {
            by_name: Names::new(),
            acls: [None, None],
        }
    }

    /// Puts the names into `to`, each with a NUL behind it, unless that is empty, with `labels`
    /// among them; those that only an administrator may see if `all`. Returns their length.
    pub(super) fn list(&self, labels: &[u8], all: bool, to: &mut [u8]) -> Result<usize> {
        let labels = || {
            labels
                .split(|&byte| byte == 0)
                .filter(|name| !name.is_empty())
        };
        let mut len = 0;
        let mut add = |name: &[u8]| {
            if !all && name.starts_with(TRUSTED) {
                return Ok(());
            }
            if !to.is_empty() {
                let (name_to, end) = to
                    .get_mut(len..=len + name.len())
                    .and_then(|to| to.split_at_mut_checked(name.len()))
                    .ok_or(ERANGE)?;
                name_to.copy_from_slice(name);
                end.fill(0);
            }
            len += name.len() + 1;
            Ok(())
        };
        let acls = ACL_NAMES.iter().zip(&self.acls);
        let mut acls = acls.filter_map(|(name, acl)| acl.is_some().then_some(name.to_bytes()));
        acls.try_for_each(&mut add)?;
        labels().try_for_each(&mut add)?;
        let mut result = Ok(());
        self.by_name.for_each(0, |_, xattr| {
            // A label that the security module keeps here, too, is named already.
            if labels().all(|label| label != xattr.name()) {
                result = add(xattr.name());
            }
            match result {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        result.map(|()| len)
    }
}
