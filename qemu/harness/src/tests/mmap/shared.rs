// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Shared mappings show the file's changes at once, and the file shows theirs.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::Tmpfs;
use crate::mapping::{Mapping, READ, WRITE};
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::process::expect_killed;
use crate::sys::{copy_loop, new_clone, set_times, timespec};

pub const CASES: &[Case] = &[
    case!(a_mapping_shows_the_file),
    case!(a_mapping_at_an_offset_shows_that_part),
    case!(a_mapping_shows_what_is_written_at_once),
    case!(a_store_is_read_at_once),
    case!(two_mappings_show_each_others_stores),
    case!(a_shared_mapping_needs_a_descriptor_for_writing),
    case!(a_descriptor_for_writing_only_cannot_be_mapped),
    case!(protections_can_be_lowered_and_raised),
    case!(a_store_to_a_read_only_mapping_is_sigsegv),
    case!(a_mapping_can_be_a_buffer_of_system_calls),
    case!(a_store_changes_the_times).except(Tmpfs, "does not notice stores"),
    case!(a_mapping_of_the_destination_shows_what_was_copied_to_it),
    case!(a_mapping_of_the_source_stays_right_through_a_copy),
    case!(a_large_mapping_faults_everywhere),
];

fn a_mapping_shows_the_file(t: &Test) -> Outcome {
    let data = pattern(1, 5 * BLOCK + 7);
    let file = t.create_with("file", &data)?;
    for map in [
        Mapping::shared(&file, data.len())?,
        Mapping::shared_read(&file, data.len())?,
        Mapping::private(&file, data.len())?,
    ] {
        expect_bytes(&map.load_all(), &data, "the mapping")?;
    }
    Ok(())
}

fn a_mapping_at_an_offset_shows_that_part(t: &Test) -> Outcome {
    let data = blocks(2, 130);
    let file = t.create_with("file", &data)?;
    for block in [1, 63, 64, 65, 129] {
        let offset = block * BLOCK;
        let len = (2 * BLOCK).min(data.len() - offset);
        let map = Mapping::try_new(&file, offset as u64, len, READ | WRITE, libc::MAP_SHARED)
            .or_fail("mmap at an offset")?;
        expect_bytes(
            &map.load_all(),
            &data[offset..offset + len],
            format!("block {block}"),
        )?;
        map.store(5, b"stored");
        let seen = file.read_at(offset as u64 + 5, 6)?;
        expect_bytes(&seen, b"stored", format!("a store to block {block}"))?;
    }
    let odd = Mapping::try_new(&file, 100, BLOCK, READ, libc::MAP_SHARED);
    expect_errno(odd, libc::EINVAL, "mmap at offset 100")
}

fn a_mapping_shows_what_is_written_at_once(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(3, 4))?;
    let map = Mapping::shared_read(&file, 4 * BLOCK)?;
    map.load_all();
    for i in 0..t.rounds(100) {
        let data = pattern(i as u8, 100);
        let at = (i * 137) % (4 * BLOCK - 100);
        file.write_at(&data, at as u64)?;
        expect_bytes(&map.load(at, 100), &data, format!("the mapping at {at}"))?;
    }
    Ok(())
}

fn a_store_is_read_at_once(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(4, 4))?;
    let other = file.reopen(libc::O_RDONLY)?;
    let map = Mapping::shared(&file, 4 * BLOCK)?;
    for i in 0..t.rounds(100) {
        let data = pattern(i as u8, 100);
        let at = (i * 137) % (4 * BLOCK - 100);
        map.store(at, &data);
        expect_bytes(
            &other.read_at(at as u64, 100)?,
            &data,
            format!("read at {at}"),
        )?;
    }
    Ok(())
}

