// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Stores through mappings, and pages that the kernel holds on to: they belong to one mount.

use std::sync::atomic::Ordering::SeqCst;

use super::contents::fork;
use crate::case::{case, Case, Test};
use crate::eviction::drop_caches;
use crate::failure::{expect, expect_bytes, expect_eq, Context, Outcome};
use crate::filesystem::FORKS;
use crate::instance::Instance;
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::stall::Stall;
use crate::sys::{new_clone, pipe, read_all, unlink, wait_for_the_clock, File};
use crate::tests::evicted::data::{expect_wiped, GROWING};
use crate::tests::futex::{futex_wake, waiter, wake_one};
use crate::tests::isolation::store_by_kernel;
use crate::tests::splice::vmsplice;
use crate::tests::zero_copy::splice;

pub const CASES: &[Case] = &[
    case!(stores_before_are_in_it_and_later_ones_are_not).needs(FORKS),
    case!(mappings_stay_open_over_a_chain_of_forks).needs(FORKS),
    case!(a_mapping_to_read_shows_its_own_file).needs(FORKS),
    case!(stores_to_a_private_mapping_are_in_no_fork).needs(FORKS),
    case!(times_of_stores_are_in_it).needs(FORKS),
    case!(a_store_under_way_lands_in_the_base_only).needs(FORKS),
    case!(a_store_under_way_in_a_fork_lands_there_only).needs(FORKS),
    case!(a_store_under_way_from_a_closed_file_lands_in_the_base_only).needs(FORKS),
    case!(a_store_under_way_to_a_clone_lands_there_only).needs(FORKS),
    case!(a_store_under_way_to_a_removed_file_lands_nowhere).needs(FORKS),
    case!(bytes_stored_behind_the_end_are_not_in_it).needs(FORKS),
    case!(bytes_that_come_behind_the_end_later_are_not_in_it).needs(FORKS),
    case!(what_was_spliced_stays_as_it_was).needs(FORKS),
    case!(what_was_lent_to_a_pipe_is_the_bases).needs(FORKS),
    case!(a_futex_of_one_wakes_none_of_the_other).needs(FORKS),
];

const PAGES: usize = 8;
const SIZE: usize = PAGES * BLOCK;

/// Opens and maps a file of a mount.
#[track_caller]
fn map(fs: &Instance, name: &str) -> Outcome<(File, Mapping)> {
    let file = File::open(fs.path(name), libc::O_RDWR).or_fail("open")?;
    let map = Mapping::shared(&file, SIZE)?;
    Ok((file, map))
}

/// Checks a file by reading it, by the mapping, and by another mapping.
#[track_caller]
fn expect_all(file: &File, map: &Mapping, model: &[u8], what: &str) -> Outcome {
    file.expect_contents(model, what)?;
    expect_bytes(&map.load_all(), model, format_args!("{what}, mapped"))?;
    let other = Mapping::shared_read(file, SIZE)?;
    expect_bytes(
        &other.load_all(),
        model,
        format_args!("{what}, mapped again"),
    )
}

