// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Processes that use the same files meanwhile, and must not wait for long.

use std::os::fd::AsRawFd;

use super::bomb::{Bomb, SIZE, USER};
use super::shared::Shared;
use crate::failure::{expect, Context, Errno, Failure, Outcome, Sys};
use crate::instance::Instance;
use crate::mapping::{Mapping, READ, WRITE};
use crate::pattern::{blocks, Random, BLOCK, BLOCK64};
use crate::process::{become_user, Child};
use crate::sys::{check, pipe, read_to, rename, sleep_ms, unlink, write_all, write_from, File};

/// The action of each, by the number of its slot.
pub const NAMES: [&str; 6] = [
    "a read",
    "a load from a mapping",
    "a store to a mapping",
    "a write",
    "fchmod, rename, creating a file",
    "freezing and thawing",
];

const FREEZER: usize = 5;

const FIFREEZE: libc::c_ulong = 0xc004_5877;
const FITHAW: libc::c_ulong = 0xc004_5878;

/// Errors that these calls may return: the file may be short or the filesystem full.
const MET: &[i32] = &[libc::ENOSPC, libc::EFAULT, libc::EFBIG, libc::EDQUOT];

fn met<T>(result: Sys<T>, what: &str) -> Outcome {
    match result {
        Err(Errno(errno)) if !MET.contains(&errno) => Err(Errno(errno)).or_fail(what),
        _ => Ok(()),
    }
}

/// Processes that run until the board says stop.
pub struct Others(Vec<Child>);

impl Others {
    pub fn start(fs: &Instance, bomb: &Bomb, board: &Shared) -> Outcome<Self> {
        let users = Child::spawn(|| {
            become_user(USER, USER)?;
            use_files(fs, bomb, board)
        })?;
        let freezer = Child::spawn(|| {
            let root = File::open(&fs.root, libc::O_RDONLY).or_fail("open the root")?;
            while !board.is_stopped() {
                board.step(FREEZER, || freeze_and_thaw(&root))?;
                sleep_ms(5);
            }
            Ok(())
        })?;
        let others = Self(vec![users, freezer]);
        // Each makes a step before the measurement begins.
        crate::wait::eventually("each of the others has made a step", || {
            expect(!others.0.iter().any(Child::is_over), others.said())?;
            Ok((0..NAMES.len()).all(|slot| board.steps(slot) > 0))
        })?;
        Ok(others)
    }

    fn said(&self) -> String {
        self.0.iter().map(Child::said).collect()
    }

    /// Waits for all of them, after they were told to stop.
    pub fn join(self, limit: std::time::Duration) -> Outcome {
        for child in self.0 {
            match child.wait_for(limit)? {
                Some(crate::process::End::Exited(0)) => {}
                None => {
                    return Err(Failure::new(format_args!(
                        "one of the others does not come back:\n{}",
                        crate::runner::stacks(child.pid())
                    )))
                }
                end => {
                    return Err(Failure::new(format_args!(
                        "one of the others: {end:?} {}",
                        child.said()
                    )))
                }
            }
        }
        Ok(())
    }
}

fn freeze_and_thaw(root: &File) -> Outcome {
    // SAFETY: neither takes more than a number.
    unsafe {
        check(libc::ioctl(root.as_raw_fd(), FIFREEZE, 0)).or_fail("FIFREEZE")?;
        check(libc::ioctl(root.as_raw_fd(), FITHAW, 0)).or_fail("FITHAW")?;
    }
    Ok(())
}

type Step<'a> = Box<dyn FnMut(&File, u64) -> Outcome + Send + 'a>;

/// Returns one of 16 blocks, so that writes take little room.
fn place(random: &mut Random) -> u64 {
    random.next() % 16 * (SIZE / 16) + BLOCK64 * 5
}

/// Starts a thread for each action of the unprivileged user.
fn use_files(fs: &Instance, bomb: &Bomb, board: &Shared) -> Outcome {
    let data = blocks(1, 1);
    let mut load_pipe = pipe()?;
    let mut store_pipe = pipe()?;
    let steps: [Step<'_>; FREEZER] = [
        Box::new(|file, at| met(file.try_pread(&mut [0; BLOCK], at), "pread")),
        Box::new(move |file, at| {
            let map = map(file, at, READ)?;
            met(write_from(&load_pipe.1, map.at(0), 1), "a load")?;
            load_pipe = pipe()?;
            Ok(())
        }),
        Box::new(move |file, at| {
            let map = map(file, at, READ | WRITE)?;
            write_all(&store_pipe.1, b"!")?;
            met(read_to(&store_pipe.0, map.at(9), 1), "a store")?;
            store_pipe = pipe()?;
            Ok(())
        }),
        Box::new(|file, at| met(file.try_pwrite(&data, at), "pwrite")),
        Box::new(|file, _| {
            for mode in [0o600, 0o644] {
                // SAFETY: plain call on an open descriptor.
                check(unsafe { libc::fchmod(file.as_raw_fd(), mode) }).or_fail("fchmod")?;
            }
            let moved = fs.path("moved");
            rename(&file.path, &moved).or_fail("rename")?;
            rename(&moved, &file.path).or_fail("rename")?;
            let new = File::create(fs.path("new"))?;
            unlink(&new.path).or_fail("unlink")
        }),
    ];
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(steps)
            .map(|(slot, mut step)| {
                scope.spawn(move || {
                    let mut random = Random::new(slot as u64);
                    while !board.is_stopped() {
                        let file = [&bomb.file, &bomb.other][random.below(2)];
                        let at = place(&mut random);
                        board.step(slot, || step(file, at))?;
                        sleep_ms(2);
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| {
            let joined = thread.join();
            joined.map_err(|_| Failure::new("a thread panicked"))?
        })
    })
}

fn map(file: &File, at: u64, protection: i32) -> Outcome<Mapping> {
    Mapping::try_new(file, at, BLOCK, protection, libc::MAP_SHARED).or_fail("mmap")
}