fn two_mappings_show_each_others_stores(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(5, 2))?;
    let (one, other) = (
        Mapping::shared(&file, 2 * BLOCK)?,
        Mapping::shared(&file, 2 * BLOCK)?,
    );
    let reader = Mapping::shared_read(&file, 2 * BLOCK)?;
    reader.load_all();
    for i in 0..t.rounds(100) {
        let (from, to) = if i % 2 == 0 {
            (&one, &other)
        } else {
            (&other, &one)
        };
        let at = (i * 97) % (2 * BLOCK - 8);
        from.store(at, &i.to_le_bytes());
        expect_bytes(&to.load(at, 8), &i.to_le_bytes(), "the other mapping")?;
        expect_bytes(
            &reader.load(at, 8),
            &i.to_le_bytes(),
            "the reader's mapping",
        )?;
    }
    Ok(())
}

fn a_shared_mapping_needs_a_descriptor_for_writing(t: &Test) -> Outcome {
    let file = t
        .create_with("file", &blocks(12, 1))?
        .reopen(libc::O_RDONLY)?;
    let map = Mapping::try_new(&file, 0, BLOCK, READ | WRITE, libc::MAP_SHARED);
    expect_errno(
        map,
        libc::EACCES,
        "a shared writable mapping of a read-only descriptor",
    )?;
    let map = Mapping::shared_read(&file, BLOCK)?;
    expect_errno(
        map.protect(0, BLOCK, READ | WRITE),
        libc::EACCES,
        "mprotect to writable",
    )
}

fn a_descriptor_for_writing_only_cannot_be_mapped(t: &Test) -> Outcome {
    let file = t
        .create_with("file", &blocks(13, 1))?
        .reopen(libc::O_WRONLY)?;
    let map = Mapping::try_new(&file, 0, BLOCK, READ, libc::MAP_SHARED);
    expect_errno(map, libc::EACCES, "a mapping of a write-only descriptor")
}

fn protections_can_be_lowered_and_raised(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(14, 3))?;
    let map = Mapping::shared(&file, 3 * BLOCK)?;
    map.store(0, b"one");
    map.protect(0, 3 * BLOCK, READ)
        .or_fail("mprotect to read-only")?;
    expect_bytes(&map.load(0, 3), b"one", "read-only")?;
    map.protect(BLOCK, BLOCK, READ | WRITE)
        .or_fail("mprotect of one page to writable")?;
    map.store(BLOCK, b"two");
    map.protect(0, 3 * BLOCK, libc::PROT_NONE)
        .or_fail("mprotect to nothing")?;
    map.protect(0, 3 * BLOCK, READ | WRITE)
        .or_fail("mprotect to writable")?;
    map.store(2 * BLOCK, b"three");
    expect_bytes(&file.read_at(0, 3)?, b"one", "the first page")?;
    expect_bytes(&file.read_at(BLOCK64, 3)?, b"two", "the second page")?;
    expect_bytes(&file.read_at(2 * BLOCK64, 5)?, b"three", "the third page")?;
    if t.filesystem != Tmpfs {
        // A page made writable again after a clone must still break the sharing.
        map.protect(0, 3 * BLOCK, READ).or_fail("mprotect")?;
        let clone = new_clone(&file, t.path("clone"))?;
        map.load_all();
        map.protect(0, 3 * BLOCK, READ | WRITE)
            .or_fail("mprotect")?;
        map.store(0, b"ONE");
        expect_bytes(&clone.read_at(0, 3)?, b"one", "the clone")?;
        expect_bytes(&file.read_at(0, 3)?, b"ONE", "the file")?;
    }
    Ok(())
}

fn a_store_to_a_read_only_mapping_is_sigsegv(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(15, 1))?;
    let map = Mapping::shared_read(&file, BLOCK)?;
    map.load_all();
    expect_killed(libc::SIGSEGV, "a store", || map.store(0, b"x"))?;
    file.expect_contents(&blocks(15, 1), "the file")
}

