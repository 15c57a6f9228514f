// SPDX-License-Identifier: GPL-2.0

//! Looking up, creating, linking, renaming.
//!
//! A name is in the record of its directory, and leads to the number of an inode. Dentries are a
//! cache.

use super::{
    attr,
    fileattr,
    inodes,
    names::{
        Names,
        NewEntry, //
    },
    posix_acl,
    quota,
    readdir::DirFileOps,
    record::Record,
    xattr,
    MemFs, //
};
use crate::{
    bindings,
    compat::{
        ENAMETOOLONG,
        ENOTEMPTY, //
    },
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
    sync::{
        aref::ARef,
        atomic::Relaxed,
        lock::{
            mutex::MutexBackend,
            Guard, //
        }, //
    },
};

/// Up to how many bytes, the NUL included, the target of a symbolic link counts as part of the
/// inode: tmpfs's `SHORT_SYMLINK_LEN`.
const SHORT_SYMLINK_LEN: usize = 128;

/// The longest name, in bytes: `NAME_MAX`.
const NAME_MAX_BYTES: usize = bindings::NAME_MAX as usize;

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

    fn lookup(dir: &Inode<T>, dentry: &Dentry<T>) -> Result<Option<ARef<Dentry<T>>>> {
        if dentry.name().len() > NAME_MAX_BYTES {
            return Err(ENAMETOOLONG);
        }
        let hash = hash(dir, dentry.name());
        let ino = names_of(dir).lookup(hash, dentry.name());
        let inode = match ino {
            Some(ino) => Some(iget(dir.super_block(), ino)?),
            None => None,
        };
        dentry.splice_alias(inode)
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
        file.set_inode(new_inode(idmap, dir, None, mode, NewKind::Regular)?);
        Ok(())
    }

    fn link(inode: &LockedInode<T>, dir: &LockedInode<T>, name: &Dentry<T>) -> Result {
        let entry = new_entry(name, inode)?;
        // The first name, of a file opened with O_TMPFILE, comes with the inode.
        let is_first = inode.nlink() == 0;
        if is_first {
            inodes::insert(inode)?;
        } else {
            T::inodes(dir.super_block()).space.reserve_name()?;
        }
        inode.inc_nlink();
        let linked = if is_first { T::linked(inode) } else { Ok(()) };
        linked
            .and_then(|()| set_name(dir, entry))
            .inspect_err(|_| drop_link(inode))?;
        dir.set_mtime_ctime_current();
        inode.set_ctime_current();
        name.instantiate(inode);
        Ok(())
    }

    fn unlink(dir: &LockedInode<T>, name: &Dentry<T>) -> Result {
        remove(dir, name)
    }

    fn rmdir(dir: &LockedInode<T>, name: &Dentry<T>) -> Result {
        if !is_empty(name) {
            return Err(ENOTEMPTY);
        }
        remove(dir, name)
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
            return exchange(old_dir, old, new_dir, new);
        }
        if !is_empty(new) {
            return Err(ENOTEMPTY);
        }
        let whiteout = match flags & bindings::RENAME_WHITEOUT {
            0 => None,
            // Tells overlayfs that there is no such name: a character device without a number.
            _ => {
                let (mode, kind) = (bindings::S_IFCHR as u16, NewKind::Special(0));
                Some(new_inode(idmap, old_dir, Some(old), mode, kind)?)
            }
        };
        rename(old_dir, old, new_dir, new, whiteout)
    }
}

/// Returns the inode of a number, see [`inodes::iget`].
pub(super) fn iget<T: MemFs>(sb: &SuperBlock<T>, ino: u64) -> Result<ARef<Inode<T>>> {
    inodes::iget(sb, ino, set_operations)
}

/// Returns the names in a directory, locked.
fn names_of<T: MemFs>(dir: &Inode<T>) -> Guard<'_, Names, MutexBackend> {
    T::info(dir).record().names.lock()
}

/// Returns the hash of a name in `dir`.
fn hash<T: MemFs>(dir: &Inode<T>, name: &[u8]) -> u64 {
    T::inodes(dir.super_block()).key.hash(name)
}

/// Returns an entry that has a name lead to an inode.
fn new_entry<T: MemFs>(name: &Dentry<T>, inode: &Inode<T>) -> Result<NewEntry> {
    NewEntry::new(name.name(), inode.ino(), inode.file_type())
}

