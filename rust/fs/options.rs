// SPDX-License-Identifier: GPL-2.0

//! Mount options, in the syntax of tmpfs.

use super::{
    quota_options::QuotaOptions,
    ReflinkFs, //
};
use crate::{
    compat::EOPNOTSUPP,
    memfs::quota::Kind,
    store::block::BLOCK_SIZE,
    vfs::{
        self,
        ids::{
            Kgid,
            Kuid, //
        },
        FsContext,
        FsParameter,
        FsParameterSpec,
        Path, //
    },
};
use kernel::prelude::*;

/// A limit, as an option sets it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Not given.
    Default,
    /// Given as 0.
    None,
    /// Given.
    At(u64),
}

impl Limit {
    fn new(limit: u64) -> Self {
        if limit == 0 {
            Self::None
        } else {
            Self::At(limit)
        }
    }

    /// Returns the limit, `default` where none was given; `None` for no limit.
    pub(crate) fn or(self, default: u64) -> Option<u64> {
        match self {
            Self::Default => Some(default),
            Self::None => None,
            Self::At(limit) => Some(limit),
        }
    }
}

/// What a mount's options say.
pub(crate) struct Options {
    /// `size=`: the most blocks.
    pub(crate) blocks: Limit,
    /// `nr_inodes=`: the most inodes.
    pub(crate) inodes: Limit,
    /// `mode=`: the permissions of the root directory.
    pub(crate) mode: Option<u16>,
    /// `uid=`: its owner.
    pub(crate) uid: Option<Kuid>,
    /// `gid=`: its group.
    pub(crate) gid: Option<Kgid>,
    /// Owner and group where no option says otherwise.
    pub(crate) owner: (Kuid, Kgid),
    /// `fork=`: the mount whose fork this is to be.
    pub(crate) fork: Option<Path<ReflinkFs>>,
    /// Those for quotas.
    pub(crate) quota: QuotaOptions,
}

// What `FsParameter::opt` returns.
const SIZE: u8 = 0;
const NR_INODES: u8 = 1;
const MODE: u8 = 2;
const UID: u8 = 3;
const GID: u8 = 4;
const QUOTA: u8 = 5;
const USRQUOTA: u8 = 6;
const GRPQUOTA: u8 = 7;
const USR_SPACE: u8 = 8;
const USR_INODES: u8 = 9;
const GRP_SPACE: u8 = 10;
const GRP_INODES: u8 = 11;
const FORK: u8 = 12;

impl Options {
    /// The permissions of the root directory where no option says otherwise.
    pub(crate) const DEFAULT_MODE: u16 = 0o1777;

