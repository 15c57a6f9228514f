// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The privileges that a change of a program removes: set-user-id, set-group-id, capabilities; and
//! the right to make a set-group-id file in another group's directory.

use std::os::fd::AsRawFd;

use io_uring::{opcode, squeue};

use super::xattr;
use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Outcome};
use crate::filesystem::{Ext4, Feature, Reflinkfs, Tmpfs, Xfs};
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK64};
use crate::process::as_user;
use crate::ring::{fd, Ring};
use crate::sys::{
    check, chmod, chown, clone_file, clone_range, copy_once, dedupe, lstat, mkdir, path_call, pipe,
    truncate, write_all, File,
};

pub const CASES: &[Case] = &[
    case!(every_change_by_the_owner_takes_the_bits),
    case!(every_change_takes_the_capabilities),
    case!(every_way_of_cloning_takes_both).needs(&[Feature::Reflink]),
    case!(what_changes_nothing_takes_nothing).needs(&[Feature::Reflink]),
    case!(root_keeps_the_bits),
    case!(a_set_group_bit_without_execution_goes_with_who_is_not_in_the_group),
    case!(who_is_not_in_the_group_makes_no_set_group_program),
];

type Change<'a> = (&'static str, Box<dyn Fn(&File) -> Outcome + 'a>);

fn fallocate(file: &File, mode: i32, offset: u64, len: u64) -> Outcome {
    let (offset, len) = (offset as i64, len as i64);
    // SAFETY: plain call on an open descriptor.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) })
        .or_fail(format_args!("fallocate({mode:#x})"))?;
    Ok(())
}

/// Writes by io_uring, with flags of the request.
fn write_by_ring(file: &File, flags: squeue::Flags) -> Outcome {
    let request = opcode::Write::new(fd(file), b"x".as_ptr(), 1)
        .offset(0)
        .build();
    // SAFETY: the byte lives until the result is there.
    let result = unsafe { Ring::new()?.one(request.flags(flags))? };
    expect_eq(result, Ok(1), "bytes written by io_uring")
}

/// Writes with RWF_NOWAIT, and if it would have to wait, writes again without.
fn write_without_waiting(file: &File) -> Outcome {
    let vector = libc::iovec {
        iov_base: b"x".as_ptr().cast_mut().cast(),
        iov_len: 1,
    };
    // SAFETY: the vector describes a byte, which the kernel reads.
    let written =
        check(unsafe { libc::pwritev2(file.as_raw_fd(), &vector, 1, 0, libc::RWF_NOWAIT) as i64 });
    match written {
        Err(Errno(libc::EAGAIN)) => file.write_at(b"x", 0),
        written => expect_eq(written, Ok(1), "bytes written without waiting"),
    }
}

/// Returns all changes that the filesystem can make.
fn changes<'a>(t: &Test, source: &'a File) -> Vec<Change<'a>> {
    let mut changes = changes_anywhere(source);
    if t.filesystem != Tmpfs {
        changes.extend::<[Change; 2]>([
            (
                "zeroing a range",
                Box::new(|file| fallocate(file, libc::FALLOC_FL_ZERO_RANGE, 0, 1 << 20)),
            ),
            ("a write without waiting", Box::new(write_without_waiting)),
        ]);
    }
    if matches!(t.filesystem, Reflinkfs | Xfs) {
        changes.push((
            "unsharing",
            Box::new(|file| fallocate(file, libc::FALLOC_FL_UNSHARE_RANGE, 0, 1 << 20)),
        ));
    }
    if matches!(t.filesystem, Reflinkfs | Xfs | Ext4) {
        changes.extend::<[Change; 2]>([
            (
                "collapsing a range",
                Box::new(|file| fallocate(file, libc::FALLOC_FL_COLLAPSE_RANGE, 0, BLOCK64)),
            ),
            (
                "inserting a range",
                Box::new(|file| fallocate(file, libc::FALLOC_FL_INSERT_RANGE, BLOCK64, BLOCK64)),
            ),
        ]);
    }
    changes
}

