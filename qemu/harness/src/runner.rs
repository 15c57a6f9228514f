// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Runs each test in its own process, in a fresh directory, until the watchdog reports that it is
//! stuck.
//!
//! The process may change its limits, its user and its signals, hold mounts that vanish with it,
//! and die or hang without ending the run.

use std::fs;
use std::os::fd::FromRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};

use crate::case::{Case, Settings, Test};
use crate::failure::{Context, Failure, Outcome};
use crate::filesystem::Filesystem;
use crate::known_failures;
use crate::process::{signal_name, Child, End};
use crate::sys::{check, mkdir};
use crate::watchdog::{tell_that_begins, Watchdog};

/// The state that all tests of a run share.
pub struct Run {
    pub filesystem: Filesystem,
    pub dir: PathBuf,
    pub scratch: PathBuf,
    pub settings: Settings,
    /// The time that each test took.
    pub times: Mutex<Vec<(Duration, String)>>,
    pub watchdog: Watchdog,
    /// Whether to run tests that are known to fail.
    pub known_failures: bool,
    pub kernel_log: KernelLog,
}

/// How many of the slowest tests are printed.
const SLOWEST: usize = 20;

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Run {
    pub fn trial(&'static self, module: &str, case: &'static Case) -> Trial {
        let name = format!("{module}::{}", case.name);
        let known = self.known_failure(&name);
        Trial::ignorable_test(name.clone(), move || {
            if let Some(why) = case.ignored_on(self.filesystem).or(known) {
                return Ok(Completion::ignored_with(why));
            }
            tell_that_begins(&name);
            let started = Instant::now();
            let outcome = self.run(case);
            let time = (started.elapsed(), name.clone());
            self.times.lock().unwrap().push(time);
            match outcome {
                Ok(()) => Ok(Completion::Completed),
                Err(Failure(text)) => Err(Failed::from(text)),
            }
        })
    }

    /// Returns why a test is known to fail, unless such tests are to run, too.
    fn known_failure(&self, name: &str) -> Option<String> {
        let applies = !self.known_failures && self.filesystem == Filesystem::Reflinkfs;
        let why = applies.then(|| known_failures::reason(name)).flatten()?;
        Some(format!("known to fail: {why}"))
    }

    /// Prints the tests that took longest, in seconds, unless there were only a few.
    pub fn print_slowest(&self) {
        let mut times = self.times.lock().unwrap();
        if times.len() <= 2 * SLOWEST {
            return;
        }
        times.sort_by(|a, b| b.cmp(a));
        let all: Duration = times.iter().map(|(time, _)| time).sum();
        println!("the slowest tests, of {} s in all:", all.as_secs());
        for (time, name) in times.iter().take(SLOWEST) {
            println!("{:8.1}  {name}", time.as_secs_f64());
        }
    }

    fn run(&self, case: &'static Case) -> Outcome {
        let name = format!(
            "h{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let test = Test {
            filesystem: self.filesystem,
            dir: self.dir.join(&name),
            elsewhere: self.scratch.join(&name),
            settings: self.settings,
        };
        for dir in [&test.dir, &test.elsewhere] {
            mkdir(dir, 0o755).or_fail(format_args!("mkdir {}", dir.display()))?;
        }
        let outcome = self.watch(case, &test);
        if matches!(&outcome, Err(failure) if failure.0.starts_with(STUCK)) {
            return outcome;
        }
        let outcome = outcome.and(self.kernel_log.expect_no_report());
        for dir in [&test.dir, &test.elsewhere] {
            let removed = fs::remove_dir_all(dir);
            if outcome.is_ok() {
                removed.or_fail(format_args!("removing {}", dir.display()))?;
            }
        }
        outcome
    }

    fn watch(&self, case: &'static Case, test: &Test) -> Outcome {
        let child = Child::spawn(|| {
            own_process_group_and_mounts(&test.elsewhere)?;
            (case.run)(test)
        })?;
        if let Some(end) = self.wait_until_stuck(&child)? {
            // Processes that the test left behind must not disturb the next one.
            kill_group(child.pid());
            return match end {
                End::Exited(0) => Ok(()),
                End::Exited(_) => Err(Failure(child.said())),
                End::Killed(signal) => Err(Failure(format!(
                    "the test was killed by {}",
                    signal_name(signal)
                ))),
            };
        }
        let stacks = stacks_of_group(child.pid());
        kill_group(child.pid());
        Err(Failure(if child.wait_for(DYING)?.is_some() {
            format!("no end when nothing else went on; killed. It was in:\n{stacks}")
        } else {
            format!("{STUCK}: it is in the kernel and cannot be killed. It is in:\n{stacks}")
        }))
    }

    /// Waits for the end of a test; `None` if the watchdog reports it stuck before.
    fn wait_until_stuck(&self, child: &Child) -> Outcome<Option<End>> {
        let times = self.watchdog.times();
        loop {
            let end = child.wait_for(Duration::from_secs(1))?;
            if end.is_some() || self.watchdog.times() != times {
                return Ok(end);
            }
        }
    }
}

