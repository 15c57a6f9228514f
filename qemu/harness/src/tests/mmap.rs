// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Mappings: shared and private, coherent with everything else that touches the file.

use crate::case::{case, Case, Test};
use crate::failure::{
    expect, expect_bytes, expect_eq, expect_errno, Context, Errno, Outcome,
};
use crate::filesystem::{Need, Tmpfs};
use crate::mapping::{Mapping, READ, WRITE};
use crate::memory;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::process::{expect_killed, in_child};
use crate::sys::{
    clone_file, clone_range, copy_loop, new_clone, set_times, timespec, unlink, File,
};

const CLONES: &[Need] = &[Need::Reflink];
const CLONES_COUNTED: &[Need] = &[Need::Reflink, Need::Instance];

pub const CASES: &[Case] = &[
    case!(a_mapping_shows_the_file),
    case!(a_mapping_at_an_offset_shows_that_part),
    case!(a_mapping_shows_what_is_written_at_once),
    case!(a_store_is_read_at_once),
    case!(two_mappings_show_each_others_stores),
    case!(a_store_into_a_hole_is_read),
    case!(a_hole_read_through_a_mapping_takes_no_block).needs(&[Need::Reflinkfs]),
    case!(a_hole_read_through_a_mapping_shows_a_later_write),
    case!(a_hole_read_through_a_mapping_takes_a_later_store),
    case!(a_hole_read_in_two_mappings_shows_a_store_through_one),
    case!(a_store_into_a_hole_takes_one_block).needs(&[Need::Instance]),
    case!(zeros_of_a_hole_are_not_shared_with_other_files),
    case!(a_private_mapping_shows_writes_until_it_stores),
    case!(a_private_store_stays_private),
    case!(a_private_store_into_a_hole_stays_private),
    case!(a_private_copy_survives_writes_clones_and_copies),
    case!(private_mappings_of_a_read_only_file_can_be_stored_to),
    case!(a_shared_mapping_needs_a_descriptor_for_writing),
    case!(a_descriptor_for_writing_only_cannot_be_mapped),
    case!(protections_can_be_lowered_and_raised),
    case!(a_store_to_a_read_only_mapping_is_sigsegv),
    case!(the_part_behind_the_end_in_the_last_page_is_zeros),
    case!(stores_behind_the_end_do_not_come_back)
        .except(Tmpfs, "older kernels show them when the file grows"),
    case!(behind_the_last_page_is_sigbus),
    case!(a_page_that_is_cut_off_becomes_sigbus),
    case!(a_page_that_grows_back_reads_as_zeros),
    case!(a_private_copy_is_cut_off_too),
    case!(the_kernel_gets_efault_where_a_program_gets_sigbus),
    case!(truncating_inside_a_page_zeroes_its_end_in_the_mapping),
    case!(a_full_filesystem_is_sigbus_in_a_hole).needs(&[Need::Instance]),
    case!(a_full_filesystem_is_sigbus_in_a_shared_block).needs(CLONES_COUNTED),
    case!(a_full_filesystem_is_efault_for_the_kernel).needs(CLONES_COUNTED),
    case!(a_mapping_survives_close_and_unlink),
    case!(space_of_an_unlinked_mapped_file_is_freed_at_the_end).needs(&[Need::Instance]),
    case!(a_child_shares_shared_mappings_and_copies_private_ones),
    case!(a_mapping_can_be_moved_and_grown),
    case!(dropped_pages_come_back_from_the_file),
    case!(msync_mlock_and_populate_work),
    case!(a_mapping_can_be_split_and_partly_unmapped),
    case!(a_debugger_can_write_into_a_private_mapping),
    case!(another_process_can_read_and_write_the_mapping),
    case!(a_mapping_can_be_a_buffer_of_system_calls),
    case!(a_store_changes_the_times).except(Tmpfs, "does not notice stores"),
    case!(clone_then_store_breaks_sharing).needs(CLONES),
    case!(a_page_mapped_for_writing_before_the_clone_is_protected).needs(CLONES),
    case!(both_sides_mapped_before_and_after_are_right).needs(CLONES),
    case!(a_store_after_a_clone_takes_one_block).needs(CLONES_COUNTED),
    case!(a_store_by_the_last_owner_takes_no_block).needs(CLONES_COUNTED),
    case!(a_mapping_of_the_destination_shows_what_was_cloned_onto_it).needs(CLONES),
    case!(a_mapping_of_the_destination_shows_a_cloned_hole).needs(CLONES),
    case!(a_mapping_of_the_destination_shows_what_was_copied_to_it),
    case!(a_mapping_of_the_source_stays_right_through_a_copy),
    case!(a_private_mapping_of_a_clone_is_right).needs(CLONES),
    case!(a_write_to_a_shared_block_shows_in_mappings_of_its_file_only).needs(CLONES),
    case!(a_hundred_mapped_clones_hold_one_set_of_pages).needs(CLONES_COUNTED),
    case!(mappings_of_a_file_by_many_processes_agree),
    case!(a_large_mapping_faults_everywhere),
    case!(a_mapped_file_can_be_renamed_and_truncated_to_nothing),
    case!(swapping_versions_by_rename_leaves_old_mappings_alone),
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
        expect_bytes(&map.load_all(), &data[offset..offset + len], format!("block {block}"))?;
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
        expect_bytes(&other.read_at(at as u64, 100)?, &data, format!("read at {at}"))?;
    }
    Ok(())
}

fn two_mappings_show_each_others_stores(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(5, 2))?;
    let (one, other) = (Mapping::shared(&file, 2 * BLOCK)?, Mapping::shared(&file, 2 * BLOCK)?);
    let reader = Mapping::shared_read(&file, 2 * BLOCK)?;
    reader.load_all();
    for i in 0..t.rounds(100) {
        let (from, to) = if i % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let at = (i * 97) % (2 * BLOCK - 8);
        from.store(at, &i.to_le_bytes());
        expect_bytes(&to.load(at, 8), &i.to_le_bytes(), "the other mapping")?;
        expect_bytes(&reader.load(at, 8), &i.to_le_bytes(), "the reader's mapping")?;
    }
    Ok(())
}

