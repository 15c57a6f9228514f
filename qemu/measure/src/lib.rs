// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The records that the two programs share: `measure`, in the guest, writes them; `report`, on the
//! host, reads them.

pub mod record;
