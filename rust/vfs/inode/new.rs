// SPDX-License-Identifier: GPL-2.0

//! Making inodes.

use super::{
    super::{
        attributes::AttributeTables,
        directory::{DirectoryOperations, DirectoryTables},
        file::{FileOperations, FileTables},
        filesystem::{FileSystem, SuperBlock},
        mapping::{MappingOperations, MappingTables},
        quota,
    },
    memory::Container,
    IdMap, Inode,
};
use crate::bindings;
use core::{mem::ManuallyDrop, ptr::null_mut};
use kernel::{error::to_result, prelude::*};

/// How long the target of a symbolic link may be, in bytes, to count as part of the inode; tmpfs's
/// `SHORT_SYMLINK_LEN`.
const SHORT_TARGET: usize = 128;

/// An inode that was just made and has no name yet. Dropping it gives it up.
///
/// # Invariants
///
/// Owns a reference to the inode.
pub struct NewInode<'a, T: FileSystem>(&'a Inode<T>);

impl<'a, T: FileSystem> NewInode<'a, T> {
    /// Makes an inode of mode `mode`, type included, in directory `dir`, with what it inherits from
    /// that.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there may be no more, `EDQUOT`, `ENOMEM`.
    pub(in super::super) fn new(
        sb: &SuperBlock<T>,
        idmap: IdMap<'_>,
        dir: &Inode<T>,
        mode: u16,
    ) -> Result<Self> {
        let this = Self::uncharged(sb, idmap, Some(dir), mode)?.charged()?;
        this.0.inherit_flags(dir);
        this.0.inherit_acls(dir)?;
        Ok(this)
    }

    /// Charges the owner.
    fn charged(self) -> Result<Self> {
        quota::admit(self.0)?;
        Ok(self)
    }

    fn uncharged(
        sb: &SuperBlock<T>,
        idmap: IdMap<'_>,
        dir: Option<&Inode<T>>,
        mode: u16,
    ) -> Result<Self> {
        let number = T::admit_inode(sb)?;
        // SAFETY: The superblock is live.
        let inode = unsafe { bindings::new_inode(sb.as_raw()) };
        if inode.is_null() {
            T::dismiss_inode(sb);
            return Err(ENOMEM);
        }
        // SAFETY: Nobody else has the inode yet.
        unsafe {
            (*inode).i_ino = number;
            (*inode).i_private = (&raw mut (*inode.cast::<Container<T>>()).mapped).cast();
            bindings::inode_init_owner(
                idmap.0,
                inode,
                dir.map_or(null_mut(), Inode::as_raw).cast_const(),
                mode,
            );
            (*inode).i_generation = bindings::get_random_u32();
            (*inode.cast::<Container<T>>()).btime = bindings::simple_inode_init_ts(inode);
        }
        // INVARIANT: The reference is that of `new_inode`.
        // SAFETY: `alloc` made it.
        Ok(Self(unsafe { Inode::from_raw(inode) }))
    }

    /// Makes the inode a directory.
    pub(in super::super) fn directory(self) -> Self
    where
        T: DirectoryOperations,
    {
        // SAFETY: Nobody else has the inode yet.
        unsafe {
            let inode = self.0.as_raw();
            (*inode).i_op = &DirectoryTables::<T>::INODE;
            (*inode).__bindgen_anon_3.i_fop = &DirectoryTables::<T>::FILE;
            // One for ".".
            bindings::set_nlink(inode, 2);
            bindings::lockdep_annotate_inode_mutex_key(inode);
        }
        self
    }

    /// Makes the inode a regular file.
    pub(in super::super) fn regular(self) -> Self
    where
        T: FileOperations + MappingOperations,
    {
        // SAFETY: Nobody else has the inode yet.
        unsafe {
            let inode = self.0.as_raw();
            (*inode).i_op = &FileTables::<T>::INODE;
            (*inode).__bindgen_anon_3.i_fop = &FileTables::<T>::FILE;
            (*inode).i_data.a_ops = &MappingTables::<T>::ADDRESS_SPACE;
            bindings::mapping_set_unevictable(&raw mut (*inode).i_data);
            bindings::inode_has_no_xattr(inode);
        }
        self
    }

