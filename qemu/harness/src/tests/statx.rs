// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The fields of statx(2) beyond stat(2), and times with mount flags.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome, Sys};
use crate::filesystem::{Btrfs, Tmpfs, CLONES, INSTANCE};
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern};
use crate::process::{as_user, run_program};
use crate::sys::{
    c_path, check, chmod, chown, clone_file, copy_once, link, lstat, mkdir, path_call, readlink,
    rename, set_times, symlink, timespec, wait_for_the_clock, File, Times,
};

pub const CASES: &[Case] = &[
    case!(everything_has_a_time_of_creation),
    case!(the_time_of_creation_never_changes),
    case!(a_clone_has_a_time_of_creation_of_its_own).needs(CLONES),
    case!(the_alignment_for_direct_access_is_right)
        .except(Tmpfs, "has none")
        .except(Btrfs, "has none"),
    case!(flags_and_masks_are_checked),
    case!(a_change_after_a_look_always_shows),
    case!(without_access_times_reading_changes_nothing),
    case!(with_strict_access_times_every_kind_of_reading_shows),
    case!(directories_can_be_without_access_times),
    case!(relative_access_times_follow_changes),
    case!(not_changing_the_access_time_is_for_the_owner),
    case!(lazy_times_show_at_once).needs(INSTANCE),
];

const STATX_DIOALIGN: u32 = 0x2000;

fn try_statx(path: &Path, flags: i32, mask: u32) -> Sys<libc::statx> {
    let path = c_path(path);
    let flags = flags | libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: a statx of zeros is a valid value; path and buffer outlive the call.
    unsafe {
        let mut statx: libc::statx = std::mem::zeroed();
        check(libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            mask,
            &mut statx,
        ))?;
        Ok(statx)
    }
}

#[track_caller]
pub(super) fn statx(path: impl AsRef<Path>, mask: u32) -> Outcome<libc::statx> {
    let path = path.as_ref();
    try_statx(path, 0, mask).or_fail(format_args!("statx of {}", path.display()))
}

/// Returns the time of creation in nanoseconds.
#[track_caller]
fn created(path: impl AsRef<Path>) -> Outcome<i128> {
    let seen = statx(path, libc::STATX_BTIME)?;
    expect(
        seen.stx_mask & libc::STATX_BTIME != 0,
        "statx has the time of creation",
    )?;
    Ok(i128::from(seen.stx_btime.tv_sec) * 1_000_000_000 + i128::from(seen.stx_btime.tv_nsec))
}

fn now() -> i128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a clock after 1970").as_nanos() as i128
}

/// Creates an inode of each kind.
fn one_of_each(t: &Test) -> Outcome<Vec<PathBuf>> {
    let names = ["file", "dir", "symlink", "fifo"].map(|name| t.path(name));
    File::create(&names[0])?;
    mkdir(&names[1], 0o755).or_fail("mkdir")?;
    symlink("x", &names[2]).or_fail("symlink")?;
    path_call!(mkfifo(&names[3], 0o600)).or_fail("mkfifo")?;
    Ok(names.into())
}

fn everything_has_a_time_of_creation(t: &Test) -> Outcome {
    let before = now();
    for path in one_of_each(t)? {
        let off = created(&path)? - before;
        // The clock of file times may lag by a tick.
        expect(
            (-100_000_000..30_000_000_000).contains(&off),
            format_args!("{} was created now, not {off} ns off", path.display()),
        )?;
        let times = Times::of(&lstat(&path).or_fail("lstat")?);
        expect(
            created(&path)? <= times.changed,
            "and not after its last change",
        )?;
    }
    let nameless = File::open_mode(&t.dir, libc::O_RDWR | libc::O_TMPFILE, 0o600)
        .or_fail("open(O_TMPFILE)")?;
    // SAFETY: a statx of zeros is a valid value; the buffer outlives the call.
    let seen = unsafe {
        let mut seen: libc::statx = std::mem::zeroed();
        let (fd, mask) = (nameless.as_raw_fd(), libc::STATX_BTIME);
        check(libc::statx(
            fd,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            mask,
            &mut seen,
        ))
        .or_fail("statx(AT_EMPTY_PATH)")?;
        seen
    };
    let off = i128::from(seen.stx_btime.tv_sec) - before / 1_000_000_000;
    expect(
        (-1..30).contains(&off),
        format_args!("a nameless file, {off} s off"),
    )
}

