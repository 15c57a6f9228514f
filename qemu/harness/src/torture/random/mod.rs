// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Random system calls, by several processes of an unprivileged user on a few files, with valid and
//! invalid arguments. These are failures: a report of the kernel, a call that cannot be killed, and
//! memory or blocks left when everything was removed.
//!
//! | file | concern |
//! |---|---|
//! | `table.rs` | the calls, and the types of their arguments |
//! | `arguments.rs` | arguments |
//! | `region.rs` | the memory that they access |
//! | `tally.rs` | the number of calls, by kind |
//! | `coverage.rs` | the places of the module that they reach |

mod arguments;
mod coverage;
mod region;
mod table;
mod tally;

use std::os::fd::AsRawFd;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::bomb::USER;
use crate::case::Test;
use crate::failure::{Context, Failure, Outcome};
use crate::filesystem::is_user_mode_linux;
use crate::instance::Instance;
use crate::pattern::{mix, Random};
use crate::process::{become_user, signal_name, Child, End};
use crate::sys::check;
use crate::wait::{eventually, TIMEOUT};
use arguments::World;
use coverage::{Places, Trace};
use region::Region;
use table::CALLS;
use tally::Tally;

/// The number of processes that make calls at the same time.
const PROCESSES: usize = 3;

/// The number of calls of a program. The next program starts again, with other files open and
/// mapped.
const PROGRAM: usize = 2_000;

/// The interval at which a program is checked.
const LOOK: Duration = Duration::from_millis(10);

/// The number of interruptions of the same call before its program is killed.
const INTERRUPTIONS: usize = 200;

/// The state that the processes share.
struct Run<'a> {
    fs: &'a Instance,
    seed: u64,
    duration: Duration,
    tally: &'a Tally,
    places: &'a Places,
}

/// Makes calls for a while. The calls and arguments of a seed are always the same; their results
/// depend on the other processes.
pub fn calls_at_random(t: &Test) -> Outcome {
    let options = [("size", "8M"), ("nr_inodes", "200"), ("quota", "")];
    let seed = t.settings.seed;
    // Every second instance has quotas.
    let fs = t.mount(&options[..2 + seed as usize % 2])?;
    let empty = fs.space()?;
    let (tally, places) = (Tally::new()?, Places::new()?);
    let run = Run {
        fs: &fs,
        seed,
        duration: t.settings.torture,
        tally: &tally,
        places: &places,
    };
    let children = (0..PROCESSES)
        .map(|process| Child::spawn(|| run.programs(process)))
        .collect::<Outcome<Vec<_>>>()?;
    let ended: Vec<_> = children.into_iter().map(Child::join).collect();
    let reached = places.said(t.settings.places);
    super::tell(format_args!("seed {seed}: {}{reached}", tally.said()));
    ended.into_iter().collect::<Outcome>()?;
    remove_tree(&fs)?;
    eventually("everything is gone once it was removed", || {
        // Empties the lists of pages that mlock(2) keeps for each processor.
        std::fs::write("/proc/sys/vm/drop_caches", "1").or_fail("drop_caches")?;
        Ok(fs.space()? == empty)
    })
    .map_err(|Failure(text)| {
        Failure(format!("{text}: {empty:?} at first, then {:?}", fs.space()))
    })?;
    fs.unmount()
}

/// Removes everything in the directory, whatever its modes.
fn remove_tree(fs: &Instance) -> Outcome {
    for entry in std::fs::read_dir(&fs.root).or_fail("opendir")? {
        let entry = entry.or_fail("readdir")?;
        if entry.file_type().or_fail("type of an entry")?.is_dir() {
            std::fs::remove_dir_all(entry.path()).or_fail("removing a tree")?;
        } else {
            crate::sys::unlink(entry.path()).or_fail("unlink")?;
        }
    }
    Ok(())
}

/// Returns the seed of a program. The first program of the first process has the seed of the
/// command line, so that any program can be repeated as the first of a run.
fn seed_of_program(seed: u64, process: usize, number: u64) -> u64 {
    match ((process as u64) << 32) | number {
        0 => seed,
        which => mix(seed ^ mix(which)) & !1 | seed & 1,
    }
}

