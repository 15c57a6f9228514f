// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Pre-content events of fanotify(7): a listener gets an event before each access to a file, with
//! its range, and may deny it, so that a file can be filled on demand.

use std::os::fd::AsRawFd;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome, Sys};
use crate::filesystem::{Feature, Tmpfs};
use crate::mapping::{Mapping, READ};
use crate::notification::{Group, FAN_CLASS_PRE_CONTENT, FAN_PRE_ACCESS};
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::Child;
use crate::sys::{
    check, clone_range, copy_once, dedupe, sleep_ms, truncate, Deduped, File, FileDedupeRangeInfo,
};

const REFUSES: &str = "has no pre-content events";

pub const CASES: &[Case] = &[
    case!(every_access_is_told_with_its_range)
        .needs(&[Feature::PermissionEvents])
        .except(Tmpfs, REFUSES),
    case!(every_access_through_sharing_is_told_with_its_range)
        .needs(&[Feature::PermissionEvents, Feature::Reflink]),
    case!(what_is_wanted_can_be_filled_in_before_it_is_read)
        .needs(&[Feature::PermissionEvents])
        .except(Tmpfs, REFUSES),
];

/// The number of blocks of the file.
const COUNT: usize = 16;

/// A call on the file, and its blocks: the first, and their number.
type Access<'a> = (
    &'static str,
    (u64, u64),
    Box<dyn Fn(&File) -> Sys<usize> + 'a>,
);

fn group(file: &File) -> Outcome<Group> {
    let group = Group::new(FAN_CLASS_PRE_CONTENT).or_fail("fanotify_init")?;
    group
        .mark(&file.path, 0, FAN_PRE_ACCESS)
        .or_fail("fanotify_mark(FAN_PRE_ACCESS)")?;
    Ok(group)
}

/// Answers all events until the child has ended, after a step for each. Returns their ranges.
fn answer_until(
    group: &Group,
    child: Child,
    allow: bool,
    mut step: impl FnMut(u64, u64) -> Outcome,
) -> Outcome<Vec<(u64, u64)>> {
    let mut ranges = Vec::new();
    while !child.is_over() {
        for event in group.seen()? {
            expect_eq(event.mask, FAN_PRE_ACCESS, "the permission asked for")?;
            let asked = event.file.as_ref().ok_or("none");
            let range = event.range.ok_or("none").or_fail("the range")?;
            ranges.push(range);
            step(range.0, range.1)?;
            group.answer(asked.or_fail("the descriptor")?, allow)?;
        }
        sleep_ms(1);
    }
    child.join()?;
    Ok(ranges)
}

