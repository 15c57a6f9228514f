// SPDX-License-Identifier: GPL-2.0

//! Looking up, creating, linking, renaming.
//!
//! A name is in the record of its directory, and leads to the number of an inode. Dentries are a
//! cache.

use super::{
    attr,
    edit::{
        edit_names,
        NameEdit, //
    },
    family::Epoch,
    fileattr,
    iget,
    inodes::{
        hash,
        TableEdit,
        ROOT_INO, //
    },
    names::Names,
    posix_acl,
    quota,
    readdir::DirFileOps,
    record::{
        Content,
        Record, //
    },
    space::InodeCharge,
    transaction::Exclusive,
    xattr,
    xattrs::Xattrs,
    MemFs,
    Transaction, //
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
        Time,
        TmpFile,
        UpdateTime, //
    },
};
use kernel::{
    prelude::*,
    str::CString,
    sync::{
        aref::ARef,
        Arc, //
    }, //
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
        let record = T::info(dir).record.read();
        let ino = record.names.get(hash, dentry.name()).map(|entry| entry.ino);
        drop(record);
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
        let mut edits = [NameEdit::set(0, name, inode)?];
        // The first name, of a file opened with O_TMPFILE, comes with the inode.
        let is_first = inode.nlink() == 0;
        let mut table = TableEdit::NONE;
        if is_first {
            inode.inc_nlink();
            table.insert = Some(inode);
            let linked = T::linked(inode);
            linked.inspect_err(|_| inode.drop_nlink())?;
        } else {
            reserve_name(inode)?;
        }
        let linked = edit_names(
            [&**dir, &**inode],
            &mut edits,
            &table,
            |[_, _]: [Exclusive<'_, T>; 2]| {
                if !is_first {
                    inode.inc_nlink();
                }
                dir.set_mtime_ctime_current();
                inode.set_ctime_current();
            },
        );
        linked.inspect_err(|_| match is_first {
            true => {
                inode.drop_nlink();
                T::unlinked(inode);
            }
            false => free_name(inode),
        })?;
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

/// Returns the inode of a number, see [`iget::iget`].
pub(super) fn iget<T: MemFs>(sb: &SuperBlock<T>, ino: u64) -> Result<ARef<Inode<T>>> {
    iget::iget(sb, ino, set_operations)
}

/// Counts a further name of an inode.
///
/// # Errors
///
/// `ENOSPC`, `ENOMEM`.
fn reserve_name<T: MemFs>(inode: &LockedInode<T>) -> Result {
    let transaction = Transaction::begin([&**inode])?;
    let [inode] = transaction.each();
    let mut record = inode.write();
    record.charge.add_name()
}

/// Counts a name of an inode less.
fn free_name<T: MemFs>(inode: &LockedInode<T>) {
    // Cannot fail but where a fork was made just now: that counts one more then.
    if let Ok(transaction) = Transaction::begin([&**inode]) {
        let [inode] = transaction.each();
        inode.write().charge.remove_name();
    }
}

/// Returns whether `name` is not that of a directory with names in it.
fn is_empty<T: MemFs>(name: &Dentry<T>) -> bool {
    name.inode()
        .is_none_or(|inode| T::info(inode).record.read().names.is_empty())
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
    fileattr::inherit(&inode, dir)?;
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
    let space = &T::inodes(sb).family.space;
    let charge = InodeCharge::new(space)?;
    let target = match target {
        Some(target) => Some(Arc::new(CString::try_from(target)?, GFP_KERNEL_ACCOUNT)?),
        None => None,
    };
    let inode = NewInode::new(sb, space.new_ino())?;
    inode.init_owner(idmap, dir, mode);
    let content = Content {
        epoch: Epoch::PRIVATE,
        attrs: Default::default(),
        btime: Time::new(inode.init_timestamps()),
        fsflags: 0,
        parent: dir.map_or(inode.ino(), Inode::ino),
        target,
        names: Names::new(),
        xattrs: Xattrs::new(),
        charge,
        data: T::new_data(sb),
    };
    let record = Record::new(content, GFP_KERNEL_ACCOUNT)?;
    drop(T::info(&inode).record.set(record, false));
    Ok(inode)
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
            let target = T::info(inode).record.read().target.clone();
            inode.set_iops(InodeOps::new::<SymlinkInodeOps>());
            inode.set_link(&target.ok_or(EINVAL)?)?;
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
    let table = TableEdit {
        insert: Some(&**inode),
        remove: None,
    };
    edit_names([&**inode], &mut [], &table, |[_]: [Exclusive<'_, T>; 1]| ())?;
    Ok(inode.unlock())
}

/// Returns the inode of the root directory of a fork, with this mode and owner, where they are not
/// to be those of the base.
///
/// # Errors
///
/// `ENOMEM`, `ENOSPC`.
pub(crate) fn root_of_fork<T: MemFs>(
    sb: &SuperBlock<T>,
    mode: Option<u16>,
    uid: Option<bindings::kuid_t>,
    gid: Option<bindings::kgid_t>,
) -> Result<ARef<Inode<T>>> {
    let root = iget(sb, ROOT_INO)?;
    if mode.is_some() || uid.is_some() || gid.is_some() {
        let locked = root.lock();
        let transaction = Transaction::begin([&**locked])?;
        locked.set_mode(mode.map_or(root.mode(), |mode| bindings::S_IFDIR as u16 | mode));
        let attrs = root.attrs();
        locked.set_owner(uid.unwrap_or(attrs.uid), gid.unwrap_or(attrs.gid));
        drop(transaction);
    }
    Ok(root)
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
    let mut edits = [NameEdit::set(0, name, &inode)?];
    let table = TableEdit {
        insert: Some(&**inode),
        remove: None,
    };
    edit_names(
        [&**dir, &**inode],
        &mut edits,
        &table,
        |[_, _]: [Exclusive<'_, T>; 2]| {
            if inode.is_dir() {
                // Its "..".
                dir.inc_nlink();
            }
            dir.set_mtime_ctime_current();
        },
    )?;
    inode.instantiate(name);
    Ok(())
}

/// Returns whether an inode loses its last name when it loses one.
fn loses_last_name<T: MemFs>(inode: &Inode<T>) -> bool {
    inode.is_dir() || inode.nlink() == 1
}

/// Removes `name`, if it is one. A directory must be empty.
///
/// # Errors
///
/// `ENOMEM`, `ENOSPC` where a fork has the names of the directory, too; nothing has changed.
fn remove<T: MemFs>(dir: &LockedInode<T>, name: &Dentry<T>) -> Result {
    let Some(inode) = name.inode() else {
        return Ok(());
    };
    let mut edits = [NameEdit::remove(0, name, inode)];
    let (table, kept) = loss(dir, inode);
    edit_names([&**dir, kept], &mut edits, &table, |[_, kept]| {
        dir.set_mtime_ctime_current();
        drop_links(dir, inode, kept);
    })?;
    unlinked(inode);
    Ok(())
}

/// Returns what the loss of a name in `dir` is in the table, and the inode whose record changes
/// with it: not that of the last name, whose inode alone has it from then on, or a fork.
fn loss<'e, T: MemFs>(
    dir: &'e LockedInode<T>,
    inode: &'e Inode<T>,
) -> (TableEdit<'e, T>, &'e Inode<T>) {
    match loses_last_name(inode) {
        true => (
            TableEdit {
                insert: None,
                remove: Some(inode),
            },
            dir,
        ),
        false => (TableEdit::NONE, inode),
    }
}

/// Drops the links that a name in `dir` stands for, which is gone. The VFS holds the locks of both
/// inodes. `kept` is the inode, if it has other names.
fn drop_links<T: MemFs>(dir: &LockedInode<T>, inode: &Inode<T>, kept: Exclusive<'_, T>) {
    inode.set_ctime_current();
    if inode.is_dir() {
        // ".." and ".".
        dir.drop_nlink();
        inode.drop_nlink();
    }
    inode.drop_nlink();
    if inode.nlink() > 0 {
        kept.write().charge.remove_name();
    }
}

/// Tells the filesystem if an inode has lost its last name.
fn unlinked<T: MemFs>(inode: &Inode<T>) {
    if inode.nlink() == 0 {
        T::unlinked(inode);
    }
}

/// Exchanges two names; the VFS exchanges the dentries.
///
/// # Errors
///
/// `ENOMEM`, `ENOSPC`; nothing has changed.
fn exchange<T: MemFs>(
    dir: &LockedInode<T>,
    name: &Dentry<T>,
    other_dir: &LockedInode<T>,
    other: &Dentry<T>,
) -> Result {
    let (Some(inode), Some(other_inode)) = (name.inode(), other.inode()) else {
        return Err(EINVAL);
    };
    let mut edits = [
        NameEdit::set(0, name, other_inode)?,
        NameEdit::set(1, other, inode)?,
    ];
    edit_names(
        [&**dir, &**other_dir, inode, other_inode],
        &mut edits,
        &TableEdit::NONE,
        |[_, _, inode, other_inode]| {
            moved(inode, dir, other_dir);
            moved(other_inode, other_dir, dir);
            dir.set_mtime_ctime_current();
            other_dir.set_mtime_ctime_current();
        },
    )
}

/// Notes that the name of `inode` has moved from one directory to another.
fn moved<T: MemFs>(inode: Exclusive<'_, T>, old_dir: &LockedInode<T>, new_dir: &LockedInode<T>) {
    inode.set_ctime_current();
    if inode.is_dir() && !core::ptr::eq(old_dir, new_dir) {
        old_dir.drop_nlink();
        new_dir.inc_nlink();
        inode.write().parent = new_dir.ino();
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
    let whiteout_inode: Option<&Inode<T>> = whiteout.as_ref().map(|whiteout| &***whiteout);
    let mut edits = [
        NameEdit::set(1, new, inode)?,
        match whiteout_inode {
            Some(whiteout) => NameEdit::set(0, old, whiteout)?,
            None => NameEdit::remove(0, old, inode),
        },
    ];
    let (mut table, kept) = match new.inode() {
        Some(replaced) => loss(new_dir, replaced),
        None => (TableEdit::NONE, &**new_dir),
    };
    table.insert = whiteout_inode;
    edit_names(
        [
            &**old_dir,
            &**new_dir,
            inode,
            kept,
            whiteout_inode.unwrap_or(old_dir),
        ],
        &mut edits,
        &table,
        |[_, _, inode, kept, _]| {
            if let Some(replaced) = new.inode() {
                drop_links(new_dir, replaced, kept);
            }
            moved(inode, old_dir, new_dir);
            old_dir.set_mtime_ctime_current();
            new_dir.set_mtime_ctime_current();
        },
    )?;
    if let Some(replaced) = new.inode() {
        unlinked(replaced);
    }
    drop(whiteout.map(NewInode::unlock));
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

    fn update_time(inode: &Inode<T>, time: UpdateTime) -> Result {
        attr::update_time(inode, time)
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
