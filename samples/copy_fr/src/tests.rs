// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Tests on any filesystem: that of `TMPDIR`. Sharing must work there, or return `EOPNOTSUPP`.

use crate::{copy_range, copy_range_fallback, Cloned, Done, Mode};
use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::PathBuf,
    process,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

/// Larger than the buffer, and not aligned.
const SIZE: usize = (1 << 20) + 123;
/// The block size of most filesystems, or a multiple of it.
const BLOCK: usize = 1 << 16;

const FLAGGED: [Mode; 3] = [Mode::Copy, Mode::Reflink, Mode::Dedup];

type Call = fn(
    BorrowedFd<'_>,
    Option<&mut u64>,
    BorrowedFd<'_>,
    Option<&mut u64>,
    usize,
    Mode,
) -> io::Result<Done>;

/// Both functions, with the same results.
const CALLS: [Call; 2] = [
    |from, from_pos, to, to_pos, len, mode| copy_range(from, from_pos, to, to_pos, len, mode),
    |from, from_pos, to, to_pos, len, mode| {
        copy_range_fallback(from, from_pos, to, to_pos, len, mode)
    },
];

struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);

        let name = format!("copy_fr-{}-{}", process::id(), NEXT.fetch_add(1, Relaxed));
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> File {
        fs::write(self.0.join(name), bytes).unwrap();
        self.open(name, OpenOptions::new().read(true).write(true))
    }

    fn open(&self, name: &str, options: &OpenOptions) -> File {
        options.open(self.0.join(name)).unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i / 7) as u8 ^ seed).collect()
}

/// Makes a call with both positions given, and checks their advance. Returns the result.
fn at(
    call: Call,
    (from, from_pos): (&File, u64),
    (to, to_pos): (&File, u64),
    len: usize,
    mode: Mode,
) -> Result<Done, i32> {
    let (mut from_now, mut to_now) = (from_pos, to_pos);
    let result = call(
        from.as_fd(),
        Some(&mut from_now),
        to.as_fd(),
        Some(&mut to_now),
        len,
        mode,
    );
    let moved = result.as_ref().map_or(0, |done| done.bytes as u64);
    assert_eq!((from_now, to_now), (from_pos + moved, to_pos + moved));
    result.map_err(|err| err.raw_os_error().unwrap())
}

/// Returns whether the result is that of a filesystem that cannot share.
fn cannot_share(result: &Result<Done, i32>) -> bool {
    *result == Err(libc::EOPNOTSUPP)
}

fn done(bytes: usize, cloned: Cloned) -> Result<Done, i32> {
    Ok(Done { bytes, cloned })
}

#[test]
fn copy_takes_any_alignment() {
    for call in CALLS {
        for (from_pos, to_pos, len) in [(0, 0, SIZE), (1, 0, SIZE - 1), (0, 77, 9), (4096, 5, 1)] {
            let dir = Dir::new();
            let (source, old) = (pattern(SIZE, 0), pattern(SIZE, 1));
            let (from, to) = (dir.file("from", &source), dir.file("to", &old));
            let result = at(
                call,
                (&from, from_pos as u64),
                (&to, to_pos as u64),
                len,
                Mode::Copy,
            );
            assert_eq!(result, done(len, Cloned::No));
            let mut expected = old;
            expected.resize(SIZE.max(to_pos + len), 0);
            expected[to_pos..to_pos + len].copy_from_slice(&source[from_pos..from_pos + len]);
            assert!(dir.bytes("to") == expected);
        }
    }
}

#[test]
fn auto_copies() {
    for call in CALLS {
        let dir = Dir::new();
        let (from, to) = (dir.file("from", &pattern(SIZE, 0)), dir.file("to", b""));
        let result = at(call, (&from, 0), (&to, 0), SIZE + 1, Mode::Auto);
        assert_eq!(result.map(|done| done.bytes), Ok(SIZE));
        assert!(dir.bytes("to") == pattern(SIZE, 0));
    }
}

