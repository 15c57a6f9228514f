// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Calls whose buffer is a page that does not come: they hold up neither forks nor others.

use std::sync::mpsc::{channel, Receiver, Sender};
use std::time::Duration;

use super::contents::fork;
use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, Context, Outcome, Sys};
use crate::filesystem::FORKS;
use crate::instance::Instance;
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::stall::Stall;
use crate::sys::{check, mkdir, new_clone, pread_to, pwrite_from, rename, sleep_ms, unlink, File};
use crate::tests::xattr;

pub const CASES: &[Case] = &[
    case!(a_call_that_waits_for_its_buffer_holds_up_nothing).needs(FORKS),
    case!(a_fork_is_made_beside_a_write_that_goes_on).needs(FORKS),
];

/// How soon a fork must be there.
const SOON: Duration = Duration::from_secs(2);

/// A call that uses a buffer of one page on a file.
type Call = fn(&File, *mut u8) -> Sys<usize>;

const CALLS: &[(&str, Call)] = &[
    ("a write in place", |file, buffer| {
        pwrite_from(file, buffer, BLOCK, BLOCK as i64)
    }),
    ("a write of a part of a block", |file, buffer| {
        pwrite_from(file, buffer, 100, BLOCK as i64 + 50)
    }),
    ("a write over two blocks", |file, buffer| {
        pwrite_from(file, buffer, BLOCK, BLOCK as i64 + 50)
    }),
    ("an append", |file, buffer| {
        pwrite_from(file, buffer, BLOCK, 4 * BLOCK as i64 + 5)
    }),
    ("a write to a hole", |file, buffer| {
        pwrite_from(file, buffer, BLOCK, 2000 * BLOCK as i64)
    }),
    ("a write whose first page is there", |file, buffer| {
        let there = [b'T'; BLOCK];
        let vector = |base: *const u8| libc::iovec {
            iov_base: base.cast_mut().cast(),
            iov_len: BLOCK,
        };
        let vectors = [vector(there.as_ptr()), vector(buffer)];
        let fd = std::os::fd::AsRawFd::as_raw_fd(file);
        // SAFETY: two buffers, which the kernel checks.
        check(unsafe { libc::pwritev(fd, vectors.as_ptr(), 2, 0) } as i64)
    }),
    ("a read", |file, buffer| pread_to(file, buffer, BLOCK, 0)),
    ("setxattr", |file, buffer| {
        let path = crate::sys::c_path(&file.path);
        let name = c"user.stalled".as_ptr();
        // SAFETY: path and name are NUL-terminated, the kernel checks the value.
        check(unsafe { libc::setxattr(path.as_ptr(), name, buffer.cast(), 100, 0) })
    }),
    ("readdir", |file, buffer| {
        let dir = file.path.parent().unwrap_or(&file.path);
        let dir = File::open(dir, libc::O_RDONLY)?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&dir);
        // SAFETY: the kernel checks the buffer.
        check(unsafe { libc::syscall(libc::SYS_getdents64, fd, buffer, BLOCK) })
    }),
];

/// Changes another file, and names.
fn change_others(base: &Instance) -> Outcome {
    let other = File::open(base.path("other"), libc::O_RDWR).or_fail("open")?;
    other.write_at(&blocks(3, 2), 0)?;
    other.write_at(&blocks(3, 1), 50 * BLOCK64)?;
    let map = Mapping::shared(&other, BLOCK)?;
    map.store(0, b"stored");
    xattr::set(base.path("other"), "user.other", b"value", 0).or_fail("setxattr")?;
    base.create("dir/new")?;
    rename(base.path("dir/new"), base.path("dir/moved")).or_fail("rename")?;
    unlink(base.path("dir/moved")).or_fail("unlink")
}

/// Runs a step, and hands on its result.
fn send<T: Send>(to: Sender<Outcome<T>>, step: impl FnOnce() -> Outcome<T>) {
    let _ = to.send(step());
}

