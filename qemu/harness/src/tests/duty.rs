// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The duties of a change of a file, and a check of each duty for any way to change a file.

use std::path::Path;

use super::xattr;
use crate::case::Test;
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Outcome, Sys};
use crate::fileattr::{Flagged, APPEND, IMMUTABLE};
use crate::filesystem::{Feature, Filesystem};
use crate::frozen::while_frozen;
use crate::mapping::Mapping;
use crate::notification::Watch;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::{as_user, count_signals, in_child, limit_file_size, signals_seen, Child};
use crate::quota;
use crate::sys::{check, chmod, chown, lstat, mkdir, sleep_ms, wait_for_the_clock, File};
use crate::wait::eventually;
use std::os::fd::AsRawFd;

/// A duty of a call that changes a file's data or size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Set-id bits and capabilities are removed, unless the caller has the capability to keep them.
    Privileges,
    /// Modification and change time are updated.
    Times,
    /// An immutable file is not changed, even through a descriptor from before.
    Immutable,
    /// An append-only file is not changed.
    AppendOnly,
    /// The call waits for a frozen filesystem.
    Freeze,
    /// Beyond RLIMIT_FSIZE it is EFBIG, and SIGXFSZ.
    SizeLimit,
    /// Beyond a quota's limit it is EDQUOT.
    Quota,
    /// The holder of a lease gets a signal, and the call waits for the holder.
    Lease,
    /// A watch gets IN_MODIFY.
    Event,
}

pub use Duty::{AppendOnly, Event, Freeze, Immutable, Lease, Privileges, Quota, SizeLimit, Times};

const ALL: [Duty; 9] = [
    Privileges, Times, Immutable, AppendOnly, Freeze, SizeLimit, Quota, Lease, Event,
];

/// The initial length of the file, in bytes. The source is twice as long, and begins with the same
/// bytes.
pub const LEN: u64 = 8 * BLOCK64;

/// The place of the block to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Within the file: its second block.
    Inside,
    /// Just behind the file's end.
    Behind,
}

impl Place {
    pub fn offset(self) -> u64 {
        match self {
            Self::Inside => BLOCK64,
            Self::Behind => LEN,
        }
    }
}

/// The files and mappings of a way.
pub struct Stage {
    /// The file to change, open to read and write.
    pub file: File,
    /// The same file, open to append.
    pub append: File,
    /// The same file, mapped, shared.
    pub mapping: Mapping,
    /// Another file, open to read.
    pub source: File,
}

impl Stage {
    fn new(dir: &Path) -> Outcome<Self> {
        let file = File::create_with(dir.join("file"), &blocks(1, 8))?;
        let source = File::create_with(dir.join("source"), &blocks(1, 16))?;
        Ok(Self {
            append: file.reopen(libc::O_WRONLY | libc::O_APPEND)?,
            // One block more than the file has yet.
            mapping: Mapping::shared(&file, LEN as usize + BLOCK)?,
            source: source.reopen(libc::O_RDONLY)?,
            file,
        })
    }

    fn in_test(t: &Test, name: &str) -> Outcome<Self> {
        Self::new(&t.mkdir(name)?)
    }

    fn state(&self) -> Outcome<(Vec<u8>, crate::sys::Times, u32)> {
        let mut times = self.file.times()?;
        // Reading is no change.
        times.accessed = 0;
        let contents = self.file.contents()?;
        Ok((contents, times, self.file.stat()?.st_mode))
    }
}

/// A way to change a file, and its duties.
pub struct Way {
    pub name: &'static str,
    /// Changes about a block at a place.
    pub go: fn(&Stage, Place) -> Sys,
    pub owes: &'static [Duty],
    /// The duties that it does not have, and why.
    pub free: &'static [(Duty, &'static str)],
    /// The filesystems that do not do a duty, and why.
    pub except: &'static [(Duty, Filesystem, &'static str)],
    /// The errno of a refusal, if it is not that of the duty, as for a store that fails.
    pub refusal: Option<i32>,
}