impl Run<'_> {
    /// Runs programs until the time is over, each in a new process that begins with nothing open.
    fn programs(&self, process: usize) -> Outcome {
        interrupt_on(libc::SIGALRM)?;
        let started = Instant::now();
        for number in 0.. {
            let seed = seed_of_program(self.seed, process, number);
            let child = Child::spawn(|| self.program(process, seed))?;
            self.watch(process, child).or_fail(format_args!(
                "program {number} of process {process}, which --seed {seed} begins with, at {}",
                self.tally.current(process)
            ))?;
            self.tally.ended(process);
            if started.elapsed() >= self.duration {
                break;
            }
        }
        Ok(())
    }

    /// Waits for the end of a program. Interrupts a call that does not return by a signal, again
    /// and again, as it may wait for something that only this program would do, such as to write
    /// into a pipe. Kills a program that does not react; a call that survives that is the failure.
    fn watch(&self, process: usize, child: Child) -> Outcome {
        let (mut seen, mut interruptions) = (0, 0);
        while interruptions < INTERRUPTIONS {
            if let Some(end) = child.wait_for(LOOK)? {
                return match end {
                    End::Exited(0) => Ok(()),
                    End::Exited(_) => Err(Failure(child.said())),
                    End::Killed(signal) => Err(Failure(format!("died of {}", signal_name(signal)))),
                };
            }
            let steps = self.tally.steps(process) + 1;
            if steps != seen {
                (seen, interruptions) = (steps, 0);
                continue;
            }
            self.tally.interrupted(process);
            interruptions += 1;
            child.kill(libc::SIGALRM);
        }
        self.tally.killed(process);
        child.kill(libc::SIGKILL);
        match child.wait_for(TIMEOUT)? {
            Some(_) => Ok(()),
            None => Err(Failure(format!(
                "not dead {TIMEOUT:?} after SIGKILL; it is in:\n{}",
                crate::runner::stacks(child.pid())
            ))),
        }
    }

    fn program(&self, process: usize, seed: u64) -> Outcome {
        // SAFETY: plain calls: none of these signals, which calls may send, ends the program.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::signal(libc::SIGIO, libc::SIG_IGN);
            libc::umask(0);
        }
        let coverage = Trace::open();
        std::env::set_current_dir(&self.fs.root).or_fail("chdir")?;
        become_user(USER, USER)?;
        let (reader, writer) = super::calls::data::impatient_pipe()?;
        let pipe = [reader.as_raw_fd(), writer.as_raw_fd()];
        let mut world = World::new(Random::new(seed), pipe, Region::new()?);
        let trace = coverage.map(Trace::begin).transpose()?;
        for _ in 0..PROGRAM {
            let number = world.random.below(CALLS.len());
            self.tally
                .count(process, number, || call(&mut world, number));
            if let Some(trace) = &trace {
                trace.collect(self.places);
            }
        }
        Ok(())
    }
}

extern "C" fn nothing(_: i32) {}

/// Makes a signal only interrupt the current call.
fn interrupt_on(signal: i32) -> Outcome {
    // SAFETY: an action of zeros has no flags, so that calls are not restarted; the handler does nothing.
    check(unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as libc::sighandler_t;
        libc::sigaction(signal, &action, std::ptr::null_mut())
    })
    .map(drop)
    .or_fail("sigaction")
}

/// User-Mode Linux stores to user memory through read-only page table entries, see
/// [`Feature::WriteProtection`](crate::filesystem::Feature::WriteProtection): in a private mapping of a hole to
/// the page of zeros, which is its own end.
static WITHOUT_PRIVATE_PAGES: LazyLock<bool> = LazyLock::new(is_user_mode_linux);

fn call(world: &mut World, number: usize) -> i64 {
    let entry = &CALLS[number];
    world.clear();
    let mut words = [0; 6];
    for (word, argument) in words.iter_mut().zip(entry.arguments) {
        *word = world.draw(*argument);
    }
    if entry.number == libc::SYS_mmap && *WITHOUT_PRIVATE_PAGES {
        words[3] = words[3] & !(libc::MAP_TYPE as u64) | libc::MAP_SHARED as u64;
    }
    let [a, b, c, d, e, f] = words;
    // SAFETY: the kernel checks pointers itself. It stores only to the region, to structures that
    // have the length it expects, or to files; only memory of the region is mapped, unmapped or
    // protected.
    let gave = unsafe { libc::syscall(entry.number, a, b, c, d, e, f) };
    if entry.opens {
        // Drawn in any case, so that later arguments do not depend on results.
        let slot = world.random.below(world.fds.len());
        if gave >= 0 {
            let old = std::mem::replace(&mut world.fds[slot], gave as i32);
            // SAFETY: a descriptor that one of these calls gave.
            unsafe { libc::close(old) };
        }
    }
    gave
}
