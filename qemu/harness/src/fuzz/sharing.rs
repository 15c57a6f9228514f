// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Operations from file to file: FICLONE, FICLONERANGE, FIDEDUPERANGE, copy_file_range(2),
//! splice(2). Expects the refusals of the kernel's `generic_remap_file_range_prep`.

use std::os::fd::{AsRawFd, RawFd};

use crate::failure::{expect_eq, expect_errno, Context, Errno, Outcome, Sys};
use crate::pattern::BLOCK;
use crate::sys::{check, clone_file, clone_range, copy_loop, copy_once, dedupe, pipe, Deduped};

use super::holes::filled_by_copy;
use super::operation::{Span, Which};
use super::world::World;

impl Span {
    /// Returns whether source and destination, of `len` bytes, overlap in one file.
    pub fn overlaps(&self, len: usize) -> bool {
        self.from == self.to
            && self.from_pos < self.to_pos + len
            && self.to_pos < self.from_pos + len
    }

    fn aligned(&self) -> bool {
        self.from_pos % BLOCK == 0 && self.to_pos % BLOCK == 0
    }
}

impl World {
    /// Copies `len` bytes in the model.
    fn copied(&mut self, span: Span, len: usize) {
        let bytes = self.model[span.from as usize]
            .read(span.from_pos, len)
            .to_vec();
        self.model[span.to as usize].write(span.to_pos, &bytes);
    }

    pub fn clone_whole(&mut self, from: Which, to: Which) -> Outcome {
        let result = clone_file(&self.open[from as usize].file, &self.open[to as usize].file);
        let span = Span {
            from,
            from_pos: 0,
            len: 0,
            to,
            to_pos: 0,
        };
        self.cloned(span, result, "FICLONE")
    }

    pub fn clone_range(&mut self, span: Span) -> Outcome {
        let to_end = self.model[span.from as usize]
            .size()
            .saturating_sub(span.from_pos);
        if span.len == 0 && span.to_pos + to_end > self.capacity() {
            return Ok(());
        }
        let result = clone_range(
            &self.open[span.from as usize].file,
            span.from_pos as u64,
            span.len as u64,
            &self.open[span.to as usize].file,
            span.to_pos as u64,
        );
        self.cloned(span, result, "FICLONERANGE")
    }

    /// Checks the result of a clone; length 0 means to the end of the source.
    fn cloned(&mut self, span: Span, result: Sys, call: &str) -> Outcome {
        let size = self.model[span.from as usize].size();
        if span.len == 0 && span.from_pos == size {
            return result.or_fail(format_args!("{call} of nothing"));
        }
        let len = match span.len {
            0 => size.saturating_sub(span.from_pos),
            len => len,
        };
        let end = span.from_pos + len;
        let to_size = self.model[span.to as usize].size();
        let partial = len % BLOCK != 0 && (end != size || span.to_pos + len < to_size);
        let refused = !span.aligned()
            || span.from_pos >= size
            || end > size
            || partial
            || span.overlaps(len.next_multiple_of(BLOCK));
        if refused {
            return expect_errno(result, libc::EINVAL, call);
        }
        result.or_fail(call)?;
        let blocks = len.div_ceil(BLOCK);
        let filled = self.model[span.from as usize].filled(span.from_pos / BLOCK, blocks);
        self.copied(span, len);
        self.model[span.to as usize].set_filled(span.to_pos / BLOCK, &filled);
        Ok(())
    }

