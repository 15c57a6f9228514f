// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What the two programs share: `measure`, which runs in the guest, writes [`record::Record`]s;
//! `report`, on the host, reads them.

pub mod record;
