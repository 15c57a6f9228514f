// SPDX-License-Identifier: GPL-2.0 OR MIT
//! File handles: name_to_handle_at(2) and open_by_handle_at(2).

use std::fs::read_link;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Outcome, Sys};
use crate::filesystem::{Btrfs, Tmpfs, INSTANCE};
use crate::pattern::{pattern, Random};
use crate::process::as_user;
use crate::sys::{
    c_path, check, link, lstat, mkdir, read_all, rename, rmdir, symlink, unlink, File,
};

pub const CASES: &[Case] = &[
    case!(a_handle_opens_its_file),
    case!(a_handle_opens_a_directory_at_its_path),
    case!(a_handle_opens_a_symlink_itself),
    case!(a_handle_is_always_the_same_and_nobody_elses),
    case!(a_handle_survives_renaming_and_links),
    case!(a_handle_works_when_nothing_is_cached),
    case!(a_handle_is_stale_once_the_file_is_gone_and_not_before),
    case!(a_handle_is_stale_when_its_number_is_used_again),
    case!(a_file_without_a_name_has_a_handle),
    case!(a_damaged_handle_is_stale)
        .except(Btrfs, "files made in one transaction have one generation"),
    case!(a_handle_of_an_unknown_kind_is_stale).except(Tmpfs, "does not look at the kind"),
    case!(a_handle_of_another_instance_is_stale).needs(INSTANCE),
    case!(what_makes_no_sense_is_refused),
    case!(opening_by_handle_is_for_administrators),
    case!(a_handle_opens_through_a_bind_mount),
    case!(a_connectable_handle_finds_its_path).except(Tmpfs, "its handles do not know the parent"),
    case!(a_handle_for_identification_is_given),
    case!(opening_by_handle_races_with_removal),
];

const AT_EMPTY_PATH: i32 = 0x1000;
const AT_HANDLE_FID: i32 = 0x200;
const AT_HANDLE_CONNECTABLE: i32 = 0x2;
const ROOM: usize = 128;

/// `struct file_handle`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Handle {
    len: u32,
    kind: i32,
    bytes: [u8; ROOM],
}

impl Handle {
    /// Returns the fields to compare.
    pub fn identity(&self) -> (i32, Vec<u8>) {
        (self.kind, self.bytes[..self.len as usize].to_vec())
    }
}

/// Returns the handle, and the id of its mount.
fn handle_at(dir: RawFd, path: &Path, flags: i32, room: u32) -> (Sys, Handle, i32) {
    let path = c_path(path);
    let mut mount = 0i32;
    let mut handle = Handle {
        len: room,
        kind: 0,
        bytes: [0; ROOM],
    };
    let at: *mut Handle = &mut handle;
    // SAFETY: the path is valid; the handle has room for ROOM bytes, and the kernel stores `room`
    // of them at most, which it refuses when it is more than ROOM.
    let result = check(unsafe {
        let number = libc::SYS_name_to_handle_at;
        libc::syscall(number, dir, path.as_ptr(), at, &mut mount, flags)
    });
    (result.map(|_| ()), handle, mount)
}

#[track_caller]
pub fn handle_of(path: impl AsRef<Path>) -> Outcome<Handle> {
    let (result, handle, _) = handle_at(libc::AT_FDCWD, path.as_ref(), 0, ROOM as u32);
    result.or_fail(format_args!(
        "name_to_handle_at of {}",
        path.as_ref().display()
    ))?;
    Ok(handle)
}

/// Opens by handle, through a mount that `root` is on.
pub(super) fn open_handle(root: &impl AsRawFd, handle: &Handle, flags: i32) -> Sys<OwnedFd> {
    let at: *const Handle = handle;
    // SAFETY: the handle is valid during the call.
    let fd = check(unsafe {
        let flags = flags | libc::O_CLOEXEC;
        libc::syscall(libc::SYS_open_by_handle_at, root.as_raw_fd(), at, flags)
    })?;
    // SAFETY: the kernel just gave us the descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

pub(super) fn root_of(path: impl AsRef<Path>) -> Outcome<File> {
    File::open(path, libc::O_RDONLY | libc::O_DIRECTORY).or_fail("open the directory")
}

fn inode_of(fd: &impl AsRawFd) -> Outcome<u64> {
    // SAFETY: a stat of zeros is a valid value, and valid for writing.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        check(libc::fstat(fd.as_raw_fd(), &mut stat)).or_fail("fstat")?;
        Ok(stat.st_ino)
    }
}

