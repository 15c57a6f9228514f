// SPDX-License-Identifier: GPL-2.0

//! The hook: ftrace calls [`enter`] at the entry of the system call, which may change where ftrace
//! returns to.
//!
//! C headers: [`include/linux/ftrace.h`](srctree/include/linux/ftrace.h),
//! [`include/linux/kprobes.h`](srctree/include/linux/kprobes.h).
//!
//! # Unloading
//!
//! A call may sleep in here. While it may, [`replacement`] holds a reference to the module, so that
//! this cannot be removed. What runs before that is taken and after it was given back does not
//! sleep, and `Drop` waits for it with `synchronize_rcu_tasks`, after
//! `unregister_ftrace_function` has done the same for [`enter`]. (`rmmod --force` waits for
//! nothing.)

use super::{
    arch,
    parameter::{
        self,
        ACTIVE, //
    },
    SystemCall, //
};
use crate::{
    bindings,
    compat::EOPNOTSUPP, //
};
use core::marker::PhantomData;
use kernel::{
    error::to_result,
    prelude::*,
    str::CString,
    types::Opaque, //
};

/// Redirects the calls that `T` wants to `T`, until it is dropped.
#[pin_data(PinnedDrop)]
pub(crate) struct Hook<T: SystemCall> {
    #[pin]
    ops: Opaque<bindings::ftrace_ops>,
    _call: PhantomData<T>,
}

// SAFETY: Nothing can be done with a `Hook` but drop it, which any thread may do.
unsafe impl<T: SystemCall> Send for Hook<T> {}
// SAFETY: A `&Hook` gives access to nothing.
unsafe impl<T: SystemCall> Sync for Hook<T> {}

impl<T: SystemCall> Hook<T> {
    /// Installs the hook. The last step of a module's initialization: if a later one failed, a call
    /// that is running here would return to freed code.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` on an architecture that is not known; `EBUSY` where something else (a
    /// livepatch) redirects the system call already.
    pub(crate) fn install() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            ops <- Opaque::try_ffi_init(|ops: *mut bindings::ftrace_ops| {
                // SAFETY: `ops` has room for it.
                unsafe { ops.write(Self::ops()) };
                // SAFETY: It was just initialized, and stays where it is, as the field is pinned.
                unsafe { Self::register(ops) }
            }),
            _call: PhantomData,
        })
    }

    fn ops() -> bindings::ftrace_ops {
        bindings::ftrace_ops {
            func: Some(enter::<T>),
            // PERMANENT: is not switched off by `sysctl kernel.ftrace_enabled` of older kernels.
            flags: (bindings::FTRACE_OPS_FL_IPMODIFY
                | bindings::FTRACE_OPS_FL_RECURSION
                | bindings::FTRACE_OPS_FL_PERMANENT) as usize,
            ..pin_init::zeroed()
        }
    }

    /// # Safety
    ///
    /// `ops` was initialized, is not registered, and stays where it is until it is unregistered.
    unsafe fn register(ops: *mut bindings::ftrace_ops) -> Result {
        // SAFETY: The caller guarantees that `ops` is initialized, is not registered, and stays
        // where it is.
        let result = unsafe { Self::filter(ops) }.and_then(|()| {
            // SAFETY: The caller guarantees that `ops` is initialized, is not registered, and stays
            // where it is until it is unregistered.
            to_result(unsafe { bindings::register_ftrace_function(ops) }).inspect_err(|&err| {
                if err == EBUSY {
                    pr_err!(
                        "{}(2) is redirected by something else already (/sys/kernel/livepatch and \
                         /sys/kernel/tracing/enabled_functions tell by what)\n",
                        T::NAME
                    );
                } else {
                    pr_err!("ftrace refuses the hook: {err:?}\n");
                }
            })
        });
        if result.is_err() {
            // SAFETY: It is not registered.
            unsafe { bindings::ftrace_free_filter(ops) };
        } else {
            ACTIVE.store(true, parameter::ORDER);
        }
        result
    }

    /// Restricts the hook to the entries of the system call. By address, as ftrace takes seconds to
    /// look up a name.
    ///
    /// # Safety
    ///
    /// As [`Self::register`].
    unsafe fn filter(ops: *mut bindings::ftrace_ops) -> Result {
        let Some((native, others)) = arch::ENTRIES.split_first() else {
            pr_err!("the system calls of this architecture are not supported\n");
            return Err(EOPNOTSUPP);
        };
        let add = |prefix: &str| -> Result {
            let symbol = CString::try_from_fmt(fmt!("{prefix}{}", T::NAME))?;
            let address = address_of(&symbol)?;
            // SAFETY: The caller guarantees that `ops` is initialized, and is not registered.
            to_result(unsafe { bindings::ftrace_set_filter_ip(ops, address, 0, 0) })
        };
        add(native)
            .inspect_err(|err| pr_err!("{native}{} cannot be hooked: {err:?}\n", T::NAME))?;
        for prefix in others {
            match add(prefix) {
                // A kernel without 32-bit callers.
                Err(err) if err == ENOENT => (),
                result => result?,
            }
        }
        Ok(())
    }
}

