// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The life of a mapping: close, unlink, fork, move, split, other processes.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{Feature, Tmpfs};
use crate::mapping::{Mapping, READ, WRITE};
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::in_child;
use crate::sys::{new_clone, unlink};

pub const CASES: &[Case] = &[
    case!(a_mapping_survives_close_and_unlink),
    case!(space_of_an_unlinked_mapped_file_is_freed_at_the_end).needs(&[Feature::Instance]),
    case!(a_child_shares_shared_mappings_and_copies_private_ones),
    case!(a_mapping_can_be_moved_and_grown),
    case!(dropped_pages_come_back_from_the_file),
    case!(msync_mlock_and_populate_work),
    case!(a_mapping_can_be_split_and_partly_unmapped),
    case!(another_process_can_read_and_write_the_mapping),
    case!(mappings_of_a_file_by_many_processes_agree),
    case!(a_mapped_file_can_be_renamed_and_truncated_to_nothing),
    case!(swapping_versions_by_rename_leaves_old_mappings_alone),
];

fn a_mapping_survives_close_and_unlink(t: &Test) -> Outcome {
    let data = blocks(25, 3);
    let file = t.create_with("file", &data)?;
    let map = Mapping::shared(&file, 3 * BLOCK)?;
    drop(file);
    expect_bytes(&map.load(0, BLOCK), &data[..BLOCK], "after close")?;
    unlink(t.path("file")).or_fail("unlink")?;
    map.store(2 * BLOCK, b"stored after unlink");
    t.create_with("other", &blocks(26, 20))?;
    expect_bytes(
        &map.load(BLOCK, BLOCK),
        &data[BLOCK..2 * BLOCK],
        "after unlink",
    )?;
    expect_bytes(
        &map.load(2 * BLOCK, 19),
        b"stored after unlink",
        "a store after unlink",
    )
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
    expect_eq(
        fs.used()?,
        before.used() + 50,
        "blocks used while it is mapped",
    )?;
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
        expect_bytes(
            &shared.load(0, 6),
            b"parent",
            "the parent's store, seen by the child",
        )?;
        expect_bytes(
            &private.load(BLOCK, 12),
            b"parent's own",
            "the parent's private store",
        )?;
        shared.store(2 * BLOCK, b"child");
        private.store(BLOCK, b"child's own!");
        private.store(3 * BLOCK, b"child");
        Ok(())
    })?;
    expect_bytes(
        &shared.load(2 * BLOCK, 5),
        b"child",
        "the child's store, seen by the parent",
    )?;
    expect_bytes(
        &private.load(BLOCK, 12),
        b"parent's own",
        "the private store of the parent",
    )?;
    expect_bytes(
        &private.load(3 * BLOCK, 5),
        &data[3 * BLOCK..3 * BLOCK + 5],
        "a page the child stored to",
    )?;
    expect_bytes(&file.read_at(2 * BLOCK64, 5)?, b"child", "the file")?;
    if t.filesystem != Tmpfs {
        let clone = new_clone(&file, t.path("clone"))?;
        let before = clone.contents()?;
        in_child(|| {
            shared.store(2 * BLOCK, b"again");
            Ok(())
        })?;
        expect_bytes(
            &shared.load(2 * BLOCK, 5),
            b"again",
            "a store of a child after a clone",
        )?;
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
    // mremap(2) moves the page table entries.
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
    expect_bytes(
        &file.read_at(BLOCK64, 5)?,
        b"moved",
        "a store through the moved mapping",
    )
}

fn dropped_pages_come_back_from_the_file(t: &Test) -> Outcome {
    let data = blocks(30, 3);
    let file = t.create_with("file", &data)?;
    let shared = Mapping::shared(&file, 3 * BLOCK)?;
    let private = Mapping::private(&file, 3 * BLOCK)?;
    shared.store(0, b"kept");
    private.store(BLOCK, b"lost");
    for map in [&shared, &private] {
        map.advise(libc::MADV_DONTNEED)
            .or_fail("madvise(MADV_DONTNEED)")?;
    }
    let mut model = data;
    model[..4].copy_from_slice(b"kept");
    expect_bytes(&shared.load_all(), &model, "the shared mapping")?;
    expect_bytes(
        &private.load_all(),
        &model,
        "the private mapping, whose copy is gone",
    )?;
    file.expect_contents(&model, "the file")
}

