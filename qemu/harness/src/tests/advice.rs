// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Calls about cached pages. A filesystem without cached pages must handle them without harm:
//! whatever they return, the data stays right, and the kernel reports no fault.

use std::os::fd::AsRawFd;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{Btrfs, Feature, Xfs};
use crate::mapping::{Mapping, READ, WRITE};
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::in_child;
use crate::sys::{c_path, check, new_clone, File};

pub const CASES: &[Case] = &[
    case!(readahead_is_harmless),
    case!(posix_fadvise_is_harmless),
    case!(sync_file_range_is_harmless),
    case!(mincore_is_harmless),
    case!(cachestat_is_harmless),
    case!(madvise_of_every_kind_is_harmless),
    case!(collapsing_into_huge_pages_is_harmless),
    case!(removing_pages_through_a_mapping_removes_all_or_nothing),
    case!(dropping_caches_loses_nothing),
    case!(locking_all_memory_is_harmless),
    case!(moving_pages_between_nodes_is_harmless),
    case!(compacting_memory_is_harmless),
    case!(the_files_of_proc_about_mappings_are_harmless),
    case!(swapping_to_a_file_is_refused)
        .except(Xfs, "can swap to a file")
        .except(Btrfs, "can swap to a file"),
    case!(a_uprobe_is_harmless),
    case!(copying_out_for_io_is_harmless),
    case!(mapping_with_huge_alignment_is_harmless),
    case!(a_core_dump_of_mappings_is_harmless),
    case!(all_of_it_on_a_clone_is_harmless).needs(&[Feature::Reflink]),
];

/// Creates a file with data, a hole and a partial last block; returns it, its contents, and a
/// mapping.
fn subject(t: &Test) -> Outcome<(File, Vec<u8>, Mapping)> {
    let mut model = blocks(1, 20);
    let file = t.create_with("subject", &model)?;
    file.truncate(30 * BLOCK64)?;
    file.write_at(b"the end", 30 * BLOCK64)?;
    model.resize(30 * BLOCK, 0);
    model.extend(b"the end");
    let map = Mapping::shared(&file, 31 * BLOCK)?;
    map.load_all();
    map.store(0, &model[..1]);
    Ok((file, model, map))
}

fn expect_unharmed(file: &File, model: &[u8], map: &Mapping, what: &str) -> Outcome {
    file.expect_contents(model, what)?;
    expect(
        map.load(0, model.len()) == model,
        format_args!("{what}: the mapping is right"),
    )?;
    file.write_at(&model[..100], 0)?;
    map.store(BLOCK, &model[BLOCK..BLOCK + 10]);
    file.expect_contents(model, what)
}

fn readahead_is_harmless(t: &Test) -> Outcome {
    let (file, model, map) = subject(t)?;
    for (offset, count) in [
        (0, 1 << 20),
        (20 * BLOCK as i64, BLOCK),
        (1 << 40, 4096),
        (0, 0),
    ] {
        // SAFETY: plain call on an open descriptor.
        let _ = check(unsafe { libc::readahead(file.as_raw_fd(), offset, count) } as i64);
    }
    expect_unharmed(&file, &model, &map, "after readahead")
}

fn posix_fadvise_is_harmless(t: &Test) -> Outcome {
    let (file, model, map) = subject(t)?;
    for advice in [
        libc::POSIX_FADV_NORMAL,
        libc::POSIX_FADV_SEQUENTIAL,
        libc::POSIX_FADV_RANDOM,
        libc::POSIX_FADV_WILLNEED,
        libc::POSIX_FADV_DONTNEED,
        libc::POSIX_FADV_NOREUSE,
    ] {
        for (offset, len) in [(0, 0), (BLOCK as i64, 5 * BLOCK as i64), (1 << 40, 1)] {
            // SAFETY: plain call on an open descriptor.
            let result = unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, len, advice) };
            expect_eq(result, 0, format_args!("posix_fadvise({advice})"))?;
        }
    }
    expect_unharmed(&file, &model, &map, "after posix_fadvise")
}

