// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Counters of programs, in memory that their parents share.

use std::sync::atomic::{AtomicU64, Ordering};

use super::table::CALLS;
use super::PROCESSES;
use crate::failure::Outcome;
use crate::torture::shared::Words;

/// For each call how often it was made, succeeded, was interrupted, was killed; for each process
/// the number of calls, its current call, and the number of finished programs.
pub struct Tally(Words);

const MADE: usize = 0;
const SUCCEEDED: usize = CALLS.len();
const INTERRUPTED: usize = 2 * CALLS.len();
const KILLED: usize = 3 * CALLS.len();
const STEPS: usize = 4 * CALLS.len();
const CURRENT: usize = STEPS + PROCESSES;
const PROGRAMS: usize = CURRENT + PROCESSES;

impl Tally {
    pub fn new() -> Outcome<Self> {
        Words::new(PROGRAMS + PROCESSES).map(Self)
    }

    fn add(&self, index: usize) {
        self.0.word(index).fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self, index: usize) -> u64 {
        self.0.word(index).load(Ordering::Relaxed)
    }

    /// Makes a call and counts it; a result of at least 0 is a success.
    pub fn count(&self, process: usize, call: usize, make: impl FnOnce() -> i64) {
        let current: &AtomicU64 = self.0.word(CURRENT + process);
        current.store(call as u64, Ordering::Relaxed);
        let gave = make();
        self.add(STEPS + process);
        self.add(MADE + call);
        if gave >= 0 {
            self.add(SUCCEEDED + call);
        }
    }

    /// Returns the number of calls of the process.
    pub fn steps(&self, process: usize) -> u64 {
        self.get(STEPS + process)
    }

    /// Returns the current or last call of the process.
    pub fn current(&self, process: usize) -> &'static str {
        CALLS[self.get(CURRENT + process) as usize].name
    }

    pub fn interrupted(&self, process: usize) {
        self.add(INTERRUPTED + self.get(CURRENT + process) as usize);
    }

    pub fn killed(&self, process: usize) {
        self.add(KILLED + self.get(CURRENT + process) as usize);
    }

    pub fn ended(&self, process: usize) {
        self.add(PROGRAMS + process);
    }

    fn each(&self, what: usize) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        (0..CALLS.len()).map(move |i| (CALLS[i].name, self.get(what + i)))
    }

    fn sum(&self, what: usize) -> u64 {
        self.each(what).map(|(_, count)| count).sum()
    }

    /// Returns all counts in words.
    pub fn said(&self) -> String {
        let programs: u64 = (0..PROCESSES).map(|i| self.get(PROGRAMS + i)).sum();
        let killed: Vec<_> = self
            .each(KILLED)
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} ({count})"))
            .collect();
        let never: Vec<_> = self
            .each(SUCCEEDED)
            .filter(|(_, count)| *count == 0)
            .map(|(name, _)| name)
            .collect();
        let list = |names: String| match names.is_empty() {
            true => "none".into(),
            false => names,
        };
        format!(
            "{} calls at random, of {} kinds, by {programs} programs; {} interrupted; killed: {}; \
             never succeeded: {}",
            self.sum(MADE),
            CALLS.len(),
            self.sum(INTERRUPTED),
            list(killed.join("; ")),
            list(never.join("; ")),
        )
    }
}
