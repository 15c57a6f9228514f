// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Events of inotify(7) and fanotify(7), for watched files and directories.

use std::os::fd::AsRawFd;

use super::handles::handle_of;
use super::xattr;
use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Failure, Outcome, Sys};
use crate::fileattr::{set_flags, NODUMP};
use crate::filesystem::{Btrfs, Feature, CLONES, INSTANCE};
use crate::notification::{
    Event, Group, Watch, FAN_ACCESS_PERM, FAN_CLASS_CONTENT, FAN_EVENT_ON_CHILD,
    FAN_MARK_FILESYSTEM, FAN_ONDIR, FAN_OPEN_PERM, FAN_REPORT_DIR_FID, FAN_REPORT_FID,
    FAN_REPORT_NAME,
};
use crate::pattern::{blocks, BLOCK64};
use crate::process::Child;
use crate::sys::{
    check, chmod, chown, clone_file, clone_range, copy_once, dedupe, link, mkdir, pipe, rename,
    rmdir, set_times, sleep_ms, symlink, timespec, unlink, write_all, File,
};
use crate::wait::eventually;

pub const CASES: &[Case] = &[
    case!(changes_of_names_are_told),
    case!(changes_of_bytes_are_told),
    case!(changes_by_cloning_are_told).needs(CLONES),
    case!(changes_of_attributes_are_told),
    case!(the_end_of_a_file_is_told),
    case!(unmounting_is_told).needs(INSTANCE),
    case!(fanotify_tells_handles_and_names),
    case!(fanotify_watches_a_whole_filesystem).except(Btrfs, "a subvolume is not the filesystem"),
    case!(opening_asks_for_permission).needs(&[Feature::PermissionEvents]),
    case!(reading_asks_for_permission).needs(&[Feature::PermissionEvents]),
];

const ALL: u32 = 0xfff;

/// Takes a step and expects these events.
#[track_caller]
fn expect_told(
    watch: &Watch,
    what: &str,
    expected: &[&str],
    step: impl FnOnce() -> Outcome,
) -> Outcome {
    watch.seen()?;
    step().map_err(|Failure(text)| Failure(format!("{what}: {text}")))?;
    expect_eq(watch.seen()?, expected, format_args!("events of {what}"))
}

fn changes_of_names_are_told(t: &Test) -> Outcome {
    let (one, other) = (t.mkdir("one")?, t.mkdir("other")?);
    let watch = Watch::new()?;
    watch.add(&one, ALL)?;
    let at = |name: &str| one.join(name);
    expect_told(
        &watch,
        "creation",
        &["create f", "open f", "close-write f"],
        || File::create(at("f")).map(drop),
    )?;
    expect_told(&watch, "mkdir", &["create d"], || {
        mkdir(at("d"), 0o755).or_fail("mkdir")
    })?;
    expect_told(&watch, "symlink", &["create s"], || {
        symlink("x", at("s")).or_fail("symlink")
    })?;
    expect_told(&watch, "link", &["create l"], || {
        link(at("f"), at("l")).or_fail("link")
    })?;
    expect_told(&watch, "rename", &["moved-from f", "moved-to g"], || {
        rename(at("f"), at("g")).or_fail("rename")
    })?;
    expect_told(&watch, "rename away", &["moved-from g"], || {
        rename(at("g"), other.join("g")).or_fail("rename")
    })?;
    expect_told(
        &watch,
        "rename hither, onto another",
        &["moved-to s"],
        || rename(other.join("g"), at("s")).or_fail("rename"),
    )?;
    expect_told(&watch, "unlink", &["delete s"], || {
        unlink(at("s")).or_fail("unlink")
    })?;
    expect_told(&watch, "rmdir", &["delete d"], || {
        rmdir(at("d")).or_fail("rmdir")
    })?;
    expect_told(&watch, "readdir", &["open", "access", "close"], || {
        let listed = std::fs::read_dir(&one).or_fail("readdir")?;
        listed.count();
        Ok(())
    })
}

