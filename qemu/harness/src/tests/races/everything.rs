// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Everything against everything, with an invariant that holds at any time.

use std::time::Instant;

use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_eq, Context, Errno, Failure, Outcome};
use crate::filesystem::{Feature, Tmpfs};
use crate::mapping::Mapping;
use crate::pattern::{blocks, mix, Random, BLOCK, BLOCK64};
use crate::process::Child;
use crate::sys::{clone_file, clone_range, copy_loop, copy_once, dedupe, rename, File};

pub const CASES: &[Case] = &[
    case!(attributes_race_with_everything),
    case!(everything_at_once_by_many_processes),
    case!(mounting_races_with_use).needs(&[Feature::Instance]),
];

fn attributes_race_with_everything(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(5, 4))?;
    let other = t.create("other")?;
    t.race(vec![
        worker("writes", || file.write_at(&[1; BLOCK], 100)),
        worker("cuts and extends", || {
            file.truncate(BLOCK64)?;
            file.truncate(4 * BLOCK64)
        }),
        worker("changes modes", || {
            crate::sys::chmod(&file.path, 0o600).or_fail("chmod")?;
            crate::sys::chmod(&file.path, 0o644).or_fail("chmod")
        }),
        worker("copies", || {
            copy_loop(&file, 0, &other, 0, 4 * BLOCK).map(|_| ())
        }),
        worker("looks", || {
            let stat = file.stat()?;
            expect(
                [0o600, 0o644].contains(&(stat.st_mode & 0o777)),
                "a mode that was set",
            )?;
            expect(
                [BLOCK64, 4 * BLOCK64].contains(&(stat.st_size as u64))
                    || stat.st_size as u64 == BLOCK64 + 100,
                format_args!("a size that was set: {}", stat.st_size),
            )?;
            expect(
                (0..=4 * 8 + 128 * 8).contains(&stat.st_blocks),
                format_args!("{} blocks", stat.st_blocks),
            )
        }),
    ])
}

/// Returns a byte that shows whether it is in its place: six bits for the offset, two for the
/// version. Bytes, as a copy during a store may tear a longer word.
fn sealed(offset: u64, version: u8) -> u8 {
    (1 + mix(offset) % 63) as u8 * 4 + version % 4
}

/// Returns the bytes for a range of a file.
fn sealed_bytes(from: u64, len: usize, version: u8) -> Vec<u8> {
    (from..from + len as u64)
        .map(|offset| sealed(offset, version))
        .collect()
}

/// Expects every byte to be zero or sealed for its place.
fn expect_sealed(bytes: &[u8], start: u64, what: &str) -> Outcome {
    let wrong = (start..)
        .zip(bytes)
        .find(|(offset, byte)| **byte != 0 && **byte / 4 != sealed(*offset, 0) / 4);
    match wrong {
        None => Ok(()),
        Some((offset, byte)) => Err(Failure::new(format_args!(
            "{what}: the byte at {offset} is {byte:#x}, which was never written there"
        ))),
    }
}

