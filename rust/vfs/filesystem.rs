// SPDX-License-Identifier: GPL-2.0

//! Filesystem types and mounted superblocks.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/fs/super_types.h`](srctree/include/linux/fs/super_types.h).

use super::{
    context::{self, Context, Parameter},
    debugfs::Directory,
    directory::DirectoryOperations,
    export::ExportTable,
    inode::{self, Inode},
    quota, summary, to_errno,
    xattr::AttributeHandlers,
    MAX_FILE_SIZE,
};
use crate::bindings;
use core::{marker::PhantomData, ptr};
use kernel::{
    container_of,
    error::to_result,
    prelude::*,
    seq_file::SeqFile,
    types::{ForeignOwnable, Opaque},
};

/// The most names of a file, and directories in one, as on XFS. The VFS sees to it.
const MAX_LINKS: u32 = i32::MAX as u32;

/// What `statfs` says, in blocks and inodes. A limit of `None` shows as 0, "not limited".
pub struct Statistics {
    /// The most blocks, and those in use.
    pub blocks: (Option<u64>, u64),
    /// The most inodes, and those in use.
    pub inodes: (Option<u64>, u64),
}

/// A filesystem type, and what is done with a whole mount of it.
pub trait FileSystem: Sized + Send + Sync + 'static {
    /// The name, as in `mount -t NAME`.
    const NAME: &'static CStr;

    /// What `statfs` says in `f_type`.
    const MAGIC: usize;

    /// What is kept with each superblock.
    type SuperData: Send + Sync;

    /// What is kept with each inode, of whatever type.
    type InodeData: Send + Sync;

    /// What a mount's parameters say.
    type Options: Send + Sync;

    /// The options of a mount, or of the change of one, before any parameter.
    fn options(context: &Context<'_>) -> Self::Options;

    /// Notes one parameter. `Ok(false)` if it is none of this filesystem.
    ///
    /// # Errors
    ///
    /// Any, after the context was told what is wrong, see [`Context::error`].
    fn parameter(
        options: &mut Self::Options,
        context: &Context<'_>,
        parameter: &Parameter<'_>,
    ) -> Result<bool>;

    /// Makes what is kept with a new superblock.
    fn super_data(options: &Self::Options) -> Result<Self::SuperData>;

    /// Mode, owner and group of the root directory.
    fn root(options: &Self::Options) -> (u16, bindings::kuid_t, bindings::kgid_t);

    /// Whether those of this kind are charged for what inodes on a new superblock take, and the
    /// limits of those of them who have none of their own.
    fn quota(sb: &SuperBlock<Self>, kind: quota::Kind) -> Option<quota::Limits>;

    /// Changes the options of a superblock.
    fn reconfigure(sb: &SuperBlock<Self>, context: &Context<'_>, options: &Self::Options)
        -> Result;

    /// Writes the options to a line of `/proc/mounts`, each with a comma before it.
    fn show_options(sb: &SuperBlock<Self>, line: &SeqFile);

    /// The numbers for `statfs`.
    fn statistics(sb: &SuperBlock<Self>) -> Statistics;

    /// Prints what a superblock holds, one `name value` a line: for `debugfs`.
    fn summarize(sb: &SuperBlock<Self>, to: &SeqFile);

    /// Makes what is kept with a new inode. Its type is not known yet.
    fn inode_data(sb: &SuperBlock<Self>) -> impl PinInit<Self::InodeData>;

    /// Called before an inode is made. Returns its number, which is not 0.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there may be no more.
    fn admit_inode(sb: &SuperBlock<Self>) -> Result<u64>;

    /// Called for an inode that nobody uses any more, or one that was admitted but not made.
    fn dismiss_inode(sb: &SuperBlock<Self>);

    /// Counts what else an inode has, its extended attributes and the long target of a symbolic link:
    /// `after` bytes, where it was `before` until now. (Charging its owner is not its concern.)
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there is not the space for more; nothing has changed.
    fn recount(sb: &SuperBlock<Self>, before: u64, after: u64) -> Result;

    /// Lets go of an inode's data. It has no links, users or mappings left.
    fn evict(inode: &Inode<Self>);

    /// How many blocks the inode holds, shared or not.
    fn inode_blocks(inode: &Inode<Self>) -> u64;
}

/// A mounted superblock.
#[repr(transparent)]
pub struct SuperBlock<T: FileSystem>(Opaque<bindings::super_block>, PhantomData<T>);

// SAFETY: What C changes is only touched under C's locks; the rest is `Sync`.
unsafe impl<T: FileSystem> Sync for SuperBlock<T> {}

impl<T: FileSystem> SuperBlock<T> {
    /// # Safety
    ///
    /// `sb` is a superblock of `T` whose `s_fs_info` is set, and stays so during `'a`.
    pub(super) unsafe fn from_raw<'a>(sb: *mut bindings::super_block) -> &'a Self {
        // SAFETY: The types have the same layout, the rest is up to the caller.
        unsafe { &*sb.cast() }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::super_block {
        self.0.get()
    }

    /// Calls `f` with each inode that is not being evicted, as `drop_pagecache_sb` does. May sleep.
    fn for_each_inode(&self, f: impl Fn(&Inode<T>)) {
        let sb = self.as_raw();
        let mut last = ptr::null_mut();
        // SAFETY: The superblock is live, and all its inodes are of `T`. The list is followed with its
        // lock held, and from an inode to which there is a reference, as that stays on it.
        unsafe {
            bindings::spin_lock(&raw mut (*sb).s_inode_list_lock);
            let head = &raw mut (*sb).s_inodes;
            let mut link = (*head).next;
            while link != head {
                let inode = bindings::igrab(container_of!(link, bindings::inode, i_sb_list));
                if !inode.is_null() {
                    bindings::spin_unlock(&raw mut (*sb).s_inode_list_lock);
                    f(Inode::from_raw(inode));
                    bindings::iput(last);
                    last = inode;
                    bindings::cond_resched();
                    bindings::spin_lock(&raw mut (*sb).s_inode_list_lock);
                }
                link = (*link).next;
            }
            bindings::spin_unlock(&raw mut (*sb).s_inode_list_lock);
            bindings::iput(last);
        }
    }

    /// The numbers of a user and a group in the user namespace that it was mounted in.
    pub fn ids(&self, uid: bindings::kuid_t, gid: bindings::kgid_t) -> (u32, u32) {
        // SAFETY: The superblock is live, and has a reference to its namespace.
        unsafe {
            let ns = (*self.as_raw()).s_user_ns;
            (
                bindings::from_kuid_munged(ns, uid),
                bindings::from_kgid_munged(ns, gid),
            )
        }
    }

    /// What the filesystem keeps with the superblock.
    pub fn data(&self) -> &T::SuperData {
        // SAFETY: `s_fs_info` was set by `fill_super` and stays until `kill_sb`.
        unsafe { KBox::<T::SuperData>::borrow((*self.as_raw()).s_fs_info) }
    }
}

/// A registered filesystem type.
///
/// # Invariants
///
/// `cache` is a cache of inodes of `T`; `fs_type` is registered until this is dropped.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub struct Registration<T: FileSystem> {
    #[pin]
    fs_type: Opaque<bindings::file_system_type>,
    #[pin]
    quota_format: quota::Format<T>,
    cache: *mut bindings::kmem_cache,
    /// What each superblock holds.
    summaries: Directory,
    _type: PhantomData<T>,
}

// SAFETY: Registering and unregistering may happen on any thread.
unsafe impl<T: FileSystem> Send for Registration<T> {}
// SAFETY: There are no methods that take `&self`.
unsafe impl<T: FileSystem> Sync for Registration<T> {}

impl<T: DirectoryOperations> Registration<T> {
    /// Registers `T`, see `register_filesystem`.
    pub fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            quota_format <- quota::Format::new(module),
            cache: inode::new_cache::<T>()?,
            summaries: Directory::new(T::NAME),
            fs_type <- Opaque::try_ffi_init(|fs_type: *mut bindings::file_system_type| {
                // SAFETY: `fs_type` is valid for writes; all zeros is a valid value.
                let fs_type = unsafe {
                    fs_type.write_bytes(0, 1);
                    &mut *fs_type
                };
                fs_type.owner = module.as_ptr();
                fs_type.name = kernel::str::as_char_ptr_in_const_context(T::NAME);
                // Timestamps finer than a timer tick, once somebody has looked at them; mounts in
                // user namespaces, and such that map ids.
                fs_type.fs_flags = (bindings::FS_MGTIME
                    | bindings::FS_USERNS_MOUNT
                    | bindings::FS_ALLOW_IDMAP) as c_int;
                fs_type.init_fs_context = Some(context::init::<T>);
                fs_type.kill_sb = Some(kill_sb::<T>);
                // SAFETY: `fs_type` is initialised and pinned; `drop` unregisters it.
                to_result(unsafe { bindings::register_filesystem(fs_type) })
                    .inspect_err(|_| {
                        // SAFETY: Made above, and no inode was.
                        unsafe { bindings::kmem_cache_destroy(*cache) }
                    })
            }),
            _type: PhantomData,
        })
    }
}

