// SPDX-License-Identifier: GPL-2.0

//! What each mount holds, for root to see: a file in debugfs, under the number of the mount's device.
//!
//! Who makes a mount in a user namespace sees neither that of others nor its own: debugfs is mounted
//! in the first namespace only, and the file is for its root.

use super::{
    debugfs::{Directory, Show},
    filesystem::{FileSystem, SuperBlock},
};
use crate::bindings;
use core::fmt::Write;
use kernel::{prelude::*, seq_file::SeqFile, str::NullTerminatedFormatter};

impl<T: FileSystem> Show for SuperBlock<T> {
    fn show(&self, to: &SeqFile) {
        T::summarize(self, to);
    }
}

/// Calls `f` with the name of a superblock's file: `MAJOR:MINOR`, as `/proc/self/mountinfo` has it.
fn with_name<T: FileSystem>(sb: &SuperBlock<T>, f: impl FnOnce(&CStr)) {
    // SAFETY: The superblock is live, and has its device's number.
    let device = unsafe { (*sb.as_raw()).s_dev };
    let minor = device & ((1 << bindings::MINORBITS) - 1);
    let major = device >> bindings::MINORBITS;
    // Two numbers of ten digits at most.
    let mut name = [0; 24];
    let written = NullTerminatedFormatter::new(&mut name)
        .is_some_and(|mut to| write!(to, "{major}:{minor}").is_ok());
    match CStr::from_bytes_until_nul(&name) {
        Ok(name) if written => f(name),
        _ => (),
    }
}

/// Shows a superblock from now on.
///
/// # Safety
///
/// [`hide`] is called before what is kept with the superblock goes.
pub(super) unsafe fn show<T: FileSystem>(directory: &Directory, sb: &SuperBlock<T>) {
    // SAFETY: By the safety requirements.
    with_name(sb, |name| unsafe { directory.add_until_removed(name, sb) });
}

/// Ends that, and waits for those who are looking. The number of the device is still the superblock's
/// alone. Does nothing where [`show`] was not called.
pub(super) fn hide<T: FileSystem>(directory: &Directory, sb: &SuperBlock<T>) {
    with_name(sb, |name| directory.remove(name));
}
