// SPDX-License-Identifier: GPL-2.0 OR MIT
//! One line of JSON for each measurement, so that a failure loses no earlier measurement.

use serde::{Deserialize, Serialize};

/// The filesystems, in the order of their turns.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Fs {
    Reflinkfs,
    Tmpfs,
    Xfs,
    Btrfs,
    /// No filesystem: a bound of the processor, to compare the others with.
    #[value(skip)]
    Processor,
}

impl Fs {
    pub fn name(self) -> &'static str {
        match self {
            Self::Reflinkfs => "reflinkfs",
            Self::Tmpfs => "tmpfs",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Processor => "processor",
        }
    }

    pub fn clones(self) -> bool {
        self != Self::Tmpfs
    }

    /// Returns whether it is on a block device.
    pub fn on_disk(self) -> bool {
        matches!(self, Self::Xfs | Self::Btrfs)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Seconds for one operation.
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "B/s")]
    BytesPerSecond,
    #[serde(rename = "1/s")]
    PerSecond,
    #[serde(rename = "B")]
    Bytes,
    /// How many times the bound.
    #[serde(rename = "times")]
    Times,
    #[serde(rename = "count")]
    Count,
}

impl Unit {
    pub fn more_is_better(self) -> bool {
        matches!(self, Self::BytesPerSecond | Self::PerSecond)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// The machine; the first record.
    Machine {
        kernel: String,
        processor: String,
        emulated: bool,
        /// Whether times are numbers of instructions.
        counted: bool,
        cpus: usize,
        memory: u64,
        quick: bool,
        /// Whether as much was measured as on a real processor.
        full: bool,
        /// Whether the processor has fast string instructions by the byte.
        erms: bool,
        rounds: u32,
    },
    /// The setup of a row.
    Setting {
        row: u8,
        text: String,
    },
    Sample {
        row: u8,
        metric: String,
        /// The size or count of a point of a curve.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        at: Option<u64>,
        fs: Fs,
        round: u32,
        value: f64,
        unit: Unit,
    },
    Failed {
        row: u8,
        fs: Fs,
        error: String,
    },
    /// The last record; without it the run was cut off.
    End {
        seconds: f64,
    },
}
