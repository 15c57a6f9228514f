// SPDX-License-Identifier: GPL-2.0

//! Registering a filesystem type; mounting, changing and killing its superblocks.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/fs_context.h`](srctree/include/linux/fs_context.h).

use super::{
    inode_cache::InodeCache,
    super_block::take_data,
    super_operations::Table,
    FsContext,
    FsContextOperations,
    FsParameter,
    NewSuperBlock,
    Registration,
    SuperBlock,
    SuperOperations, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::null_mut, //
};
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    sync::aref::ARef,
    types::{
        ForeignOwnable,
        Opaque, //
    },
};

/// All that is needed to register a type.
pub trait Mountable: FsContextOperations + SuperOperations {}

impl<T: FsContextOperations + SuperOperations> Mountable for T {}

impl<T: Mountable> Registration<T> {
    const TABLE_HAS_END: () = assert!(
        matches!(T::PARAMETERS, [.., last] if last.is_end()),
        "a table of parameters ends with FsParameterSpec::END"
    );

    /// Registers `T`, `register_filesystem`.
    ///
    /// # Errors
    ///
    /// `EBUSY` where there is one of this name, `ENOMEM`.
    pub fn new(
        module: &'static ThisModule,
        data: impl PinInit<T::TypeData, Error>,
    ) -> impl PinInit<Self, Error> {
        let () = Self::TABLE_HAS_END;
        super::address_space::invalidate_in_reclaim();
        try_pin_init!(Self {
            inode_cache: InodeCache::new()?,
            data <- data,
            fs_type <- Opaque::try_ffi_init(|fs_type: *mut bindings::file_system_type| {
                // SAFETY: `fs_type` is valid for writes; all zeros is a valid value.
                let fs_type = unsafe {
                    fs_type.write_bytes(0, 1);
                    &mut *fs_type
                };
                fs_type.owner = module.as_ptr();
                fs_type.name = kernel::str::as_char_ptr_in_const_context(T::NAME);
                fs_type.fs_flags = T::FS_FLAGS as c_int;
                fs_type.parameters = T::PARAMETERS.as_ptr().cast();
                fs_type.init_fs_context = Some(init_fs_context::<T>);
                fs_type.kill_sb = Some(kill_sb::<T>);
                // SAFETY: `fs_type` is initialised and pinned; `drop` unregisters it.
                to_result(unsafe { bindings::register_filesystem(fs_type) })
            }),
            _type: PhantomData,
        })
    }
}

/// Returns the options that are collected in `fc`.
///
/// # Safety
///
/// `fc` is a context that [`init_fs_context`] prepared for `T`, and has not been freed.
unsafe fn options<'a, T: FsContextOperations>(fc: *mut bindings::fs_context) -> &'a T::Options {
    // SAFETY: `init_fs_context` set it, and `free` comes after the last user.
    unsafe { KBox::<T::Options>::borrow((*fc).fs_private) }
}

/// # Safety
///
/// `fc` is a new context for a mount of `T`, or for the change of one.
unsafe extern "C" fn init_fs_context<T: Mountable>(fc: *mut kernel::bindings::fs_context) -> c_int {
    // `kernel::bindings` only has the type's name.
    let fc: *mut bindings::fs_context = fc.cast();
    from_result(|| {
        let options = T::init_fs_context(&FsContext(fc, PhantomData));
        let options = KBox::new(options, GFP_KERNEL)?;
        // SAFETY: The context is new, so that nothing else accesses it.
        unsafe {
            (*fc).fs_private = options.into_foreign();
            (*fc).ops = &ContextTable::<T>::TABLE;
        }
        Ok(0)
    })
}

/// The callbacks in `struct fs_context_operations`.
struct ContextTable<T: Mountable>(PhantomData<T>);

impl<T: Mountable> ContextTable<T> {
    const TABLE: bindings::fs_context_operations = bindings::fs_context_operations {
        free: Some(Self::free),
        dup: None,
        parse_param: Some(Self::parse_param),
        parse_monolithic: None,
        get_tree: Some(Self::get_tree),
        reconfigure: Some(Self::reconfigure),
    };

    /// # Safety
    ///
    /// `fc` is a context of `T`.
    unsafe extern "C" fn free(fc: *mut bindings::fs_context) {
        // SAFETY: The VFS passes a context of `T` that nothing else uses any more.
        let options = unsafe { core::mem::replace(&mut (*fc).fs_private, null_mut()) };
        if !options.is_null() {
            // SAFETY: `init_fs_context` set it, and nothing borrows it any more.
            drop(unsafe { KBox::<T::Options>::from_foreign(options) });
        }
    }

