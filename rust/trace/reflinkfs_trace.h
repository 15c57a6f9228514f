/* SPDX-License-Identifier: GPL-2.0 */
/* Tracepoints, in /sys/kernel/tracing/events/reflinkfs. Positions and lengths are in bytes. */

#undef TRACE_SYSTEM
#undef TRACE_INCLUDE_FILE
#undef TRACE_INCLUDE_PATH
#define TRACE_SYSTEM reflinkfs
#define TRACE_INCLUDE_FILE reflinkfs_trace
#define TRACE_INCLUDE_PATH .

#if !defined(_REFLINKFS_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _REFLINKFS_TRACE_H

#include <linux/tracepoint.h>
#include <linux/types.h>
#include <linux/kdev_t.h>

/* A range that went from one file to another: ret is how many bytes, or an error. */
DECLARE_EVENT_CLASS(reflinkfs_remap_class,
	TP_PROTO(dev_t dev, u64 from_ino, u64 from_pos, u64 to_ino, u64 to_pos, u64 len, s64 ret),
	TP_ARGS(dev, from_ino, from_pos, to_ino, to_pos, len, ret),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, from_ino)
		__field(u64, from_pos)
		__field(u64, to_ino)
		__field(u64, to_pos)
		__field(u64, len)
		__field(s64, ret)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->from_ino = from_ino;
		__entry->from_pos = from_pos;
		__entry->to_ino = to_ino;
		__entry->to_pos = to_pos;
		__entry->len = len;
		__entry->ret = ret;
	),
	TP_printk("dev %d:%d ino %llu pos %llu to ino %llu pos %llu len %llu ret %lld",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->from_ino, __entry->from_pos,
		  __entry->to_ino, __entry->to_pos, __entry->len, __entry->ret)
);

#define DEFINE_REMAP_EVENT(name)						\
DEFINE_EVENT(reflinkfs_remap_class, name,					\
	TP_PROTO(dev_t dev, u64 from_ino, u64 from_pos, u64 to_ino, u64 to_pos,	\
		 u64 len, s64 ret),						\
	TP_ARGS(dev, from_ino, from_pos, to_ino, to_pos, len, ret))
DEFINE_REMAP_EVENT(reflinkfs_clone);
DEFINE_REMAP_EVENT(reflinkfs_dedupe);
DEFINE_REMAP_EVENT(reflinkfs_copy);

/* A file gets blocks of its own in the place of shared ones: by a write, or by a store. */
TRACE_EVENT(reflinkfs_cow,
	TP_PROTO(dev_t dev, u64 ino, u64 index, u64 blocks),
	TP_ARGS(dev, ino, index, blocks),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(u64, index)
		__field(u64, blocks)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->ino = ino;
		__entry->index = index;
		__entry->blocks = blocks;
	),
	TP_printk("dev %d:%d ino %llu index %llu blocks %llu", MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->ino, __entry->index, __entry->blocks)
);

/* A page fault: write is whether the file is stored to, ret is 0 or an error. */
TRACE_EVENT(reflinkfs_fault,
	TP_PROTO(dev_t dev, u64 ino, u64 index, bool write, int ret),
	TP_ARGS(dev, ino, index, write, ret),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(u64, index)
		__field(bool, write)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->ino = ino;
		__entry->index = index;
		__entry->write = write;
		__entry->ret = ret;
	),
	TP_printk("dev %d:%d ino %llu index %llu %s ret %d", MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->ino, __entry->index,
		  __entry->write ? "write" : "read", __entry->ret)
);

/* There is no room for what a file is to get. */
TRACE_EVENT(reflinkfs_nospc,
	TP_PROTO(dev_t dev, u64 ino, u64 blocks, u64 limit),
	TP_ARGS(dev, ino, blocks, limit),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(u64, blocks)
		__field(u64, limit)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->ino = ino;
		__entry->blocks = blocks;
		__entry->limit = limit;
	),
	TP_printk("dev %d:%d ino %llu blocks %llu limit %llu", MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->ino, __entry->blocks, __entry->limit)
);

#endif

/* Must be outside of the protection. */
#include <trace/define_trace.h>