fn the_time_of_creation_never_changes(t: &Test) -> Outcome {
    let paths = one_of_each(t)?;
    let before = paths
        .iter()
        .map(|path| created(path))
        .collect::<Outcome<Vec<_>>>()?;
    wait_for_the_clock();
    let file = File::open(&paths[0], libc::O_RDWR).or_fail("open")?;
    file.write_at(b"data", 0)?;
    file.truncate(100)?;
    file.read_at(0, 10)?;
    let old = timespec(1_000_000_000, 0);
    File::create(paths[1].join("inside"))?;
    for (path, before) in paths.iter().zip(before) {
        set_times(path, [old, old]).or_fail("utimensat")?;
        if !path.ends_with("symlink") {
            chmod(path, 0o700).or_fail("chmod")?;
            chown(path, 1, 1).or_fail("chown")?;
        }
        let moved = path.with_extension("moved");
        rename(path, &moved).or_fail("rename")?;
        if !path.ends_with("dir") {
            link(&moved, path).or_fail("link")?;
        }
        expect_eq(created(&moved)?, before, format_args!("{}", path.display()))?;
    }
    Ok(())
}

fn a_clone_has_a_time_of_creation_of_its_own(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(1, 4))?;
    wait_for_the_clock();
    let clone = File::create(t.path("clone"))?;
    let (first, second) = (created(&source.path)?, created(&clone.path)?);
    expect(first < second, "the clone is younger")?;
    wait_for_the_clock();
    clone_file(&source, &clone).or_fail("FICLONE")?;
    copy_once(&source, 0, &clone, 0, 4096).or_fail("copy_file_range")?;
    expect_eq(
        created(&clone.path)?,
        second,
        "the clone's, after cloning into it",
    )?;
    expect_eq(created(&source.path)?, first, "the source's")
}

fn the_alignment_for_direct_access_is_right(t: &Test) -> Outcome {
    let data = blocks(1, 16);
    let file = t.create_with("file", &data)?;
    file.sync()?;
    let seen = statx(&file.path, STATX_DIOALIGN)?;
    expect(
        seen.stx_mask & STATX_DIOALIGN != 0,
        "statx has the alignment",
    )?;
    let memory = seen.stx_dio_mem_align as usize;
    let offset = seen.stx_dio_offset_align as usize;
    for (what, align) in [("memory", memory), ("offset", offset)] {
        expect(
            align.is_power_of_two() && align <= 4096,
            format_args!("{what}: {align} is a power of two up to a block"),
        )?;
    }
    let direct = file.reopen(libc::O_RDWR | libc::O_DIRECT)?;
    let mut buffer = Mapping::anonymous(16 * 4096)?;
    for at in [offset, 3 * offset, 4096 + offset] {
        let (place, len) = (buffer.at(memory), 4096.max(offset));
        let read = crate::sys::pread_to(&direct, place, len, at as i64);
        expect_eq(read.or_fail("pread")?, len, "bytes read")?;
        expect(
            buffer.load(memory, len) == data[at..at + len],
            "the bytes read",
        )?;
        let written = crate::sys::pwrite_from(&direct, place, len, at as i64);
        expect_eq(written.or_fail("pwrite")?, len, "bytes written")?;
    }
    buffer.forbid_from(4096)?;
    file.expect_contents(&data, "after writing the same bytes")?;
    // Only files have direct I/O.
    let dir = statx(&t.dir, STATX_DIOALIGN)?;
    expect_eq(dir.stx_dio_mem_align, 0, "alignment for a directory")
}

fn flags_and_masks_are_checked(t: &Test) -> Outcome {
    let file = t.create_with("file", &pattern(1, 5000))?;
    for flags in [libc::AT_STATX_FORCE_SYNC, libc::AT_STATX_DONT_SYNC] {
        let seen = try_statx(&file.path, flags, libc::STATX_BASIC_STATS).or_fail("statx")?;
        expect_eq(seen.stx_size, 5000, "size")?;
        let basic = seen.stx_mask & libc::STATX_BASIC_STATS;
        expect_eq(basic, libc::STATX_BASIC_STATS, "the mask of statx")?;
    }
    // Fields that were not asked for may be filled in, but must be right.
    let seen = try_statx(&file.path, 0, 0).or_fail("statx of nothing")?;
    if seen.stx_mask & libc::STATX_SIZE != 0 {
        expect_eq(seen.stx_size, 5000, "size")?;
    }
    let both = libc::AT_STATX_FORCE_SYNC | libc::AT_STATX_DONT_SYNC;
    for (flags, mask) in [
        (both, 0),
        (0x4000_0000, 0),
        (0, libc::STATX__RESERVED as u32),
    ] {
        let refused = try_statx(&file.path, flags, mask).map(|_| ());
        expect_errno(
            refused,
            libc::EINVAL,
            format_args!("statx({flags:#x}, {mask:#x})"),
        )?;
    }
    Ok(())
}