impl<T: FileSystem> Registration<T> {
    /// Where superblocks of the type of this one are shown.
    fn summaries(sb: &SuperBlock<T>) -> &Directory {
        // SAFETY: As in `cache_of`.
        unsafe { &(*(*sb.as_raw()).s_type.cast::<Self>()).summaries }
    }

    /// The inode cache of a superblock's type.
    ///
    /// # Safety
    ///
    /// `sb` is a superblock of `T`.
    pub(super) unsafe fn cache_of(sb: *mut bindings::super_block) -> *mut bindings::kmem_cache {
        // SAFETY: `s_type` is the first field of a `Registration<T>`, which lives as long as
        // superblocks of it do.
        unsafe { (*(*sb).s_type.cast::<Self>()).cache }
    }
}

#[pinned_drop]
impl<T: FileSystem> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered by the type invariant. The module's count of users keeps it loaded
        // while a superblock exists, so there is none. Inodes are freed by RCU, and gone after
        // `rcu_barrier`.
        unsafe {
            bindings::unregister_filesystem(self.fs_type.get());
            bindings::rcu_barrier();
            bindings::kmem_cache_destroy(self.cache);
        }
    }
}

/// Fills in a new superblock: the callback of `get_tree_nodev`.
///
/// # Safety
///
/// `sb` is a new superblock of `T`, `fc` its context with options of `T`.
pub(super) unsafe extern "C" fn fill_super<T: DirectoryOperations>(
    sb: *mut bindings::super_block,
    fc: *mut bindings::fs_context,
) -> c_int {
    // SAFETY: By the safety requirements.
    let options = unsafe { context::options::<T>(fc) };
    let fill = || {
        let data = KBox::new(T::super_data(options)?, GFP_KERNEL)?;
        // SAFETY: The superblock is new, so that nobody else accesses it.
        let raw = unsafe { &mut *sb };
        raw.s_fs_info = data.into_foreign();
        raw.s_magic = T::MAGIC;
        raw.s_maxbytes = MAX_FILE_SIZE as i64;
        raw.s_max_links = MAX_LINKS;
        raw.s_blocksize = kernel::page::PAGE_SIZE;
        raw.s_blocksize_bits = kernel::page::PAGE_SHIFT as u8;
        raw.s_time_gran = 1;
        raw.s_op = &SuperTable::<T>::TABLE;
        raw.s_flags |= bindings::SB_POSIXACL
            | bindings::SB_I_VERSION
            // Who writes need not look for attributes each time, where once there were none.
            | bindings::SB_NOSEC;
        // Who watches with fanotify may be asked for data before it is used.
        raw.s_iflags |= bindings::SB_I_ALLOW_HSM as c_ulong;
        raw.s_export_op = ptr::from_ref(&ExportTable::<T>::TABLE).cast();
        let mut uuid = bindings::uuid_t::default();
        // SAFETY: Both are valid, and only used during the calls.
        unsafe {
            bindings::uuid_gen(&mut uuid);
            bindings::super_set_uuid(raw, uuid.b.as_ptr(), uuid.b.len() as c_uint);
        }
        raw.s_xattr = AttributeHandlers::<T>::ALL.as_ptr();
        // SAFETY: `s_fs_info` was set above.
        let this = unsafe { SuperBlock::<T>::from_raw(sb) };
        quota::enable(this)?;
        let root = new_root(this, options).inspect_err(|_| {
            // SAFETY: `s_umount` of a superblock that is being made is held. The one inode is gone.
            unsafe { quota::disable(this) }
        })?;
        // SAFETY: As above. `kill_sb` hides it.
        unsafe {
            (*sb).s_root = root;
            summary::show(Registration::summaries(this), this);
        }
        Ok(())
    };
    to_errno(fill())
}