#[test]
fn reflink_shares_or_fails() {
    for call in CALLS {
        let dir = Dir::new();
        let (from, to) = (dir.file("from", &pattern(SIZE, 0)), dir.file("to", b""));
        let result = at(call, (&from, 0), (&to, 0), SIZE, Mode::Reflink);
        if cannot_share(&result) {
            assert!(dir.bytes("to").is_empty());
            continue;
        }
        assert_eq!(result, done(SIZE, Cloned::Yes));
        assert!(dir.bytes("to") == pattern(SIZE, 0));
        // The last partial block would replace bytes after it.
        to.set_len(4 * SIZE as u64).unwrap();
        let result = at(call, (&from, 0), (&to, 0), SIZE, Mode::Reflink);
        assert_eq!(result, Err(libc::EINVAL));
        for (from_pos, to_pos, len) in [(1, 0, BLOCK), (0, 1, BLOCK), (0, 0, BLOCK + 1)] {
            let result = at(call, (&from, from_pos), (&to, to_pos), len, Mode::Reflink);
            assert_eq!(result, Err(libc::EINVAL));
        }
    }
}

#[test]
fn dedup_shares_what_is_equal() {
    for call in CALLS {
        let dir = Dir::new();
        let (from, to) = (
            dir.file("from", &pattern(SIZE, 0)),
            dir.file("to", &pattern(SIZE, 0)),
        );
        let result = at(call, (&from, 0), (&to, 0), SIZE, Mode::Dedup);
        if cannot_share(&result) {
            continue;
        }
        assert_eq!(result, done(SIZE, Cloned::Yes));
        for (from_pos, to_pos, len) in [
            (1, 0, BLOCK),
            (0, 1, BLOCK),
            (0, 0, BLOCK + 1),
            (0, BLOCK as u64, SIZE),
        ] {
            let result = at(call, (&from, from_pos), (&to, to_pos), len, Mode::Dedup);
            assert_eq!(result, Err(libc::EINVAL));
        }
        let mut other = pattern(SIZE, 0);
        other[SIZE - 1] ^= 1;
        let to = dir.file("other", &other);
        let result = at(call, (&from, 0), (&to, 0), SIZE, Mode::Dedup);
        assert_eq!(result, Err(libc::EBADE));
        assert!(dir.bytes("other") == other);
    }
}

#[test]
fn dedup_needs_no_read_access_to_the_destination() {
    for call in CALLS {
        let dir = Dir::new();
        let from = dir.file("from", &pattern(SIZE, 0));
        dir.file("to", &pattern(SIZE, 0));
        let to = dir.open("to", OpenOptions::new().write(true));
        let result = at(call, (&from, 0), (&to, 0), SIZE, Mode::Dedup);
        assert!(cannot_share(&result) || result == done(SIZE, Cloned::Yes));
    }
}

#[test]
fn length_0_does_nothing() {
    for call in CALLS {
        for mode in FLAGGED {
            let dir = Dir::new();
            let (from, to) = (dir.file("from", b"123"), dir.file("to", b"12"));
            let result = at(call, (&from, 77), (&to, 99), 0, mode);
            assert!(cannot_share(&result) || result == done(0, Cloned::No));
            assert_eq!(dir.bytes("to"), b"12");
        }
    }
}

