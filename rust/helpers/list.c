// SPDX-License-Identifier: GPL-2.0

#include <linux/list.h>

__rust_helper void rust_helper_list_add(struct list_head *new, struct list_head *head)
{
	list_add(new, head);
}

__rust_helper void rust_helper_list_del(struct list_head *entry)
{
	list_del(entry);
}

__rust_helper void rust_helper_list_del_init(struct list_head *entry)
{
	list_del_init(entry);
}

__rust_helper void rust_helper_list_move(struct list_head *list, struct list_head *head)
{
	list_move(list, head);
}

__rust_helper void rust_helper_list_move_tail(struct list_head *list, struct list_head *head)
{
	list_move_tail(list, head);
}

__rust_helper void rust_helper_list_splice_init(struct list_head *list, struct list_head *head)
{
	list_splice_init(list, head);
}
