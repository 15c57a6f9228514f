// SPDX-License-Identifier: GPL-2.0

//! Conditions that a test must find true, in functions that return [`Result`].

/// Fails the test unless the condition holds. Prints what follows it then.
macro_rules! check {
    ($condition:expr $(, $($context:tt)+)?) => {
        if !$condition {
            ::kernel::pr_err!(
                "{}:{}: not so: {}\n",
                ::core::file!(),
                ::core::line!(),
                ::core::stringify!($condition),
            );
            $(::kernel::pr_err!("  at {}\n", ::core::format_args!($($context)+));)?
            return Err(::kernel::error::code::EINVAL);
        }
    };
}

/// Fails the test unless both are equal. Prints what follows them then.
macro_rules! check_eq {
    ($left:expr, $right:expr $(, $($context:tt)+)?) => {
        match (&$left, &$right) {
            (left, right) => {
                if *left != *right {
                    ::kernel::pr_err!(
                        "{}:{}: {} is {:?} and not {:?}\n",
                        ::core::file!(),
                        ::core::line!(),
                        ::core::stringify!($left),
                        left,
                        right,
                    );
                    $(::kernel::pr_err!("  at {}\n", ::core::format_args!($($context)+));)?
                    return Err(::kernel::error::code::EINVAL);
                }
            }
        }
    };
}
