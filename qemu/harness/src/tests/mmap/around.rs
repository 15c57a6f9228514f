// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Fault-around: stores to pages that were mapped without a fault.

use std::time::{Duration, Instant};

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, Context, Outcome};
use crate::filesystem::{Feature, Tmpfs, CLONES};
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::sys::{check, new_clone, read_all, wait_for_the_clock, File};
use crate::tests::{fallocate::fallocate, zero_copy::splice};

pub const CASES: &[Case] = &[
    case!(few_faults_map_a_file).needs(&[Feature::Reflinkfs, Feature::PagesMarkedByProcessor]),
    case!(a_mapping_of_a_part_is_mapped_as_far_as_it_reaches),
    case!(stores_beside_one_reach_no_clone).needs(CLONES),
    case!(stores_beside_one_reach_no_pipe).needs(&[Feature::Reflinkfs]),
    case!(holes_and_room_beside_a_store_stay),
    case!(a_store_beside_one_dirties_its_page),
    case!(a_store_after_a_load_dirties_its_page),
    case!(a_store_after_fsync_changes_the_time).except(Tmpfs, "stores leave the times as they are"),
    case!(stores_show_in_the_time_by_msync_or_munmap)
        .except(Tmpfs, "stores leave the times as they are"),
    case!(a_locked_mapping_takes_stores),
    case!(a_sync_does_not_visit_all_mappings_for_each_store).needs(&[Feature::Reflinkfs]),
];

const COUNT: usize = 256;

fn stored(t: &Test) -> Outcome<(File, Vec<u8>)> {
    let data = blocks(90, COUNT);
    Ok((t.create_with("file", &data)?, data))
}

fn faults() -> Outcome<i64> {
    // SAFETY: all zeros is a valid value, which the call overwrites.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is valid for the call.
    check(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) }).or_fail("getrusage")?;
    Ok(usage.ru_minflt)
}

fn few_faults_map_a_file(t: &Test) -> Outcome {
    // The test itself may fault, on its stack for example.
    const OTHERS: i64 = 8;
    let (file, _) = stored(t)?;
    for (stores, backwards) in [(false, false), (true, false), (false, true), (true, true)] {
        let map = Mapping::shared(&file, COUNT * BLOCK)?;
        let before = faults()?;
        for i in 0..COUNT {
            let at = if backwards { COUNT - 1 - i } else { i } * BLOCK;
            if stores {
                map.store(at, b"x");
            } else {
                map.load_byte(at);
            }
        }
        let taken = faults()? - before;
        let most = (COUNT / 16) as i64 + OTHERS;
        let what = format!("{taken} faults, stores: {stores}, backwards: {backwards}");
        expect(taken <= most, &what)?;
    }
    Ok(())
}

fn a_mapping_of_a_part_is_mapped_as_far_as_it_reaches(t: &Test) -> Outcome {
    let (file, mut model) = stored(t)?;
    for (first, count) in [(3, 5), (61, 7), (15, 1), (16, 64), (COUNT - 2, 2)] {
        let map = Mapping::try_new(
            &file,
            (first * BLOCK) as u64,
            count * BLOCK,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
        )
        .or_fail("mmap")?;
        for i in [count / 2, 0, count - 1] {
            let bytes = format!("{first} {i}");
            map.store(i * BLOCK + 7, bytes.as_bytes());
            model[(first + i) * BLOCK + 7..][..bytes.len()].copy_from_slice(bytes.as_bytes());
        }
        expect_bytes(
            &map.load_all(),
            &model[first * BLOCK..][..count * BLOCK],
            "the mapping",
        )?;
        file.expect_contents(&model, "the file")?;
    }
    Ok(())
}

fn stores_beside_one_reach_no_clone(t: &Test) -> Outcome {
    let (source, mut model) = stored(t)?;
    let map = Mapping::shared(&source, COUNT * BLOCK)?;
    for round in 0..3u8 {
        // The file owns each of these blocks again.
        for i in 0..COUNT {
            map.store(i * BLOCK, &[round]);
            model[i * BLOCK] = round;
        }
        for i in (0..COUNT).step_by(64) {
            map.store(i * BLOCK, b"first");
            model[i * BLOCK..][..5].copy_from_slice(b"first");
        }
        let clone = new_clone(&source, t.path("clone"))?;
        let before = model.clone();
        for i in 0..COUNT {
            map.store(i * BLOCK + 9, b"then");
            model[i * BLOCK + 9..][..4].copy_from_slice(b"then");
        }
        clone.expect_contents(&before, "the clone")?;
        source.expect_contents(&model, "the source")?;
    }
    Ok(())
}