fn a_store_into_a_hole_is_read(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(4 * BLOCK64)?;
    let map = Mapping::shared(&file, 4 * BLOCK)?;
    map.store(2 * BLOCK + 9, b"stored");
    let mut model = vec![0; 4 * BLOCK];
    model[2 * BLOCK + 9..][..6].copy_from_slice(b"stored");
    let data = file.seek(0, libc::SEEK_DATA).or_fail("SEEK_DATA")?;
    expect_eq(data, 2 * BLOCK64, "SEEK_DATA")?;
    file.expect_contents(&model, "after a store into a hole")?;
    expect_bytes(&map.load_all(), &model, "the mapping")
}

fn a_hole_read_through_a_mapping_takes_no_block(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(100 * BLOCK64)?;
    let map = Mapping::shared(&file, 100 * BLOCK)?;
    expect(map.load_all().iter().all(|&b| b == 0), "the hole is zeros")?;
    expect_eq(file.data_blocks()?, 0, "blocks after reading a hole through a mapping")
}

fn a_hole_read_through_a_mapping_shows_a_later_write(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(4 * BLOCK64)?;
    let shared = Mapping::shared(&file, 4 * BLOCK)?;
    let reader = Mapping::shared_read(&file, 4 * BLOCK)?;
    let private = Mapping::private(&file, 4 * BLOCK)?;
    for map in [&shared, &reader, &private] {
        expect(map.load_all().iter().all(|&b| b == 0), "the hole is zeros")?;
    }
    file.write_at(b"written", BLOCK64 + 1)?;
    for map in [&shared, &reader, &private] {
        expect_bytes(&map.load(BLOCK, 9), b"\0written\0", "the mapping after the write")?;
        expect(map.load(2 * BLOCK, BLOCK).iter().all(|&b| b == 0), "the hole beside it")?;
    }
    Ok(())
}

fn a_hole_read_through_a_mapping_takes_a_later_store(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(2 * BLOCK64)?;
    let map = Mapping::shared(&file, 2 * BLOCK)?;
    expect_eq(map.load_byte(100), 0, "the hole")?;
    map.store(100, b"stored");
    expect_bytes(&map.load(100, 6), b"stored", "the mapping")?;
    expect_bytes(&file.read_at(100, 6)?, b"stored", "the file")
}

fn a_hole_read_in_two_mappings_shows_a_store_through_one(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(2 * BLOCK64)?;
    let (one, other) = (Mapping::shared(&file, 2 * BLOCK)?, Mapping::shared_read(&file, 2 * BLOCK)?);
    let private = Mapping::private(&file, 2 * BLOCK)?;
    expect_eq((one.load_byte(0), other.load_byte(0), private.load_byte(0)), (0, 0, 0), "the hole")?;
    one.store(0, b"s");
    expect_eq(other.load_byte(0), b's', "the other mapping")?;
    expect_eq(private.load_byte(0), b's', "the private mapping, not yet stored to")
}

fn a_store_into_a_hole_takes_one_block(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = fs.create("file")?;
    file.truncate(64 * BLOCK64)?;
    let map = Mapping::shared(&file, 64 * BLOCK)?;
    let before = fs.used()?;
    map.store(10 * BLOCK, b"x");
    map.store(10 * BLOCK + 100, b"y");
    expect_eq(fs.used()?, before + 1, "blocks used after stores to one page of a hole")?;
    map.store(20 * BLOCK, b"z");
    expect_eq(fs.used()?, before + 2, "blocks used after a store to another page")
}

fn zeros_of_a_hole_are_not_shared_with_other_files(t: &Test) -> Outcome {
    let (one, other) = (t.create("one")?, t.create("other")?);
    for file in [&one, &other] {
        file.truncate(BLOCK64)?;
    }
    let (map, other_map) = (Mapping::shared(&one, BLOCK)?, Mapping::shared(&other, BLOCK)?);
    let private = Mapping::private(&other, BLOCK)?;
    expect_eq((map.load_byte(0), other_map.load_byte(0), private.load_byte(0)), (0, 0, 0), "holes")?;
    map.store(0, b"one");
    private.store(0, b"private");
    expect_bytes(&other_map.load(0, 8), &[0; 8], "the hole of the other file")?;
    expect_bytes(&one.read_at(0, 4)?, b"one\0", "the first file")?;
    other.expect_contents(&[0; BLOCK], "the other file")
}

fn a_private_mapping_shows_writes_until_it_stores(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(6, 2))?;
    let map = Mapping::private(&file, 2 * BLOCK)?;
    map.load_all();
    file.write_at(b"first", 0)?;
    expect_bytes(&map.load(0, 5), b"first", "before any store")?;
    map.store(BLOCK, b"mine");
    file.write_at(b"second", 0)?;
    expect_bytes(&map.load(0, 6), b"second", "a page that was not stored to")?;
    file.write_at(b"theirs", BLOCK64)?;
    expect_bytes(&map.load(BLOCK, 4), b"mine", "the page that was stored to")
}

fn a_private_store_stays_private(t: &Test) -> Outcome {
    let data = blocks(7, 3);
    let file = t.create_with("file", &data)?;
    let (one, other) = (Mapping::private(&file, 3 * BLOCK)?, Mapping::private(&file, 3 * BLOCK)?);
    let shared = Mapping::shared(&file, 3 * BLOCK)?;
    other.load_all();
    one.store(BLOCK + 10, b"private");
    // Once without and once with the page mapped before.
    other.store(BLOCK + 10, b"PRIVATE");
    expect_bytes(&one.load(BLOCK + 10, 7), b"private", "the first mapping")?;
    expect_bytes(&other.load(BLOCK + 10, 7), b"PRIVATE", "the second mapping")?;
    expect_bytes(&one.load(BLOCK, 10), &data[BLOCK..BLOCK + 10], "the rest of the page")?;
    expect_bytes(&shared.load_all(), &data, "a shared mapping")?;
    file.expect_contents(&data, "the file")
}

