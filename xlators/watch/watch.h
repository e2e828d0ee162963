/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What the translator `watch` calls in the program that it is loaded into, when that exports it; in a mount
 * it tells another translator (listener.h).
 */
#ifndef BLOCKD_XLATORS_WATCH_H
#define BLOCKD_XLATORS_WATCH_H

/*
 * A client's connection to a brick was made or lost. `translator` is the name of the watching translator,
 * VOLUME-watch-NUMBER. It is called before replicate learns of it, on one of the engine's threads: what it
 * changes is in force before replicate answers any request in the new situation. Of a connection that is made
 * it tells again once replicate has learnt of it. Must not block.
 */
void blockd_brick_event(const char *translator);

#endif