fn sync_file_range_is_harmless(t: &Test) -> Outcome {
    let (file, model, map) = subject(t)?;
    for flags in [0, 1, 2, 4, 7] {
        // SAFETY: plain call on an open descriptor.
        check(unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) })
            .or_fail(format_args!("sync_file_range({flags})"))?;
    }
    expect_unharmed(&file, &model, &map, "after sync_file_range")
}

fn mincore_is_harmless(t: &Test) -> Outcome {
    let (file, model, map) = subject(t)?;
    let fresh = Mapping::shared_read(&file, map.len())?;
    for map in [&map, &fresh] {
        let mut resident = vec![0; 31];
        // SAFETY: one byte a page.
        check(unsafe { libc::mincore(map.at(0).cast(), map.len(), resident.as_mut_ptr()) })
            .or_fail("mincore")?;
    }
    expect_unharmed(&file, &model, &map, "after mincore")
}

fn cachestat_is_harmless(t: &Test) -> Outcome {
    const SYS_CACHESTAT: libc::c_long = 451;
    let (file, model, map) = subject(t)?;
    for range in [[0u64, 0], [0, 1 << 30], [BLOCK64, BLOCK64]] {
        let mut stat = [0u64; 5];
        // SAFETY: a range of two words, a result of five.
        check(unsafe {
            libc::syscall(
                SYS_CACHESTAT,
                file.as_raw_fd(),
                range.as_ptr(),
                stat.as_mut_ptr(),
                0,
            )
        })
        .or_fail("cachestat")?;
    }
    expect_unharmed(&file, &model, &map, "after cachestat")
}

fn madvise_of_every_kind_is_harmless(t: &Test) -> Outcome {
    let (file, model, map) = subject(t)?;
    // Advice for shared file mappings; the kernel chooses the result.
    for advice in [
        libc::MADV_NORMAL,
        libc::MADV_RANDOM,
        libc::MADV_SEQUENTIAL,
        libc::MADV_WILLNEED,
        libc::MADV_DONTNEED,
        libc::MADV_COLD,
        libc::MADV_PAGEOUT,
        libc::MADV_FREE,
        libc::MADV_MERGEABLE,
        libc::MADV_UNMERGEABLE,
        libc::MADV_HUGEPAGE,
        libc::MADV_NOHUGEPAGE,
        libc::MADV_DONTDUMP,
        libc::MADV_DODUMP,
        libc::MADV_DONTFORK,
        libc::MADV_DOFORK,
        libc::MADV_POPULATE_READ,
        libc::MADV_POPULATE_WRITE,
    ] {
        let _ = map.advise(advice);
        expect_unharmed(&file, &model, &map, &format!("after madvise({advice})"))?;
    }
    let private = Mapping::private(&file, map.len())?;
    private.store(3 * BLOCK, b"private");
    for advice in [
        libc::MADV_MERGEABLE,
        libc::MADV_COLD,
        libc::MADV_PAGEOUT,
        libc::MADV_UNMERGEABLE,
    ] {
        let _ = private.advise(advice);
        expect_eq(
            private.load(3 * BLOCK, 7),
            b"private",
            format_args!("madvise({advice})"),
        )?;
    }
    expect_unharmed(&file, &model, &map, "after madvise of a private mapping")
}

fn collapsing_into_huge_pages_is_harmless(t: &Test) -> Outcome {
    const MADV_COLLAPSE: i32 = 25;
    const HUGE: usize = 2 << 20;
    let data: Vec<u8> = blocks(2, 8).into_iter().cycle().take(2 * HUGE).collect();
    let file = t.create_with("file", &data)?;
    for (protection, flags) in [
        (READ, libc::MAP_SHARED),
        (READ | WRITE, libc::MAP_SHARED),
        (READ | libc::PROT_EXEC, libc::MAP_PRIVATE),
    ] {
        let map = Mapping::try_new(&file, 0, 2 * HUGE, protection, flags).or_fail("mmap")?;
        for page in (0..2 * HUGE).step_by(16 * BLOCK) {
            map.load_byte(page);
        }
        let _ = map.advise(libc::MADV_HUGEPAGE);
        let _ = map.advise(MADV_COLLAPSE);
        expect(map.load_all() == data, "the mapping after MADV_COLLAPSE")?;
    }
    file.write_at(b"written", 5)?;
    expect_eq(
        file.read_at(5, 7)?,
        b"written",
        "the file after MADV_COLLAPSE",
    )
}

