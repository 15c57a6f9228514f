// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The two files, open and mapped, and their models.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::failure::{expect_eq, Context, Outcome};
use crate::mapping::{Mapping, READ, WRITE};
use crate::pattern::BLOCK;
use crate::sys::{c_path, check, lstat, unlink, File};

use super::operation::{Operation, Repertoire, Sharing, Which, A, B};

/// A page of a private mapping after a store: changes of the file do not reach it. Its bytes that
/// were beyond the end of the file are unknown.
pub struct PrivatePage {
    pub bytes: Vec<u8>,
    pub known: Vec<bool>,
}

/// The expected state of a file.
#[derive(Default)]
pub struct Model {
    pub bytes: Vec<u8>,
    /// For each block whether it may be allocated; if not, it is a hole. See `holes.rs`.
    pub filled: Vec<bool>,
    /// The pages that the private mapping has copied.
    pub copies: BTreeMap<usize, PrivatePage>,
    /// Whether bytes were stored in the last page beyond the end.
    pub stored_beyond_end: bool,
}

impl Model {
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Returns where accesses through a mapping become a SIGBUS.
    pub fn mapped_end(&self) -> usize {
        self.size().next_multiple_of(BLOCK)
    }

    /// Moves the end. Private copies of pages beyond it are gone.
    pub fn resize(&mut self, size: usize) {
        if size < self.size() {
            self.filled.truncate(size.div_ceil(BLOCK));
        }
        if size != self.size() {
            self.bytes.resize(size, 0);
            self.stored_beyond_end = false;
        }
        self.copies.split_off(&size.div_ceil(BLOCK));
    }

    /// Writes bytes, also beyond the end.
    pub fn write(&mut self, pos: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let (old_end, end) = (self.size(), pos + bytes.len());
        // A write that begins before the end changes nothing in its page but what it writes.
        let stays = pos <= old_end && end.div_ceil(BLOCK) == old_end.div_ceil(BLOCK);
        let stored_beyond_end = self.stored_beyond_end && stays;
        self.extend_to(end);
        self.stored_beyond_end |= stored_beyond_end;
        self.bytes[pos..pos + bytes.len()].copy_from_slice(bytes);
        self.fill(pos, bytes.len());
    }

    pub fn extend_to(&mut self, size: usize) {
        if size > self.size() {
            self.resize(size);
        }
    }

    /// Returns the bytes that a read returns.
    pub fn read(&self, pos: usize, len: usize) -> &[u8] {
        let size = self.size();
        &self.bytes[pos.min(size)..(pos + len).min(size)]
    }
}

/// A file, open and mapped.
pub struct Open {
    pub file: File,
    pub direct: File,
    pub shared: Option<Mapping>,
    pub private: Option<Mapping>,
}

impl Open {
    pub fn mapping(&self, sharing: Sharing) -> Option<&Mapping> {
        match sharing {
            Sharing::Shared => self.shared.as_ref(),
            Sharing::Private => self.private.as_ref(),
        }
    }

    pub fn mapping_mut(&mut self, sharing: Sharing) -> &mut Option<Mapping> {
        match sharing {
            Sharing::Shared => &mut self.shared,
            Sharing::Private => &mut self.private,
        }
    }
}

pub struct World {
    dir: PathBuf,
    pub pages: usize,
    pub repertoire: Repertoire,
    pub open: [Open; 2],
    pub model: [Model; 2],
    /// Memory for direct I/O.
    pub buffer: Mapping,
}

fn path(dir: &Path, which: Which) -> PathBuf {
    dir.join(match which {
        A => "fuzz-a",
        B => "fuzz-b",
    })
}

fn open_direct(dir: &Path, which: Which) -> Outcome<File> {
    File::open(path(dir, which), libc::O_RDWR | libc::O_DIRECT).or_fail("open(O_DIRECT)")
}

impl World {
    pub fn new(dir: &Path, pages: usize, repertoire: Repertoire) -> Outcome<Self> {
        let open = |which| {
            Ok(Open {
                file: File::create(path(dir, which))?,
                direct: open_direct(dir, which)?,
                shared: None,
                private: None,
            })
        };
        Ok(Self {
            dir: dir.to_owned(),
            pages,
            repertoire,
            open: [open(A)?, open(B)?],
            model: [Model::default(), Model::default()],
            buffer: Mapping::anonymous(pages * BLOCK)?,
        })
    }

    /// Removes the files of the last world in this directory.
    pub fn remove(dir: &Path) {
        for which in [A, B] {
            let _ = unlink(path(dir, which));
        }
    }

