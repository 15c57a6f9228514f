// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A filesystem in memory: the expected names, attributes and contents of a mount.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::failure::{expect_eq, Context, Outcome};
use crate::sys::{lstat, readlink, File};
use crate::tests::xattr;

/// The number of an inode, as `st_ino` is.
pub type Number = u64;

#[derive(Clone)]
pub enum Kind {
    Directory(BTreeMap<String, Number>),
    File(Rc<Vec<u8>>),
    Link(String),
}

#[derive(Clone)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

impl Node {
    pub fn new(kind: Kind, mode: u32) -> Self {
        Self {
            kind,
            mode,
            xattrs: BTreeMap::new(),
        }
    }

    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    pub fn is_link(&self) -> bool {
        matches!(self.kind, Kind::Link(_))
    }

    /// Returns the type of the inode, as `st_mode` has it.
    fn format(&self) -> u32 {
        match self.kind {
            Kind::Directory(_) => libc::S_IFDIR,
            Kind::File(_) => libc::S_IFREG,
            Kind::Link(_) => libc::S_IFLNK,
        }
    }

    /// Returns the contents of a file.
    pub fn bytes(&self) -> &Vec<u8> {
        match &self.kind {
            Kind::File(bytes) => bytes,
            _ => panic!("not a file"),
        }
    }

    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        match &mut self.kind {
            Kind::File(bytes) => Rc::make_mut(bytes),
            _ => panic!("not a file"),
        }
    }

    pub fn write(&mut self, at: usize, data: &[u8]) {
        let bytes = self.bytes_mut();
        if !data.is_empty() && bytes.len() < at + data.len() {
            bytes.resize(at + data.len(), 0);
        }
        bytes[at..at + data.len()].copy_from_slice(data);
    }
}

/// A name.
#[derive(Clone, Debug)]
pub struct Entry {
    pub directory: Number,
    pub name: String,
    pub number: Number,
    /// Relative to the root.
    pub path: PathBuf,
}

/// All inodes of a filesystem, and their names.
#[derive(Clone)]
pub struct Tree {
    pub root: Number,
    /// Also those without a name that are open.
    pub nodes: BTreeMap<Number, Node>,
}

impl Tree {
    /// Returns what a new filesystem has.
    pub fn new(root: &Path) -> Outcome<Self> {
        let stat = lstat(root).or_fail("lstat")?;
        let node = Node::new(Kind::Directory(BTreeMap::new()), stat.st_mode & 0o7777);
        Ok(Self {
            root: stat.st_ino,
            nodes: [(stat.st_ino, node)].into(),
        })
    }

    pub fn entries_of(&self, directory: Number) -> &BTreeMap<String, Number> {
        match &self.nodes[&directory].kind {
            Kind::Directory(entries) => entries,
            _ => panic!("not a directory"),
        }
    }

    fn entries_mut(&mut self, directory: Number) -> &mut BTreeMap<String, Number> {
        match self.nodes.get_mut(&directory).map(|node| &mut node.kind) {
            Some(Kind::Directory(entries)) => entries,
            _ => panic!("not a directory"),
        }
    }

    pub fn node_mut(&mut self, number: Number) -> &mut Node {
        self.nodes.get_mut(&number).expect("a node of the tree")
    }

    pub fn get(&self, directory: Number, name: &str) -> Option<Number> {
        self.entries_of(directory).get(name).copied()
    }

    pub fn insert(&mut self, directory: Number, name: &str, number: Number) -> Option<Number> {
        self.entries_mut(directory).insert(name.into(), number)
    }

    pub fn remove(&mut self, directory: Number, name: &str) -> Option<Number> {
        self.entries_mut(directory).remove(name)
    }

    /// Returns all names, those of a directory before those in it.
    pub fn entries(&self) -> Vec<Entry> {
        let mut found = Vec::new();
        let mut directories = vec![(self.root, PathBuf::new())];
        while let Some((directory, path)) = directories.pop() {
            for (name, &number) in self.entries_of(directory) {
                let path = path.join(name);
                if self.nodes[&number].is_directory() {
                    directories.push((number, path.clone()));
                }
                found.push(Entry {
                    directory,
                    name: name.clone(),
                    number,
                    path,
                });
            }
        }
        found
    }

    /// Returns whether a directory is in another one, or is that.
    pub fn is_within(&self, directory: Number, other: Number) -> bool {
        directory == other
            || self.entries_of(other).values().any(|&number| {
                self.nodes[&number].is_directory() && self.is_within(directory, number)
            })
    }

    /// Forgets the inodes without a name.
    pub fn forget_nameless(&mut self) {
        let mut named: BTreeSet<_> = self.entries().into_iter().map(|e| e.number).collect();
        named.insert(self.root);
        self.nodes.retain(|number, _| named.contains(number));
    }

    /// Checks that a mount has all this, and nothing else.
    pub fn compare(&self, at: &Path) -> Outcome {
        let entries = self.entries();
        let mut links = BTreeMap::new();
        for entry in &entries {
            *links.entry(entry.number).or_insert(0) += 1;
        }
        self.compare_node(self.root, at, 1)?;
        for Entry { number, path, .. } in &entries {
            let what = || format!("{}", path.display());
            self.compare_node(*number, &at.join(path), links[number])
                .or_fail(what())?;
        }
        Ok(())
    }

    fn compare_node(&self, number: Number, path: &Path, names: libc::nlink_t) -> Outcome {
        let node = &self.nodes[&number];
        let stat = lstat(path).or_fail("lstat")?;
        expect_eq(stat.st_ino, number, "number")?;
        expect_eq(stat.st_mode & libc::S_IFMT, node.format(), "type")?;
        if !node.is_link() {
            expect_eq(stat.st_mode & 0o7777, node.mode, "mode")?;
        }
        let mut links = names;
        match &node.kind {
            Kind::Directory(entries) => {
                let listed = std::fs::read_dir(path).or_fail("opendir")?;
                let mut seen = listed
                    .map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()))
                    .collect::<Result<Vec<_>, _>>()
                    .or_fail("readdir")?;
                seen.sort();
                let expected: Vec<_> = entries.keys().cloned().collect();
                expect_eq(seen, expected, "names")?;
                let inner = entries.values().filter(|n| self.nodes[n].is_directory());
                links = 2 + inner.count() as libc::nlink_t;
            }
            Kind::File(bytes) => {
                let file = File::open(path, libc::O_RDONLY).or_fail("open")?;
                file.expect_contents(bytes, "the file")?;
            }
            Kind::Link(target) => {
                let seen = readlink(path).or_fail("readlink")?;
                expect_eq(seen, PathBuf::from(target), "target")?;
            }
        }
        expect_eq(stat.st_nlink, links, "links")?;
        let mut seen = BTreeMap::new();
        for name in xattr::list(path)? {
            let value = xattr::get(path, &name).or_fail("getxattr")?;
            seen.insert(name, value);
        }
        expect_eq(&seen, &node.xattrs, "extended attributes")
    }
}