fn a_change_after_a_look_always_shows(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let mut before = file.times()?;
    let start = std::time::Instant::now();
    for round in 0..t.rounds(300) {
        let (what, modifies) = match round % 5 {
            0 | 1 => (file.write_at(b"x", 0).map(|()| "a write")?, true),
            2 => (file.truncate(4 + round as u64).map(|()| "ftruncate")?, true),
            3 => {
                // SAFETY: plain call on an open descriptor.
                check(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, 10) })
                    .or_fail("fallocate")?;
                ("fallocate", true)
            }
            _ => (
                chmod(&file.path, 0o600)
                    .map(|()| "chmod")
                    .or_fail("chmod")?,
                false,
            ),
        };
        let after = file.times()?;
        expect(
            after.changed > before.changed,
            format_args!(
                "ctime is new after {what}, {round} changes in {:?}",
                start.elapsed()
            ),
        )?;
        expect_eq(
            after.modified > before.modified,
            modifies,
            format_args!("whether mtime is new after {what}"),
        )?;
        before = after;
    }
    Ok(())
}

/// Mounts the test's directory at another path, with these flags.
fn view(t: &Test, flags: u64) -> Outcome<PathBuf> {
    let at = t.elsewhere.join("view");
    mkdir(&at, 0o755).or_fail("mkdir")?;
    let (from, to, none) = (c_path(&t.dir), c_path(&at), std::ptr::null());
    // SAFETY: NUL-terminated paths that outlive the calls.
    unsafe {
        let bind = libc::MS_BIND;
        check(libc::mount(
            from.as_ptr(),
            to.as_ptr(),
            none,
            bind,
            none.cast(),
        ))
        .or_fail("bind")?;
        let flags = bind | libc::MS_REMOUNT | flags;
        check(libc::mount(none, to.as_ptr(), none, flags, none.cast())).or_fail("remount")?;
    }
    Ok(at)
}

/// Sets the access time to long ago, and returns it.
fn forget_access(path: &Path) -> Outcome {
    let old = [timespec(1_000_000_000, 0), timespec(900_000_000, 0)];
    set_times(path, old).or_fail("utimensat")
}

fn was_accessed(path: &Path) -> Outcome<bool> {
    let times = Times::of(&lstat(path).or_fail("lstat")?);
    Ok(times.accessed > 1_500_000_000_000_000_000)
}

/// Returns each kind of reading, and whether the access time shows it.
fn readings(view: &Path) -> Outcome<Vec<(&'static str, bool)>> {
    let mut seen = Vec::new();
    let file = view.join("file");
    let open = || File::open(&file, libc::O_RDONLY).or_fail("open");
    let mut try_it = |what, path: &Path, read: &mut dyn FnMut() -> Outcome| -> Outcome {
        forget_access(path)?;
        read()?;
        seen.push((what, was_accessed(path)?));
        Ok(())
    };
    try_it("read", &file, &mut || open()?.read_at(0, 10).map(drop))?;
    try_it("mmap", &file, &mut || {
        Mapping::shared_read(&open()?, 4096).map(|map| drop(map.load(0, 10)))
    })?;
    try_it("splice", &file, &mut || {
        let (_output, input) = crate::sys::pipe()?;
        // SAFETY: plain call; no offsets are given.
        check(unsafe {
            let none = std::ptr::null_mut();
            libc::splice(open()?.as_raw_fd(), none, input.as_raw_fd(), none, 10, 0) as i64
        })
        .or_fail("splice")?;
        Ok(())
    })?;
    try_it("sendfile", &file, &mut || {
        let (_output, input) = crate::sys::pipe()?;
        // SAFETY: plain call; no offset is given.
        check(unsafe {
            let none = std::ptr::null_mut();
            libc::sendfile(input.as_raw_fd(), open()?.as_raw_fd(), none, 10) as i64
        })
        .or_fail("sendfile")?;
        Ok(())
    })?;
    try_it("exec", &view.join("program"), &mut || {
        run_program(&view.join("program"), &[]).map(drop)
    })?;
    try_it("readlink", &view.join("symlink"), &mut || {
        readlink(view.join("symlink")).map(drop).or_fail("readlink")
    })?;
    try_it("following a symlink", &view.join("symlink"), &mut || {
        File::open(view.join("symlink"), libc::O_RDONLY)
            .map(drop)
            .or_fail("open")
    })?;
    try_it("readdir", &view.join("dir"), &mut || {
        let count = std::fs::read_dir(view.join("dir"))
            .or_fail("readdir")?
            .count();
        expect_eq(count, 1, "names")
    })?;
    Ok(seen)
}