fn new_root<T: DirectoryOperations>(
    sb: &SuperBlock<T>,
    options: &T::Options,
) -> Result<*mut bindings::dentry> {
    let root = inode::new_root(sb, T::root(options))?;
    // SAFETY: The inode is new; its reference goes to `d_make_root`, on failure too.
    let root = unsafe { bindings::d_make_root(root) };
    if root.is_null() {
        return Err(ENOMEM);
    }
    Ok(root)
}

/// # Safety
///
/// `sb` is a superblock of `T` that is going away.
unsafe extern "C" fn kill_sb<T: FileSystem>(sb: *mut bindings::super_block) {
    // SAFETY: By the safety requirements.
    let this = unsafe { SuperBlock::<T>::from_raw(sb) };
    summary::hide(Registration::summaries(this), this);
    // SAFETY: By the safety requirements. The superblock's memory outlives this call.
    let data = unsafe {
        bindings::kill_anon_super(sb);
        core::mem::replace(&mut (*sb).s_fs_info, core::ptr::null_mut())
    };
    if !data.is_null() {
        // SAFETY: `fill_super` set it; every inode was evicted, so that nobody borrows it.
        drop(unsafe { KBox::<T::SuperData>::from_foreign(data) });
    }
}

/// The callbacks in `struct super_operations`.
struct SuperTable<T: FileSystem>(PhantomData<T>);

