// SPDX-License-Identifier: GPL-2.0

//! Mounting: `struct fs_context`, and its parameters.
//!
//! C headers: [`include/linux/fs_context.h`](srctree/include/linux/fs_context.h),
//! [`include/linux/fs_parser.h`](srctree/include/linux/fs_parser.h). Reference:
//! <https://docs.kernel.org/filesystems/mount_api.html>

use super::{
    FileSystem,
    Inode,
    NewSuperBlock,
    SuperBlock, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::null, //
};
use kernel::{
    prelude::*,
    str::{
        as_char_ptr_in_const_context,
        BStr,
        CString, //
    },
    sync::aref::ARef, //
};

/// A mount, or a change of one, in the making: `struct fs_context`.
pub struct FsContext<'a>(
    pub(super) *mut bindings::fs_context,
    pub(super) PhantomData<&'a ()>,
);

impl FsContext<'_> {
    /// Tells the caller what is wrong: in the log of the context (`fsconfig(2)`), and in the
    /// kernel's.
    pub fn error(&self, message: core::fmt::Arguments<'_>) {
        if let Ok(message) = CString::try_from_fmt(message) {
            // SAFETY: The context is valid, the message a C string that is copied.
            unsafe { bindings::reflinkfs_context_error(self.0, message.as_char_ptr()) };
        }
    }

    /// Tells the caller that a parameter's value is invalid. Returns `EINVAL`.
    pub fn bad_value(&self, parameter: &FsParameter<'_>) -> Error {
        let key = BStr::from_bytes(parameter.key());
        self.error(fmt!("Bad value for '{key}'"));
        EINVAL
    }

    /// Returns whether the user exists in the user namespace of the mount, `kuid_has_mapping`.
    pub fn has_uid(&self, uid: bindings::kuid_t) -> bool {
        // SAFETY: The context and so its user namespace are valid.
        unsafe { bindings::from_kuid((*self.0).user_ns, uid) != u32::MAX }
    }

    /// Returns whether the group exists in the user namespace of the mount, `kgid_has_mapping`.
    pub fn has_gid(&self, gid: bindings::kgid_t) -> bool {
        // SAFETY: The context and so its user namespace are valid.
        unsafe { bindings::from_kgid((*self.0).user_ns, gid) != u32::MAX }
    }

    /// Returns whether the mount is one of the initial user namespace.
    pub fn is_init_user_ns(&self) -> bool {
        // SAFETY: The context is valid; of the namespace only the address is taken.
        unsafe { core::ptr::eq((*self.0).user_ns, &raw const bindings::init_user_ns) }
    }

    /// Returns user and group that files of the calling process get, `current_fsuid_fsgid`.
    pub fn current_fsuid_fsgid(&self) -> (bindings::kuid_t, bindings::kgid_t) {
        // SAFETY: The task is the current one, whose credentials no other changes.
        unsafe {
            let cred = (*bindings::get_current()).cred;
            ((*cred).fsuid, (*cred).fsgid)
        }
    }
}

/// What a parameter is called, and what type its value has: `struct fs_parameter_spec`.
///
/// # Examples
///
/// ```
/// use crate::vfs::{FsContext, FsParameter, FsParameterSpec};
/// use kernel::prelude::*;
///
/// struct Options {
///     mode: u16,
///     quota: bool,
/// }
///
/// impl Options {
///     const MODE: u8 = 0;
///     const QUOTA: u8 = 1;
///
///     /// For `FsContextOperations::PARAMETERS`.
///     const PARAMETERS: &'static [FsParameterSpec] = &[
///         FsParameterSpec::u32oct(c"mode", Self::MODE),
///         FsParameterSpec::flag(c"quota", Self::QUOTA),
///         FsParameterSpec::END,
///     ];
///
///     /// For `FsContextOperations::parse_param`.
///     fn set(&mut self, context: &FsContext<'_>, parameter: &FsParameter<'_>) -> Result {
///         match parameter.opt() {
///             Self::MODE => {
///                 self.mode = u16::try_from(parameter.uint_32())
///                     .ok()
///                     .filter(|mode| mode & !0o7777 == 0)
///                     .ok_or_else(|| context.bad_value(parameter))?;
///             }
///             _ => self.quota = true,
///         }
///         Ok(())
///     }
/// }
/// # assert_eq!(Options::PARAMETERS.len(), 3);
/// # let _: fn(&mut Options, &FsContext<'_>, &FsParameter<'_>) -> Result = Options::set;
/// # let options = Options { mode: 0o755, quota: false };
/// # assert!(options.mode == 0o755 && !options.quota);
/// ```
#[repr(transparent)]
pub struct FsParameterSpec(bindings::fs_parameter_spec);

// SAFETY: Nothing changes it; the pointers are to constants.
unsafe impl Sync for FsParameterSpec {}

impl FsParameterSpec {
    /// Ends a table.
    pub const END: Self = Self(bindings::fs_parameter_spec {
        name: null(),
        type_: None,
        opt: 0,
        flags: 0,
        data: null(),
    });

    const fn new(
        name: &'static CStr,
        type_: bindings::fs_param_type,
        opt: u8,
        data: usize,
    ) -> Self {
        Self(bindings::fs_parameter_spec {
            name: as_char_ptr_in_const_context(name),
            type_,
            opt,
            flags: 0,
            data: data as *const c_void,
        })
    }