/// Returns all changes that any filesystem can make.
fn changes_anywhere(source: &File) -> Vec<Change<'_>> {
    let keep = libc::FALLOC_FL_KEEP_SIZE;
    vec![
        ("a write", Box::new(|file| file.write_at(b"x", 0))),
        (
            "a write behind the end",
            Box::new(|file| file.write_at(b"x", 1 << 20)),
        ),
        ("ftruncate to less", Box::new(|file| file.truncate(10))),
        ("ftruncate to more", Box::new(|file| file.truncate(1 << 21))),
        (
            "truncate",
            Box::new(|file| truncate(&file.path, 7).or_fail("truncate")),
        ),
        (
            "open(O_TRUNC)",
            Box::new(|file| file.reopen(libc::O_WRONLY | libc::O_TRUNC).map(drop)),
        ),
        (
            "copy_file_range",
            Box::new(|file| {
                copy_once(source, 1, file, 2, 100)
                    .map(drop)
                    .or_fail("copy_file_range")
            }),
        ),
        (
            "splice",
            Box::new(|file| {
                let (output, input) = pipe()?;
                write_all(&input, b"data")?;
                // SAFETY: plain call; no offsets are given.
                check(unsafe {
                    let none = std::ptr::null_mut();
                    libc::splice(output.as_raw_fd(), none, file.as_raw_fd(), none, 4, 0) as i64
                })
                .or_fail("splice")?;
                Ok(())
            }),
        ),
        (
            "fallocate",
            Box::new(move |file| fallocate(file, 0, 0, 1 << 20)),
        ),
        (
            "fallocate of kept size",
            Box::new(move |file| fallocate(file, keep, 0, 1 << 20)),
        ),
        (
            "punching a hole",
            Box::new(move |file| fallocate(file, libc::FALLOC_FL_PUNCH_HOLE | keep, 0, BLOCK64)),
        ),
        (
            "a write by io_uring",
            Box::new(|file| write_by_ring(file, squeue::Flags::empty())),
        ),
        (
            "a write by a thread of io_uring",
            Box::new(|file| write_by_ring(file, squeue::Flags::ASYNC)),
        ),
    ]
}

fn mode_of(file: &File) -> Outcome<u32> {
    Ok(lstat(&file.path).or_fail("lstat")?.st_mode & 0o7777)
}

fn program(t: &Test) -> Outcome<File> {
    let file = t.create_with("program", &blocks(1, 8))?;
    chown(&file.path, 1000, 1000).or_fail("chown")?;
    chmod(&file.path, 0o6755).or_fail("chmod")?;
    Ok(file)
}

fn every_change_by_the_owner_takes_the_bits(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(2, 8))?;
    for (what, change) in changes(t, &source) {
        let file = program(t)?;
        as_user(1000, 1000, || change(&file.reopen(libc::O_RDWR)?))?;
        let mode = mode_of(&file)?;
        expect(
            mode == 0o755,
            format_args!("mode {mode:o} is 755 after {what}"),
        )?;
    }
    Ok(())
}

fn every_change_takes_the_capabilities(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(2, 8))?;
    for (what, change) in changes(t, &source) {
        let file = program(t)?;
        xattr::set(&file.path, xattr::CAPABILITY, &xattr::capability(), 0).or_fail("setxattr")?;
        change(&file)?;
        let seen = xattr::get(&file.path, xattr::CAPABILITY).map(drop);
        expect_errno(
            seen,
            libc::ENODATA,
            format_args!("the capability after {what}"),
        )?;
    }
    Ok(())
}

fn every_way_of_cloning_takes_both(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(2, 8))?;
    chmod(&source.path, 0o644).or_fail("chmod")?;
    let ways: Vec<Change> = vec![
        (
            "FICLONE",
            Box::new(|file| clone_file(&source, file).or_fail("FICLONE")),
        ),
        (
            "FICLONERANGE",
            Box::new(|file| {
                clone_range(&source, 0, BLOCK64, file, BLOCK64).or_fail("FICLONERANGE")
            }),
        ),
        (
            "copy_file_range of whole blocks",
            Box::new(|file| {
                copy_once(&source, 0, file, 0, 8192)
                    .map(drop)
                    .or_fail("copy")
            }),
        ),
    ];
    for (what, way) in ways {
        let file = program(t)?;
        xattr::set(&file.path, xattr::CAPABILITY, &xattr::capability(), 0).or_fail("setxattr")?;
        as_user(1000, 1000, || way(&file.reopen(libc::O_RDWR)?))?;
        let mode = mode_of(&file)?;
        expect(
            mode == 0o755,
            format_args!("mode {mode:o} is 755 after {what}"),
        )?;
        let seen = xattr::get(&file.path, xattr::CAPABILITY).map(drop);
        expect_errno(
            seen,
            libc::ENODATA,
            format_args!("the capability after {what}"),
        )?;
    }
    // The source keeps its privileges.
    let file = program(t)?;
    xattr::set(&file.path, xattr::CAPABILITY, &xattr::capability(), 0).or_fail("setxattr")?;
    let clone = crate::sys::new_clone(&file, t.path("clone"))?;
    expect_eq(mode_of(&file)?, 0o6755, "mode of a source")?;
    xattr::get(&file.path, xattr::CAPABILITY).or_fail("the capability of a source")?;
    expect_eq(mode_of(&clone)?, 0o644, "mode of the clone")
}

