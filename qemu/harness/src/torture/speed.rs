// SPDX-License-Identifier: GPL-2.0 OR MIT
//! How much slower this machine is, at this moment, than one that limits of a second are for.

use std::time::{Duration, Instant};

use crate::failure::Outcome;
use crate::sys::File;

/// How long the loop takes in an emulated guest of the stock kernel on a machine that is not busy.
const REFERENCE: Duration = Duration::from_millis(20);

const TURNS: u64 = 2_000;

/// What a limit of a second is here and now: never less than that.
pub fn second(file: &File) -> Outcome<Duration> {
    let started = Instant::now();
    for turn in 0..TURNS {
        let _ = file.seek(turn as i64, libc::SEEK_SET);
        let _ = file.try_pread(&mut [0; 64], turn << 20);
    }
    let slower = started.elapsed().as_secs_f64() / REFERENCE.as_secs_f64();
    Ok(Duration::from_secs_f64(slower.max(1.0)))
}
