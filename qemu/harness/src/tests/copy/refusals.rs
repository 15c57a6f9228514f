// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Refusals of copy_file_range(2), their errno, and that they change nothing.

use std::os::fd::AsRawFd;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::Feature;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::process::{count_signals, limit_file_size, signals_seen};
use crate::sys::{
    copy_file_range, copy_file_range_raw, copy_loop, copy_once, pipe, write_all, File,
};

pub const CASES: &[Case] = &[
    case!(overlapping_ranges_of_one_file_are_einval),
    case!(any_flag_is_einval_on_this_kernel),
    case!(descriptors_that_do_not_fit_are_ebadf),
    case!(an_appending_destination_is_ebadf),
    case!(directories_are_eisdir),
    case!(pipes_sockets_and_devices_are_einval),
    case!(bad_pointers_are_efault),
    case!(offsets_that_overflow_are_refused),
    case!(another_filesystem_is_exdev_and_copies_nothing),
    case!(two_instances_never_copy_wrongly).needs(&[Feature::Instance]),
    case!(files_that_hide_their_size_are_never_called_copied),
    case!(the_size_limit_of_a_process_is_kept),
    case!(a_full_filesystem_gives_a_short_count_then_enospc).needs(&[Feature::Instance]),
];

fn overlapping_ranges_of_one_file_are_einval(t: &Test) -> Outcome {
    let data = blocks(15, 4);
    let file = t.create_with("file", &data)?;
    let again = file.reopen(libc::O_RDWR)?;
    for (off_in, off_out, len) in [
        (0, 0, BLOCK),
        (0, 1, 2),
        (1, 0, 2),
        (0, BLOCK, BLOCK + 1),
        (BLOCK, 0, 2 * BLOCK),
        (0, 0, 1),
        // The length counts only up to the end of the source.
        (3 * BLOCK, 3 * BLOCK + 10, 100 * BLOCK),
    ] {
        for other in [&file, &again] {
            let copied = copy_once(&file, off_in as u64, other, off_out as u64, len);
            let what = format!("{len} bytes from {off_in} to {off_out} of one file");
            expect_errno(copied, libc::EINVAL, what)?;
        }
    }
    file.expect_contents(&data, "after the refusals")?;
    let beyond = copy_once(&file, 3 * BLOCK64, &file, 4 * BLOCK64, 100 * BLOCK).or_fail("copy")?;
    expect_eq(
        beyond,
        BLOCK,
        "a request whose shortened range does not overlap",
    )
}

fn any_flag_is_einval_on_this_kernel(t: &Test) -> Outcome {
    // With copy_fr, 1, 2 and 4 are valid.
    let hooked = std::path::Path::new("/sys/module/copy_fr").exists();
    let source = t.create_with("source", &blocks(27, 1))?;
    let to = t.create("to")?;
    let all = [1, 2, 4, 3, 5, 6, 7, 8, 0x10, 1 << 31, u32::MAX];
    for flags in all
        .into_iter()
        .filter(|f| !hooked || ![1, 2, 4].contains(f))
    {
        let copied = copy_file_range(&source, None, &to, None, BLOCK, flags);
        expect_errno(copied, libc::EINVAL, format_args!("flags {flags:#x}"))?;
    }
    expect_eq(to.size()?, 0, "size of the destination")
}

fn descriptors_that_do_not_fit_are_ebadf(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(28, 1))?;
    let to = t.create("to")?;
    let null = std::ptr::null_mut();
    let (s, d) = (source.as_raw_fd(), to.as_raw_fd());
    for (what, fd_in, fd_out) in [("fd_in", -1, d), ("fd_out", s, -1), ("both", -1, 9999)] {
        let copied = copy_file_range_raw(fd_in, null, fd_out, null, BLOCK, 0);
        expect_errno(copied, libc::EBADF, format_args!("{what} not open"))?;
    }
    let write_only = source.reopen(libc::O_WRONLY)?;
    let copied = copy_once(&write_only, 0, &to, 0, BLOCK);
    expect_errno(copied, libc::EBADF, "fd_in open for writing only")?;
    let read_only = to.reopen(libc::O_RDONLY)?;
    let copied = copy_once(&source, 0, &read_only, 0, BLOCK);
    expect_errno(copied, libc::EBADF, "fd_out open for reading only")?;
    let path = source.reopen(libc::O_PATH)?;
    expect_errno(
        copy_once(&path, 0, &to, 0, BLOCK),
        libc::EBADF,
        "fd_in opened with O_PATH",
    )?;
    expect_errno(
        copy_once(&source, 0, &path, 0, BLOCK),
        libc::EBADF,
        "fd_out with O_PATH",
    )?;
    expect_eq(to.size()?, 0, "size of the destination")
}