fn stores_beside_one_reach_no_pipe(t: &Test) -> Outcome {
    const LENT: usize = 5;
    let (file, data) = stored(t)?;
    let map = Mapping::shared(&file, COUNT * BLOCK)?;
    let output = splice(&file, LENT, 1)?;
    for i in [0, LENT + 1, LENT] {
        map.store(i * BLOCK, b"stored");
    }
    expect_bytes(
        &read_all(&output, BLOCK)?,
        &data[LENT * BLOCK..][..BLOCK],
        "the pipe's bytes before the stores",
    )
}

fn holes_and_room_beside_a_store_stay(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(32 * BLOCK64)?;
    for i in [0, 2, 9] {
        file.write_at(&blocks(i as u8, 1), i * BLOCK64)?;
    }
    fallocate(&file, 0, 3 * BLOCK64, 2 * BLOCK64).or_fail("fallocate")?;
    let before = (file.data_ranges()?, file.stat()?.st_blocks);
    let map = Mapping::shared(&file, 32 * BLOCK)?;
    map.store(0, b"x");
    expect_eq(
        (file.data_ranges()?, file.stat()?.st_blocks),
        before,
        "data and blocks after a store to the first block",
    )?;
    for i in [1, 4, 20] {
        map.store(i * BLOCK, b"stored");
        expect_bytes(&file.read_at((i * BLOCK) as u64, 6)?, b"stored", "the file")?;
    }
    Ok(())
}

/// Returns whether a page was stored to since the tracking began, if the kernel has
/// CONFIG_MEM_SOFT_DIRTY.
fn is_dirty(map: &Mapping, i: usize) -> Outcome<bool> {
    const SOFT_DIRTY: u64 = 1 << 55;
    let pagemap = File::open("/proc/self/pagemap", libc::O_RDONLY).or_fail("open pagemap")?;
    let entry = pagemap.read_at(map.at(i * BLOCK) as u64 / BLOCK64 * 8, 8)?;
    let mut word = [0; 8];
    word.copy_from_slice(&entry);
    Ok(u64::from_ne_bytes(word) & SOFT_DIRTY != 0)
}

fn begin_tracking() -> Outcome {
    std::fs::write("/proc/self/clear_refs", "4").or_fail("write clear_refs")
}

fn kernel_tracks() -> Outcome<bool> {
    let memory = Mapping::anonymous(BLOCK)?;
    begin_tracking()?;
    memory.store(0, b"x");
    is_dirty(&memory, 0)
}

fn a_store_beside_one_dirties_its_page(t: &Test) -> Outcome {
    if !kernel_tracks()? {
        return Ok(());
    }
    let (file, _) = stored(t)?;
    let map = Mapping::shared(&file, COUNT * BLOCK)?;
    begin_tracking()?;
    for i in [0, 5] {
        map.store(i * BLOCK, b"x");
        expect(is_dirty(&map, i)?, format!("page {i} is soft-dirty"))?;
    }
    Ok(())
}

fn a_store_after_a_load_dirties_its_page(t: &Test) -> Outcome {
    if !kernel_tracks()? {
        return Ok(());
    }
    let (file, _) = stored(t)?;
    let map = Mapping::shared(&file, COUNT * BLOCK)?;
    map.load(0, 1);
    map.store(5 * BLOCK, b"x");
    begin_tracking()?;
    for i in [0, 5] {
        expect(!is_dirty(&map, i)?, format!("page {i} is clean"))?;
        map.store(i * BLOCK, b"x");
        expect(is_dirty(&map, i)?, format!("page {i} is soft-dirty"))?;
    }
    Ok(())
}