pub(super) fn path_of(fd: &impl AsRawFd) -> Outcome<PathBuf> {
    read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).or_fail("readlink of /proc/self/fd")
}

#[track_caller]
fn expect_opens(root: &File, handle: &Handle, data: &[u8], what: &str) -> Outcome {
    let opened = open_handle(root, handle, libc::O_RDONLY)
        .or_fail(format_args!("open_by_handle_at, {what}"))?;
    let seen = read_all(&opened, data.len() + 1)?;
    expect(
        seen == data,
        format_args!("{what}: the file that was opened holds its data"),
    )
}

#[track_caller]
fn expect_stale(root: &File, handle: &Handle, what: &str) -> Outcome {
    let opened = open_handle(root, handle, libc::O_RDONLY);
    expect_errno(
        opened,
        libc::ESTALE,
        format_args!("open_by_handle_at, {what}"),
    )
}

fn a_handle_opens_its_file(t: &Test) -> Outcome {
    let data = pattern(1, 10_000);
    let file = t.create_with("file", &data)?;
    let root = root_of(&t.dir)?;
    let handle = handle_of(&file.path)?;
    expect_opens(&root, &handle, &data, "to read")?;
    let opened = open_handle(&root, &handle, libc::O_RDWR).or_fail("open_by_handle_at")?;
    expect_eq(inode_of(&opened)?, file.stat()?.st_ino, "its number")?;
    crate::sys::pwrite_from(&opened, b"new".as_ptr(), 3, 0).or_fail("pwrite")?;
    expect_eq(file.read_at(0, 3)?, b"new", "the file's new contents")?;
    open_handle(&root, &handle, libc::O_WRONLY | libc::O_TRUNC).or_fail("open(O_TRUNC)")?;
    expect_eq(file.size()?, 0, "size")?;
    let directory = open_handle(&root, &handle, libc::O_RDONLY | libc::O_DIRECTORY);
    expect_errno(directory, libc::ENOTDIR, "as a directory")
}

fn a_handle_opens_a_directory_at_its_path(t: &Test) -> Outcome {
    let dir = t.mkdir("a")?.join("b").join("c");
    mkdir(t.path("a/b"), 0o755).or_fail("mkdir")?;
    mkdir(&dir, 0o755).or_fail("mkdir")?;
    File::create(dir.join("inside"))?;
    let root = root_of(&t.dir)?;
    let handle = handle_of(&dir)?;
    let opened = open_handle(&root, &handle, libc::O_RDONLY | libc::O_DIRECTORY).or_fail("open")?;
    expect_eq(
        path_of(&opened)?,
        dir.clone(),
        "the path of the opened file",
    )?;
    let inside = c_path("inside".as_ref());
    // SAFETY: the name is valid during the call.
    check(unsafe { libc::faccessat(opened.as_raw_fd(), inside.as_ptr(), libc::F_OK, 0) })
        .or_fail("faccessat of a name in it")?;
    drop(opened);
    let top = open_handle(&root, &handle_of(&t.dir)?, libc::O_RDONLY).or_fail("open of the top")?;
    expect_eq(inode_of(&top)?, inode_of(&root)?, "its number")?;
    rename(t.path("a/b"), t.path("moved")).or_fail("rename")?;
    let opened = open_handle(&root, &handle, libc::O_RDONLY).or_fail("open after a rename")?;
    expect_eq(
        path_of(&opened)?,
        t.path("moved/c"),
        "the path after a rename",
    )?;
    drop(opened);
    rename(t.path("moved"), t.path("a/b")).or_fail("rename back")?;
    unlink(dir.join("inside")).or_fail("unlink")?;
    rmdir(&dir).or_fail("rmdir")?;
    expect_stale(&root, &handle, "of a removed directory")
}

fn a_handle_opens_a_symlink_itself(t: &Test) -> Outcome {
    symlink("target", t.path("symlink")).or_fail("symlink")?;
    let root = root_of(&t.dir)?;
    let handle = handle_of(t.path("symlink"))?;
    let ordinary = open_handle(&root, &handle, libc::O_RDONLY);
    expect_errno(ordinary, libc::ELOOP, "open without O_PATH")?;
    let opened = open_handle(&root, &handle, libc::O_PATH | libc::O_NOFOLLOW).or_fail("open")?;
    let mut target = [0u8; 100];
    // SAFETY: the buffer is valid for writing.
    let len = check(unsafe {
        let (at, room) = (target.as_mut_ptr().cast(), target.len());
        libc::readlinkat(opened.as_raw_fd(), c"".as_ptr(), at, room) as i64
    })
    .or_fail("readlinkat")?;
    expect_eq(&target[..len], b"target", "its target")
}