fn removing_pages_through_a_mapping_removes_all_or_nothing(t: &Test) -> Outcome {
    let (file, mut model, map) = subject(t)?;
    // Punches a hole, if the filesystem can do that. SAFETY: within the mapping.
    let removed = unsafe { libc::madvise(map.at(2 * BLOCK).cast(), 3 * BLOCK, libc::MADV_REMOVE) };
    if check(removed).is_ok() {
        model[2 * BLOCK..5 * BLOCK].fill(0);
    }
    expect_unharmed(&file, &model, &map, "after MADV_REMOVE")
}

fn dropping_caches_loses_nothing(t: &Test) -> Outcome {
    let (file, model, map) = subject(t)?;
    t.mkdir("dir")?;
    File::create(t.path("dir/file"))?;
    for what in ["1", "2", "3"] {
        std::fs::write("/proc/sys/vm/drop_caches", what).or_fail("write drop_caches")?;
        expect_unharmed(&file, &model, &map, "after dropping caches")?;
    }
    expect(
        crate::sys::exists(t.path("dir/file")),
        "names are still there",
    )?;
    let again = file.reopen(libc::O_RDONLY)?;
    again.expect_contents(&model, "opened again")
}

fn locking_all_memory_is_harmless(t: &Test) -> Outcome {
    let (file, model, map) = subject(t)?;
    // SAFETY: plain calls.
    unsafe {
        check(libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE)).or_fail("mlockall")?;
        let more = Mapping::shared(&file, 31 * BLOCK)?;
        expect_unharmed(&file, &model, &more, "a mapping made under mlockall")?;
        check(libc::munlockall()).or_fail("munlockall")?;
    }
    expect_unharmed(&file, &model, &map, "after mlockall")
}

fn moving_pages_between_nodes_is_harmless(t: &Test) -> Outcome {
    const MPOL_MF_MOVE_ALL: i32 = 4;
    let (file, model, map) = subject(t)?;
    let pages: Vec<_> = (0..31).map(|page| map.at(page * BLOCK)).collect();
    let (nodes, mut status) = (vec![0i32; 31], vec![0i32; 31]);
    // SAFETY: arrays of as many entries as it says; the kernel checks the addresses.
    unsafe {
        for flags in [2, MPOL_MF_MOVE_ALL] {
            let _ = libc::syscall(
                libc::SYS_move_pages,
                0,
                31,
                pages.as_ptr(),
                nodes.as_ptr(),
                status.as_mut_ptr(),
                flags,
            );
        }
        let from = 1u64;
        let _ = libc::syscall(libc::SYS_migrate_pages, 0, 64, &from, &from);
        let _ = libc::syscall(
            libc::SYS_mbind,
            map.at(0),
            map.len(),
            2,
            &from,
            64,
            2 | 4 | 1,
        );
    }
    expect_unharmed(&file, &model, &map, "after moving pages")
}

fn compacting_memory_is_harmless(t: &Test) -> Outcome {
    let (file, model, map) = subject(t)?;
    // Only if the kernel has this call.
    let _ = std::fs::write("/proc/sys/vm/compact_memory", "1");
    expect_unharmed(&file, &model, &map, "after compaction")
}

