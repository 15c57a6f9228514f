// SPDX-License-Identifier: GPL-2.0 OR MIT
//! inotify(7) and fanotify(7): watches, and events as words.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use crate::failure::{Context, Errno, Outcome, Sys};
use crate::sys::{c_path, check};

/// The names of the bits of an inotify mask, which fanotify has, too.
const NAMES: [(u32, &str); 14] = [
    (0x1, "access"),
    (0x2, "modify"),
    (0x4, "attrib"),
    (0x8, "close-write"),
    (0x10, "close"),
    (0x20, "open"),
    (0x40, "moved-from"),
    (0x80, "moved-to"),
    (0x100, "create"),
    (0x200, "delete"),
    (0x400, "delete-self"),
    (0x800, "move-self"),
    (0x2000, "unmount"),
    (0x8000, "ignored"),
];

fn in_words(mask: u32) -> String {
    let words = NAMES.iter().filter(|(bit, _)| mask & bit != 0);
    words.map(|(_, name)| *name).collect::<Vec<_>>().join("+")
}

fn new_fd(result: i64) -> Sys<OwnedFd> {
    // SAFETY: the kernel just gave us the descriptor, if it did.
    check(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Reads all events that one read returns.
fn read_events(fd: &OwnedFd) -> Outcome<Vec<u8>> {
    let mut events = Vec::new();
    let mut buffer = vec![0u8; 65536];
    loop {
        match crate::sys::read_to(fd, buffer.as_mut_ptr(), buffer.len()) {
            Ok(n) => events.extend(&buffer[..n]),
            Err(Errno(libc::EAGAIN)) => return Ok(events),
            Err(error) => return Err(error).or_fail("reading events"),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// Watches files and directories.
pub struct Watch(OwnedFd);

impl Watch {
    pub fn new() -> Outcome<Self> {
        // SAFETY: plain call.
        let fd = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
        new_fd(fd.into()).map(Self).or_fail("inotify_init1")
    }

    /// Watches `path` for the events of `mask`.
    pub fn add(&self, path: impl AsRef<Path>, mask: u32) -> Outcome {
        let path = c_path(path.as_ref());
        // SAFETY: the path is valid during the call.
        check(unsafe { libc::inotify_add_watch(self.0.as_raw_fd(), path.as_ptr(), mask) })
            .or_fail("inotify_add_watch")?;
        Ok(())
    }

    /// Returns the events since the last call: `modify file`, or `modify` for the watched file
    /// itself.
    pub fn seen(&self) -> Outcome<Vec<String>> {
        let events = read_events(&self.0)?;
        let (mut at, mut seen) = (0, Vec::new());
        while at < events.len() {
            let len = word(&events, at + 12) as usize;
            let name = &events[at + 16..at + 16 + len];
            let name = name.split(|&b| b == 0).next().unwrap_or_default();
            let text = format!(
                "{} {}",
                in_words(word(&events, at + 4)),
                String::from_utf8_lossy(name)
            );
            seen.push(text.trim_end().to_owned());
            at += 16 + len;
        }
        Ok(seen)
    }
}

pub const FAN_OPEN_PERM: u64 = 0x1_0000;
pub const FAN_ACCESS_PERM: u64 = 0x2_0000;
pub const FAN_PRE_ACCESS: u64 = 0x10_0000;
pub const FAN_ONDIR: u64 = 0x4000_0000;
pub const FAN_EVENT_ON_CHILD: u64 = 0x0800_0000;
pub const FAN_CLASS_CONTENT: u32 = 4;
pub const FAN_CLASS_PRE_CONTENT: u32 = 8;
pub const FAN_REPORT_FID: u32 = 0x200;
pub const FAN_REPORT_DIR_FID: u32 = 0x400;
pub const FAN_REPORT_NAME: u32 = 0x800;
pub const FAN_OPEN_EXEC: u64 = 0x1000;
pub const FAN_MARK_DONT_FOLLOW: u32 = 0x4;
pub const FAN_MARK_FILESYSTEM: u32 = 0x100;
pub const FAN_MARK_EVICTABLE: u32 = 0x200;

/// One event of fanotify.
pub struct Event {
    pub what: String,
    pub mask: u64,
    /// The file, if a permission is requested or the event has a descriptor.
    pub file: Option<OwnedFd>,
    /// (kind of record, kind of handle, its bytes, the name after it)
    pub handles: Vec<(u8, i32, Vec<u8>, String)>,
    /// The range of a pre-access event.
    pub range: Option<(u64, u64)>,
}

/// A fanotify group.
pub struct Group(OwnedFd);

impl Group {
    pub fn new(flags: u32) -> Sys<Self> {
        const CLOEXEC_NONBLOCK: u32 = 1 | 2;
        let flags = flags | CLOEXEC_NONBLOCK;
        let event_flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_LARGEFILE;
        // SAFETY: plain call.
        new_fd(unsafe { libc::syscall(libc::SYS_fanotify_init, flags, event_flags) }).map(Self)
    }

    pub fn mark(&self, path: impl AsRef<Path>, flags: u32, mask: u64) -> Sys {
        const FAN_MARK_ADD: u32 = 1;
        let path = c_path(path.as_ref());
        // SAFETY: the path is valid during the call.
        check(unsafe {
            libc::syscall(
                libc::SYS_fanotify_mark,
                self.0.as_raw_fd(),
                FAN_MARK_ADD | flags,
                mask,
                libc::AT_FDCWD,
                path.as_ptr(),
            )
        })
        .map(|_| ())
    }

    /// Returns the numbers of the inodes that have a mark.
    pub fn marked(&self) -> Outcome<Vec<u64>> {
        let path = format!("/proc/self/fdinfo/{}", self.0.as_raw_fd());
        let text = std::fs::read_to_string(path).or_fail("read fdinfo")?;
        let numbers = text.lines().filter_map(|line| {
            let number = line.strip_prefix("fanotify ino:")?.split(' ').next()?;
            Some(u64::from_str_radix(number, 16).or_fail(line))
        });
        numbers.collect()
    }

    /// Returns the events since the last call.
    pub fn seen(&self) -> Outcome<Vec<Event>> {
        let events = read_events(&self.0)?;
        let (mut at, mut seen) = (0, Vec::new());
        while at < events.len() {
            let len = word(&events, at) as usize;
            let event = &events[at..at + len];
            let mask = u64::from_ne_bytes(event[8..16].try_into().expect("8 bytes"));
            let fd = word(event, 16) as i32;
            let mut found = Event {
                what: in_words(mask as u32),
                mask,
                // SAFETY: the kernel just gave us the descriptor, if it is one.
                file: (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) }),
                handles: Vec::new(),
                range: None,
            };
            let mut record = 24;
            while record + 4 <= len {
                let kind = event[record];
                let size = usize::from(u16::from_ne_bytes([event[record + 2], event[record + 3]]));
                match kind {
                    // A handle: the filesystem in 8 bytes, length, kind, bytes, perhaps a name.
                    1..=3 => {
                        let handle_len = word(event, record + 12) as usize;
                        let start = record + 20;
                        let name = &event[start + handle_len..record + size];
                        let name = name.split(|&b| b == 0).next().unwrap_or_default();
                        found.handles.push((
                            kind,
                            word(event, record + 16) as i32,
                            event[start..start + handle_len].to_vec(),
                            String::from_utf8_lossy(name).into_owned(),
                        ));
                    }
                    // A range: padding, offset, count.
                    6 => {
                        let part = |at: usize| {
                            u64::from_ne_bytes(event[at..at + 8].try_into().expect("8 bytes"))
                        };
                        found.range = Some((part(record + 8), part(record + 16)));
                    }
                    _ => {}
                }
                record += size.max(4);
            }
            seen.push(found);
            at += len;
        }
        Ok(seen)
    }

    /// Answers a permission event.
    pub fn answer(&self, file: &OwnedFd, allow: bool) -> Outcome {
        let answer = [file.as_raw_fd(), if allow { 1 } else { 2 }];
        crate::sys::write_from(&self.0, answer.as_ptr().cast(), 8).or_fail("answering")?;
        Ok(())
    }
}