fn a_handle_is_always_the_same_and_nobody_elses(t: &Test) -> Outcome {
    let mut seen = std::collections::BTreeSet::new();
    for i in 0..100 {
        let path = t.path(&i.to_string());
        match i % 3 {
            0 => File::create(&path).map(drop)?,
            1 => mkdir(&path, 0o755).or_fail("mkdir")?,
            _ => symlink("x", &path).or_fail("symlink")?,
        }
        let handle = handle_of(&path)?.identity();
        expect_eq(handle_of(&path)?.identity(), handle.clone(), "asked again")?;
        expect(
            seen.insert(handle),
            format_args!("the handle of {i} is its own"),
        )?;
    }
    Ok(())
}

fn a_handle_survives_renaming_and_links(t: &Test) -> Outcome {
    let data = pattern(1, 5000);
    let file = t.create_with("file", &data)?;
    let dir = t.mkdir("dir")?;
    let root = root_of(&t.dir)?;
    let handle = handle_of(&file.path)?;
    drop(file);
    link(t.path("file"), dir.join("link")).or_fail("link")?;
    let of_link = handle_of(dir.join("link"))?;
    expect_eq(
        of_link.identity(),
        handle.identity(),
        "the handle of a link",
    )?;
    rename(t.path("file"), dir.join("renamed")).or_fail("rename")?;
    t.create_with("file", b"another")?;
    expect_opens(&root, &handle, &data, "renamed, its name used again")?;
    let other = handle_of(t.path("file"))?;
    expect(
        other.identity() != handle.identity(),
        "the new file has its own handle",
    )?;
    unlink(dir.join("renamed")).or_fail("unlink")?;
    expect_opens(&root, &handle, &data, "one of two links removed")?;
    rename(t.path("file"), dir.join("link")).or_fail("rename onto the last link")?;
    expect_stale(&root, &handle, "replaced by a rename")?;
    expect_opens(&root, &other, b"another", "what replaced it")
}

fn a_handle_works_when_nothing_is_cached(t: &Test) -> Outcome {
    let data = pattern(1, 5000);
    mkdir(t.path("a"), 0o755).or_fail("mkdir")?;
    mkdir(t.path("a/b"), 0o755).or_fail("mkdir")?;
    t.create_with("a/b/file", &data)?;
    let handles = [handle_of(t.path("a/b/file"))?, handle_of(t.path("a/b"))?];
    let root = root_of(&t.dir)?;
    root.sync()?;
    for _ in 0..3 {
        std::fs::write("/proc/sys/vm/drop_caches", "2").or_fail("dropping caches")?;
        let dir = open_handle(&root, &handles[1], libc::O_RDONLY).or_fail("open")?;
        expect_eq(path_of(&dir)?, t.path("a/b"), "the directory's path")?;
        drop(dir);
        std::fs::write("/proc/sys/vm/drop_caches", "2").or_fail("dropping caches")?;
        expect_opens(&root, &handles[0], &data, "nothing cached")?;
    }
    expect(t.path("a/b/file").exists(), "and the path leads there")
}

fn a_handle_is_stale_once_the_file_is_gone_and_not_before(t: &Test) -> Outcome {
    let data = pattern(1, 5000);
    let file = t.create_with("file", &data)?;
    let root = root_of(&t.dir)?;
    let handle = handle_of(&file.path)?;
    unlink(&file.path).or_fail("unlink")?;
    expect_opens(&root, &handle, &data, "removed, but still open")?;
    let again = open_handle(&root, &handle, libc::O_RDWR).or_fail("open")?;
    drop(file);
    expect_opens(&root, &handle, &data, "open by its handle only")?;
    drop(again);
    expect_stale(&root, &handle, "removed and closed")?;
    t.create_with("file", b"another")?;
    expect_stale(&root, &handle, "another file has its name")
}

fn a_handle_is_stale_when_its_number_is_used_again(t: &Test) -> Outcome {
    let root = root_of(&t.dir)?;
    let mut old = Vec::new();
    for round in 0..t.rounds(300).max(60) {
        let path = t.path("file");
        if round % 2 == 0 {
            File::create(&path)?;
        } else {
            mkdir(&path, 0o755).or_fail("mkdir")?;
        }
        let handle = handle_of(&path)?;
        expect(
            !old.iter()
                .any(|o: &Handle| o.identity() == handle.identity()),
            "a new file has a handle that none had before",
        )?;
        for handle in old.iter().rev().take(20) {
            expect_stale(&root, handle, "of a removed file")?;
        }
        open_handle(&root, &handle, libc::O_RDONLY).or_fail("open of the new one")?;
        if round % 2 == 0 {
            unlink(&path).or_fail("unlink")?;
        } else {
            rmdir(&path).or_fail("rmdir")?;
        }
        old.push(handle);
    }
    Ok(())
}

