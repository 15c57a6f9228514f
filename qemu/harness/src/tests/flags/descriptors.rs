// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Invalid descriptors, pointers and flags, and the errno if two are invalid.

use std::os::fd::AsRawFd;

use libc::{EBADF, EFAULT, EINVAL, EISDIR};

use super::{copy, flag_name, range, COPY, FLAGS};
use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, expect_errno, Context, Outcome, Sys};
use crate::pattern::{blocks, BLOCK};
use crate::sys::{check, copy_file_range_raw, pipe, write_all, File};

pub const CASES: &[Case] = &[
    case!(other_flags_are_einval),
    case!(only_the_lower_half_of_flags_and_descriptors_counts),
    case!(descriptors_that_are_not_open_are_ebadf),
    case!(descriptors_open_for_something_else_are_ebadf),
    case!(an_appending_destination_is_ebadf),
    case!(directories_are_eisdir),
    case!(pipes_sockets_and_devices_are_einval),
    case!(bad_pointers_are_efault),
    case!(offsets_at_odd_addresses_work),
];

const NULL: *mut i64 = std::ptr::null_mut();
const BAD: *mut i64 = std::ptr::without_provenance_mut(8);

/// Flags that the kernel itself refuses.
pub const WRONG_FLAGS: [u32; 9] = [3, 5, 6, 7, 8, 0x10, 9, 1 << 31, u32::MAX];

fn other_flags_are_einval(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(1, 1))?;
    let to = t.create("to")?;
    let dir = File::open(&t.dir, libc::O_RDONLY).or_fail("open")?;
    for flags in WRONG_FLAGS {
        let result = copy(&source, &to, range(0, 0, BLOCK), flags);
        expect_errno(result, EINVAL, flag_name(flags))?;
        let result = copy(&source, &to, range(0, 0, 0), flags);
        expect_errno(
            result,
            EINVAL,
            format_args!("{} of nothing", flag_name(flags)),
        )?;
        // The kernel checks descriptors and pointers first, the files later.
        let (s, d) = (source.as_raw_fd(), to.as_raw_fd());
        let result = copy_file_range_raw(-1, NULL, d, NULL, BLOCK, flags);
        expect_errno(
            result,
            EBADF,
            format_args!("{} and fd_in -1", flag_name(flags)),
        )?;
        let result = copy_file_range_raw(s, BAD, d, NULL, BLOCK, flags);
        expect_errno(
            result,
            EFAULT,
            format_args!("{}, a bad off_in", flag_name(flags)),
        )?;
        let result = copy_file_range_raw(dir.as_raw_fd(), NULL, d, NULL, BLOCK, flags);
        expect_errno(
            result,
            EINVAL,
            format_args!("{} of a directory", flag_name(flags)),
        )?;
    }
    expect_eq(to.size()?, 0, "size of the destination")
}

/// Makes the call with all six registers as given.
fn with_registers(fd_in: i64, fd_out: i64, len: usize, flags: u64) -> Sys<usize> {
    // SAFETY: NULL offsets; the kernel checks the rest.
    check(unsafe {
        libc::syscall(
            libc::SYS_copy_file_range,
            fd_in,
            NULL,
            fd_out,
            NULL,
            len,
            flags,
        )
    })
}

fn only_the_lower_half_of_flags_and_descriptors_counts(t: &Test) -> Outcome {
    const GARBAGE: i64 = 0x5a5a << 32;
    let source = t.create_with("source", &blocks(2, 2))?;
    let to = t.create("to")?;
    let (s, d) = (i64::from(source.as_raw_fd()), i64::from(to.as_raw_fd()));
    let copied = with_registers(
        s | GARBAGE,
        d | GARBAGE,
        BLOCK,
        COPY as u64 | GARBAGE as u64,
    );
    expect_eq(
        copied.or_fail("garbage in the upper halves")?,
        BLOCK,
        "bytes copied",
    )?;
    let copied = with_registers(s, d, BLOCK, GARBAGE as u64);
    expect_eq(
        copied.or_fail("no flag, garbage in the upper half")?,
        BLOCK,
        "bytes copied",
    )?;
    let refused = with_registers(s, d, BLOCK, 3 | GARBAGE as u64);
    expect_errno(refused, EINVAL, "flags = 3 and garbage")?;
    to.expect_contents(&blocks(2, 2), "the destination")
}

fn descriptors_that_are_not_open_are_ebadf(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(3, 1))?;
    let to = t.create("to")?;
    let (s, d) = (source.as_raw_fd(), to.as_raw_fd());
    for flags in FLAGS {
        for (what, fd_in, fd_out) in [("fd_in", -1, d), ("fd_out", s, -1), ("both", 9998, 9999)] {
            for len in [BLOCK, 0] {
                let result = copy_file_range_raw(fd_in, NULL, fd_out, NULL, len, flags);
                let what = format!("{}: {what} not open, {len} bytes", flag_name(flags));
                expect_errno(result, EBADF, what)?;
            }
            // Before the pointers are read.
            let result = copy_file_range_raw(fd_in, BAD, fd_out, BAD, BLOCK, flags);
            expect_errno(result, EBADF, format_args!("{what} not open, bad pointers"))?;
        }
    }
    Ok(())
}