    pub fn dedupe(&mut self, span: Span) -> Outcome {
        let (from, to) = (
            &self.model[span.from as usize],
            &self.model[span.to as usize],
        );
        let result = dedupe(
            &self.open[span.from as usize].file,
            span.from_pos as u64,
            span.len as u64,
            &self.open[span.to as usize].file,
            span.to_pos as u64,
        );
        let (end, to_end) = (span.from_pos + span.len, span.to_pos + span.len);
        if end > from.size() {
            return expect_errno(result, libc::EINVAL, "FIDEDUPERANGE");
        }
        let len = if end == from.size() && to_end == to.size() {
            span.len
        } else {
            span.len / BLOCK * BLOCK
        };
        let refused = !span.aligned()
            || to_end > to.size()
            || span.from_pos >= from.size()
            || span.to_pos >= to.size()
            || span.overlaps(len.next_multiple_of(BLOCK));
        let expected = if span.len == 0 {
            Deduped::Same(0)
        } else if refused {
            Deduped::Failed(Errno(libc::EINVAL))
        } else if from.read(span.from_pos, len) == to.read(span.to_pos, len) {
            Deduped::Same(span.len as u64)
        } else {
            Deduped::Differs
        };
        expect_eq(result.or_fail("FIDEDUPERANGE")?, expected, "FIDEDUPERANGE")?;
        if matches!(expected, Deduped::Same(_)) {
            // Zeros equal a hole: both files may have either afterwards.
            let filled = from.filled(span.from_pos / BLOCK, len.div_ceil(BLOCK));
            for (i, _) in filled.iter().enumerate().filter(|(_, &filled)| filled) {
                self.model[span.to as usize].fill(span.to_pos + i * BLOCK, 1);
            }
        }
        Ok(())
    }

    pub fn copy(&mut self, span: Span) -> Outcome {
        let (from, to) = (
            &self.open[span.from as usize].file,
            &self.open[span.to as usize].file,
        );
        let available = self.model[span.from as usize]
            .read(span.from_pos, span.len)
            .len();
        let (from_pos, to_pos) = (span.from_pos as u64, span.to_pos as u64);
        if span.overlaps(available) {
            let result = copy_once(from, from_pos, to, to_pos, span.len);
            return expect_errno(result, libc::EINVAL, "copy_file_range of an overlap");
        }
        // A copy of a file onto its own end would copy more.
        let len = if span.from == span.to {
            available
        } else {
            span.len
        };
        let n = copy_loop(from, from_pos, to, to_pos, len)?;
        expect_eq(n, available, "bytes copied by copy_file_range")?;
        let (from, to) = (
            &self.model[span.from as usize],
            &self.model[span.to as usize],
        );
        let filled = filled_by_copy(from, to, span, available);
        self.copied(span, available);
        self.model[span.to as usize].set_filled(span.to_pos / BLOCK, &filled);
        Ok(())
    }

    /// Splices through a pipe.
    pub fn splice(&mut self, span: Span) -> Outcome {
        let available = self.model[span.from as usize]
            .read(span.from_pos, span.len)
            .len();
        if span.overlaps(available) {
            return Ok(());
        }
        let (output, input) = pipe()?;
        let (from, to) = (
            &self.open[span.from as usize].file,
            &self.open[span.to as usize].file,
        );
        let mut done = 0;
        while done < available {
            let (mut from_pos, mut to_pos) =
                ((span.from_pos + done) as i64, (span.to_pos + done) as i64);
            // A pipe has room for 16 pages, and an unaligned page takes two.
            let len = (available - done).min(8 * BLOCK);
            let n = splice_once(
                from.as_raw_fd(),
                Some(&mut from_pos),
                input.as_raw_fd(),
                None,
                len,
            )
            .or_fail("splice to a pipe")?;
            let mut left = n;
            while left > 0 {
                left -= splice_once(
                    output.as_raw_fd(),
                    None,
                    to.as_raw_fd(),
                    Some(&mut to_pos),
                    left,
                )
                .or_fail("splice from a pipe")?;
            }
            if n == 0 {
                break;
            }
            done += n;
        }
        expect_eq(done, available, "bytes spliced")?;
        self.copied(span, available);
        Ok(())
    }
}

fn splice_once(
    from: RawFd,
    from_pos: Option<&mut i64>,
    to: RawFd,
    to_pos: Option<&mut i64>,
    len: usize,
) -> Sys<usize> {
    let pointer = |pos: Option<&mut i64>| pos.map_or(std::ptr::null_mut(), |p| p as *mut i64);
    // SAFETY: positions are valid or NULL.
    check(unsafe { libc::splice(from, pointer(from_pos), to, pointer(to_pos), len, 0) } as i64)
}
