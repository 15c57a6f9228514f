// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Coverage of a module that is built with KCOV_INSTRUMENT: a place is a call of
//! `__sanitizer_cov_trace_pc`, one in each basic block.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::{expect, Context, Outcome};
use crate::sys::{check, File};
use crate::torture::shared::Words;

const KCOV_INIT_TRACE: libc::c_ulong = 0x8008_6301;
const KCOV_ENABLE: libc::c_ulong = 0x6364;
const KCOV_TRACE_PC: libc::c_ulong = 0;

/// The number of places of one call that are recorded at most.
const PLACES: usize = 1 << 16;

/// The module's code is smaller than this, so that the low bits of an address identify a place.
const WINDOW: u64 = 1 << 22;

/// A bit for each place, in shared memory.
pub struct Places(Words);

impl Places {
    pub fn new() -> Outcome<Self> {
        Words::new(WINDOW as usize / 64).map(Self)
    }

    fn word(&self, index: u64) -> &AtomicU64 {
        self.0.word(index as usize)
    }

    fn insert(&self, place: u64) {
        let bit = place % WINDOW;
        self.word(bit / 64)
            .fetch_or(1 << (bit % 64), Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        let bits = (0..WINDOW / 64).map(|i| self.word(i).load(Ordering::Relaxed).count_ones());
        bits.map(u64::from).sum()
    }

    /// Returns the number of reached places out of `all`, in words; empty without KCOV.
    pub fn said(&self, all: u64) -> String {
        match (self.count(), all) {
            (0, _) => String::new(),
            (count, 0) => format!("; {count} places of the module reached"),
            (count, _) => format!(
                "; {count} of {all} places of the module reached ({} %)",
                count * 100 / all
            ),
        }
    }
}

/// The kernel's record for this thread.
pub struct Trace {
    _file: File,
    notes: *const AtomicU64,
}

impl Trace {
    /// Opens KCOV, as only root may, if the kernel has it.
    pub fn open() -> Option<File> {
        File::open("/sys/kernel/debug/kcov", libc::O_RDWR).ok()
    }

    /// Starts recording this thread.
    pub fn begin(file: File) -> Outcome<Self> {
        let fd = file.as_raw_fd();
        // SAFETY: the argument is a number.
        check(unsafe { libc::ioctl(fd, KCOV_INIT_TRACE, PLACES) }).or_fail("KCOV_INIT_TRACE")?;
        let (none, access) = (std::ptr::null_mut(), libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let notes = unsafe { libc::mmap(none, PLACES * 8, access, libc::MAP_SHARED, fd, 0) };
        expect(notes != libc::MAP_FAILED, "mmap of what KCOV notes")?;
        // SAFETY: as above.
        check(unsafe { libc::ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC) }).or_fail("KCOV_ENABLE")?;
        Ok(Self {
            _file: file,
            notes: notes.cast(),
        })
    }

    /// Returns a word of the record: their number, then the addresses.
    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < PLACES);
        // SAFETY: within the mapping, which stays.
        unsafe { &*self.notes.add(index) }
    }

    /// Adds the places of the calls since the last time.
    pub fn collect(&self, places: &Places) {
        let count = self.word(0).swap(0, Ordering::Relaxed) as usize;
        for i in 1..=count.min(PLACES - 1) {
            places.insert(self.word(i).load(Ordering::Relaxed));
        }
    }
}