fn stores_before_are_in_it_and_later_ones_are_not(t: &Test) -> Outcome {
    for empties in [false, true] {
        let base = t.mount(&[])?;
        let file = base.create("file")?;
        let mut model = vec![0; SIZE];
        file.truncate(SIZE as u64)?;
        // Page 0 is stored to; 1 is written, and stored to later; 2 is a hole, stored to later;
        // 3 is a hole, stored to before; 4 is read before; 5 is shared with a clone.
        for page in [0, 1, 4, 5] {
            file.write_at(&blocks(page as u8, 1), (page * BLOCK) as u64)?;
            model[page * BLOCK..][..BLOCK].copy_from_slice(&blocks(page as u8, 1));
        }
        new_clone(&file, base.path("clone"))?;
        let before = Mapping::shared(&file, SIZE)?;
        for page in [0, 3, 5] {
            before.store(page * BLOCK + 7, b"before");
            model[page * BLOCK + 7..][..6].copy_from_slice(b"before");
        }
        before.load_byte(4 * BLOCK);
        let copy = fork(t, &base, "fork")?;
        if empties {
            drop_caches(t)?;
        }
        let old = model.clone();
        for page in 0..PAGES {
            before.store(page * BLOCK + 9, b"later!");
            model[page * BLOCK + 9..][..6].copy_from_slice(b"later!");
        }
        let (of_fork, in_fork) = map(&copy, "file")?;
        expect_all(&file, &before, &model, "the base")?;
        expect_all(&of_fork, &in_fork, &old, "the fork")?;
        let mut other = old;
        for page in 0..PAGES {
            in_fork.store(page * BLOCK + 20, b"fork");
            other[page * BLOCK + 20..][..4].copy_from_slice(b"fork");
        }
        if empties {
            drop_caches(t)?;
        }
        expect_all(&file, &before, &model, "the base, after stores to the fork")?;
        expect_all(&of_fork, &in_fork, &other, "the fork, after stores to it")?;
    }
    Ok(())
}

fn mappings_stay_open_over_a_chain_of_forks(t: &Test) -> Outcome {
    const LENGTH: usize = 12;
    let base = t.mount(&[])?;
    let mut model = blocks(1, PAGES);
    base.create_with("file", &model)?;
    let mut members = Vec::new();
    let store = |map: &Mapping, model: &mut Vec<u8>, at: usize, byte: usize| {
        map.store(at, &[byte as u8; 33]);
        model[at..][..33].fill(byte as u8);
    };
    let (file, mapped) = map(&base, "file")?;
    members.push((base, file, mapped, model.clone()));
    for i in 0..LENGTH {
        // Of the last one, or of one in the middle.
        let from = if i % 3 == 2 { i / 2 } else { i };
        let (base, _, mapped, old) = &mut members[from];
        store(mapped, old, (i % PAGES) * BLOCK + i, i + 1);
        model.clone_from(old);
        let next = fork(t, base, &format!("fork{i}"))?;
        if i % 2 == 0 {
            store(mapped, old, (i % PAGES) * BLOCK + 100, 100 + i);
        }
        let (file, mapped) = map(&next, "file")?;
        members.push((next, file, mapped, model.clone()));
        for (n, (_, file, mapped, model)) in members.iter().enumerate() {
            expect_all(file, mapped, model, &format!("number {n} after fork {i}"))?;
        }
    }
    for round in 0..2 {
        for (n, (_, _, mapped, model)) in members.iter_mut().enumerate() {
            for page in 0..PAGES {
                store(mapped, model, page * BLOCK + 300 * (round + 1), n + 50);
            }
        }
        for (n, (_, file, mapped, model)) in members.iter().enumerate() {
            expect_all(file, mapped, model, &format!("number {n}, round {round}"))?;
        }
        drop_caches(t)?;
    }
    Ok(())
}

fn a_mapping_to_read_shows_its_own_file(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    let mut model = blocks(1, PAGES);
    let file = base.create_with("file", &model)?;
    let read = Mapping::shared_read(&file, SIZE)?;
    expect(read.load_all() == model, "the mapping before")?;
    let copy = fork(t, &base, "fork")?;
    let of_fork = File::open(copy.path("file"), libc::O_RDWR).or_fail("open")?;
    let read_fork = Mapping::shared_read(&of_fork, SIZE)?;
    expect(read_fork.load_all() == model, "the fork's mapping")?;
    let mut other = model.clone();
    for page in 0..PAGES {
        file.write_at(b"base", (page * BLOCK) as u64)?;
        model[page * BLOCK..][..4].copy_from_slice(b"base");
        of_fork.write_at(b"fork", (page * BLOCK) as u64 + 9)?;
        other[page * BLOCK + 9..][..4].copy_from_slice(b"fork");
    }
    expect_bytes(&read.load_all(), &model, "the base's mapping")?;
    expect_bytes(&read_fork.load_all(), &other, "the fork's mapping")
}

