// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Clones that are refused, and their errno.

use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{CLONES, CLONES_COUNTED};
use crate::pattern::{blocks, BLOCK64};
use crate::process::{count_signals, limit_file_size, signals_seen};
use crate::sys::{clone_file, clone_range, clone_range_raw, new_clone, pipe, File};

pub const CASES: &[Case] = &[
    case!(descriptors_that_do_not_fit_are_ebadf).needs(CLONES),
    case!(directories_are_eisdir).needs(CLONES),
    case!(other_files_cannot_be_cloned).needs(CLONES),
    case!(another_filesystem_is_exdev).needs(CLONES),
    case!(another_instance_is_exdev).needs(CLONES_COUNTED),
    case!(a_read_only_mount_cannot_be_cloned_to).needs(CLONES),
    case!(a_bad_pointer_is_efault).needs(CLONES),
    case!(offsets_that_overflow_are_refused).needs(CLONES),
    case!(the_size_limit_of_a_process_is_kept).needs(CLONES),
];

fn descriptors_that_do_not_fit_are_ebadf(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(38, 1))?;
    let to = t.create("to")?;
    expect_errno(
        clone_file(&-1, &to),
        libc::EBADF,
        "a source that is not open",
    )?;
    let write_only = source.reopen(libc::O_WRONLY)?;
    expect_errno(
        clone_file(&write_only, &to),
        libc::EBADF,
        "a source open for writing only",
    )?;
    let read_only = to.reopen(libc::O_RDONLY)?;
    expect_errno(
        clone_file(&source, &read_only),
        libc::EBADF,
        "a destination open for reading",
    )?;
    let append = to.reopen(libc::O_RDWR | libc::O_APPEND)?;
    expect_errno(
        clone_file(&source, &append),
        libc::EBADF,
        "a destination with O_APPEND",
    )?;
    let range = clone_range(&source, 0, BLOCK64, &append, 0);
    expect_errno(range, libc::EBADF, "a range to a destination with O_APPEND")?;
    expect_eq(to.size()?, 0, "size of the destination")
}

fn directories_are_eisdir(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(39, 1))?;
    let dir = File::open(t.mkdir("dir")?, libc::O_RDONLY).or_fail("open")?;
    expect_errno(
        clone_file(&dir, &file),
        libc::EISDIR,
        "a directory as source",
    )?;
    expect_errno(
        clone_file(&file, &dir),
        libc::EISDIR,
        "a directory as destination",
    )
}

fn other_files_cannot_be_cloned(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(40, 1))?;
    let (reader, _writer) = pipe()?;
    let from_pipe = clone_file(&reader, &file);
    crate::failure::expect_one_of(from_pipe, &[libc::EXDEV, libc::EINVAL], "from a pipe")?;
    let zero = File::open("/dev/zero", libc::O_RDWR).or_fail("open /dev/zero")?;
    let from_device = clone_file(&zero, &file);
    crate::failure::expect_one_of(from_device, &[libc::EXDEV, libc::EINVAL], "from a device")?;
    file.expect_contents(&blocks(40, 1), "after the refusals")
}

fn another_filesystem_is_exdev(t: &Test) -> Outcome {
    let here = t.create_with("here", &blocks(41, 1))?;
    let there = t.create_elsewhere("there", &blocks(42, 1))?;
    expect_errno(
        clone_file(&there, &here),
        libc::EXDEV,
        "from another filesystem",
    )?;
    expect_errno(
        clone_range(&there, 0, BLOCK64, &here, 0),
        libc::EXDEV,
        "a range of it",
    )?;
    expect_errno(
        clone_file(&here, &there),
        libc::EXDEV,
        "to another filesystem",
    )?;
    here.expect_contents(&blocks(41, 1), "after the refusals")
}

fn another_instance_is_exdev(t: &Test) -> Outcome {
    let one = t.mount_at("one", &[("size", "1M")])?;
    let other = t.mount_at("other", &[("size", "1M")])?;
    let from = one.create_with("file", &blocks(43, 1))?;
    let to = other.create("file")?;
    expect_errno(
        clone_file(&from, &to),
        libc::EXDEV,
        "FICLONE to another instance",
    )?;
    expect_eq(to.size()?, 0, "size of the destination")
}

fn a_read_only_mount_cannot_be_cloned_to(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(44, 1))?;
    t.create_with("to", b"kept")?;
    let view = t.read_only_view()?;
    let opened = File::open(view.join("to"), libc::O_RDWR);
    expect_errno(opened, libc::EROFS, "opening it for writing")?;
    let to = File::open(view.join("to"), libc::O_RDONLY).or_fail("open")?;
    expect_errno(
        clone_file(&source, &to),
        libc::EBADF,
        "a destination open for reading",
    )?;
    // It can be a source, within one filesystem.
    let from = File::open(view.join("source"), libc::O_RDONLY).or_fail("open")?;
    let clone = new_clone(&from, t.path("clone"))?;
    clone.expect_contents(&blocks(44, 1), "a clone of a read-only file")
}

fn a_bad_pointer_is_efault(t: &Test) -> Outcome {
    let to = t.create("to")?;
    expect_errno(
        clone_range_raw(&to, 8 as *const u8),
        libc::EFAULT,
        "FICLONERANGE",
    )
}

fn offsets_that_overflow_are_refused(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(45, 2))?;
    let to = t.create("to")?;
    let top = 1u64 << 63;
    for (from, len, at) in [
        (top, BLOCK64, 0),
        (0, BLOCK64, top),
        (0, top, 0),
        (top - BLOCK64, 2 * BLOCK64, 0),
        (0, 2 * BLOCK64, top - BLOCK64),
        (u64::MAX - 4095, BLOCK64, 0),
    ] {
        let cloned = clone_range(&source, from, len, &to, at);
        expect_errno(
            cloned,
            libc::EINVAL,
            format_args!("{len:#x} from {from:#x} to {at:#x}"),
        )?;
    }
    expect_eq(to.size()?, 0, "size of the destination")
}

fn the_size_limit_of_a_process_is_kept(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(46, 4))?;
    let to = t.create("to")?;
    limit_file_size(2 * BLOCK64)?;
    count_signals(libc::SIGXFSZ);
    let cloned = clone_file(&source, &to);
    expect_errno(
        cloned,
        libc::EINVAL,
        "a clone across the limit, which cannot be shortened",
    )?;
    let cloned = clone_range(&source, 0, BLOCK64, &to, 2 * BLOCK64);
    expect_errno(cloned, libc::EFBIG, "a clone at the limit")?;
    expect_eq(signals_seen(), 1, "SIGXFSZ after a clone at the limit")?;
    expect_eq(to.size()?, 0, "size of the destination")?;
    clone_range(&source, 0, 2 * BLOCK64, &to, 0).or_fail("a clone up to the limit")
}