fn descriptors_open_for_something_else_are_ebadf(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(4, 1))?;
    let to = t.create_with("to", &blocks(4, 1))?;
    let write_only = source.reopen(libc::O_WRONLY)?;
    let read_only = to.reopen(libc::O_RDONLY)?;
    let path = source.reopen(libc::O_PATH)?;
    for flags in FLAGS {
        for (what, from, to) in [
            ("fd_in for writing only", &write_only, &to),
            ("fd_out for reading only", &source, &read_only),
            ("fd_in opened with O_PATH", &path, &to),
            ("fd_out opened with O_PATH", &source, &path),
        ] {
            for len in [BLOCK, 0] {
                let what = format!("{}: {what}, {len} bytes", flag_name(flags));
                expect_errno(copy(from, to, range(0, 0, len), flags), EBADF, what)?;
            }
        }
    }
    to.expect_contents(&blocks(4, 1), "the destination")
}

fn an_appending_destination_is_ebadf(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(5, 1))?;
    let plain = t.create_with("to", &blocks(5, 1))?;
    let to = plain.reopen(libc::O_RDWR | libc::O_APPEND)?;
    for flags in FLAGS {
        let result = copy(&source, &to, range(0, 0, BLOCK), flags);
        expect_errno(
            result,
            EBADF,
            format_args!("{} with O_APPEND", flag_name(flags)),
        )?;
    }
    // The source may have O_APPEND.
    let source = source.reopen(libc::O_RDWR | libc::O_APPEND)?;
    super::copy_all(&source, &plain, range(0, 0, BLOCK), COPY)
}

fn directories_are_eisdir(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(6, 1))?;
    let dir = File::open(t.mkdir("dir")?, libc::O_RDONLY).or_fail("open")?;
    for flags in FLAGS {
        for (from, to) in [(&dir, &file), (&file, &dir), (&dir, &dir)] {
            for len in [BLOCK, 0] {
                let result = copy(from, to, range(0, 0, len), flags);
                expect_errno(
                    result,
                    EISDIR,
                    format_args!("{}, {len} bytes", flag_name(flags)),
                )?;
            }
        }
    }
    Ok(())
}

fn pipes_sockets_and_devices_are_einval(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(7, 1))?;
    let (reader, writer) = pipe()?;
    write_all(&writer, b"in the pipe")?;
    let (a, b) = std::os::unix::net::UnixStream::pair().or_fail("socketpair")?;
    let zero = File::open("/dev/zero", libc::O_RDWR).or_fail("open /dev/zero")?;
    let fd = file.as_raw_fd();
    for flags in FLAGS {
        for (what, input, output) in [
            ("pipe", reader.as_raw_fd(), writer.as_raw_fd()),
            ("socket", a.as_raw_fd(), b.as_raw_fd()),
            ("device", zero.as_raw_fd(), zero.as_raw_fd()),
        ] {
            let result = copy_file_range_raw(input, NULL, fd, NULL, 10, flags);
            expect_errno(
                result,
                EINVAL,
                format_args!("{}: from a {what}", flag_name(flags)),
            )?;
            let result = copy_file_range_raw(fd, NULL, output, NULL, 10, flags);
            expect_errno(
                result,
                EINVAL,
                format_args!("{}: to a {what}", flag_name(flags)),
            )?;
        }
    }
    file.expect_contents(&blocks(7, 1), "after the refusals")
}

fn bad_pointers_are_efault(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(8, 1))?;
    let to = t.create("to")?;
    let (s, d) = (source.as_raw_fd(), to.as_raw_fd());
    let mut good = 0;
    for flags in FLAGS {
        for len in [BLOCK, 0] {
            let result = copy_file_range_raw(s, BAD, d, &mut good, len, flags);
            expect_errno(
                result,
                EFAULT,
                format_args!("{}: a bad off_in", flag_name(flags)),
            )?;
            let result = copy_file_range_raw(s, &mut good, d, BAD, len, flags);
            expect_errno(
                result,
                EFAULT,
                format_args!("{}: a bad off_out", flag_name(flags)),
            )?;
        }
        // Before the files are checked.
        let result = copy_file_range_raw(d, BAD, s, BAD, usize::MAX, flags);
        expect_errno(result, EFAULT, "bad pointers and a length that overflows")?;
    }
    expect_eq(
        (good, to.size()?),
        (0, 0),
        "the good pointer, size of the destination",
    )
}

fn offsets_at_odd_addresses_work(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(9, 2))?;
    let to = t.create("to")?;
    let mut bytes = [0u8; 24];
    bytes[1..9].copy_from_slice(&100i64.to_ne_bytes());
    let first = bytes.as_mut_ptr();
    // Both pointers may be the same: it is read twice and written twice.
    let pointer = first.wrapping_add(1).cast::<i64>();
    let result = copy_file_range_raw(
        source.as_raw_fd(),
        pointer,
        to.as_raw_fd(),
        pointer,
        50,
        COPY,
    );
    expect_eq(result.or_fail("the copy")?, 50, "bytes copied")?;
    expect_eq(
        &bytes[1..9],
        &150i64.to_ne_bytes()[..],
        "the offset behind both pointers",
    )?;
    expect_eq(to.read_at(100, 60)?, &blocks(9, 2)[100..150], "the copy")
}