    /// The parameters.
    pub(crate) const PARAMETERS: &'static [FsParameterSpec] = &[
        FsParameterSpec::string(c"size", SIZE),
        FsParameterSpec::string(c"nr_inodes", NR_INODES),
        FsParameterSpec::u32oct(c"mode", MODE),
        FsParameterSpec::uid(c"uid", UID),
        FsParameterSpec::gid(c"gid", GID),
        FsParameterSpec::flag(c"quota", QUOTA),
        FsParameterSpec::flag(c"usrquota", USRQUOTA),
        FsParameterSpec::flag(c"grpquota", GRPQUOTA),
        FsParameterSpec::string(c"usrquota_block_hardlimit", USR_SPACE),
        FsParameterSpec::string(c"usrquota_inode_hardlimit", USR_INODES),
        FsParameterSpec::string(c"grpquota_block_hardlimit", GRP_SPACE),
        FsParameterSpec::string(c"grpquota_inode_hardlimit", GRP_INODES),
        FsParameterSpec::path(c"fork", FORK),
        FsParameterSpec::END,
    ];

    /// Returns the defaults.
    pub(crate) fn new(context: &FsContext<'_>) -> Self {
        Self {
            blocks: Limit::Default,
            inodes: Limit::Default,
            mode: None,
            uid: None,
            gid: None,
            owner: context.current_fsuid_fsgid(),
            fork: None,
            quota: QuotaOptions::default(),
        }
    }

    /// Notes a parameter.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a value that makes no sense, which the context is told.
    pub(crate) fn set(&mut self, context: &FsContext<'_>, parameter: &FsParameter<'_>) -> Result {
        let bad = || context.bad_value(parameter);
        let hard_limit = |name| hard_limit(context, parameter, name);
        let value = parameter.string();
        match parameter.opt() {
            SIZE => self.blocks = Limit::new(blocks(value).ok_or_else(bad)?),
            NR_INODES => self.inodes = Limit::new(scaled(value).ok_or_else(bad)?),
            MODE => {
                let mode = u16::try_from(parameter.uint_32()).ok();
                self.mode = Some(mode.filter(|&mode| mode <= 0o7777).ok_or_else(bad)?);
            }
            UID => {
                let uid = Some(parameter.uid()).filter(|&uid| context.has_uid(uid));
                self.uid = Some(uid.ok_or_else(bad)?);
            }
            GID => {
                let gid = Some(parameter.gid()).filter(|&gid| context.has_gid(gid));
                self.gid = Some(gid.ok_or_else(bad)?);
            }
            QUOTA => self.quota.enable(context, &Kind::ALL)?,
            USRQUOTA => self.quota.enable(context, &[Kind::User])?,
            GRPQUOTA => self.quota.enable(context, &[Kind::Group])?,
            USR_SPACE => self.quota.limits_mut(Kind::User).space = hard_limit("User quota block")?,
            USR_INODES => {
                self.quota.limits_mut(Kind::User).inodes = hard_limit("User quota inode")?
            }
            GRP_SPACE => {
                self.quota.limits_mut(Kind::Group).space = hard_limit("Group quota block")?
            }
            GRP_INODES => {
                self.quota.limits_mut(Kind::Group).inodes = hard_limit("Group quota inode")?
            }
            FORK => self.set_fork(context, parameter)?,
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    /// Notes which mount is to be forked.
    fn set_fork(&mut self, context: &FsContext<'_>, parameter: &FsParameter<'_>) -> Result {
        if context.is_reconfigure() {
            context.error(fmt!("fork: a mount that exists cannot become a fork"));
            return Err(EINVAL);
        }
        if self.fork.is_some() {
            context.error(fmt!("fork: given twice"));
            return Err(EINVAL);
        }
        let base = Path::lookup(context, parameter)?;
        if !base.is_root() {
            context.error(fmt!("fork: not the root of a mounted reflinkfs"));
            return Err(EINVAL);
        }
        self.fork = Some(base);
        self.check_fork(context)
    }

    /// Checks whether the caller may fork the mount that `fork=` says, if it does: when the option
    /// is given, and when the fork is made, as a context can be handed to another process.
    ///
    /// # Errors
    ///
    /// `EPERM`; `EINVAL` where the fork would not be bound by what the mount is.
    pub(crate) fn check_fork(&self, context: &FsContext<'_>) -> Result {
        let Some(base) = &self.fork else {
            return Ok(());
        };
        if !base.super_block().is_admin() {
            context.error(fmt!(
                "fork: needs CAP_SYS_ADMIN in the user namespace that the mount belongs to"
            ));
            return Err(EPERM);
        }
        if base.is_idmapped() {
            context.error(fmt!("fork: the mount maps ids: fork one that does not"));
            return Err(EINVAL);
        }
        if base.super_block().info().quota.any() || self.quota.any() {
            context.error(fmt!("fork: not with quotas"));
            return Err(EOPNOTSUPP);
        }
        Ok(())
    }
}

/// Returns a default limit for quotas, which is not 0.
fn hard_limit(context: &FsContext<'_>, parameter: &FsParameter<'_>, name: &str) -> Result<i64> {
    let value = scaled(parameter.string()).filter(|&value| value != 0);
    let value = value.ok_or_else(|| context.bad_value(parameter))?;
    i64::try_from(value).map_err(|_| {
        context.error(fmt!("{name} hardlimit too large."));
        EINVAL
    })
}

/// Parses a size in bytes, or in percent of the machine's memory. Returns it in blocks.
fn blocks(value: &[u8]) -> Option<u64> {
    match value.strip_suffix(b"%") {
        Some(percent) => integer(percent)?
            .checked_mul(vfs::totalram_pages())
            .map(|hundredths| hundredths / 100),
        None => Some(scaled(value)?.div_ceil(BLOCK_SIZE as u64)),
    }
}

/// Suffixes of numbers, each for 2^10 times as much as the one before.
const SUFFIXES: &[u8] = b"kmgtpe";
const SUFFIX_SHIFT: usize = 10;

/// Parses a number with a suffix as `memparse` does, but without its silent overflow.
fn scaled(value: &[u8]) -> Option<u64> {
    let (last, digits) = value.split_last()?;
    match SUFFIXES
        .iter()
        .position(|suffix| suffix.eq_ignore_ascii_case(last))
    {
        // The last letter of "0xe" is a digit.
        Some(i) if !(is_hex(value) && last.is_ascii_hexdigit()) => {
            integer(digits)?.checked_mul(1 << (SUFFIX_SHIFT * (i + 1)))
        }
        _ => integer(value),
    }
}

fn is_hex(value: &[u8]) -> bool {
    value.starts_with(b"0x") || value.starts_with(b"0X")
}

/// Parses a number in C's notation: decimal, `0x..`, `0..`.
fn integer(value: &[u8]) -> Option<u64> {
    if is_hex(value) {
        number(&value[2..], 16)
    } else if value.len() > 1 && value[0] == b'0' {
        number(&value[1..], 8)
    } else {
        number(value, 10)
    }
}

fn number(value: &[u8], radix: u64) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |number, &digit| {
        let digit = u64::from((digit as char).to_digit(radix as u32)?);
        number.checked_mul(radix)?.checked_add(digit)
    })
}
