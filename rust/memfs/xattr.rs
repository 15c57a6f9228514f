// SPDX-License-Identifier: GPL-2.0

//! Extended attributes, kept with the inode: `user.`, `trusted.`, `security.`. And what counts as
//! they do: access control lists, and long targets of symbolic links.
//!
//! Compare `simple_xattr_*` of `fs/xattr.c`, which modules cannot call.

use super::{
    inodes::hash,
    names::Name,
    quota::Charge,
    space::attribute_blocks,
    transaction::Exclusive,
    xattrs::Xattr,
    MemFs,
    Transaction, //
};
use crate::{
    bindings,
    compat::ENODATA,
    store::{
        MapNodes,
        NewItem, //
    },
    vfs::{
        self,
        AclType,
        Inode,
        LockedInode,
        NewInode,
        PosixAcl, //
    },
};
use kernel::{
    prelude::*,
    str::{
        BStr,
        CString, //
    },
    sync::aref::ARef, //
};

/// How many bytes of names of labels there may be, each with a NUL behind it.
const LABELS_BYTES: usize = 256;

/// Puts the names of the attributes of an inode into `to`, as [`vfs::InodeOperations::listxattr`]
/// is to. Compare `simple_xattr_list`.
///
/// # Errors
///
/// `ERANGE` where they do not fit, and those of the security modules.
pub(crate) fn list<T: MemFs>(inode: &Inode<T>, to: &mut [u8]) -> Result<usize> {
    let mut labels = [0; LABELS_BYTES];
    // The security module need not keep them as attributes.
    let labels = inode.listsecurity(&mut labels)?;
    let all = vfs::capable_sys_admin(false);
    T::info(inode).record.read().xattrs.list(labels, all, to)
}

/// Copies the value of `name` to `to`, unless that is empty. Returns its length.
fn get<T: MemFs>(inode: &Inode<T>, name: &[u8], to: &mut [u8]) -> Result<usize> {
    let hash = hash(inode, name);
    let record = T::info(inode).record.read();
    let value = &record.xattrs.by_name.get(hash, name).ok_or(ENODATA)?.value;
    if !to.is_empty() {
        to.get_mut(..value.len())
            .ok_or(ERANGE)?
            .copy_from_slice(value);
    }
    Ok(value.len())
}

/// Counts `after` bytes in the place of `before`, charges for them, and calls `change`, which does
/// not fail.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`; nothing has changed.
fn adjust<T: MemFs>(
    inode: Exclusive<'_, T>,
    before: u64,
    after: u64,
    change: impl FnOnce(),
) -> Result {
    let bytes = inode.read().charge.attribute_bytes();
    let sum = bytes - before + after;
    let (old, new) = (attribute_blocks(bytes), attribute_blocks(sum));
    let more = new.saturating_sub(old);
    let charge = Charge::new(inode.inode(), more)?;
    inode.write().charge.set_bytes(sum)?;
    change();
    charge.commit(more);
    drop(Charge::freed(inode.inode(), old.saturating_sub(new)));
    Ok(())
}

/// Sets `name`, or removes it where there is no value. Nothing has changed where it fails.
fn set<T: MemFs>(inode: &LockedInode<T>, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result {
    let mut new = None;
    if let Some(bytes) = value {
        let mut value = KVVec::new();
        value.extend_from_slice(bytes, GFP_KERNEL_ACCOUNT)?;
        let name = Name::new(name)?;
        new = Some(NewItem::new(Xattr { name, value }, GFP_KERNEL_ACCOUNT)?);
    }
    let more = new
        .as_ref()
        .and_then(NewItem::value)
        .map_or(0, Xattr::bytes);
    let hash = hash(inode, name);
    let mut nodes = MapNodes::new();
    loop {
        let transaction = Transaction::begin([&**inode])?;
        let [exclusive] = transaction.each();
        let (position, needed, less) = {
            let record = exclusive.read();
            let names = &record.xattrs.by_name;
            let old = names.get(hash, name).map(Xattr::bytes);
            match old {
                Some(_) if flags & bindings::XATTR_CREATE != 0 => return Err(EEXIST),
                None if flags & bindings::XATTR_REPLACE != 0 || new.is_none() => {
                    return Err(ENODATA)
                }
                _ => (),
            }
            let position = names.position_to_set(hash, name)?;
            let needed = match new {
                Some(_) => names.nodes_to_set(position),
                None => names.nodes_to_remove(position),
            };
            (position, needed, old.unwrap_or(0))
        };
        if !nodes.has(needed) {
            drop(transaction);
            super::fill_nodes(inode, &mut nodes)?;
            continue;
        }
        // Dropped after the lock of the record.
        let mut _old = Ok(None);
        return adjust(exclusive, less, more, || {
            let mut record = exclusive.write();
            let names = &mut record.xattrs.by_name;
            _old = match new.take() {
                Some(new) => names.set(position, new, &mut nodes),
                None => names.remove(position, &mut nodes),
            };
            drop(record);
            inode.set_ctime_current();
        });
    }
}

/// Charges for the target of a new symbolic link, of `bytes` bytes, until the inode goes.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`; nothing has changed.
pub(super) fn charge_target<T: MemFs>(inode: &NewInode<T>, bytes: usize) -> Result {
    let transaction = Transaction::begin([&***inode])?;
    let [inode] = transaction.each();
    adjust(inode, 0, bytes as u64, || ())
}

/// Sets an access control list, or removes it, and charges for it.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`; nothing has changed. Not where it is as large as the one before.
pub(super) fn set_acl<T: MemFs>(
    inode: Exclusive<'_, T>,
    kind: AclType,
    acl: Option<&PosixAcl>,
) -> Result {
    let bytes = |acl: Option<&PosixAcl>| acl.map_or(0, PosixAcl::size) as u64;
    let before = bytes(inode.read().xattrs.acls[kind as usize].as_deref());
    let mut other = acl.map(ARef::from);
    adjust(inode, before, bytes(acl), || {
        core::mem::swap(&mut other, &mut inode.write().xattrs.acls[kind as usize]);
    })
}

/// Returns an access control list.
pub(super) fn acl<T: MemFs>(inode: &Inode<T>, kind: AclType) -> Option<ARef<PosixAcl>> {
    T::info(inode).record.read().xattrs.acls[kind as usize].clone()
}

/// Sets a label of a new inode, named as in `security.name`.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`, `ENOMEM`.
pub(super) fn set_label<T: MemFs>(inode: &NewInode<T>, name: &CStr, value: &[u8]) -> Result {
    let name = CString::try_from_fmt(fmt!("security.{}", BStr::from_bytes(name.to_bytes())))?;
    set(inode, name.to_bytes(), Some(value), 0)
}

/// Returns whether an inode has no attributes but access control lists.
pub(super) fn is_empty<T: MemFs>(inode: &Inode<T>) -> bool {
    T::info(inode).record.read().xattrs.by_name.is_empty()
}

/// The handlers of `user.`, `trusted.` and `security.`.
pub(crate) struct XattrHandler;

impl<T: MemFs> vfs::XattrHandler<T> for XattrHandler {
    fn get(inode: &Inode<T>, name: &[u8], value: &mut [u8]) -> Result<usize> {
        get(inode, name, value)
    }

    fn set(inode: &LockedInode<T>, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result {
        set(inode, name, value, flags)
    }
}
