/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* A thread that watches the folder of volfiles. */
#ifndef BLOCKD_XLATORS_VOLSERVER_CHANGES_H
#define BLOCKD_XLATORS_VOLSERVER_CHANGES_H

struct changes;

/* Both are called on the thread of the watch. */
struct changes_calls {
    /* The volfile `name` was replaced; NULL: any may have been. */
    void (*changed)(void *data, const char *name);
    /* About once a second, and after changes_wake(). */
    void (*tick)(void *data);
    void *data;
};

/* 0 or a negative errno. The calls are copied. */
int changes_start(const char *folder, const struct changes_calls *calls, struct changes **ret_changes);
void changes_wake(struct changes *changes);
/* Waits for the end of the thread. */
void changes_stop(struct changes *changes);

#endif
