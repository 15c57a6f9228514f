// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Memory that turns bad, simulated by `madvise(MADV_HWPOISON)`: its bytes are lost, which is an
//! error for each access to them, and nothing else is. The machine loses each of these pages.

use std::os::fd::AsRawFd;

use crate::case::{case, Case, Test};
use crate::failure::{
    expect, expect_bytes, expect_eq, expect_errno, Context, Errno, Failure, Outcome,
};
use crate::filesystem::{Feature, Filesystem};
use crate::mapping::{Mapping, READ, WRITE};
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::process::{expect_killed, Child, End};
use crate::sys::{check, clone_file, copy_once, dedupe, new_clone, pipe, Deduped, File};

pub const CASES: &[Case] = &[
    of_memory(case!(reading_lost_bytes_is_an_error)),
    of_memory(case!(writing_to_a_lost_block_is_an_error)),
    of_memory(case!(mappings_of_a_lost_block_are_sigbus)),
    of_memory(case!(lost_bytes_go_nowhere)),
    of_memory(case!(a_lost_block_can_be_cut_off)),
    of_memory(case!(clones_share_what_is_lost)).needs(CLONES_LOST),
    of_memory(case!(lost_bytes_equal_no_others)).needs(CLONES_LOST),
    of_memory(case!(a_lost_block_in_use_fails_a_clone)).needs(CLONES_LOST),
    of_memory(case!(a_filesystem_with_lost_blocks_is_unmounted))
        .needs(&[Feature::MemoryErrors, Feature::Instance]),
];

const CLONES_LOST: &[Feature] = &[Feature::MemoryErrors, Feature::Reflink];

/// Skips disk filesystems, which read lost bytes from the disk again.
const fn of_memory(case: Case) -> Case {
    case.needs(&[Feature::MemoryErrors])
        .except(Filesystem::Xfs, "reads the block again")
        .except(Filesystem::Btrfs, "reads the block again")
}

/// Lets the kernel mark the memory of a block of `file` as bad.
fn lose(file: &File, index: usize) -> Outcome {
    let end = Child::spawn(|| {
        let offset = (index * BLOCK) as u64;
        let map = Mapping::try_new(file, offset, BLOCK, READ | WRITE, libc::MAP_SHARED);
        let map = map.or_fail("mmap")?;
        map.load_byte(0);
        match map.advise(libc::MADV_HWPOISON) {
            // The kernel has marked the page, and reports that it cannot do more about it.
            Ok(()) | Err(Errno(libc::EBUSY)) => Ok(()),
            Err(error) => Err(error).or_fail("MADV_HWPOISON"),
        }
    })?
    .end()?;
    // Processes that map the page may be killed.
    match end {
        End::Exited(0) | End::Killed(libc::SIGBUS) => Ok(()),
        other => Err(Failure(format!("MADV_HWPOISON: {other:?}"))),
    }
}

/// Creates a file of five blocks and loses the third; returns it and its contents.
fn subject(t: &Test, name: &str) -> Outcome<(File, Vec<u8>)> {
    let data = blocks(1, 5);
    let file = t.create_with(name, &data)?;
    lose(&file, 2)?;
    Ok((file, data))
}

/// Expects `file` to have `data`, except the third block, which is lost.
fn expect_rest(file: &File, data: &[u8], what: &str) -> Outcome {
    let mut byte = [0; 1];
    expect_errno(
        file.try_pread(&mut byte, 3 * BLOCK64 - 1),
        libc::EIO,
        format_args!("{what}: a byte of the lost block"),
    )?;
    let mut seen = vec![0; data.len()];
    let n = file.try_pread(&mut seen, 0).or_fail(what)?;
    expect_eq(
        n,
        2 * BLOCK,
        format_args!("{what}: a read of the whole file"),
    )?;
    expect_bytes(&seen[..n], &data[..n], what)?;
    let rest = file.read_at(3 * BLOCK64, data.len() - 3 * BLOCK)?;
    expect_bytes(&rest, &data[3 * BLOCK..], what)
}