/// Has a name in `dir` lead to an inode, see [`Names::set`].
fn set_name<T: MemFs>(dir: &LockedInode<T>, entry: NewEntry) -> Result {
    let hash = hash(dir, entry.name());
    names_of(dir).set(hash, entry)
}

/// Removes a name from `dir`, see [`Names::remove`].
fn remove_name<T: MemFs>(dir: &LockedInode<T>, name: &Dentry<T>) -> Result {
    let name = name.name();
    let hash = hash(dir, name);
    names_of(dir).remove(hash, name)
}

/// Returns whether `name` is not that of a directory with names in it.
fn is_empty<T: MemFs>(name: &Dentry<T>) -> bool {
    name.inode().is_none_or(|inode| names_of(inode).is_empty())
}

/// Returns the permissions in a mode, without the file type.
fn permissions(mode: u16) -> u16 {
    mode & !(bindings::S_IFMT as u16)
}

/// Creates an inode in the superblock of `dir`, with what it inherits from that, which is to get
/// `name`, if any. `mode` has the file type. It is locked, and has the labels of the security
/// modules.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`, `ENOMEM`, and those of the security modules.
fn new_inode<T: MemFs>(
    idmap: IdMap<'_>,
    dir: &Inode<T>,
    name: Option<&Dentry<T>>,
    mode: u16,
    kind: NewKind<'_>,
) -> Result<NewInode<T>> {
    let target = match kind {
        NewKind::Symlink(target) => Some(target),
        _ => None,
    };
    let mut inode = new_uncharged(dir.super_block(), idmap, Some(dir), mode, target)?;
    quota::alloc_inode(&inode)?;
    fileattr::inherit(&inode, dir);
    posix_acl::inherit(&inode, dir)?;
    match kind {
        NewKind::Regular => (),
        NewKind::Directory => {
            inode.init_dir();
        }
        NewKind::Symlink(target) => {
            let len = target.to_bytes_with_nul().len();
            if len > SHORT_SYMLINK_LEN {
                xattr::charge_target(&inode, len)?;
            }
        }
        NewKind::Special(device) => {
            inode.init_special(device);
        }
    }
    set_operations(&inode)?;
    inode.insert_locked()?;
    inode.init_security(dir, name, |label, value| {
        xattr::set_label(&inode, label, value)
    })?;
    Ok(inode)
}

/// As [`new_inode`], of which the owner is to be charged, and which inherits nothing.
fn new_uncharged<T: MemFs>(
    sb: &SuperBlock<T>,
    idmap: IdMap<'_>,
    dir: Option<&Inode<T>>,
    mode: u16,
    target: Option<&CStr>,
) -> Result<NewInode<T>> {
    let space = &T::inodes(sb).space;
    let ino = space.reserve_inode()?;
    let new = || {
        let inode = NewInode::new(sb, ino)?;
        inode.init_owner(idmap, dir, mode);
        let record = Record::new(inode.init_timestamps(), target, T::new_data(sb))?;
        let parent = dir.map_or(ino, Inode::ino);
        record.parent.store(parent, Relaxed);
        T::info(&inode).record.set(record);
        Ok(inode)
    };
    // With the record, `evict_inode` frees it.
    new().inspect_err(|_| space.free_inode())
}

/// Gives a new inode the tables of operations of its file type.
///
/// # Errors
///
/// `ENOMEM`.
pub(super) fn set_operations<T: MemFs>(inode: &NewInode<T>) -> Result {
    match inode.file_type() {
        bindings::S_IFREG => {
            T::init_regular(inode);
            if xattr::is_empty(inode) {
                inode.set_no_xattr();
            }
        }
        bindings::S_IFDIR => {
            inode
                .set_iops(InodeOps::new::<DirInodeOps>())
                .set_fops(FileOps::new::<DirFileOps>());
        }
        bindings::S_IFLNK => {
            let target = T::info(inode).record().target.as_deref();
            let target = CStr::from_bytes_with_nul(target.ok_or(EINVAL)?).map_err(|_| EINVAL)?;
            inode.set_iops(InodeOps::new::<SymlinkInodeOps>());
            inode.set_link(target)?;
        }
        _ => {
            inode
                .set_iops(InodeOps::new::<AclInodeOps>())
                .init_special(inode.rdev());
        }
    }
    Ok(())
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
    let mode = bindings::S_IFDIR as u16 | mode;
    let mut inode = new_uncharged(sb, IdMap::nop(), None, mode, None)?;
    posix_acl::init_without(&inode);
    inode.set_owner(uid, gid);
    quota::alloc_inode(&inode)?;
    inode.init_dir();
    set_operations(&inode)?;
    inode.insert_locked()?;
    inodes::insert(&inode)?;
    Ok(inode.unlock())
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
    let inode = new_inode(idmap, dir, Some(name), mode, kind)?;
    let entry = new_entry(name, &inode)?;
    inodes::insert(&inode)?;
    set_name(dir, entry).inspect_err(|_| inodes::remove(&inode))?;
    if inode.is_dir() {
        // Its "..".
        dir.inc_nlink();
    }
    dir.set_mtime_ctime_current();
    inode.instantiate(name);
    Ok(())
}