    /// Returns a parameter without a value, `fsparam_flag`. `opt` tells parameters apart.
    pub const fn flag(name: &'static CStr, opt: u8) -> Self {
        Self::new(name, None, opt, 0)
    }

    /// Returns a string that is not empty, `fsparam_string`.
    pub const fn string(name: &'static CStr, opt: u8) -> Self {
        Self::new(name, Some(bindings::fs_param_is_string), opt, 0)
    }

    /// Returns a path, of any of the types that [`Path::lookup`](super::Path::lookup) knows.
    pub const fn path(name: &'static CStr, opt: u8) -> Self {
        /// # Safety
        ///
        /// None: the arguments are not used.
        unsafe extern "C" fn is_path(
            _log: *mut bindings::p_log,
            _spec: *const bindings::fs_parameter_spec,
            _parameter: *mut bindings::fs_parameter,
            _result: *mut bindings::fs_parse_result,
        ) -> c_int {
            0
        }
        Self::new(name, Some(is_path), opt, 0)
    }

    /// Returns an octal number, `fsparam_u32oct`.
    pub const fn u32oct(name: &'static CStr, opt: u8) -> Self {
        Self::new(name, Some(bindings::fs_param_is_u32), opt, 8)
    }

    /// Returns a user id of the calling process, `fsparam_uid`.
    pub const fn uid(name: &'static CStr, opt: u8) -> Self {
        Self::new(name, Some(bindings::fs_param_is_uid), opt, 0)
    }

    /// Returns a group id of the calling process, `fsparam_gid`.
    pub const fn gid(name: &'static CStr, opt: u8) -> Self {
        Self::new(name, Some(bindings::fs_param_is_gid), opt, 0)
    }

    pub(super) const fn is_end(&self) -> bool {
        self.0.name.is_null()
    }
}

/// A parameter that was found in the table: `struct fs_parameter`, `struct fs_parse_result`.
pub struct FsParameter<'a> {
    pub(super) parameter: &'a bindings::fs_parameter,
    pub(super) result: &'a bindings::fs_parse_result,
    pub(super) opt: u8,
}

impl FsParameter<'_> {
    /// Returns which parameter it is: the number in its [`FsParameterSpec`].
    pub fn opt(&self) -> u8 {
        self.opt
    }

    /// Returns the name.
    pub fn key(&self) -> &[u8] {
        // SAFETY: A parameter has a name.
        unsafe { CStr::from_char_ptr(self.parameter.key) }.to_bytes()
    }

    /// Returns whether the value is a string without a character.
    pub fn is_empty_string(&self) -> bool {
        self.parameter.type_() == bindings::fs_value_type_fs_value_is_string
            && self.string().is_empty()
    }

    /// Returns the value as it was given. Empty where there is none.
    pub fn string(&self) -> &[u8] {
        if self.parameter.type_() != bindings::fs_value_type_fs_value_is_string {
            return &[];
        }
        // SAFETY: The value is a C string, as was just checked.
        unsafe { CStr::from_char_ptr(self.parameter.__bindgen_anon_1.string) }.to_bytes()
    }

    /// Returns the value of a [`FsParameterSpec::u32oct`].
    pub fn uint_32(&self) -> u32 {
        // SAFETY: Every bit pattern is a number.
        unsafe { *self.result.__bindgen_anon_1.uint_32.as_ref() }
    }

    /// Returns the value of a [`FsParameterSpec::uid`].
    pub fn uid(&self) -> bindings::kuid_t {
        // SAFETY: Every bit pattern is a number.
        unsafe { *self.result.__bindgen_anon_1.uid.as_ref() }
    }

    /// Returns the value of a [`FsParameterSpec::gid`].
    pub fn gid(&self) -> bindings::kgid_t {
        // SAFETY: Every bit pattern is a number.
        unsafe { *self.result.__bindgen_anon_1.gid.as_ref() }
    }
}

/// Mounting, and changing a mount.
pub trait FsContextOperations: FileSystem {
    /// The mount parameters, ending with [`FsParameterSpec::END`].
    const PARAMETERS: &'static [FsParameterSpec];

    /// The options of a mount, as its parameters set them.
    type Options: Send + Sync;

    /// Returns the options of a mount, or of the change of one, before any parameter.
    fn init_fs_context(context: &FsContext<'_>) -> Self::Options;

    /// Notes one parameter.
    ///
    /// # Errors
    ///
    /// Any; the context was told why, see [`FsContext::error`].
    fn parse_param(
        options: &mut Self::Options,
        context: &FsContext<'_>,
        parameter: &FsParameter<'_>,
    ) -> Result;

    /// Called before a superblock is made.
    ///
    /// # Errors
    ///
    /// Any; the context was told why.
    fn prepare_get_tree(_options: &Self::Options, _context: &FsContext<'_>) -> Result {
        Ok(())
    }

    /// Called when a superblock was made, or could not be.
    fn finish_get_tree(_options: &mut Self::Options) {}

    /// Creates what is kept with a new superblock.
    fn new_sb_info(options: &Self::Options) -> Result<Self::SbInfo>;

    /// Fills in a new superblock. Returns the inode of its root directory.
    fn fill_super(
        sb: &NewSuperBlock<'_, Self>,
        options: &Self::Options,
    ) -> Result<ARef<Inode<Self>>>;

    /// Changes the options of a superblock.
    fn reconfigure(
        sb: &SuperBlock<Self>,
        context: &FsContext<'_>,
        options: &Self::Options,
    ) -> Result;
}
