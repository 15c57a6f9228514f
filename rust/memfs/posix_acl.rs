// SPDX-License-Identifier: GPL-2.0

//! Setting and inheriting access control lists. They are kept and count as extended attributes,
//! and the inode has them in its cache.
//!
//! Compare `simple_set_acl` and `simple_acl_create` of `fs/posix_acl.c`, which modules cannot call.

use super::{
    transaction::Exclusive,
    xattr,
    MemFs,
    Transaction, //
};
use crate::vfs::{
    AclType,
    IdMap,
    Inode,
    LockedInode,
    NewInode,
    PosixAcl, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// Sets a list, and puts it into the inode's cache, where the kernel never drops it.
fn set<T: MemFs>(inode: Exclusive<'_, T>, kind: AclType, acl: Option<&PosixAcl>) -> Result {
    xattr::set_acl(inode, kind, acl)?;
    inode.set_cached_acl(kind, acl);
    Ok(())
}

/// Notes that a new inode has no lists. Where this is not known, the kernel asks, and may then put
/// its answer in the place of a list that was set meanwhile.
pub(super) fn init_without<T: MemFs>(inode: &NewInode<T>) {
    for kind in [AclType::Default, AclType::Access] {
        inode.set_cached_acl(kind, None);
    }
}

/// Puts the lists of a new inode into its cache, as its record says.
pub(super) fn read<T: MemFs>(inode: &NewInode<T>) {
    for kind in [AclType::Default, AclType::Access] {
        inode.set_cached_acl(kind, xattr::acl(inode, kind).as_deref());
    }
}

/// Gives a new inode the lists and the mode that it inherits from `dir`.
///
/// # Errors
///
/// `ENOMEM`, `ENOSPC`, `EDQUOT`.
pub(super) fn inherit<T: MemFs>(inode: &NewInode<T>, dir: &Inode<T>) -> Result {
    let (default, access) = inode.posix_acl_create(dir)?;
    if default.is_none() && access.is_none() {
        init_without(inode);
        return Ok(());
    }
    let transaction = Transaction::begin([&***inode])?;
    let [inode] = transaction.each();
    set(inode, AclType::Default, default.as_deref())?;
    set(inode, AclType::Access, access.as_deref())
}

/// Sets a list, or removes it.
///
/// # Errors
///
/// `EINVAL` for a list that makes no sense, `ENOSPC`, `EDQUOT`.
pub(crate) fn set_acl<T: MemFs>(
    idmap: IdMap<'_>,
    inode: &LockedInode<T>,
    acl: Option<&PosixAcl>,
    kind: AclType,
) -> Result {
    let (mode, acl) = match kind {
        AclType::Access => inode.posix_acl_update_mode(idmap, acl)?,
        AclType::Default => (inode.mode(), acl),
    };
    let transaction = Transaction::begin([&**inode])?;
    let [exclusive] = transaction.each();
    set(exclusive, kind, acl)?;
    inode.set_mode(mode);
    inode.set_ctime_current();
    Ok(())
}

/// The access list that goes with the mode that an inode is about to get.
pub(super) struct Chmod(Option<ARef<PosixAcl>>);

impl Chmod {
    /// Makes it, where the inode has one and `mode` is a new one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn prepare<T: MemFs>(inode: &LockedInode<T>, mode: Option<u16>) -> Result<Self> {
        match mode {
            Some(mode) => inode.posix_acl_chmod(mode).map(Self),
            None => Ok(Self(None)),
        }
    }

    /// Puts it in the place of the other, which counts as much: it has as many entries.
    pub(super) fn commit<T: MemFs>(self, inode: Exclusive<'_, T>) {
        if let Some(acl) = self.0 {
            // Cannot fail, as it is as large.
            let _ = set(inode, AclType::Access, Some(&acl));
        }
    }
}
