// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Requests through io_uring(7), of each kind for files, many at once, and clones meanwhile.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::{opcode, squeue, types};

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{CLONES, INSTANCE};
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, Random, BLOCK, BLOCK64};
use crate::process::Child;
use crate::ring::{fd, Ring, DEPTH};
use crate::sys::{c_path, exists, lstat, new_clone, pipe, sleep_ms, File};
use crate::wait::eventually;

pub const CASES: &[Case] = &[
    case!(bytes_are_written_and_read_by_every_request),
    case!(linked_requests_come_one_after_the_other),
    case!(names_are_made_and_removed_by_requests),
    case!(room_and_attributes_are_changed_by_requests),
    case!(bytes_are_spliced_by_requests),
    case!(a_mapping_of_the_same_file_is_a_buffer),
    case!(many_writes_under_way_all_arrive),
    case!(clones_taken_while_writes_are_under_way_stay_as_they_are).needs(CLONES),
    case!(reads_under_way_see_blocks_of_before_or_after),
    case!(a_process_that_ends_with_requests_under_way_leaves_nothing).needs(INSTANCE),
];

fn write_at(file: &File, data: &[u8], offset: u64) -> squeue::Entry {
    opcode::Write::new(fd(file), data.as_ptr(), data.len() as u32)
        .offset(offset)
        .build()
}

fn read_at(file: &File, data: &mut [u8], offset: u64) -> squeue::Entry {
    opcode::Read::new(fd(file), data.as_mut_ptr(), data.len() as u32)
        .offset(offset)
        .build()
}

/// Makes a request that must return `expected`.
#[track_caller]
pub(super) fn expect_one(
    ring: &mut Ring,
    request: squeue::Entry,
    expected: usize,
    what: &str,
) -> Outcome {
    // SAFETY: callers hand in requests whose buffers live across the call, which waits.
    let seen = unsafe { ring.one(request)? }.or_fail(what)?;
    expect_eq(seen, expected, what)
}

fn bytes_are_written_and_read_by_every_request(t: &Test) -> Outcome {
    let mut ring = Ring::new()?;
    let mut model = blocks(1, 20);
    let file = t.create("file")?;
    expect_one(&mut ring, write_at(&file, &model, 0), model.len(), "WRITE")?;

    let mut parts = [pattern(2, 5000), pattern(3, 100)];
    let mut vectors = parts.each_mut().map(|part| libc::iovec {
        iov_base: part.as_mut_ptr().cast(),
        iov_len: part.len(),
    });
    let writev = opcode::Writev::new(fd(&file), vectors.as_ptr(), 2)
        .offset(777)
        .build();
    expect_one(&mut ring, writev, 5100, "WRITEV")?;
    model[777..5777].copy_from_slice(&parts[0]);
    model[5777..5877].copy_from_slice(&parts[1]);

    let mut fixed = pattern(4, 3 * BLOCK);
    let registered = libc::iovec {
        iov_base: fixed.as_mut_ptr().cast(),
        iov_len: fixed.len(),
    };
    // SAFETY: the buffer lives as long as the ring uses it.
    unsafe { ring.0.submitter().register_buffers(&[registered]) }.or_fail("registering")?;
    let write = opcode::WriteFixed::new(fd(&file), fixed.as_ptr(), fixed.len() as u32, 0);
    let write = write.offset(10 * BLOCK64).build();
    expect_one(&mut ring, write, fixed.len(), "WRITE_FIXED")?;
    model[10 * BLOCK..13 * BLOCK].copy_from_slice(&fixed);
    file.expect_contents(&model, "after three kinds of writes")?;

    let read = opcode::ReadFixed::new(fd(&file), fixed.as_mut_ptr(), fixed.len() as u32, 0);
    expect_one(
        &mut ring,
        read.offset(100).build(),
        fixed.len(),
        "READ_FIXED",
    )?;
    expect_bytes(
        &fixed,
        &model[100..100 + fixed.len()],
        "what READ_FIXED read",
    )?;
    let readv = opcode::Readv::new(fd(&file), vectors.as_mut_ptr(), 2)
        .offset(3)
        .build();
    expect_one(&mut ring, readv, 5100, "READV")?;
    expect_bytes(&parts[0], &model[3..5003], "what READV read")?;
    expect_bytes(&parts[1], &model[5003..5103], "what READV read")?;
    // Behind the end it reads nothing; across the end, less.
    let mut some = vec![0; 2 * BLOCK];
    let end = model.len() as u64;
    expect_one(
        &mut ring,
        read_at(&file, &mut some, end),
        0,
        "READ at the end",
    )?;
    let across = read_at(&file, &mut some, end - 100);
    expect_one(&mut ring, across, 100, "READ across the end")?;
    expect_bytes(&some[..100], &model[model.len() - 100..], "the bytes read")?;
    // The file position, and a registered file.
    file.seek(5, libc::SEEK_SET).or_fail("lseek")?;
    expect_one(
        &mut ring,
        read_at(&file, &mut some[..10], u64::MAX),
        10,
        "READ at the position",
    )?;
    expect_eq(file.position()?, 15, "position")?;
    expect_bytes(&some[..10], &model[5..15], "the bytes read")?;
    ring.0
        .submitter()
        .register_files(&[file.as_raw_fd()])
        .or_fail("registering a file")?;
    let read = opcode::Read::new(types::Fixed(0), some.as_mut_ptr(), 100)
        .offset(50)
        .build();
    expect_one(&mut ring, read, 100, "READ of a registered file")?;
    expect_bytes(&some[..100], &model[50..150], "the bytes read")
}

