// SPDX-License-Identifier: GPL-2.0

//! What each superblock holds, for root to see: `/sys/kernel/debug/reflinkfs/MAJOR:MINOR`, by the
//! number of its device.
//!
//! The owner of a mount in a user namespace sees neither that of others nor its own: debugfs is
//! mounted in the initial namespace only, and the file is for its root.

use super::ReflinkFs;
use crate::{
    debugfs::Show,
    memfs::SbInfo,
    store::block::Pool,
    vfs::SuperBlock, //
};
use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    str::CString,
    sync::Arc, //
};

/// What the file shows.
pub(super) struct Summary {
    pool: Arc<Pool>,
    info: Arc<SbInfo>,
}

impl Show for Summary {
    /// Prints `name value` a line. A limit that there is not shows as 0.
    fn show(&self, to: &SeqFile) {
        let (pool, info) = (&self.pool, &self.info);
        let lines = [
            ("blocks", pool.used()),
            ("blocks_orphaned", pool.orphan_count()),
            ("blocks_limit", pool.limit().unwrap_or(0)),
            ("nodes", pool.nodes()),
            ("node_bytes", pool.nodes() * Pool::NODE_BYTES),
            ("inodes_and_further_names", info.names()),
            ("attribute_bytes", info.attribute_bytes()),
            ("inodes_limit", info.max_inodes().unwrap_or(0)),
        ];
        for (name, value) in lines {
            seq_print!(to, "{name} {value}\n");
        }
    }
}

/// Creates the file of a superblock. There is none where memory or debugfs fail.
pub(super) fn show(sb: &SuperBlock<ReflinkFs>) {
    let mount = sb.info();
    let (major, minor) = sb.dev();
    let Ok(name) = CString::try_from_fmt(fmt!("{major}:{minor}")) else {
        return;
    };
    let summary = Summary {
        pool: mount.pool.clone(),
        info: mount.info.clone(),
    };
    if let Ok(summary) = Arc::new(summary, GFP_KERNEL) {
        *mount.summary.lock() = Some(sb.type_data().summaries.add_file(&name, summary));
    }
}

/// Removes the file, and waits for its readers, while the device's number is still the
/// superblock's.
pub(super) fn hide(sb: &SuperBlock<ReflinkFs>) {
    let file = sb.info().summary.lock().take();
    drop(file);
}