fn fallocate(file: &File, mode: i32, len: u64) -> Outcome {
    // SAFETY: plain call on an open descriptor.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, 0, len as i64) })
        .or_fail("fallocate")?;
    Ok(())
}

fn changes_of_bytes_are_told(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 8))?;
    let source = t.create_with("source", &blocks(2, 8))?;
    let watch = Watch::new()?;
    watch.add(&file.path, ALL)?;
    let keep = libc::FALLOC_FL_KEEP_SIZE;
    expect_told(&watch, "write", &["modify"], || file.write_at(b"x", 0))?;
    expect_told(&watch, "read", &["access"], || {
        file.read_at(0, 10).map(drop)
    })?;
    expect_told(&watch, "ftruncate", &["modify"], || {
        file.truncate(7 * BLOCK64)
    })?;
    expect_told(&watch, "fallocate", &["modify"], || {
        fallocate(&file, 0, 20 * BLOCK64)
    })?;
    expect_told(&watch, "punching a hole", &["modify"], || {
        fallocate(&file, libc::FALLOC_FL_PUNCH_HOLE | keep, BLOCK64)
    })?;
    expect_told(&watch, "copy_file_range into it", &["modify"], || {
        copy_once(&source, 0, &file, 0, 8192)
            .map(drop)
            .or_fail("copy_file_range")
    })?;
    expect_told(&watch, "copy_file_range from it", &["access"], || {
        copy_once(&file, 0, &source, 0, 8192)
            .map(drop)
            .or_fail("copy_file_range")
    })?;
    let (output, input) = pipe()?;
    write_all(&input, b"data")?;
    expect_told(&watch, "splice", &["modify"], || {
        // SAFETY: plain call; no offsets are given.
        check(unsafe {
            let none = std::ptr::null_mut();
            libc::splice(output.as_raw_fd(), none, file.as_raw_fd(), none, 4, 0) as i64
        })
        .or_fail("splice")?;
        Ok(())
    })?;
    expect_told(
        &watch,
        "open(O_TRUNC)",
        &["open", "modify", "close-write"],
        || file.reopen(libc::O_WRONLY | libc::O_TRUNC).map(drop),
    )?;
    expect_told(&watch, "a write of nothing", &[], || {
        file.try_pwrite(b"", 0).map(drop).or_fail("pwrite")
    })
}

fn changes_by_cloning_are_told(t: &Test) -> Outcome {
    let data = blocks(1, 8);
    let file = t.create_with("file", &data)?;
    let source = t.create_with("source", &data)?;
    let watch = Watch::new()?;
    watch.add(&file.path, ALL)?;
    expect_told(&watch, "FICLONE into it", &["modify"], || {
        clone_file(&source, &file).or_fail("FICLONE")
    })?;
    expect_told(&watch, "FICLONERANGE into it", &["modify"], || {
        clone_range(&source, 0, BLOCK64, &file, BLOCK64).or_fail("FICLONERANGE")
    })?;
    expect_told(&watch, "FICLONE from it", &["access"], || {
        clone_file(&file, &source).or_fail("FICLONE")
    })?;
    // Its contents stay.
    expect_told(&watch, "FIDEDUPERANGE", &[], || {
        dedupe(&source, 0, BLOCK64, &file, 0)
            .map(drop)
            .or_fail("FIDEDUPERANGE")
    })
}

fn changes_of_attributes_are_told(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let path = &file.path;
    let watch = Watch::new()?;
    watch.add(path, ALL)?;
    let told = |what, step: &dyn Fn() -> Sys| {
        expect_told(&watch, what, &["attrib"], || step().or_fail(what))
    };
    told("chmod", &|| chmod(path, 0o600))?;
    told("chown", &|| chown(path, 1, 1))?;
    told("utimensat", &|| {
        set_times(path, [timespec(5, 5), timespec(5, 5)])
    })?;
    told("setxattr", &|| xattr::set(path, "user.a", b"x", 0))?;
    told("removexattr", &|| xattr::remove(path, "user.a"))?;
    told("chattr", &|| set_flags(&file, NODUMP))?;
    told("link", &|| link(path, t.path("link")))?;
    told("unlink of one of two", &|| unlink(t.path("link")))
}

