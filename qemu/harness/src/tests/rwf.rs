// SPDX-License-Identifier: GPL-2.0 OR MIT
//! preadv2(2) and pwritev2(2) with their flags, and files opened with O_SYNC and the like.

use std::os::fd::AsRawFd;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, expect_errno, Context, Errno, Outcome, Sys};
use crate::filesystem::{Btrfs, Feature, Tmpfs, Xfs, CLONES};
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, Random, BLOCK, BLOCK64};
use crate::process::limit_file_size;
use crate::sys::{check, new_clone, File};

pub const CASES: &[Case] = &[
    case!(reading_without_waiting_gives_the_bytes_or_eagain).except(Tmpfs, WAITS),
    case!(writing_without_waiting_writes_or_says_eagain)
        .except(Tmpfs, WAITS)
        .except(Btrfs, "always says EAGAIN here"),
    case!(writing_without_waiting_to_a_clone_keeps_the_source).needs(CLONES),
    case!(writing_without_waiting_or_room_loses_nothing)
        .needs(&[Feature::Instance, Feature::Reflink]),
    case!(appending_goes_to_the_end),
    case!(not_appending_goes_to_the_offset),
    case!(synchronous_writing_writes),
    case!(polling_is_harmless),
    case!(dropping_behind_works)
        .except(Tmpfs, "refuses it")
        .except(Btrfs, "refuses it"),
    case!(unknown_flags_are_refused),
    case!(atomic_writing_is_refused).except(Xfs, "can write atomically"),
    case!(offsets_and_positions_work_with_flags),
    case!(random_calls_agree_with_a_model),
];

const WAITS: &str = "refuses not to wait";

const HIPRI: i32 = 1;
const DSYNC: i32 = 2;
const SYNC: i32 = 4;
const NOWAIT: i32 = 8;
const APPEND: i32 = 0x10;
const NOAPPEND: i32 = 0x20;
const ATOMIC: i32 = 0x40;
const DONTCACHE: i32 = 0x80;

/// Calls preadv2(2) with two buffers. Returns the bytes read.
fn read(file: &File, offset: i64, len: usize, flags: i32) -> Sys<Vec<u8>> {
    let mut data = vec![0xa5; len];
    let (one, other) = data.split_at_mut(len / 3);
    let vectors = [one, other].map(|part| libc::iovec {
        iov_base: part.as_mut_ptr().cast(),
        iov_len: part.len(),
    });
    // SAFETY: the vectors describe the two parts of `data`.
    let n = check(unsafe {
        libc::preadv2(file.as_raw_fd(), vectors.as_ptr(), 2, offset, flags) as i64
    })?;
    data.truncate(n);
    Ok(data)
}

/// Calls pwritev2(2) with two buffers.
fn write(file: &File, data: &[u8], offset: i64, flags: i32) -> Sys<usize> {
    let (one, other) = data.split_at(data.len() / 3);
    let vectors = [one, other].map(|part| libc::iovec {
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len(),
    });
    // SAFETY: the vectors describe the two parts of `data`, which the kernel reads.
    check(unsafe { libc::pwritev2(file.as_raw_fd(), vectors.as_ptr(), 2, offset, flags) as i64 })
}

#[track_caller]
fn write_all_of(file: &File, data: &[u8], offset: i64, flags: i32) -> Outcome {
    let what = format!(
        "pwritev2 of {} bytes at {offset}, flags {flags:#x}",
        data.len()
    );
    expect_eq(
        write(file, data, offset, flags).or_fail(&what)?,
        data.len(),
        what,
    )
}

/// The number of successes among `done` tries.
#[derive(Default)]
struct Luck {
    done: usize,
    tried: usize,
}