fn things_to_read(t: &Test) -> Outcome {
    t.create_with("file", &pattern(1, 10_000))?;
    std::fs::copy("/usr/bin/true", t.path("program")).or_fail("copy")?;
    symlink("file", t.path("symlink")).or_fail("symlink")?;
    mkdir(t.path("dir"), 0o755).or_fail("mkdir")?;
    File::create(t.path("dir/inside"))?;
    Ok(())
}

fn expect_readings(t: &Test, flags: u64, expected: impl Fn(&str) -> bool) -> Outcome {
    things_to_read(t)?;
    for (what, seen) in readings(&view(t, flags)?)? {
        let what = format!("whether the access time shows: {what}");
        expect_eq(seen, expected(&what), what)?;
    }
    Ok(())
}

fn without_access_times_reading_changes_nothing(t: &Test) -> Outcome {
    expect_readings(t, libc::MS_NOATIME, |_| false)
}

fn with_strict_access_times_every_kind_of_reading_shows(t: &Test) -> Outcome {
    expect_readings(t, libc::MS_STRICTATIME, |_| true)?;
    // At each access, not only at the first.
    let file = File::open(t.elsewhere.join("view/file"), libc::O_RDONLY).or_fail("open")?;
    for _ in 0..3 {
        let before = file.times()?.accessed;
        wait_for_the_clock();
        file.read_at(0, 1)?;
        expect(
            file.times()?.accessed > before,
            "atime is new after each read",
        )?;
    }
    Ok(())
}

fn directories_can_be_without_access_times(t: &Test) -> Outcome {
    expect_readings(t, libc::MS_STRICTATIME | libc::MS_NODIRATIME, |what| {
        !what.ends_with("readdir")
    })
}

fn relative_access_times_follow_changes(t: &Test) -> Outcome {
    // With an old access time every access updates it.
    expect_readings(t, libc::MS_RELATIME, |_| true)?;
    let view = t.elsewhere.join("view");
    let file = File::open(view.join("file"), libc::O_RDWR).or_fail("open")?;
    wait_for_the_clock();
    file.read_at(0, 1)?;
    let noted = file.times()?.accessed;
    wait_for_the_clock();
    file.read_at(0, 1)?;
    expect_eq(file.times()?.accessed, noted, "atime after a second read")?;
    file.write_at(b"x", 0)?;
    wait_for_the_clock();
    file.read_at(0, 1)?;
    expect(
        file.times()?.accessed > noted,
        "atime is new after a write and a read",
    )
}

fn not_changing_the_access_time_is_for_the_owner(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    as_user(1000, 1000, || {
        let opened = File::open(&file.path, libc::O_RDONLY | libc::O_NOATIME);
        expect_errno(opened, libc::EPERM, "open(O_NOATIME) of root's file")
    })
}

fn lazy_times_show_at_once(t: &Test) -> Outcome {
    let root = t.elsewhere.join("lazy");
    mkdir(&root, 0o755).or_fail("mkdir")?;
    crate::instance::mount(t.filesystem.name(), &root, libc::MS_LAZYTIME, "")
        .or_fail("mount with lazytime")?;
    let shown = crate::instance::shown_options(&root)?;
    expect(
        shown.contains(&"lazytime".into()),
        format_args!("lazytime among {shown:?}"),
    )?;
    let file = File::create_with(root.join("file"), b"data")?;
    forget_access(&file.path)?;
    let before = file.times()?;
    wait_for_the_clock();
    file.read_at(0, 1)?;
    file.write_at(b"x", 0)?;
    let after = file.times()?;
    expect(after.accessed > before.accessed, "atime is new")?;
    expect(after.modified > before.modified, "mtime is new")?;
    expect(after.changed > before.changed, "ctime is new")?;
    let stays = file.times()?;
    file.sync()?;
    expect_eq(file.times()?, stays, "times after fsync")?;
    drop(file);
    crate::instance::unmount(&root).or_fail("umount")
}
