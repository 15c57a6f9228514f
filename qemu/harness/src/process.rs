// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Steps in child processes: to die of a signal, to run as another user, to be watched.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::failure::{expect, Context, Failure, Outcome, Sys};
use crate::sys::{check, pipe, read_all, write_all};

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Exited(i32),
    Killed(i32),
}

impl End {
    fn of(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Killed(libc::WTERMSIG(status))
        } else {
            Self::Exited(libc::WEXITSTATUS(status))
        }
    }
}

/// A forked process that runs one step.
pub struct Child {
    pid: libc::pid_t,
    report: OwnedFd,
}

static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Keeps the text of a panic for the report instead of printing it.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut last) = LAST_PANIC.lock() {
            *last = info.to_string();
        }
    }));
}

fn report_of(step: impl FnOnce() -> Outcome) -> Outcome {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|_| {
        let text = LAST_PANIC.lock().map(|text| text.clone());
        Err(Failure(format!(
            "the test itself broke: {}",
            text.unwrap_or_default()
        )))
    })
}

impl Child {
    /// Runs `step` in a child, which exits with status 0 if the step succeeds, else 1.
    pub fn spawn(step: impl FnOnce() -> Outcome) -> Outcome<Self> {
        let (report, input) = pipe()?;
        // SAFETY: the child runs the step and exits without returning from here. It uses no locks
        // that other threads may have held at the fork: the C library makes its allocator usable,
        // and nothing else is shared.
        let pid = check(unsafe { libc::fork() }).or_fail("fork")? as libc::pid_t;
        if pid == 0 {
            // SAFETY: plain calls.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            drop(report);
            let outcome = report_of(step);
            if let Err(failure) = &outcome {
                let _ = write_all(&input, failure.0.as_bytes());
            }
            // SAFETY: ends the process without running the parent's exit handlers.
            unsafe { libc::_exit(i32::from(outcome.is_err())) };
        }
        Ok(Self { pid, report })
    }

