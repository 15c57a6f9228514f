// SPDX-License-Identifier: GPL-2.0

//! Users and groups: `kuid_t`, `kgid_t`.
//!
//! C header: [`include/linux/uidgid.h`](srctree/include/linux/uidgid.h).

use crate::bindings;

/// A user, in the kernel's own numbers.
pub type Kuid = bindings::kuid_t;

/// A group, in the kernel's own numbers.
pub type Kgid = bindings::kgid_t;