fn linked_requests_come_one_after_the_other(t: &Test) -> Outcome {
    let mut ring = Ring::new()?;
    let file = t.create("file")?;
    for round in 0..t.rounds(50) {
        let data = pattern(round as u8, 2 * BLOCK + 1);
        let mut seen = vec![0; data.len()];
        let sync = opcode::Fsync::new(fd(&file)).build();
        let chain = [
            write_at(&file, &data, 0).flags(squeue::Flags::IO_LINK),
            sync.flags(squeue::Flags::IO_LINK),
            read_at(&file, &mut seen, 0),
        ];
        // SAFETY: the buffers live until the results are there.
        let results = unsafe { ring.run(&chain)? };
        expect_eq(
            results,
            vec![Ok(data.len()), Ok(0), Ok(data.len())],
            "WRITE, FSYNC, READ",
        )?;
        expect_bytes(&seen, &data, "the bytes read after the write")?;
    }
    Ok(())
}

fn names_are_made_and_removed_by_requests(t: &Test) -> Outcome {
    let mut ring = Ring::new()?;
    let at = types::Fd(libc::AT_FDCWD);
    let path = |name: &str| c_path(&t.path(name));
    let (file, renamed, link) = (path("file"), path("renamed"), path("link"));
    let (dir, symlink) = (path("dir"), path("symlink"));

    let open = opcode::OpenAt::new(at, file.as_ptr())
        .flags(libc::O_RDWR | libc::O_CREAT | libc::O_EXCL)
        .mode(0o640)
        .build();
    // SAFETY: the path lives until the result is there.
    let opened = unsafe { ring.one(open.clone())? }.or_fail("OPENAT")?;
    // SAFETY: the kernel just gave us the descriptor.
    let opened = unsafe { OwnedFd::from_raw_fd(opened as i32) };
    // SAFETY: as above.
    let again = unsafe { ring.one(open)? };
    expect_errno(again, libc::EEXIST, "OPENAT with O_EXCL")?;

    // SAFETY: a statx of zeros is a valid value.
    let mut seen: libc::statx = unsafe { std::mem::zeroed() };
    let into = (&raw mut seen).cast();
    let statx = opcode::Statx::new(at, file.as_ptr(), into).mask(libc::STATX_BASIC_STATS);
    expect_one(&mut ring, statx.build(), 0, "STATX")?;
    let stat = lstat(t.path("file")).or_fail("lstat")?;
    expect_eq(
        (seen.stx_ino, u32::from(seen.stx_mode)),
        (stat.st_ino, stat.st_mode),
        "what STATX says",
    )?;
    let rename = opcode::RenameAt::new(at, file.as_ptr(), at, renamed.as_ptr()).build();
    expect_one(&mut ring, rename, 0, "RENAMEAT")?;
    let make = opcode::LinkAt::new(at, renamed.as_ptr(), at, link.as_ptr()).build();
    expect_one(&mut ring, make.clone(), 0, "LINKAT")?;
    // SAFETY: the paths live until the result is there.
    expect_errno(unsafe { ring.one(make)? }, libc::EEXIST, "LINKAT again")?;
    expect_eq(lstat(t.path("link")).or_fail("lstat")?.st_nlink, 2, "links")?;
    let make = opcode::SymlinkAt::new(at, file.as_ptr(), symlink.as_ptr()).build();
    expect_one(&mut ring, make, 0, "SYMLINKAT")?;
    let make = opcode::MkDirAt::new(at, dir.as_ptr()).mode(0o700).build();
    expect_one(&mut ring, make, 0, "MKDIRAT")?;
    for (name, flags) in [
        (&renamed, 0),
        (&link, 0),
        (&symlink, 0),
        (&dir, libc::AT_REMOVEDIR),
    ] {
        let remove = opcode::UnlinkAt::new(at, name.as_ptr())
            .flags(flags)
            .build();
        expect_one(&mut ring, remove.clone(), 0, "UNLINKAT")?;
        // SAFETY: the path lives until the result is there.
        expect_errno(unsafe { ring.one(remove)? }, libc::ENOENT, "UNLINKAT again")?;
    }
    for name in ["file", "renamed", "link", "symlink", "dir"] {
        expect(!exists(t.path(name)), format_args!("{name} is gone"))?;
    }
    let close = opcode::Close::new(types::Fd(std::os::fd::IntoRawFd::into_raw_fd(opened))).build();
    expect_one(&mut ring, close, 0, "CLOSE")
}

