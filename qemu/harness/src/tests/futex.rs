// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Futexes and process-shared locks in shared mappings, while the file is cloned.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Failure, Outcome, Sys};
use crate::filesystem::CLONES;
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::Child;
use crate::sys::{check, clone_file, new_clone, unlink, File};

pub const CASES: &[Case] = &[
    case!(a_waiter_in_another_process_is_woken),
    case!(a_waiter_through_a_read_only_mapping_is_woken),
    case!(a_futex_in_a_hole_works),
    case!(a_futex_that_was_only_read_works),
    case!(a_futex_in_a_private_mapping_works),
    case!(a_futex_in_another_page_or_file_does_not_wake),
    case!(a_futex_works_after_a_clone).needs(CLONES),
    case!(a_waiter_sleeps_on_through_a_clone_and_is_woken).needs(CLONES),
    case!(a_clones_futex_is_another_one).needs(CLONES),
    case!(a_futex_works_in_source_and_clone_at_once).needs(CLONES),
    case!(a_futex_works_after_the_other_owner_is_gone).needs(CLONES),
    case!(a_process_shared_mutex_protects_a_counter),
    case!(a_robust_mutex_survives_its_dead_owner),
    case!(robust_mutexes_hold_while_clones_are_taken).needs(CLONES),
    case!(robust_mutexes_hold_while_the_file_is_deduplicated).needs(CLONES),
    case!(a_condition_variable_works_across_processes),
    case!(a_semaphore_works_across_processes),
];

fn futex_wait(map: &Mapping, offset: usize, value: u32, limit: Duration) -> Sys {
    let timeout = libc::timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    let word = map.at(offset);
    // SAFETY: the kernel checks the address itself.
    check(unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, value, &timeout) })
        .map(|_| ())
}

pub fn futex_wake(map: &Mapping, offset: usize) -> Sys<usize> {
    // SAFETY: the kernel checks the address itself.
    check(unsafe { libc::syscall(libc::SYS_futex, map.at(offset), libc::FUTEX_WAKE, i32::MAX) })
}

const LONG: Duration = Duration::from_secs(240);

/// Waits in a child until the word at `offset` is no longer 0.
pub fn waiter(map: &Mapping, offset: usize) -> Outcome<Child> {
    Child::spawn(move || {
        let deadline = Instant::now() + LONG;
        while map.word32(offset).load(SeqCst) == 0 {
            expect(Instant::now() < deadline, "the waiter is woken")?;
            match futex_wait(map, offset, 0, LONG) {
                Ok(()) | Err(Errno(libc::EAGAIN | libc::EINTR)) => {}
                Err(error) => return Err(error).or_fail("FUTEX_WAIT"),
            }
        }
        Ok(())
    })
}

/// Changes the word, and wakes until a waiter was reached.
pub fn wake_one(map: &Mapping, offset: usize) -> Outcome {
    // The waiter must be asleep first: only then does the wake-up prove anything.
    let deadline = Instant::now() + LONG;
    loop {
        if futex_wake(map, offset).or_fail("FUTEX_WAKE")? > 0 {
            break;
        }
        expect(
            Instant::now() < deadline,
            "a waiter sleeps on the word that is woken",
        )?;
        std::thread::sleep(Duration::from_millis(2));
    }
    map.word32(offset).store(1, SeqCst);
    futex_wake(map, offset).or_fail("FUTEX_WAKE")?;
    Ok(())
}

/// Maps a file twice.
fn two_mappings(file: &File) -> Outcome<(Mapping, Mapping)> {
    Ok((Mapping::shared(file, BLOCK)?, Mapping::shared(file, BLOCK)?))
}

/// Makes a file of zeros whose page is mapped writable, clones it, and maps the clone.
fn mapped_file_and_clone(t: &Test) -> Outcome<[(File, Mapping); 2]> {
    let file = t.create_with("file", &[0; BLOCK])?;
    let map = Mapping::shared(&file, BLOCK)?;
    map.word32(0).store(0, SeqCst);
    let clone = new_clone(&file, t.path("clone"))?;
    let clone_map = Mapping::shared(&clone, BLOCK)?;
    Ok([(file, map), (clone, clone_map)])
}

/// Expects a waiter to sleep in `at` until it is woken by way of `by`.
fn expect_woken(at: &Mapping, by: &Mapping, offset: usize) -> Outcome {
    let child = waiter(at, offset)?;
    wake_one(by, offset)?;
    child.join()
}

/// Expects that no thread sleeps on this word.
#[track_caller]
fn expect_none_woken(map: &Mapping, offset: usize, what: &str) -> Outcome {
    expect_eq(futex_wake(map, offset).or_fail("FUTEX_WAKE")?, 0, what)
}