#[test]
fn ranges_that_make_no_sense() {
    const END: u64 = 1 << 63;

    for call in CALLS {
        for mode in FLAGGED {
            let dir = Dir::new();
            let (from, to) = (dir.file("from", &pattern(SIZE, 0)), dir.file("to", b""));
            let expect = |from: (&File, u64), to: (&File, u64), len, errno| {
                let result = at(call, from, to, len, mode);
                assert!(
                    cannot_share(&result) || result == Err(errno),
                    "{mode:?} {} {} {len}: {result:?}",
                    from.1,
                    to.1
                );
            };
            expect((&from, 0), (&to, 0), SIZE + 1, libc::EINVAL);
            expect((&from, SIZE as u64), (&to, 0), 1, libc::EINVAL);
            expect((&from, 0), (&from, 0), SIZE, libc::EINVAL);
            expect((&from, 0), (&from, BLOCK as u64), BLOCK + 1, libc::EINVAL);
            expect((&from, END), (&to, 0), 1, libc::EINVAL);
            expect((&from, 0), (&to, u64::MAX), 1, libc::EINVAL);
            expect((&from, END - 1), (&to, 0), 1, libc::EOVERFLOW);
            expect((&from, 0), (&to, END - 4), 4, libc::EOVERFLOW);
            expect((&from, 0), (&to, 0), usize::MAX, libc::EOVERFLOW);
            assert!(dir.bytes("to").is_empty());
        }
    }
}

#[test]
fn files_that_are_refused() {
    for call in CALLS {
        for mode in FLAGGED {
            let dir = Dir::new();
            let (from, to) = (dir.file("from", b"123"), dir.file("to", b"12"));
            let folder = File::open(&dir.0).unwrap();
            let null = dir.open("/dev/null", OpenOptions::new().read(true).write(true));
            let (reading, writing, appending) = (
                dir.open("to", OpenOptions::new().read(true)),
                dir.open("from", OpenOptions::new().write(true)),
                dir.open("to", OpenOptions::new().append(true)),
            );
            for (from, to, errno) in [
                (&folder, &to, libc::EISDIR),
                (&from, &folder, libc::EISDIR),
                (&null, &to, libc::EINVAL),
                (&from, &null, libc::EINVAL),
                (&from, &reading, libc::EBADF),
                (&writing, &to, libc::EBADF),
                (&from, &appending, libc::EBADF),
            ] {
                assert_eq!(at(call, (from, 0), (to, 0), 1, mode), Err(errno));
            }
            assert_eq!(dir.bytes("to"), b"12");
        }
    }
}

#[test]
fn file_positions_move_on() {
    for call in CALLS {
        let dir = Dir::new();
        let (mut from, mut to) = (dir.file("from", b"0123456789"), dir.file("to", b""));
        from.seek(SeekFrom::Start(2)).unwrap();
        to.seek(SeekFrom::Start(1)).unwrap();
        let copied = call(from.as_fd(), None, to.as_fd(), None, 3, Mode::Copy).unwrap();
        assert_eq!(copied.bytes, 3);
        assert_eq!(from.stream_position().unwrap(), 5);
        assert_eq!(to.stream_position().unwrap(), 4);
        assert!(call(from.as_fd(), None, to.as_fd(), None, 6, Mode::Copy).is_err());
        assert_eq!(from.stream_position().unwrap(), 5);
        assert_eq!(to.stream_position().unwrap(), 4);
        assert_eq!(dir.bytes("to"), b"\x00234");
    }
}

/// Takes a POSIX lock for the process.
fn lock(file: &File) {
    let mut lock = all_of_a_file();
    // SAFETY: It takes a `struct flock`.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &mut lock) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

fn all_of_a_file() -> libc::flock {
    // SAFETY: Zeros are a value of it.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock
}

/// Returns whether the process holds a lock on the file, by a check in a child.
fn is_locked(file: &File) -> bool {
    let mut lock = all_of_a_file();
    let mut status = 0;
    // SAFETY: The child makes two system calls, and touches no memory of the other threads.
    unsafe {
        match libc::fork() {
            0 => {
                let result = libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut lock);
                let is_locked = lock.l_type != libc::F_UNLCK as libc::c_short;
                libc::_exit(if result == -1 { 2 } else { is_locked.into() });
            }
            child => assert_eq!(libc::waitpid(child, &mut status, 0), child),
        }
    }
    assert!(libc::WIFEXITED(status));
    match libc::WEXITSTATUS(status) {
        2 => panic!("F_GETLK failed"),
        status => status == 1,
    }
}

