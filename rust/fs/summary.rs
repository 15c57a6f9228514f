// SPDX-License-Identifier: GPL-2.0

//! What each superblock holds, for root to see: `/sys/fs/reflinkfs/MAJOR:MINOR/`, by the number of
//! its device, and the sums of all in `/sys/fs/reflinkfs/all/`.
//!
//! Mounts in user namespaces are among them. Only root of the initial namespace can read the files.

use super::ReflinkFs;
use crate::{
    memfs::InodeSpace,
    store::block::Pool,
    sysfs::{
        Attribute,
        Attributes,
        Directory,
        Root, //
    },
    vfs::{
        NewSuperBlock,
        SuperBlock, //
    },
};
use kernel::{
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        Arc,
        Mutex, //
    },
};

/// What a superblock holds.
pub(super) struct Summary {
    /// The number of its device.
    dev: u32,
    pool: Arc<Pool>,
    inodes: Arc<InodeSpace>,
}

/// Defines the attributes: numbers that have a sum over all superblocks, and others of each one.
macro_rules! attributes {
    (sums: { $($sum:literal: $sum_value:expr,)* } others: { $($other:literal: $other_value:expr,)* }) => {
        impl Attributes for Summary {
            const ATTRIBUTES: &'static [Attribute<Self>] = &[
                $(Attribute::new($sum, $sum_value),)*
                $(Attribute::new($other, $other_value),)*
            ];
        }

        impl Attributes for All {
            const ATTRIBUTES: &'static [Attribute<Self>] = &[
                Attribute::new(c"mounts", |all| all.list.lock().len() as u64),
                $(Attribute::new($sum, |all| all.sum($sum_value)),)*
            ];
        }
    };
}

attributes! {
    sums: {
        c"blocks": |this| this.pool.used(),
        // What `size=` limits: the blocks, and what nodes count as.
        c"blocks_charged": |this| this.pool.charged(),
        // Some of them may have no other reference any more: a work item looks at them once a
        // second.
        c"blocks_orphaned": |this| this.pool.orphan_count(),
        c"blocks_replaced": |this| this.pool.replaced(),
        c"nodes": |this| this.pool.nodes(),
        c"node_bytes": |this| this.pool.nodes() * Pool::NODE_BYTES,
        c"inodes_and_further_names": |this| this.inodes.names(),
        // What `nr_inodes=` limits: those, and what attributes count as.
        c"inodes_charged": |this| this.inodes.used(),
        c"attribute_bytes": |this| this.inodes.attribute_bytes(),
    }
    // A limit that there is not shows as 0.
    others: {
        c"blocks_limit": |this| this.pool.limit().unwrap_or(0),
        c"inodes_limit": |this| this.inodes.max_inodes().unwrap_or(0),
    }
}

/// The summaries of all superblocks.
#[pin_data]
pub(super) struct All {
    #[pin]
    list: Mutex<KVec<Directory<Summary>>>,
}

impl All {
    /// Returns an initialiser without a superblock.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            list <- new_mutex!(KVec::new()),
        })
    }

    /// Creates the directory of a superblock.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn add(&self, parent: &Root, sb: &NewSuperBlock<'_, ReflinkFs>) -> Result {
        let (major, minor) = sb.dev();
        let name = CString::try_from_fmt(fmt!("{major}:{minor}"))?;
        sb.set_sysfs_name(&name);
        let summary = Summary {
            dev: sb.s_dev(),
            pool: sb.info().pool.clone(),
            inodes: sb.info().space().clone(),
        };
        let summary = Directory::new(parent, &name, summary)?;
        self.list.lock().push(summary, GFP_KERNEL)?;
        Ok(())
    }

    /// Removes the directory of a superblock, if there is one, and waits for its readers. Comes
    /// before `kill_anon_super` frees the number of the device, which a new mount may get.
    pub(super) fn remove(&self, sb: &SuperBlock<ReflinkFs>) {
        let mut list = self.list.lock();
        let is_of_sb = |summary: &Directory<Summary>| summary.dev == sb.s_dev();
        let removed = match list.iter().position(is_of_sb) {
            Some(at) => list.remove(at).ok(),
            None => None,
        };
        drop(list);
        drop(removed);
    }

    fn sum(&self, value: fn(&Summary) -> u64) -> u64 {
        let list = self.list.lock();
        // Forks have a pool and what counts as inodes in common.
        let is_first = |&(i, summary): &(usize, &Directory<Summary>)| {
            let mut before = list[..i].iter();
            !before.any(|other| Arc::ptr_eq(&other.pool, &summary.pool))
        };
        let firsts = list.iter().enumerate().filter(is_first);
        firsts.map(|(_, summary)| value(summary)).sum()
    }
}