fn a_waiter_in_another_process_is_woken(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; BLOCK])?;
    let (one, other) = two_mappings(&file)?;
    one.word32(100).store(0, SeqCst);
    expect_woken(&one, &other, 100)
}

fn a_waiter_through_a_read_only_mapping_is_woken(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; BLOCK])?;
    let writer = Mapping::shared(&file, BLOCK)?;
    writer.word32(0).store(0, SeqCst);
    let reader = Mapping::shared_read(&file.reopen(libc::O_RDONLY)?, BLOCK)?;
    expect_woken(&reader, &writer, 0)
}

fn a_futex_in_a_hole_works(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(BLOCK64)?;
    let (one, other) = two_mappings(&file)?;
    expect_woken(&one, &other, 8)
}

fn a_futex_that_was_only_read_works(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; 2 * BLOCK])?;
    let map = Mapping::shared(&file, 2 * BLOCK)?;
    map.load_all();
    expect_none_woken(&map, BLOCK, "woken")?;
    let none = futex_wait(&map, BLOCK, 1, LONG);
    expect_errno(none, libc::EAGAIN, "FUTEX_WAIT for another value")?;
    expect_woken(&map, &map, BLOCK)
}

fn a_futex_in_a_private_mapping_works(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; BLOCK])?;
    let map = Mapping::private(&file, BLOCK)?;
    expect_none_woken(&map, 0, "woken")?;
    let none = futex_wait(&map, 0, 1, LONG);
    expect_errno(none, libc::EAGAIN, "FUTEX_WAIT for another value")?;
    let short = futex_wait(&map, 0, 0, Duration::from_millis(20));
    expect_errno(short, libc::ETIMEDOUT, "FUTEX_WAIT without a wake-up")
}

fn a_futex_in_another_page_or_file_does_not_wake(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; 2 * BLOCK])?;
    let other = t.create_with("other", &[0; 2 * BLOCK])?;
    let map = Mapping::shared(&file, 2 * BLOCK)?;
    let other_map = Mapping::shared(&other, 2 * BLOCK)?;
    let child = waiter(&map, 0)?;
    std::thread::sleep(Duration::from_millis(50));
    expect_none_woken(&map, BLOCK, "woken in another page")?;
    expect_none_woken(&map, 4, "woken in another word")?;
    expect_none_woken(&other_map, 0, "woken in another file")?;
    wake_one(&map, 0)?;
    child.join()
}

fn a_futex_works_after_a_clone(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; BLOCK])?;
    let (one, other) = two_mappings(&file)?;
    for i in 0..t.rounds(10) {
        one.word32(0).store(0, SeqCst);
        new_clone(&file, t.path(&format!("clone-{i}")))?;
        expect_woken(&one, &other, 0)?;
    }
    Ok(())
}

fn a_waiter_sleeps_on_through_a_clone_and_is_woken(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; BLOCK])?;
    let (one, other) = two_mappings(&file)?;
    one.word32(0).store(0, SeqCst);
    for i in 0..t.rounds(5) {
        one.word32(0).store(0, SeqCst);
        let child = waiter(&one, 0)?;
        std::thread::sleep(Duration::from_millis(30));
        let clone = new_clone(&file, t.path(&format!("clone-{i}")))?;
        // This store replaces the page itself; the waiter must be found nevertheless.
        other.word32(64).store(7, SeqCst);
        wake_one(&other, 0)?;
        child.join()?;
        expect_eq(clone.read_at(0, 4)?, [0; 4], "the word in the clone")?;
    }
    Ok(())
}

fn a_clones_futex_is_another_one(t: &Test) -> Outcome {
    let [(_, map), (_, clone_map)] = mapped_file_and_clone(t)?;
    clone_map.load_all();
    let child = waiter(&map, 0)?;
    std::thread::sleep(Duration::from_millis(50));
    expect_none_woken(
        &clone_map,
        0,
        "waiters of the source woken through the clone",
    )?;
    clone_map.word32(0).store(5, SeqCst);
    expect_none_woken(
        &clone_map,
        0,
        "waiters of the source woken through the clone after a store",
    )?;
    wake_one(&map, 0)?;
    child.join()
}

fn a_futex_works_in_source_and_clone_at_once(t: &Test) -> Outcome {
    let [(_, map), (_, clone_map)] = mapped_file_and_clone(t)?;
    let (a, b) = (waiter(&map, 0)?, waiter(&clone_map, 0)?);
    wake_one(&clone_map, 0)?;
    b.join()?;
    wake_one(&map, 0)?;
    a.join()
}

