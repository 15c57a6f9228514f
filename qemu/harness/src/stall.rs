// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Calls that are made to wait in the middle: userfaultfd(2) keeps the page of their buffer back.

use std::os::fd::{AsRawFd, OwnedFd};

use crate::failure::{expect_eq, Context, Errno, Failure, Outcome, Sys};
use crate::mapping::Mapping;
use crate::pattern::BLOCK;
use crate::sys::read_to;
use crate::uffd::{self, UFFDIO_API, UFFDIO_COPY, UFFDIO_REGISTER, UFFD_API};

const REGISTER_MODE_MISSING: u64 = 1;
/// `sizeof(struct uffd_msg)`.
const MESSAGE: usize = 32;

/// How long a call may take to come to its buffer.
const TIMEOUT_MS: i32 = 240_000;

/// A buffer of one page that is not there yet: who touches it waits.
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

    /// The buffer to give to a call. Touched by this program itself, it must be released.
    pub fn buffer(&self) -> &Mapping {
        &self.buffer
    }

    /// Lets whoever waits go on, with a page full of `byte`.
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
            return Err(Failure::new("the call never came to its buffer"));
        }
        let mut message = [0; MESSAGE];
        let n = read_to(&self.uffd, message.as_mut_ptr(), MESSAGE).or_fail("read of uffd")?;
        expect_eq(n, MESSAGE, "bytes of a message of userfaultfd")
    }

    /// Makes a call that uses the buffer, does something else while it waits for the page, then
    /// lets it have one full of `byte`, unless that was done meanwhile. What the call gave.
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
            // Released in any case, or nobody would ever come to join the thread.
            let released = self.release(byte);
            let result = call.join().map_err(|_| Failure::new("the call panicked"));
            done.and(released).and(result)
        })
    }
}