fn the_end_of_a_file_is_told(t: &Test) -> Outcome {
    let path = t.create("file")?.path.clone();
    let dir = t.mkdir("dir")?;
    let watch = Watch::new()?;
    watch.add(&path, ALL)?;
    expect_told(&watch, "a move", &["move-self"], || {
        rename(&path, dir.join("file")).or_fail("rename")
    })?;
    expect_told(
        &watch,
        "the end",
        &["attrib", "delete-self", "ignored"],
        || unlink(dir.join("file")).or_fail("unlink"),
    )?;
    watch.add(&dir, ALL)?;
    expect_told(
        &watch,
        "the end of a directory",
        &["delete-self", "ignored"],
        || rmdir(&dir).or_fail("rmdir"),
    )?;
    // While it is open, the event comes only when it is closed.
    let open = t.create("open")?;
    watch.add(&open.path, 0x400)?;
    expect_told(&watch, "unlink of an open file", &[], || {
        unlink(&open.path).or_fail("unlink")
    })?;
    drop(open);
    expect_eq(
        watch.seen()?,
        ["delete-self", "ignored"],
        "events of its last close",
    )
}

fn unmounting_is_told(t: &Test) -> Outcome {
    let fs = t.mount(&[])?;
    fs.create("file")?;
    let watch = Watch::new()?;
    watch.add(fs.path("file"), ALL)?;
    fs.unmount()?;
    expect_eq(watch.seen()?, ["unmount", "ignored"], "events")
}

/// Returns the events, each as its words and the names in its records.
fn words(events: &[Event]) -> Vec<String> {
    let text = |event: &Event| {
        let names: Vec<_> = event.handles.iter().map(|h| h.3.as_str()).collect();
        format!("{} {}", event.what, names.concat())
            .trim_end()
            .to_owned()
    };
    events.iter().map(text).collect()
}

fn fanotify_tells_handles_and_names(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    let group = Group::new(FAN_REPORT_FID | FAN_REPORT_DIR_FID | FAN_REPORT_NAME)
        .or_fail("fanotify_init")?;
    const MASK: u64 = 0x2 | 0x4 | 0x40 | 0x80 | 0x100 | 0x200;
    group
        .mark(&dir, 0, MASK | FAN_ONDIR | FAN_EVENT_ON_CHILD)
        .or_fail("fanotify_mark")?;
    let file = File::create(dir.join("file"))?;
    let handle = handle_of(&file.path)?;
    file.write_at(b"x", 0)?;
    chmod(&file.path, 0o600).or_fail("chmod")?;
    let events = group.seen()?;
    // The kernel may merge events that were not read yet.
    let all: String = words(&events).join(" ");
    for word in ["create", "modify", "attrib", "file"] {
        expect(all.contains(word), format_args!("{word} is in {all:?}"))?;
    }
    let parent = handle_of(&dir)?.identity();
    for event in &events {
        for (kind, handle_kind, bytes, name) in &event.handles {
            // A record of a directory and a name in it, or of the file itself.
            let of_directory = *kind != 1;
            let expected = if of_directory {
                parent.clone()
            } else {
                handle.identity()
            };
            expect_eq(
                (*handle_kind, bytes.clone()),
                expected,
                format_args!("the handle of {} {name}", event.what),
            )?;
        }
        expect(!event.handles.is_empty(), "an event has a handle")?;
    }
    rename(&file.path, dir.join("moved")).or_fail("rename")?;
    unlink(dir.join("moved")).or_fail("unlink")?;
    let all: String = words(&group.seen()?).join(" ");
    for word in ["moved-from", "moved-to", "delete", "moved"] {
        expect(all.contains(word), format_args!("{word} is in {all:?}"))?;
    }
    Ok(())
}

