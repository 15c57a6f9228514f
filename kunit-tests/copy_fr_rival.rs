// SPDX-License-Identifier: GPL-2.0

//! copy_fr_rival: hooks copy_file_range(2) as copy_fr does, and takes no call. A test loads it to
//! see that copy_fr refuses a system call that is redirected already.

#[path = "../rust/bindings.rs"]
mod bindings;
#[path = "../rust/compat.rs"]
mod compat;
#[path = "../rust/hook/mod.rs"]
#[allow(dead_code)] // It looks at no argument.
mod hook;

use kernel::prelude::*;

module! {
    type: Rival,
    name: "copy_fr_rival",
    authors: ["The reflinkfs developers"],
    description: "Test module: in the way of copy_fr",
    license: "GPL",
}

struct NoCall;

impl hook::SystemCall for NoCall {
    const NAME: &'static str = "copy_file_range";

    fn wants(_arguments: &hook::Arguments) -> bool {
        false
    }

    fn call(_arguments: &hook::Arguments) -> Result<usize> {
        Err(EINVAL)
    }
}

#[pin_data]
struct Rival {
    #[pin]
    hook: hook::Hook<NoCall>,
}

impl kernel::InPlaceModule for Rival {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            hook <- hook::Hook::install(),
        })
    }
}
