// SPDX-License-Identifier: GPL-2.0

//! Extended attributes, kept with the inode: `user.`, `trusted.`, `security.`.
//!
//! C header: [`include/linux/xattr.h`](srctree/include/linux/xattr.h). Compare `simple_xattr_*` of
//! `fs/xattr.c`, which modules cannot call. What a name or value may be, and who may use which, the
//! VFS has looked at.

use super::{
    acl::AclKind,
    filesystem::FileSystem,
    inode::{Inode, Locked},
    to_errno,
};
use crate::bindings;
use core::{cmp::Ordering, marker::PhantomData, ptr::null};
use kernel::{
    error::to_result,
    new_mutex,
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    sync::Mutex,
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
    const NODE: usize = size_of::<(bindings::rb_node, Name, Value)>();
    NODE + name.len() + value.len()
}

struct Entries {
    by_name: RBTree<Name, Value>,
    /// What all of them count as, in bytes, with the access control lists, and the target of a symbolic
    /// link.
    bytes: usize,
    /// What the access list and the default list count as, see [`super::acl`].
    acl_bytes: [usize; 2],
}

impl Entries {
    fn new() -> Self {
        Self {
            by_name: RBTree::new(),
            bytes: 0,
            acl_bytes: [0; 2],
        }
    }
}

/// The attributes of an inode.
#[pin_data]
pub(super) struct Attributes {
    /// Changed with `i_rwsem` held exclusive, too. Nothing is allocated under the lock, as memory
    /// reclaim may take it when it evicts an inode.
    #[pin]
    entries: Mutex<Entries>,
}

impl Attributes {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            entries <- new_mutex!(Entries::new()),
        })
    }

    /// Forgets all of them. Returns how many bytes they counted as.
    pub(super) fn clear(&self) -> u64 {
        core::mem::replace(&mut *self.entries.lock(), Entries::new()).bytes as u64
    }

    /// Counts the target of a symbolic link, of `bytes` bytes, until the inode goes. `charge` is told as
    /// in [`Attributes::set`].
    ///
    /// # Errors
    ///
    /// Those of `charge`. Nothing has changed.
    pub(super) fn count_target(
        &self,
        bytes: usize,
        charge: impl FnOnce(u64, u64) -> Result,
    ) -> Result {
        let mut entries = self.entries.lock();
        let after = entries.bytes + bytes;
        charge(entries.bytes as u64, after as u64)?;
        entries.bytes = after;
        Ok(())
    }

    /// Counts an access control list, of `bytes` bytes from now on. `charge` is told as in
    /// [`Attributes::set`].
    ///
    /// # Errors
    ///
    /// Those of `charge`. Nothing has changed.
    pub(super) fn count_acl(
        &self,
        kind: AclKind,
        bytes: usize,
        charge: impl FnOnce(u64, u64) -> Result,
    ) -> Result {
        let mut entries = self.entries.lock();
        let after = entries.bytes - entries.acl_bytes[kind as usize] + bytes;
        charge(entries.bytes as u64, after as u64)?;
        entries.bytes = after;
        entries.acl_bytes[kind as usize] = bytes;
        Ok(())
    }

    /// Copies the value of `name` to `to`, where `to` is not empty. Returns its length.
    ///
    /// # Errors
    ///
    /// `ENODATA` where there is none, `ERANGE` where it does not fit.
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

    /// Puts the names into `to`, each with a NUL behind it, where `to` is not empty, with `labels`
    /// among them; those that only an administrator may see if `all`. Returns their length.
    ///
    /// # Errors
    ///
    /// `ERANGE` where they do not fit.
    fn list(&self, labels: &[u8], all: bool, to: &mut [u8]) -> Result<usize> {
        let labels = || {
            labels
                .split(|&byte| byte == 0)
                .filter(|name| !name.is_empty())
        };
        let entries = self.entries.lock();
        let acls = ACL_NAMES.iter().zip(entries.acl_bytes);
        let acls = acls.filter_map(|(name, bytes)| (bytes > 0).then_some(name.to_bytes()));
        let mut len = 0;
        let names = entries.by_name.keys().map(Name::as_slice);
        // A label that the security module keeps here, too, has been named.
        let names = names.filter(|name| labels().all(|label| label != *name));
        for name in Iterator::chain(Iterator::chain(acls, labels()), names) {
            if !all && name.starts_with(TRUSTED.to_bytes()) {
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

    /// Sets `name`, or takes it away where there is no value. `charge` is told how many bytes they
    /// all counted as before, and will.
    ///
    /// # Errors
    ///
    /// `EEXIST`, `ENODATA` as `flags` ask; `ENOMEM`; those of `charge`. Nothing has changed.
    fn set(
        &self,
        name: &[u8],
        value: Option<&[u8]>,
        flags: u32,
        charge: impl FnOnce(u64, u64) -> Result,
    ) -> Result {
        let mut more = 0;
        let new = match value {
            Some(bytes_of_value) => {
                let mut value = KVVec::new();
                value.extend_from_slice(bytes_of_value, GFP_KERNEL_ACCOUNT)?;
                more = bytes(name, &value);
                Some(RBTreeNode::new(
                    Name::new(name)?,
                    value,
                    GFP_KERNEL_ACCOUNT,
                )?)
            }
            None => None,
        };
        let mut entries = self.entries.lock();
        let old = Name::with(name, |name| entries.by_name.get(name));
        let less = old.map(|old| bytes(name, old));
        match less {
            Some(_) if flags & bindings::XATTR_CREATE != 0 => return Err(EEXIST),
            None if flags & bindings::XATTR_REPLACE != 0 || new.is_none() => return Err(ENODATA),
            _ => (),
        }
        let after = entries.bytes - less.unwrap_or(0) + more;
        charge(entries.bytes as u64, after as u64)?;
        entries.bytes = after;
        let old = match new {
            Some(new) => entries.by_name.insert(new),
            None => Name::with(name, |name| entries.by_name.remove_node(name)),
        };
        drop(entries);
        drop(old);
        Ok(())
    }
}

/// As which attributes the access list and the default list are seen.
const ACL_NAMES: [&CStr; 2] = [c"system.posix_acl_access", c"system.posix_acl_default"];

/// Room for the names that security modules give their labels, each with a NUL behind it.
type Labels = [u8; 256];

/// The names of the labels that security modules keep of the inode, which need not be among its
/// attributes: they list themselves. Compare `simple_xattr_list`.
///
/// # Errors
///
/// `ERANGE` where they do not fit, and what a security module says.
fn labels<'a, T: FileSystem>(inode: &Inode<T>, room: &'a mut Labels) -> Result<&'a [u8]> {
    let (mut at, mut left) = (room.as_mut_ptr().cast(), room.len() as isize);
    // SAFETY: The inode is live; there is room for `left` bytes from `at` on.
    to_result(unsafe {
        bindings::security_inode_listsecurity(inode.as_raw(), &mut at, &mut left)
    })?;
    room.get(..room.len().saturating_sub(left as usize))
        .ok_or(ERANGE)
}