fn room_and_attributes_are_changed_by_requests(t: &Test) -> Outcome {
    let mut ring = Ring::new()?;
    let mut model = blocks(1, 10);
    let file = t.create_with("file", &model)?;
    let allocate = opcode::Fallocate::new(fd(&file), 20 * BLOCK64).build();
    expect_one(&mut ring, allocate, 0, "FALLOCATE")?;
    model.resize(20 * BLOCK, 0);
    let punch = opcode::Fallocate::new(fd(&file), 2 * BLOCK64)
        .offset(3 * BLOCK64)
        .mode(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE)
        .build();
    expect_one(&mut ring, punch, 0, "FALLOCATE of a hole")?;
    model[3 * BLOCK..5 * BLOCK].fill(0);
    expect_one(
        &mut ring,
        opcode::Ftruncate::new(fd(&file), 15 * BLOCK64 + 7).build(),
        0,
        "FTRUNCATE",
    )?;
    model.truncate(15 * BLOCK + 7);
    file.expect_contents(&model, "after FALLOCATE and FTRUNCATE")?;
    let advise = opcode::Fadvise::new(fd(&file), 0, libc::POSIX_FADV_WILLNEED).build();
    expect_one(&mut ring, advise, 0, "FADVISE")?;
    let (name, value) = (c"user.ring", b"value");
    let set = opcode::FSetXattr::new(fd(&file), name.as_ptr(), value.as_ptr().cast(), 5).build();
    expect_one(&mut ring, set, 0, "FSETXATTR")?;
    let mut seen = [0u8; 10];
    let get = opcode::FGetXattr::new(fd(&file), name.as_ptr(), seen.as_mut_ptr().cast(), 10);
    expect_one(&mut ring, get.build(), 5, "FGETXATTR")?;
    expect_eq(&seen[..5], value, "the attribute")
}

