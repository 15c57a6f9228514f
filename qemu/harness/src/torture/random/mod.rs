// SPDX-License-Identifier: GPL-2.0 OR MIT
//! System calls at random, by several processes of an ordinary user on a few files, with arguments right
//! and wrong. What comes of it is the kernel's word, and that nothing is left.
//!
//! | file | concern |
//! |---|---|
//! | `table.rs` | the calls, and what their arguments are for |
//! | `arguments.rs` | arguments |
//! | `region.rs` | the memory they are about |
//! | `coverage.rs` | which places of the module they come to |

mod arguments;
mod coverage;
mod region;
mod table;

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::bomb::USER;
use super::shared::Words;
use crate::case::Test;
use crate::failure::{Context, Outcome};
use crate::instance::Instance;
use crate::patience::eventually;
use crate::pattern::Random;
use crate::process::{become_user, Child};
use arguments::World;
use coverage::{Places, Trace};
use region::Region;
use table::CALLS;

/// How many processes make calls at the same time.
const PROCESSES: usize = 3;

/// How many calls a process makes before another begins anew, with other files open and mapped.
const PROGRAM: usize = 2_000;

/// Makes calls for a while; those of a seed are always the same but for what they give.
pub fn calls_at_random(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "8M"), ("nr_inodes", "200")])?;
    let empty = fs.space()?;
    let places = Places::new()?;
    // How often each was made, then how often each succeeded.
    let counts = Words::new(2 * CALLS.len())?;
    let children = (0..PROCESSES)
        .map(|number| {
            let seed = t.effort.seed.wrapping_add((number as u64) << 32);
            let counts = &counts;
            let (fs, places) = (&fs, &places);
            Child::spawn(move || programs(fs, seed, t.effort.torture, counts, places))
        })
        .collect::<Outcome<Vec<_>>>()?;
    for child in children {
        child.join()?;
    }
    tell(t.effort.seed, &counts, &places);
    remove_tree(&fs)?;
    eventually("everything is gone once it was removed", || {
        Ok(fs.space()? == empty)
    })?;
    fs.unmount()
}

fn tell(seed: u64, counts: &Words, places: &Places) {
    let count = |i: usize| counts.word(i).load(Ordering::Relaxed);
    let made: u64 = (0..CALLS.len()).map(count).sum();
    let never: Vec<_> = (0..CALLS.len())
        .filter(|i| count(CALLS.len() + i) == 0)
        .map(|i| CALLS[i].name)
        .collect();
    let never = match never.len() {
        0 => "each succeeded".into(),
        _ => format!("never succeeded: {}", never.join("; ")),
    };
    let places = match places.count() {
        0 => String::new(),
        count => format!("; {count} places of the module"),
    };
    super::tell(format_args!(
        "seed {seed}: {made} calls at random, of {} kinds; {never}{places}",
        CALLS.len()
    ));
}

/// Removes what is in the directory, whatever its modes are.
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

/// Runs programs until the time is over, each in a process of its own that begins with nothing open.
fn programs(
    fs: &Instance,
    seed: u64,
    duration: Duration,
    counts: &Words,
    places: &Places,
) -> Outcome {
    let started = std::time::Instant::now();
    for number in 0.. {
        let random = Random::new(seed.wrapping_add(number));
        Child::spawn(move || program(fs, random, counts, places))?
            .join()
            .or_fail(format_args!("program {number}"))?;
        if started.elapsed() >= duration {
            break;
        }
    }
    Ok(())
}

fn program(fs: &Instance, random: Random, counts: &Words, places: &Places) -> Outcome {
    // SAFETY: plain calls: what is written to a pipe that is closed, or beyond a limit, is an error.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::umask(0);
    }
    let coverage = Trace::open();
    std::env::set_current_dir(&fs.root).or_fail("chdir")?;
    become_user(USER, USER)?;
    let (reader, writer) = super::calls::data::impatient_pipe()?;
    let pipe = [reader.as_raw_fd(), writer.as_raw_fd()];
    let mut world = World::new(random, pipe, Region::new()?);
    let trace = coverage.map(Trace::begin).transpose()?;
    for _ in 0..PROGRAM {
        let number = world.random.below(CALLS.len());
        let gave = call(&mut world, number);
        bump(counts.word(number));
        if gave >= 0 {
            bump(counts.word(CALLS.len() + number));
        }
        if let Some(trace) = &trace {
            trace.collect(places);
        }
    }
    Ok(())
}

fn bump(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn call(world: &mut World, number: usize) -> i64 {
    let entry = &CALLS[number];
    world.clear();
    let mut words = [0; 6];
    for (word, argument) in words.iter_mut().zip(entry.arguments) {
        *word = world.draw(*argument);
    }
    let [a, b, c, d, e, f] = words;
    // SAFETY: the kernel checks pointers itself. What it stores goes to the region, to structures
    // that are as long as it takes them for, or to files; what is mapped, unmapped or protected is
    // in the region alone.
    let gave = unsafe { libc::syscall(entry.number, a, b, c, d, e, f) };
    if entry.opens && gave >= 0 {
        let slot = world.random.below(world.fds.len());
        let old = std::mem::replace(&mut world.fds[slot], gave as i32);
        // SAFETY: a descriptor that one of these calls gave.
        unsafe { libc::close(old) };
    }
    gave
}
