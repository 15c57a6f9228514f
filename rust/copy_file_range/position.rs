// SPDX-License-Identifier: GPL-2.0

//! Where a range begins: at the file position, or where the caller's variable says.

use crate::file::AnyFile;
use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

enum PosSource<'a> {
    File(&'a AnyFile),
    Variable(UserPtr),
}

/// A position in a file, in bytes, and where it came from.
pub(super) struct Position<'a> {
    value: i64,
    source: PosSource<'a>,
}

fn variable(pointer: UserPtr) -> UserSlice {
    UserSlice::new(pointer, size_of::<i64>())
}

impl<'a> Position<'a> {
    /// Returns the variable's value, or that of the file position if there is none.
    ///
    /// # Errors
    ///
    /// `EFAULT` where it cannot be read.
    pub(super) fn get(file: &'a AnyFile, pointer: UserPtr) -> Result<Self> {
        let (value, source) = if pointer.as_const_ptr().is_null() {
            (file.position(), PosSource::File(file))
        } else {
            let value = variable(pointer).reader().read()?;
            (value, PosSource::Variable(pointer))
        };
        Ok(Self { value, source })
    }

    pub(super) fn value(&self) -> i64 {
        self.value
    }

    /// Moves what it came from on by `done` bytes.
    ///
    /// # Errors
    ///
    /// `EFAULT` where the variable cannot be written.
    pub(super) fn advance(&self, done: u64) -> Result {
        if done == 0 {
            return Ok(());
        }
        let value = self.value + done as i64;
        match self.source {
            PosSource::File(file) => {
                file.set_position(value);
                Ok(())
            }
            PosSource::Variable(pointer) => variable(pointer).writer().write(&value),
        }
    }
}
