// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Makes one call, again and again, on bombs: it must end when it is killed, and the others must
//! not wait for it.

use std::time::{Duration, Instant};

use super::bomb::{Bomb, Shape, USER};
use super::calls::{Call, Caller};
use super::others::{Others, NAMES};
use super::shared::{Shared, SLOTS};
use super::speed;
use crate::case::Test;
use crate::failure::{expect, Context, Failure, Outcome};
use crate::instance::Instance;
use crate::pattern::Random;
use crate::process::{become_user, Child, End};
use crate::sys::{sleep_ms, unlink};
use crate::wait::eventually;

/// The number of tries before a failure that a busy machine can cause counts.
const TRIES: usize = 3;

/// The slot in which the caller reports.
const CALLER: usize = SLOTS - 1;

/// This much longer than a second is what a busy machine makes of one, where other guests take the
/// processor from this one between the measurement and the wait.
const BUSY: u32 = 4;

/// A call that takes this many times its limit has no end.
const NO_END: u32 = 20;

/// Makes a call on bombs of this shape, as an unprivileged user, while others use the same files,
/// and kills it. Expects that it dies, that the others waited for at most a second of this machine,
/// and that everything can be removed and unmounted afterwards.
pub fn expect_bounded(t: &Test, shape: Shape, call: Call) -> Outcome {
    let mut slow = Vec::new();
    for round in 0..TRIES {
        match one_round(t, shape, call, round)? {
            None => return Ok(()),
            Some(text) => slow.push(text),
        }
    }
    Err(Failure::new(slow.join("; again: ")))
}

/// Runs a round. Returns the step that took too long, if one did.
fn one_round(t: &Test, shape: Shape, call: Call, round: usize) -> Outcome<Option<String>> {
    // Small, as a call that does everything or nothing may take until it has used up all nodes.
    let size = if t.settings.divisor > 1 { "2M" } else { "4M" };
    let fs = t.mount_at(&format!("instance-{round}"), &[("size", size)])?;
    let seed = t.settings.seed.wrapping_add(round as u64);
    let bomb = Bomb::new(&fs, shape)?;
    let before = speed::second(&bomb.file)?;
    let board = Shared::new()?;
    let others = Others::start(&fs, &bomb, &board)?;
    let caller = Child::spawn(|| {
        become_user(USER, USER)?;
        let mut random = Random::new(seed);
        let mut caller = Caller::new(&bomb)?;
        loop {
            board.step(CALLER, || caller.turn(call, &mut random))?;
        }
    })?;
    eventually("the caller has begun", || {
        Ok(board.current(CALLER).is_some() || board.steps(CALLER) > 0 || caller.is_over())
    })?;
    let_it_run(t.settings.bomb, before, &board);
    let killed = Instant::now();
    caller.kill(libc::SIGKILL);
    let end = caller.wait_for(before * NO_END)?;
    let died = killed.elapsed();
    match end {
        Some(End::Killed(libc::SIGKILL)) => {}
        Some(end) => {
            return Err(Failure::new(format_args!(
                "the caller ended before it was killed: {end:?} {}",
                caller.said()
            )))
        }
        None => {
            return Err(Failure::new(format_args!(
                "not dead {died:?} after SIGKILL; it is in:\n{}",
                crate::runner::stacks(caller.pid())
            )))
        }
    }
    board.stop();
    others.join(before * NO_END)?;
    let limit = before.max(speed::second(&bomb.file)?) * BUSY;
    let removal = Instant::now();
    remove_everything(fs, bomb)?;
    let mut slow = Vec::new();
    let mut judge = |what: &str, took: Duration| {
        if took > limit {
            slow.push(format!("{what} took {took:?}, of {limit:?}"));
        }
    };
    judge("to die after SIGKILL", died);
    judge("to remove everything and unmount", removal.elapsed());
    for (slot, name) in NAMES.iter().enumerate() {
        judge(name, board.longest(slot));
    }
    Ok((!slow.is_empty()).then(|| slow.join(", ")))
}

/// Lets the calls run for a while, and longer while a process waits for them, up to a limit.
fn let_it_run(a_while: Duration, second: Duration, board: &Shared) {
    std::thread::sleep(a_while);
    let waits = |slot| {
        let current = board.current(slot);
        current.is_some_and(|current| a_while / 2 < current && current < 2 * second)
    };
    while (0..NAMES.len()).any(waits) {
        sleep_ms(2);
    }
}

fn remove_everything(fs: Instance, bomb: Bomb) -> Outcome {
    let Bomb { file, other, .. } = bomb;
    drop((file, other));
    for entry in std::fs::read_dir(&fs.root).or_fail("opendir")? {
        unlink(entry.or_fail("readdir")?.path()).or_fail("unlink")?;
    }
    // mlock(2) keeps pages in per-CPU batches for a while; dropping caches empties them.
    eventually("no block is used after everything was removed", || {
        let used = fs.used()?;
        if used > 0 {
            std::fs::write("/proc/sys/vm/drop_caches", "1").or_fail("drop_caches")?;
        }
        Ok(used == 0)
    })?;
    let inodes = fs.space()?;
    expect(
        inodes.inodes - inodes.free_inodes <= 1,
        format_args!("inodes after everything was removed: {inodes:?}"),
    )?;
    fs.unmount()
}