fn reading_lost_bytes_is_an_error(t: &Test) -> Outcome {
    let (file, data) = subject(t, "file")?;
    expect_rest(&file, &data, "the file")?;
    let mut bytes = vec![0; BLOCK];
    let seen = file.try_pread(&mut bytes, 2 * BLOCK64 - 10);
    expect_eq(seen, Ok(10), "bytes read up to the lost block")
}

fn writing_to_a_lost_block_is_an_error(t: &Test) -> Outcome {
    let (file, mut data) = subject(t, "file")?;
    for (len, offset) in [
        (1, 2 * BLOCK + 5),
        (BLOCK, 2 * BLOCK),
        (2 * BLOCK, 2 * BLOCK),
    ] {
        expect_errno(
            file.try_pwrite(&pattern(2, len), offset as u64),
            libc::EIO,
            format_args!("{len} bytes to the lost block"),
        )?;
    }
    let written = file.try_pwrite(&pattern(2, 2 * BLOCK), BLOCK64);
    expect_eq(written, Ok(BLOCK), "bytes written up to the lost block")?;
    data[BLOCK..2 * BLOCK].copy_from_slice(&pattern(2, BLOCK));
    expect_rest(&file, &data, "the file")
}

fn mappings_of_a_lost_block_are_sigbus(t: &Test) -> Outcome {
    let (file, mut data) = subject(t, "file")?;
    for (flags, name) in [
        (libc::MAP_SHARED, "a shared mapping"),
        (libc::MAP_PRIVATE, "a private mapping"),
    ] {
        let map = Mapping::try_new(&file, 0, 5 * BLOCK, READ | WRITE, flags).or_fail(name)?;
        // Fault-around must not map it.
        for page in [0, 1, 3, 4] {
            expect_eq(
                map.load_byte(page * BLOCK),
                data[page * BLOCK],
                format_args!("{name}, page {page}"),
            )?;
        }
        expect_killed(libc::SIGBUS, &format!("a load through {name}"), || {
            map.load_byte(2 * BLOCK);
        })?;
        expect_killed(libc::SIGBUS, &format!("a store through {name}"), || {
            map.store(2 * BLOCK, b"x");
        })?;
        expect_errno(
            map.kernel_can_read(2 * BLOCK)?,
            libc::EFAULT,
            format_args!("a write from {name}"),
        )?;
        for page in [0, 1, 3, 4] {
            map.store(page * BLOCK, b"stored");
            if flags == libc::MAP_SHARED {
                data[page * BLOCK..][..6].copy_from_slice(b"stored");
            }
        }
        expect_rest(&file, &data, &format!("the file, stored to through {name}"))?;
    }
    Ok(())
}

fn lost_bytes_go_nowhere(t: &Test) -> Outcome {
    let (file, data) = subject(t, "file")?;
    let to = t.create("to")?;
    let copied = copy_once(&file, 2 * BLOCK64 + 7, &to, 3, BLOCK);
    expect_errno(copied, libc::EIO, "a copy of lost bytes")?;
    expect_eq(to.size()?, 0, "the size of the copy")?;
    let copied = copy_once(&file, 9, &to, 3, 5 * BLOCK - 9);
    let copied = copied.or_fail("a copy up to the lost block")?;
    expect(
        (1..=2 * BLOCK - 9).contains(&copied),
        format_args!("{copied} bytes were copied up to the lost block"),
    )?;
    expect_bytes(&to.read_at(3, copied)?, &data[9..9 + copied], "the copy")?;

    let (_output, input) = pipe()?;
    let mut offset = 2 * BLOCK as i64;
    // SAFETY: the offset is valid.
    let spliced = check(unsafe {
        libc::splice(
            file.as_raw_fd(),
            &mut offset,
            input.as_raw_fd(),
            std::ptr::null_mut(),
            BLOCK,
            0,
        )
    } as i64);
    expect_errno(spliced, libc::EIO, "splice")
}