#[test]
fn locks_survive_every_call() {
    let dir = Dir::new();
    let held = [
        dir.file("from", &pattern(SIZE, 0)),
        dir.file("to", &pattern(SIZE, 0)),
    ];
    held.iter().for_each(lock);
    // Closed last: closing any of them releases the locks.
    let mut opened = Vec::new();
    for call in CALLS {
        for (mode, flags) in [Mode::Auto, Mode::Copy, Mode::Reflink, Mode::Dedup]
            .into_iter()
            .flat_map(|mode| [0, libc::O_DIRECT, libc::O_APPEND].map(|flags| (mode, flags)))
        {
            let from = OpenOptions::new()
                .read(true)
                .custom_flags(flags & libc::O_DIRECT)
                .open(dir.0.join("from"))
                .unwrap();
            let to = OpenOptions::new()
                .write(true)
                .custom_flags(flags)
                .open(dir.0.join("to"))
                .unwrap();
            for (from_pos, to_pos, len) in [(0, 0, SIZE), (0, 0, BLOCK), (1, 2, 3)] {
                let _ = at(call, (&from, from_pos), (&to, to_pos), len, mode);
                assert!(held.iter().all(is_locked), "{mode:?}, {flags:#o}");
            }
            opened.extend([from, to]);
        }
    }
}

#[test]
fn a_source_open_with_o_direct_is_read_at_any_offset() {
    let dir = Dir::new();
    dir.file("from", &pattern(SIZE, 0));
    let to = dir.file("to", b"");
    let from = dir.open(
        "from",
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECT),
    );
    for (from_pos, len) in [(0, SIZE), (1, SIZE - 1), (4097, 5), (SIZE - 1, 1)] {
        to.set_len(0).unwrap();
        let result = at(
            CALLS[1],
            (&from, from_pos as u64),
            (&to, 0),
            len,
            Mode::Copy,
        );
        assert_eq!(result, done(len, Cloned::No));
        assert!(dir.bytes("to") == pattern(SIZE, 0)[from_pos..from_pos + len]);
    }
}

#[test]
fn holes_stay_holes() {
    const MIB: u64 = 1 << 20;

    let dir = Dir::new();
    let mut from = dir.file("from", b"");
    from.set_len(12 * MIB).unwrap();
    from.write_all_at(b"data", 0).unwrap();
    from.write_all_at(b"more", 6 * MIB + 1).unwrap();
    let bytes = dir.bytes("from");
    for (old, from_pos, len) in [
        (0, 0, 12 * MIB),
        (13 * MIB, 0, 12 * MIB),
        (7 * MIB, MIB + 5, 8 * MIB + 7),
    ] {
        let mut model = pattern(old as usize, 1);
        let to = dir.file("to", &model);
        from.seek(SeekFrom::Start(77)).unwrap();
        let result = at(
            CALLS[1],
            (&from, from_pos),
            (&to, 0),
            len as usize,
            Mode::Copy,
        );
        assert_eq!(result, done(len as usize, Cloned::No));
        assert_eq!(from.stream_position().unwrap(), 77);
        model.resize(model.len().max(len as usize), 0);
        model[..len as usize].copy_from_slice(&bytes[from_pos as usize..][..len as usize]);
        assert!(dir.bytes("to") == model, "{old} {from_pos} {len}");
        let blocks = to.metadata().unwrap().blocks();
        // XFS keeps blocks preallocated behind the last write.
        assert!(blocks < old.max(len) / 512, "{blocks}");
    }
}

/// Without a flag, as programs call it in a loop.
#[test]
fn at_the_end_of_the_source_nothing_is_done() {
    for call in CALLS {
        let dir = Dir::new();
        let (from, to) = (dir.file("from", b"123"), dir.file("to", b""));
        for from_pos in [3, 4] {
            let result = at(call, (&from, from_pos), (&to, 0), 1, Mode::Auto);
            assert_eq!(result, done(0, Cloned::No));
        }
    }
}