fn the_files_of_proc_about_mappings_are_harmless(t: &Test) -> Outcome {
    let (file, model, map) = subject(t)?;
    let private = Mapping::private(&file, map.len())?;
    private.store(0, b"x");
    for name in [
        "maps",
        "smaps",
        "smaps_rollup",
        "numa_maps",
        "status",
        "statm",
    ] {
        // numa_maps exists only if the kernel has NUMA.
        let _ = std::fs::read(format!("/proc/self/{name}"));
    }
    let pagemap = File::open("/proc/self/pagemap", libc::O_RDONLY).or_fail("open pagemap")?;
    let entries = pagemap.read_at(map.at(0) as u64 / BLOCK64 * 8, 31 * 8)?;
    expect_eq(entries.len(), 31 * 8, "bytes read from pagemap")?;
    for name in ["kpageflags", "kpagecount"] {
        if let Ok(table) = File::open(format!("/proc/{name}"), libc::O_RDONLY) {
            for entry in entries.chunks_exact(8) {
                let mut word = [0; 8];
                word.copy_from_slice(entry);
                let frame = u64::from_ne_bytes(word) & ((1 << 55) - 1);
                let _ = table.try_pread(&mut [0; 8], frame * 8);
            }
        }
    }
    for value in ["1", "2", "3", "4"] {
        std::fs::write("/proc/self/clear_refs", value).or_fail("write clear_refs")?;
        expect_unharmed(&file, &model, &map, &format!("after clear_refs {value}"))?;
    }
    Ok(())
}

