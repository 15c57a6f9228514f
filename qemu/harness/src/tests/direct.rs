// SPDX-License-Identifier: GPL-2.0 OR MIT
//! `O_DIRECT`.

use std::os::fd::AsRawFd;

use crate::case::{case, Case, Test};
use crate::failure::{expect_bytes, expect_eq, Context, Outcome};
use crate::filesystem::{Btrfs, Ext4, Xfs, CLONES};
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::sys::{check, new_clone, pread_to, pwrite_from, File};

const ALIGNED: &str = "wants aligned offsets and memory";

pub const CASES: &[Case] = &[
    case!(aligned_blocks_are_written_and_read),
    case!(any_alignment_will_do)
        .except(Xfs, ALIGNED)
        .except(Btrfs, "goes through the page cache then")
        .except(Ext4, ALIGNED),
    case!(it_is_coherent_with_mappings_and_buffers),
    case!(a_direct_write_to_a_clone_keeps_the_source).needs(CLONES),
    case!(fcntl_switches_it_on_and_off),
];

fn open(t: &Test, name: &str) -> Outcome<File> {
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_DIRECT;
    File::open_mode(t.path(name), flags, 0o644).or_fail("open(O_DIRECT)")
}

fn aligned_blocks_are_written_and_read(t: &Test) -> Outcome {
    let file = open(t, "file")?;
    let data = blocks(1, 20);
    let memory = Mapping::anonymous(20 * BLOCK)?;
    memory.store(0, &data);
    for (offset, len) in [(0, 20), (5, 1), (7, 9)] {
        let n = pwrite_from(
            &file,
            memory.at(offset * BLOCK),
            len * BLOCK,
            (offset * BLOCK) as i64,
        );
        expect_eq(n.or_fail("pwrite")?, len * BLOCK, "bytes written")?;
    }
    let memory = Mapping::anonymous(20 * BLOCK)?;
    let n = pread_to(&file, memory.at(0), 20 * BLOCK, 0).or_fail("pread")?;
    expect_eq(n, 20 * BLOCK, "bytes read")?;
    expect_eq(memory.load_all() == data, true, "the same bytes")?;
    let n = pread_to(&file, memory.at(0), 2 * BLOCK, 19 * BLOCK as i64).or_fail("pread")?;
    expect_eq(n, BLOCK, "bytes read at the end")
}

fn any_alignment_will_do(t: &Test) -> Outcome {
    let file = open(t, "file")?;
    let data = pattern(1, 10_000);
    file.write_at(&data, 12_345)?;
    expect_eq(
        file.read_at(12_345, 10_000)? == data,
        true,
        "the same bytes",
    )
}

fn it_is_coherent_with_mappings_and_buffers(t: &Test) -> Outcome {
    let file = open(t, "file")?;
    let buffered = File::open(t.path("file"), libc::O_RDWR).or_fail("open")?;
    buffered.write_at(&blocks(1, 3), 0)?;
    let mapping = Mapping::shared(&buffered, 3 * BLOCK)?;
    mapping.store(BLOCK, &blocks(2, 1));
    let memory = Mapping::anonymous(BLOCK)?;
    pread_to(&file, memory.at(0), BLOCK, BLOCK64 as i64).or_fail("pread")?;
    expect_eq(memory.load_all() == blocks(2, 1), true, "the stored bytes")?;
    memory.store(0, &blocks(3, 1));
    pwrite_from(&file, memory.at(0), BLOCK, 0).or_fail("pwrite")?;
    expect_eq(mapping.load(0, BLOCK) == blocks(3, 1), true, "the mapping")?;
    expect_eq(buffered.read_at(0, BLOCK)? == blocks(3, 1), true, "a read")
}

fn a_direct_write_to_a_clone_keeps_the_source(t: &Test) -> Outcome {
    let data = blocks(1, 5);
    let source = t.create_with("source", &data)?;
    new_clone(&source, t.path("clone"))?;
    let clone = open(t, "clone")?;
    let memory = Mapping::anonymous(BLOCK)?;
    memory.store(0, &blocks(2, 1));
    pwrite_from(&clone, memory.at(0), BLOCK, BLOCK64 as i64).or_fail("pwrite")?;
    source.expect_contents(&data, "the source")
}

fn fcntl_switches_it_on_and_off(t: &Test) -> Outcome {
    let mut model = blocks(1, 3);
    let file = t.create_with("file", &model)?;
    let buffered = file.reopen(libc::O_RDWR)?;
    let memory = Mapping::anonymous(BLOCK)?;
    for (i, flags) in [libc::O_DIRECT, 0, libc::O_DIRECT].into_iter().enumerate() {
        // SAFETY: plain calls on an open descriptor.
        let seen = unsafe {
            check(libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags))
                .or_fail(format_args!("F_SETFL {flags:#o}"))?;
            check(libc::fcntl(file.as_raw_fd(), libc::F_GETFL)).or_fail("F_GETFL")?
        };
        expect_eq(
            seen as i32 & libc::O_DIRECT,
            flags,
            "O_DIRECT among the flags",
        )?;
        // Direct and buffered I/O see each other's writes.
        let what = format!("with {flags:#o} set");
        for (at, direct_first) in [(0, true), (BLOCK, false)] {
            let data = blocks(10 * i as u8 + direct_first as u8 + 2, 1);
            model[at..at + BLOCK].copy_from_slice(&data);
            if direct_first {
                memory.store(0, &data);
                let n = pwrite_from(&file, memory.at(0), BLOCK, at as i64);
                expect_eq(n.or_fail("pwrite")?, BLOCK, "bytes written")?;
            } else {
                buffered.write_at(&data, at as u64)?;
            }
            let n = pread_to(&file, memory.at(0), BLOCK, at as i64).or_fail("pread")?;
            expect_bytes(&memory.load(0, n), &data, format_args!("read {what}"))?;
            buffered.expect_contents(&model, &what)?;
        }
    }
    Ok(())
}
