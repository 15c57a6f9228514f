// SPDX-License-Identifier: GPL-2.0

//! Puts `version=` into `.modinfo`, as `MODULE_VERSION` does in C; the version is that of
//! CHANGELOG.md.

/// The version.
pub(crate) const VERSION: &str = env!("REFLINKFS_VERSION");

const TAG: &str = concat!("version=", env!("REFLINKFS_VERSION"), "\0");

#[link_section = ".modinfo"]
#[used(compiler)]
// The compiler evaluates it: nothing is left that could panic.
static MODINFO: [u8; TAG.len()] = match TAG.as_bytes().first_chunk() {
    Some(bytes) => *bytes,
    None => panic!(),
};
