// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The filesystems that the tests know, and their features.

use std::path::Path;

use clap::ValueEnum;

use crate::failure::{Context, Failure, Outcome};
use crate::instance::Configuration;
use crate::notification::{Group, FAN_CLASS_CONTENT};
use crate::sys::{c_path, check};
use crate::tests::injection;

/// The filesystem under test: reflinkfs, or a reference that shows whether a test is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Filesystem {
    Reflinkfs,
    Tmpfs,
    Xfs,
    Btrfs,
    Ext4,
}

pub use Filesystem::{Btrfs, Ext4, Reflinkfs, Tmpfs, Xfs};

impl Filesystem {
    pub fn name(self) -> &'static str {
        match self {
            Reflinkfs => "reflinkfs",
            Tmpfs => "tmpfs",
            Xfs => "xfs",
            Btrfs => "btrfs",
            Ext4 => "ext4",
        }
    }

    /// Returns whether two files can have a block in common.
    pub fn can_share(self) -> bool {
        !matches!(self, Tmpfs | Ext4)
    }

    /// Fails unless `dir` is on this filesystem, so that a missing mount is noticed.
    pub fn expect_at(self, dir: &Path) -> Outcome {
        const STATX_MNT_ID: u32 = 0x1000;
        let path = c_path(dir);
        // SAFETY: a statx of zeros is a valid value; path and buffer outlive the call.
        let mount_id = unsafe {
            let mut statx: libc::statx = std::mem::zeroed();
            check(libc::statx(
                libc::AT_FDCWD,
                path.as_ptr(),
                0,
                STATX_MNT_ID,
                &mut statx,
            ))
            .or_fail(format_args!("statx {}", dir.display()))?;
            statx.stx_mnt_id.to_string()
        };
        let table = std::fs::read_to_string("/proc/self/mountinfo").or_fail("read mountinfo")?;
        let found = table
            .lines()
            .find(|line| line.split(' ').next() == Some(&mount_id))
            .and_then(|line| line.split(" - ").nth(1))
            .and_then(|rest| rest.split(' ').next())
            .unwrap_or("unknown");
        if found == self.name() {
            return Ok(());
        }
        Err(Failure(format!(
            "{} is on {found}, not on {}: mount it there or name the other filesystem with --fs",
            dir.display(),
            self.name()
        )))
    }
}

/// A feature that a test needs of the filesystem or the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// `FICLONE`, `FICLONERANGE`, `FIDEDUPERANGE`.
    Reflink,
    /// `FS_IOC_FIEMAP`.
    Fiemap,
    /// Tests can mount instances, with `size=` and the like, whose statfs is exact.
    Instance,
    /// Data blocks are allocated when they are written, and counted one by one.
    ExactBlocks,
    /// copy_file_range shares whole blocks even if the ends of the range are not aligned.
    RaggedSharing,
    /// Promises of reflinkfs alone.
    Reflinkfs,
    /// The kernel can let an allocation fail: `CONFIG_FAULT_INJECTION`.
    FaultInjection,
    /// The programs for the tests (`--programs`).
    Programs,
    /// Tests can mount instances with quotas.
    Quota,
    /// The kernel has no checks that make many small steps take minutes.
    FastKernel,
    /// The kernel is fast, or only the module's failure points count (`--points module`).
    FewPoints,
    /// The module copy_fr, which makes copy_file_range(2) accept flags.
    Flags,
    /// The kernel's XFS is loaded and has quotas.
    XfsQuota,
    /// The processor sets dirty bits in page tables. Otherwise the first store to each page faults.
    PagesMarkedByProcessor,
    /// The kernel has permission events: `CONFIG_FANOTIFY_ACCESS_PERMISSIONS`.
    PermissionEvents,
    /// The kernel has tracepoints: `CONFIG_EVENT_TRACING`.
    Tracing,
    /// A kernel with overlayfs: `CONFIG_OVERLAY_FS`.
    Overlayfs,
    /// The kernel can mark memory as bad: `CONFIG_MEMORY_FAILURE`.
    MemoryErrors,
    /// The kernel runs 32-bit programs: `CONFIG_IA32_EMULATION`.
    #[cfg(target_arch = "x86_64")]
    CompatCalls,
    /// There is a second processor, so that another call can come in the middle of one.
    SecondProcessor,
    /// The kernel stores to user memory only where a page table entry allows it. User-Mode Linux does
    /// not look again after a fault that maps a private page read-only: it clears the end of a program's
    /// data in the file.
    WriteProtection,
}

/// Returns whether this is User-Mode Linux.
pub fn is_user_mode_linux() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|info| info.contains("User Mode Linux"))
}