fn a_futex_works_after_the_other_owner_is_gone(t: &Test) -> Outcome {
    let [source, (_, clone_map)] = mapped_file_and_clone(t)?;
    // The source mapped the block for writing, and is removed with its mapping.
    drop(source);
    unlink(t.path("file")).or_fail("unlink")?;
    clone_map.word32(0).store(0, SeqCst);
    expect_woken(&clone_map, &clone_map, 0)
}

/// A robust, process-shared mutex at the start of a mapping.
struct Mutex<'a>(&'a Mapping, usize);

fn posix(result: i32, doing: &str) -> Outcome {
    match result {
        0 => Ok(()),
        error => Err(Failure::new(format_args!("{doing}: {}", Errno(error)))),
    }
}

impl Mutex<'_> {
    fn raw(&self) -> *mut libc::pthread_mutex_t {
        self.0.at(self.1).cast()
    }

    fn initialise(&self, robust: bool) -> Outcome {
        // SAFETY: the mapping has room for a mutex, suitably aligned; the attributes are local.
        unsafe {
            let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
            posix(
                libc::pthread_mutexattr_init(&mut attributes),
                "pthread_mutexattr_init",
            )?;
            libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            if robust {
                libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
            }
            posix(
                libc::pthread_mutex_init(self.raw(), &attributes),
                "pthread_mutex_init",
            )
        }
    }

    fn lock(&self) -> i32 {
        // SAFETY: the mutex was initialised.
        unsafe { libc::pthread_mutex_lock(self.raw()) }
    }

    fn unlock(&self) -> Outcome {
        // SAFETY: the mutex was locked by us.
        posix(
            unsafe { libc::pthread_mutex_unlock(self.raw()) },
            "pthread_mutex_unlock",
        )
    }
}

/// Starts children that add to a counter under the lock until `meanwhile` has been done `turns`
/// times.
fn add_under_lock(
    file: &File,
    robust: bool,
    turns: usize,
    mut meanwhile: impl FnMut(usize) -> Outcome,
) -> Outcome {
    const PROCESSES: usize = 4;
    const STOP: usize = BLOCK + 1024;
    const OWN: usize = BLOCK + 2048;
    let map = Mapping::shared(file, 2 * BLOCK)?;
    Mutex(&map, 0).initialise(robust)?;
    let children = (0..PROCESSES)
        .map(|number| {
            Child::spawn(move || {
                let map = Mapping::shared(file, 2 * BLOCK)?;
                let mutex = Mutex(&map, 0);
                while map.word(STOP).load(SeqCst) == 0 {
                    posix(mutex.lock(), "pthread_mutex_lock")?;
                    // Not atomic: only the lock makes it right. In both pages.
                    for offset in [64, BLOCK + 64] {
                        let word = map.word(offset);
                        word.store(word.load(SeqCst) + 1, SeqCst);
                    }
                    mutex.unlock()?;
                    map.word(OWN + 8 * number).fetch_add(1, SeqCst);
                }
                Ok(())
            })
        })
        .collect::<Outcome<Vec<_>>>()?;
    let own = |number| map.word(OWN + 8 * number).load(SeqCst);
    let mut turn = 0;
    // Each child has had the lock and all turns were taken, unless a child failed.
    while (turn < turns || (0..PROCESSES).any(|number| own(number) == 0))
        && !children.iter().any(|child| child.is_over())
    {
        meanwhile(turn)?;
        turn += 1;
    }
    map.word(STOP).store(1, SeqCst);
    children.into_iter().try_for_each(|child| child.join())?;
    let additions: u64 = (0..PROCESSES).map(own).sum();
    for offset in [64, BLOCK + 64] {
        expect_eq(
            map.word(offset).load(SeqCst),
            additions,
            "additions under the lock",
        )?;
    }
    expect_eq(
        file.read_at(64, 8)?,
        additions.to_le_bytes(),
        "the counter in the file",
    )
}

fn a_process_shared_mutex_protects_a_counter(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; 2 * BLOCK])?;
    add_under_lock(&file, false, t.rounds(100), |_| {
        std::thread::sleep(Duration::from_millis(5));
        Ok(())
    })
}

fn a_robust_mutex_survives_its_dead_owner(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; BLOCK])?;
    let map = Mapping::shared(&file, BLOCK)?;
    let mutex = Mutex(&map, 0);
    mutex.initialise(true)?;
    let dead = Child::spawn(|| {
        let map = Mapping::shared(&file, BLOCK)?;
        posix(Mutex(&map, 0).lock(), "pthread_mutex_lock")?;
        // SAFETY: dies with the lock held, on purpose.
        unsafe { libc::_exit(0) }
    })?;
    dead.join()?;
    if t.filesystem != crate::filesystem::Tmpfs {
        new_clone(&file, t.path("clone"))?;
    }
    expect_eq(
        Errno(mutex.lock()),
        Errno(libc::EOWNERDEAD),
        "locking after the owner died",
    )?;
    // SAFETY: the mutex is locked by us.
    posix(
        unsafe { libc::pthread_mutex_consistent(mutex.raw()) },
        "pthread_mutex_consistent",
    )?;
    mutex.unlock()?;
    posix(mutex.lock(), "locking it again")?;
    mutex.unlock()
}

