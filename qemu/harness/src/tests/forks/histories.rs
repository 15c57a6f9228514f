// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Random changes of a family of mounts, each compared with a model of its own.

use std::path::PathBuf;

use super::contents::fork;
use crate::case::{case, Case, Test};
use crate::eviction::drop_caches;
use crate::failure::{expect_bytes, expect_eq, expect_one_of, Context, Failure, Outcome, Sys};
use crate::filesystem::FORKS;
use crate::instance::{Instance, Space};
use crate::mapping::Mapping;
use crate::pattern::{Random, BLOCK};
use crate::process::in_child;
use crate::sys::{
    chmod, clone_file, copy_loop, dedupe, link, lstat, mkdir, rename, rmdir, symlink, unlink,
    Deduped, File,
};
use crate::tests::fallocate::{apply, PUNCH};
use crate::tests::{rename_flags, xattr};
use crate::tree::{Entry, Kind, Node, Number, Tree};

pub const CASES: &[Case] = &[case!(a_family_is_as_its_models_say).needs(FORKS)];

/// The most mounts at a time.
const MOUNTS: usize = 6;

/// The most names in a mount.
const NAMES: usize = 24;

/// How many steps there are between comparisons of everything.
const STEPS: usize = 24;

/// A file that stays open and mapped while forks come and go.
struct Held {
    number: Number,
    file: File,
    map: Mapping,
}

/// A mount, and what is expected in it.
struct Member {
    fs: Instance,
    tree: Tree,
    held: Vec<Held>,
}

impl Member {
    fn at(&self, entry: &Entry) -> PathBuf {
        self.fs.root.join(&entry.path)
    }

    fn pick(&self, random: &mut Random, wanted: impl Fn(&Node) -> bool) -> Option<Entry> {
        let mut entries = self.tree.entries();
        entries.retain(|entry| wanted(&self.tree.nodes[&entry.number]));
        (!entries.is_empty()).then(|| entries.swap_remove(random.below(entries.len())))
    }

    fn pick_file(&self, random: &mut Random) -> Option<Entry> {
        self.pick(random, |node| matches!(node.kind, Kind::File(_)))
    }

    /// Picks a directory, and a name that may be there or not.
    fn place(&self, random: &mut Random) -> Entry {
        let directory = match self.pick(random, Node::is_directory) {
            Some(entry) if !random.one_in(3) => (entry.number, entry.path),
            _ => (self.tree.root, PathBuf::new()),
        };
        let name = format!("n{}", random.below(9));
        Entry {
            path: directory.1.join(&name),
            number: self.tree.get(directory.0, &name).unwrap_or(0),
            directory: directory.0,
            name,
        }
    }

    fn compare(&self) -> Outcome {
        self.tree.compare(&self.fs.root)?;
        for held in &self.held {
            let bytes = self.tree.nodes[&held.number].bytes();
            let what = "a file that is mapped";
            held.file.expect_contents(bytes, what)?;
            expect_bytes(&held.map.load(0, bytes.len()), bytes, what)?;
        }
        Ok(())
    }
}

struct Family<'a> {
    t: &'a Test,
    random: Random,
    /// The largest size of a file, in blocks.
    blocks: usize,
    members: Vec<Member>,
    mounted: usize,
    done: Vec<String>,
}