fn a_file_without_a_name_has_a_handle(t: &Test) -> Outcome {
    let file = File::open_mode(&t.dir, libc::O_RDWR | libc::O_TMPFILE, 0o600)
        .or_fail("open(O_TMPFILE)")?;
    file.write_at(b"data", 0)?;
    let root = root_of(&t.dir)?;
    let fd = file.as_raw_fd();
    let (result, handle, _) = handle_at(fd, "".as_ref(), AT_EMPTY_PATH, ROOM as u32);
    result.or_fail("name_to_handle_at(AT_EMPTY_PATH)")?;
    expect_opens(&root, &handle, b"data", "nameless, but open")?;
    drop(file);
    expect_stale(&root, &handle, "nameless and closed")
}

fn a_damaged_handle_is_stale(t: &Test) -> Outcome {
    let data = pattern(1, 100);
    let file = t.create_with("file", &data)?;
    let root = root_of(&t.dir)?;
    let handle = handle_of(&file.path)?;
    let mut random = Random::new(t.settings.seed);
    for bit in 0..handle.len as usize * 8 {
        let mut damaged = handle;
        damaged.bytes[bit / 8] ^= 1 << (bit % 8);
        // A number may be that of another file only with the right generation, which is very
        // unlikely.
        expect_stale(&root, &damaged, &format!("bit {bit} changed"))?;
    }
    for _ in 0..t.rounds(500) {
        let mut damaged = handle;
        let len = handle.len as usize;
        damaged.bytes[..len].copy_from_slice(&random.bytes(len));
        expect_stale(&root, &damaged, "random bytes")?;
    }
    let part = Handle { len: 4, ..handle };
    expect_stale(&root, &part, "4 bytes of it")?;
    expect_opens(&root, &handle, &data, "as it was")
}

fn a_handle_of_an_unknown_kind_is_stale(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let handle = handle_of(&file.path)?;
    for kind in [0x77, 0] {
        let strange = Handle { kind, ..handle };
        expect_stale(&root_of(&t.dir)?, &strange, &format!("of kind {kind:#x}"))?;
    }
    Ok(())
}

fn a_handle_of_another_instance_is_stale(t: &Test) -> Outcome {
    let one = t.mount_at("one", &[])?;
    let other = t.mount_at("other", &[])?;
    one.create_with("file", b"one")?;
    other.create_with("file", b"other")?;
    let handle = handle_of(one.path("file"))?;
    expect_opens(&root_of(&one.root)?, &handle, b"one", "its own instance")?;
    expect_stale(&root_of(&other.root)?, &handle, "another instance")
}

fn what_makes_no_sense_is_refused(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let root = root_of(&t.dir)?;
    let handle = handle_of(&file.path)?;
    let at = |flags, room| handle_at(libc::AT_FDCWD, &file.path, flags, room);
    for room in 0..handle.len {
        let (result, answer, _) = at(0, room);
        expect_errno(
            result,
            libc::EOVERFLOW,
            format_args!("room for {room} bytes"),
        )?;
        expect_eq(answer.len, handle.len, "the room that it says it needs")?;
    }
    expect_errno(at(0, 129).0, libc::EINVAL, "room for more than 128 bytes")?;
    expect_errno(at(0x4000, 128).0, libc::EINVAL, "unknown flags")?;
    let (missing, ..) = handle_at(libc::AT_FDCWD, &t.path("none"), 0, 128);
    expect_errno(missing, libc::ENOENT, "the handle of nothing")?;
    for len in [0, 129] {
        let refused = open_handle(&root, &Handle { len, ..handle }, libc::O_RDONLY);
        expect_errno(
            refused,
            libc::EINVAL,
            format_args!("a handle of {len} bytes"),
        )?;
    }
    // SAFETY: the kernel checks the pointer itself and answers EFAULT.
    let fault = check(unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            root.as_raw_fd(),
            1usize,
            libc::O_RDONLY,
        )
    });
    expect_errno(fault, libc::EFAULT, "a bad pointer")?;
    let elsewhere = root_of(&t.elsewhere)?;
    expect_stale(&elsewhere, &handle, "of another filesystem")
}

