// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The link to the watchdog on the host, which decides that a test is stuck.
//!
//! The clock of an emulated machine may run several times too fast, and a busy machine is slow, so
//! no limit in here would hold. The watchdog (qemu/machine/watchdog.sh) uses its own clock, and
//! sends a message when no output has come from the guest for long.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts the watchdog's messages.
pub struct Watchdog(&'static AtomicU32);

impl Watchdog {
    /// Reads messages from the file, if it exists.
    pub fn listen(path: &Path) -> Self {
        let watchdog = Self::absent();
        let times = watchdog.0;
        // The file may be a terminal, which must not become the controlling one.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOCTTY)
            .open(path);
        if let Ok(mut file) = opened {
            std::thread::spawn(move || {
                let mut said = [0; 16];
                while matches!(file.read(&mut said), Ok(1..)) {
                    times.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        watchdog
    }

    /// Returns a watchdog that never sends a message.
    pub fn absent() -> Self {
        Self(Box::leak(Box::default()))
    }

    pub fn times(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Writes to the console, where the watchdog sees it, that a test begins.
pub fn tell_that_begins(name: &str) {
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = log.write_all(format!("test {name} begins").as_bytes());
    }
}
