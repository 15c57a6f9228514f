// SPDX-License-Identifier: GPL-2.0

//! What each superblock holds, for root to see: `/sys/fs/reflinkfs/MAJOR:MINOR/`, by the number of
//! its device, and the sums of all in `/sys/fs/reflinkfs/all/`.
//!
//! Mounts in user namespaces are among them. Only root of the initial namespace can read the files.

use super::ReflinkFs;
use crate::{
    memfs::SbInfo,
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
    pool: Arc<Pool>,
    info: Arc<SbInfo>,
}

impl Summary {
    fn blocks(&self) -> u64 {
        self.pool.used()
    }

    /// What `size=` limits: the blocks, and what nodes count as.
    fn blocks_charged(&self) -> u64 {
        self.pool.charged()
    }

    /// Some of them may have no other reference any more: a work item looks at them once a second.
    fn blocks_orphaned(&self) -> u64 {
        self.pool.orphan_count()
    }

    fn blocks_copied(&self) -> u64 {
        self.pool.copied()
    }

    fn nodes(&self) -> u64 {
        self.pool.nodes()
    }

    fn node_bytes(&self) -> u64 {
        self.pool.nodes() * Pool::NODE_BYTES
    }

    fn inodes_and_names(&self) -> u64 {
        self.info.names()
    }

    /// What `nr_inodes=` limits: those, and what attributes count as.
    fn inodes_charged(&self) -> u64 {
        self.info.inodes()
    }

    fn attribute_bytes(&self) -> u64 {
        self.info.attribute_bytes()
    }
}

impl Attributes for Summary {
    /// A limit that there is not shows as 0.
    const ATTRIBUTES: &'static [Attribute<Self>] = &[
        Attribute::new(c"blocks", Self::blocks),
        Attribute::new(c"blocks_charged", Self::blocks_charged),
        Attribute::new(c"blocks_limit", |this| this.pool.limit().unwrap_or(0)),
        Attribute::new(c"blocks_orphaned", Self::blocks_orphaned),
        Attribute::new(c"blocks_copied", Self::blocks_copied),
        Attribute::new(c"nodes", Self::nodes),
        Attribute::new(c"node_bytes", Self::node_bytes),
        Attribute::new(c"inodes_and_further_names", Self::inodes_and_names),
        Attribute::new(c"inodes_charged", Self::inodes_charged),
        Attribute::new(c"inodes_limit", |this| this.info.max_inodes().unwrap_or(0)),
        Attribute::new(c"attribute_bytes", Self::attribute_bytes),
    ];
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
            pool: sb.info().pool.clone(),
            info: sb.info().info.clone(),
        };
        let summary = Directory::new(parent, &name, summary)?;
        self.list.lock().push(summary, GFP_KERNEL)?;
        Ok(())
    }

    /// Removes the directory of a superblock, if there is one, and waits for its readers. Comes before
    /// `kill_anon_super` frees the number of the device, which a new mount may get.
    pub(super) fn remove(&self, sb: &SuperBlock<ReflinkFs>) {
        let mut list = self.list.lock();
        let is_of_sb = |summary: &Directory<Summary>| Arc::ptr_eq(&summary.pool, &sb.info().pool);
        let removed = match list.iter().position(is_of_sb) {
            Some(at) => list.remove(at).ok(),
            None => None,
        };
        drop(list);
        drop(removed);
    }

    fn sum(&self, value: fn(&Summary) -> u64) -> u64 {
        self.list.lock().iter().map(|summary| value(summary)).sum()
    }
}

impl Attributes for All {
    const ATTRIBUTES: &'static [Attribute<Self>] = &[
        Attribute::new(c"mounts", |all| all.sum(|_| 1)),
        Attribute::new(c"blocks", |all| all.sum(Summary::blocks)),
        Attribute::new(c"blocks_charged", |all| all.sum(Summary::blocks_charged)),
        Attribute::new(c"blocks_orphaned", |all| all.sum(Summary::blocks_orphaned)),
        Attribute::new(c"blocks_copied", |all| all.sum(Summary::blocks_copied)),
        Attribute::new(c"nodes", |all| all.sum(Summary::nodes)),
        Attribute::new(c"node_bytes", |all| all.sum(Summary::node_bytes)),
        Attribute::new(c"inodes_and_further_names", |all| {
            all.sum(Summary::inodes_and_names)
        }),
        Attribute::new(c"inodes_charged", |all| all.sum(Summary::inodes_charged)),
        Attribute::new(c"attribute_bytes", |all| all.sum(Summary::attribute_bytes)),
    ];
}
