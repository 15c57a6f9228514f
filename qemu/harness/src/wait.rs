// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Waiting for what the kernel, or another process, does a little later.

use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::failure::{expect, Outcome};
use crate::sys::sleep_ms;

/// How long is waited for what takes no time but for the machine's being slow, by a clock that may
/// be several times too fast: much longer than it should take. It only says better than the watchdog
/// would what does not happen.
pub const TIMEOUT: Duration = Duration::from_secs(240);

/// Waits until something holds; `what` says what does not when that takes too long.
#[track_caller]
pub fn eventually(what: impl Display, mut holds: impl FnMut() -> Outcome<bool>) -> Outcome {
    let deadline = Instant::now() + TIMEOUT;
    while !holds()? {
        expect(
            Instant::now() < deadline,
            format_args!("{what}, within {TIMEOUT:?}"),
        )?;
        sleep_ms(5);
    }
    Ok(())
}