fn stores_to_a_private_mapping_are_in_no_fork(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    let model = blocks(1, PAGES);
    let file = base.create_with("file", &model)?;
    let private = Mapping::private(&file, SIZE)?;
    private.store(5, b"private");
    let copy = fork(t, &base, "fork")?;
    private.store(BLOCK + 5, b"private");
    file.write_at(b"base", 2 * BLOCK64)?;
    let of_fork = File::open(copy.path("file"), libc::O_RDWR).or_fail("open")?;
    of_fork.write_at(b"fork", 3 * BLOCK64)?;
    let mut expected = model.clone();
    expected[5..12].copy_from_slice(b"private");
    expected[BLOCK + 5..][..7].copy_from_slice(b"private");
    expected[2 * BLOCK..][..4].copy_from_slice(b"base");
    expect_bytes(&private.load_all(), &expected, "the private mapping")?;
    let mut expected = model;
    expected[3 * BLOCK..][..4].copy_from_slice(b"fork");
    of_fork.expect_contents(&expected, "the fork")
}

fn times_of_stores_are_in_it(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    let file = base.create_with("file", &blocks(1, PAGES))?;
    let mapped = Mapping::shared(&file, SIZE)?;
    for i in 0..4 {
        wait_for_the_clock();
        mapped.store(i * BLOCK, b"store");
        let copy = fork(t, &base, &format!("fork{i}"))?;
        let of_fork = File::open(copy.path("file"), libc::O_RDWR).or_fail("open")?;
        let (before, there) = (file.times()?, of_fork.times()?);
        let what = format!("times in fork {i}");
        expect_eq(there.modified, before.modified, &what)?;
        expect_eq(there.changed, before.changed, &what)?;
        wait_for_the_clock();
        mapped.store(i * BLOCK, b"again");
        file.sync()?;
        expect(
            file.times()?.modified > before.modified,
            "the base's time goes on",
        )?;
        expect_eq(of_fork.times()?.modified, before.modified, &what)?;
        drop(of_fork);
        drop_caches(t)?;
        let of_fork = File::open(copy.path("file"), libc::O_RDONLY).or_fail("open")?;
        expect_eq(of_fork.times()?.modified, before.modified, &what)?;
    }
    Ok(())
}

/// Lets the kernel store `P` to the first page of a file while it is forked several times: from the
/// first step on, until after the last.
fn store_while_forked(t: &Test, base: &Instance, prefix: &str) -> Outcome {
    let old = File::open(base.path("file"), libc::O_RDONLY).or_fail("open")?;
    let mut model = old.contents()?;
    let before = model.clone();
    let (file, mapped) = map(base, "file")?;
    let stall = Stall::new()?;
    let mut forks = Vec::new();
    stall
        .during(
            || store_by_kernel(&mapped, stall.buffer()),
            b'P',
            || {
                for i in 0..3 {
                    forks.push(fork(t, base, &format!("{prefix}{i}"))?);
                }
                forks.push(fork(t, &forks[0], &format!("{prefix} of a fork"))?);
                drop_caches(t)?;
                // In place, although there are forks: the store must reach the file.
                file.write_at(b"w", 2 * BLOCK64 - 1)?;
                model[2 * BLOCK - 1] = b'w';
                for fork in &forks {
                    let (file, mapped) = map(fork, "file")?;
                    expect_all(&file, &mapped, &before, "a fork, before the store")?;
                }
                Ok(())
            },
        )?
        .or_fail("process_vm_writev")?;
    model[..BLOCK].fill(b'P');
    expect_all(&file, &mapped, &model, "the file that was stored to")?;
    // From here on they are ordinary forks.
    let later = fork(t, base, &format!("{prefix} later"))?;
    mapped.store(0, &[b'q'; BLOCK]);
    let (file, mapped) = map(&later, "file")?;
    expect_all(&file, &mapped, &model, "a fork made after the store")?;
    for (i, fork) in forks.iter().enumerate() {
        let (file, mapped) = map(fork, "file")?;
        expect_all(&file, &mapped, &before, &format!("fork {i}"))?;
        mapped.store(i * BLOCK, b"fork");
        let mut model = before.clone();
        model[i * BLOCK..][..4].copy_from_slice(b"fork");
        drop_caches(t)?;
        expect_all(&file, &mapped, &model, &format!("fork {i}, changed"))?;
    }
    Ok(())
}

