// SPDX-License-Identifier: GPL-2.0

//! Extended attributes, kept with the inode: `user.`, `trusted.`, `security.`. And what counts as
//! they do: access control lists, and long targets of symbolic links.
//!
//! Compare `simple_xattr_*` of `fs/xattr.c`, which modules cannot call.

use super::{
    space,
    MemFs, //
};
use crate::{
    bindings,
    compat::ENODATA,
    vfs::{
        self,
        AclType,
        Inode,
        LockedInode,
        NewInode,
        PosixAcl, //
    },
};
use core::{
    cmp::Ordering,
    mem::size_of, //
};
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    str::{
        BStr,
        CString, //
    },
    sync::{
        aref::ARef,
        Mutex, //
    },
};

/// A name, with its prefix.
enum Name {
    Own(KVec<u8>),
    /// To look for one, see [`Name::with`].
    Borrowed(&'static [u8]),
}

impl Name {
    /// A copy of `name`.
    fn new(name: &[u8]) -> Result<Self> {
        let mut own = KVec::new();
        own.extend_from_slice(name, GFP_KERNEL_ACCOUNT)?;
        Ok(Self::Own(own))
    }

    /// Calls `f` with `name`, which is not copied.
    fn with<R>(name: &[u8], f: impl FnOnce(&Self) -> R) -> R {
        // SAFETY: It is in nothing but the value that `f` borrows, which has no way to copy it.
        let name = unsafe { core::mem::transmute::<&[u8], &'static [u8]>(name) };
        f(&Self::Borrowed(name))
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Own(name) => name,
            Self::Borrowed(name) => name,
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Name {}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

type Value = KVVec<u8>;

/// What an attribute counts as, in bytes: its node of the tree, and what that points to.
fn bytes(name: &[u8], value: &Value) -> usize {
    const NODE_BYTES: usize = size_of::<(bindings::rb_node, Name, Value)>();
    NODE_BYTES + name.len() + value.len()
}

struct Entries {
    by_name: RBTree<Name, Value>,
    /// What all of them count as, in bytes, with the access control lists and the target of a
    /// symbolic link.
    bytes: usize,
    /// The access list and the default list.
    acls: [Option<ARef<PosixAcl>>; 2],
}

impl Entries {
    fn new() -> Self {
        Self {
            by_name: RBTree::new(),
            bytes: 0,
            acls: [None, None],
        }
    }

    /// Counts `after` bytes in the place of `before`, and charges for them.
    ///
    /// # Errors
    ///
    /// `ENOSPC`, `EDQUOT`; nothing has changed.
    fn adjust<T: MemFs>(&mut self, inode: &Inode<T>, before: usize, after: usize) -> Result {
        let sum = self.bytes - before + after;
        space::adjust_bytes(inode, self.bytes as u64, sum as u64)?;
        self.bytes = sum;
        Ok(())
    }
}

/// The attributes of an inode.
#[pin_data]
pub(super) struct Xattrs {
    /// Changed with `i_rwsem` held exclusive, too. Nothing is allocated under the lock, as memory
    /// reclaim may take it when it evicts an inode.
    #[pin]
    entries: Mutex<Entries>,
}

impl Xattrs {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            entries <- new_mutex!(Entries::new()),
        })
    }

    /// Forgets all of them. Returns how many bytes they counted as.
    pub(super) fn clear(&self) -> u64 {
        core::mem::replace(&mut *self.entries.lock(), Entries::new()).bytes as u64
    }

    /// Copies the value of `name` to `to`, unless that is empty. Returns its length.
    fn get(&self, name: &[u8], to: &mut [u8]) -> Result<usize> {
        let entries = self.entries.lock();
        let value = Name::with(name, |name| entries.by_name.get(name)).ok_or(ENODATA)?;
        if !to.is_empty() {
            to.get_mut(..value.len())
                .ok_or(ERANGE)?
                .copy_from_slice(value);
        }
        Ok(value.len())
    }

