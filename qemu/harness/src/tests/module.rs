// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The kernel module of the filesystem.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::Feature;
use crate::sys::check;

pub const CASES: &[Case] = &[
    case!(a_module_in_use_cannot_be_removed).needs(&[Feature::Reflinkfs]),
    case!(the_version_is_that_of_the_changelog).needs(&[Feature::Reflinkfs]),
    case!(the_module_is_loaded_once).needs(&[Feature::Reflinkfs]),
];

fn remove() -> crate::failure::Sys<usize> {
    // SAFETY: the name is NUL-terminated.
    check(unsafe {
        libc::syscall(
            libc::SYS_delete_module,
            c"reflinkfs".as_ptr(),
            libc::O_NONBLOCK,
        )
    })
}

fn a_module_in_use_cannot_be_removed(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = fs.create_with("file", b"data")?;
    expect_errno(
        remove(),
        libc::EWOULDBLOCK,
        "removing the module while it is mounted",
    )?;
    let map = crate::mapping::Mapping::shared(&file, 4096)?;
    drop(file);
    drop(fs);
    // Unmounted lazily: only the mapping keeps the filesystem, and thus the module.
    expect_errno(
        remove(),
        libc::EWOULDBLOCK,
        "removing it while a file is mapped",
    )?;
    map.store(0, b"DATA");
    expect(map.load(0, 4) == b"DATA", "the mapping still works")
}

fn the_module_is_loaded_once(_: &Test) -> Outcome {
    let modules = std::fs::read_to_string("/proc/modules").or_fail("read /proc/modules")?;
    let count = modules
        .lines()
        .filter(|line| line.starts_with("reflinkfs "))
        .count();
    expect(
        count == 1,
        format_args!("reflinkfs is in /proc/modules {count} times"),
    )
}

fn the_version_is_that_of_the_changelog(_: &Test) -> Outcome {
    let changelog = include_str!("../../../../CHANGELOG.md");
    let newest = changelog
        .lines()
        .find_map(|line| line.strip_prefix("## ")?.split(' ').next());
    let version = std::fs::read_to_string("/sys/module/reflinkfs/version").or_fail("read")?;
    expect_eq(Some(version.trim_end()), newest, "the version")
}