fn a_store_under_way_lands_in_the_base_only(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    base.create_with("file", &blocks(1, PAGES))?;
    let before = base.space()?;
    store_while_forked(t, &base, "fork")?;
    expect_eq(
        base.space()?.free,
        before.free,
        "blocks when all forks are gone",
    )
}

fn a_store_under_way_in_a_fork_lands_there_only(t: &Test) -> Outcome {
    let data = blocks(1, PAGES);
    let base = t.mount(&[])?;
    let file = base.create_with("file", &data)?;
    let copy = fork(t, &base, "a fork")?;
    store_while_forked(t, &copy, "fork")?;
    file.expect_contents(&data, "the base")?;
    drop_caches(t)?;
    file.expect_contents(&data, "the base, read again")
}

fn a_store_under_way_from_a_closed_file_lands_in_the_base_only(t: &Test) -> Outcome {
    let data = blocks(1, PAGES);
    let base = t.mount(&[])?;
    base.create_with("file", &data)?;
    let (file, mapped) = map(&base, "file")?;
    let stall = Stall::new()?;
    let mut copies = Vec::new();
    let buffer = stall.buffer();
    let address = mapped.at(0) as usize;
    let store = move || {
        let vector = |address: usize| libc::iovec {
            iov_base: address as *mut libc::c_void,
            iov_len: BLOCK,
        };
        let (local, remote) = (vector(buffer.at(0) as usize), vector(address));
        // SAFETY: the kernel checks both, and has taken hold of the page when the mapping goes.
        crate::sys::check(unsafe {
            libc::process_vm_writev(libc::getpid(), &local, 1, &remote, 1, 0)
        } as i64)
    };
    let stored = stall.during(store, b'P', || {
        drop((mapped, file));
        for i in 0..3 {
            drop_caches(t)?;
            copies.push(fork(t, &base, &format!("fork{i}"))?);
        }
        Ok(())
    })?;
    expect_eq(stored.or_fail("process_vm_writev")?, BLOCK, "bytes stored")?;
    let mut model = data.clone();
    model[..BLOCK].fill(b'P');
    for _ in 0..2 {
        let open = |fs: &Instance| File::open(fs.path("file"), libc::O_RDONLY).or_fail("open");
        for copy in &copies {
            open(copy)?.expect_contents(&data, "a fork")?;
        }
        open(&base)?.expect_contents(&model, "the base")?;
        drop_caches(t)?;
    }
    Ok(())
}

fn a_store_under_way_to_a_clone_lands_there_only(t: &Test) -> Outcome {
    let data = blocks(1, PAGES);
    let base = t.mount(&[])?;
    let file = base.create_with("file", &data)?;
    let clone = new_clone(&file, base.path("clone"))?;
    let mapped = Mapping::shared(&clone, SIZE)?;
    let stall = Stall::new()?;
    let mut copies = Vec::new();
    let store = || store_by_kernel(&mapped, stall.buffer());
    let stored = stall.during(store, b'P', || {
        copies.push(fork(t, &base, "fork")?);
        new_clone(&clone, base.path("clone of the clone"))?;
        copies.push(fork(t, &base, "later")?);
        Ok(())
    })?;
    stored.or_fail("process_vm_writev")?;
    for fs in copies.iter().chain([&base]) {
        for name in ["file", "clone", "clone of the clone"] {
            let Ok(file) = File::open(fs.path(name), libc::O_RDONLY) else {
                continue;
            };
            if file.path == clone.path {
                continue;
            }
            let what = file.path.display().to_string();
            file.expect_contents(&data, &what)?;
        }
    }
    let mut model = data;
    model[..BLOCK].fill(b'P');
    clone.expect_contents(&model, "the clone")
}