#[track_caller]
fn expect_soon<T>(from: &Receiver<Outcome<T>>, what: &str) -> Outcome<T> {
    from.recv_timeout(SOON)
        .or_fail(format_args!("{what}, within {SOON:?}"))?
}

/// Lets a call wait for its buffer while a fork is made and other files change. A thread that the
/// call holds up goes on when that has its page.
fn stall(t: &Test, base: &Instance, name: &str, call: Call, file: &File) -> Outcome {
    let stall = Stall::new()?;
    let buffer = stall.buffer().at(0) as usize;
    let before = file.contents()?;
    let ((fork_to, forked), (change_to, changed)) = (channel(), channel());
    let result = std::thread::scope(|scope| {
        stall.during(
            || call(file, buffer as *mut u8),
            b'S',
            || {
                scope.spawn(|| send(fork_to, || fork(t, base, name)));
                // While the fork is made.
                sleep_ms(5);
                scope.spawn(|| send(change_to, || change_others(base)));
                let copy = expect_soon(&forked, "a fork")?;
                expect_soon(&changed, "other changes")?;
                let there = File::open(copy.path("file"), libc::O_RDWR).or_fail("open")?;
                let seen = there.contents()?;
                // What came before the page may be there.
                let first = usize::from(seen[0] == b'T') * BLOCK;
                expect_eq(&seen[first..], &before[first..], "in the fork")?;
                there.write_at(b"of the fork", 9)?;
                drop(there);
                change_others(&copy)?;
                copy.unmount()?;
                change_others(base)
            },
        )
    })?;
    result.or_fail("the call").map(drop)
}

fn a_call_that_waits_for_its_buffer_holds_up_nothing(t: &Test) -> Outcome {
    for (i, (what, call)) in CALLS.iter().enumerate() {
        for (k, how) in ["its own", "a clone's", "mapped", "an earlier fork's"]
            .into_iter()
            .enumerate()
        {
            let name = |kind: &str| format!("{kind} {i} {k}");
            let base = t.mount_at(&name("base"), &[])?;
            mkdir(base.path("dir"), 0o755).or_fail("mkdir")?;
            base.create_with("other", &blocks(2, 3))?;
            let file = base.create_with("file", &blocks(1, 4))?;
            let _map = match k {
                2 => Some(Mapping::shared(&file, 4 * BLOCK)?),
                _ => None,
            };
            if let Some(map) = &_map {
                map.store(BLOCK, b"stored");
            }
            if k == 1 {
                new_clone(&file, base.path("clone"))?;
            }
            let _earlier = match k {
                3 => Some(fork(t, &base, &name("earlier"))?),
                _ => None,
            };
            let what = format!("{what}, of blocks that are {how}");
            stall(t, &base, &name("fork"), *call, &file).or_fail(what)?;
        }
    }
    Ok(())
}

/// When the page has come, the bytes are in the base, not in the fork.
fn a_fork_is_made_beside_a_write_that_goes_on(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    let data = blocks(1, 4);
    let file = base.create_with("file", &data)?;
    let mut copies = Vec::new();
    for (i, (at, len)) in [(0, BLOCK), (100, 3000), (3000, BLOCK), (3 * BLOCK, BLOCK)]
        .into_iter()
        .enumerate()
    {
        let before = file.contents()?;
        let stall = Stall::new()?;
        let buffer = stall.buffer().at(0) as usize;
        let mut copy = None;
        let call = || pwrite_from(&file, buffer as *const u8, len, at as i64);
        let written = stall.during(call, b'W', || {
            copy = Some(fork(t, &base, &format!("fork{i}"))?);
            Ok(())
        })?;
        expect_eq(written.or_fail("pwrite")?, len, "bytes written")?;
        let mut after = before.clone();
        after[at..at + len].fill(b'W');
        file.expect_contents(&after, "the base")?;
        copies.extend(copy.map(|copy| (copy, before)));
    }
    for (copy, expected) in &copies {
        let there = File::open(copy.path("file"), libc::O_RDONLY).or_fail("open")?;
        there.expect_contents(expected, "a fork")?;
    }
    Ok(())
}
