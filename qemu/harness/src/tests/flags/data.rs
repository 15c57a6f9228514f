// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The files after a call: they are independent, dated and protected as by writes.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::super::copy::contents::scattered;
use super::super::fallocate::{fallocate, PUNCH};
use super::{apply, copy, copy_all, flag_name, range, COPY, DEDUP, FLAGS};
use crate::case::{case, race_for, worker, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::Feature;
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::process::{as_user, Child};
use crate::sys::{check, chmod, clone_range, read_to, set_times, sleep_ms, timespec, File};

pub const CASES: &[Case] = &[
    case!(source_and_destination_are_independent_afterwards),
    case!(stores_to_a_mapping_of_either_are_seen_and_stay_there),
    case!(what_was_just_written_is_copied),
    case!(blocks_are_copied_wherever_they_lie),
    case!(the_times_of_the_destination_change_with_its_bytes),
    case!(the_set_user_bit_of_the_destination_is_cleared),
    case!(a_user_copies_what_only_root_could_write),
    case!(copies_in_both_directions_at_once_end),
    case!(a_deduplication_beside_a_punch_leaves_no_old_bytes).needs(&[Feature::Reflink]),
    case!(a_copy_is_told_to_watchers_and_a_deduplication_is_not).needs(&[Feature::Reflink]),
];

/// Returns the flags that this filesystem supports.
pub fn usable(t: &Test) -> impl Iterator<Item = u32> {
    let can_share = t.filesystem.can_share();
    FLAGS
        .into_iter()
        .filter(move |&flags| flags == COPY || can_share)
}

/// Creates a destination on which a call with this flag succeeds.
fn destination(t: &Test, flags: u32, data: &[u8]) -> Outcome<File> {
    t.create_with("to", if flags == DEDUP { data } else { b"" })
}

fn source_and_destination_are_independent_afterwards(t: &Test) -> Outcome {
    let data = pattern(1, 5 * BLOCK + 11);
    for flags in usable(t) {
        let source = t.create_with("source", &data)?;
        let to = destination(t, flags, &data)?;
        copy_all(&source, &to, range(0, 0, data.len()), flags)?;
        let mut changed = data.clone();
        changed[2 * BLOCK + 50..3 * BLOCK + 50].fill(1);
        source.write_at(&changed[2 * BLOCK + 50..3 * BLOCK + 50], 2 * BLOCK64 + 50)?;
        to.expect_contents(
            &data,
            &format!("{}, a write to the source", flag_name(flags)),
        )?;
        let mut model = data.clone();
        model[5 * BLOCK..].fill(2);
        to.write_at(&model[5 * BLOCK..], 5 * BLOCK64)?;
        source.expect_contents(&changed, "after a write to the destination")?;
        source.truncate(0)?;
        to.expect_contents(&model, "after the source was emptied")?;
    }
    Ok(())
}

fn stores_to_a_mapping_of_either_are_seen_and_stay_there(t: &Test) -> Outcome {
    let data = blocks(2, 4);
    for flags in usable(t) {
        let source = t.create_with("source", &data)?;
        let source_map = Mapping::shared(&source, data.len())?;
        let mut model = data.clone();
        model[BLOCK..BLOCK + 4].copy_from_slice(b"here");
        source_map.store(BLOCK, b"here");
        let to = t.create_with("to", if flags == DEDUP { &model } else { &[] })?;
        if flags != DEDUP {
            to.truncate(4 * BLOCK64)?;
        }
        let map = Mapping::shared(&to, data.len())?;
        // The page is mapped before the call.
        let _ = map.load(BLOCK, 4);
        copy_all(&source, &to, range(0, 0, 4 * BLOCK), flags)?;
        expect(
            map.load(BLOCK, 4) == b"here",
            "the mapping shows the copied bytes",
        )?;
        source_map.store(0, b"source");
        map.store(3 * BLOCK, b"destination");
        to.expect_contents(
            &[
                &model[..3 * BLOCK],
                b"destination",
                &model[3 * BLOCK + 11..],
            ]
            .concat(),
            &format!("{}, the destination", flag_name(flags)),
        )?;
        source.expect_contents(&[b"source", &model[6..]].concat(), "the source")?;
    }
    Ok(())
}

fn what_was_just_written_is_copied(t: &Test) -> Outcome {
    for i in 0..t.rounds(20) {
        let data = pattern(i as u8, 1 + i * 1000);
        for flags in usable(t) {
            let source = t.create_with("source", &data)?;
            let to = destination(t, flags, &data)?;
            copy_all(&source, &to, range(0, 0, data.len()), flags)?;
            to.expect_contents(&data, flag_name(flags).as_str())?;
            let first = to.seek(0, libc::SEEK_DATA).or_fail("SEEK_DATA")?;
            expect_eq(first, 0, "SEEK_DATA right after the call")?;
        }
    }
    Ok(())
}

/// Also whole blocks, which a call without a flag shares.
fn blocks_are_copied_wherever_they_lie(t: &Test) -> Outcome {
    let (source, data) = scattered(t)?;
    for (off_in, off_out) in [(0, 0), (2 * BLOCK64, 5 * BLOCK64), (1, 0)] {
        for old in [0, 200 * BLOCK] {
            let mut model = pattern(2, old);
            let to = t.create_with("to", &model)?;
            let all = range(off_in, off_out, data.len() - off_in as usize);
            copy_all(&source, &to, all, COPY)?;
            apply(&mut model, &data, all, all.len);
            let what = format!("from {off_in} to {off_out} of {old} bytes");
            to.expect_contents(&model, &what)?;
        }
    }
    source.expect_contents(&data, "the source")
}

fn the_times_of_the_destination_change_with_its_bytes(t: &Test) -> Outcome {
    let data = blocks(3, 2);
    let old = timespec(1_000_000_000, 0);
    for flags in usable(t) {
        let source = t.create_with("source", &data)?;
        let to = destination(t, flags, &data)?;
        for file in [&source, &to] {
            set_times(&file.path, [old, old]).or_fail("utimensat")?;
        }
        copy_all(&source, &to, range(0, 0, data.len()), flags)?;
        let kept = to.stat()?.st_mtime == old.tv_sec;
        // Deduplication changes no byte.
        let name = flag_name(flags);
        expect_eq(
            kept,
            flags == DEDUP,
            format_args!("{name}: the destination keeps its mtime"),
        )?;
        expect_eq(source.stat()?.st_mtime, old.tv_sec, "the source's mtime")?;
    }
    Ok(())
}

fn the_set_user_bit_of_the_destination_is_cleared(t: &Test) -> Outcome {
    chmod(&t.dir, 0o777).or_fail("chmod")?;
    t.create_with("source", &blocks(4, 2))?;
    as_user(1000, 1000, || {
        let source = File::open(t.path("source"), libc::O_RDONLY).or_fail("open")?;
        for flags in usable(t).filter(|&flags| flags != DEDUP) {
            let to = t.create("to")?;
            chmod(&to.path, 0o6755).or_fail("chmod")?;
            copy_all(&source, &to, range(0, 0, 2 * BLOCK), flags)?;
            let mode = to.stat()?.st_mode & 0o7777;
            expect_eq(mode, 0o755, format_args!("mode after {}", flag_name(flags)))?;
            crate::sys::unlink(&to.path).or_fail("unlink")?;
        }
        Ok(())
    })
}

fn a_user_copies_what_only_root_could_write(t: &Test) -> Outcome {
    let data = blocks(5, 2);
    chmod(&t.dir, 0o777).or_fail("chmod")?;
    t.create_with("source", &data)?;
    let to: Vec<_> = usable(t)
        .map(|flags| Ok((flags, t.create_with(&format!("to{flags}"), &data)?)))
        .collect::<Outcome<_>>()?;
    // The descriptors' access modes count, not the permissions of the caller.
    as_user(1000, 1000, || {
        let source = File::open(t.path("source"), libc::O_RDONLY).or_fail("open")?;
        for (flags, to) in &to {
            copy_all(&source, to, range(0, 0, 2 * BLOCK), *flags)?;
        }
        Ok(())
    })
}

fn copies_in_both_directions_at_once_end(t: &Test) -> Outcome {
    let data = blocks(6, 8);
    t.create_with("one", &data)?;
    t.create_with("other", &data)?;
    let workers = [("one", "other"), ("other", "one")]
        .into_iter()
        .flat_map(|pair| usable(t).map(move |flags| (pair, flags)))
        .map(|((from, to), flags)| {
            Child::spawn(move || {
                let from = File::open(t.path(from), libc::O_RDWR).or_fail("open")?;
                let to = File::open(t.path(to), libc::O_RDWR).or_fail("open")?;
                for _ in 0..t.rounds(100) {
                    // The bytes are the same at any time, whether blocks are shared or not.
                    copy_all(&from, &to, range(0, 0, 8 * BLOCK), flags)?;
                }
                Ok(())
            })
        })
        .collect::<Outcome<Vec<_>>>()?;
    workers.into_iter().try_for_each(Child::join)
}

/// Files are compared through their page caches, which a punch empties before it frees the blocks:
/// no reader may bring the old bytes back in between. Many small extents make the punch slow.
fn a_deduplication_beside_a_punch_leaves_no_old_bytes(t: &Test) -> Outcome {
    // More than the filesystem compares under its own locks.
    const COUNT: u64 = (17 << 20) / BLOCK64;
    const LEN: usize = COUNT as usize * BLOCK;
    let mut data = vec![0xaa; LEN];
    let whole = t.create_with("whole", &data)?;
    data[LEN - 1] = 0xbb;
    let other = t.create_with("other", &data)?;
    // Larger extents if everything is slow.
    let extent = if t.settings.divisor > 1 { 8 } else { 1 };
    let bytes = extent * BLOCK64;
    for victim_is_source in [false, true].into_iter().take(t.rounds(2)) {
        let victim = t.create("victim")?;
        for i in 0..COUNT / extent {
            let (from, to) = ((COUNT / extent - 1 - i) * bytes, i * bytes);
            clone_range(&whole, from, bytes, &victim, to).or_fail("FICLONERANGE")?;
        }
        victim.sync()?;
        let (from, to) = match victim_is_source {
            true => (&victim, &other),
            false => (&other, &victim),
        };
        let mut punched = false;
        let deduplicates = worker("deduplicates", || {
            let differ = copy(from, to, range(0, 0, LEN), DEDUP);
            expect_errno(differ, libc::EBADE, "a difference in the last byte")
        });
        let punches = worker("punches", || {
            sleep_ms(150);
            if !std::mem::replace(&mut punched, true) {
                // All but the last block, so that the range before the difference stays equal until
                // the punch removes it.
                let end = LEN as u64 - BLOCK64;
                fallocate(&victim, PUNCH, 0, end).or_fail("punch")?;
            }
            Ok(())
        });
        race_for(Duration::from_millis(400), vec![deduplicates, punches])?;
        let seen = victim.read_at(0, LEN - BLOCK)?;
        let old = seen
            .chunks(BLOCK)
            .filter(|block| block.iter().any(|&b| b != 0));
        expect_eq(old.count(), 0, "blocks with bytes that were punched out")?;
    }
    Ok(())
}

fn a_copy_is_told_to_watchers_and_a_deduplication_is_not(t: &Test) -> Outcome {
    let data = blocks(1, 3);
    let source = t.create_with("source", &data)?;
    let to = t.create_with("to", &data)?;
    let path = crate::sys::c_path(&t.path("to"));
    // SAFETY: plain calls; the path is NUL-terminated, and the descriptor the kernel's.
    let watch = unsafe {
        let fd = check(libc::inotify_init1(libc::IN_NONBLOCK)).or_fail("inotify_init1")?;
        let watch = OwnedFd::from_raw_fd(fd as i32);
        check(libc::inotify_add_watch(
            watch.as_raw_fd(),
            path.as_ptr(),
            libc::IN_MODIFY,
        ))
        .or_fail("inotify_add_watch")?;
        watch
    };
    let mut buffer = [0u8; 4096];
    let mut told = || read_to(&watch, buffer.as_mut_ptr(), buffer.len()).is_ok();
    copy_all(&source, &to, range(0, 0, data.len()), DEDUP)?;
    expect(!told(), "no event for a deduplication")?;
    copy_all(&source, &to, range(0, 0, data.len()), COPY)?;
    expect(told(), "an event for a copy")
}