fn a_store_after_fsync_changes_the_time(t: &Test) -> Outcome {
    let (file, _) = stored(t)?;
    let map = Mapping::shared(&file, COUNT * BLOCK)?;
    let syncs: [(&str, &dyn Fn() -> Outcome); 2] = [
        ("fsync", &|| file.sync()),
        ("msync", &|| map.sync(libc::MS_SYNC).or_fail("msync")),
    ];
    for i in [0, 5] {
        map.store(i * BLOCK, b"x");
    }
    for (what, sync) in syncs {
        for i in [0, 5] {
            sync()?;
            let before = file.stat()?;
            wait_for_the_clock();
            map.store(i * BLOCK, b"y");
            let after = file.stat()?;
            expect(
                (before.st_mtime, before.st_mtime_nsec) < (after.st_mtime, after.st_mtime_nsec),
                format!("a store to block {i} after {what} changes the time"),
            )?;
        }
    }
    Ok(())
}

fn stores_show_in_the_time_by_msync_or_munmap(t: &Test) -> Outcome {
    let (file, _) = stored(t)?;
    let modified = || -> Outcome<_> {
        let stat = file.stat()?;
        Ok((stat.st_mtime, stat.st_mtime_nsec))
    };
    for munmap in [false, true] {
        let map = Mapping::shared(&file, COUNT * BLOCK)?;
        map.store(0, b"x");
        let before = modified()?;
        wait_for_the_clock();
        // Perhaps made writable together with the first.
        map.store(BLOCK, b"y");
        let what = if munmap {
            drop(map);
            "munmap"
        } else {
            map.sync(libc::MS_SYNC).or_fail("msync")?;
            "msync"
        };
        let after = modified()?;
        expect(
            before < after,
            format_args!("a later store next to the first changes the times at {what}"),
        )?;
        wait_for_the_clock();
        file.sync()?;
        expect_eq(
            modified()?,
            after,
            format_args!("the time after {what}, with nothing stored since"),
        )?;
    }
    Ok(())
}

fn a_locked_mapping_takes_stores(t: &Test) -> Outcome {
    let (file, _) = stored(t)?;
    let map = Mapping::shared(&file, COUNT * BLOCK)?;
    for i in 0..2 {
        // SAFETY: the mapping is there.
        check(unsafe { libc::mlock2(map.at(0).cast(), map.len(), libc::MLOCK_ONFAULT) })
            .or_fail("mlock2(MLOCK_ONFAULT)")?;
        for i in [0, 3, 70] {
            map.store(i * BLOCK, b"x");
        }
        // SAFETY: as above. The second time it ends locked.
        check(unsafe { libc::mlock(map.at(0).cast(), map.len()) }).or_fail("mlock")?;
        if i == 0 {
            // SAFETY: as above.
            check(unsafe { libc::munlock(map.at(0).cast(), map.len()) }).or_fail("munlock")?;
        }
    }
    Ok(())
}

/// Returns how long a sync takes after stores to so many blocks, none beside another.
fn time_to_sync(file: &File, map: &Mapping, stores: usize) -> Outcome<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..5 {
        for i in 0..stores {
            map.store(2 * i * BLOCK, b"s");
        }
        let started = Instant::now();
        file.sync()?;
        least = least.min(started.elapsed());
    }
    Ok(least)
}

/// All page faults of the file wait meanwhile, and a process that may only read it can have many
/// mappings.
fn a_sync_does_not_visit_all_mappings_for_each_store(t: &Test) -> Outcome {
    const FEW: usize = 200;
    const MANY: usize = 3200;
    const SIZE: usize = 2 * MANY * BLOCK;
    let file = t.create_with("file", &vec![b'a'; SIZE])?;
    // Only what is stored to is the file's own then, and mapped writable.
    new_clone(&file, t.path("clone"))?;
    let map = Mapping::shared(&file, SIZE)?;
    let reader = file.reopen(libc::O_RDONLY)?;
    let alone = time_to_sync(&reader, &map, MANY)?;
    let mut mappings = Vec::new();
    for _ in 0..500 {
        mappings.push(Mapping::shared_read(&reader, SIZE)?);
    }
    let few = time_to_sync(&reader, &map, FEW)?;
    let many = time_to_sync(&reader, &map, MANY)?;
    expect(
        many < alone + 5 * few + Duration::from_millis(5),
        format_args!("{few:?} after {FEW} stores, {many:?} after {MANY}, {alone:?} without others"),
    )
}