fn a_private_store_into_a_hole_stays_private(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(2 * BLOCK64)?;
    let map = Mapping::private(&file, 2 * BLOCK)?;
    map.store(10, b"private");
    expect_eq(map.load_byte(BLOCK), 0, "the second page of the hole")?;
    map.store(BLOCK, b"after reading");
    expect_bytes(&map.load(10, 7), b"private", "the mapping")?;
    expect_bytes(&map.load(BLOCK, 13), b"after reading", "the mapping")?;
    file.expect_contents(&[0; 2 * BLOCK], "the file")?;
    file.write_at(b"written", 0)?;
    expect_bytes(&map.load(0, 7), &[0; 7], "the private copy after a write to the file")
}

fn a_private_copy_survives_writes_clones_and_copies(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(8, 2))?;
    let source = t.create_with("source", &blocks(9, 2))?;
    let map = Mapping::private(&file, 2 * BLOCK)?;
    map.store(0, b"mine");
    file.write_at(&blocks(10, 2), 0)?;
    expect_bytes(&map.load(0, 4), b"mine", "after a write")?;
    copy_loop(&source, 0, &file, 0, 2 * BLOCK)?;
    expect_bytes(&map.load(0, 4), b"mine", "after a copy onto the file")?;
    expect_bytes(&map.load(BLOCK, BLOCK), &blocks(9, 2)[BLOCK..], "the page not stored to")?;
    if t.filesystem != Tmpfs {
        new_clone(&file, t.path("clone"))?;
        expect_bytes(&map.load(0, 4), b"mine", "after the file was cloned")?;
        clone_file(&source, &file).or_fail("FICLONE")?;
        expect_bytes(&map.load(0, 4), b"mine", "after a clone onto the file")?;
    }
    Ok(())
}

fn private_mappings_of_a_read_only_file_can_be_stored_to(t: &Test) -> Outcome {
    let data = blocks(11, 2);
    let file = t.create_with("file", &data)?.reopen(libc::O_RDONLY)?;
    let map = Mapping::private(&file, 2 * BLOCK)?;
    map.store(0, b"private");
    expect_bytes(&map.load(0, 7), b"private", "the mapping")?;
    file.expect_contents(&data, "the file")
}

fn a_shared_mapping_needs_a_descriptor_for_writing(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(12, 1))?.reopen(libc::O_RDONLY)?;
    let map = Mapping::try_new(&file, 0, BLOCK, READ | WRITE, libc::MAP_SHARED);
    expect_errno(map, libc::EACCES, "a shared writable mapping of a read-only descriptor")?;
    let map = Mapping::shared_read(&file, BLOCK)?;
    expect_errno(map.protect(0, BLOCK, READ | WRITE), libc::EACCES, "mprotect to writable")
}

fn a_descriptor_for_writing_only_cannot_be_mapped(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(13, 1))?.reopen(libc::O_WRONLY)?;
    let map = Mapping::try_new(&file, 0, BLOCK, READ, libc::MAP_SHARED);
    expect_errno(map, libc::EACCES, "a mapping of a write-only descriptor")
}

fn protections_can_be_lowered_and_raised(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(14, 3))?;
    let map = Mapping::shared(&file, 3 * BLOCK)?;
    map.store(0, b"one");
    map.protect(0, 3 * BLOCK, READ).or_fail("mprotect to read-only")?;
    expect_bytes(&map.load(0, 3), b"one", "read-only")?;
    map.protect(BLOCK, BLOCK, READ | WRITE).or_fail("mprotect of one page to writable")?;
    map.store(BLOCK, b"two");
    map.protect(0, 3 * BLOCK, libc::PROT_NONE).or_fail("mprotect to nothing")?;
    map.protect(0, 3 * BLOCK, READ | WRITE).or_fail("mprotect to writable")?;
    map.store(2 * BLOCK, b"three");
    expect_bytes(&file.read_at(0, 3)?, b"one", "the first page")?;
    expect_bytes(&file.read_at(BLOCK64, 3)?, b"two", "the second page")?;
    expect_bytes(&file.read_at(2 * BLOCK64, 5)?, b"three", "the third page")?;
    if t.filesystem != Tmpfs {
        // A page made writable again after a clone must still break the sharing.
        map.protect(0, 3 * BLOCK, READ).or_fail("mprotect")?;
        let clone = new_clone(&file, t.path("clone"))?;
        map.load_all();
        map.protect(0, 3 * BLOCK, READ | WRITE).or_fail("mprotect")?;
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

fn the_part_behind_the_end_in_the_last_page_is_zeros(t: &Test) -> Outcome {
    // Fill blocks first, so that a block that is not cleared would show.
    t.create_with("marked", &vec![0xee; 16 * BLOCK])?.truncate(0)?;
    for size in [1, 100, 4095, 4097, 8000] {
        let file = t.create_with("file", &pattern(16, size))?;
        let len = size.next_multiple_of(BLOCK);
        let map = Mapping::shared(&file, len)?;
        let mut model = pattern(16, size);
        model.resize(len, 0);
        expect_bytes(&map.load_all(), &model, format!("a file of {size} bytes"))?;
    }
    Ok(())
}

fn stores_behind_the_end_do_not_come_back(t: &Test) -> Outcome {
    for by_write in [false, true] {
        let file = t.create_with("file", b"short")?;
        let map = Mapping::shared(&file, BLOCK)?;
        map.store(100, b"behind the end");
        file.expect_contents(b"short", "the file")?;
        let mut model = b"short".to_vec();
        if by_write {
            file.write_at(b"end", 3000)?;
            model.resize(3000, 0);
            model.extend(b"end");
        } else {
            file.truncate(3000)?;
            model.resize(3000, 0);
        }
        file.expect_contents(&model, "grown after a store behind the end")?;
    }
    Ok(())
}

fn behind_the_last_page_is_sigbus(t: &Test) -> Outcome {
    let file = t.create_with("file", &pattern(17, BLOCK + 1))?;
    for map in [Mapping::shared(&file, 4 * BLOCK)?, Mapping::private(&file, 4 * BLOCK)?] {
        expect_eq(map.load_byte(2 * BLOCK - 1), 0, "the end of the last page")?;
        expect_killed(libc::SIGBUS, "a load behind the last page", || {
            map.load_byte(2 * BLOCK);
        })?;
        expect_killed(libc::SIGBUS, "a store behind the last page", || {
            map.store(3 * BLOCK, b"x");
        })?;
    }
    let empty = t.create("empty")?;
    let map = Mapping::shared(&empty, BLOCK)?;
    expect_killed(libc::SIGBUS, "a load from an empty file", || {
        map.load_byte(0);
    })
}

fn a_page_that_is_cut_off_becomes_sigbus(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(18, 4))?;
    let map = Mapping::shared(&file, 4 * BLOCK)?;
    map.load_all();
    map.store(3 * BLOCK, b"x");
    file.truncate(2 * BLOCK64)?;
    expect_killed(libc::SIGBUS, "a load from a page cut off", || {
        map.load_byte(3 * BLOCK);
    })?;
    expect_killed(libc::SIGBUS, "a store to a page cut off", || map.store(2 * BLOCK, b"x"))?;
    expect_bytes(&map.load(0, 2 * BLOCK), &blocks(18, 4)[..2 * BLOCK], "the pages that stay")
}