fn an_appending_destination_is_ebadf(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(29, 1))?;
    t.create("to")?;
    let to = File::open(t.path("to"), libc::O_RDWR | libc::O_APPEND).or_fail("open")?;
    expect_errno(
        copy_once(&source, 0, &to, 0, BLOCK),
        libc::EBADF,
        "fd_out with O_APPEND",
    )?;
    let copied = copy_file_range(&source, None, &to, None, BLOCK, 0);
    expect_errno(copied, libc::EBADF, "fd_out with O_APPEND and NULL offsets")?;
    // The source may have O_APPEND.
    let plain = to.reopen(libc::O_RDWR)?;
    let source = source.reopen(libc::O_RDWR | libc::O_APPEND)?;
    expect_eq(
        copy_loop(&source, 0, &plain, 0, BLOCK)?,
        BLOCK,
        "from a source with O_APPEND",
    )
}

fn directories_are_eisdir(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(30, 1))?;
    let dir = File::open(t.mkdir("dir")?, libc::O_RDONLY).or_fail("open")?;
    expect_errno(
        copy_once(&dir, 0, &file, 0, 10),
        libc::EISDIR,
        "fd_in is a directory",
    )?;
    expect_errno(
        copy_once(&file, 0, &dir, 0, 10),
        libc::EISDIR,
        "fd_out is a directory",
    )?;
    expect_errno(
        copy_once(&file, 0, &dir, 0, 0),
        libc::EISDIR,
        "even for no bytes",
    )
}

fn pipes_sockets_and_devices_are_einval(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(31, 1))?;
    let null = std::ptr::null_mut();
    let try_both = |what: &str, input: i32, output: i32| -> Outcome {
        let fd = file.as_raw_fd();
        let copied = copy_file_range_raw(input, null, fd, null, 10, 0);
        expect_errno(copied, libc::EINVAL, format_args!("fd_in is a {what}"))?;
        let copied = copy_file_range_raw(fd, null, output, null, 10, 0);
        expect_errno(copied, libc::EINVAL, format_args!("fd_out is a {what}"))
    };
    let (reader, writer) = pipe()?;
    write_all(&writer, b"in the pipe")?;
    try_both("pipe", reader.as_raw_fd(), writer.as_raw_fd())?;
    let (a, b) = std::os::unix::net::UnixStream::pair().or_fail("socketpair")?;
    try_both("socket", a.as_raw_fd(), b.as_raw_fd())?;
    let zero = File::open("/dev/zero", libc::O_RDWR).or_fail("open /dev/zero")?;
    try_both("device", zero.as_raw_fd(), zero.as_raw_fd())?;
    file.expect_contents(&blocks(31, 1), "after the refusals")
}

fn bad_pointers_are_efault(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(32, 1))?;
    let to = t.create("to")?;
    let (s, d) = (source.as_raw_fd(), to.as_raw_fd());
    let bad = std::ptr::without_provenance_mut(8);
    let mut good = 0;
    let copied = copy_file_range_raw(s, bad, d, &mut good, BLOCK, 0);
    expect_errno(copied, libc::EFAULT, "a bad off_in")?;
    let copied = copy_file_range_raw(s, &mut good, d, bad, BLOCK, 0);
    expect_errno(copied, libc::EFAULT, "a bad off_out")?;
    expect_eq(to.size()?, 0, "size of the destination")
}

fn offsets_that_overflow_are_refused(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(33, 2))?;
    let to = t.create("to")?;
    let copied = copy_once(&source, 4096, &to, 0, usize::MAX);
    expect_errno(copied, libc::EOVERFLOW, "off_in + len wraps")?;
    let copied = copy_once(&source, 0, &to, 4096, usize::MAX);
    expect_errno(copied, libc::EOVERFLOW, "off_out + len wraps")?;
    let copied = copy_once(&source, -1i64 as u64, &to, 0, 10);
    expect_errno(copied, libc::EOVERFLOW, "off_in is -1")?;
    let copied = copy_once(&source, -4096i64 as u64, &to, 0, 10);
    expect_errno(copied, libc::EINVAL, "off_in is -4096")?;
    let copied = copy_once(&source, 0, &to, -4096i64 as u64, 10);
    expect_errno(copied, libc::EINVAL, "off_out is -4096")?;
    expect_eq(to.size()?, 0, "size of the destination")
}