impl Feature {
    /// Returns why a filesystem lacks the feature, if it does.
    pub fn unmet_by(self, filesystem: Filesystem) -> Option<&'static str> {
        match (self, filesystem) {
            (Self::FaultInjection, _) => (!Path::new("/proc/self/fail-nth").exists())
                .then_some("this kernel cannot inject failures (/proc/self/fail-nth)"),
            (Self::Programs, _) => crate::process::programs()
                .is_none()
                .then_some("needs the samples and the 32-bit caller (--programs)"),
            (Self::FastKernel, _) => crate::is_debug_kernel().then_some(
                "takes minutes on a kernel that checks itself; the stock kernel does it",
            ),
            (Self::FewPoints, _) => (crate::is_debug_kernel() && !injection::is_of_module()).then_some(
                "takes minutes on a kernel that checks itself, but with --points module; User-Mode Linux does it",
            ),
            (Self::Flags, _) => (!Path::new("/sys/module/copy_fr").exists())
                .then_some("no flags of copy_file_range(2) without copy_fr.ko"),
            (Self::XfsQuota, _) => (!Path::new("/proc/fs/xfs/xqm").exists())
                .then_some("XFS keeps no quotas here (/proc/fs/xfs/xqm)"),
            (Self::PagesMarkedByProcessor, _) => {
                is_user_mode_linux().then_some("User-Mode Linux sets dirty bits in faults")
            }
            (Self::PermissionEvents, _) => Group::new(FAN_CLASS_CONTENT).is_err().then_some(
                "this kernel has no permission events (CONFIG_FANOTIFY_ACCESS_PERMISSIONS)",
            ),
            (Self::Tracing, _) => (!Path::new("/sys/kernel/tracing").exists())
                .then_some("this kernel has no tracepoints (/sys/kernel/tracing)"),
            (Self::Overlayfs, _) => Configuration::open("overlay")
                .is_err()
                .then_some("this kernel has no overlayfs (CONFIG_OVERLAY_FS)"),
            (Self::MemoryErrors, _) => (!Path::new("/proc/sys/vm/memory_failure_recovery")
                .exists())
            .then_some("this kernel marks no memory as bad (CONFIG_MEMORY_FAILURE)"),
            #[cfg(target_arch = "x86_64")]
            (Self::CompatCalls, _) => (!Path::new("/proc/sys/abi/vsyscall32").exists())
                .then_some("this kernel runs no 32-bit programs (CONFIG_IA32_EMULATION)"),
            (Self::SecondProcessor, _) => std::thread::available_parallelism()
                .is_ok_and(|n| n.get() < 2)
                .then_some("there is only one processor"),
            (Self::WriteProtection, _) => is_user_mode_linux()
                .then_some("User-Mode Linux stores to read-only pages when it runs a program"),
            (_, Reflinkfs) => None,
            (Self::Quota, Tmpfs) => Configuration::open("tmpfs")
                .and_then(|tmpfs| tmpfs.set_flag("quota"))
                .is_err()
                .then_some("keeps no quotas on this kernel (CONFIG_TMPFS_QUOTA)"),
            (Self::Quota, _) => Some("its quotas are on a disk, and set up otherwise"),
            (Self::Reflink, Tmpfs | Ext4) => Some("cannot clone"),
            (Self::Fiemap, Tmpfs) => Some("tmpfs has no FIEMAP"),
            (Self::Instance, Xfs | Btrfs | Ext4) => {
                Some("needs an instance mounted with size= and nr_inodes=; this one is on a disk")
            }
            (Self::ExactBlocks, Xfs | Btrfs | Ext4) => {
                Some("allocates later and counts its own metadata")
            }
            (Self::RaggedSharing, Tmpfs | Ext4) => Some("cannot clone"),
            (Self::RaggedSharing, Xfs | Btrfs) => {
                Some("copies everything when one end is not block aligned")
            }
            (Self::Reflinkfs, _) => Some("a promise of reflinkfs alone"),
            _ => None,
        }
    }
}

// Features that many tests need.
pub const CLONES: &[Feature] = &[Feature::Reflink];
pub const CLONES_SHOWN: &[Feature] = &[Feature::Reflink, Feature::Fiemap];
pub const CLONES_COUNTED: &[Feature] = &[Feature::Reflink, Feature::Instance];
pub const QUOTA: &[Feature] = &[Feature::Quota];
pub const CLONES_CHARGED: &[Feature] = &[Feature::Reflink, Feature::Quota];
pub const INSTANCE: &[Feature] = &[Feature::Instance];
pub const FORKS: &[Feature] = &[Feature::Reflinkfs, Feature::Instance];

/// Why FIEMAP of btrfs reports other blocks as shared.
pub const WHOLE_EXTENTS: &str = "marks a whole extent shared when a part of it is";