fn a_page_that_grows_back_reads_as_zeros(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(19, 3))?;
    let map = Mapping::shared(&file, 3 * BLOCK)?;
    map.store(2 * BLOCK, b"gone");
    file.truncate(BLOCK64 + 10)?;
    file.truncate(3 * BLOCK64)?;
    let mut model = blocks(19, 3);
    model[BLOCK + 10..].fill(0);
    expect_bytes(&map.load_all(), &model, "the mapping after the file grew back")?;
    map.store(2 * BLOCK, b"new");
    expect_bytes(&file.read_at(2 * BLOCK64, 4)?, b"new\0", "a store after that")
}

fn a_private_copy_is_cut_off_too(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(20, 2))?;
    let map = Mapping::private(&file, 2 * BLOCK)?;
    map.store(BLOCK, b"private");
    file.truncate(BLOCK64)?;
    expect_killed(libc::SIGBUS, "a load of a private copy behind the end", || {
        map.load_byte(BLOCK);
    })?;
    file.truncate(2 * BLOCK64)?;
    expect_bytes(&map.load(BLOCK, 7), &[0; 7], "the page after the file grew back")
}

fn the_kernel_gets_efault_where_a_program_gets_sigbus(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(21, 1))?;
    let map = Mapping::shared(&file, 2 * BLOCK)?;
    expect(map.kernel_can_read(0)?.is_ok(), "the kernel reads the first page")?;
    expect_errno(map.kernel_can_read(BLOCK)?, libc::EFAULT, "the kernel reads behind the end")?;
    expect_errno(map.kernel_store(BLOCK, 1)?, libc::EFAULT, "the kernel stores behind the end")
}

fn truncating_inside_a_page_zeroes_its_end_in_the_mapping(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(22, 1))?;
    let map = Mapping::shared(&file, BLOCK)?;
    map.load_all();
    file.truncate(1000)?;
    expect(map.load(1000, BLOCK - 1000).iter().all(|&b| b == 0), "zeros behind the new end")?;
    expect_bytes(&map.load(0, 1000), &blocks(22, 1)[..1000], "the bytes before it")?;
    file.write_at(b"x", 2000)?;
    expect_bytes(&map.load(1999, 3), b"\0x\0", "a later write in that page")
}

fn a_full_filesystem_is_sigbus_in_a_hole(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "256k")])?;
    let file = fs.create("file")?;
    file.truncate(4 * BLOCK64)?;
    let filler = fs.fill(1)?;
    let map = Mapping::shared(&file, 4 * BLOCK)?;
    map.store(0, b"the last block");
    expect_killed(libc::SIGBUS, "a store with no block free", || map.store(BLOCK, b"x"))?;
    filler.truncate(0)?;
    map.store(BLOCK, b"x");
    expect_bytes(&file.read_at(0, 14)?, b"the last block", "the first page")?;
    expect_bytes(&file.read_at(BLOCK64, 1)?, b"x", "the second page, once there was room")
}

fn a_full_filesystem_is_sigbus_in_a_shared_block(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "256k")])?;
    let data = blocks(23, 4);
    let file = fs.create_with("file", &data)?;
    let map = Mapping::shared(&file, 4 * BLOCK)?;
    map.store(0, &data[..1]);
    let clone = new_clone(&file, fs.path("clone"))?;
    let filler = fs.fill(0)?;
    expect_killed(libc::SIGBUS, "a store to a shared block", || map.store(0, b"x"))?;
    file.expect_contents(&data, "the file")?;
    clone.expect_contents(&data, "the clone")?;
    expect_bytes(&map.load_all(), &data, "the mapping can still be read")?;
    filler.truncate(0)?;
    map.store(0, b"x");
    expect_bytes(&file.read_at(0, 1)?, b"x", "the file, once there was room")?;
    clone.expect_contents(&data, "the clone")
}

fn a_full_filesystem_is_efault_for_the_kernel(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "256k")])?;
    let data = blocks(24, 2);
    let file = fs.create_with("file", &data)?;
    let clone = new_clone(&file, fs.path("clone"))?;
    let map = Mapping::shared(&file, 2 * BLOCK)?;
    let filler = fs.fill(0)?;
    expect_errno(map.kernel_store(10, 1)?, libc::EFAULT, "read(2) into a shared block")?;
    filler.truncate(0)?;
    map.kernel_store(10, 1)?.or_fail("read(2) into the block once there is room")?;
    clone.expect_contents(&data, "the clone")
}