#[test]
fn others_may_move_the_position_meanwhile() {
    let dir = Dir::new();
    let (from, to) = (dir.file("from", &pattern(SIZE, 0)), dir.file("to", b""));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                (&to).seek(SeekFrom::Start(0)).unwrap();
            }
        });
        let results: Vec<_> = (0..20)
            .map(|_| copy_range(&from, Some(&mut 0), &to, None, SIZE, Mode::Auto))
            .collect();
        stop.store(true, Relaxed);
        // Some filesystems end before the partial last block.
        for result in results {
            assert!((1..=SIZE).contains(&result.unwrap().bytes));
        }
    });
}

#[test]
fn what_is_compared_is_all_of_it() {
    let dir = Dir::new();
    let bytes = pattern(SIZE, 0);
    let from = dir.file("from", &bytes);
    for at in [0, SIZE / 2, SIZE - 1] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        let other = dir.file("other", &other);
        let same = dir.file("same", &bytes);
        let compare = |to: &File| {
            let range = crate::check::range(from.as_fd(), to.as_fd(), (0, 0), SIZE, Mode::Copy);
            crate::dedupe::compare(&range.unwrap())
        };
        assert!(compare(&same).is_ok());
        assert_eq!(
            compare(&other).unwrap_err().raw_os_error(),
            Some(libc::EBADE)
        );
    }
}

/// Installs a seccomp filter that makes the system call fail for this thread.
fn filter_copy_file_range(errno: i32) {
    let statement = |code, value| libc::sock_filter {
        code,
        jt: 0,
        jf: 0,
        k: value,
    };
    let mut filter = [
        // The number of the system call.
        statement((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0),
        libc::sock_filter {
            jf: 1,
            ..statement(
                (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
                libc::SYS_copy_file_range as u32,
            )
        },
        statement(
            (libc::BPF_RET | libc::BPF_K) as u16,
            libc::SECCOMP_RET_ERRNO | errno as u32,
        ),
        statement(
            (libc::BPF_RET | libc::BPF_K) as u16,
            libc::SECCOMP_RET_ALLOW,
        ),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: The program is valid during the call. It is this thread's only.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

#[test]
fn where_the_call_is_filtered_others_do_it() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        thread::spawn(move || {
            filter_copy_file_range(errno);
            for call in CALLS {
                let dir = Dir::new();
                let bytes = pattern(SIZE, 0);
                let from = dir.file("from", &bytes);
                for mode in [Mode::Auto, Mode::Copy] {
                    let to = dir.file("to", b"");
                    let result = at(call, (&from, 0), (&to, 0), SIZE, mode);
                    assert_eq!(result.map(|done| done.bytes), Ok(SIZE), "{mode:?}");
                    assert!(dir.bytes("to") == bytes);
                }
                let to = dir.file("to", &bytes);
                let result = at(call, (&from, 1), (&to, 0), SIZE, Mode::Auto);
                assert_eq!(result.map(|done| done.bytes), Ok(SIZE - 1));
                for mode in [Mode::Reflink, Mode::Dedup] {
                    let to = dir.file("to", &bytes);
                    let result = at(call, (&from, 0), (&to, 0), SIZE, mode);
                    assert!(cannot_share(&result) || result == done(SIZE, Cloned::Yes));
                }
                let append = dir.open("to", OpenOptions::new().append(true));
                let folder = File::open(&dir.0).unwrap();
                for mode in FLAGGED {
                    for (from, to, errno) in [
                        (&from, &append, libc::EBADF),
                        (&folder, &to, libc::EISDIR),
                        (&from, &from, libc::EINVAL),
                    ] {
                        let result = at(call, (from, 0), (to, 0), 1, mode);
                        assert!(
                            result == Err(errno)
                                || (errno == libc::EINVAL && cannot_share(&result)),
                            "{mode:?} {result:?}"
                        );
                    }
                }
            }
        })
        .join()
        .unwrap();
    }
}
