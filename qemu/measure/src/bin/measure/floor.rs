// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The lower bound for a module whose blocks are single pages, without a filesystem: `floor.c`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use measure::record::Unit;

use crate::bench::{time, Bench};
use crate::{data, sys};

const FILL: u64 = 0xf100;
const COPY: u64 = 0xf101;
const DROP: u64 = 0xf102;
const FAULTS_COPY: u64 = 0xf103;

/// Pages in the kernel.
pub struct Floor {
    device: File,
    len: u64,
}

impl Floor {
    /// Allocates `len` bytes in pages of 4 KiB.
    pub fn new(len: u64) -> Result<Self> {
        let device = sys::open(Path::new("/dev/bench_floor"))?;
        sys::ioctl(&device, FILL, len / 4096).context("fill /dev/bench_floor")?;
        Ok(Self { device, len })
    }

    /// Measures copying them into new pages.
    pub fn copy(&self, bench: &Bench, metric: &str) -> Result<()> {
        let (spent, ()) = time(|| sys::ioctl(&self.device, COPY, 0))?;
        sys::ioctl(&self.device, DROP, 0)?;
        bench.reference_bandwidth(metric, self.len, spent)
    }

    /// Measures allocating and writing pages, `size` bytes in a call.
    pub fn write(&self, bench: &Bench, metric: &str, size: u64) -> Result<()> {
        let buffer = data::bytes(size as usize, 2);
        let (spent, ()) = time(|| {
            for offset in (0..self.len).step_by(size as usize) {
                self.device.write_all_at(&buffer, offset)?;
            }
            Ok(())
        })?;
        sys::ioctl(&self.device, DROP, 0)?;
        bench.reference_bandwidth(metric, self.len, spent)
    }

    /// Measures mapping each page, by reading or writing a byte of each.
    pub fn map(&self, bench: &Bench, metric: &str, write: bool) -> Result<()> {
        let mapping = sys::Mapping::of_file(&self.device, self.len, write)?;
        let (spent, ()) = time(|| {
            mapping.use_each_page(write);
            Ok(())
        })?;
        let each = spent.as_secs_f64() / (self.len / 4096) as f64;
        bench.reference(metric, each, Unit::Seconds)
    }

    /// As [`Floor::map`], writable; each fault copies a page into a new one.
    pub fn map_copies(&self, bench: &Bench, metric: &str) -> Result<()> {
        sys::ioctl(&self.device, FAULTS_COPY, 0)?;
        self.map(bench, metric, true)?;
        sys::ioctl(&self.device, DROP, 0)
    }
}