fn a_mapping_survives_close_and_unlink(t: &Test) -> Outcome {
    let data = blocks(25, 3);
    let file = t.create_with("file", &data)?;
    let map = Mapping::shared(&file, 3 * BLOCK)?;
    drop(file);
    expect_bytes(&map.load(0, BLOCK), &data[..BLOCK], "after close")?;
    unlink(t.path("file")).or_fail("unlink")?;
    map.store(2 * BLOCK, b"stored after unlink");
    t.create_with("other", &blocks(26, 20))?;
    expect_bytes(&map.load(BLOCK, BLOCK), &data[BLOCK..2 * BLOCK], "after unlink")?;
    expect_bytes(&map.load(2 * BLOCK, 19), b"stored after unlink", "a store after unlink")
}

fn space_of_an_unlinked_mapped_file_is_freed_at_the_end(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let before = fs.space()?;
    let file = fs.create_with("file", &blocks(27, 50))?;
    let map = Mapping::shared(&file, 50 * BLOCK)?;
    map.load_all();
    map.store(0, b"x");
    drop(file);
    unlink(fs.path("file")).or_fail("unlink")?;
    expect_eq(fs.used()?, before.used() + 50, "blocks used while it is mapped")?;
    drop(map);
    expect_eq(fs.space()?, before, "space after it was unmapped")
}

fn a_child_shares_shared_mappings_and_copies_private_ones(t: &Test) -> Outcome {
    let data = blocks(28, 4);
    let file = t.create_with("file", &data)?;
    let shared = Mapping::shared(&file, 4 * BLOCK)?;
    let private = Mapping::private(&file, 4 * BLOCK)?;
    shared.store(0, b"parent");
    private.store(BLOCK, b"parent's own");
    in_child(|| {
        expect_bytes(&shared.load(0, 6), b"parent", "the parent's store, seen by the child")?;
        expect_bytes(&private.load(BLOCK, 12), b"parent's own", "the parent's private store")?;
        shared.store(2 * BLOCK, b"child");
        private.store(BLOCK, b"child's own!");
        private.store(3 * BLOCK, b"child");
        Ok(())
    })?;
    expect_bytes(&shared.load(2 * BLOCK, 5), b"child", "the child's store, seen by the parent")?;
    expect_bytes(&private.load(BLOCK, 12), b"parent's own", "the private store of the parent")?;
    expect_bytes(&private.load(3 * BLOCK, 5), &data[3 * BLOCK..3 * BLOCK + 5], "a page the child stored to")?;
    expect_bytes(&file.read_at(2 * BLOCK64, 5)?, b"child", "the file")?;
    if t.filesystem != Tmpfs {
        let clone = new_clone(&file, t.path("clone"))?;
        let before = clone.contents()?;
        in_child(|| {
            shared.store(2 * BLOCK, b"again");
            Ok(())
        })?;
        expect_bytes(&shared.load(2 * BLOCK, 5), b"again", "a store of a child after a clone")?;
        clone.expect_contents(&before, "the clone")?;
    }
    Ok(())
}

fn a_mapping_can_be_moved_and_grown(t: &Test) -> Outcome {
    let data = blocks(29, 8);
    let file = t.create_with("file", &data)?;
    let mut map = Mapping::shared(&file, 2 * BLOCK)?;
    map.store(0, b"before");
    map.remap(8 * BLOCK, libc::MREMAP_MAYMOVE)?;
    expect_bytes(&map.load(0, 6), b"before", "after growing")?;
    expect_bytes(&map.load(6, 8 * BLOCK - 6), &data[6..], "the grown mapping")?;
    map.store(7 * BLOCK, b"after");
    map.remap(3 * BLOCK, 0)?;
    expect_bytes(&map.load(0, 6), b"before", "after shrinking")?;
    expect_bytes(&file.read_at(7 * BLOCK64, 5)?, b"after", "the file")?;
    // Moving takes the page table entries along.
    let target = Mapping::anonymous(3 * BLOCK)?;
    // SAFETY: moves one mapping of ours over another of ours of the same size.
    let moved = unsafe {
        libc::mremap(
            map.at(0).cast(),
            3 * BLOCK,
            3 * BLOCK,
            libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
            target.at(0),
        )
    };
    expect(moved == target.at(0).cast(), "mremap moves the mapping")?;
    std::mem::forget(map);
    target.store(BLOCK, b"moved");
    expect_bytes(&file.read_at(BLOCK64, 5)?, b"moved", "a store through the moved mapping")
}

fn dropped_pages_come_back_from_the_file(t: &Test) -> Outcome {
    let data = blocks(30, 3);
    let file = t.create_with("file", &data)?;
    let shared = Mapping::shared(&file, 3 * BLOCK)?;
    let private = Mapping::private(&file, 3 * BLOCK)?;
    shared.store(0, b"kept");
    private.store(BLOCK, b"lost");
    for map in [&shared, &private] {
        map.advise(libc::MADV_DONTNEED).or_fail("madvise(MADV_DONTNEED)")?;
    }
    let mut model = data;
    model[..4].copy_from_slice(b"kept");
    expect_bytes(&shared.load_all(), &model, "the shared mapping")?;
    expect_bytes(&private.load_all(), &model, "the private mapping, whose copy is gone")?;
    file.expect_contents(&model, "the file")
}