const USER: &CStr = c"user.";
const TRUSTED: &CStr = c"trusted.";
const SECURITY: &CStr = c"security.";

/// The callbacks in `struct xattr_handler`.
pub(super) struct AttributeHandlers<T: FileSystem>(PhantomData<T>);

/// What `s_xattr` points to.
#[repr(transparent)]
pub(super) struct Handlers([*const bindings::xattr_handler; 4]);

// SAFETY: The pointers are to constants.
unsafe impl Sync for Handlers {}

impl Handlers {
    pub(super) const fn as_ptr(&self) -> *const *const bindings::xattr_handler {
        self.0.as_ptr()
    }
}

impl<T: FileSystem> AttributeHandlers<T> {
    /// One for each prefix, with a null pointer at the end.
    pub(super) const ALL: &'static Handlers = &Handlers([
        &Self::handler(USER),
        &Self::handler(TRUSTED),
        &Self::handler(SECURITY),
        null(),
    ]);

    const fn handler(prefix: &'static CStr) -> bindings::xattr_handler {
        bindings::xattr_handler {
            name: null(),
            prefix: kernel::str::as_char_ptr_in_const_context(prefix),
            flags: 0,
            list: None,
            get: Some(Self::get),
            set: Some(Self::set),
        }
    }

    /// The name with its prefix.
    ///
    /// # Safety
    ///
    /// `name` is what the VFS gave to `handler`.
    unsafe fn full_name<'a>(
        handler: *const bindings::xattr_handler,
        name: *const c_char,
    ) -> &'a [u8] {
        // SAFETY: By the safety requirements.
        unsafe { CStr::from_char_ptr(bindings::xattr_full_name(handler, name)) }.to_bytes()
    }

    /// # Safety
    ///
    /// `inode` is one of `T`; `buffer` has room for `size` bytes, or is null and `size` 0.
    unsafe extern "C" fn get(
        handler: *const bindings::xattr_handler,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const c_char,
        buffer: *mut c_void,
        size: usize,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let (inode, name, to) = unsafe {
            (
                Inode::<T>::from_raw(inode),
                Self::full_name(handler, name),
                slice(buffer, size),
            )
        };
        match inode.attributes().get(name, to) {
            Ok(len) => len as c_int,
            Err(err) => err.to_errno(),
        }
    }

    /// # Safety
    ///
    /// `inode` is one of `T` whose lock is held exclusive; `value` is null, or valid for `size`
    /// bytes.
    unsafe extern "C" fn set(
        handler: *const bindings::xattr_handler,
        _idmap: *mut bindings::mnt_idmap,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const c_char,
        value: *const c_void,
        size: usize,
        flags: c_int,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let (inode, name, value) = unsafe {
            (
                Locked::assume(Inode::<T>::from_raw(inode)),
                Self::full_name(handler, name),
                (!value.is_null()).then(|| &*slice(value.cast_mut(), size)),
            )
        };
        let charge = |before, after| inode.recount(before, after);
        let result = inode
            .attributes()
            .set(name, value, flags as u32, charge)
            .inspect(|()| inode.touch_status());
        to_errno(result)
    }

    /// # Safety
    ///
    /// `dentry` is of an inode of `T`; `buffer` has room for `size` bytes, or is null and `size` 0.
    pub(super) unsafe extern "C" fn list(
        dentry: *mut bindings::dentry,
        buffer: *mut c_char,
        size: usize,
    ) -> isize {
        // SAFETY: By the safety requirements. The initial namespace is static.
        let (inode, to, all) = unsafe {
            (
                Inode::<T>::from_raw((*dentry).d_inode),
                slice(buffer.cast(), size),
                bindings::ns_capable_noaudit(
                    &raw mut bindings::init_user_ns,
                    bindings::CAP_SYS_ADMIN as c_int,
                ),
            )
        };
        let mut room = [0; size_of::<Labels>()];
        let listed =
            labels(inode, &mut room).and_then(|labels| inode.attributes().list(labels, all, to));
        match listed {
            Ok(len) => len as isize,
            Err(err) => err.to_errno() as isize,
        }
    }
}

/// # Safety
///
/// `start` is valid for `len` bytes that nobody else accesses during `'a`, or null and `len` 0.
unsafe fn slice<'a>(start: *mut c_void, len: usize) -> &'a mut [u8] {
    if start.is_null() {
        return &mut [];
    }
    // SAFETY: By the safety requirements.
    unsafe { core::slice::from_raw_parts_mut(start.cast(), len) }
}
