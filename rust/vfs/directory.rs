// SPDX-License-Identifier: GPL-2.0

//! Directories that live in the dcache, as `fs/libfs.c` keeps them, with readdir positions that
//! stay valid while other entries come and go.
//!
//! Every name is a dentry that `d_make_persistent` pins. Besides, each directory has an
//! [`Index`] of its dentries by **cookie**: a number that an entry gets when it is made, that no
//! other entry of the directory gets later, and that readdir reports as its position.
//!
//! A listing ends with the last entry that there was when it began (when the directory was opened,
//! or its position set to 0). It would never end where each step of it makes a new entry, as
//! renaming does.

use super::{
    acl, attributes,
    file::FileOperations,
    filesystem::FileSystem,
    flags,
    inode::{IdMap, Inode, Locked, NewInode},
    mapping::MappingOperations,
    to_errno,
    xattr::AttributeHandlers,
};
use crate::bindings;
use core::{marker::PhantomData, ops::Range, ptr::null_mut};
use kernel::{
    new_spinlock,
    prelude::*,
    rbtree::{RBTree, RBTreeNodeReservation},
    sync::SpinLock,
};

/// What is to be made in a directory.
pub struct New<'a> {
    /// The file type.
    pub kind: NewKind<'a>,
    /// The permissions.
    pub mode: u16,
    /// The mapping of ids of the mount that it is made through.
    pub idmap: IdMap<'a>,
}

/// A type of file, with what is particular to it.
pub enum NewKind<'a> {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link, and where it points.
    Symlink(&'a CStr),
    /// A device node, FIFO or socket: the type bits of its mode, and the device.
    Special(u16, bindings::dev_t),
}

/// What can be done in a directory. The directories concerned are locked.
pub trait DirectoryOperations: FileOperations + MappingOperations {
    /// Makes a file of any type, see `creat(2)`, `mkdir(2)`, `symlink(2)`, `mknod(2)`.
    fn make(dir: &Locked<Self>, name: &Dentry<Self>, new: New<'_>) -> Result;

    /// Gives `inode` another name, see `link(2)`.
    fn link(inode: &Inode<Self>, dir: &Locked<Self>, name: &Dentry<Self>) -> Result;

    /// Takes away a name of a file that is no directory, see `unlink(2)`.
    fn unlink(dir: &Locked<Self>, name: &Dentry<Self>) -> Result;

    /// Takes away an empty directory, see `rmdir(2)`.
    fn rmdir(dir: &Locked<Self>, name: &Dentry<Self>) -> Result;

    /// Gives `from` the place of `to`, which may be a file, see `rename(2)`; with `whiteout`, leaves
    /// one behind, see [`Locked::add_whiteout`].
    fn rename(
        from_dir: &Locked<Self>,
        from: &Dentry<Self>,
        to_dir: &Locked<Self>,
        to: &Dentry<Self>,
        whiteout: Option<IdMap<'_>>,
    ) -> Result;
}

/// A name in a directory, with or without an inode.
#[repr(transparent)]
pub struct Dentry<T: FileSystem>(kernel::types::Opaque<bindings::dentry>, PhantomData<T>);

impl<T: FileSystem> Dentry<T> {
    /// # Safety
    ///
    /// `dentry` is a dentry of a superblock of `T` and stays so during `'a`; its directory is
    /// locked, so that neither its name nor its inode changes.
    pub(super) unsafe fn from_raw<'a>(dentry: *mut bindings::dentry) -> &'a Self {
        // SAFETY: The types have the same layout.
        unsafe { &*dentry.cast() }
    }

    fn as_raw(&self) -> *mut bindings::dentry {
        self.0.get()
    }

    /// The inode, if the name has one.
    pub fn inode(&self) -> Option<&Inode<T>> {
        // SAFETY: The dentry is live and its directory locked.
        let inode = unsafe { (*self.as_raw()).d_inode };
        // SAFETY: An inode of this superblock, that the dentry holds.
        (!inode.is_null()).then(|| unsafe { Inode::from_raw(inode) })
    }

