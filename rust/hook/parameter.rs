// SPDX-License-Identifier: GPL-2.0

//! `/sys/module/copy_fr/parameters/active`: whether the hook is in place.
//!
//! `module!` has no parameters that can be read from sysfs.

use crate::bindings;
use kernel::{
    module_param::KernelParam,
    prelude::*,
    sync::atomic::{
        ordering,
        AtomicFlag, //
    },
};

/// Whether the hook is in place.
pub(super) static ACTIVE: AtomicFlag = AtomicFlag::new(false);

/// No ordering: a call that sees the old value is handled as it was before the change.
pub(super) const ORDER: ordering::Relaxed = ordering::Relaxed;

static OPS: bindings::kernel_param_ops = bindings::kernel_param_ops {
    set: Some(set),
    get: Some(get),
    flags: 0,
    free: None,
};

#[link_section = "__param"]
#[used(compiler)]
static PARAMETER: KernelParam = KernelParam::new(bindings::kernel_param {
    name: kernel::str::as_char_ptr_in_const_context(c"active"),
    mod_: (&raw const bindings::__this_module).cast_mut(),
    ops: &OPS,
    perm: 0o444,
    level: -1,
    flags: 0,
    __bindgen_anon_1: bindings::kernel_param__bindgen_ty_1 {
        arg: core::ptr::null_mut(),
    },
});

/// # Safety
///
/// None: does not look at its arguments.
unsafe extern "C" fn set(_value: *const c_char, _: *const bindings::kernel_param) -> c_int {
    pr_err!("active can only be read\n");
    EPERM.to_errno()
}

/// # Safety
///
/// `buffer` has room for a page.
unsafe extern "C" fn get(buffer: *mut c_char, _: *const bindings::kernel_param) -> c_int {
    let text = if ACTIVE.load(ORDER) { b"Y\n" } else { b"N\n" };
    // SAFETY: sysfs passes a buffer of a page.
    unsafe { core::ptr::copy_nonoverlapping(text.as_ptr().cast(), buffer, text.len()) };
    text.len() as c_int
}