fn opening_by_handle_is_for_administrators(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let handle = handle_of(&file.path)?;
    as_user(1000, 1000, || {
        let own = handle_of(&file.path)?;
        expect_eq(
            own.identity(),
            handle.identity(),
            "the handle that a user gets",
        )?;
        let opened = open_handle(&root_of(&t.dir)?, &handle, libc::O_RDONLY);
        expect_errno(opened, libc::EPERM, "open_by_handle_at by a user")
    })
}

fn a_handle_opens_through_a_bind_mount(t: &Test) -> Outcome {
    t.create_with("file", b"data")?;
    let handle = handle_of(t.path("file"))?;
    let view = t.read_only_view()?;
    let root = root_of(&view)?;
    expect_opens(&root, &handle, b"data", "through a bind mount")?;
    let through = handle_of(view.join("file"))?;
    expect_eq(
        through.identity(),
        handle.identity(),
        "the handle seen through it",
    )?;
    let written = open_handle(&root, &handle, libc::O_RDWR);
    expect_errno(written, libc::EROFS, "to write, through a read-only mount")
}

fn a_connectable_handle_finds_its_path(t: &Test) -> Outcome {
    let dir = t.mkdir("a")?.join("b");
    mkdir(&dir, 0o755).or_fail("mkdir")?;
    let file = File::create(dir.join("file"))?;
    let root = root_of(&t.dir)?;
    for path in [dir.clone(), dir.join("file")] {
        let flags = AT_HANDLE_CONNECTABLE;
        let (result, handle, _) = handle_at(libc::AT_FDCWD, &path, flags, ROOM as u32);
        result.or_fail(format_args!("AT_HANDLE_CONNECTABLE of {}", path.display()))?;
        root.sync()?;
        std::fs::write("/proc/sys/vm/drop_caches", "2").or_fail("dropping caches")?;
        let opened = open_handle(&root, &handle, libc::O_RDONLY).or_fail("open")?;
        expect_eq(path_of(&opened)?, path, "the path of the opened file")?;
    }
    drop(file);
    Ok(())
}

fn a_handle_for_identification_is_given(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let flags = AT_HANDLE_FID;
    let (result, handle, mount) = handle_at(libc::AT_FDCWD, &file.path, flags, ROOM as u32);
    result.or_fail("name_to_handle_at(AT_HANDLE_FID)")?;
    let (_, again, _) = handle_at(libc::AT_FDCWD, &file.path, flags, ROOM as u32);
    expect_eq(again.identity(), handle.identity(), "asked again")?;
    let table = std::fs::read_to_string("/proc/self/mountinfo").or_fail("read mountinfo")?;
    let line = table
        .lines()
        .find(|line| line.starts_with(&format!("{mount} ")));
    let shown = line
        .and_then(|line| line.split(' ').nth(4))
        .unwrap_or_default();
    expect(
        !shown.is_empty() && t.dir.starts_with(shown),
        format_args!("mount {mount}, at {shown:?}, is the one that the file is on"),
    )
}

fn opening_by_handle_races_with_removal(t: &Test) -> Outcome {
    let root = root_of(&t.dir)?;
    let current = std::sync::Mutex::new((0u64, None::<Handle>));
    let path = t.path("file");
    let write = || {
        let mut number = 0u64;
        let (path, current) = (&path, &current);
        move || {
            number += 1;
            let file = t.create("new")?;
            file.write_at(&number.to_le_bytes(), 0)?;
            let handle = handle_of(&file.path)?;
            *current.lock().expect("no panic") = (number, Some(handle));
            drop(file);
            rename(t.path("new"), path).or_fail("rename")?;
            if number % 3 == 0 {
                unlink(path).or_fail("unlink")?;
            }
            Ok(())
        }
    };
    let read = || {
        let (root, current) = (&root, &current);
        move || {
            let (number, handle) = *current.lock().expect("no panic");
            let Some(handle) = handle else { return Ok(()) };
            match open_handle(root, &handle, libc::O_RDONLY) {
                Ok(opened) => {
                    let seen = read_all(&opened, 9)?;
                    expect_eq(seen, number.to_le_bytes(), "the file of this handle")
                }
                Err(Errno(libc::ESTALE)) => Ok(()),
                Err(error) => Err(error).or_fail("open_by_handle_at"),
            }
        }
    };
    t.race(vec![
        worker("replacing", write()),
        worker("opening", read()),
        worker("opening too", read()),
    ])?;
    let _ = lstat(&path);
    Ok(())
}