    /// Whether this is the name of a directory.
    pub fn is_directory(&self) -> bool {
        // SAFETY: The dentry is live.
        unsafe { bindings::shim_d_is_dir(self.as_raw()) }
    }

    /// Whether the directory of this name has no entries; true of what is no directory.
    pub fn is_empty(&self) -> bool {
        // SAFETY: The dentry is live.
        unsafe { bindings::simple_empty(self.as_raw()) != 0 }
    }

    /// The entry's cookie. Only for names in an [`Index`].
    fn cookie(&self) -> u64 {
        // SAFETY: The dentry is live, and its directory locked.
        unsafe { (*self.as_raw()).d_fsdata as u64 }
    }

    fn set_cookie(&self, cookie: u64) {
        // SAFETY: As above; `d_fsdata` is the filesystem's.
        unsafe { (*self.as_raw()).d_fsdata = cookie as *mut c_void };
    }
}

/// A dentry in an [`Index`].
///
/// # Invariants
///
/// The dentry is persistent, and a child of the directory that the index is of.
#[derive(Clone, Copy)]
struct Entry(*mut bindings::dentry);

// SAFETY: The dentry is looked at only while the directory is locked, on whatever thread; otherwise
// this is but a number.
unsafe impl Send for Entry {}

struct Entries {
    by_cookie: RBTree<u64, Entry>,
    next: u64,
}

/// The names in a directory, by cookie.
///
/// Changed with the directory's `i_rwsem` held exclusive, read with it held at least shared; the
/// lock inside only makes that plain to the compiler, and is never contended but among readers.
///
/// When a mount goes away its dentries go before its inodes: what is here then is dropped, and
/// not looked at.
#[pin_data]
pub(super) struct Index {
    #[pin]
    entries: SpinLock<Entries>,
}

/// Readdir positions 0 and 1 are "." and "..".
const FIRST_COOKIE: u64 = 2;

/// How many entries are listed under one hold of an index's lock.
const LISTED: usize = 16;

/// The memory for an entry of a directory.
pub struct Place(RBTreeNodeReservation<u64, Entry>);

impl Index {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            entries <- new_spinlock!(Entries { by_cookie: RBTree::new(), next: FIRST_COOKIE }),
        })
    }

    fn reserve() -> Result<Place> {
        Ok(Place(RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?))
    }

    fn insert<T: FileSystem>(&self, place: Place, name: &Dentry<T>) {
        let mut entries = self.entries.lock();
        let cookie = entries.next;
        entries.next += 1;
        name.set_cookie(cookie);
        // INVARIANT: The callers make the dentry persistent, or have found it so.
        entries
            .by_cookie
            .insert(place.0.into_node(cookie, Entry(name.as_raw())));
    }

    fn remove<T: FileSystem>(&self, name: &Dentry<T>) {
        let node = self.entries.lock().by_cookie.remove_node(&name.cookie());
        drop(node);
    }

    /// Gives each of two names the other's cookie, which may be one of another directory: they are
    /// about to take each other's place.
    fn exchange<T: FileSystem>(&self, name: &Dentry<T>, other_index: &Self, other: &Dentry<T>) {
        let (cookie, other_cookie) = (name.cookie(), other.cookie());
        self.set(cookie, other);
        other_index.set(other_cookie, name);
    }

    fn set<T: FileSystem>(&self, cookie: u64, name: &Dentry<T>) {
        if let Some(entry) = self.entries.lock().by_cookie.get_mut(&cookie) {
            // INVARIANT: By what `exchange` is for.
            *entry = Entry(name.as_raw());
        }
        name.set_cookie(cookie);
    }

    /// Forgets all entries: for a directory that goes away with its mount, whose dentries are gone
    /// already. Otherwise it would be left to an RCU callback.
    pub(super) fn clear(&self) {
        let old = core::mem::replace(&mut self.entries.lock().by_cookie, RBTree::new());
        drop(old);
    }

    /// The cookie that the next new entry gets.
    fn end(&self) -> u64 {
        self.entries.lock().next
    }

    /// The first entries in `cookies`, as many as `found` has room for.
    fn first(&self, cookies: Range<u64>, found: &mut [Option<(u64, Entry)>]) {
        let mut entries = self.entries.lock();
        let mut cursor = entries.by_cookie.cursor_lower_bound_mut(&cookies.start);
        for found in found {
            *found = cursor.as_ref().and_then(|cursor| {
                let (cookie, entry) = cursor.current();
                (*cookie < cookies.end).then_some((*cookie, *entry))
            });
            cursor = cursor.and_then(|cursor| cursor.move_next());
        }
    }
}