impl Way {
    /// Checks all its duties.
    pub fn check(&self, t: &Test) -> Outcome {
        for duty in ALL {
            let owed = self.owes.contains(&duty);
            let free = self.free.iter().any(|(other, _)| *other == duty);
            let what = format!("{duty:?} of {} is owed or not, and said once", self.name);
            expect(owed != free, what)?;
            let excepted =
                |&(other, fs, _): &(Duty, Filesystem, &str)| other == duty && fs == t.filesystem;
            if owed && !self.except.iter().any(excepted) {
                self.check_one(t, duty)
                    .or_fail(format_args!("{}: {duty:?}", self.name))?;
            }
        }
        Ok(())
    }

    fn check_one(&self, t: &Test, duty: Duty) -> Outcome {
        match duty {
            Privileges => self.takes_privileges(t),
            Times => self.sets_times(t),
            Immutable => self.is_refused_by_flag(t, IMMUTABLE),
            AppendOnly => self.is_refused_by_flag(t, APPEND),
            Freeze => self.waits_while_frozen(t),
            SizeLimit => self.keeps_to_the_size_limit(t),
            Quota => self.keeps_to_the_quota(t),
            Lease => self.waits_for_a_lease(t),
            Event => self.is_told_of(t),
        }
    }

    fn go(&self, stage: &Stage, place: Place) -> Outcome {
        (self.go)(stage, place).or_fail(format_args!("{} ({place:?})", self.name))
    }

    fn expect_refused(&self, stage: &Stage, place: Place, errno: i32) -> Outcome {
        let before = stage.state()?;
        let refused = (self.go)(stage, place);
        expect_errno(refused, self.refusal.unwrap_or(errno), self.name)?;
        expect(stage.state()? == before, "the file is as it was")
    }

    fn takes_privileges(&self, t: &Test) -> Outcome {
        const CAPABILITY: &str = "security.capability";
        let stage = Stage::in_test(t, "privileges")?;
        let path = &stage.file.path;
        chown(path, 1000, 1000).or_fail("chown")?;
        chmod(path, 0o6777).or_fail("chmod")?;
        // struct vfs_cap_data, revision 2: CAP_NET_RAW, permitted.
        let mut capability = [0u8; 20];
        (capability[3], capability[5]) = (2, 0x20);
        xattr::set(path, CAPABILITY, &capability, 0).or_fail("setting capabilities")?;
        as_user(1000, 1000, || self.go(&stage, Place::Inside))?;
        let mode = lstat(path).or_fail("lstat")?.st_mode & 0o7777;
        expect_eq(mode, 0o777, "the mode")?;
        expect(
            !xattr::list(path)?.contains(&CAPABILITY.into()),
            "no capability is left",
        )
    }

    fn sets_times(&self, t: &Test) -> Outcome {
        let stage = Stage::in_test(t, "times")?;
        let before = stage.file.times()?;
        wait_for_the_clock();
        self.go(&stage, Place::Inside)?;
        let after = stage.file.times()?;
        expect(after.modified > before.modified, "mtime is new")?;
        expect(after.changed > before.changed, "ctime is new")
    }

    fn is_refused_by_flag(&self, t: &Test, flag: u32) -> Outcome {
        let stage = Stage::in_test(t, &format!("flag-{flag}"))?;
        // Once before, so that the security module's answer is cached.
        self.go(&stage, Place::Inside)?;
        let _guard = Flagged::new(&stage.file.path, flag)?;
        self.expect_refused(&stage, Place::Inside, libc::EPERM)
    }

    fn waits_while_frozen(&self, t: &Test) -> Outcome {
        if !t.is_reflinkfs() {
            return Ok(());
        }
        let fs = t.mount_at("frozen", &[("size", "4M")])?;
        let stage = Stage::new(&fs.root)?;
        let before = stage.state()?;
        let child = while_frozen(&fs, || {
            let child = Child::spawn(|| self.go(&stage, Place::Inside))?;
            sleep_ms(100);
            expect(!child.is_over(), "it waits")?;
            expect(stage.state()? == before, "the file is as it was")?;
            Ok(child)
        })?;
        child.join()
    }

    fn keeps_to_the_size_limit(&self, t: &Test) -> Outcome {
        let stage = Stage::in_test(t, "size-limit")?;
        in_child(|| {
            limit_file_size(LEN)?;
            count_signals(libc::SIGXFSZ);
            let before = stage.file.contents()?;
            let refused = (self.go)(&stage, Place::Behind);
            expect_errno(refused, libc::EFBIG, self.name)?;
            expect_eq(signals_seen(), 1, "SIGXFSZ")?;
            // XFS has set the times by then.
            expect(stage.file.contents()? == before, "the contents")
        })
    }