fn fanotify_watches_a_whole_filesystem(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let group = Group::new(FAN_REPORT_FID).or_fail("fanotify_init")?;
    group
        .mark(&t.dir, FAN_MARK_FILESYSTEM, 0x2)
        .or_fail("fanotify_mark(FAN_MARK_FILESYSTEM)")?;
    file.write_at(b"x", 0)?;
    let handle = handle_of(&file.path)?.identity();
    let found = group.seen()?.iter().any(|event| {
        let mut handles = event.handles.iter();
        handles.any(|(_, kind, bytes, _)| (*kind, bytes) == (handle.0, &handle.1))
    });
    expect(
        found,
        "there is an event of the write, with the handle of the file",
    )
}

/// Waits for events.
fn wait_for(group: &Group) -> Outcome<Vec<Event>> {
    let mut events = Vec::new();
    eventually("an event comes", || {
        events = group.seen()?;
        Ok(!events.is_empty())
    })?;
    Ok(events)
}

/// Answers all events until the child has ended, allowing or denying.
fn answer_until(group: &Group, child: Child, allow: bool) -> Outcome<usize> {
    let mut asked = 0;
    while !child.is_over() {
        for event in group.seen()? {
            if let Some(file) = &event.file {
                asked += 1;
                group.answer(file, allow)?;
            }
        }
        sleep_ms(1);
    }
    child.join()?;
    Ok(asked)
}

fn opening_asks_for_permission(t: &Test) -> Outcome {
    let path = t.create_with("file", b"data")?.path.clone();
    let group = Group::new(FAN_CLASS_CONTENT).or_fail("fanotify_init")?;
    group
        .mark(&path, 0, FAN_OPEN_PERM)
        .or_fail("fanotify_mark(FAN_OPEN_PERM)")?;
    let child = Child::spawn(|| {
        File::open(&path, libc::O_RDONLY)
            .or_fail("open")?
            .expect_contents(b"data", "allowed")
    })?;
    let events = wait_for(&group)?;
    expect_eq(events[0].mask, FAN_OPEN_PERM, "the permission asked for")?;
    expect(!child.is_over(), "open waits for the answer")?;
    let asked = events[0]
        .file
        .as_ref()
        .ok_or("none")
        .or_fail("the descriptor of the file")?;
    expect_eq(
        crate::sys::read_all(asked, 10)?,
        b"data",
        "the bytes that the listener reads",
    )?;
    group.answer(asked, true)?;
    child.join()?;
    let child = Child::spawn(|| {
        let flags = libc::O_RDWR | libc::O_TRUNC;
        expect_errno(File::open(&path, flags), libc::EPERM, "open that is denied")
    })?;
    answer_until(&group, child, false)?;
    drop(group);
    File::open(&path, libc::O_RDONLY)
        .or_fail("open")?
        .expect_contents(b"data", "in the end")
}

fn reading_asks_for_permission(t: &Test) -> Outcome {
    let data = blocks(1, 4);
    let file = t.create_with("file", &data)?;
    let group = Group::new(FAN_CLASS_CONTENT).or_fail("fanotify_init")?;
    group
        .mark(&file.path, 0, FAN_ACCESS_PERM)
        .or_fail("fanotify_mark(FAN_ACCESS_PERM)")?;
    let opened = file.reopen(libc::O_RDONLY)?;
    let other = t.create("other")?;
    for allow in [true, false] {
        let child = Child::spawn(|| {
            let mut bytes = vec![0; 100];
            let read = opened.try_pread(&mut bytes, 10);
            let copied = copy_once(&opened, 0, &other, 0, 4096);
            for (what, result) in [("pread", read), ("copy_file_range", copied)] {
                if allow {
                    result.or_fail(what)?;
                } else {
                    expect_errno(result, libc::EPERM, what)?;
                }
            }
            Ok(())
        })?;
        let asked = answer_until(&group, child, allow)?;
        expect(asked >= 2, format_args!("{asked} questions for two calls"))?;
    }
    // Writes have no permission event.
    file.write_at(b"x", 0)
}