fn bytes_are_spliced_by_requests(t: &Test) -> Outcome {
    let mut ring = Ring::new()?;
    let data = pattern(1, 3 * BLOCK + 5);
    let from = t.create_with("from", &data)?;
    let to = t.create("to")?;
    let (output, input) = pipe()?;
    let len = data.len() as u32;
    let splice = opcode::Splice::new(fd(&from), 0, fd(&input), -1, len).build();
    expect_one(&mut ring, splice, data.len(), "SPLICE to a pipe")?;
    // The pipe has the file's old contents.
    let splice = opcode::Splice::new(fd(&output), -1, fd(&to), 10, len).build();
    expect_one(&mut ring, splice, data.len(), "SPLICE to a file")?;
    let expected = [&[0; 10][..], &data[..]].concat();
    to.expect_contents(&expected, "the spliced bytes")
}

fn a_mapping_of_the_same_file_is_a_buffer(t: &Test) -> Outcome {
    let mut ring = Ring::new()?;
    let mut model = blocks(1, 8);
    let file = t.create_with("file", &model)?;
    let map = Mapping::shared(&file, model.len())?;
    let (half, len) = (model.len() / 2, (model.len() / 2) as u32);
    // No page is mapped yet: each fault comes while the file is being read or written.
    let read = opcode::Read::new(fd(&file), map.at(half), len)
        .offset(0)
        .build();
    expect_one(&mut ring, read, half, "READ into a mapping of the file")?;
    model.copy_within(..half, half);
    file.expect_contents(&model, "after it")?;
    let map = Mapping::shared(&file, model.len())?;
    let (skip, shorter) = (100, half - 100);
    let write = opcode::Write::new(fd(&file), map.at(skip), shorter as u32);
    let write = write.offset(half as u64 + 1).build();
    expect_one(
        &mut ring,
        write,
        shorter,
        "WRITE from a mapping of the file",
    )?;
    model.copy_within(skip..half, half + 1);
    file.expect_contents(&model, "after it")
}

/// Returns blocks that identify their round.
fn round_blocks(round: u8, count: usize) -> Vec<u8> {
    vec![round; count * BLOCK]
}

fn many_writes_under_way_all_arrive(t: &Test) -> Outcome {
    let mut ring = Ring::new()?;
    let mut random = Random::new(t.settings.seed);
    let file = t.create("file")?;
    let mut model = vec![0u8; 200 * BLOCK];
    file.truncate(model.len() as u64)?;
    for round in 0..t.rounds(40) {
        // In disjoint ranges that share some blocks.
        let stretch = model.len() / DEPTH;
        let writes: Vec<(usize, Vec<u8>)> = (0..DEPTH)
            .map(|i| {
                let skip = random.below(stretch / 2);
                let len = 1 + random.below(stretch - skip - 1);
                (i * stretch + skip, pattern((round * 7 + i) as u8, len))
            })
            .collect();
        let requests: Vec<_> = writes
            .iter()
            .map(|(offset, data)| {
                // Some in the kernel's own threads.
                let flags = [squeue::Flags::empty(), squeue::Flags::ASYNC][offset % 2];
                write_at(&file, data, *offset as u64).flags(flags)
            })
            .collect();
        // SAFETY: the buffers live until the results are there.
        let results = unsafe { ring.run(&requests)? };
        for ((offset, data), result) in writes.iter().zip(results) {
            expect_eq(result, Ok(data.len()), "WRITE")?;
            model[*offset..offset + data.len()].copy_from_slice(data);
        }
        file.expect_contents(&model, "after all have arrived")?;
    }
    Ok(())
}