/// Changes to a locked directory, with times and link counts as `fs/libfs.c` has them.
impl<T: DirectoryOperations> Locked<T> {
    /// Makes a new inode under `name`.
    ///
    /// # Errors
    ///
    /// `ENOSPC`, `EDQUOT`, `ENOMEM`, and what a security module says.
    pub fn add_new(&self, name: &Dentry<T>, new: New<'_>) -> Result {
        let place = Index::reserve()?;
        let kind = match new.kind {
            NewKind::Regular => bindings::S_IFREG as u16,
            NewKind::Directory => bindings::S_IFDIR as u16,
            NewKind::Symlink(_) => bindings::S_IFLNK as u16,
            NewKind::Special(kind, _) => kind,
        };
        let inode = NewInode::new(self.super_block(), new.idmap, self, kind | new.mode)?;
        let inode = match new.kind {
            NewKind::Regular => inode.regular(),
            NewKind::Directory => inode.directory(),
            NewKind::Symlink(target) => inode.symlink(target)?,
            NewKind::Special(_, device) => inode.special(device),
        };
        // SAFETY: The dentry is live, its directory locked.
        inode.init_security(self, unsafe { bindings::shim_dentry_qstr(name.as_raw()) })?;
        self.index().insert(place, name);
        if matches!(new.kind, NewKind::Directory) {
            // SAFETY: The directory is locked.
            unsafe { bindings::inc_nlink(self.as_raw()) };
        }
        self.touch();
        // SAFETY: The dentry is negative, and the inode's reference goes to it.
        unsafe { bindings::d_make_persistent(name.as_raw(), inode.into_raw()) };
        Ok(())
    }