/// Removes `name`, if it is one. A directory must be empty.
///
/// # Errors
///
/// Those of [`Names::remove`]; nothing has changed.
fn remove<T: MemFs>(dir: &LockedInode<T>, name: &Dentry<T>) -> Result {
    if let Some(inode) = name.inode() {
        remove_name(dir, name)?;
        dir.set_mtime_ctime_current();
        drop_links(dir, inode);
    }
    Ok(())
}

/// Drops the links that a name in `dir` stands for, which is gone. The VFS holds the locks of both
/// inodes.
fn drop_links<T: MemFs>(dir: &LockedInode<T>, inode: &Inode<T>) {
    inode.set_ctime_current();
    if inode.is_dir() {
        // ".." and ".".
        dir.drop_nlink();
        inode.drop_nlink();
    }
    drop_link(inode);
}

/// Drops a link of an inode.
fn drop_link<T: MemFs>(inode: &Inode<T>) {
    inode.drop_nlink();
    if inode.nlink() == 0 {
        inodes::remove(inode);
        T::unlinked(inode);
    } else {
        // It was counted as an inode.
        T::inodes(inode.super_block()).space.free_inode();
    }
}

/// Exchanges two names; the VFS exchanges the dentries.
///
/// # Errors
///
/// `ENOMEM`; nothing has changed.
fn exchange<T: MemFs>(
    dir: &LockedInode<T>,
    name: &Dentry<T>,
    other_dir: &LockedInode<T>,
    other: &Dentry<T>,
) -> Result {
    let (Some(inode), Some(other_inode)) = (name.inode(), other.inode()) else {
        return Err(EINVAL);
    };
    let (entry, other_entry) = (new_entry(name, other_inode)?, new_entry(other, inode)?);
    set_name(dir, entry)?;
    set_name(other_dir, other_entry)?;
    moved(inode, dir, other_dir);
    moved(other_inode, other_dir, dir);
    dir.set_mtime_ctime_current();
    other_dir.set_mtime_ctime_current();
    Ok(())
}

/// Notes that the name of `inode` has moved from one directory to another.
fn moved<T: MemFs>(inode: &Inode<T>, old_dir: &LockedInode<T>, new_dir: &LockedInode<T>) {
    inode.set_ctime_current();
    if inode.is_dir() && !core::ptr::eq(old_dir, new_dir) {
        old_dir.drop_nlink();
        new_dir.inc_nlink();
        T::info(inode).record().parent.store(new_dir.ino(), Relaxed);
    }
}

/// Moves `old` to the place of `new`, whose inode loses that name, and puts `whiteout` in the place
/// of `old`; the VFS moves the dentry.
///
/// # Errors
///
/// `ENOMEM`, `ENOSPC`; nothing has changed.
fn rename<T: MemFs>(
    old_dir: &LockedInode<T>,
    old: &Dentry<T>,
    new_dir: &LockedInode<T>,
    new: &Dentry<T>,
    whiteout: Option<NewInode<T>>,
) -> Result {
    let inode = old.inode().ok_or(EINVAL)?;
    let entry = new_entry(new, inode)?;
    match whiteout {
        Some(whiteout) => {
            let old_entry = new_entry(old, &whiteout)?;
            inodes::insert(&whiteout)?;
            set_name(new_dir, entry).inspect_err(|_| inodes::remove(&whiteout))?;
            set_name(old_dir, old_entry)?;
            drop(whiteout.unlock());
        }
        None => {
            set_name(new_dir, entry)?;
            remove_name(old_dir, old)?;
        }
    }
    if let Some(replaced) = new.inode() {
        drop_links(new_dir, replaced);
    }
    moved(inode, old_dir, new_dir);
    old_dir.set_mtime_ctime_current();
    new_dir.set_mtime_ctime_current();
    Ok(())
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
