// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Calls that wait in the middle: userfaultfd(2) withholds the page of their buffer.

use std::os::fd::{AsRawFd, OwnedFd};

use crate::failure::{expect_eq, Context, Errno, Failure, Outcome, Sys};
use crate::mapping::Mapping;
use crate::pattern::BLOCK;
use crate::sys::read_to;
use crate::uffd::{self, UFFDIO_API, UFFDIO_COPY, UFFDIO_REGISTER, UFFD_API};

const REGISTER_MODE_MISSING: u64 = 1;
/// `sizeof(struct uffd_msg)`.
const MESSAGE: usize = 32;

/// The limit for a call to access its buffer.
const TIMEOUT_MS: i32 = 240_000;

/// A buffer of one missing page: each access waits.
pub struct Stall {
    uffd: OwnedFd,
    buffer: Mapping,
}

impl Stall {
    #[track_caller]
    pub fn new() -> Outcome<Self> {
        let stall = Self {
            uffd: uffd::open()?,
            buffer: Mapping::anonymous(BLOCK)?,
        };
        stall
            .request(UFFDIO_API, &mut [UFFD_API, 0, 0])
            .or_fail("UFFDIO_API")?;
        let start = stall.buffer.at(0) as u64;
        stall
            .request(
                UFFDIO_REGISTER,
                &mut [start, BLOCK as u64, REGISTER_MODE_MISSING, 0],
            )
            .or_fail("UFFDIO_REGISTER")?;
        Ok(stall)
    }

    fn request(&self, number: libc::c_ulong, words: &mut [u64]) -> Sys {
        uffd::request(&self.uffd, number, words)
    }

    /// Returns the buffer, for a call. This program must not touch it before it is released.
    pub fn buffer(&self) -> &Mapping {
        &self.buffer
    }

    /// Fills the page with `byte` and wakes the waiting accesses.
    #[track_caller]
    pub fn release(&self, byte: u8) -> Outcome {
        let page = [byte; BLOCK];
        let (to, from) = (self.buffer.at(0) as u64, page.as_ptr() as u64);
        match self.request(UFFDIO_COPY, &mut [to, from, BLOCK as u64, 0, 0]) {
            Ok(()) | Err(Errno(libc::EEXIST)) => Ok(()),
            Err(error) => Err(error).or_fail("UFFDIO_COPY"),
        }
    }

    fn wait_until_touched(&self) -> Outcome {
        let mut poll = libc::pollfd {
            fd: self.uffd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid pollfd.
        if unsafe { libc::poll(&mut poll, 1, TIMEOUT_MS) } != 1 {
            return Err(Failure::new("the call never accessed its buffer"));
        }
        let mut message = [0; MESSAGE];
        let n = read_to(&self.uffd, message.as_mut_ptr(), MESSAGE).or_fail("read of uffd")?;
        expect_eq(n, MESSAGE, "bytes of a message of userfaultfd")
    }

    /// Makes a call that uses the buffer, and runs another step while the call waits for the page.
    /// Then releases the page, filled with `byte`, unless the step has. Returns the result of the
    /// call.
    #[track_caller]
    pub fn during<T: Send>(
        &self,
        call: impl FnOnce() -> T + Send,
        byte: u8,
        meanwhile: impl FnOnce() -> Outcome,
    ) -> Outcome<T> {
        std::thread::scope(|scope| {
            let call = scope.spawn(call);
            let done = self.wait_until_touched().and_then(|()| meanwhile());
            // Releases the page in any case, as joining the thread would never end otherwise.
            let released = self.release(byte);
            let result = call.join().map_err(|_| Failure::new("the call panicked"));
            done.and(released).and(result)
        })
    }
}
