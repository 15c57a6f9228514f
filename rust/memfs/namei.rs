// SPDX-License-Identifier: GPL-2.0

//! Directories that live in the dcache, as `fs/libfs.c` keeps them: creating, linking, renaming.

use super::{
    attr,
    dir_offsets::{
        self,
        offset_of,
        Reservation, //
    },
    fileattr,
    posix_acl,
    quota,
    readdir::DirFileOps,
    xattr,
    MemFs, //
};
use crate::{
    bindings,
    compat::ENOTEMPTY,
    vfs::{
        AclType,
        Dentry,
        FileKattr,
        FileOps,
        Iattr,
        IdMap,
        Inode,
        InodeOperations,
        InodeOps,
        Kstat,
        LockedInode,
        NewInode,
        PosixAcl,
        SuperBlock,
        TmpFile, //
    },
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// Up to how many bytes, the NUL included, the target of a symbolic link counts as part of the
/// inode: tmpfs's `SHORT_SYMLINK_LEN`.
const SHORT_SYMLINK_LEN: usize = 128;

/// What is to be created.
enum NewKind<'a> {
    Regular,
    Directory,
    Symlink(&'a CStr),
    Special(bindings::dev_t),
}

/// The operations of a directory.
pub(crate) struct DirInodeOps;

#[vtable]
impl<T: MemFs> InodeOperations<T> for DirInodeOps {
    const BASE: &'static InodeOps<T> = InodeOps::new::<AclInodeOps>();

    fn lookup(dir: &Inode<T>, dentry: &Dentry<T>) -> Result {
        dentry.simple_lookup(dir)
    }

    fn create(idmap: IdMap<'_>, dir: &LockedInode<T>, name: &Dentry<T>, mode: u16) -> Result {
        let mode = bindings::S_IFREG as u16 | permissions(mode);
        create(idmap, dir, name, mode, NewKind::Regular)
    }

    fn mkdir(idmap: IdMap<'_>, dir: &LockedInode<T>, name: &Dentry<T>, mode: u16) -> Result {
        let mode = bindings::S_IFDIR as u16 | permissions(mode);
        create(idmap, dir, name, mode, NewKind::Directory)
    }

    fn symlink(idmap: IdMap<'_>, dir: &LockedInode<T>, name: &Dentry<T>, target: &CStr) -> Result {
        let mode = bindings::S_IFLNK as u16 | 0o777;
        create(idmap, dir, name, mode, NewKind::Symlink(target))
    }

    fn mknod(
        idmap: IdMap<'_>,
        dir: &LockedInode<T>,
        name: &Dentry<T>,
        mode: u16,
        device: bindings::dev_t,
    ) -> Result {
        match u32::from(mode) & bindings::S_IFMT {
            0 | bindings::S_IFREG => Self::create(idmap, dir, name, mode),
            _ => create(idmap, dir, name, mode, NewKind::Special(device)),
        }
    }

    fn tmpfile(idmap: IdMap<'_>, dir: &Inode<T>, file: TmpFile<'_, T>, mode: u16) -> Result {
        let inode = new_inode(idmap, dir, mode)?;
        T::init_regular(&inode);
        inode.init_security(dir, None)?;
        file.set_inode(inode);
        Ok(())
    }

    fn link(inode: &LockedInode<T>, dir: &LockedInode<T>, name: &Dentry<T>) -> Result {
        let reservation = Reservation::new()?;
        // The first name, of a file opened with O_TMPFILE, comes with the inode.
        if inode.nlink() > 0 {
            T::inode_space(dir.super_block()).reserve_name()?;
        }
        dir_offsets::of(dir).insert(reservation, name);
        dir.set_mtime_ctime_current();
        inode.set_ctime_current();
        inode.inc_nlink();
        name.make_persistent(inode);
        Ok(())
    }

    fn unlink(dir: &LockedInode<T>, name: &Dentry<T>) -> Result {
        remove(dir, name);
        Ok(())
    }

    fn rmdir(dir: &LockedInode<T>, name: &Dentry<T>) -> Result {
        if !name.is_empty() {
            return Err(ENOTEMPTY);
        }
        remove(dir, name);
        Ok(())
    }

    fn rename(
        idmap: IdMap<'_>,
        old_dir: &LockedInode<T>,
        old: &Dentry<T>,
        new_dir: &LockedInode<T>,
        new: &Dentry<T>,
        flags: u32,
    ) -> Result {
        // The VFS has checked NOREPLACE, and lets nothing stand beside EXCHANGE.
        let known =
            bindings::RENAME_NOREPLACE | bindings::RENAME_EXCHANGE | bindings::RENAME_WHITEOUT;
        if flags & !known != 0 {
            return Err(EINVAL);
        }
        if flags & bindings::RENAME_EXCHANGE != 0 {
            exchange(old_dir, old, new_dir, new);
            return Ok(());
        }
        if !new.is_empty() {
            return Err(ENOTEMPTY);
        }
        let reservation = Reservation::new()?;
        if flags & bindings::RENAME_WHITEOUT != 0 {
            add_whiteout(idmap, old_dir, old)?;
        }
        rename(reservation, old_dir, old, new_dir, new);
        Ok(())
    }
}

/// Returns the permissions in a mode, without the file type.
fn permissions(mode: u16) -> u16 {
    mode & !(bindings::S_IFMT as u16)
}

/// Creates an inode in the superblock of `dir`, with what it inherits from that. `mode` has the
/// file type.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`, `ENOMEM`.
fn new_inode<T: MemFs>(idmap: IdMap<'_>, dir: &Inode<T>, mode: u16) -> Result<NewInode<T>> {
    let inode = new_uncharged(dir.super_block(), idmap, Some(dir), mode)?;
    quota::alloc_inode(&inode)?;
    fileattr::inherit(&inode, dir);
    posix_acl::inherit(&inode, dir)?;
    Ok(inode)
}

/// As [`new_inode`], of which the owner is to be charged, and which inherits nothing.
fn new_uncharged<T: MemFs>(
    sb: &SuperBlock<T>,
    idmap: IdMap<'_>,
    dir: Option<&Inode<T>>,
    mode: u16,
) -> Result<NewInode<T>> {
    let ino = T::inode_space(sb).reserve_inode()?;
    // From here on `evict_inode` frees it.
    let inode = NewInode::new(sb, ino).inspect_err(|_| T::inode_space(sb).free_inode())?;
    inode.init_owner(idmap, dir, mode);
    T::info(&inode).btime.populate(inode.init_timestamps());
    Ok(inode)
}

fn init_dir<T: MemFs>(inode: &NewInode<T>) {
    inode
        .set_iops(InodeOps::new::<DirInodeOps>())
        .set_fops(FileOps::new::<DirFileOps>())
        .init_dir();
}

/// Creates the inode of the root directory.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`, `ENOMEM`.
pub(crate) fn new_root<T: MemFs>(
    sb: &SuperBlock<T>,
    mode: u16,
    uid: bindings::kuid_t,
    gid: bindings::kgid_t,
) -> Result<ARef<Inode<T>>> {
    let inode = new_uncharged(sb, IdMap::nop(), None, bindings::S_IFDIR as u16 | mode)?;
    posix_acl::init_without(&inode);
    inode.set_owner(uid, gid);
    quota::alloc_inode(&inode)?;
    init_dir(&inode);
    Ok(inode.into_aref())
}

/// Creates an inode under `name`. Timestamps and link counts change as `fs/libfs.c` has them.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`, `ENOMEM`, and those of the security modules.
fn create<T: MemFs>(
    idmap: IdMap<'_>,
    dir: &LockedInode<T>,
    name: &Dentry<T>,
    mode: u16,
    kind: NewKind<'_>,
) -> Result {
    let reservation = Reservation::new()?;
    let inode = new_inode(idmap, dir, mode)?;
    match kind {
        NewKind::Regular => T::init_regular(&inode),
        NewKind::Directory => init_dir(&inode),
        NewKind::Symlink(target) => init_symlink(&inode, target)?,
        NewKind::Special(device) => {
            inode
                .set_iops(InodeOps::new::<AclInodeOps>())
                .init_special(device);
        }
    }
    inode.init_security(dir, Some(name))?;
    dir_offsets::of(dir).insert(reservation, name);
    if inode.is_dir() {
        // Its "..".
        dir.inc_nlink();
    }
    dir.set_mtime_ctime_current();
    inode.make_persistent(name);
    Ok(())
}

fn init_symlink<T: MemFs>(inode: &NewInode<T>, target: &CStr) -> Result {
    let len = target.to_bytes_with_nul().len();
    if len > SHORT_SYMLINK_LEN {
        xattr::charge_target(inode, len)?;
    }
    inode.set_link(target)?;
    inode.set_iops(InodeOps::new::<SymlinkInodeOps>());
    Ok(())
}

/// Removes `name`, if it is one. A directory must be empty.
fn remove<T: MemFs>(dir: &LockedInode<T>, name: &Dentry<T>) {
    if let Some(inode) = name.inode() {
        dir_offsets::of(dir).remove(name);
        dir.set_mtime_ctime_current();
        drop_links(dir, name, inode);
    }
}

/// Drops the links that `name`, in `dir`, stands for. The VFS holds the locks of both inodes.
fn drop_links<T: MemFs>(dir: &LockedInode<T>, name: &Dentry<T>, inode: &Inode<T>) {
    inode.set_ctime_current();
    if inode.is_dir() {
        // ".." and ".".
        dir.drop_nlink();
        inode.drop_nlink();
    } else if inode.nlink() > 1 {
        // It was counted as an inode.
        T::inode_space(dir.super_block()).free_inode();
    }
    inode.drop_nlink();
    name.make_discardable();
}

/// Creates a whiteout, which tells overlayfs that there is no such name: a character device without
/// a number. It has the name of `name`, which is about to move away, and its offset, so that a
/// listing under way shows it: this name is there all the time.
///
/// # Errors
///
/// As [`create`].
fn add_whiteout<T: MemFs>(idmap: IdMap<'_>, dir: &LockedInode<T>, name: &Dentry<T>) -> Result {
    let whiteout = name.alloc_same_name()?;
    let mode = bindings::S_IFCHR as u16;
    create(idmap, dir, &whiteout, mode, NewKind::Special(0))?;
    let offsets = dir_offsets::of(dir);
    offsets.exchange(name, offsets, &whiteout);
    Ok(())
}

/// Exchanges two names; the VFS exchanges the dentries.
fn exchange<T: MemFs>(
    dir: &LockedInode<T>,
    name: &Dentry<T>,
    other_dir: &LockedInode<T>,
    other: &Dentry<T>,
) {
    dir_offsets::of(dir).exchange(name, dir_offsets::of(other_dir), other);
    name.simple_rename_exchange(dir, other, other_dir);
    for dir in [dir, other_dir] {
        dir.inc_iversion();
    }
    for inode in [name.inode(), other.inode()].into_iter().flatten() {
        inode.inc_iversion();
    }
}

/// Moves `old` to the place of `new`, whose inode loses that name; the VFS moves the dentry.
///
/// Where there is an inode of that name, `old` gets its offset: so a listing under way shows one of
/// the two, as there was a file of this name all the time.
fn rename<T: MemFs>(
    reservation: Reservation,
    old_dir: &LockedInode<T>,
    old: &Dentry<T>,
    new_dir: &LockedInode<T>,
    new: &Dentry<T>,
) {
    dir_offsets::of(old_dir).remove(old);
    match new.inode() {
        Some(replaced) => {
            dir_offsets::of(new_dir).replace(offset_of(new), old);
            drop_links(new_dir, new, replaced);
        }
        None => dir_offsets::of(new_dir).insert(reservation, old),
    }
    if old.is_dir() && !core::ptr::eq(old_dir, new_dir) {
        old_dir.drop_nlink();
        new_dir.inc_nlink();
    }
    old_dir.set_mtime_ctime_current();
    new_dir.set_mtime_ctime_current();
    if let Some(inode) = old.inode() {
        inode.set_ctime_current();
    }
}

/// The operations of any inode: attributes, without access control lists, which symbolic links do
/// not have.
pub(crate) struct AttrInodeOps;

#[vtable]
impl<T: MemFs> InodeOperations<T> for AttrInodeOps {
    fn setattr(
        idmap: IdMap<'_>,
        dentry: &Dentry<T>,
        inode: &LockedInode<T>,
        attr: Iattr<'_>,
    ) -> Result {
        attr::setattr(idmap, dentry, inode, attr, |_, _| Err(EINVAL))
    }

    fn getattr(idmap: IdMap<'_>, inode: &Inode<T>, stat: Kstat<'_>, request_mask: u32) -> Result {
        attr::getattr(idmap, inode, stat, request_mask);
        Ok(())
    }

    fn listxattr(inode: &Inode<T>, list: &mut [u8]) -> Result<usize> {
        xattr::list(inode, list)
    }

    fn fileattr_get(inode: &Inode<T>, fa: FileKattr<'_>) -> Result {
        fileattr::get(inode, fa);
        Ok(())
    }

    fn fileattr_set(inode: &LockedInode<T>, fa: FileKattr<'_>) -> Result {
        fileattr::set(inode, fa)
    }
}

/// The operations of a symbolic link.
struct SymlinkInodeOps;

#[vtable]
impl<T: MemFs> InodeOperations<T> for SymlinkInodeOps {
    const BASE: &'static InodeOps<T> = InodeOps::new::<AttrInodeOps>();

    const IS_SYMLINK: bool = true;
}

/// The operations of a device node, FIFO or socket: those of any inode but a symbolic link.
pub(crate) struct AclInodeOps;

#[vtable]
impl<T: MemFs> InodeOperations<T> for AclInodeOps {
    const BASE: &'static InodeOps<T> = InodeOps::new::<AttrInodeOps>();

    fn set_acl(
        idmap: IdMap<'_>,
        inode: &LockedInode<T>,
        acl: Option<&PosixAcl>,
        kind: AclType,
    ) -> Result {
        posix_acl::set_acl(idmap, inode, acl, kind)
    }
}
