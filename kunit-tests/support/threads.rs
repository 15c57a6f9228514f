// SPDX-License-Identifier: GPL-2.0

//! Kernel threads that end before the test does.

use crate::bindings;
use core::{
    ffi::c_void,
    ptr::NonNull, //
};
use kernel::{
    prelude::*,
    sync::Completion, //
};

/// What one thread does.
struct Job<'a, T> {
    done: Pin<KBox<Completion>>,
    shared: &'a T,
    number: u64,
    run: fn(&T, u64) -> Result,
}

/// A thread that runs. Dropping it waits for its end.
struct Thread<'a, T> {
    /// Owns a reference; `None` once the thread has ended.
    task: Option<NonNull<bindings::task_struct>>,
    job: KBox<Job<'a, T>>,
}

/// Runs `run` in `threads` threads, with numbers from 0 on.
///
/// # Errors
///
/// Those of `run`, and `ENOMEM` or `EINTR` where there is no thread to be had.
pub(crate) fn in_threads<T: Sync>(threads: u64, shared: &T, run: fn(&T, u64) -> Result) -> Result {
    let mut running = KVec::with_capacity(threads as usize, GFP_KERNEL)?;
    for number in 0..threads {
        running.push(
            Thread::new(Job {
                done: completion()?,
                shared,
                number,
                run,
            })?,
            GFP_KERNEL,
        )?;
    }
    let mut result = Ok(());
    for thread in &mut running {
        result = result.and(thread.join());
    }
    result
}

fn completion() -> Result<Pin<KBox<Completion>>> {
    KBox::pin_init(Completion::new(), GFP_KERNEL)
}

/// What a thread runs.
///
/// # Safety
///
/// `job` points to a `Job` of this `T` that outlives the thread.
unsafe extern "C" fn thread_main<T: Sync>(job: *mut c_void) -> i32 {
    // SAFETY: `Thread::new` passes a `Job` of this `T`, which lives until the thread has ended.
    let job = unsafe { &*job.cast::<Job<'_, T>>() };
    let result = (job.run)(job.shared, job.number);
    job.done.complete_all();
    result.map_or_else(Error::to_errno, |()| 0)
}

impl<'a, T: Sync> Thread<'a, T> {
    fn new(job: Job<'a, T>) -> Result<Self> {
        let mut job = KBox::new(job, GFP_KERNEL)?;
        // SAFETY: `job` stays where it is until the thread has ended, which `join` and `drop` wait
        // for: the box is private to `Thread`. The format has one argument.
        let task = unsafe {
            bindings::kthread_create_on_node(
                Some(thread_main::<T>),
                (&raw mut *job).cast(),
                bindings::NUMA_NO_NODE,
                c"reflinkfs_kunit/%llu".as_char_ptr(),
                job.number,
            )
        };
        let task = kernel::error::from_err_ptr(task)?;
        // SAFETY: The thread was just made and has not run, so it has not ended.
        unsafe {
            bindings::get_task_struct(task);
            bindings::wake_up_process(task);
        }
        Ok(Self {
            task: NonNull::new(task),
            job,
        })
    }
}

impl<T> Thread<'_, T> {
    /// Waits for the end of the thread, once.
    fn join(&mut self) -> Result {
        let Some(task) = self.task.take() else {
            return Ok(());
        };
        // A thread that is stopped before it begins never does.
        self.job.done.wait_for_completion();
        // SAFETY: The reference that `new` took is given away here.
        let status = unsafe { bindings::kthread_stop_put(task.as_ptr()) };
        kernel::error::to_result(status)
    }
}

impl<T> Drop for Thread<'_, T> {
    fn drop(&mut self) {
        // The result was read by `join` if it is wanted.
        let _ = self.join();
    }
}
