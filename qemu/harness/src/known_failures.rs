// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Tests that fail on reflinkfs, and why. They are listed as ignored, with the reason, until the
//! fault is fixed and the line removed. `--known-failures` runs them.

/// The beginning of a test's name, the reason.
const KNOWN_FAILURES: &[(&str, &str)] = &[];

/// Returns why a test is known to fail.
pub fn reason(name: &str) -> Option<&'static str> {
    let mut entries = KNOWN_FAILURES.iter();
    entries
        .find(|(start, _)| name.starts_with(start))
        .map(|(_, why)| *why)
}