impl Family<'_> {
    fn size(&self) -> usize {
        self.blocks * BLOCK
    }

    fn range(&mut self) -> (usize, usize) {
        let size = self.size();
        let (mut at, mut len) = (self.random.below(size), self.random.below(3 * BLOCK));
        if self.random.one_in(2) {
            (at, len) = (at / BLOCK * BLOCK, len.next_multiple_of(BLOCK));
        }
        (at, len.min(size - at))
    }

    /// Changes one of the mounts.
    fn step(&mut self) -> Outcome {
        let i = self.random.below(self.members.len());
        match self.random.below(30) {
            0..=3 => self.create(i),
            4 => self.make_directory(i),
            5 | 6 => self.remove(i),
            7..=9 => self.rename(i),
            10 => self.link(i),
            11 => self.make_link(i),
            12 => self.change_mode(i),
            13 | 14 => self.change_xattr(i),
            15..=18 => self.write(i),
            19 | 20 => self.resize(i),
            21 => self.hold(i),
            22..=24 => self.store(i),
            25 => self.share(i),
            26 => self.copy(i),
            27 => self.empty_caches(),
            28 => self.fork(i),
            _ => self.unmount(i),
        }
    }

    fn note(&mut self, i: usize, what: impl std::fmt::Display) {
        let at = self.members[i].fs.root.file_name().unwrap_or_default();
        self.done.push(format!("{}: {what}", at.to_string_lossy()));
    }

    fn is_full(&self, i: usize) -> bool {
        self.members[i].tree.entries().len() >= NAMES
    }

    /// Gives a new inode, which was made at `at`, its place in the model.
    fn made(&mut self, i: usize, at: &Entry, node: Node) -> Outcome {
        let Member { fs, tree, .. } = &mut self.members[i];
        let path = fs.root.join(&at.path);
        let number = lstat(path).or_fail("lstat")?.st_ino;
        tree.nodes.insert(number, node);
        tree.insert(at.directory, &at.name, number);
        Ok(())
    }

    fn create(&mut self, i: usize) -> Outcome {
        let at = self.members[i].place(&mut self.random);
        if at.number != 0 || self.is_full(i) {
            return Ok(());
        }
        self.note(i, format_args!("create {at:?}"));
        let file = File::create(self.members[i].at(&at))?;
        chmod(&file.path, 0o644).or_fail("chmod")?;
        self.made(i, &at, Node::new(Kind::File(Vec::new().into()), 0o644))
    }

    fn make_directory(&mut self, i: usize) -> Outcome {
        let at = self.members[i].place(&mut self.random);
        if at.number != 0 || self.is_full(i) {
            return Ok(());
        }
        self.note(i, format_args!("mkdir {at:?}"));
        mkdir(self.members[i].at(&at), 0o700).or_fail("mkdir")?;
        self.made(i, &at, Node::new(Kind::Directory([].into()), 0o700))
    }

    fn make_link(&mut self, i: usize) -> Outcome {
        let at = self.members[i].place(&mut self.random);
        if at.number != 0 || self.is_full(i) {
            return Ok(());
        }
        let target = "t".repeat(1 + self.random.below(100));
        self.note(i, format_args!("symlink {at:?}"));
        symlink(&target, self.members[i].at(&at)).or_fail("symlink")?;
        self.made(i, &at, Node::new(Kind::Link(target), 0))
    }

    fn link(&mut self, i: usize) -> Outcome {
        let to = self.members[i].place(&mut self.random);
        let from = self.members[i].pick(&mut self.random, |node| !node.is_directory());
        let Some(from) = from.filter(|_| to.number == 0 && !self.is_full(i)) else {
            return Ok(());
        };
        self.note(i, format_args!("link {from:?} to {to:?}"));
        let member = &mut self.members[i];
        link(member.at(&from), member.at(&to)).or_fail("link")?;
        member.tree.insert(to.directory, &to.name, from.number);
        Ok(())
    }

    fn remove(&mut self, i: usize) -> Outcome {
        let Some(at) = self.members[i].pick(&mut self.random, |_| true) else {
            return Ok(());
        };
        self.note(i, format_args!("remove {at:?}"));
        let member = &mut self.members[i];
        let path = member.at(&at);
        let node = &member.tree.nodes[&at.number];
        match &node.kind {
            Kind::Directory(entries) if !entries.is_empty() => {
                return expect_one_of(rmdir(path), &[libc::ENOTEMPTY], "rmdir");
            }
            Kind::Directory(_) => rmdir(path).or_fail("rmdir")?,
            _ => unlink(path).or_fail("unlink")?,
        }
        member.tree.remove(at.directory, &at.name);
        Ok(())
    }

    fn rename(&mut self, i: usize) -> Outcome {
        let to = self.members[i].place(&mut self.random);
        let Some(from) = self.members[i].pick(&mut self.random, |_| true) else {
            return Ok(());
        };
        let exchanges = to.number != 0 && self.random.one_in(3);
        let how = if exchanges { "exchange" } else { "rename" };
        self.note(i, format_args!("{how} {from:?} and {to:?}"));
        let member = &mut self.members[i];
        let tree = &mut member.tree;
        let is_directory = |number| number != 0 && tree.nodes[&number].is_directory();
        let (is, over) = (is_directory(from.number), is_directory(to.number));
        // Into itself, or over what it is in.
        let loops = is && tree.is_within(to.directory, from.number)
            || over && tree.is_within(from.directory, to.number);
        let may = !loops
            && (exchanges
                || to.number == 0
                || is == over && (!over || tree.entries_of(to.number).is_empty()));
        let paths = (
            member.fs.root.join(&from.path),
            member.fs.root.join(&to.path),
        );
        let flags = if exchanges { libc::RENAME_EXCHANGE } else { 0 };
        let result: Sys = match flags {
            0 => rename(&paths.0, &paths.1),
            flags => rename_flags::rename(&paths.0, &paths.1, flags),
        };
        if from.number == to.number {
            return result.or_fail("rename to another name of the file");
        }
        if !may {
            let errors = [libc::EINVAL, libc::ENOTEMPTY, libc::EISDIR, libc::ENOTDIR];
            return expect_one_of(result, &errors, "rename");
        }
        result.or_fail("rename")?;
        if exchanges {
            tree.insert(from.directory, &from.name, to.number);
        } else {
            tree.remove(from.directory, &from.name);
        }
        tree.insert(to.directory, &to.name, from.number);
        Ok(())
    }

    fn change_mode(&mut self, i: usize) -> Outcome {
        let Some(at) = self.members[i].pick(&mut self.random, |node| !node.is_link()) else {
            return Ok(());
        };
        let mode = self.random.below(0o1000) as u32;
        self.note(i, format_args!("chmod {mode:o} {at:?}"));
        let member = &mut self.members[i];
        chmod(member.at(&at), mode).or_fail("chmod")?;
        member.tree.node_mut(at.number).mode = mode;
        Ok(())
    }

    fn change_xattr(&mut self, i: usize) -> Outcome {
        let Some(at) = self.members[i].pick(&mut self.random, |_| true) else {
            return Ok(());
        };
        let name = ["trusted.a", "trusted.b", "trusted.c"][self.random.below(3)];
        let len = [5, 100, 3000][self.random.below(3)];
        let value = self.random.bytes(len);
        self.note(i, format_args!("change {name} of {at:?}"));
        let member = &mut self.members[i];
        let path = member.at(&at);
        let xattrs = &mut member.tree.node_mut(at.number).xattrs;
        if xattrs.contains_key(name) && self.random.one_in(2) {
            xattrs.remove(name);
            return xattr::remove(path, name).or_fail("removexattr");
        }
        xattr::set(path, name, &value, 0).or_fail("setxattr")?;
        xattrs.insert(name.into(), value);
        Ok(())
    }

    fn write(&mut self, i: usize) -> Outcome {
        let Some(at) = self.members[i].pick_file(&mut self.random) else {
            return Ok(());
        };
        let (pos, len) = self.range();
        let data = self.random.bytes(len);
        self.note(i, format_args!("write {len} bytes at {pos} of {at:?}"));
        let member = &mut self.members[i];
        let file = File::open(member.at(&at), libc::O_RDWR).or_fail("open")?;
        file.write_at(&data, pos as u64)?;
        if len > 0 {
            member.tree.node_mut(at.number).write(pos, &data);
        }
        Ok(())
    }

    fn resize(&mut self, i: usize) -> Outcome {
        let Some(at) = self.members[i].pick_file(&mut self.random) else {
            return Ok(());
        };
        let (pos, len) = self.range();
        let punches = len > 0 && self.random.one_in(2);
        let how = if punches { "punch" } else { "truncate" };
        self.note(i, format_args!("{how} {pos}, {len} of {at:?}"));
        let member = &mut self.members[i];
        let file = File::open(member.at(&at), libc::O_RDWR).or_fail("open")?;
        let bytes = member.tree.node_mut(at.number).bytes_mut();
        if punches {
            apply(&file, PUNCH, pos as u64, len as u64)?;
            let end = bytes.len();
            bytes[pos.min(end)..(pos + len).min(end)].fill(0);
        } else {
            file.truncate(pos as u64)?;
            bytes.resize(pos, 0);
        }
        Ok(())
    }

    /// Maps a file, or no longer.
    fn hold(&mut self, i: usize) -> Outcome {
        let held = self.members[i].held.len();
        if held > 3 {
            self.note(i, "unmap the first");
            self.members[i].held.remove(0);
            return Ok(());
        }
        let Some(at) = self.members[i].pick_file(&mut self.random) else {
            return Ok(());
        };
        self.note(i, format_args!("map {at:?}"));
        let file = File::open(self.members[i].at(&at), libc::O_RDWR).or_fail("open")?;
        let held = Held {
            number: at.number,
            map: Mapping::shared(&file, self.size())?,
            file,
        };
        self.members[i].held.push(held);
        Ok(())
    }

    fn store(&mut self, i: usize) -> Outcome {
        let held = self.members[i].held.len();
        if held == 0 {
            return self.hold(i);
        }
        let (at, len) = self.range();
        let data = self.random.bytes(len);
        let which = self.random.below(held);
        let Member { tree, held, .. } = &mut self.members[i];
        let Held { number, map, .. } = &held[which];
        let node = tree.node_mut(*number);
        let len = len.min(node.bytes().len().saturating_sub(at));
        if len == 0 {
            return Ok(());
        }
        map.store(at, &data[..len]);
        node.write(at, &data[..len]);
        let what = format!("store {len} bytes at {at} of {number}");
        self.note(i, what);
        Ok(())
    }

    /// Clones a file over another one, or deduplicates them.
    fn share(&mut self, i: usize) -> Outcome {
        let member = &self.members[i];
        let (Some(from), Some(to)) = (
            member.pick_file(&mut self.random),
            member.pick_file(&mut self.random),
        ) else {
            return Ok(());
        };
        if from.number == to.number {
            return Ok(());
        }
        let dedupes = self.random.one_in(3);
        let how = if dedupes { "dedupe" } else { "clone" };
        self.note(i, format_args!("{how} {from:?} to {to:?}"));
        let member = &mut self.members[i];
        let open = |entry| File::open(member.at(entry), libc::O_RDWR).or_fail("open");
        let (source, target) = (open(&from)?, open(&to)?);
        let bytes = member.tree.nodes[&from.number].bytes().clone();
        let other = member.tree.node_mut(to.number).bytes_mut();
        if dedupes {
            let len = bytes.len().min(other.len()) / BLOCK * BLOCK;
            if len == 0 {
                return Ok(());
            }
            let same = bytes[..len] == other[..len];
            let expected = match same {
                true => Deduped::Same(len as u64),
                false => Deduped::Differs,
            };
            let result = dedupe(&source, 0, len as u64, &target, 0).or_fail("FIDEDUPERANGE")?;
            return expect_eq(result, expected, "FIDEDUPERANGE");
        }
        if other.len() > bytes.len() {
            target.truncate(0)?;
        }
        clone_file(&source, &target).or_fail("FICLONE")?;
        *other = bytes;
        Ok(())
    }

    /// Copies between two mounts of the family.
    fn copy(&mut self, i: usize) -> Outcome {
        let k = self.random.below(self.members.len());
        let (Some(from), Some(to)) = (
            self.members[i].pick_file(&mut self.random),
            self.members[k].pick_file(&mut self.random),
        ) else {
            return Ok(());
        };
        if i == k && from.number == to.number {
            return Ok(());
        }
        let ((off_in, len), (mut off_out, _)) = (self.range(), self.range());
        if !self.random.one_in(3) {
            off_out = off_out / BLOCK * BLOCK + off_in % BLOCK;
        }
        let len = len.min(self.size().saturating_sub(off_out));
        let what = format!("copy {len} bytes at {off_in} of {from:?} to {off_out} of {to:?} of");
        self.note(i, what);
        self.note(k, "that was");
        let source = File::open(self.members[i].at(&from), libc::O_RDONLY).or_fail("open")?;
        let target = File::open(self.members[k].at(&to), libc::O_RDWR).or_fail("open")?;
        let bytes = self.members[i].tree.nodes[&from.number].bytes();
        let end = bytes.len();
        let bytes = bytes[off_in.min(end)..(off_in + len).min(end)].to_vec();
        let n = copy_loop(&source, off_in as u64, &target, off_out as u64, len)?;
        expect_eq(n, bytes.len(), "bytes copied")?;
        if n > 0 {
            let node = self.members[k].tree.node_mut(to.number);
            node.write(off_out, &bytes);
        }
        Ok(())
    }

    fn empty_caches(&mut self) -> Outcome {
        self.done.push("drop caches".into());
        drop_caches(self.t)
    }

    fn fork(&mut self, i: usize) -> Outcome {
        if self.members.len() == MOUNTS {
            return self.unmount(i);
        }
        self.mounted += 1;
        let name = format!("fork{}", self.mounted);
        self.note(i, format_args!("fork as {name}"));
        let fs = fork(self.t, &self.members[i].fs, &name)?;
        let mut tree = self.members[i].tree.clone();
        tree.forget_nameless();
        tree.root = lstat(&fs.root).or_fail("lstat")?.st_ino;
        expect_eq(tree.root, self.members[i].tree.root, "number of the root")?;
        self.members.push(Member {
            fs,
            tree,
            held: Vec::new(),
        });
        Ok(())
    }

    fn unmount(&mut self, i: usize) -> Outcome {
        if self.members.len() == 1 {
            return self.fork(i);
        }
        self.note(i, "unmount");
        let member = self.members.swap_remove(i);
        drop(member.held);
        member.fs.unmount()
    }

    fn run(&mut self, steps: usize) -> Outcome {
        for step in 0..steps {
            let result = self.step().and_then(|()| match step % STEPS {
                0 => self.members.iter().try_for_each(|member| {
                    let at = member.fs.root.display();
                    member.compare().or_fail(at)
                }),
                _ => Ok(()),
            });
            result.map_err(|Failure(text)| {
                let tail = self.done.len().saturating_sub(3 * STEPS);
                let tail = self.done[tail..].join("\n      ");
                Failure(format!(
                    "step {step}: {text}\n    the last steps:\n      {tail}"
                ))
            })?;
        }
        Ok(())
    }

    /// Leaves one mount, and nothing in it.
    fn end(mut self, before: Space) -> Outcome {
        while self.members.len() > 1 {
            let i = self.random.below(self.members.len());
            self.unmount(i)?;
        }
        let Member { fs, held, .. } = self.members.remove(0);
        drop(held);
        crate::tests::failures::remove_names(&fs.root)?;
        let space = fs.space()?;
        expect_eq(space, before, "what is free at the end")?;
        fs.unmount()
    }
}

fn a_family_is_as_its_models_say(t: &Test) -> Outcome {
    for round in 0..t.rounds(8) as u64 {
        let seed = t.settings.seed.wrapping_add(round);
        let mut random = Random::new(seed);
        let blocks = [2, 5, 12, 80][random.below(4)];
        in_child(|| {
            let fs = t.mount_at(&format!("base{round}"), &[])?;
            let before = fs.space()?;
            let tree = Tree::new(&fs.root)?;
            let mut family = Family {
                t,
                random,
                blocks,
                members: vec![Member {
                    fs,
                    tree,
                    held: Vec::new(),
                }],
                mounted: round as usize * 1000,
                done: Vec::new(),
            };
            family.run(t.rounds(60).max(15) * STEPS + 1)?;
            family.end(before)
        })
        .map_err(|Failure(text)| Failure(format!("seed {seed}: {text}")))?;
    }
    Ok(())
}
