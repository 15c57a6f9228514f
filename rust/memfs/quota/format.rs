// SPDX-License-Identifier: GPL-2.0

//! The quota format: limits by id, in memory.
//!
//! The kernel's `dquot_operations` do the rest. A `struct dquot` lives as long as an inode refers
//! to it, with its charges. When the last reference goes, the charges are 0, and only limits that
//! are not the default remain to be kept.

use super::{
    super::MemFs,
    bound,
    Kind,
    Limits, //
};
use crate::{
    bindings,
    vfs::SuperBlock, //
};
use core::{
    marker::PhantomData,
    ptr::null_mut, //
};
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::RBTree,
    sync::Mutex,
    types::{
        ForeignOwnable,
        Opaque, //
    },
};

/// How long a soft limit may be exceeded, in seconds: a week, unless `setquota -t` changes it.
const GRACE_SECONDS: u32 = 7 * 24 * 60 * 60;

/// The limits of all users, or of all groups: what `dqi_priv` points to.
#[pin_data]
struct Ids {
    /// Those of ids that have none of their own.
    default: Limits,
    #[pin]
    by_id: Mutex<RBTree<u32, Limits>>,
}

/// A quota format, registered until this is dropped.
#[pin_data(PinnedDrop)]
pub(crate) struct Format<T: MemFs> {
    #[pin]
    format: Opaque<bindings::quota_format_type>,
    _type: PhantomData<T>,
}

// SAFETY: Registering and unregistering may happen on any thread.
unsafe impl<T: MemFs> Send for Format<T> {}
// SAFETY: There are no methods that take `&self`.
unsafe impl<T: MemFs> Sync for Format<T> {}

impl<T: MemFs> Format<T> {
    /// The number of the format: that of the filesystem, which is no other format's.
    pub(super) const ID: c_int = T::MAGIC as c_int;

    const OPERATIONS: bindings::quota_format_ops = bindings::quota_format_ops {
        check_quota_file: Some(check),
        read_file_info: Some(read_info::<T>),
        write_file_info: Some(write_info),
        free_file_info: Some(free_info),
        read_dqblk: Some(read),
        commit_dqblk: Some(commit),
        release_dqblk: Some(release),
        get_next_id: Some(next_id),
    };

    pub(crate) fn new(module: &'static ThisModule) -> impl PinInit<Self> {
        pin_init!(Self {
            format <- Opaque::ffi_init(|format: *mut bindings::quota_format_type| {
                // SAFETY: A module registers one format, and no superblock before it.
                unsafe { bound::init() };
                // SAFETY: `format` is valid for writes, and pinned; `drop` unregisters it.
                unsafe {
                    format.write(bindings::quota_format_type {
                        qf_fmt_id: Self::ID,
                        qf_ops: &Self::OPERATIONS,
                        qf_owner: module.as_ptr(),
                        qf_next: null_mut(),
                    });
                    bindings::register_quota_format(format);
                }
            }),
            _type: PhantomData,
        })
    }
}

#[pinned_drop]
impl<T: MemFs> PinnedDrop for Format<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: `new` registered it. No superblock uses it any more, as each holds the module.
        unsafe { bindings::unregister_quota_format(self.format.get()) };
    }
}

/// # Safety
///
/// `sb` is a live superblock, `kind` a kind of quota, whose information nothing else accesses
/// during `'a`.
unsafe fn info<'a>(sb: *mut bindings::super_block, kind: c_int) -> &'a mut bindings::mem_dqinfo {
    // SAFETY: The caller guarantees that the superblock is live, and that nothing else accesses its
    // information of this kind; the array has an element for each kind.
    unsafe { &mut (*sb).s_dquot.info[kind as usize] }
}

/// # Safety
///
/// Quotas of this kind are on, and `'a` ends before they go.
unsafe fn ids<'a>(sb: *mut bindings::super_block, kind: c_int) -> Pin<&'a Ids> {
    // SAFETY: `read_info` set it, and `free_info` has not come yet.
    unsafe { Pin::<KBox<Ids>>::borrow((*sb).s_dquot.info[kind as usize].dqi_priv) }
}

/// # Safety
///
/// `dquot` is a dquot whose `dq_lock` the caller holds.
unsafe fn of_dquot<'a>(dquot: *mut bindings::dquot) -> (Pin<&'a Ids>, u32) {
    // SAFETY: A dquot has a superblock, quotas of its kind are on, and it goes before they do.
    unsafe {
        (
            ids((*dquot).dq_sb, (*dquot).dq_id.type_ as c_int),
            bindings::from_kqid(&raw mut bindings::init_user_ns, (*dquot).dq_id),
        )
    }
}

/// Returns the limits in `dquot`, and whether any bytes or inodes are charged.
///
/// # Safety
///
/// `dquot` is a dquot to which there is a reference, or whose `dq_lock` is held.
unsafe fn limits(dquot: *mut bindings::dquot) -> (Limits, bool) {
    // SAFETY: The caller guarantees a reference to the dquot, or that `dq_lock` is held.
    let block = unsafe { bound::dqblk(dquot) };
    let limits = Limits {
        space: block.dqb_bhardlimit,
        soft_space: block.dqb_bsoftlimit,
        inodes: block.dqb_ihardlimit,
        soft_inodes: block.dqb_isoftlimit,
    };
    (limits, block.dqb_curspace != 0 || block.dqb_curinodes != 0)
}

/// There is no file to be checked.
///
/// # Safety
///
/// None: does not look at its arguments.
unsafe extern "C" fn check(_sb: *mut bindings::super_block, _kind: c_int) -> c_int {
    1
}

/// There is no file to be written.
///
/// # Safety
///
/// None: does not look at its arguments.
unsafe extern "C" fn write_info(_sb: *mut bindings::super_block, _kind: c_int) -> c_int {
    0
}