fn reading_without_waiting_gives_the_bytes_or_eagain(t: &Test) -> Outcome {
    let mut data = blocks(1, 30);
    let file = t.create_with("file", &data)?;
    file.truncate(40 * BLOCK64)?;
    data.resize(40 * BLOCK, 0);
    file.contents()?;
    let mut luck = Luck::default();
    for (offset, len) in [
        (0, 100),
        (1, 5 * BLOCK),
        (25 * BLOCK, 10 * BLOCK),
        (39 * BLOCK, 2 * BLOCK),
        (33 * BLOCK + 7, 9),
    ] {
        luck.tried += 1;
        match read(&file, offset as i64, len, NOWAIT) {
            Ok(seen) => {
                luck.done += 1;
                let end = (offset + len).min(data.len());
                // It may end where it would have to wait.
                let expected = &data[offset..end][..seen.len().min(end - offset)];
                expect(!seen.is_empty(), "something was read")?;
                expect_bytes(&seen, expected, format_args!("{len} bytes at {offset}"))?;
            }
            Err(Errno(libc::EAGAIN)) => {}
            Err(error) => return Err(error).or_fail("preadv2(RWF_NOWAIT)"),
        }
    }
    expect(
        luck.done > 0,
        "some of the bytes just read can be read without waiting",
    )?;
    if t.is_reflinkfs() {
        expect_eq(
            luck.done,
            luck.tried,
            "calls that did not have to wait: all is in memory",
        )?;
    }
    expect_eq(
        read(&file, data.len() as i64, 10, NOWAIT)
            .or_fail("at the end")?
            .len(),
        0,
        "bytes from behind the end",
    )
}

/// Writes with RWF_NOWAIT, and waits where that would block, until all is written.
fn write_patiently(file: &File, data: &[u8], offset: u64, luck: &mut Luck) -> Outcome {
    let mut done = 0;
    while done < data.len() {
        luck.tried += 1;
        let at = offset as i64 + done as i64;
        done += match write(file, &data[done..], at, NOWAIT) {
            Ok(n) => {
                luck.done += 1;
                expect(
                    n > 0 && n <= data.len() - done,
                    format_args!("{n} bytes written"),
                )?;
                n
            }
            Err(Errno(libc::EAGAIN)) => {
                // Writes one block of it, waiting.
                let n = (data.len() - done).min(BLOCK - at as usize % BLOCK);
                file.write_at(&data[done..done + n], at as u64)?;
                n
            }
            Err(error) => return Err(error).or_fail("pwritev2(RWF_NOWAIT)"),
        };
    }
    Ok(())
}

fn writing_without_waiting_writes_or_says_eagain(t: &Test) -> Outcome {
    let mut model = blocks(1, 20);
    let file = t.create_with("file", &model)?;
    let mut luck = Luck::default();
    for (offset, len) in [
        (0, 100),
        (100, 5 * BLOCK),
        (19 * BLOCK, BLOCK),
        (19 * BLOCK + 5, 3 * BLOCK),
        (40 * BLOCK, 10),
        (30 * BLOCK, 5 * BLOCK + 1),
    ] {
        let data = pattern(offset as u8 ^ 3, len);
        write_patiently(&file, &data, offset as u64, &mut luck)?;
        model.resize(model.len().max(offset + len), 0);
        model[offset..offset + len].copy_from_slice(&data);
        file.expect_contents(&model, "after a write without waiting")?;
    }
    expect(luck.done > 0, "something can be written without waiting")
}

fn writing_without_waiting_to_a_clone_keeps_the_source(t: &Test) -> Outcome {
    let data = blocks(1, 130);
    let source = t.create_with("source", &data)?;
    let clone = new_clone(&source, t.path("clone"))?;
    let mut model = data.clone();
    let mut luck = Luck::default();
    for (offset, len) in [
        (5, 10),
        (64 * BLOCK, BLOCK),
        (10 * BLOCK + 1, 70 * BLOCK),
        (0, 130 * BLOCK),
    ] {
        let new = pattern(len as u8 ^ 9, len);
        write_patiently(&clone, &new, offset as u64, &mut luck)?;
        model[offset..offset + len].copy_from_slice(&new);
        clone.expect_contents(&model, "the clone")?;
        source.expect_contents(&data, "the source")?;
    }
    Ok(())
}

