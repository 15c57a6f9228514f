// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Tests that fail on reflinkfs, and why: shown as ignored with the reason, until what is wrong is
//! mended and its line goes. `--known-failures` runs them.

/// The beginning of a test's name, the reason.
const KNOWN_FAILURES: &[(&str, &str)] = &[
    (
        "bombs::flag_dedup",
        "compares everything under locks, and cannot be killed",
    ),
    ("bombs::fideduperange", "compares up to 1 GiB under locks"),
    ("bombs::allocate", ROOM),
    ("bombs::zero", ROOM),
    ("bombs::unshare", ROOM),
    (
        "bombs::copy_a_byte_later",
        "passes all of a hole in one call, and nobody can freeze the filesystem meanwhile",
    ),
    ("bombs::copy_a_block_later", BUILDS),
    ("bombs::ficlonerange_a_block_later", BUILDS),
    ("bombs::flag_reflink_a_block_later", BUILDS),
    ("bombs::collapse", BUILDS),
    ("bombs::insert", BUILDS),
];

const ROOM: &str = "passes block after block, with the file locked";
const BUILDS: &str = "makes all the nodes that it needs with both files locked";

/// Why a test is known to fail.
pub fn reason(name: &str) -> Option<&'static str> {
    let mut entries = KNOWN_FAILURES.iter();
    entries
        .find(|(start, _)| name.starts_with(start))
        .map(|(_, why)| *why)
}
