// SPDX-License-Identifier: GPL-2.0

//! Kernels without what the hook needs.

use super::SystemCall;
use crate::compat::EOPNOTSUPP;
use core::marker::PhantomData;
use kernel::prelude::*;

/// Cannot be installed.
#[pin_data]
pub(crate) struct Hook<T: SystemCall> {
    _call: PhantomData<T>,
}

impl<T: SystemCall> Hook<T> {
    /// # Errors
    ///
    /// `EOPNOTSUPP`.
    pub(crate) fn install() -> impl PinInit<Self, Error> {
        pr_err!(
            "{}(2) cannot be hooked: this kernel lacks CONFIG_DYNAMIC_FTRACE_WITH_ARGS or \
             CONFIG_KPROBES\n",
            T::NAME
        );
        Err::<Self, Error>(EOPNOTSUPP)
    }
}