fn msync_mlock_and_populate_work(t: &Test) -> Outcome {
    let data = blocks(31, 20);
    let file = t.create_with("file", &data)?;
    file.truncate(24 * BLOCK64)?;
    for flags in [libc::MAP_SHARED, libc::MAP_PRIVATE] {
        let map = Mapping::try_new(&file, 0, 24 * BLOCK, READ | WRITE, flags | libc::MAP_POPULATE)
            .or_fail("mmap(MAP_POPULATE)")?;
        for sync in [libc::MS_SYNC, libc::MS_ASYNC, libc::MS_SYNC | libc::MS_INVALIDATE] {
            map.sync(sync).or_fail("msync")?;
        }
        // SAFETY: the mapping is ours.
        unsafe {
            crate::sys::check(libc::mlock(map.at(0).cast(), 24 * BLOCK)).or_fail("mlock")?;
            crate::sys::check(libc::munlock(map.at(0).cast(), 24 * BLOCK)).or_fail("munlock")?;
        }
        map.advise(libc::MADV_POPULATE_READ).or_fail("madvise(MADV_POPULATE_READ)")?;
        map.advise(libc::MADV_POPULATE_WRITE).or_fail("madvise(MADV_POPULATE_WRITE)")?;
        expect_bytes(&map.load(0, 20 * BLOCK), &data, "the mapping")?;
        expect(map.load(20 * BLOCK, 4 * BLOCK).iter().all(|&b| b == 0), "the hole in it")?;
    }
    let behind = Mapping::shared(&file, 26 * BLOCK)?;
    expect_errno(
        behind.advise(libc::MADV_POPULATE_READ),
        libc::EFAULT,
        "MADV_POPULATE_READ behind the end",
    )
}

fn a_mapping_can_be_split_and_partly_unmapped(t: &Test) -> Outcome {
    let data = blocks(32, 6);
    let file = t.create_with("file", &data)?;
    let mut map = Mapping::shared(&file, 6 * BLOCK)?;
    map.load_all();
    map.protect(2 * BLOCK, BLOCK, READ).or_fail("mprotect in the middle")?;
    map.unmap_from(4 * BLOCK)?;
    map.store(3 * BLOCK, b"x");
    let mut model = data;
    model[3 * BLOCK] = b'x';
    expect_bytes(&map.load_all(), &model[..4 * BLOCK], "what is left of the mapping")?;
    // What remains must still be found when the file changes under it.
    file.write_at(b"under it", BLOCK64)?;
    expect_bytes(&map.load(BLOCK, 8), b"under it", "after a write")?;
    file.truncate(3 * BLOCK64)?;
    expect_errno(map.kernel_can_read(3 * BLOCK)?, libc::EFAULT, "a page cut off")
}

fn a_debugger_can_write_into_a_private_mapping(t: &Test) -> Outcome {
    let data = blocks(33, 2);
    let file = t.create_with("file", &data)?.reopen(libc::O_RDONLY)?;
    let map = Mapping::try_new(&file, 0, 2 * BLOCK, READ, libc::MAP_PRIVATE).or_fail("mmap")?;
    let memory = File::open("/proc/self/mem", libc::O_RDWR).or_fail("open /proc/self/mem")?;
    // Once with the page not mapped yet, once with it mapped.
    map.load_byte(BLOCK);
    for offset in [5, BLOCK + 5] {
        let place = map.at(offset) as u64;
        match memory.try_pwrite(b"breakpoint", place) {
            Ok(n) => expect_eq(n, 10, "bytes written to /proc/self/mem")?,
            // Some kernels are built to refuse it.
            Err(Errno(libc::EIO | libc::EACCES | libc::EPERM)) => return Ok(()),
            Err(error) => return Err(error).or_fail("write to /proc/self/mem"),
        }
        expect_bytes(&map.load(offset, 10), b"breakpoint", "the mapping")?;
        expect_bytes(&memory.read_at(place, 10)?, b"breakpoint", "/proc/self/mem")?;
    }
    file.expect_contents(&data, "the file")
}

fn another_process_can_read_and_write_the_mapping(t: &Test) -> Outcome {
    let data = blocks(34, 3);
    let file = t.create_with("file", &data)?;
    let map = Mapping::shared(&file, 3 * BLOCK)?;
    // SAFETY: plain call.
    let parent = unsafe { libc::getpid() };
    in_child(|| {
        let mut buffer = vec![0; 2 * BLOCK];
        let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 2 * BLOCK };
        let remote = libc::iovec { iov_base: map.at(100).cast(), iov_len: 2 * BLOCK };
        // SAFETY: the local buffer is ours; the kernel checks the remote one.
        let n = unsafe { libc::process_vm_readv(parent, &local, 1, &remote, 1, 0) };
        let n = crate::sys::check(n as i64).or_fail("process_vm_readv")?;
        expect_bytes(&buffer[..n], &data[100..100 + n], "read from the parent")?;
        buffer.fill(7);
        // SAFETY: as above.
        let n = unsafe { libc::process_vm_writev(parent, &local, 1, &remote, 1, 0) };
        crate::sys::check(n as i64).or_fail("process_vm_writev")?;
        Ok(())
    })?;
    let mut model = data;
    model[100..100 + 2 * BLOCK].fill(7);
    file.expect_contents(&model, "the file after process_vm_writev")
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
    expect(file.stat()?.st_mtime != old.tv_sec, "mtime is new after a store and msync")
}

fn clone_then_store_breaks_sharing(t: &Test) -> Outcome {
    let data = blocks(38, 4);
    let source = t.create_with("source", &data)?;
    let clone = new_clone(&source, t.path("clone"))?;
    let map = Mapping::shared(&source, 4 * BLOCK)?;
    map.store(BLOCK + 5, b"source");
    clone.expect_contents(&data, "the clone after a store to the source")?;
    let clone_map = Mapping::shared(&clone, 4 * BLOCK)?;
    clone_map.store(2 * BLOCK + 5, b"clone");
    let mut model = data.clone();
    model[BLOCK + 5..BLOCK + 11].copy_from_slice(b"source");
    source.expect_contents(&model, "the source")?;
    expect_bytes(&map.load_all(), &model, "the mapping of the source")?;
    let mut model = data;
    model[2 * BLOCK + 5..2 * BLOCK + 10].copy_from_slice(b"clone");
    clone.expect_contents(&model, "the clone")?;
    expect_bytes(&clone_map.load_all(), &model, "the mapping of the clone")
}