fn another_filesystem_is_exdev_and_copies_nothing(t: &Test) -> Outcome {
    let here = t.create_with("here", &blocks(34, 2))?;
    let there = t.create_elsewhere("there", &blocks(35, 1))?;
    expect_errno(
        copy_once(&here, 0, &there, 0, BLOCK),
        libc::EXDEV,
        "to another filesystem",
    )?;
    expect_errno(
        copy_once(&there, 0, &here, 0, BLOCK),
        libc::EXDEV,
        "from another filesystem",
    )?;
    here.expect_contents(&blocks(34, 2), "the file here")?;
    there.expect_contents(&blocks(35, 1), "the file there")
}

fn two_instances_never_copy_wrongly(t: &Test) -> Outcome {
    let one = t.mount_at("one", &[("size", "1M")])?;
    let other = t.mount_at("other", &[("size", "1M")])?;
    let data = pattern(36, 3 * BLOCK + 5);
    let from = one.create_with("file", &data)?;
    let to = other.create("file")?;
    match copy_once(&from, 0, &to, 0, data.len()) {
        Ok(n) => {
            // A copy is right; a block shared between two instances would be a fault.
            to.expect_contents(&data[..n], "a copy to another instance")?;
            from.write_at(&vec![0; BLOCK], 0)?;
            to.expect_contents(&data[..n], "after the source changed")
        }
        refused => {
            expect_errno(refused, libc::EXDEV, "a copy to another instance")?;
            expect_eq(to.size()?, 0, "size of the destination")
        }
    }
}

fn files_that_hide_their_size_are_never_called_copied(t: &Test) -> Outcome {
    let to = t.create("to")?;
    let source = File::open("/proc/version", libc::O_RDONLY).or_fail("open /proc/version")?;
    expect_eq(source.size()?, 0, "size of /proc/version")?;
    match copy_once(&source, 0, &to, 0, BLOCK) {
        Ok(n) => expect_eq(n, 0, "bytes copied of /proc/version")?,
        refused => expect_errno(refused, libc::EXDEV, "a copy of /proc/version")?,
    }
    expect_eq(to.size()?, 0, "size of the destination")
}

fn the_size_limit_of_a_process_is_kept(t: &Test) -> Outcome {
    let data = blocks(37, 8);
    let source = t.create_with("source", &data)?;
    let to = t.create("to")?;
    limit_file_size(3 * BLOCK64 + 10)?;
    count_signals(libc::SIGXFSZ);
    let mut done = 0;
    while done < 3 * BLOCK + 10 {
        let n = copy_once(&source, done as u64, &to, done as u64, data.len() - done)
            .or_fail("a copy across the limit")?;
        expect(n > 0, "a copy below the limit copies something")?;
        done += n;
    }
    expect_eq(done, 3 * BLOCK + 10, "bytes copied up to the limit")?;
    expect_eq(
        signals_seen(),
        0,
        "signals after copies that were shortened",
    )?;
    let copied = copy_once(&source, 0, &to, done as u64, 10);
    expect_errno(copied, libc::EFBIG, "a copy at the limit")?;
    expect_eq(signals_seen(), 1, "SIGXFSZ after a copy at the limit")?;
    to.expect_contents(&data[..done], "the copy")
}

fn a_full_filesystem_gives_a_short_count_then_enospc(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let data = blocks(38, 16);
    let source = fs.create_with("source", &data)?;
    let to = fs.create("to")?;
    let filler = fs.fill(5)?;
    // Not congruent, so that every block must be copied.
    let copied = copy_once(&source, 1, &to, 0, 10 * BLOCK).or_fail("a copy with 5 blocks free")?;
    expect(
        copied > 0 && copied <= 5 * BLOCK,
        format_args!("a short count: {copied}"),
    )?;
    let mut done = copied;
    let last = loop {
        match copy_once(
            &source,
            1 + done as u64,
            &to,
            done as u64,
            10 * BLOCK - done,
        ) {
            Ok(n) if n > 0 => done += n,
            other => break other,
        }
    };
    expect_errno(last, libc::ENOSPC, "a copy with nothing free")?;
    expect_eq(done, 5 * BLOCK, "bytes copied until nothing was free")?;
    to.expect_contents(&data[1..1 + done], "the copied range")?;
    source.expect_contents(&data, "the source")?;
    drop(filler);
    crate::sys::unlink(fs.path("filler")).or_fail("unlink")?;
    let more = copy_loop(
        &source,
        1 + done as u64,
        &to,
        done as u64,
        10 * BLOCK - done,
    )?;
    to.expect_contents(&data[1..1 + done + more], "the copy once there is room")
}