#[pinned_drop]
impl<T: SystemCall> PinnedDrop for Hook<T> {
    fn drop(self: Pin<&mut Self>) {
        ACTIVE.store(false, parameter::ORDER);
        // SAFETY: `install` registered it. After `unregister_ftrace_function` no task is in
        // `enter`, and after the grace period none in `replacement`. It fails only where ftrace has
        // found itself broken and stopped for good.
        unsafe {
            if let Err(err) = to_result(bindings::unregister_ftrace_function(self.ops.get())) {
                pr_emerg!("ftrace keeps the hook ({err:?}): reboot\n");
            }
            bindings::ftrace_free_filter(self.ops.get());
            bindings::synchronize_rcu_tasks();
        }
    }
}

/// Returns the address of a function of the kernel that is not exported. A kprobe finds it out,
/// and is never armed.
fn address_of(symbol: &CStr) -> Result<usize> {
    // SAFETY: A kprobe of zeros is one without name, address and handlers.
    let mut probe: bindings::kprobe = unsafe { core::mem::zeroed() };
    probe.symbol_name = symbol.as_char_ptr();
    probe.flags = bindings::KPROBE_FLAG_DISABLED;
    // SAFETY: The probe is in place until it is on no list any more; so is its name.
    unsafe {
        to_result(bindings::register_kprobe(&mut probe))?;
        bindings::unregister_kprobe(&mut probe);
    }
    Ok(probe.addr as usize)
}

/// Runs at the entry of the system call, before its first instruction.
///
/// # Safety
///
/// Called by ftrace at the entry of a function whose one argument is the `pt_regs` of the current
/// task's system call.
unsafe extern "C" fn enter<T: SystemCall>(
    _ip: usize,
    _parent_ip: usize,
    _ops: *mut bindings::ftrace_ops,
    fregs: *mut bindings::ftrace_regs,
) {
    // SAFETY: ftrace calls this at the entry of a system call, whose one argument is valid
    // registers.
    let regs =
        unsafe { &*(bindings::ftrace_regs_get_argument(fregs, 0) as *const bindings::pt_regs) };
    // While the module is loaded or unloaded, the call is the kernel's.
    if ACTIVE.load(parameter::ORDER) && T::wants(&arch::arguments(regs)) {
        let to = replacement::<T> as unsafe extern "C" fn(*const bindings::pt_regs) -> isize;
        // SAFETY: `fregs` is valid. The replacement takes and returns what the entry does.
        unsafe { bindings::ftrace_regs_set_instruction_pointer(fregs, to as usize) };
    }
}

/// Runs in place of the system call.
///
/// # Safety
///
/// `regs` are those of the current task's system call.
unsafe extern "C" fn replacement<T: SystemCall>(regs: *const bindings::pt_regs) -> isize {
    // Taken here and not by `enter`, as another user of ftrace may still redirect the task.
    // SAFETY: `Drop` waits for this function, so that the module is still loaded; it may be going.
    if !unsafe { bindings::try_module_get(this_module()) } {
        // As the kernel answers without the module.
        return EINVAL.to_errno() as isize;
    }
    // SAFETY: `enter` sends the task here in place of the system call, whose one argument is the
    // registers that it was made with; they are on the task's stack.
    let result = T::call(&arch::arguments(unsafe { &*regs }));
    // SAFETY: Taken above.
    unsafe { bindings::module_put(this_module()) };
    result.map_or_else(|err| err.to_errno() as isize, |value| value as isize)
}

fn this_module() -> *mut bindings::module {
    (&raw const bindings::__this_module).cast_mut()
}