fn a_lost_block_can_be_cut_off(t: &Test) -> Outcome {
    let (file, data) = subject(t, "cut")?;
    file.truncate(2 * BLOCK64)?;
    file.truncate(5 * BLOCK64)?;
    let mut expected = data[..2 * BLOCK].to_vec();
    expected.resize(5 * BLOCK, 0);
    file.expect_contents(&expected, "cut off and grown")?;

    let (file, mut data) = subject(t, "punched")?;
    // SAFETY: plain call.
    check(unsafe {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        libc::fallocate(file.as_raw_fd(), mode, 2 * BLOCK as i64, BLOCK as i64)
    })
    .or_fail("fallocate")?;
    data[2 * BLOCK..3 * BLOCK].fill(0);
    file.expect_contents(&data, "with a hole")?;

    // The new end is in the block.
    let (file, data) = subject(t, "middle")?;
    file.truncate(2 * BLOCK64 + 100)?;
    file.truncate(2 * BLOCK64)?;
    file.truncate(3 * BLOCK64)?;
    let mut expected = data[..2 * BLOCK].to_vec();
    expected.resize(3 * BLOCK, 0);
    file.expect_contents(&expected, "cut off in two steps")
}

fn clones_share_what_is_lost(t: &Test) -> Outcome {
    let (file, mut data) = subject(t, "file")?;
    let clone = new_clone(&file, t.path("clone"))?;
    expect_rest(&file, &data, "the source")?;
    expect_rest(&clone, &data, "the clone")?;
    expect_errno(
        clone.try_pwrite(b"part", 2 * BLOCK64 + 1),
        libc::EIO,
        "a part of the lost block",
    )?;
    // Now the whole block, which need not be read.
    clone.write_at(&pattern(3, BLOCK), 2 * BLOCK64)?;
    expect_rest(&file, &data, "the source, the clone written to")?;
    let lost = data.clone();
    data[2 * BLOCK..3 * BLOCK].copy_from_slice(&pattern(3, BLOCK));
    clone.expect_contents(&data, "the clone, whole again")?;
    // And the end in the middle of a shared one.
    let clone = new_clone(&file, t.path("short"))?;
    clone.truncate(2 * BLOCK64 + 7)?;
    clone.truncate(2 * BLOCK64)?;
    clone.expect_contents(&lost[..2 * BLOCK], "a short clone")?;
    expect_rest(&file, &lost, "the source of a short clone")
}

fn lost_bytes_equal_no_others(t: &Test) -> Outcome {
    let (file, data) = subject(t, "file")?;
    let other = t.create_with("other", &data)?;
    for (from, to) in [(&file, &other), (&other, &file)] {
        let deduped = dedupe(from, 0, 5 * BLOCK64, to, 0);
        expect_eq(
            deduped,
            Ok(Deduped::Failed(Errno(libc::EIO))),
            "a dedupe of lost bytes",
        )?;
    }
    other.expect_contents(&data, "the other")?;
    expect_rest(&file, &data, "the file")
}

fn a_lost_block_in_use_fails_a_clone(t: &Test) -> Outcome {
    let data = blocks(1, 5);
    let file = t.create_with("file", &data)?;
    let map = Mapping::shared(&file, 5 * BLOCK)?;
    map.store(2 * BLOCK, &data[2 * BLOCK..2 * BLOCK + 1]);
    let (output, input) = pipe()?;
    let part = libc::iovec {
        iov_base: map.at(2 * BLOCK).cast(),
        iov_len: 1,
    };
    // SAFETY: one valid segment of the mapping.
    check(unsafe { libc::vmsplice(input.as_raw_fd(), &part, 1, 0) } as i64).or_fail("vmsplice")?;
    drop(map);
    lose(&file, 2)?;
    let clone = t.create("clone")?;
    // It would have to be copied.
    expect_errno(clone_file(&file, &clone), libc::EIO, "FICLONE")?;
    expect_rest(&file, &data, "the file")?;
    drop((output, input));
    clone_file(&file, &clone).or_fail("FICLONE, without other users")?;
    expect_rest(&clone, &data, "the clone")
}

fn a_filesystem_with_lost_blocks_is_unmounted(t: &Test) -> Outcome {
    let instance = t.mount(&[])?;
    let file = instance.create_with("file", &blocks(1, 5))?;
    let map = Mapping::shared(&file, 5 * BLOCK)?;
    map.store(0, b"stored");
    lose(&file, 0)?;
    lose(&file, 3)?;
    drop(map);
    drop(file);
    instance.unmount()
}