fn robust_mutexes_hold_while_clones_are_taken(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; 2 * BLOCK])?;
    add_under_lock(&file, true, t.rounds(300), |turn| {
        let path = t.path(&format!("clone-{}", turn % 8));
        let clone = new_clone(&file, &path)?;
        let (one, other) = (clone.contents()?, clone.contents()?);
        expect(one == other, "a clone does not change")?;
        if turn % 3 == 0 {
            unlink(&path).or_fail("unlink")?;
        }
        Ok(())
    })
}

fn robust_mutexes_hold_while_the_file_is_deduplicated(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; 2 * BLOCK])?;
    let other = t.create_with("other", &[0; 2 * BLOCK])?;
    add_under_lock(&file, true, t.rounds(200), |_| {
        // Made equal, then shared, then (by the next store) separate again.
        clone_file(&file, &other).or_fail("FICLONE")?;
        crate::sys::dedupe(&file, 0, 2 * BLOCK64, &other, 0).or_fail("FIDEDUPERANGE")?;
        crate::sys::dedupe(&other, 0, 2 * BLOCK64, &file, 0).or_fail("FIDEDUPERANGE back")?;
        Ok(())
    })
}

fn a_condition_variable_works_across_processes(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(0, 2))?;
    file.write_at(&[0; 2 * BLOCK], 0)?;
    let map = Mapping::shared(&file, 2 * BLOCK)?;
    let mutex = Mutex(&map, 0);
    mutex.initialise(false)?;
    // The condition variable is in the second page.
    let condition = map.at(BLOCK).cast::<libc::pthread_cond_t>();
    // SAFETY: the mapping has room for a condition variable; the attributes are local.
    unsafe {
        let mut attributes: libc::pthread_condattr_t = std::mem::zeroed();
        posix(
            libc::pthread_condattr_init(&mut attributes),
            "pthread_condattr_init",
        )?;
        libc::pthread_condattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
        posix(
            libc::pthread_cond_init(condition, &attributes),
            "pthread_cond_init",
        )?;
    }
    let rounds = t.rounds(200) as u64;
    // Takes turns: each side waits until the number is its own.
    let play = |map: &Mapping, odd: u64| -> Outcome {
        let mutex = Mutex(map, 0);
        let condition = map.at(BLOCK).cast::<libc::pthread_cond_t>();
        loop {
            posix(mutex.lock(), "pthread_mutex_lock")?;
            let word = map.word(128);
            while word.load(SeqCst) % 2 != odd && word.load(SeqCst) < rounds {
                // SAFETY: both were initialised and the mutex is ours.
                posix(
                    unsafe { libc::pthread_cond_wait(condition, mutex.raw()) },
                    "pthread_cond_wait",
                )?;
            }
            let over = word.load(SeqCst) >= rounds;
            word.store(word.load(SeqCst) + 1, SeqCst);
            // SAFETY: initialised above.
            posix(
                unsafe { libc::pthread_cond_broadcast(condition) },
                "pthread_cond_broadcast",
            )?;
            mutex.unlock()?;
            if over {
                return Ok(());
            }
        }
    };
    let child = Child::spawn(|| play(&Mapping::shared(&file, 2 * BLOCK)?, 1))?;
    play(&map, 0)?;
    child.join()?;
    expect(map.word(128).load(SeqCst) >= rounds, "all turns were taken")
}

fn a_semaphore_works_across_processes(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; BLOCK])?;
    let map = Mapping::shared(&file, BLOCK)?;
    let semaphore = map.at(0).cast::<libc::sem_t>();
    // SAFETY: the mapping has room for a semaphore.
    check(unsafe { libc::sem_init(semaphore, 1, 0) }).or_fail("sem_init")?;
    let rounds = t.rounds(200);
    let child = Child::spawn(|| {
        for _ in 0..rounds {
            // SAFETY: initialised above, in shared memory.
            check(unsafe { libc::sem_post(semaphore) }).or_fail("sem_post")?;
        }
        Ok(())
    })?;
    for _ in 0..rounds {
        // SAFETY: as above.
        check(unsafe { libc::sem_wait(semaphore) }).or_fail("sem_wait")?;
    }
    child.join()
}