    /// Makes `name` another name of `inode`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn add_link(&self, name: &Dentry<T>, inode: &Inode<T>) -> Result {
        let place = Index::reserve()?;
        self.index().insert(place, name);
        self.touch();
        // SAFETY: The dentry is negative, and gets a reference of its own. The VFS holds the
        // inode's lock too.
        unsafe {
            bindings::inode_set_ctime_current(inode.as_raw());
            bindings::inc_nlink(inode.as_raw());
            bindings::ihold(inode.as_raw());
            bindings::d_make_persistent(name.as_raw(), inode.as_raw());
        }
        Ok(())
    }

    /// Takes `name` away. A directory must be empty.
    pub fn remove(&self, name: &Dentry<T>) {
        let Some(inode) = name.inode() else { return };
        self.index().remove(name);
        self.touch();
        self.drop_links(name, inode);
    }

    /// Ends what `name`, of this directory, is for its inode.
    fn drop_links(&self, name: &Dentry<T>, inode: &Inode<T>) {
        // SAFETY: The VFS holds the locks of both inodes.
        unsafe {
            if name.is_directory() {
                // ".." and ".".
                bindings::drop_nlink(self.as_raw());
                bindings::drop_nlink(inode.as_raw());
            }
            bindings::inode_set_ctime_current(inode.as_raw());
            bindings::drop_nlink(inode.as_raw());
            bindings::d_make_discardable(name.as_raw());
        }
    }

    /// Makes a whiteout, which says to overlayfs that there is no such name: a character device
    /// without a number. It has the name of `name`, which is about to move away.
    ///
    /// # Errors
    ///
    /// As [`Locked::add_new`].
    pub fn add_whiteout(&self, name: &Dentry<T>, idmap: IdMap<'_>) -> Result {
        let new = New {
            kind: NewKind::Special(bindings::S_IFCHR as u16, 0),
            mode: 0,
            idmap,
        };
        // SAFETY: The dentry is live, its directory locked.
        let whiteout = unsafe {
            bindings::d_alloc(
                (*name.as_raw()).d_parent,
                bindings::shim_dentry_qstr(name.as_raw()),
            )
        };
        if whiteout.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: A new dentry in this directory.
        let result = self.add_new(unsafe { Dentry::from_raw(whiteout) }, new);
        // SAFETY: The reference is that of `d_alloc`.
        unsafe { bindings::dput(whiteout) };
        result
    }

    /// Prepares two names to take each other's place; the VFS exchanges the dentries.
    pub fn exchange(&self, name: &Dentry<T>, other_dir: &Locked<T>, other: &Dentry<T>) {
        self.index().exchange(name, other_dir.index(), other);
        // SAFETY: Both directories are locked, and each name is in its directory. Cannot fail.
        unsafe {
            bindings::simple_rename_exchange(
                self.as_raw(),
                name.as_raw(),
                other_dir.as_raw(),
                other.as_raw(),
            )
        };
    }

    /// Allocates what [`Locked::rename`] needs.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn reserve(&self) -> Result<Place> {
        Index::reserve()
    }

    /// Prepares `from` to move to `to_dir`, to the place of `to`; the VFS moves the dentry.
    ///
    /// Where there is an inode of that name, the name is gone, and `from` gets its cookie: so a
    /// listing under way shows one of the two, as there was a file of this name all the time.
    pub fn rename(&self, place: Place, from: &Dentry<T>, to_dir: &Locked<T>, to: &Dentry<T>) {
        self.index().remove(from);
        match to.inode() {
            Some(replaced) => {
                to_dir.index().set(to.cookie(), from);
                to_dir.drop_links(to, replaced);
            }
            None => to_dir.index().insert(place, from),
        }
        if from.is_directory() && self.as_raw() != to_dir.as_raw() {
            // SAFETY: Both directories are locked.
            unsafe {
                bindings::drop_nlink(self.as_raw());
                bindings::inc_nlink(to_dir.as_raw());
            }
        }
        self.touch();
        to_dir.touch();
        if let Some(inode) = from.inode() {
            // SAFETY: The inode is live.
            unsafe { bindings::inode_set_ctime_current(inode.as_raw()) };
        }
    }
}

/// The callbacks of a directory.
pub(super) struct DirectoryTables<T: DirectoryOperations>(PhantomData<T>);

impl<T: DirectoryOperations> DirectoryTables<T> {
    pub(super) const INODE: bindings::inode_operations = bindings::inode_operations {
        lookup: Some(bindings::simple_lookup),
        create: Some(Self::create),
        link: Some(Self::link),
        unlink: Some(Self::unlink),
        symlink: Some(Self::symlink),
        mkdir: Some(Self::mkdir),
        rmdir: Some(Self::rmdir),
        mknod: Some(Self::mknod),
        rename: Some(Self::rename),
        tmpfile: Some(Self::tmpfile),
        listxattr: Some(AttributeHandlers::<T>::list),
        set_acl: Some(acl::set_acl::<T>),
        fileattr_get: Some(flags::fileattr_get::<T>),
        fileattr_set: Some(flags::fileattr_set::<T>),
        setattr: Some(attributes::setattr::<T>),
        getattr: Some(attributes::getattr::<T>),
        ..pin_init::zeroed()
    };

    pub(super) const FILE: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        llseek: Some(Self::llseek),
        read: Some(bindings::generic_read_dir),
        iterate_shared: Some(Self::iterate_shared),
        fsync: Some(bindings::noop_fsync),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `dir` is a directory of `T` whose lock is held exclusive, `dentry` a negative dentry in it,
    /// `idmap` valid.
    unsafe fn make(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        kind: NewKind<'_>,
        mode: bindings::umode_t,
    ) -> Result {
        let mode = mode & !(bindings::S_IFMT as u16);
        // SAFETY: By the safety requirements.
        unsafe {
            T::make(
                Locked::assume(Inode::from_raw(dir)),
                Dentry::from_raw(dentry),
                New {
                    kind,
                    mode,
                    idmap: IdMap::from_raw(idmap),
                },
            )
        }
    }

