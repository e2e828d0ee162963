/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What the translators `watch` tell a translator above replicate in the same graph, when that asks for it
 * (xlators/gate). It does so in its init(), when those below are made and nothing passes yet.
 */
#ifndef BLOCKD_XLATORS_WATCH_LISTENER_H
#define BLOCKD_XLATORS_WATCH_LISTENER_H

#include "xlators/abi.h"

/* How the type of the translator ends. */
#define WATCH_TYPE "/watch"

enum watch_lock {
    WATCH_DATA,
    WATCH_METADATA,
    WATCH_ENTRY,
};

struct watch_listener;

/* Called on the engine's threads; must not block. A lock's calls come with its inode,
 * which lives meanwhile. */
struct watch_calls {
    /* Before replicate hears that a connection to a brick is made or lost, and when it has heard. */
    void (*coming)(struct watch_listener *listener);
    void (*came)(struct watch_listener *listener);
    void (*went)(struct watch_listener *listener);
    /* The brick did not take a note about the inode. Before replicate hears of it. */
    void (*failed)(struct watch_listener *listener, inode_t *inode);

    /* Replicate marks the inode before it changes its data. What the brick is to be asked instead, the
     * caller's, or NULL; then whether the brick did it is told, before replicate hears of it. */
    dict_t *(*marks)(struct watch_listener *listener, inode_t *inode, dict_t *marks);
    void (*marked)(struct watch_listener *listener, inode_t *inode);

    /* Replicate asks for a lock; it is granted or refused, before replicate hears of it; it has heard that
     * it was refused, or that somebody else has the lock; it gives the lock up. */
    void (*asks)(struct watch_listener *listener, inode_t *inode, enum watch_lock kind);
    void (*locked)(struct watch_listener *listener, inode_t *inode, enum watch_lock kind);
    void (*refused)(struct watch_listener *listener, inode_t *inode, enum watch_lock kind);
    void (*heard)(struct watch_listener *listener, inode_t *inode, enum watch_lock kind);
    void (*gives_up)(struct watch_listener *listener, inode_t *inode, enum watch_lock kind);
};

/* `private` of the watch; the listener's memory. */
struct watch_listener {
    const struct watch_calls *calls;
    const char *domain; /* of the locks by which replicate makes changes: its name */
};

#endif
