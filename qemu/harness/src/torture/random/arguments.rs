// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Random arguments of system calls: most of them valid, some invalid.

use std::ffi::CString;

use super::region::{Region, PAGES};
use crate::pattern::{Random, BLOCK, BLOCK64};
use crate::posix_acl;

/// The type of an argument.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    /// An open file, or an invalid descriptor.
    Fd,
    /// `AT_FDCWD`, an open directory, or an invalid descriptor.
    Dir,
    /// One end of a pipe.
    Pipe,
    Path,
    /// A target of a symbolic link: any bytes.
    Target,
    Offset,
    /// A pointer to an offset.
    OffsetPointer,
    Len,
    /// Memory to read from or write to: a buffer, a mapping, or an invalid address.
    Buffer,
    /// The length of a buffer.
    BufferLen,
    /// A list of buffers.
    Vectors,
    VectorCount,
    /// Pages of the region for mappings, never others.
    Pages,
    PagesLen,
    /// Any of these bits.
    Bits(&'static [u64]),
    /// One of these, or seldom any number.
    One(&'static [u64]),
    /// One of these.
    Exactly(&'static [u64]),
    /// This process.
    Pid,
    Mode,
    /// The name of an extended attribute.
    Attribute,
    /// A structure for `FICLONERANGE`.
    CloneRange,
    /// A structure for `FIDEDUPERANGE`.
    DedupeRange,
    /// A structure for `FS_IOC_FIEMAP`.
    Fiemap,
    /// A structure for `name_to_handle_at`.
    Handle,
    /// A structure for `fcntl` of locks.
    Lock,
    /// A word to point to: flags of a file.
    FileFlags,
    /// The name of an attribute that holds an access control list.
    AclName,
    /// A valid or invalid access control list.
    Acl,
    /// A pair of times.
    Times,
}

/// The resources of random calls: descriptors, names, memory; and the structures for the next call,
/// until it is made.
pub struct World {
    pub random: Random,
    /// Descriptors; -1 for none.
    pub fds: [i32; 12],
    pub pipe: [i32; 2],
    pub region: Region,
    texts: Vec<CString>,
    structures: Vec<Vec<u64>>,
}

const NAMES: [&str; 12] = [
    "a", "b", "c", "d", "dir", "dir/a", "dir/b", "dir/dir", "link", "dir/link", ".", "..",
];

/// ACLs of 28 and of 44 bytes.
const ACLS: [&str; 4] = [
    "u::rwx g::rx o::r",
    "u::rw g:: o::",
    "u::rwx u:1000:rwx g::rx m::rwx o::",
    "u::rw u:0:r g::r m::r o::r",
];

/// The length of the longest ACL, in words.
const ACL_WORDS: usize = 6;

impl World {
    pub fn new(random: Random, pipe: [i32; 2], region: Region) -> Self {
        Self {
            random,
            fds: [-1; 12],
            pipe,
            region,
            texts: Vec::new(),
            structures: Vec::new(),
        }
    }

    /// Frees the structures of the last call.
    pub fn clear(&mut self) {
        self.texts.clear();
        self.structures.clear();
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.random.one_in(n)
    }

    fn fd(&mut self) -> i32 {
        let (fd, any) = (self.fds[self.random.below(12)], self.random.below(40));
        match any {
            0 => -1,
            1 => self.pipe[0],
            _ => fd,
        }
    }

    fn offset(&mut self) -> u64 {
        match self.below(10) {
            0 => 0,
            1..=3 => self.below(64) as u64 * BLOCK64,
            4..=6 => self.below(300_000) as u64,
            7 => (1u64 << self.below(63)).wrapping_sub(self.below(2) as u64 * BLOCK64),
            8 => self.random.next() >> 1 >> self.below(40),
            _ => [u64::MAX, 1 << 63, i64::MAX as u64, u64::MAX - 4096][self.below(4)],
        }
    }

    fn len(&mut self) -> u64 {
        match self.below(8) {
            0 => 0,
            1..=3 => self.below(64) as u64 * BLOCK64,
            4 | 5 => self.below(100_000) as u64,
            _ => self.offset(),
        }
    }

    fn buffer_len(&mut self) -> u64 {
        match self.below(8) {
            0 => self.len(),
            1..=4 => self.below(4 * BLOCK) as u64,
            _ => self.below(PAGES * BLOCK) as u64,
        }
    }

    fn buffer(&mut self) -> u64 {
        match self.below(16) {
            0 => [0, 1, 0xdead_beef_0000_0000, u64::MAX - 8191][self.below(4)],
            1..=6 => self.region.mapped_at(self.random.below(PAGES * BLOCK)),
            _ => self.region.buffer_at(self.random.below(BLOCK)),
        }
    }

    fn structure(&mut self, words: Vec<u64>) -> u64 {
        self.structures.push(words);
        self.structures
            .last()
            .map_or(0, |words| words.as_ptr() as u64)
    }

    fn text(&mut self, text: Vec<u8>) -> u64 {
        let bytes: Vec<u8> = text.into_iter().filter(|byte| *byte != 0).collect();
        self.texts.push(CString::new(bytes).unwrap_or_default());
        self.texts.last().map_or(0, |text| text.as_ptr() as u64)
    }

    fn path(&mut self) -> u64 {
        match self.below(40) {
            0 => {
                let len = 255 + self.below(2);
                self.text(vec![b'n'; len])
            }
            1 => self.text(vec![b'/'; 5000]),
            2 => self.text(Vec::new()),
            3 => self.buffer(),
            _ => {
                let name = NAMES[self.below(NAMES.len())];
                self.text(name.into())
            }
        }
    }

    /// Draws a value for an argument.
    pub fn draw(&mut self, argument: Argument) -> u64 {
        match argument {
            Argument::Fd => self.fd() as u64,
            Argument::Dir => match self.below(8) {
                0 => self.fd() as u64,
                _ => libc::AT_FDCWD as u64,
            },
            Argument::Pipe => self.pipe[self.random.below(2)] as u64,
            Argument::Path => self.path(),
            Argument::Target => {
                let len = [1, 30, 100, 4000, 5000][self.below(5)];
                let target = self.random.bytes(len);
                self.text(target)
            }
            Argument::Offset => self.offset(),
            Argument::OffsetPointer => match self.below(8) {
                0 => self.buffer(),
                1 | 2 => 0,
                _ => {
                    let offset = self.offset();
                    self.structure(vec![offset])
                }
            },
            Argument::Len => self.len(),
            Argument::Buffer => self.buffer(),
            Argument::BufferLen => self.buffer_len(),
            Argument::Vectors => {
                let words = (0..16).map(|i| {
                    if i % 2 == 0 {
                        self.buffer()
                    } else {
                        self.buffer_len()
                    }
                });
                let words = words.collect();
                self.structure(words)
            }
            Argument::VectorCount => [0, 1, 2, 8][self.below(4)],
            Argument::Pages => {
                let page = self.below(PAGES);
                self.region.mapped_at(page * BLOCK)
            }
            // Never more than the rest of the region.
            Argument::PagesLen => (1 + self.below(PAGES / 4)) as u64 * BLOCK64,
            Argument::Bits(bits) => {
                let some = bits.iter().filter(|_| self.random.one_in(3));
                let bits = some.fold(0, |all, bit| all | bit);
                match self.below(30) {
                    0 => bits | (1 << self.below(32)),
                    _ => bits,
                }
            }
            Argument::One(values) => match self.below(40) {
                0 => self.random.next(),
                _ => values[self.below(values.len())],
            },
            Argument::Exactly(values) => values[self.below(values.len())],
            Argument::Pid => u64::from(std::process::id()),
            Argument::Mode => [0o644, 0o755, 0o7777, 0, 0o600][self.below(5)],
            Argument::Attribute => {
                let name = [
                    "user.a",
                    "user.b",
                    "user.c",
                    "trusted.a",
                    "security.a",
                    "a",
                    "",
                ];
                let name = name[self.below(name.len())];
                self.text(name.into())
            }
            Argument::CloneRange => {
                let words = vec![self.fd() as u64, self.offset(), self.len(), self.offset()];
                self.structure(words)
            }
            Argument::DedupeRange => {
                let targets = self.below(3);
                let mut words = vec![self.offset(), self.len(), targets as u64];
                for _ in 0..targets {
                    words.extend([self.fd() as u64, self.offset(), 0, 0]);
                }
                self.structure(words)
            }
            Argument::Fiemap => {
                // Room for eight extents of seven words each.
                let mut words = vec![self.offset(), self.len(), 0, self.random.next() % 9];
                words[2] = [0, 1, 2, 4, 8][self.below(5)];
                words.resize(4 + 8 * 7, 0);
                self.structure(words)
            }
            Argument::Handle => {
                let room = [128, 128, 0, 8][self.below(4)];
                let mut words = vec![room];
                words.resize(18, 0);
                self.structure(words)
            }
            Argument::Lock => {
                let kind = self.below(3) as u64;
                let words = vec![kind, self.offset(), self.len(), 0];
                self.structure(words)
            }
            Argument::FileFlags => {
                let bits = [0x8, 0x10, 0x20, 0x40, 0x80];
                let some = bits.iter().filter(|_| self.random.one_in(3));
                let flags = some.fold(0, |all, bit| all | bit);
                self.structure(vec![flags, 0, 0, 0])
            }
            Argument::AclName => {
                let name = [posix_acl::ACCESS, posix_acl::DEFAULT][self.below(2)];
                self.text(name.into())
            }
            Argument::Acl => {
                let mut bytes = posix_acl::encode(ACLS[self.below(ACLS.len())]);
                if self.one_in(8) {
                    let at = self.below(bytes.len());
                    bytes[at] = self.random.next() as u8;
                }
                bytes.resize(ACL_WORDS * 8, 0);
                let words = bytes
                    .chunks_exact(8)
                    .map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
                let words = words.collect();
                self.structure(words)
            }
            Argument::Times => {
                let nanos = [0, 999_999_999, 0x3fff_ffff, 0x3fff_fffe, 1 << 40];
                let words = (0..4).map(|i| match i % 2 {
                    0 => self.offset(),
                    _ => nanos[self.random.below(nanos.len())],
                });
                let words = words.collect();
                if self.one_in(3) {
                    return 0;
                }
                self.structure(words)
            }
        }
    }
}
