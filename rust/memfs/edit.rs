// SPDX-License-Identifier: GPL-2.0

//! Changes of names: in directories, and what goes with them in the table of inodes, all at once.

use super::{
    inodes::{
        hash,
        is_exclusive,
        RecordNodes,
        TableEdit, //
    },
    names::Entry,
    space::NodeCharge,
    transaction::Exclusive,
    MemFs,
    Transaction, //
};
use crate::{
    store::{
        MapNodes,
        NewItem, //
    },
    vfs::{
        Dentry,
        Inode, //
    }, //
};
use kernel::prelude::*;

/// What becomes of a name in a directory.
pub(super) struct NameEdit<'e> {
    /// Which of the inodes of the transaction the directory is.
    dir: usize,
    name: &'e [u8],
    hash: u64,
    /// What it is to lead to; `None` if it is removed.
    entry: Option<NewItem<Entry, NodeCharge>>,
}

impl<'e> NameEdit<'e> {
    /// Has a name lead to an inode, whether it leads to another one or not.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn set<T: MemFs>(dir: usize, name: &'e Dentry<T>, inode: &Inode<T>) -> Result<Self> {
        let entry = Entry::new(name.name(), inode.ino(), inode.file_type())?;
        Ok(Self {
            dir,
            name: name.name(),
            hash: hash(inode, name.name()),
            entry: Some(NewItem::new(entry, GFP_KERNEL_ACCOUNT)?),
        })
    }

    /// Removes the name of an inode.
    pub(super) fn remove<T: MemFs>(dir: usize, name: &'e Dentry<T>, inode: &Inode<T>) -> Self {
        Self {
            dir,
            name: name.name(),
            hash: hash(inode, name.name()),
            entry: None,
        }
    }

    /// Returns the position of the name, and how many nodes the change needs. As `i_rwsem` is held,
    /// both stay so until a fork is made.
    fn plan<T: MemFs>(&self, dir: &Inode<T>) -> Result<(u64, usize)> {
        let record = T::info(dir).record.read();
        match self.entry {
            Some(_) => {
                let position = record.names.position_to_set(self.hash, self.name)?;
                Ok((position, record.names.nodes_to_set(position)))
            }
            None => {
                let position = record.names.position(self.hash, self.name);
                let position = position.ok_or(ENOENT)?;
                Ok((position, record.names.nodes_to_remove(position)))
            }
        }
    }

    /// Makes the change, for which there are `nodes`. Returns what was there, to be dropped without
    /// a lock.
    fn apply<T: MemFs>(
        &mut self,
        dir: Exclusive<'_, T>,
        position: u64,
        nodes: &mut MapNodes<Entry, NodeCharge>,
    ) -> Result<Option<NewItem<Entry, NodeCharge>>> {
        let mut record = dir.write();
        match self.entry.take() {
            Some(entry) => record.names.set(position, entry, nodes),
            None => record.names.remove(position, nodes),
        }
    }
}

/// Changes names in directories whose `i_rwsem` is held exclusive, and the table, and calls `done`
/// to change `inodes` in the same transaction.
///
/// # Errors
///
/// `ENOMEM`, `ENOSPC`; nothing has changed.
pub(super) fn edit_names<T: MemFs, const N: usize, const E: usize>(
    inodes: [&Inode<T>; N],
    edits: &mut [NameEdit<'_>; E],
    table: &TableEdit<'_, T>,
    done: impl FnOnce([Exclusive<'_, T>; N]),
) -> Result {
    let all = T::inodes(inodes[0].super_block());
    let (mut name_nodes, mut record_nodes) = (MapNodes::new(), RecordNodes::new());
    loop {
        // Before the transaction, in which nothing can be allocated.
        let epoch = all.epoch();
        let (mut positions, mut needed) = ([0; E], 0);
        for (edit, at) in edits.iter().zip(&mut positions) {
            let (position, nodes) = edit.plan(inodes[edit.dir])?;
            *at = position;
            needed += nodes;
        }
        if !name_nodes.has(needed) {
            super::fill_nodes(inodes[0], &mut name_nodes)?;
        }
        all.fill(&mut record_nodes)?;
        let were_exclusive = inodes.iter().all(|inode| is_exclusive(inode));
        let transaction = Transaction::begin(inodes)?;
        let each = transaction.each();
        let is_as_planned = were_exclusive && all.epoch() == epoch;
        if is_as_planned && table.apply(all, transaction.steady(), &mut record_nodes) {
            for (edit, position) in edits.iter_mut().zip(positions) {
                let old = edit.apply(each[edit.dir], position, &mut name_nodes);
                debug_assert!(old.is_ok());
            }
            done(each);
            return Ok(());
        }
    }
}