fn everything_at_once_by_many_processes(t: &Test) -> Outcome {
    const FILES: usize = 5;
    const PAGES: usize = 80;
    const SIZE: u64 = (PAGES * BLOCK) as u64;
    let names = |i: usize| t.path(&format!("file-{i}"));
    for i in 0..FILES {
        File::create(names(i))?.truncate(SIZE)?;
    }
    let deadline = Instant::now() + t.settings.soak;
    let play = |worker: u64| -> Outcome {
        let mut random = Random::new(t.settings.seed.wrapping_mul(1000) + worker);
        // One mapping stays for long, as in real programs; the others come and go.
        let file = File::open(names(worker as usize % FILES), libc::O_RDWR).or_fail("open")?;
        let lasting = Mapping::shared(&file, PAGES * BLOCK)?;
        let mut steps = 0u64;
        while Instant::now() < deadline || steps == 0 {
            steps += 1;
            let version = (steps + worker) as u8;
            let (i, j) = (random.below(FILES), random.below(FILES));
            let one = File::open(names(i), libc::O_RDWR).or_fail("open")?;
            let other = File::open(names(j), libc::O_RDWR).or_fail("open")?;
            let page = random.below(PAGES);
            let count = 1 + random.below(PAGES - page);
            let (offset, len) = ((page * BLOCK) as u64, (count * BLOCK) as u64);
            // The page may be truncated meanwhile: the kernel stores, so that there is no signal.
            let store = |map: &Mapping, at: usize, len: usize| -> Outcome {
                let len = len.min(PAGES * BLOCK - at);
                let (output, input) = crate::sys::pipe()?;
                crate::sys::write_all(&input, &sealed_bytes(at as u64, len, version))?;
                let _ = crate::sys::read_to(&output, map.at(at), len);
                Ok(())
            };
            match random.below(14) {
                0 | 1 => {
                    let from = offset + random.below(BLOCK) as u64;
                    let len = (1 + random.below(12_000)).min((SIZE - from) as usize);
                    one.write_at(&sealed_bytes(from, len, version), from)?;
                }
                2 => {
                    let map = Mapping::shared(&one, PAGES * BLOCK)?;
                    for _ in 0..10 {
                        store(&map, random.below(PAGES * BLOCK), 1 + random.below(100))?;
                    }
                }
                3 => store(
                    &lasting,
                    random.below(PAGES * BLOCK),
                    1 + random.below(5000),
                )?,
                4 | 5 if t.filesystem != Tmpfs && i != j => {
                    let cloned = clone_range(&one, offset, len, &other, offset);
                    match cloned {
                        Ok(()) | Err(Errno(libc::EINVAL)) => {}
                        Err(error) => return Err(error).or_fail("FICLONERANGE"),
                    }
                }
                6 if t.filesystem != Tmpfs && i != j => match clone_file(&one, &other) {
                    Ok(()) | Err(Errno(libc::EINVAL)) => {}
                    Err(error) => return Err(error).or_fail("FICLONE"),
                },
                7 if t.filesystem != Tmpfs => match dedupe(&one, offset, len, &other, offset) {
                    Ok(_) | Err(Errno(libc::EINVAL)) => {}
                    Err(error) => return Err(error).or_fail("FIDEDUPERANGE"),
                },
                8 | 9 if i != j => {
                    // Unaligned, to the same offset.
                    let at = offset + random.below(BLOCK) as u64;
                    copy_once(&one, at, &other, at, len as usize / 2).or_fail("copy_file_range")?;
                }
                10 => {
                    one.truncate(random.below(PAGES * BLOCK) as u64)?;
                    one.truncate(SIZE)?;
                }
                11 => {
                    let new = t.path(&format!("new-{worker}"));
                    File::create(&new)?.truncate(SIZE)?;
                    rename(&new, names(i)).or_fail("rename")?;
                }
                _ => {
                    let seen = one.read_at(offset, len as usize)?;
                    expect_sealed(&seen, offset, "read")?;
                }
            }
        }
        Ok(())
    };
    let children = (0..4)
        .map(|worker| Child::spawn(move || play(worker)))
        .collect::<Outcome<Vec<_>>>()?;
    children.into_iter().try_for_each(|child| child.join())?;
    for i in 0..FILES {
        let file = File::open(names(i), libc::O_RDONLY).or_fail("open")?;
        let seen = file.contents()?;
        expect_sealed(&seen, 0, "at the end")?;
        let map = Mapping::shared_read(&file, seen.len().max(1))?;
        expect(
            map.load(0, seen.len()) == seen,
            "file and mapping agree at the end",
        )?;
    }
    Ok(())
}

fn mounting_races_with_use(t: &Test) -> Outcome {
    let mount_and_use = |name: &'static str| {
        let mut turn = 0;
        move || {
            turn += 1;
            let fs = t.mount_at(&format!("{name}-{turn}"), &[("size", "1M")])?;
            let file = fs.create_with("file", &blocks(6, 20))?;
            let map = Mapping::shared(&file, 20 * BLOCK)?;
            map.store(5, b"stored");
            // Half of the time the filesystem outlives its mount.
            if turn % 2 == 0 {
                drop(fs);
                expect_eq(map.load(5, 6), b"stored", "the mapping after a lazy umount")?;
            } else {
                drop(map);
                drop(file);
                fs.unmount()?;
            }
            Ok(())
        }
    };
    t.race(vec![
        worker("mounts", mount_and_use("a")),
        worker("mounts too", mount_and_use("b")),
        worker("uses statfs", || {
            crate::sys::statfs(&t.dir).or_fail("statfs")?;
            let _ = std::fs::read_to_string("/proc/self/mountinfo");
            Ok(())
        }),
    ])
}