impl<T: FileSystem> SuperTable<T> {
    const TABLE: bindings::super_operations = bindings::super_operations {
        alloc_inode: Some(inode::alloc::<T>),
        free_inode: Some(inode::free::<T>),
        evict_inode: Some(inode::evict::<T>),
        drop_inode: Some(bindings::inode_just_drop),
        get_dquots: Some(quota::get_dquots::<T>),
        put_super: Some(Self::put_super),
        statfs: Some(Self::statfs),
        show_options: Some(Self::show_options),
        freeze_super: Some(Self::freeze_super),
        thaw_super: Some(Self::thaw_super),
        freeze_fs: Some(Self::freeze),
        unfreeze_fs: Some(Self::unfreeze),
        ..pin_init::zeroed()
    };

    /// After the inodes are gone, and while `s_umount` is still held: `kill_sb` is too late.
    ///
    /// # Safety
    ///
    /// `sb` is a superblock of `T` that is going away.
    unsafe extern "C" fn put_super(sb: *mut bindings::super_block) {
        // SAFETY: By the safety requirements, and when this is called.
        unsafe { quota::disable(SuperBlock::<T>::from_raw(sb)) };
    }

    /// # Safety
    ///
    /// `dentry` is of a superblock of `T`, `buf` valid for writes.
    unsafe extern "C" fn statfs(
        dentry: *mut bindings::dentry,
        buf: *mut kernel::bindings::kstatfs,
    ) -> c_int {
        // SAFETY: By the safety requirements. `kernel::bindings` only has the type's name.
        let (sb, buf) = unsafe {
            bindings::simple_statfs(dentry, buf);
            (
                SuperBlock::<T>::from_raw((*dentry).d_sb),
                &mut *buf.cast::<bindings::kstatfs>(),
            )
        };
        // SAFETY: The superblock is live, and keeps its UUID.
        buf.f_fsid = unsafe { bindings::uuid_to_fsid((*sb.as_raw()).s_uuid.b.as_mut_ptr()) };
        let statistics = T::statistics(sb);
        if let (Some(limit), used) = statistics.blocks {
            buf.f_blocks = limit;
            buf.f_bfree = limit.saturating_sub(used);
            buf.f_bavail = buf.f_bfree;
        }
        if let (Some(limit), used) = statistics.inodes {
            buf.f_files = limit;
            buf.f_ffree = limit.saturating_sub(used);
        }
        0
    }