fn a_page_mapped_for_writing_before_the_clone_is_protected(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(39, 3))?;
    let map = Mapping::shared(&source, 3 * BLOCK)?;
    for i in 0..t.rounds(50) {
        // Each page can be stored to without a fault when the clone is made.
        for page in 0..3 {
            map.word(page * BLOCK).store(2 * i as u64, std::sync::atomic::Ordering::SeqCst);
        }
        let clone = new_clone(&source, t.path("clone"))?;
        let before = clone.contents()?;
        for page in 0..3 {
            map.word(page * BLOCK).store(2 * i as u64 + 1, std::sync::atomic::Ordering::SeqCst);
        }
        clone.expect_contents(&before, &format!("clone {i} after stores to its source"))?;
        expect_bytes(
            &source.read_at(0, 8)?,
            &(2 * i as u64 + 1).to_le_bytes(),
            "the source after the stores",
        )?;
    }
    Ok(())
}

fn both_sides_mapped_before_and_after_are_right(t: &Test) -> Outcome {
    let data = blocks(40, 4);
    let source = t.create_with("source", &data)?;
    let to = t.create_with("to", &blocks(41, 4))?;
    let before = [Mapping::shared(&source, 4 * BLOCK)?, Mapping::shared(&to, 4 * BLOCK)?];
    for map in &before {
        let first = map.load_byte(0);
        map.store(0, &[first]);
        map.load_all();
    }
    clone_file(&source, &to).or_fail("FICLONE")?;
    let after = [Mapping::shared(&source, 4 * BLOCK)?, Mapping::shared(&to, 4 * BLOCK)?];
    for map in before.iter().chain(&after) {
        expect_bytes(&map.load_all(), &data, "each mapping after the clone")?;
    }
    let mut models = [data.clone(), data];
    let maps = [(0, &before[0]), (1, &before[1]), (0, &after[0]), (1, &after[1])];
    for (i, (file, map)) in maps.into_iter().enumerate() {
        let at = i * BLOCK + 7;
        map.store(at, b"stored");
        models[file][at..at + 6].copy_from_slice(b"stored");
        for (file, model) in models.iter().enumerate() {
            expect_bytes(&before[file].load_all(), model, format!("old mapping of file {file}"))?;
            expect_bytes(&after[file].load_all(), model, format!("new mapping of file {file}"))?;
        }
    }
    source.expect_contents(&models[0], "the source")?;
    to.expect_contents(&models[1], "the destination")
}

fn a_store_after_a_clone_takes_one_block(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "2M")])?;
    let source = fs.create_with("source", &blocks(42, 100))?;
    let map = Mapping::shared(&source, 100 * BLOCK)?;
    map.load_all();
    let clone = new_clone(&source, fs.path("clone"))?;
    let before = fs.used()?;
    map.load_all();
    expect_eq(fs.used()?, before, "blocks used after loads")?;
    map.store(70 * BLOCK, b"x");
    map.store(70 * BLOCK + 1, b"y");
    expect_eq(fs.used()?, before + 1, "blocks used after two stores to one page")?;
    Mapping::shared(&clone, 100 * BLOCK)?.store(70 * BLOCK, b"z");
    expect_eq(fs.used()?, before + 1, "blocks used after a store to the other owner's block")
}

fn a_store_by_the_last_owner_takes_no_block(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "256k")])?;
    let source = fs.create_with("source", &blocks(43, 20))?;
    let map = Mapping::shared(&source, 20 * BLOCK)?;
    let clone = new_clone(&source, fs.path("clone"))?;
    map.load_all();
    drop(clone);
    unlink(fs.path("clone")).or_fail("unlink")?;
    let before = fs.used()?;
    for page in 0..20 {
        map.store(page * BLOCK, b"x");
    }
    expect_eq(fs.used()?, before, "blocks used after the only owner stored everywhere")
}

fn a_mapping_of_the_destination_shows_what_was_cloned_onto_it(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(44, 4))?;
    let to = t.create_with("to", &blocks(45, 4))?;
    let maps = [
        Mapping::shared(&to, 4 * BLOCK)?,
        Mapping::shared_read(&to, 4 * BLOCK)?,
        Mapping::private(&to, 4 * BLOCK)?,
    ];
    for map in &maps {
        map.load_all();
    }
    maps[0].store(BLOCK, b"overwritten soon");
    clone_range(&source, 0, 2 * BLOCK64, &to, BLOCK64).or_fail("FICLONERANGE")?;
    let mut model = blocks(45, 4);
    model[BLOCK..3 * BLOCK].copy_from_slice(&blocks(44, 4)[..2 * BLOCK]);
    for map in &maps {
        expect_bytes(&map.load_all(), &model, "a mapping of the destination")?;
    }
    to.expect_contents(&model, "the destination")
}

fn a_mapping_of_the_destination_shows_a_cloned_hole(t: &Test) -> Outcome {
    let hole = t.create("hole")?;
    hole.truncate(4 * BLOCK64)?;
    let to = t.create_with("to", &blocks(46, 4))?;
    let map = Mapping::shared(&to, 4 * BLOCK)?;
    map.store(0, b"x");
    map.load_all();
    clone_file(&hole, &to).or_fail("FICLONE")?;
    expect(map.load_all().iter().all(|&b| b == 0), "zeros in the mapping")?;
    map.store(BLOCK, b"stored");
    expect_bytes(&to.read_at(BLOCK64, 7)?, b"stored\0", "a store into the cloned hole")?;
    hole.expect_contents(&[0; 4 * BLOCK], "the hole that was cloned")
}