fn a_store_under_way_to_a_removed_file_lands_nowhere(t: &Test) -> Outcome {
    let data = blocks(1, PAGES);
    let base = t.mount(&[])?;
    base.create_with("file", &data)?;
    let (file, mapped) = map(&base, "file")?;
    let stall = Stall::new()?;
    let mut copy = None;
    let store = || store_by_kernel(&mapped, stall.buffer());
    let stored = stall.during(store, b'P', || {
        copy = Some(fork(t, &base, "fork")?);
        unlink(base.path("file")).or_fail("unlink")?;
        file.truncate(0)?;
        base.create_with("new", &blocks(2, 64)).map(drop)
    })?;
    stored.or_fail("process_vm_writev")?;
    let new = File::open(base.path("new"), libc::O_RDONLY).or_fail("open")?;
    new.expect_contents(&blocks(2, 64), "a file of new blocks")?;
    let copy = copy.ok_or("none").or_fail("the fork")?;
    let file = File::open(copy.path("file"), libc::O_RDONLY).or_fail("open")?;
    file.expect_contents(&data, "the fork")
}

/// Makes files with bytes behind their end.
fn with_tails(base: &Instance, keeps: bool) -> Outcome<Vec<Mapping>> {
    let mut maps = Vec::new();
    for i in 0..GROWING.len() {
        let file = base.create_with(&format!("file{i}"), &pattern(1, BLOCK + 50))?;
        let map = Mapping::shared(&file, 2 * BLOCK)?;
        map.store(BLOCK + 60, b"behind the end");
        map.store(2 * BLOCK - 5, b"tail!");
        if keeps {
            maps.push(map);
        }
    }
    Ok(maps)
}

fn bytes_stored_behind_the_end_are_not_in_it(t: &Test) -> Outcome {
    for (keeps, base_first) in [(false, false), (false, true), (true, false), (true, true)] {
        let base = t.mount(&[])?;
        let maps = with_tails(&base, keeps)?;
        let copy = fork(t, &base, "fork")?;
        let again = fork(t, &copy, "again")?;
        for map in &maps {
            map.store(BLOCK + 70, b"later, behind the end");
        }
        let mut all = [&copy, &again, &base];
        if base_first {
            all.reverse();
        }
        for fs in all {
            for (i, (what, grow)) in GROWING.iter().enumerate() {
                let path = fs.path(&format!("file{i}"));
                let file = File::open(&path, libc::O_RDWR).or_fail("open")?;
                file.expect_contents(&pattern(1, BLOCK + 50), "before")?;
                grow(&file)?;
                let what = format!("{what}, {}", path.display());
                expect_wiped(&file, &what)?;
                drop(file);
                drop_caches(t)?;
                let file = File::open(&path, libc::O_RDONLY).or_fail("open")?;
                expect_wiped(&file, &what)?;
            }
        }
    }
    Ok(())
}

/// The kernel stores them to a page with the end of a file while that is forked.
fn bytes_that_come_behind_the_end_later_are_not_in_it(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    let data = pattern(1, 50);
    let file = base.create_with("file", &data)?;
    let mapped = Mapping::shared(&file, BLOCK)?;
    mapped.store(60, b"behind the end");
    let stall = Stall::new()?;
    let mut copies = Vec::new();
    let store = || store_by_kernel(&mapped, stall.buffer());
    let stored = stall.during(store, b'P', || {
        copies.push(fork(t, &base, "fork")?);
        copies.push(fork(t, &base, "again")?);
        let grown = File::open(copies[0].path("file"), libc::O_RDWR).or_fail("open")?;
        grown.truncate(3 * BLOCK64)
    })?;
    stored.or_fail("process_vm_writev")?;
    for copy in &copies {
        let file = File::open(copy.path("file"), libc::O_RDWR).or_fail("open")?;
        file.truncate(2 * BLOCK64)?;
        let mut expected = data.clone();
        expected.resize(2 * BLOCK, 0);
        file.expect_contents(&expected, "a fork")?;
    }
    file.truncate(2 * BLOCK64)?;
    let mut expected = vec![b'P'; 50];
    expected.resize(2 * BLOCK, 0);
    file.expect_contents(&expected, "the base")
}