    /// Makes the inode a symbolic link to `target`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ENOSPC`, `EDQUOT` for a long target.
    pub(in super::super) fn symlink(self, target: &CStr) -> Result<Self> {
        let counted = |before, after| self.0.recount(before, after);
        let len = target.to_bytes_with_nul().len();
        if len > SHORT_TARGET {
            self.0.attributes().count_target(len, counted)?;
        }
        let mut bytes = KVec::new();
        bytes.extend_from_slice(target.to_bytes_with_nul(), GFP_KERNEL_ACCOUNT)?;
        // SAFETY: Nobody else has the inode yet. `target` is freed with the inode, after a grace
        // period, as path walks that use it need.
        unsafe {
            let inode = self.0.as_raw();
            let container = inode.cast::<Container<T>>();
            let bytes: &KVec<u8> = (*container).target.insert(bytes);
            let len = target.to_bytes().len();
            (*inode).i_op = &AttributeTables::<T>::SYMLINK;
            (*inode).i_size = len as i64;
            bindings::inode_set_cached_link(inode, bytes.as_ptr().cast_mut().cast(), len as i32);
        }
        Ok(self)
    }

    /// Makes the inode a device node, FIFO or socket.
    pub(in super::super) fn special(self, device: bindings::dev_t) -> Self {
        // SAFETY: Nobody else has the inode yet.
        unsafe {
            let inode = self.0.as_raw();
            (*inode).i_op = &AttributeTables::<T>::SPECIAL;
            bindings::init_special_inode(inode, (*inode).i_mode, device);
        }
        self
    }

    /// Tells the security modules of the inode, which is new in `dir`, under `name` if that is not
    /// null.
    pub(in super::super) fn init_security(
        &self,
        dir: &Inode<T>,
        name: *const bindings::qstr,
    ) -> Result {
        // SAFETY: The inode is new, the directory live, the name valid or null.
        to_result(unsafe {
            bindings::security_inode_init_security(
                self.0.as_raw(),
                dir.as_raw(),
                name,
                None,
                null_mut(),
            )
        })
    }

    /// The inode.
    pub(in super::super) fn inode(&self) -> &'a Inode<T> {
        self.0
    }

    /// The inode, with its reference.
    pub(in super::super) fn into_raw(self) -> *mut bindings::inode {
        ManuallyDrop::new(self).0.as_raw()
    }
}

impl<T: FileSystem> Drop for NewInode<'_, T> {
    fn drop(&mut self) {
        // SAFETY: The reference is owned by the type invariant. Without a link the inode is
        // evicted with it.
        unsafe {
            bindings::set_nlink(self.0.as_raw(), 0);
            bindings::iput(self.0.as_raw());
        }
    }
}

/// Makes the root directory's inode.
pub(in super::super) fn new_root<T: DirectoryOperations>(
    sb: &SuperBlock<T>,
    (mode, uid, gid): (u16, bindings::kuid_t, bindings::kgid_t),
) -> Result<*mut bindings::inode> {
    // SAFETY: The idmap that maps nothing is static.
    let idmap = unsafe { IdMap::from_raw(&raw mut bindings::nop_mnt_idmap) };
    let inode = NewInode::uncharged(sb, idmap, None, bindings::S_IFDIR as u16 | mode)?;
    inode.inode().begin_without_acls();
    // SAFETY: Nobody else has the inode yet.
    unsafe {
        (*inode.inode().as_raw()).i_uid = uid;
        (*inode.inode().as_raw()).i_gid = gid;
    }
    Ok(inode.charged()?.directory().into_raw())
}