const STUCK: &str = "stuck";

/// The time for a killed process to end, before it is left alone.
const DYING: Duration = Duration::from_secs(60);

fn own_process_group_and_mounts(scratch: &Path) -> Outcome {
    // SAFETY: plain calls in a process with one thread.
    unsafe {
        check(libc::setpgid(0, 0)).or_fail("setpgid")?;
        check(libc::unshare(libc::CLONE_NEWNS)).or_fail("unshare(CLONE_NEWNS): run as root")?;
        check(libc::mount(
            std::ptr::null(),
            c"/".as_ptr(),
            std::ptr::null(),
            libc::MS_REC | libc::MS_PRIVATE,
            std::ptr::null(),
        ))
        .or_fail("making mounts private")?;
        libc::umask(0o022);
    }
    // The scratch directory is a private tmpfs: always another filesystem, even when tmpfs is under
    // test, and its mounts vanish with the test.
    crate::instance::mount("tmpfs", scratch, 0, "mode=755").or_fail("mounting the scratch tmpfs")
}

fn kill_group(pid: libc::pid_t) {
    // SAFETY: the group was made by the test's process; when it is empty this does nothing.
    unsafe { libc::kill(-pid, libc::SIGKILL) };
}

/// Returns the kernel stacks of all threads of a process group.
fn stacks_of_group(group: libc::pid_t) -> String {
    let mut text = String::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        if after_name.split(' ').nth(3) == Some(&group.to_string()) {
            text.push_str(&stacks_in(&process.path()));
        }
    }
    text
}

/// Returns the kernel stacks of all threads of a process.
pub fn stacks(pid: libc::pid_t) -> String {
    stacks_in(&Path::new("/proc").join(pid.to_string()))
}

fn stacks_in(process: &Path) -> String {
    let mut text = String::new();
    let tasks = fs::read_dir(process.join("task"));
    for task in tasks.into_iter().flatten().flatten() {
        let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        text.push_str(&format!(
            "  task {} (system call {}, waits in {}):\n",
            task.file_name().to_string_lossy(),
            read("syscall").trim(),
            read("wchan").trim()
        ));
        for line in read("stack").lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}

/// The kernel's log, which is searched for reports of its own checks.
pub struct KernelLog(Mutex<Log>);

struct Log {
    file: Option<fs::File>,
    /// The last message belongs to the kernel's report of an OOM kill, which ends with a line that
    /// says for which constraint: the machine's memory, or that of a cgroup that a test has
    /// limited. A reader may see only the beginning of the report, and the next reader the rest.
    killing: bool,
}

impl KernelLog {
    /// Opens the log after its last message.
    pub fn open() -> Self {
        let path = crate::sys::c_path("/dev/kmsg".as_ref());
        // SAFETY: the path is NUL-terminated; the descriptor is new.
        let file = unsafe {
            let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC;
            check(libc::open(path.as_ptr(), flags)).ok().map(|fd| {
                libc::lseek(fd as i32, 0, libc::SEEK_END);
                fs::File::from_raw_fd(fd as i32)
            })
        };
        Self(Mutex::new(Log {
            file,
            killing: false,
        }))
    }

    /// Returns the messages since the last call, one a line, without the reports of OOM kills.
    pub fn news(&self) -> String {
        let Ok(mut log) = self.0.lock() else {
            return String::new();
        };
        let log = &mut *log;
        let mut text = String::new();
        let mut message = [0u8; 8192];
        while let Some(file) = &log.file {
            match crate::sys::read_to(file, message.as_mut_ptr(), message.len()) {
                Ok(n) => {
                    let line = String::from_utf8_lossy(&message[..n]);
                    let said = line.split_once(';').map_or("", |(_, said)| said);
                    log.killing |= said.contains("invoked oom-killer");
                    log.killing &= !said.contains("oom-kill:constraint=");
                    if !log.killing {
                        text.push_str(said.trim_end());
                        text.push('\n');
                    }
                }
                // The buffer overflowed: continues with the oldest message that is left.
                Err(crate::failure::Errno(libc::EPIPE)) => {}
                Err(_) => break,
            }
        }
        text
    }

    fn expect_no_report(&self) -> Outcome {
        const REPORTS: &[&str] = &[
            "BUG:",
            "WARNING:",
            "KASAN",
            "UBSAN",
            "Oops",
            "INFO: task",
            "possible circular locking",
            "possible recursive locking",
            "kernel BUG",
            "refcount_t",
            "Call Trace:",
            "rust_kernel: panicked",
            "constraint=CONSTRAINT_NONE",
        ];
        let news = self.news();
        let lines: Vec<_> = news.lines().collect();
        match lines
            .iter()
            .position(|line| REPORTS.iter().any(|report| line.contains(report)))
        {
            None => Ok(()),
            Some(first) => Err(Failure(format!(
                "the kernel reported:\n  {}",
                lines[first..]
                    .iter()
                    .take(60)
                    .copied()
                    .collect::<Vec<_>>()
                    .join("\n  ")
            ))),
        }
    }
}