fn writing_without_waiting_or_room_loses_nothing(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let data = blocks(1, 20);
    let file = fs.create_with("file", &data)?;
    let clone = fs.create("clone")?;
    crate::sys::clone_file(&file, &clone).or_fail("FICLONE")?;
    fs.fill(2)?;
    let mut model = data.clone();
    let new = pattern(9, 10 * BLOCK);
    match write(&clone, &new, 0, NOWAIT) {
        Ok(n) => {
            expect(
                n <= 2 * BLOCK,
                format_args!("{n} bytes written to 2 free blocks"),
            )?;
            model[..n].copy_from_slice(&new[..n]);
        }
        Err(Errno(libc::EAGAIN | libc::ENOSPC)) => {}
        Err(error) => return Err(error).or_fail("pwritev2(RWF_NOWAIT)"),
    }
    clone.expect_contents(&model, "the clone")?;
    file.expect_contents(&data, "the source")
}

fn appending_goes_to_the_end(t: &Test) -> Outcome {
    let file = t.create_with("file", b"begin ")?;
    write_all_of(&file, b"middle ", 2, APPEND)?;
    file.expect_contents(b"begin middle ", "an offset was given")?;
    expect_eq(file.position()?, 0, "position, an offset being given")?;
    write_all_of(&file, b"end", -1, APPEND)?;
    file.expect_contents(b"begin middle end", "no offset was given")?;
    expect_eq(file.position()?, 16, "position, no offset being given")?;
    limit_file_size(20)?;
    // SAFETY: plain call; a larger file would send the signal.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let n = write(&file, b"1234567", 0, APPEND).or_fail("up to the limit")?;
    expect_eq(n, 4, "bytes appended up to the limit of the process")?;
    expect_errno(write(&file, b"x", 0, APPEND), libc::EFBIG, "above it")
}

fn not_appending_goes_to_the_offset(t: &Test) -> Outcome {
    let path = t.create_with("file", b"0123456789")?.path.clone();
    let file = File::open(&path, libc::O_RDWR | libc::O_APPEND).or_fail("open(O_APPEND)")?;
    write_all_of(&file, b"ab", 3, NOAPPEND)?;
    file.expect_contents(b"012ab56789", "with RWF_NOAPPEND")?;
    write_all_of(&file, b"ab", 3, 0)?;
    file.expect_contents(b"012ab56789ab", "without it")?;
    let both = write(&file, b"x", 0, APPEND | NOAPPEND);
    expect_errno(both, libc::EINVAL, "to append and not to append")
}

fn synchronous_writing_writes(t: &Test) -> Outcome {
    let mut model = blocks(1, 4);
    let file = t.create_with("file", &model)?;
    for (i, flags) in [DSYNC, SYNC, DSYNC | SYNC, SYNC | APPEND]
        .into_iter()
        .enumerate()
    {
        let data = pattern(i as u8 + 2, 5000);
        write_all_of(&file, &data, 100, flags)?;
        if flags & APPEND != 0 {
            model.extend(&data);
        } else {
            model[100..5100].copy_from_slice(&data);
        }
        file.expect_contents(&model, "after a synchronous write")?;
    }
    // The same of a file that was opened so; direct I/O needs aligned memory.
    let memory = Mapping::anonymous(BLOCK)?;
    for (i, flags) in [
        libc::O_SYNC,
        libc::O_DSYNC,
        libc::O_SYNC | libc::O_DIRECT,
        libc::O_DSYNC | libc::O_DIRECT,
        libc::O_SYNC | libc::O_APPEND,
    ]
    .into_iter()
    .enumerate()
    {
        let opened = file.reopen(libc::O_RDWR | flags)?;
        let data = blocks(i as u8 + 20, 1);
        memory.store(0, &data);
        let what = format!("a write to a file open with {flags:#o}");
        let n = crate::sys::pwrite_from(&opened, memory.at(0), BLOCK, BLOCK as i64);
        expect_eq(n.or_fail(&what)?, BLOCK, &what)?;
        if flags & libc::O_APPEND != 0 {
            model.extend(&data);
        } else {
            model[BLOCK..2 * BLOCK].copy_from_slice(&data);
        }
        file.expect_contents(&model, &what)?;
    }
    Ok(())
}

fn polling_is_harmless(t: &Test) -> Outcome {
    let data = pattern(1, 10_000);
    let file = t.create("file")?;
    write_all_of(&file, &data, 0, HIPRI)?;
    let seen = read(&file, 0, 10_000, HIPRI).or_fail("preadv2(RWF_HIPRI)")?;
    expect_bytes(&seen, &data, "the bytes read")
}

