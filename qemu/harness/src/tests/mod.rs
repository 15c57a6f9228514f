// SPDX-License-Identifier: GPL-2.0 OR MIT
//! All tests, one file for each concern.

use crate::case::Case;

macro_rules! modules {
    ($($module:ident),* $(,)?) => {
        $(mod $module;)*

        /// Every test, under the name of its concern.
        pub const ALL: &[(&str, &[Case])] = &[$((stringify!($module), $module::CASES)),*];
    };
}

modules! {
    names,
    files,
    copy,
    clone,
    dedupe,
    fiemap,
    mmap,
    readdir,
    attributes,
    splice,
    futex,
    mount_options,
    space,
    exec,
    advice,
    races,
    isolation,
    ends,
    large,
    accounting,
    failures,
    module,
}