/// Makes each access twice: denied, and allowed.
fn expect_told(t: &Test, accesses: &[Access<'_>]) -> Outcome {
    for (what, blocks_told, access) in accesses {
        let file = t.create_with("file", &blocks(1, COUNT))?;
        let group = group(&file)?;
        for allow in [false, true] {
            let child = Child::spawn(|| {
                // Descriptors opened before the watch have no events.
                let opened = file.reopen(libc::O_RDWR)?;
                let result = access(&opened);
                if allow {
                    result.map(drop).or_fail(what)
                } else {
                    expect_errno(result, libc::EPERM, format_args!("{what}, denied"))
                }
            })?;
            let mut told = answer_until(&group, child, allow, |_, _| Ok(()))?;
            // One call may have several events, but only of its range.
            told.dedup();
            let (first, count) = *blocks_told;
            expect_eq(
                told,
                vec![(first * BLOCK64, count * BLOCK64)],
                format_args!("{what}: events, allowed: {allow}"),
            )?;
            if !allow {
                file.expect_contents(&blocks(1, COUNT), what)?;
            }
        }
    }
    Ok(())
}

fn every_access_is_told_with_its_range(t: &Test) -> Outcome {
    let other = t.create_with("other", &blocks(2, COUNT))?;
    let path = t.path("file");
    let accesses: Vec<Access> = vec![
        (
            "pread",
            (3, 2),
            Box::new(|file| file.try_pread(&mut [0; BLOCK], 3 * BLOCK64 + 1)),
        ),
        (
            "pwrite",
            (5, 1),
            Box::new(|file| file.try_pwrite(b"new", 5 * BLOCK64 + 9)),
        ),
        (
            "a pwrite behind the end",
            (20, 1),
            Box::new(|file| file.try_pwrite(&[7; BLOCK], 20 * BLOCK64)),
        ),
        (
            "copy_file_range from it",
            (2, 1),
            Box::new(|file| copy_once(file, 2 * BLOCK64 + 3, &other, 0, 100)),
        ),
        (
            "copy_file_range to it",
            (4, 2),
            Box::new(|file| copy_once(&other, 0, file, 4 * BLOCK64, 2 * BLOCK)),
        ),
        (
            "sendfile",
            (1, 3),
            Box::new(|file| {
                let mut at = BLOCK as i64;
                // SAFETY: the offset is valid for the call.
                check(unsafe {
                    libc::sendfile(other.as_raw_fd(), file.as_raw_fd(), &mut at, 3 * BLOCK) as i64
                })
            }),
        ),
        (
            "fallocate",
            (18, 4),
            Box::new(|file| {
                super::fallocate::fallocate(file, 0, 18 * BLOCK64, 4 * BLOCK64).map(|()| 0)
            }),
        ),
        (
            "punching a hole",
            (6, 2),
            Box::new(|file| {
                let punch = super::fallocate::PUNCH;
                super::fallocate::fallocate(file, punch, 6 * BLOCK64, 2 * BLOCK64).map(|()| 0)
            }),
        ),
        (
            "mmap",
            (7, 3),
            Box::new(|file| {
                let map = Mapping::try_new(file, 7 * BLOCK64, 3 * BLOCK, READ, libc::MAP_SHARED);
                map.map(|map| map.len())
            }),
        ),
        (
            "ftruncate",
            (9, 1),
            Box::new(|file| file.try_truncate(9 * BLOCK64 + 5).map(|()| 0)),
        ),
        (
            "truncate",
            (9, 1),
            Box::new(|_| truncate(&path, 9 * BLOCK as i64 + 5).map(|()| 0)),
        ),
    ];
    expect_told(t, &accesses)
}

fn every_access_through_sharing_is_told_with_its_range(t: &Test) -> Outcome {
    let other = t.create_with("other", &blocks(2, COUNT))?;
    let deduped = |result: Deduped| match result {
        Deduped::Failed(error) => Err(error),
        _ => Ok(0),
    };
    let accesses: Vec<Access> = vec![
        (
            "FICLONERANGE from it",
            (3, 2),
            Box::new(|file| clone_range(file, 3 * BLOCK64, 2 * BLOCK64, &other, 0).map(|()| 0)),
        ),
        (
            "FICLONERANGE to it",
            (5, 4),
            Box::new(|file| clone_range(&other, 0, 4 * BLOCK64, file, 5 * BLOCK64).map(|()| 0)),
        ),
        (
            "FIDEDUPERANGE from it",
            (1, 2),
            Box::new(|file| {
                let mut targets = [FileDedupeRangeInfo::new(&other, 0)];
                crate::sys::dedupe_many(file, BLOCK64, 2 * BLOCK64, &mut targets)?;
                deduped(Deduped::from(targets[0]))
            }),
        ),
        (
            "FIDEDUPERANGE to it",
            (8, 2),
            Box::new(|file| {
                dedupe(&other, BLOCK64, 2 * BLOCK64, file, 8 * BLOCK64).and_then(deduped)
            }),
        ),
    ];
    expect_told(t, &accesses)
}

fn what_is_wanted_can_be_filled_in_before_it_is_read(t: &Test) -> Outcome {
    let data = blocks(3, COUNT);
    let file = t.create("file")?;
    file.truncate(data.len() as u64)?;
    let group = group(&file)?;
    let child = Child::spawn(|| {
        let opened = file.reopen(libc::O_RDONLY)?;
        expect(
            opened.read_at(5 * BLOCK64 + 1, 3 * BLOCK)? == data[5 * BLOCK + 1..8 * BLOCK + 1],
            "the bytes read were filled in",
        )?;
        let map =
            Mapping::try_new(&opened, 0, 2 * BLOCK, READ, libc::MAP_SHARED).or_fail("mmap")?;
        expect(map.load_all() == data[..2 * BLOCK], "and those mapped")
    })?;
    // The file was opened before the watch: so filling it has no event.
    answer_until(&group, child, true, |start, len| {
        let (start, len) = (start as usize, len as usize);
        file.write_at(&data[start..start + len], start as u64)
    })?;
    drop(group);
    let (whole, ends) = (file.contents()?, [2 * BLOCK, 5 * BLOCK, 9 * BLOCK]);
    for (i, block) in whole.chunks(BLOCK).enumerate() {
        let wanted = i * BLOCK < ends[0] || (ends[1]..ends[2]).contains(&(i * BLOCK));
        let expected = if wanted {
            &data[i * BLOCK..(i + 1) * BLOCK]
        } else {
            &[0; BLOCK]
        };
        expect(
            block == expected,
            format_args!("block {i}, wanted: {wanted}"),
        )?;
    }
    Ok(())
}