fn swapping_to_a_file_is_refused(t: &Test) -> Outcome {
    // A valid header, so that only the filesystem can refuse it.
    let mut image = vec![0; 64 * BLOCK];
    image[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    image[1028..1032].copy_from_slice(&63u32.to_le_bytes());
    image[BLOCK - 10..BLOCK].copy_from_slice(b"SWAPSPACE2");
    let file = t.create_with("swap", &image)?;
    crate::sys::chmod(&file.path, 0o600).or_fail("chmod")?;
    let path = c_path(&file.path);
    // SAFETY: the path is NUL-terminated.
    let result = check(unsafe { libc::swapon(path.as_ptr(), 0) });
    if result.is_ok() {
        // SAFETY: as above.
        unsafe { libc::swapoff(path.as_ptr()) };
    }
    expect_errno(result, libc::EINVAL, "swapon")?;
    file.expect_contents(&image, "the file")?;
    file.write_at(b"x", 0)?;
    file.truncate(0)
}

fn a_uprobe_is_harmless(t: &Test) -> Outcome {
    let bytes = std::fs::read("/bin/true").or_fail("read /bin/true")?;
    let file = t.create_with("program", &bytes)?;
    crate::sys::chmod(&file.path, 0o755).or_fail("chmod")?;
    let path = file.path.clone();
    drop(file);
    let map = Mapping::try_new(
        &File::open(&path, libc::O_RDONLY).or_fail("open")?,
        0,
        BLOCK,
        READ | libc::PROT_EXEC,
        libc::MAP_PRIVATE,
    )
    .or_fail("mmap")?;
    map.load_byte(0);
    let tracing = t.elsewhere.join("tracing");
    crate::sys::mkdir(&tracing, 0o755).or_fail("mkdir")?;
    // Without tracefs or uprobes there is nothing to test.
    if crate::instance::mount("tracefs", &tracing, 0, "").is_ok() {
        let name = format!("h{}", std::process::id());
        let probe = format!("p:{name}/probe {}:0x1000\n", path.display());
        let events = tracing.join("uprobe_events");
        let append = |text: &str| -> crate::failure::Sys<usize> {
            let file = File::open(&events, libc::O_WRONLY | libc::O_APPEND)?;
            crate::sys::write_from(&file, text.as_ptr(), text.len())
        };
        if append(&probe).is_ok() {
            let enable = tracing.join(format!("events/{name}/probe/enable"));
            let _ = std::fs::write(&enable, "1");
            let _ = crate::process::run_program(&path, &[]);
            let _ = std::fs::write(&enable, "0");
            let _ = append(&format!("-:{name}/probe\n"));
        }
    }
    expect(map.load(0, 4) == bytes[..4], "the mapping after a uprobe")?;
    let (end, _) = crate::process::run_program(&path, &[])?;
    expect_eq(
        end,
        crate::process::End::Exited(0),
        "the program after a uprobe",
    )
}

fn copying_out_for_io_is_harmless(t: &Test) -> Outcome {
    // Buffers for direct I/O of other files are pinned while it runs.
    let (file, model, map) = subject(t)?;
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_DIRECT;
    let Ok(direct) = File::open(t.elsewhere.join("direct"), flags) else {
        return expect_unharmed(&file, &model, &map, "without direct I/O");
    };
    let n =
        crate::sys::pwrite_from(&direct, map.at(0), 20 * BLOCK, 0).or_fail("pwrite(O_DIRECT)")?;
    expect_eq(n, 20 * BLOCK, "bytes written from the mapping")?;
    let n = crate::sys::pread_to(&direct, map.at(0), 20 * BLOCK, 0).or_fail("pread(O_DIRECT)")?;
    expect_eq(n, 20 * BLOCK, "bytes read into the mapping")?;
    expect_unharmed(
        &file,
        &model,
        &map,
        "after direct I/O from and to the mapping",
    )
}

fn mapping_with_huge_alignment_is_harmless(t: &Test) -> Outcome {
    // Large mappings may be placed and faulted for huge pages.
    const SIZE: usize = 6 << 20;
    let file = t.create("file")?;
    file.truncate(SIZE as u64)?;
    let map = Mapping::shared(&file, SIZE)?;
    let _ = map.advise(libc::MADV_HUGEPAGE);
    for at in [0, (2 << 20) - 8, 2 << 20, (4 << 20) + 4096, SIZE - 8] {
        map.store(at, b"stored!!");
        expect_eq(
            file.read_at(at as u64, 8)?,
            b"stored!!",
            format_args!("a store at {at}"),
        )?;
    }
    file.truncate(BLOCK64)?;
    expect_errno(
        map.kernel_can_read(4 << 20)?,
        libc::EFAULT,
        "behind the new end",
    )
}

fn a_core_dump_of_mappings_is_harmless(t: &Test) -> Outcome {
    let (file, model, map) = subject(t)?;
    let end = crate::process::Child::spawn(|| {
        let limit = libc::rlimit {
            rlim_cur: 1 << 22,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: plain calls; the core, if any, is written into the test's directory.
        unsafe {
            libc::setrlimit(libc::RLIMIT_CORE, &limit);
            let dir = c_path(&t.elsewhere);
            libc::chdir(dir.as_ptr());
            let text = b"0xff";
            if let Ok(filter) = File::open("/proc/self/coredump_filter", libc::O_WRONLY) {
                let _ = crate::sys::write_from(&filter, text.as_ptr(), text.len());
            }
            libc::abort()
        }
    })?
    .end()?;
    expect_eq(
        end,
        crate::process::End::Killed(libc::SIGABRT),
        "how the process ended",
    )?;
    expect_unharmed(&file, &model, &map, "after a core dump")
}

fn all_of_it_on_a_clone_is_harmless(t: &Test) -> Outcome {
    let (file, model, map) = subject(t)?;
    let clone = new_clone(&file, t.path("clone"))?;
    let clone_map = Mapping::shared(&clone, map.len())?;
    in_child(|| {
        for _ in 0..3 {
            // SAFETY: plain calls on open descriptors.
            unsafe {
                libc::readahead(clone.as_raw_fd(), 0, 1 << 20);
                libc::posix_fadvise(clone.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED);
                libc::sync_file_range(clone.as_raw_fd(), 0, 0, 7);
            }
            for advice in [
                libc::MADV_WILLNEED,
                libc::MADV_COLD,
                libc::MADV_PAGEOUT,
                libc::MADV_DONTNEED,
            ] {
                let _ = clone_map.advise(advice);
            }
            clone_map.sync(libc::MS_SYNC).or_fail("msync")?;
        }
        Ok(())
    })?;
    expect_unharmed(&clone, &model, &clone_map, "the clone")?;
    clone.write_at(b"clone only", 3 * BLOCK64)?;
    expect_unharmed(&file, &model, &map, "the source")
}