fn clones_taken_while_writes_are_under_way_stay_as_they_are(t: &Test) -> Outcome {
    let mut ring = Ring::new()?;
    let file = t.create_with("file", &round_blocks(1, DEPTH))?;
    for round in 2..2 + t.rounds(40) as u8 {
        let block = round_blocks(round, 1);
        let requests: Vec<_> = (0..DEPTH as u64)
            .map(|i| write_at(&file, &block, i * BLOCK64).flags(squeue::Flags::ASYNC))
            .collect();
        // SAFETY: `block` lives until the results are there.
        unsafe { ring.submit(&requests)? };
        let clone = new_clone(&file, t.path("clone"))?;
        let first = clone.contents()?;
        for result in ring.results(DEPTH)? {
            expect_eq(result, Ok(BLOCK), "WRITE")?;
        }
        for (i, seen) in first.chunks(BLOCK).enumerate() {
            expect(
                seen == block || seen == round_blocks(round - 1, 1),
                format_args!("block {i} of the clone is wholly of before or after"),
            )?;
        }
        clone.expect_contents(&first, "the clone, when all writes have arrived")?;
        file.expect_contents(&round_blocks(round, DEPTH), "the file")?;
    }
    Ok(())
}

fn reads_under_way_see_blocks_of_before_or_after(t: &Test) -> Outcome {
    let mut ring = Ring::new()?;
    let file = t.create_with("file", &round_blocks(1, DEPTH))?;
    for round in 2..2 + t.rounds(40) as u8 {
        let mut buffers: Vec<Vec<u8>> = vec![vec![0; BLOCK]; DEPTH];
        let requests: Vec<_> = buffers
            .iter_mut()
            .enumerate()
            .map(|(i, buffer)| {
                read_at(&file, buffer, i as u64 * BLOCK64).flags(squeue::Flags::ASYNC)
            })
            .collect();
        // SAFETY: the buffers live, and are left alone, until the results are there.
        unsafe { ring.submit(&requests)? };
        for i in 0..DEPTH as u64 {
            file.write_at(&round_blocks(round, 1), i * BLOCK64)?;
        }
        for result in ring.results(DEPTH)? {
            expect_eq(result, Ok(BLOCK), "READ")?;
        }
        for (i, seen) in buffers.iter().enumerate() {
            // A read may see a partial write, but only bytes of the two rounds.
            expect(
                seen.iter().all(|&byte| byte == round || byte == round - 1),
                format_args!("block {i} is that of before or after"),
            )?;
        }
    }
    Ok(())
}

fn a_process_that_ends_with_requests_under_way_leaves_nothing(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64M")])?;
    let before = fs.used()?;
    for round in 0..t.rounds(5) {
        let file = fs.create_with("file", &blocks(1, 256))?;
        let child = Child::spawn(|| {
            let mut ring = Ring::new()?;
            let data = pattern(2, 64 * BLOCK);
            let requests: Vec<_> = (0..DEPTH as u64)
                .map(|i| write_at(&file, &data, i * 4 * BLOCK64 + 1).flags(squeue::Flags::ASYNC))
                .collect();
            // SAFETY: the buffer lives until the process ends, and its memory with the requests.
            unsafe { ring.submit(&requests)? };
            if round % 2 == 0 {
                // SAFETY: ends the process at once, as a crash would.
                unsafe { libc::_exit(0) };
            }
            sleep_ms(1000);
            Ok(())
        })?;
        if round % 2 == 1 {
            sleep_ms(round as u64);
            child.kill(libc::SIGKILL);
        }
        child.end()?;
        file.write_at(b"usable", 0)?;
        drop(file);
        crate::sys::unlink(fs.path("file")).or_fail("unlink")?;
    }
    // The kernel tears a ring down after the end of its process.
    eventually(
        format_args!("no more blocks are used than the {before} before"),
        || Ok(fs.used()? == before),
    )
}
