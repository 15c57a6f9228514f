// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The filesystems that the tests know, and what each of them can do.

use std::path::Path;

use clap::ValueEnum;

use crate::failure::{Context, Failure, Outcome};
use crate::instance::Configuration;
use crate::notification::{Group, FAN_CLASS_CONTENT};
use crate::sys::{c_path, check};

/// The filesystem under test, or a referee: one that shows whether a test is right.
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

    /// Whether two files can have a block in common.
    pub fn can_share(self) -> bool {
        !matches!(self, Tmpfs | Ext4)
    }

    /// Fails unless `dir` lies on this filesystem: a forgotten mount must not test another one.
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

/// What a test needs of the filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// `FICLONE`, `FICLONERANGE`, `FIDEDUPERANGE`.
    Reflink,
    /// `FS_IOC_FIEMAP`.
    Fiemap,
    /// An instance of its own, mounted with `size=` and the like, whose statfs is exact.
    Instance,
    /// Data blocks that exist as soon as they are written and are counted one by one.
    ExactBlocks,
    /// copy_file_range that shares whole blocks although its ends are ragged.
    RaggedSharing,
    /// Promises that only reflinkfs makes.
    Reflinkfs,
    /// A kernel that can be told to fail an allocation: `CONFIG_FAULT_INJECTION`.
    FaultInjection,
    /// Programs that were built for the tests (`--programs`).
    Programs,
    /// An instance of its own that keeps quotas.
    Quota,
    /// A kernel that does not check itself so much that many small steps take minutes.
    FastKernel,
    /// The module copy_fr, which lets flags of copy_file_range(2) in.
    Flags,
    /// A kernel whose XFS, which is loaded, keeps quotas.
    XfsQuota,
    /// A processor that marks itself in the page tables what was written: elsewhere the first store to
    /// each page is a fault.
    PagesMarkedByProcessor,
    /// A kernel that can ask somebody before a file is accessed:
    /// `CONFIG_FANOTIFY_ACCESS_PERMISSIONS`.
    Questions,
    /// A kernel with tracepoints: `CONFIG_EVENT_TRACING`.
    Tracing,
    /// A kernel with overlayfs: `CONFIG_OVERLAY_FS`.
    Overlayfs,
}

impl Feature {
    /// Why a filesystem cannot meet the need, if it cannot.
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
            (Self::Flags, _) => (!Path::new("/sys/module/copy_fr").exists())
                .then_some("no flags of copy_file_range(2) without copy_fr.ko"),
            (Self::XfsQuota, _) => (!Path::new("/proc/fs/xfs/xqm").exists())
                .then_some("XFS keeps no quotas here (/proc/fs/xfs/xqm)"),
            (Self::PagesMarkedByProcessor, _) => std::fs::read_to_string("/proc/cpuinfo")
                .is_ok_and(|info| info.contains("User Mode Linux"))
                .then_some("User-Mode Linux marks what was written by a fault"),
            (Self::Questions, _) => Group::new(FAN_CLASS_CONTENT).is_err().then_some(
                "this kernel asks nobody before an access (CONFIG_FANOTIFY_ACCESS_PERMISSIONS)",
            ),
            (Self::Tracing, _) => (!Path::new("/sys/kernel/tracing").exists())
                .then_some("this kernel has no tracepoints (/sys/kernel/tracing)"),
            (Self::Overlayfs, _) => Configuration::open("overlay")
                .is_err()
                .then_some("this kernel has no overlayfs (CONFIG_OVERLAY_FS)"),
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

// What many tests need.
pub const CLONES: &[Feature] = &[Feature::Reflink];
pub const CLONES_SHOWN: &[Feature] = &[Feature::Reflink, Feature::Fiemap];
pub const CLONES_COUNTED: &[Feature] = &[Feature::Reflink, Feature::Instance];
pub const QUOTA: &[Feature] = &[Feature::Quota];
pub const CLONES_CHARGED: &[Feature] = &[Feature::Reflink, Feature::Quota];
pub const INSTANCE: &[Feature] = &[Feature::Instance];

/// Why btrfs says otherwise which blocks are shared.
pub const WHOLE_EXTENTS: &str = "marks a whole extent shared when a part of it is";