    pub fn capacity(&self) -> usize {
        self.pages * BLOCK
    }

    /// Does one operation and checks its result.
    pub fn play(&mut self, operation: &Operation) -> Outcome {
        match *operation {
            Operation::Write(file, pos, len, fill) => self.write(file, pos, &fill.bytes(pos, len)),
            Operation::WriteDirect(file, pos, len, fill) => {
                self.write_direct(file, pos, &fill.bytes(pos, len))
            }
            Operation::Read(file, pos, len) => self.read(file, pos, len),
            Operation::ReadDirect(file, pos, len) => self.read_direct(file, pos, len),
            Operation::Truncate(file, size) => self.truncate(file, size),
            Operation::Fallocate {
                mode,
                file,
                pos,
                len,
                keep_size,
            } => self.fallocate(mode, file, pos, len, keep_size),
            Operation::Clone { from, to } => self.clone_whole(from, to),
            Operation::CloneRange(span) => self.clone_range(span),
            Operation::Dedupe(span) => self.dedupe(span),
            Operation::Copy(span) => self.copy(span),
            Operation::Splice(span) => self.splice(span),
            Operation::Exchange => self.exchange(),
            Operation::Reopen(file) => self.reopen(file),
            Operation::Sync(file) => self.sync(file),
            Operation::Map(sharing, file) => self.map(sharing, file),
            Operation::Unmap(sharing, file) => self.unmap(sharing, file),
            Operation::Remap(sharing, file, pages) => self.remap(sharing, file, pages),
            Operation::Forget(sharing, file) => self.forget(sharing, file),
            Operation::Populate {
                sharing,
                file,
                page,
                pages,
                write,
            } => self.populate(sharing, file, page, pages, write),
            Operation::Store(sharing, file, pos, len, fill) => {
                self.store(sharing, file, pos, &fill.bytes(pos, len))
            }
            Operation::Load(sharing, file, pos, len) => self.load(sharing, file, pos, len),
            Operation::ReadInto(span) => self.read_into(span),
            Operation::WriteFrom(span) => self.write_from(span),
            Operation::Check(file) => self.check(file),
        }
    }

    fn exchange(&mut self) -> Outcome {
        let (a, b) = (c_path(&path(&self.dir, A)), c_path(&path(&self.dir, B)));
        // SAFETY: both paths are NUL-terminated and outlive the call.
        check(unsafe {
            libc::renameat2(
                libc::AT_FDCWD,
                a.as_ptr(),
                libc::AT_FDCWD,
                b.as_ptr(),
                libc::RENAME_EXCHANGE,
            )
        })
        .or_fail("renameat2(RENAME_EXCHANGE)")?;
        self.open.swap(0, 1);
        self.model.swap(0, 1);
        for which in [A, B] {
            let named = lstat(path(&self.dir, which)).or_fail("lstat")?.st_ino;
            let inode = self.open[which as usize].file.stat()?.st_ino;
            expect_eq(
                named,
                inode,
                format_args!("the inode that is named {which:?}"),
            )?;
        }
        Ok(())
    }

    fn reopen(&mut self, file: Which) -> Outcome {
        let open = &mut self.open[file as usize];
        open.file = File::open(path(&self.dir, file), libc::O_RDWR).or_fail("open")?;
        open.direct = open_direct(&self.dir, file)?;
        Ok(())
    }

    fn sync(&mut self, file: Which) -> Outcome {
        use std::os::fd::AsRawFd;
        let file = &self.open[file as usize].file;
        file.sync()?;
        // SAFETY: plain call on an open descriptor.
        let error =
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        expect_eq(error, 0, "posix_fadvise")
    }

    fn map(&mut self, sharing: Sharing, file: Which) -> Outcome {
        let capacity = self.capacity();
        let open = &mut self.open[file as usize];
        if open.mapping(sharing).is_none() {
            let flags = match sharing {
                Sharing::Shared => libc::MAP_SHARED,
                Sharing::Private => libc::MAP_PRIVATE,
            };
            let mapping = Mapping::try_new(&open.file, 0, capacity, READ | WRITE, flags);
            *open.mapping_mut(sharing) = Some(mapping.or_fail("mmap")?);
        }
        Ok(())
    }

    fn unmap(&mut self, sharing: Sharing, file: Which) -> Outcome {
        *self.open[file as usize].mapping_mut(sharing) = None;
        if sharing == Sharing::Private {
            self.model[file as usize].copies.clear();
        }
        Ok(())
    }
}
