// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What decides that a test is stuck: a watchdog outside of the machine that is tested.
//!
//! The clock of an emulated machine may run several times too fast, and a busy machine is slow, so
//! no limit here would hold. The watchdog (qemu/machine/watchdog.sh) goes by its own clock: when
//! nothing has come from the guest for long, it says so.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// How often the watchdog has said that nothing goes on.
pub struct Watchdog(&'static AtomicU32);

impl Watchdog {
    /// Listens for what can be read from the file, if there is one.
    pub fn listen(path: &Path) -> Self {
        let watchdog = Self::absent();
        let times = watchdog.0;
        // It may be a terminal; ours it should not be.
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

    /// None: nothing is ever stuck.
    pub fn absent() -> Self {
        Self(Box::leak(Box::default()))
    }

    pub fn times(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Tells on the console, where the watchdog sees it, that a test begins.
pub fn tell_that_begins(name: &str) {
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = log.write_all(format!("test {name} begins").as_bytes());
    }
}