fn what_was_spliced_stays_as_it_was(t: &Test) -> Outcome {
    let data = blocks(1, PAGES);
    let base = t.mount(&[])?;
    let file = base.create_with("file", &data)?;
    let mapped = Mapping::shared(&file, SIZE)?;
    for stores in [false, true] {
        if stores {
            mapped.store(BLOCK, &data[BLOCK..][..1]);
        }
        let before = splice(&file, 0, PAGES)?;
        let copy = fork(t, &base, "fork")?;
        let (of_fork, in_fork) = map(&copy, "file")?;
        let (after, there) = (splice(&file, 0, PAGES)?, splice(&of_fork, 0, PAGES)?);
        for (n, page) in (0..PAGES).enumerate() {
            let at = (page * BLOCK) as u64;
            match n % 3 {
                0 => file.write_at(&[b'b'; BLOCK], at)?,
                1 => mapped.store(page * BLOCK, &[b'b'; BLOCK]),
                _ => file.write_at(b"b", at + 9)?,
            }
            match n % 2 {
                0 => of_fork.write_at(&[b'f'; BLOCK], at)?,
                _ => in_fork.store(page * BLOCK, &[b'f'; BLOCK]),
            }
        }
        for (pipe, what) in [
            (before, "spliced before"),
            (after, "spliced afterwards"),
            (there, "spliced from the fork"),
        ] {
            expect_bytes(&read_all(&pipe, SIZE)?, &data, what)?;
        }
        of_fork.expect_contents(&[b'f'; SIZE], "the fork")?;
        file.write_at(&data, 0)?;
    }
    Ok(())
}

/// A pipe that has pages of a mapping shows the base's bytes, of some time, never the fork's.
fn what_was_lent_to_a_pipe_is_the_bases(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    let file = base.create_with("file", &[b'a'; SIZE])?;
    let mapped = Mapping::shared(&file, SIZE)?;
    mapped.store(0, b"a");
    let (output, input) = pipe()?;
    let lent = vmsplice(&input, mapped.at(0), SIZE).or_fail("vmsplice")?;
    expect_eq(lent, SIZE, "bytes lent")?;
    let copy = fork(t, &base, "fork")?;
    let (of_fork, in_fork) = map(&copy, "file")?;
    for page in 0..PAGES {
        match page % 2 {
            0 => of_fork.write_at(&[b'F'; BLOCK], (page * BLOCK) as u64)?,
            _ => in_fork.store(page * BLOCK, &[b'F'; BLOCK]),
        }
    }
    file.write_at(&[b'b'; BLOCK], 0)?;
    mapped.store(BLOCK, &[b'b'; BLOCK]);
    let seen = read_all(&output, SIZE)?;
    let own = seen.iter().all(|byte| b"ab".contains(byte));
    expect(own, "the pipe has bytes of the base only")?;
    expect_eq(seen.len(), SIZE, "bytes in the pipe")?;
    of_fork.expect_contents(&[b'F'; SIZE], "the fork")
}

fn a_futex_of_one_wakes_none_of_the_other(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    base.create_with("file", &[0; SIZE])?;
    let copy = fork(t, &base, "fork")?;
    let ((_a, of_base), (_b, of_fork)) = (map(&base, "file")?, map(&copy, "file")?);
    for mapped in [&of_base, &of_fork] {
        mapped.word32(0).store(0, SeqCst);
    }
    for (one, other) in [(&of_base, &of_fork), (&of_fork, &of_base)] {
        let child = waiter(one, 0)?;
        for _ in 0..20 {
            let woken = futex_wake(other, 0).or_fail("FUTEX_WAKE")?;
            expect_eq(woken, 0, "waiters of the other mount")?;
            crate::sys::sleep_ms(5);
        }
        wake_one(one, 0)?;
        child.join()?;
    }
    Ok(())
}
