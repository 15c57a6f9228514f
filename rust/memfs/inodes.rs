// SPDX-License-Identifier: GPL-2.0

//! The inodes of a superblock: their records, by number.

use super::{
    family::{
        Epoch,
        Family,
        Steady,
        Stopped, //
    },
    names::Names,
    record::{
        Content,
        Data,
        Record, //
    },
    space::{
        InodeCharge,
        NodeCharge, //
    },
    xattrs::Xattrs,
    MemFs, //
};
use crate::{
    store::{
        Table,
        TableNodes, //
    },
    vfs::{
        Inode,
        RwLock, //
    },
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

/// The number of the root directory: the first of all.
pub(crate) const ROOT_INO: u64 = 1;

/// Records by number.
pub(super) type Records<D> = Table<Arc<Record<D>>, NodeCharge>;

/// Nodes for changes of them.
pub(super) type RecordNodes<D> = TableNodes<Arc<Record<D>>, NodeCharge>;

/// The inodes of a superblock that have a name.
#[pin_data]
pub(crate) struct Inodes<D> {
    pub(crate) family: Arc<Family>,
    /// See [`Epoch`]. Changes with the family's lock held exclusive.
    epoch: Atomic<u64>,
    #[pin]
    records: RwLock<Records<D>>,
    /// Stands for the record of an inode that has none yet. It is never released.
    unset: Arc<Record<D>>,
}

impl<D: Data> Inodes<D> {
    /// Creates a table without inodes. `data` is that of an empty file.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(family: Arc<Family>, data: D) -> Result<Arc<Self>> {
        let unset = Content {
            epoch: Epoch::NEVER,
            attrs: Default::default(),
            btime: Default::default(),
            fsflags: 0,
            parent: 0,
            target: None,
            names: Names::new(),
            xattrs: Xattrs::new(),
            charge: InodeCharge::none(&family.space),
            data,
        };
        let unset = Record::new(unset, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                family,
                epoch: Atomic::new(Epoch::new().to_bits()),
                records <- RwLock::new(Table::new(), c"reflinkfs_inodes", static_lock_class!()),
                unset,
            }),
            GFP_KERNEL,
        )
    }

    /// Returns the epoch. With the family's lock held it stays so.
    pub(super) fn epoch(&self) -> Epoch {
        Epoch::from_bits(self.epoch.load(Relaxed))
    }

    /// Returns the record of an inode that has none yet.
    pub(super) fn unset(&self) -> &Arc<Record<D>> {
        &self.unset
    }

    /// Returns the record of a number.
    pub(super) fn get(&self, ino: u64) -> Option<Arc<Record<D>>> {
        self.records.read().get(ino).cloned()
    }

    /// Drops all records, at the end of a superblock, whose inodes are gone. Calls `step` now and
    /// then.
    pub(crate) fn clear(&self, step: impl FnMut()) {
        let mut records = core::mem::take(&mut *self.records.write());
        records.clear(step);
    }

    /// Returns the table of a fork.
    pub(super) fn clone_records(&self) -> Records<D> {
        self.records.read().clone()
    }

    /// Sets the table of a fork, which has none yet.
    pub(super) fn set_records(&self, records: Records<D>) {
        *self.records.write() = records;
    }

    /// Begins another epoch: a fork has all records that were made before.
    pub(super) fn set_epoch(&self, _stopped: &Stopped<'_>, epoch: Epoch) {
        self.epoch.store(epoch.to_bits(), Relaxed);
    }

    /// Allocates what is missing in `nodes`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`.
    pub(super) fn fill(&self, nodes: &mut RecordNodes<D>) -> Result {
        nodes.fill(GFP_KERNEL_ACCOUNT, || NodeCharge::new(&self.family.space))
    }
}

/// Returns the family of an inode's superblock.
pub(super) fn family_of<T: MemFs>(inode: &Inode<T>) -> &Family {
    &T::inodes(inode.super_block()).family
}

/// Returns the hash of a name, of a file or an attribute, in the family of an inode.
pub(super) fn hash<T: MemFs>(inode: &Inode<T>, name: &[u8]) -> u64 {
    family_of(inode).key.hash(name)
}

/// Returns whether no fork has the record of the inode. With the family's lock held that stays so.
pub(crate) fn is_exclusive<T: MemFs>(inode: &Inode<T>) -> bool {
    let epoch = T::inodes(inode.super_block()).epoch();
    T::info(inode).record.is_exclusive(epoch)
}

/// Puts a copy in the place of the record of an inode, if a fork has that.
///
/// # Errors
///
/// `ENOMEM`, `ENOSPC`.
pub(super) fn make_exclusive<T: MemFs>(inode: &Inode<T>) -> Result {
    let (inodes, cell) = (T::inodes(inode.super_block()), &T::info(inode).record);
    let Some(old) = cell.shared(|| inodes.epoch()) else {
        return Ok(());
    };
    let mut copy = Record::new(old.try_clone(Epoch::PRIVATE)?, GFP_KERNEL_ACCOUNT)?;
    let mut nodes = RecordNodes::new();
    loop {
        let mut is_short = false;
        let steady = inodes.family.steady();
        let unneeded = cell.replace(&steady, &old, copy, inodes.epoch(), |copy| {
            let mut records = inodes.records.write();
            is_short = !nodes.has(records.nodes_to_insert(inode.ino()));
            // `old` has another reference to what is replaced.
            !is_short
                && records
                    .insert(inode.ino(), copy.clone(), &mut nodes)
                    .is_ok()
        });
        drop(steady);
        if !is_short {
            return Ok(());
        }
        copy = unneeded;
        inodes.fill(&mut nodes)?;
    }
}

/// Which records enter the table, and which leave it.
pub(super) struct TableEdit<'e, T: MemFs> {
    /// That of an inode which gets its first name.
    pub(super) insert: Option<&'e Inode<T>>,
    /// That of an inode which loses its last name.
    pub(super) remove: Option<&'e Inode<T>>,
}

impl<'e, T: MemFs> TableEdit<'e, T> {
    /// None.
    pub(super) const NONE: Self = Self {
        insert: None,
        remove: None,
    };

    /// Makes the change, if there are enough `nodes`. Returns whether it did.
    pub(super) fn apply(
        &self,
        inodes: &Inodes<T::Data>,
        steady: &Steady<'_>,
        nodes: &mut RecordNodes<T::Data>,
    ) -> bool {
        if let Some(inode) = self.insert {
            let to_remove = match self.remove {
                Some(inode) => inodes.records.read().nodes_to_remove(inode.ino()),
                None => 0,
            };
            let enter = |record: &Arc<Record<T::Data>>| {
                let mut records = inodes.records.write();
                nodes.has(records.nodes_to_insert(inode.ino()) + to_remove)
                    && records.insert(inode.ino(), record.clone(), nodes).is_ok()
            };
            if !T::info(inode).record.link(steady, inodes.epoch(), enter) {
                return false;
            }
        }
        let Some(inode) = self.remove else {
            return true;
        };
        // What it needs stays so: others share no node meanwhile.
        T::info(inode).record.unlink(steady, inodes.epoch(), || {
            let mut records = inodes.records.write();
            nodes.has(records.nodes_to_remove(inode.ino()))
                && records.remove(inode.ino(), nodes).is_ok()
        })
    }
}