    fn keeps_to_the_quota(&self, t: &Test) -> Outcome {
        if Feature::Quota.unmet_by(t.filesystem).is_some() {
            return Ok(());
        }
        let fs = quota::mount_for_alice(t, LEN / BLOCK64, 0)?;
        let dir = fs.root.join("dir");
        mkdir(&dir, 0o777).or_fail("mkdir")?;
        let stage = Stage::new(&dir)?;
        chown(&stage.file.path, quota::ALICE, quota::ALICE).or_fail("chown")?;
        quota::as_one(quota::ALICE, || {
            let refused = (self.go)(&stage, Place::Behind);
            expect_errno(refused, self.refusal.unwrap_or(libc::EDQUOT), self.name)
        })?;
        expect_eq(stage.file.data_blocks()?, LEN / BLOCK64, "blocks")
    }

    /// For ways by the file's name: a file open for writing cannot have a lease.
    fn waits_for_a_lease(&self, t: &Test) -> Outcome {
        const F_SETLEASE: i32 = 1024;
        let stage = Stage::in_test(t, "lease")?;
        let reader = stage.file.reopen(libc::O_RDONLY)?;
        let set = |kind: i32| -> Sys {
            // SAFETY: plain call on an open descriptor.
            check(unsafe { libc::fcntl(reader.as_raw_fd(), F_SETLEASE, kind) }).map(|_| ())
        };
        expect_errno(
            set(libc::F_RDLCK),
            libc::EAGAIN,
            "a lease of a file open for writing",
        )?;
        let elsewhere = t.create_elsewhere("leased", b"")?;
        let Stage {
            file,
            append,
            mapping,
            source,
        } = stage;
        let path = file.path.clone();
        drop((file, append, mapping));
        count_signals(libc::SIGIO);
        set(libc::F_RDLCK).or_fail("F_SETLEASE")?;
        let child = Child::spawn(|| {
            // The way uses only the name.
            let stage = Stage {
                file: File::open(&path, libc::O_RDONLY).or_fail("open")?,
                append: elsewhere.reopen(libc::O_RDONLY)?,
                mapping: Mapping::anonymous(BLOCK)?,
                source,
            };
            self.go(&stage, Place::Inside)
        })?;
        eventually("SIGIO comes", || Ok(signals_seen() > 0))?;
        expect(!child.is_over(), "it waits")?;
        expect_eq(
            lstat(&path).or_fail("lstat")?.st_size as u64,
            LEN,
            "the size",
        )?;
        set(libc::F_UNLCK).or_fail("giving the lease back")?;
        child.join()
    }

    fn is_told_of(&self, t: &Test) -> Outcome {
        let stage = Stage::in_test(t, "event")?;
        let watch = Watch::new()?;
        watch.add(&stage.file.path, libc::IN_MODIFY)?;
        self.go(&stage, Place::Inside)?;
        let seen = watch.seen()?;
        expect(
            seen.iter().any(|event| event == "modify"),
            format_args!("it was seen: {seen:?}"),
        )
    }

    /// Checks a way that changes nothing: the file stays the same, and there is no event.
    pub fn changes_nothing(&self, t: &Test) -> Outcome {
        let stage = Stage::in_test(t, "nothing")?;
        let path = &stage.file.path;
        chown(path, 1000, 1000).or_fail("chown")?;
        chmod(path, 0o6777).or_fail("chmod")?;
        let watch = Watch::new()?;
        watch.add(path, libc::IN_MODIFY)?;
        let before = stage.state()?;
        wait_for_the_clock();
        as_user(1000, 1000, || self.go(&stage, Place::Inside))?;
        expect(stage.state()? == before, "contents, times and mode")?;
        expect_eq(watch.seen()?, Vec::<String>::new(), "events")
    }
}

/// Turns a short result into a failure, for calls that must do everything.
pub fn whole(done: Sys<usize>, len: usize) -> Sys {
    match done? {
        n if n == len => Ok(()),
        _ => Err(Errno(libc::EIO)),
    }
}