    pub fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// Returns whether the child has ended, without waiting.
    pub fn is_over(&self) -> bool {
        // SAFETY: a siginfo of zeros is a valid value; WNOWAIT leaves the child to `join`.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            libc::waitid(libc::P_PID, self.pid as u32, &mut info, flags) == 0 && info.si_pid() != 0
        }
    }

    pub fn kill(&self, signal: i32) {
        // SAFETY: the child has not been waited for, so the number is its own.
        unsafe { libc::kill(self.pid, signal) };
    }

    /// Returns the child's system time, in ticks.
    pub fn time_in_kernel(&self) -> Outcome<u64> {
        let path = format!("/proc/{}/stat", self.pid);
        let stat = std::fs::read_to_string(&path).or_fail(format_args!("read {path}"))?;
        // stime is the thirteenth word after the name, which may contain anything.
        let words = stat.rsplit(')').next().unwrap_or_default();
        let ticks = words.split_whitespace().nth(12);
        ticks
            .and_then(|ticks| ticks.parse().ok())
            .ok_or("not there")
            .or_fail("stime")
    }

    /// Waits for the end, at most for `limit`.
    pub fn wait_for(&self, limit: Duration) -> Outcome<Option<End>> {
        // SAFETY: plain call.
        let pidfd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) })
            .or_fail("pidfd_open")?;
        // SAFETY: the kernel just gave us the descriptor.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd as i32) };
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut poll = libc::pollfd {
                fd: pidfd.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one valid pollfd.
            match unsafe { libc::poll(&mut poll, 1, left.as_millis() as i32 + 1) } {
                0 => return Ok(None),
                1 => break,
                _ => continue,
            }
        }
        let mut status = 0;
        // SAFETY: `status` is valid for writing.
        check(unsafe { libc::waitpid(self.pid, &mut status, 0) }).or_fail("waitpid")?;
        Ok(Some(End::of(status)))
    }

    fn wait(&self) -> Outcome<End> {
        match self.wait_for(Duration::from_secs(3600))? {
            Some(end) => Ok(end),
            None => Err(Failure::new("a child process did not end")),
        }
    }

    /// Returns the child's messages.
    pub fn said(&self) -> String {
        // Grandchildren that live on may hold the writing end open. SAFETY: plain call on an open
        // descriptor.
        unsafe { libc::fcntl(self.report.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        let mut text = Vec::new();
        let mut byte = [0];
        while let Ok(1) = crate::sys::read_to(&self.report, byte.as_mut_ptr(), 1) {
            text.push(byte[0]);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Waits for the child, and expects the step to have succeeded.
    #[track_caller]
    pub fn join(self) -> Outcome {
        let end = self.wait()?;
        match end {
            End::Exited(0) => Ok(()),
            End::Exited(_) => Err(Failure(self.said())),
            End::Killed(signal) => Err(Failure::new(format_args!(
                "a child process was killed by {}",
                signal_name(signal)
            ))),
        }
    }

    /// Waits for the child, and returns its end; a failure of the step is a failure of this call.
    pub fn end(self) -> Outcome<End> {
        let end = self.wait()?;
        if end == End::Exited(1) {
            return Err(Failure(self.said()));
        }
        Ok(end)
    }
}

pub fn signal_name(signal: i32) -> String {
    match signal {
        libc::SIGBUS => "SIGBUS".into(),
        libc::SIGSEGV => "SIGSEGV".into(),
        libc::SIGXFSZ => "SIGXFSZ".into(),
        libc::SIGKILL => "SIGKILL".into(),
        libc::SIGPIPE => "SIGPIPE".into(),
        other => format!("signal {other}"),
    }
}

/// Runs a step in a child and waits for it.
#[track_caller]
pub fn in_child(step: impl FnOnce() -> Outcome) -> Outcome {
    Child::spawn(step)?.join()
}

/// Runs a step as an ordinary user without supplementary groups.
#[track_caller]
pub fn as_user(uid: u32, gid: u32, step: impl FnOnce() -> Outcome) -> Outcome {
    in_child(|| {
        become_user(uid, gid)?;
        step()
    })
}

/// Makes this single-threaded process an ordinary user's, without supplementary groups.
#[track_caller]
pub fn become_user(uid: u32, gid: u32) -> Outcome {
    // SAFETY: plain calls in a process with one thread.
    unsafe {
        check(libc::setgroups(0, std::ptr::null())).or_fail("setgroups")?;
        check(libc::setgid(gid)).or_fail("setgid")?;
        check(libc::setuid(uid)).or_fail("setuid")?;
    }
    Ok(())
}

/// Expects a step to end its process by `signal`.
#[track_caller]
pub fn expect_killed(signal: i32, what: &str, step: impl FnOnce()) -> Outcome {
    let end = Child::spawn(|| {
        // SAFETY: plain call; no core files.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
        step();
        Ok(())
    })?
    .end()?;
    expect(
        end == End::Killed(signal),
        format_args!(
            "{what}: expected the process to die of {}, but it {}",
            signal_name(signal),
            match end {
                End::Exited(_) => "went on".to_string(),
                End::Killed(other) => format!("died of {}", signal_name(other)),
            }
        ),
    )
}

/// Raises the limit on open descriptors: removing a tree takes one for each level.
pub fn allow_open_files(count: u64) -> Sys {
    let limit = libc::rlimit {
        rlim_cur: count,
        rlim_max: count,
    };
    // SAFETY: plain call with a valid structure.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).map(|_| ())
}

/// Limits the size of files that this process writes.
#[track_caller]
pub fn limit_file_size(bytes: u64) -> Outcome {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` is valid.
    check(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }).or_fail("setrlimit")?;
    Ok(())
}

static SIGNALS_SEEN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

extern "C" fn count_signal(_: i32) {
    SIGNALS_SEEN.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
}

/// Counts a signal instead of dying of it.
pub fn count_signals(signal: i32) {
    SIGNALS_SEEN.store(0, std::sync::atomic::Ordering::SeqCst);
    let handler = count_signal as extern "C" fn(i32);
    // SAFETY: the handler does nothing but count.
    unsafe { libc::signal(signal, handler as libc::sighandler_t) };
}

/// Returns the number of counted signals since the last call.
pub fn signals_seen() -> u32 {
    SIGNALS_SEEN.swap(0, std::sync::atomic::Ordering::SeqCst)
}

static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();

/// Sets the directory of the programs that were built for the tests.
pub fn set_programs(dir: PathBuf) {
    let _ = PROGRAMS.set(dir);
}

/// Returns the directory of the programs that were built for the tests, if it was set.
pub fn programs() -> Option<&'static Path> {
    PROGRAMS.get().map(PathBuf::as_path)
}

/// Runs a program and returns (its end, its output).
pub fn run_program(path: &Path, arguments: &[&str]) -> Outcome<(End, String)> {
    let (output, input) = pipe()?;
    let child = Child::spawn(|| {
        let mut words = vec![crate::sys::c_path(path)];
        words.extend(arguments.iter().map(|a| crate::sys::c_path(a.as_ref())));
        let mut pointers: Vec<_> = words.iter().map(|w| w.as_ptr()).collect();
        pointers.push(std::ptr::null());
        // SAFETY: NUL-terminated words in a NULL-terminated list.
        unsafe {
            libc::dup2(input.as_raw_fd(), 1);
            libc::execv(words[0].as_ptr(), pointers.as_ptr());
        }
        Err(crate::failure::Errno::last()).or_fail(format_args!("exec {}", path.display()))
    })?;
    drop(input);
    let text = read_all(&output, 65536)?;
    let end = child.wait()?;
    if end == End::Exited(1) {
        let said = child.said();
        if !said.is_empty() {
            return Err(Failure(said));
        }
    }
    Ok((end, String::from_utf8_lossy(&text).into_owned()))
}