fn what_changes_nothing_takes_nothing(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(1, 8))?;
    let file = program(t)?;
    xattr::set(&file.path, xattr::CAPABILITY, &xattr::capability(), 0).or_fail("setxattr")?;
    as_user(1000, 1000, || {
        let own = file.reopen(libc::O_RDWR)?;
        own.read_at(0, 100)?;
        own.try_pwrite(b"", 0).or_fail("a write of nothing")?;
        copy_once(&source, 0, &own, 0, 0).or_fail("copy_file_range of nothing")?;
        own.sync()?;
        // The bytes stay, whichever blocks have them.
        dedupe(&source, 0, 2 * BLOCK64, &own, 0).or_fail("FIDEDUPERANGE")?;
        // The flag of a mapping does not count.
        Mapping::shared(&own, 4096)?.store(0, b"x");
        Ok(())
    })?;
    let mode = mode_of(&file)?;
    expect(mode == 0o6755, format_args!("mode {mode:o} is 6755"))?;
    xattr::get(&file.path, xattr::CAPABILITY)
        .or_fail("the capability")
        .map(drop)
}

fn root_keeps_the_bits(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(2, 8))?;
    for (what, change) in changes(t, &source) {
        let file = program(t)?;
        change(&file)?;
        let mode = mode_of(&file)?;
        // A truncation by path or descriptor removes them for root, too.
        expect(
            mode == 0o6755 || what.contains("runc") && mode == 0o755,
            format_args!("mode {mode:o} is 6755 after {what} by root"),
        )?;
    }
    Ok(())
}

fn a_set_group_bit_without_execution_goes_with_who_is_not_in_the_group(t: &Test) -> Outcome {
    let file = t.create("file")?;
    chown(&file.path, 1000, 2000).or_fail("chown")?;
    for (gid, left) in [(2000, 0o2644), (1000, 0o644)] {
        chmod(&file.path, 0o2644).or_fail("chmod")?;
        as_user(1000, gid, || file.reopen(libc::O_RDWR)?.write_at(b"x", 0))?;
        let mode = mode_of(&file)?;
        expect(
            mode == left,
            format_args!("mode {mode:o} is {left:o} after a write by 1000:{gid}"),
        )?;
    }
    Ok(())
}

fn who_is_not_in_the_group_makes_no_set_group_program(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    chown(&dir, 0, 3000).or_fail("chown")?;
    chmod(&dir, 0o2777).or_fail("chmod")?;
    for (gid, bit) in [(1000, 0), (3000, 0o2000)] {
        as_user(1000, gid, || {
            // SAFETY: plain call.
            unsafe { libc::umask(0) };
            let at = |name: &str| dir.join(format!("{name}-{gid}"));
            let flags = libc::O_RDWR | libc::O_CREAT;
            let file = File::open_mode(at("file"), flags, 0o2775).or_fail("open")?;
            let nameless = File::open_mode(&dir, libc::O_RDWR | libc::O_TMPFILE, 0o2775)
                .or_fail("open(O_TMPFILE)")?;
            path_call!(mkfifo(at("fifo"), 0o2775)).or_fail("mkfifo")?;
            let fifo = lstat(at("fifo")).or_fail("lstat")?;
            for (what, stat) in [
                ("file", file.stat()?),
                ("nameless file", nameless.stat()?),
                ("fifo", fifo),
            ] {
                let mode = stat.st_mode & 0o7777;
                expect(
                    mode == 0o775 | bit,
                    format_args!("a {what} made by 1000:{gid} has mode {mode:o}"),
                )?;
                expect_eq(stat.st_gid, 3000, format_args!("group of the {what}"))?;
            }
            mkdir(at("sub"), 0o755).or_fail("mkdir")?;
            let mode = lstat(at("sub")).or_fail("lstat")?.st_mode & 0o7777;
            expect(
                mode == 0o2755,
                format_args!("a directory has mode {mode:o}"),
            )
        })?;
    }
    Ok(())
}