    /// Puts the names into `to`, each with a NUL behind it, unless that is empty, with `labels`
    /// among them; those that only an administrator may see if `all`. Returns their length.
    fn list(&self, labels: &[u8], all: bool, to: &mut [u8]) -> Result<usize> {
        let labels = || {
            labels
                .split(|&byte| byte == 0)
                .filter(|name| !name.is_empty())
        };
        let entries = self.entries.lock();
        let acls = ACL_NAMES.iter().zip(&entries.acls);
        let acls = acls.filter_map(|(name, acl)| acl.is_some().then_some(name.to_bytes()));
        let mut len = 0;
        let names = entries.by_name.keys().map(Name::as_slice);
        // A label that the security module keeps here, too, is named already.
        let names = names.filter(|name| labels().all(|label| label != *name));
        for name in Iterator::chain(Iterator::chain(acls, labels()), names) {
            if !all && name.starts_with(TRUSTED) {
                continue;
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
        }
        Ok(len)
    }
}

const TRUSTED: &[u8] = b"trusted.";

/// Under which names the access list and the default list are listed.
const ACL_NAMES: [&CStr; 2] = [c"system.posix_acl_access", c"system.posix_acl_default"];

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
    T::info(inode).record().xattrs.list(labels, all, to)
}

/// Sets `name`, or removes it where there is no value. Nothing has changed where it fails.
fn set<T: MemFs>(inode: &LockedInode<T>, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result {
    let mut more = 0;
    let new = match value {
        Some(value_bytes) => {
            let mut value = KVVec::new();
            value.extend_from_slice(value_bytes, GFP_KERNEL_ACCOUNT)?;
            more = bytes(name, &value);
            Some(RBTreeNode::new(
                Name::new(name)?,
                value,
                GFP_KERNEL_ACCOUNT,
            )?)
        }
        None => None,
    };
    let mut entries = T::info(inode).record().xattrs.entries.lock();
    let old = Name::with(name, |name| entries.by_name.get(name));
    let less = old.map(|old| bytes(name, old));
    match less {
        Some(_) if flags & bindings::XATTR_CREATE != 0 => return Err(EEXIST),
        None if flags & bindings::XATTR_REPLACE != 0 || new.is_none() => return Err(ENODATA),
        _ => (),
    }
    entries.adjust(inode, less.unwrap_or(0), more)?;
    let old = match new {
        Some(new) => entries.by_name.insert(new),
        None => Name::with(name, |name| entries.by_name.remove_node(name)),
    };
    drop(entries);
    drop(old);
    Ok(())
}

/// Charges for the target of a symbolic link, of `bytes` bytes, until the inode goes.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`; nothing has changed.
pub(super) fn charge_target<T: MemFs>(inode: &Inode<T>, bytes: usize) -> Result {
    let mut entries = T::info(inode).record().xattrs.entries.lock();
    entries.adjust(inode, 0, bytes)
}

/// Sets an access control list, or removes it, and charges for it.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`; nothing has changed. Not where it is as large as the one before.
pub(super) fn set_acl<T: MemFs>(inode: &Inode<T>, kind: AclType, acl: Option<&PosixAcl>) -> Result {
    let bytes = |acl: Option<&PosixAcl>| acl.map_or(0, PosixAcl::size);
    let mut entries = T::info(inode).record().xattrs.entries.lock();
    let before = bytes(entries.acls[kind as usize].as_deref());
    entries.adjust(inode, before, bytes(acl))?;
    let old = core::mem::replace(&mut entries.acls[kind as usize], acl.map(ARef::from));
    drop(entries);
    drop(old);
    Ok(())
}

/// Returns an access control list.
pub(super) fn acl<T: MemFs>(inode: &Inode<T>, kind: AclType) -> Option<ARef<PosixAcl>> {
    T::info(inode).record().xattrs.entries.lock().acls[kind as usize].clone()
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
    let entries = T::info(inode).record().xattrs.entries.lock();
    entries.by_name.is_empty()
}

/// The handlers of `user.`, `trusted.` and `security.`.
pub(crate) struct XattrHandler;

impl<T: MemFs> vfs::XattrHandler<T> for XattrHandler {
    fn get(inode: &Inode<T>, name: &[u8], value: &mut [u8]) -> Result<usize> {
        T::info(inode).record().xattrs.get(name, value)
    }

    fn set(inode: &LockedInode<T>, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result {
        set(inode, name, value, flags)?;
        inode.set_ctime_current();
        Ok(())
    }
}