    /// # Safety
    ///
    /// `fc` is a context of `T`, `param` valid.
    unsafe extern "C" fn parse_param(
        fc: *mut bindings::fs_context,
        param: *mut bindings::fs_parameter,
    ) -> c_int {
        let mut result = MaybeUninit::zeroed();
        // SAFETY: All are valid; the table ends with `END`, as `Registration::new` asserts.
        let opt = unsafe {
            bindings::__fs_parse(
                &raw mut (*fc).log,
                T::PARAMETERS.as_ptr().cast(),
                param,
                result.as_mut_ptr(),
            )
        };
        if opt < 0 {
            return opt;
        }
        from_result(|| {
            // SAFETY: `init_fs_context` set the options, and `uapi_mutex` is held. The parameter is
            // valid; the result was zeroed, which is a valid value, and then filled in.
            let (options, parameter, result) = unsafe {
                (
                    KBox::<T::Options>::borrow_mut((*fc).fs_private),
                    &*param,
                    result.assume_init_ref(),
                )
            };
            let parameter = FsParameter {
                parameter,
                result,
                opt: opt as u8,
            };
            T::parse_param(options, &FsContext(fc, PhantomData), &parameter)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `fc` is a context of `T` for a new mount.
    unsafe extern "C" fn get_tree(fc: *mut bindings::fs_context) -> c_int {
        from_result(|| {
            // SAFETY: `vfs_get_tree` passes a context of `T` whose options `init_fs_context` has
            // set, as `fill_super` asks. Nothing else uses them meanwhile, as `uapi_mutex` is held,
            // or nothing else has the context.
            unsafe {
                T::prepare_get_tree(options::<T>(fc), &FsContext(fc, PhantomData))?;
                let result = to_result(bindings::get_tree_nodev(fc, Some(fill_super::<T>)));
                T::finish_get_tree(KBox::<T::Options>::borrow_mut((*fc).fs_private));
                result?;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `fc` is a context of `T` for the change of a mount.
    unsafe extern "C" fn reconfigure(fc: *mut bindings::fs_context) -> c_int {
        from_result(|| {
            // SAFETY: `reconfigure_super` passes a context of `T` whose `root` is one of a live
            // superblock, and holds `s_umount`.
            let (sb, options) = unsafe {
                let sb = (*(*fc).root).d_sb;
                // A remount by mount(2) clears this flag unless the caller passes it: keep it.
                (*fc).sb_flags |= ((*sb).s_flags & bindings::SB_I_VERSION) as c_uint;
                (SuperBlock::<T>::from_raw(sb), options::<T>(fc))
            };
            T::reconfigure(sb, &FsContext(fc, PhantomData), options)?;
            Ok(0)
        })
    }
}

/// Fills in a new superblock: the callback of `get_tree_nodev`.
///
/// # Safety
///
/// `sb` is a new superblock of `T`, `fc` its context with options of `T`.
unsafe extern "C" fn fill_super<T: Mountable>(
    sb: *mut bindings::super_block,
    fc: *mut bindings::fs_context,
) -> c_int {
    // SAFETY: `get_tree_nodev` passes the context that `get_tree` gave it, one of `T`.
    let options = unsafe { options::<T>(fc) };
    from_result(|| {
        let data = KBox::new(T::new_sb_info(options)?, GFP_KERNEL)?;
        // SAFETY: The superblock is new, so that nothing else accesses it.
        let sb = unsafe {
            (*sb).s_fs_info = data.into_foreign();
            (*sb).s_magic = T::MAGIC;
            (*sb).s_op = &Table::<T>::TABLE;
            NewSuperBlock::<T>::assume(SuperBlock::from_raw(sb))
        };
        let root = T::fill_super(&sb, options)?;
        // SAFETY: The reference goes to `d_make_root`, on failure too.
        let root = unsafe { bindings::d_make_root(ARef::into_raw(root).as_ptr().cast()) };
        if root.is_null() {
            T::put_super(&sb);
            return Err(ENOMEM);
        }
        // SAFETY: The superblock is new, so that nothing else accesses it.
        unsafe { (*sb.as_raw()).s_root = root };
        Ok(0)
    })
}

/// # Safety
///
/// `sb` is a superblock of `T` that is going away.
unsafe extern "C" fn kill_sb<T: Mountable>(sb: *mut bindings::super_block) {
    // SAFETY: `deactivate_locked_super` passes a superblock of `T` that has no users any more. If
    // `s_fs_info` is set, `fill_super` has set it.
    unsafe {
        if !(*sb).s_fs_info.is_null() {
            T::kill_sb(SuperBlock::from_raw(sb));
        }
        bindings::kill_anon_super(sb);
    }
    // SAFETY: `kill_anon_super` has evicted all inodes and called `put_super`. The memory of the
    // superblock outlives this call.
    drop(unsafe { take_data::<T>(sb) });
}