fn dropping_behind_works(t: &Test) -> Outcome {
    let mut model = blocks(1, 50);
    let file = t.create("file")?;
    write_all_of(&file, &model, 0, DONTCACHE)?;
    let new = pattern(2, 7 * BLOCK + 5);
    write_all_of(&file, &new, 1000, DONTCACHE)?;
    model[1000..1000 + new.len()].copy_from_slice(&new);
    for _ in 0..2 {
        let seen = read(&file, 0, model.len() + 10, DONTCACHE).or_fail("preadv2(RWF_DONTCACHE)")?;
        expect_bytes(&seen, &model, "the bytes read")?;
    }
    file.expect_contents(&model, "read as usual")
}

fn unknown_flags_are_refused(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    for flags in [0x8000, 0x4000_0000, i32::MIN] {
        expect_errno(
            read(&file, 0, 4, flags),
            libc::EOPNOTSUPP,
            format_args!("{flags:#x}"),
        )?;
        let written = write(&file, b"x", 0, flags);
        expect_errno(written, libc::EOPNOTSUPP, format_args!("{flags:#x}"))?;
    }
    file.expect_contents(b"data", "after a refusal")
}

fn atomic_writing_is_refused(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 4))?;
    let written = write(&file, &blocks(2, 1), 0, ATOMIC);
    expect_errno(written, libc::EOPNOTSUPP, "pwritev2(RWF_ATOMIC)")?;
    expect_errno(
        read(&file, 0, BLOCK, ATOMIC),
        libc::EOPNOTSUPP,
        "preadv2(RWF_ATOMIC)",
    )?;
    file.expect_contents(&blocks(1, 4), "after a refusal")
}

fn offsets_and_positions_work_with_flags(t: &Test) -> Outcome {
    let file = t.create_with("file", b"0123456789")?;
    file.seek(4, libc::SEEK_SET).or_fail("lseek")?;
    expect_eq(
        read(&file, -1, 3, HIPRI).or_fail("preadv2")?,
        b"456",
        "from the position",
    )?;
    expect_eq(file.position()?, 7, "position")?;
    expect_eq(
        read(&file, 1, 3, HIPRI).or_fail("preadv2")?,
        b"123",
        "from an offset",
    )?;
    expect_eq(file.position()?, 7, "position")?;
    write_all_of(&file, b"xy", -1, DSYNC)?;
    expect_eq(file.position()?, 9, "position")?;
    expect_errno(read(&file, -2, 3, 0), libc::EINVAL, "a negative offset")?;
    file.expect_contents(b"0123456xy9", "in the end")
}

fn random_calls_agree_with_a_model(t: &Test) -> Outcome {
    let mut random = Random::new(t.settings.seed);
    let file = t.create("file")?;
    let mut model = Vec::new();
    for _ in 0..t.rounds(400) {
        let offset = random.below(100 * BLOCK);
        let len = 1 + random.below(3 * BLOCK);
        let data = random.bytes(len);
        let flags = [0, NOWAIT, SYNC, DSYNC, APPEND, HIPRI][random.below(6)];
        let end = match write(&file, &data, offset as i64, flags) {
            Ok(n) => {
                let at = if flags == APPEND { model.len() } else { offset };
                model.resize(model.len().max(at + n), 0);
                model[at..at + n].copy_from_slice(&data[..n]);
                at + n
            }
            Err(Errno(libc::EAGAIN | libc::EOPNOTSUPP)) if flags == NOWAIT => continue,
            Err(error) => return Err(error).or_fail(format_args!("pwritev2({flags:#x})")),
        };
        let start = end.saturating_sub(2 * BLOCK);
        let seen = read(&file, start as i64, 3 * BLOCK, 0).or_fail("preadv2")?;
        let expected = &model[start..model.len().min(start + 3 * BLOCK)];
        expect_bytes(&seen, expected, "around the written range")?;
        if model.len() > 200 * BLOCK {
            file.truncate(0)?;
            model.clear();
        }
    }
    file.expect_contents(&model, "in the end")
}
