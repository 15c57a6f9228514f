// SPDX-License-Identifier: GPL-2.0

//! The version of the modules, that of CHANGELOG.md: `MODULE_VERSION`, which `module!` lacks.
//!
//! `modinfo` shows it, and `/sys/module/MODULE/version`.

/// The version.
pub(crate) const VERSION: &str = env!("REFLINKFS_VERSION");

const TAG: &str = concat!("version=", env!("REFLINKFS_VERSION"), "\0");

#[link_section = ".modinfo"]
#[used]
static MODINFO: [u8; TAG.len()] = match TAG.as_bytes().first_chunk() {
    Some(bytes) => *bytes,
    None => panic!(),
};