    /// # Safety
    ///
    /// As for [`Self::make`].
    unsafe extern "C" fn create(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        to_errno(unsafe { Self::make(idmap, dir, dentry, NewKind::Regular, mode) })
    }

    /// # Safety
    ///
    /// As for [`Self::make`].
    unsafe extern "C" fn mkdir(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
    ) -> *mut bindings::dentry {
        // SAFETY: By the safety requirements.
        match unsafe { Self::make(idmap, dir, dentry, NewKind::Directory, mode) } {
            Ok(()) => null_mut(),
            Err(err) => err.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// As for [`Self::make`]; `target` is a C string.
    unsafe extern "C" fn symlink(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        target: *const c_char,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        to_errno(unsafe {
            Self::make(
                idmap,
                dir,
                dentry,
                NewKind::Symlink(CStr::from_char_ptr(target)),
                0o777,
            )
        })
    }

    /// # Safety
    ///
    /// As for [`Self::make`].
    unsafe extern "C" fn mknod(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
        device: bindings::dev_t,
    ) -> c_int {
        let kind = match u32::from(mode) & bindings::S_IFMT {
            0 | bindings::S_IFREG => NewKind::Regular,
            kind => NewKind::Special(kind as u16, device),
        };
        // SAFETY: By the safety requirements.
        to_errno(unsafe { Self::make(idmap, dir, dentry, kind, mode) })
    }

    /// # Safety
    ///
    /// `dir` is a directory of `T` whose lock is held exclusive, `dentry` a negative dentry in it,
    /// `old` the dentry of an inode of the same superblock.
    unsafe extern "C" fn link(
        old: *mut bindings::dentry,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        to_errno(unsafe {
            T::link(
                Inode::from_raw((*old).d_inode),
                Locked::assume(Inode::from_raw(dir)),
                Dentry::from_raw(dentry),
            )
        })
    }

    /// # Safety
    ///
    /// `dir` is a directory of `T` whose lock is held exclusive, `dentry` a positive dentry in it.
    unsafe extern "C" fn unlink(dir: *mut bindings::inode, dentry: *mut bindings::dentry) -> c_int {
        // SAFETY: By the safety requirements.
        to_errno(unsafe {
            T::unlink(
                Locked::assume(Inode::from_raw(dir)),
                Dentry::from_raw(dentry),
            )
        })
    }

    /// # Safety
    ///
    /// As for [`Self::unlink`].
    unsafe extern "C" fn rmdir(dir: *mut bindings::inode, dentry: *mut bindings::dentry) -> c_int {
        // SAFETY: By the safety requirements.
        to_errno(unsafe {
            T::rmdir(
                Locked::assume(Inode::from_raw(dir)),
                Dentry::from_raw(dentry),
            )
        })
    }

    /// # Safety
    ///
    /// Both directories are of one superblock of `T` and their locks held exclusive, each dentry
    /// is in its directory.
    unsafe extern "C" fn rename(
        idmap: *mut bindings::mnt_idmap,
        from_dir: *mut bindings::inode,
        from: *mut bindings::dentry,
        to_dir: *mut bindings::inode,
        to: *mut bindings::dentry,
        flags: c_uint,
    ) -> c_int {
        // The VFS has looked at NOREPLACE already, and lets nothing stand beside EXCHANGE.
        let known =
            bindings::RENAME_NOREPLACE | bindings::RENAME_EXCHANGE | bindings::RENAME_WHITEOUT;
        if flags & !known != 0 {
            return EINVAL.to_errno();
        }
        // SAFETY: By the safety requirements.
        let (from_dir, from, to_dir, to, idmap) = unsafe {
            (
                Locked::<T>::assume(Inode::from_raw(from_dir)),
                Dentry::from_raw(from),
                Locked::<T>::assume(Inode::from_raw(to_dir)),
                Dentry::from_raw(to),
                IdMap::from_raw(idmap),
            )
        };
        if flags & bindings::RENAME_EXCHANGE != 0 {
            from_dir.exchange(from, to_dir, to);
            return 0;
        }
        let whiteout = (flags & bindings::RENAME_WHITEOUT != 0).then_some(idmap);
        to_errno(T::rename(from_dir, from, to_dir, to, whiteout))
    }

    /// # Safety
    ///
    /// `dir` is a directory of `T`, `file` is being opened in it, `idmap` is valid.
    unsafe extern "C" fn tmpfile(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        file: *mut bindings::file,
        mode: bindings::umode_t,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let (dir, idmap) = unsafe { (Inode::<T>::from_raw(dir), IdMap::from_raw(idmap)) };
        let made = NewInode::new(dir.super_block(), idmap, dir, mode)
            .map(NewInode::regular)
            .and_then(|inode| {
                inode.init_security(dir, null_mut())?;
                // SAFETY: The file is not open yet; the inode's reference goes to it.
                unsafe { bindings::d_tmpfile(file, inode.into_raw()) };
                Ok(())
            });
        // SAFETY: By the safety requirements; where nothing failed the file has a dentry.
        unsafe { bindings::shim_finish_open_simple(file, to_errno(made)) }
    }

    /// # Safety
    ///
    /// `file` is an open directory of `T`.
    unsafe extern "C" fn llseek(
        file: *mut bindings::file,
        offset: bindings::loff_t,
        whence: c_int,
    ) -> bindings::loff_t {
        // Positions are cookies, and have no end.
        if !matches!(whence as u32, bindings::SEEK_SET | bindings::SEEK_CUR) {
            return EINVAL.to_errno().into();
        }
        // SAFETY: By the safety requirements.
        unsafe {
            let pos = bindings::generic_file_llseek_size(file, offset, whence, i64::MAX, 0);
            if pos == 0 {
                Self::begin_listing(file);
            }
            pos
        }
    }

    /// # Safety
    ///
    /// `file` is a directory of `T` that is being opened.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: By the safety requirements.
        unsafe { Self::begin_listing(file) };
        0
    }

    /// Notes in `private_data` where a listing that begins now ends.
    ///
    /// # Safety
    ///
    /// `file` is an open directory of `T`, and nobody else changes `private_data`.
    unsafe fn begin_listing(file: *mut bindings::file) {
        // SAFETY: By the safety requirements.
        unsafe {
            let dir = Inode::<T>::from_raw((*file).f_inode);
            (*file).private_data = dir.index().end() as *mut c_void;
        }
    }

    /// # Safety
    ///
    /// `file` is an open directory of `T` whose lock is held at least shared, `ctx` is valid.
    unsafe extern "C" fn iterate_shared(
        file: *mut bindings::file,
        ctx: *mut bindings::dir_context,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let (dir, end, ctx) = unsafe {
            if !bindings::shim_dir_emit_dots(file, ctx) {
                return 0;
            }
            let end = (*file).private_data as u64;
            (Inode::<T>::from_raw((*file).f_inode), end, &mut *ctx)
        };
        loop {
            let mut found = [None; LISTED];
            dir.index().first(ctx.pos as u64..end, &mut found);
            // The directory's lock keeps the entries what they are.
            for (cookie, entry) in found.iter().flatten() {
                ctx.pos = *cookie as i64;
                // SAFETY: By the safety requirements; an entry of this directory.
                if !unsafe { Self::emit(ctx, *entry) } {
                    return 0;
                }
                ctx.pos += 1;
            }
            if found[LISTED - 1].is_none() {
                return 0;
            }
        }
    }

    /// Tells of an entry. Returns whether it was taken.
    ///
    /// # Safety
    ///
    /// The lock of the directory that the entry is of is held at least shared, `ctx` is valid.
    unsafe fn emit(ctx: &mut bindings::dir_context, Entry(dentry): Entry) -> bool {
        // SAFETY: The dentry is one of the directory's names by the invariant of `Entry`, has an inode,
        // and neither changes.
        unsafe {
            let mut len = 0;
            let name = bindings::shim_dentry_name(dentry, &mut len);
            let inode = (*dentry).d_inode;
            let kind = u32::from((*inode).i_mode) >> 12 & 15;
            bindings::shim_dir_emit(ctx, name, len as c_int, (*inode).i_ino, kind)
        }
    }
}