fn a_mapping_of_the_destination_shows_what_was_copied_to_it(t: &Test) -> Outcome {
    let data = blocks(47, 4);
    let source = t.create_with("source", &data)?;
    for (off_in, off_out, len) in [(0, 0, 4 * BLOCK), (1, 100, 2 * BLOCK), (100, 100, 3 * BLOCK)] {
        let mut model = blocks(48, 4);
        let to = t.create_with("to", &model)?;
        let map = Mapping::shared(&to, 4 * BLOCK)?;
        map.load_all();
        map.store(0, &model[..1]);
        copy_loop(&source, off_in as u64, &to, off_out as u64, len)?;
        model[off_out..off_out + len].copy_from_slice(&data[off_in..off_in + len]);
        expect_bytes(&map.load_all(), &model, format!("from {off_in} to {off_out}"))?;
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

fn a_private_mapping_of_a_clone_is_right(t: &Test) -> Outcome {
    let data = blocks(50, 3);
    let source = t.create_with("source", &data)?;
    let clone = new_clone(&source, t.path("clone"))?;
    let map = Mapping::private(&clone, 3 * BLOCK)?;
    expect_bytes(&map.load_all(), &data, "the mapping")?;
    map.store(0, b"private");
    source.write_at(b"source", BLOCK64)?;
    expect_bytes(&map.load(BLOCK, BLOCK), &data[BLOCK..2 * BLOCK], "after a write to the source")?;
    clone.write_at(b"clone", BLOCK64)?;
    expect_bytes(&map.load(BLOCK, 5), b"clone", "after a write to the clone")?;
    expect_bytes(&map.load(0, 7), b"private", "the private copy")?;
    expect_bytes(&clone.read_at(0, BLOCK)?, &data[..BLOCK], "the clone itself")
}

fn a_write_to_a_shared_block_shows_in_mappings_of_its_file_only(t: &Test) -> Outcome {
    let data = blocks(51, 2);
    let source = t.create_with("source", &data)?;
    let clone = new_clone(&source, t.path("clone"))?;
    let source_map = Mapping::shared_read(&source, 2 * BLOCK)?;
    let clone_map = Mapping::shared_read(&clone, 2 * BLOCK)?;
    expect_bytes(&source_map.load_all(), &data, "the source's mapping")?;
    expect_bytes(&clone_map.load_all(), &data, "the clone's mapping")?;
    source.write_at(b"source", 0)?;
    expect_bytes(&source_map.load(0, 6), b"source", "the source's mapping after a write to it")?;
    expect_bytes(&clone_map.load_all(), &data, "the clone's mapping after that")?;
    clone.write_at(b"clone", BLOCK64)?;
    expect_bytes(&clone_map.load(BLOCK, 5), b"clone", "the clone's mapping after a write to it")?;
    expect_bytes(&source_map.load(BLOCK, BLOCK), &data[BLOCK..], "the source's mapping after that")
}

fn a_hundred_mapped_clones_hold_one_set_of_pages(t: &Test) -> Outcome {
    const PAGES: usize = 256;
    let count = t.rounds(100).max(20);
    let fs = t.mount(&[("size", "64M")])?;
    let data = blocks(52, PAGES);
    let source = fs.create_with("source", &data)?;
    let clones = (0..count)
        .map(|i| new_clone(&source, fs.path(&format!("clone-{i}"))))
        .collect::<Outcome<Vec<_>>>()?;
    let used = fs.used()?;
    let memory = memory::available()?;
    let maps = clones
        .iter()
        .map(|clone| Mapping::shared_read(clone, PAGES * BLOCK))
        .collect::<Outcome<Vec<_>>>()?;
    for (i, map) in maps.iter().enumerate() {
        for page in 0..PAGES {
            expect_eq(
                map.load_byte(page * BLOCK + 1),
                data[page * BLOCK + 1],
                format_args!("page {page} of clone {i}"),
            )?;
        }
    }
    expect_eq(fs.used()?, used, "blocks used after all clones were mapped and read")?;
    let taken = memory.saturating_sub(memory::available()?);
    let all = (count * PAGES * BLOCK) as u64;
    expect(
        taken < all / 2,
        format_args!("{count} clones of 1 MiB mapped: {taken} bytes of memory taken, one copy each would be {all}"),
    )
}

fn mappings_of_a_file_by_many_processes_agree(t: &Test) -> Outcome {
    use std::sync::atomic::Ordering::SeqCst;
    let file = t.create("file")?;
    file.truncate(4 * BLOCK64)?;
    let each = t.rounds(2000) as u64;
    let children = (0..3)
        .map(|_| {
            crate::process::Child::spawn(|| {
                let file = file.reopen(libc::O_RDWR)?;
                let map = Mapping::shared(&file, 4 * BLOCK)?;
                for i in 0..each {
                    map.word((i % 4) as usize * BLOCK).fetch_add(1, SeqCst);
                }
                Ok(())
            })
        })
        .collect::<Outcome<Vec<_>>>()?;
    children.into_iter().try_for_each(|child| child.join())?;
    let map = Mapping::shared_read(&file, 4 * BLOCK)?;
    let sum: u64 = (0..4).map(|page| map.word(page * BLOCK).load(SeqCst)).sum();
    expect_eq(sum, 3 * each, "additions by three processes to words in four pages")
}

fn a_large_mapping_faults_everywhere(t: &Test) -> Outcome {
    let count = 64 * 64 / t.effort.divisor.min(8) + 5;
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

fn a_mapped_file_can_be_renamed_and_truncated_to_nothing(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(53, 2))?;
    let map = Mapping::shared(&file, 2 * BLOCK)?;
    map.store(0, b"x");
    crate::sys::rename(t.path("file"), t.path("renamed")).or_fail("rename")?;
    map.store(0, b"y");
    expect_eq(file.read_at(0, 1)?, b"y", "after rename")?;
    file.truncate(0)?;
    expect_errno(map.kernel_can_read(0)?, libc::EFAULT, "the mapping of an emptied file")?;
    file.write_at(b"again", 0)?;
    expect_bytes(&map.load(0, 5), b"again", "the mapping after it was written again")
}

fn swapping_versions_by_rename_leaves_old_mappings_alone(t: &Test) -> Outcome {
    // How databases and package managers replace a file that others have mapped.
    let mut versions = Vec::new();
    for i in 0..10u8 {
        let new = t.create_with("new", &blocks(i, 2))?;
        crate::sys::rename(t.path("new"), t.path("current")).or_fail("rename")?;
        versions.push(Mapping::shared_read(&new, 2 * BLOCK)?);
    }
    for (i, map) in versions.iter().enumerate() {
        expect_bytes(&map.load_all(), &blocks(i as u8, 2), format!("version {i}"))?;
    }
    Ok(())
}