    /// Freezes for the first user namespace's administrator, and for the kernel itself. See
    /// `freeze_super`.
    ///
    /// To `ioctl_fsfreeze` the administrator of the mount's own user namespace is enough. But a frozen
    /// superblock has a reference to itself: nothing could free it, nor unload the module, after the
    /// namespace and all its mounts were gone, and until then writers could not be killed.
    ///
    /// # Safety
    ///
    /// `sb` is a live superblock of `T` to which the caller has a reference.
    unsafe extern "C" fn freeze_super(
        sb: *mut bindings::super_block,
        holder: bindings::freeze_holder,
        owner: *const c_void,
    ) -> c_int {
        if !may_freeze(holder) {
            return EPERM.to_errno();
        }
        // SAFETY: By the safety requirements.
        unsafe { bindings::freeze_super(sb, holder, owner) }
    }

    /// Ends a freeze, for those who may begin one. The emergency thaw does not come this way.
    ///
    /// # Safety
    ///
    /// As for [`Self::freeze_super`].
    unsafe extern "C" fn thaw_super(
        sb: *mut bindings::super_block,
        holder: bindings::freeze_holder,
        owner: *const c_void,
    ) -> c_int {
        if !may_freeze(holder) {
            return EPERM.to_errno();
        }
        // SAFETY: By the safety requirements.
        unsafe { bindings::thaw_super(sb, holder, owner) }
    }

    /// Lets go of what may be stored to without a fault. The VFS keeps writers out, and there is
    /// nothing to write back.
    ///
    /// By now nobody can begin to write; who could store to a mapped block without a fault has to
    /// fault, too.
    ///
    /// # Safety
    ///
    /// `sb` is a superblock of `T`.
    unsafe extern "C" fn freeze(sb: *mut bindings::super_block) -> c_int {
        // SAFETY: The caller says that it is a superblock of `T`.
        unsafe { SuperBlock::<T>::from_raw(sb) }.for_each_inode(|inode| {
            // Cannot fail, as nothing ends it.
            let _ = inode.catch_stores(0..u64::MAX, || Ok(()));
        });
        0
    }

    /// # Safety
    ///
    /// None: does not look at its argument.
    unsafe extern "C" fn unfreeze(_sb: *mut bindings::super_block) -> c_int {
        0
    }

    /// # Safety
    ///
    /// `root` is of a superblock of `T`, `seq` valid.
    unsafe extern "C" fn show_options(
        seq: *mut bindings::seq_file,
        root: *mut bindings::dentry,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        unsafe {
            T::show_options(SuperBlock::from_raw((*root).d_sb), SeqFile::from_raw(seq));
        }
        0
    }
}

/// Whether the caller may freeze or thaw a superblock for `holder`.
fn may_freeze(holder: bindings::freeze_holder) -> bool {
    let by_user = bindings::freeze_holder_FREEZE_HOLDER_USERSPACE;
    // SAFETY: Only looks at the current task.
    holder & by_user == 0 || unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as c_int) }
}
