// SPDX-License-Identifier: GPL-2.0

//! Directories that live in the dcache, as `fs/libfs.c` keeps them, with readdir positions that
//! stay valid while other entries come and go.
//!
//! Every name is a dentry that `d_make_persistent` pins. Besides, each directory has an
//! [`Index`] of its dentries by **cookie**: a number that an entry gets when it is made, that no
//! other entry of the directory gets later, and that readdir reports as its position.
//!
//! A listing ends with the last entry that there was when it began: at its first read, or the first
//! one after its position was set to 0. It would never end where each step of it makes a new entry,
//! as renaming does.

mod index;
mod listing;
mod tables;

pub use self::index::Place;
pub(super) use self::{index::Index, tables::DirectoryTables};

use super::{
    file::FileOperations,
    filesystem::FileSystem,
    inode::{IdMap, Inode, Locked, NewInode},
    mapping::MappingOperations,
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::prelude::*;

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
        self.inode()
            .is_some_and(|inode| inode.file_type() == bindings::S_IFDIR)
    }

    /// The name, which stays the same while the directory that it is in is locked.
    fn qstr(&self) -> *const bindings::qstr {
        // SAFETY: The reference keeps the dentry; only the field's address is taken.
        unsafe { &raw const (*self.as_raw()).__bindgen_anon_1.d_name }
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

impl<T: FileSystem> Inode<T> {
    /// Notes that a name of this inode comes, goes or moves: it changes as the names' directories do.
    /// The VFS holds its lock, but where a directory is renamed within its parent.
    fn renamed(&self) {
        // SAFETY: The inode is live.
        unsafe { bindings::inode_set_ctime_current(self.as_raw()) };
        self.count_change();
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
        inode.init_security(self, name.qstr())?;
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
        inode.renamed();
        // SAFETY: The dentry is negative, and gets a reference of its own. The VFS holds the
        // inode's lock too.
        unsafe {
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
        inode.renamed();
        // SAFETY: The VFS holds the locks of both inodes.
        unsafe {
            if name.is_directory() {
                // ".." and ".".
                bindings::drop_nlink(self.as_raw());
                bindings::drop_nlink(inode.as_raw());
            }
            bindings::drop_nlink(inode.as_raw());
            bindings::d_make_discardable(name.as_raw());
        }
    }

    /// Makes a whiteout, which says to overlayfs that there is no such name: a character device
    /// without a number. It has the name of `name`, which is about to move away, and its cookie, so that
    /// a listing under way shows it: there is something of this name all the time.
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
        // SAFETY: `name` keeps its parent, and the lock of that, which is held, the name.
        let whiteout = unsafe { bindings::d_alloc((*name.as_raw()).d_parent, name.qstr()) };
        if whiteout.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: A new dentry in this directory.
        let new_name = unsafe { Dentry::from_raw(whiteout) };
        let result = self
            .add_new(new_name, new)
            .inspect(|()| self.index().exchange(name, self.index(), new_name));
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
        for dir in [self, other_dir] {
            dir.count_change();
        }
        for inode in [name.inode(), other.inode()].into_iter().flatten() {
            inode.count_change();
        }
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
            inode.renamed();
        }
    }
}