fn msync_mlock_and_populate_work(t: &Test) -> Outcome {
    let data = blocks(31, 20);
    let file = t.create_with("file", &data)?;
    file.truncate(24 * BLOCK64)?;
    for flags in [libc::MAP_SHARED, libc::MAP_PRIVATE] {
        let map = Mapping::try_new(
            &file,
            0,
            24 * BLOCK,
            READ | WRITE,
            flags | libc::MAP_POPULATE,
        )
        .or_fail("mmap(MAP_POPULATE)")?;
        for sync in [
            libc::MS_SYNC,
            libc::MS_ASYNC,
            libc::MS_SYNC | libc::MS_INVALIDATE,
        ] {
            map.sync(sync).or_fail("msync")?;
        }
        // SAFETY: the mapping is ours.
        unsafe {
            crate::sys::check(libc::mlock(map.at(0).cast(), 24 * BLOCK)).or_fail("mlock")?;
            crate::sys::check(libc::munlock(map.at(0).cast(), 24 * BLOCK)).or_fail("munlock")?;
        }
        map.advise(libc::MADV_POPULATE_READ)
            .or_fail("madvise(MADV_POPULATE_READ)")?;
        map.advise(libc::MADV_POPULATE_WRITE)
            .or_fail("madvise(MADV_POPULATE_WRITE)")?;
        expect_bytes(&map.load(0, 20 * BLOCK), &data, "the mapping")?;
        expect(
            map.load(20 * BLOCK, 4 * BLOCK).iter().all(|&b| b == 0),
            "the hole in it",
        )?;
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
    map.protect(2 * BLOCK, BLOCK, READ)
        .or_fail("mprotect in the middle")?;
    map.unmap_from(4 * BLOCK)?;
    map.store(3 * BLOCK, b"x");
    let mut model = data;
    model[3 * BLOCK] = b'x';
    expect_bytes(
        &map.load_all(),
        &model[..4 * BLOCK],
        "the rest of the mapping",
    )?;
    // Changes of the file must still find the rest.
    file.write_at(b"under it", BLOCK64)?;
    expect_bytes(&map.load(BLOCK, 8), b"under it", "after a write")?;
    file.truncate(3 * BLOCK64)?;
    expect_errno(
        map.kernel_can_read(3 * BLOCK)?,
        libc::EFAULT,
        "a page cut off",
    )
}

fn another_process_can_read_and_write_the_mapping(t: &Test) -> Outcome {
    let data = blocks(34, 3);
    let file = t.create_with("file", &data)?;
    let map = Mapping::shared(&file, 3 * BLOCK)?;
    // SAFETY: plain call.
    let parent = unsafe { libc::getpid() };
    in_child(|| {
        let mut buffer = vec![0; 2 * BLOCK];
        let local = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: 2 * BLOCK,
        };
        let remote = libc::iovec {
            iov_base: map.at(100).cast(),
            iov_len: 2 * BLOCK,
        };
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
    expect_eq(
        sum,
        3 * each,
        "additions by three processes to words in four pages",
    )
}

fn a_mapped_file_can_be_renamed_and_truncated_to_nothing(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(53, 2))?;
    let map = Mapping::shared(&file, 2 * BLOCK)?;
    map.store(0, b"x");
    crate::sys::rename(t.path("file"), t.path("renamed")).or_fail("rename")?;
    map.store(0, b"y");
    expect_eq(file.read_at(0, 1)?, b"y", "after rename")?;
    file.truncate(0)?;
    expect_errno(
        map.kernel_can_read(0)?,
        libc::EFAULT,
        "the mapping of an emptied file",
    )?;
    file.write_at(b"again", 0)?;
    expect_bytes(
        &map.load(0, 5),
        b"again",
        "the mapping after it was written again",
    )
}

fn swapping_versions_by_rename_leaves_old_mappings_alone(t: &Test) -> Outcome {
    // Databases and package managers replace a file like this while it is mapped.
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
