// SPDX-License-Identifier: GPL-2.0 OR MIT
//! read(2), write(2), truncate(2), fallocate(2).

use std::os::fd::AsRawFd;

use crate::failure::{expect_bytes, expect_eq, expect_errno, Context, Outcome, Sys};
use crate::pattern::BLOCK;
use crate::sys::{check, pread_to, pwrite_from};

use super::operation::{Mode, Which};
use super::world::World;

impl World {
    pub fn write(&mut self, file: Which, pos: usize, bytes: &[u8]) -> Outcome {
        self.open[file as usize].file.write_at(bytes, pos as u64)?;
        self.model[file as usize].write(pos, bytes);
        Ok(())
    }

    pub fn write_direct(&mut self, file: Which, pos: usize, bytes: &[u8]) -> Outcome {
        self.buffer.store(0, bytes);
        let direct = &self.open[file as usize].direct;
        let n = pwrite_from(direct, self.buffer.at(0), bytes.len(), pos as i64);
        expect_eq(n.or_fail("direct pwrite")?, bytes.len(), "bytes written")?;
        self.model[file as usize].write(pos, bytes);
        Ok(())
    }

    pub fn read(&mut self, file: Which, pos: usize, len: usize) -> Outcome {
        let seen = self.open[file as usize].file.read_at(pos as u64, len)?;
        expect_bytes(&seen, self.model[file as usize].read(pos, len), "pread")
    }

    pub fn read_direct(&mut self, file: Which, pos: usize, len: usize) -> Outcome {
        let direct = &self.open[file as usize].direct;
        let n = pread_to(direct, self.buffer.at(0), len, pos as i64).or_fail("direct pread")?;
        let expected = self.model[file as usize].read(pos, len);
        expect_bytes(&self.buffer.load(0, n), expected, "direct pread")
    }

    pub fn truncate(&mut self, file: Which, size: usize) -> Outcome {
        self.open[file as usize].file.truncate(size as u64)?;
        self.model[file as usize].resize(size);
        Ok(())
    }

    pub fn fallocate(
        &mut self,
        mode: Mode,
        file: Which,
        pos: usize,
        len: usize,
        keep_size: bool,
    ) -> Outcome {
        let capacity = self.capacity();
        let model = &mut self.model[file as usize];
        let size = model.size();
        if mode == Mode::Insert && size + len > capacity {
            return Ok(());
        }
        let flags = match mode {
            Mode::Allocate => 0,
            Mode::Punch => libc::FALLOC_FL_PUNCH_HOLE,
            Mode::Zero => libc::FALLOC_FL_ZERO_RANGE,
            Mode::Unshare => libc::FALLOC_FL_UNSHARE_RANGE,
            Mode::Collapse => libc::FALLOC_FL_COLLAPSE_RANGE,
            Mode::Insert => libc::FALLOC_FL_INSERT_RANGE,
        } | if keep_size {
            libc::FALLOC_FL_KEEP_SIZE
        } else {
            0
        };
        let fd = self.open[file as usize].file.as_raw_fd();
        // SAFETY: plain call on an open descriptor.
        let result: Sys<usize> =
            check(unsafe { libc::fallocate(fd, flags, pos as i64, len as i64) });
        let aligned = pos % BLOCK == 0 && len % BLOCK == 0;
        let refused = match mode {
            Mode::Collapse => !aligned || pos + len >= size,
            Mode::Insert => !aligned || pos >= size,
            _ => false,
        };
        if refused {
            return expect_errno(result, libc::EINVAL, format_args!("fallocate({mode:?})"));
        }
        result.or_fail(format_args!("fallocate({mode:?})"))?;
        match mode {
            Mode::Collapse => {
                model.bytes.drain(pos..pos + len);
                let blocks = pos / BLOCK..(pos + len) / BLOCK;
                model.move_filled(|filled| drop(filled.drain(blocks)), (pos + len) / BLOCK);
                let size = model.size();
                model.stored_beyond_end = false;
                model.resize(size);
            }
            Mode::Insert => {
                model.bytes.splice(pos..pos, std::iter::repeat_n(0, len));
                let (first, holes) = (pos / BLOCK, vec![false; len / BLOCK]);
                model.move_filled(|filled| drop(filled.splice(first..first, holes)), first);
                model.stored_beyond_end = false;
            }
            Mode::Punch => {
                model.bytes[pos.min(size)..(pos + len).min(size)].fill(0);
                model.punch(pos, len);
            }
            Mode::Zero => {
                model.bytes[pos.min(size)..(pos + len).min(size)].fill(0);
                model.fill(pos, len);
            }
            Mode::Allocate | Mode::Unshare => model.fill(pos, len),
        }
        if !keep_size && !matches!(mode, Mode::Collapse | Mode::Insert) {
            model.extend_to(pos + len);
        }
        Ok(())
    }
}