fn a_mapping_can_be_a_buffer_of_system_calls(t: &Test) -> Outcome {
    let data = blocks(35, 4);
    let file = t.create_with("file", &data)?;
    let other = t.create("other")?;
    let map = Mapping::shared(&file, 4 * BLOCK)?;
    let n = crate::sys::pwrite_from(&other, map.at(0), 4 * BLOCK, 0).or_fail("pwrite")?;
    expect_eq(n, 4 * BLOCK, "bytes written from a mapping")?;
    other.expect_contents(&data, "another file, written from the mapping")?;
    other.write_at(&blocks(36, 4), 0)?;
    let n = crate::sys::pread_to(&other, map.at(0), 4 * BLOCK, 0).or_fail("pread")?;
    expect_eq(n, 4 * BLOCK, "bytes read into a mapping")?;
    file.expect_contents(&blocks(36, 4), "the file, read into through its mapping")?;
    let there = t.create_elsewhere("there", &data)?;
    crate::sys::pread_to(&there, map.at(0), 4 * BLOCK, 0).or_fail("pread from elsewhere")?;
    file.expect_contents(&data, "read from another filesystem into the mapping")
}

fn a_store_changes_the_times(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(37, 1))?;
    let map = Mapping::shared(&file, BLOCK)?;
    map.load_all();
    let old = timespec(1_000_000_000, 0);
    set_times(&file.path, [old, old]).or_fail("utimensat")?;
    map.store(0, b"x");
    map.sync(libc::MS_SYNC).or_fail("msync")?;
    expect(
        file.stat()?.st_mtime != old.tv_sec,
        "mtime is new after a store and msync",
    )
}

fn a_mapping_of_the_destination_shows_what_was_copied_to_it(t: &Test) -> Outcome {
    let data = blocks(47, 4);
    let source = t.create_with("source", &data)?;
    for (off_in, off_out, len) in [
        (0, 0, 4 * BLOCK),
        (1, 100, 2 * BLOCK),
        (100, 100, 3 * BLOCK),
    ] {
        let mut model = blocks(48, 4);
        let to = t.create_with("to", &model)?;
        let map = Mapping::shared(&to, 4 * BLOCK)?;
        map.load_all();
        map.store(0, &model[..1]);
        copy_loop(&source, off_in as u64, &to, off_out as u64, len)?;
        model[off_out..off_out + len].copy_from_slice(&data[off_in..off_in + len]);
        expect_bytes(
            &map.load_all(),
            &model,
            format!("from {off_in} to {off_out}"),
        )?;
        map.store(off_out, b"!");
        source.expect_contents(&data, "the source after a store to the copy")?;
    }
    Ok(())
}

fn a_mapping_of_the_source_stays_right_through_a_copy(t: &Test) -> Outcome {
    let mut model = blocks(49, 4);
    let source = t.create_with("source", &model)?;
    let map = Mapping::shared(&source, 4 * BLOCK)?;
    for i in 0..t.rounds(20) as u8 {
        map.store(BLOCK, &[i; 10]);
        model[BLOCK..BLOCK + 10].fill(i);
        let to = t.create("to")?;
        copy_loop(&source, 0, &to, 0, 4 * BLOCK)?;
        map.store(BLOCK, &[0xff; 10]);
        to.expect_contents(&model, &format!("copy {i}"))?;
    }
    Ok(())
}

fn a_large_mapping_faults_everywhere(t: &Test) -> Outcome {
    let count = 64 * 64 / t.settings.divisor.min(8) + 5;
    let file = t.create("file")?;
    file.truncate(count as u64 * BLOCK64)?;
    let map = Mapping::shared(&file, count * BLOCK)?;
    for page in 0..count {
        map.store(page * BLOCK + 8, &(page as u64).to_le_bytes());
    }
    for page in (0..count).rev() {
        let seen = file.read_at(page as u64 * BLOCK64 + 8, 8)?;
        expect_bytes(&seen, &(page as u64).to_le_bytes(), format!("page {page}"))?;
    }
    Ok(())
}