/// # Safety
///
/// `sb` is a superblock of `T` that is being made, `kind` a [`Kind`].
unsafe extern "C" fn read_info<T: MemFs>(sb: *mut bindings::super_block, kind: c_int) -> c_int {
    let of = if kind == Kind::User as c_int {
        Kind::User
    } else {
        Kind::Group
    };
    // SAFETY: `dquot_load_quota_sb` passes a superblock of `T`, whose `s_fs_info` was set before
    // `enable` turned quotas on.
    let default = T::quota_limits(unsafe { SuperBlock::from_raw(sb) }, of).unwrap_or_default();
    let ids = KBox::pin_init(
        pin_init!(Ids {
            default,
            by_id <- new_mutex!(RBTree::new()),
        }),
        GFP_KERNEL,
    );
    let ids: Pin<KBox<Ids>> = match ids {
        Ok(ids) => ids,
        Err(err) => return err.to_errno(),
    };
    // SAFETY: `dquot_load_quota_sb` passes a live superblock and a kind of quota that it is turning
    // on, so that nothing else accesses the information.
    let info = unsafe { info(sb, kind) };
    info.dqi_priv = ids.into_foreign();
    info.dqi_bgrace = GRACE_SECONDS;
    info.dqi_igrace = GRACE_SECONDS;
    info.dqi_max_spc_limit = i64::MAX;
    info.dqi_max_ino_limit = i64::MAX;
    0
}

/// # Safety
///
/// Quotas of this kind are being turned off, and there are no dquots any more.
unsafe extern "C" fn free_info(sb: *mut bindings::super_block, kind: c_int) -> c_int {
    // SAFETY: `read_info` set it, and nothing borrows it any more.
    unsafe {
        let ids = core::mem::replace(&mut info(sb, kind).dqi_priv, null_mut());
        drop(Pin::<KBox<Ids>>::from_foreign(ids));
    }
    0
}

/// Fills in the limits of a new dquot. `dq_off` says whether they are in the tree.
///
/// # Safety
///
/// `dquot` is a new dquot whose `dq_lock` the caller holds, so that nothing else accesses it.
unsafe extern "C" fn read(dquot: *mut bindings::dquot) -> c_int {
    // SAFETY: `dquot_acquire` passes a dquot whose `dq_lock` it holds.
    let (ids, id) = unsafe { of_dquot(dquot) };
    let own = ids.by_id.lock().get(&id).copied();
    let limits = own.unwrap_or(ids.default);
    // SAFETY: `dquot_acquire` holds `dq_lock`, and the dquot is not active yet, so that nothing
    // else accesses it.
    unsafe {
        (*dquot).dq_off = own.is_some().into();
        let block = &mut (*dquot).dq_dqb;
        block.dqb_bhardlimit = limits.space;
        block.dqb_bsoftlimit = limits.soft_space;
        block.dqb_ihardlimit = limits.inodes;
        block.dqb_isoftlimit = limits.soft_inodes;
        if limits == Limits::default() {
            bindings::set_bit(bindings::DQ_FAKE_B as c_ulong, &raw mut (*dquot).dq_flags);
        }
    }
    0
}

/// Stores the limits of a dquot.
///
/// # Safety
///
/// `dquot` is a dquot whose `dq_lock` the caller holds.
unsafe extern "C" fn commit(dquot: *mut bindings::dquot) -> c_int {
    // SAFETY: `dquot_commit` and `dquot_acquire` pass a dquot whose `dq_lock` they hold.
    let ((ids, id), (limits, _)) = unsafe { (of_dquot(dquot), limits(dquot)) };
    let mut by_id = ids.by_id.lock();
    if let Some(own) = by_id.get_mut(&id) {
        *own = limits;
    } else if let Err(err) = by_id.try_create_and_insert(id, limits, GFP_KERNEL) {
        return err.to_errno();
    }
    // SAFETY: `dq_lock` protects it.
    unsafe { (*dquot).dq_off = 1 };
    0
}

/// Forgets an id that has no charges, and no limits of its own.
///
/// # Safety
///
/// `dquot` is a dquot that nothing refers to, and whose `dq_lock` the caller holds.
unsafe extern "C" fn release(dquot: *mut bindings::dquot) -> c_int {
    // SAFETY: `dquot_release` passes a dquot whose `dq_lock` it holds.
    let ((ids, id), (limits, used)) = unsafe { (of_dquot(dquot), limits(dquot)) };
    if !used && limits == ids.default {
        let node = ids.by_id.lock().remove_node(&id);
        drop(node);
        // SAFETY: `dq_lock` protects it.
        unsafe { (*dquot).dq_off = 0 };
    }
    0
}

/// Finds the first id at or after `id` that has limits of its own.
///
/// # Safety
///
/// Quotas of the kind of `id` are on, and stay so.
unsafe extern "C" fn next_id(sb: *mut bindings::super_block, id: *mut bindings::kqid) -> c_int {
    // SAFETY: `dquot_get_next_id` passes a live superblock with quotas of this kind on, which
    // `s_umount` keeps on, and an id of its own.
    let (ids, from) = unsafe {
        (
            ids(sb, (*id).type_ as c_int),
            bindings::from_kqid(&raw mut bindings::init_user_ns, *id),
        )
    };
    let by_id = ids.by_id.lock();
    let Some(cursor) = by_id.cursor_lower_bound(&from) else {
        return ENOENT.to_errno();
    };
    let val = *cursor.current().0;
    // SAFETY: The id is the caller's own. In the initial namespace, the only one that superblocks
    // with quotas are of, ids are the kernel's own; those of a group have the layout of those of a
    // user.
    unsafe { (*id).__bindgen_anon_1.uid = bindings::kuid_t { val } };
    0
}
