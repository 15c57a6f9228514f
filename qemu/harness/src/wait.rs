// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Waiting for the kernel, or another process.

use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::failure::{expect, Outcome};
use crate::sys::sleep_ms;

/// The limit for waiting: much longer than anything takes on a slow machine, by a clock that may be
/// several times too fast. The watchdog would end the test, too, but without naming the condition.
pub const TIMEOUT: Duration = Duration::from_secs(240);

/// Waits until a condition holds; `what` names it in the failure.
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
