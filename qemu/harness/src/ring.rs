// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Requests through io_uring(7).

use io_uring::{squeue, types, IoUring};

use crate::failure::{Context, Errno, Outcome, Sys};

/// The most requests in progress.
pub const DEPTH: usize = 64;

/// A ring.
pub struct Ring(pub IoUring);

impl Ring {
    #[track_caller]
    pub fn new() -> Outcome<Self> {
        IoUring::new(DEPTH as u32)
            .map(Self)
            .or_fail("io_uring_setup")
    }

    /// Submits requests, at most `DEPTH`, each with its number as `user_data`.
    ///
    /// # Safety
    ///
    /// The memory that requests point to must live, and must not be accessed, until their results
    /// are taken.
    pub unsafe fn submit(&mut self, requests: &[squeue::Entry]) -> Outcome {
        for (i, request) in requests.iter().enumerate() {
            let request = request.clone().user_data(i as u64);
            // SAFETY: as the caller promises.
            unsafe { self.0.submission().push(&request) }.or_fail("a place in the ring")?;
        }
        self.0.submit().or_fail("io_uring_enter")?;
        Ok(())
    }

    /// Waits for the results of all `count` requests in progress, and returns them in order.
    pub fn results(&mut self, count: usize) -> Outcome<Vec<Sys<usize>>> {
        let mut results = vec![None; count];
        let mut have = 0;
        while have < count {
            self.0.submit_and_wait(1).or_fail("io_uring_enter")?;
            for completion in self.0.completion() {
                let result = completion.result();
                let result = if result < 0 {
                    Err(Errno(-result))
                } else {
                    Ok(result as usize)
                };
                results[completion.user_data() as usize] = Some(result);
                have += 1;
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// Makes requests, all at once, and waits for their results.
    ///
    /// # Safety
    ///
    /// As for `submit`.
    pub unsafe fn run(&mut self, requests: &[squeue::Entry]) -> Outcome<Vec<Sys<usize>>> {
        // SAFETY: as the caller promises.
        unsafe { self.submit(requests)? };
        self.results(requests.len())
    }

    /// Makes one request and waits for its result.
    ///
    /// # Safety
    ///
    /// As for `submit`.
    pub unsafe fn one(&mut self, request: squeue::Entry) -> Outcome<Sys<usize>> {
        // SAFETY: as the caller promises.
        Ok(unsafe { self.run(&[request])? }.remove(0))
    }
}

/// Returns a descriptor in the form that requests take.
pub fn fd(file: &impl std::os::fd::AsRawFd) -> types::Fd {
    types::Fd(file.as_raw_fd())
}
