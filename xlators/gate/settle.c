/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "xlators/gate/settle.h"

#include <errno.h>
#include <stdlib.h>

/* ---- Queues ---- */

static void queue_init(struct settle_queue *queue)
{
    queue->first = NULL;
    queue->last = &queue->first;
}

static void queue_add(struct settle_queue *queue, struct settle_change *change)
{
    change->next = NULL;
    *queue->last = change;
    queue->last = &change->next;
}

static struct settle_change *queue_take_all(struct settle_queue *queue)
{
    struct settle_change *first = queue->first;
    queue_init(queue);
    return first;
}

/* ---- Sets ---- */

int settle_init(struct settle *settle, size_t sets)
{
    *settle = (struct settle){.count = sets, .sets = calloc(sets ? sets : 1, sizeof *settle->sets)};
    pthread_mutex_init(&settle->mutex, NULL);
    return settle->sets ? 0 : -ENOMEM;
}

int settle_add_bricks(struct settle *settle, size_t set, size_t count)
{
    struct settle_set *one = &settle->sets[set];
    one->bricks = calloc(count ? count : 1, sizeof *one->bricks);
    if (!one->bricks)
        return -ENOMEM;
    one->count = count;
    one->unrest = (unsigned)count;
    atomic_fetch_add(&settle->unrest, (unsigned)count);
    return 0;
}

void settle_clear(struct settle *settle)
{
    for (size_t i = 0; i < settle->count; i++)
        free(settle->sets[i].bricks);
    free(settle->sets);
    pthread_mutex_destroy(&settle->mutex);
}

/* Under the mutex. The sequence moves with each change, so that who began before it sees it. */
static uint64_t changed(struct settle *settle, struct settle_set *set, int unrest)
{
    set->unrest += (unsigned)unrest;
    atomic_fetch_add(&settle->unrest, (unsigned)unrest);
    set->changed = atomic_fetch_add(&settle->sequence, 1) + 1;
    return set->changed;
}

void settle_coming(struct settle *settle, size_t set, size_t brick)
{
    struct settle_set *one = &settle->sets[set];
    pthread_mutex_lock(&settle->mutex);
    one->bricks[brick].trouble = changed(settle, one, one->bricks[brick].up ? 1 : 0);
    one->bricks[brick].up = false;
    pthread_mutex_unlock(&settle->mutex);
}

void settle_came(struct settle *settle, size_t set, size_t brick)
{
    struct settle_set *one = &settle->sets[set];
    pthread_mutex_lock(&settle->mutex);
    one->bricks[brick].trouble = changed(settle, one, one->bricks[brick].up ? 0 : -1);
    one->bricks[brick].up = true;
    pthread_mutex_unlock(&settle->mutex);
}

void settle_went(struct settle *settle, size_t set, size_t brick)
{
    settle_coming(settle, set, brick);
}

/* Whether the set was in unrest at any time after a change began. */
static bool stirred(const struct settle_set *set, uint64_t since)
{
    return set->unrest > 0 || set->changed > since;
}

static bool was_there(const struct settle_brick *brick, uint64_t since)
{
    return brick->up && brick->trouble <= since;
}

/* As replicate counts its automatic quorum. */
static bool is_quorum(const struct settle_set *set, uint64_t bricks)
{
    size_t count = (size_t)__builtin_popcountll(bricks);
    return 2 * count > set->count || (2 * count == set->count && (bricks & 1));
}

/* Of those bricks that took part and that nothing happened to. */
static bool has_quorum(const struct settle_set *set, uint64_t without, uint64_t since)
{
    uint64_t good = 0;
    for (size_t i = 0; i < set->count; i++)
        if (was_there(&set->bricks[i], since))
            good |= UINT64_C(1) << i;
    return is_quorum(set, good & ~without);
}

/* ---- Spots ---- */

void settle_spot_init(struct settle_spot *spot, struct settle_locks *locks)
{
    *spot = (struct settle_spot){.locks = locks};
    queue_init(&spot->left);
    queue_init(&spot->waiting);
}

/* Under the mutex. */
static void watch(struct settle *settle, struct settle_spot *spot)
{
    bool partial = false;
    for (size_t i = 0; i < settle->count; i++)
        partial = partial || spot->locks[i].without;
    atomic_store(&spot->watched, partial || spot->shut);
}

static void end_partial(struct settle *settle, struct settle_spot *spot, size_t set)
{
    spot->locks[set].without = 0;
    changed(settle, &settle->sets[set], -1);
}

void settle_spot_clear(struct settle *settle, struct settle_spot *spot)
{
    pthread_mutex_lock(&settle->mutex);
    for (size_t i = 0; i < settle->count; i++)
        if (spot->locks[i].without)
            end_partial(settle, spot, i);
    pthread_mutex_unlock(&settle->mutex);
}

/* Under the mutex. All bricks that are not noted as behind have the note, and were there ever since. */
static bool is_noted_ahead(const struct settle_set *set, const struct settle_locks *locks, uint64_t since)
{
    if (!atomic_load(&locks->ahead) || atomic_load(&locks->overlaps))
        return false;
    uint64_t good = locks->has & ~locks->without;
    for (size_t i = 0; i < set->count; i++) {
        if (locks->behind >> i & 1)
            continue;
        if (!(good >> i & 1) || !was_there(&set->bricks[i], since) ||
            !was_there(&set->bricks[i], locks->noted))
            return false;
    }
    return true;
}

/* Under the mutex. Locks in sets that were calm do not count: what was done there was done on all bricks. */
static bool is_settled(const struct settle *settle, const struct settle_spot *spot, uint64_t since)
{
    for (size_t i = 0; i < settle->count; i++)
        if (atomic_load(&spot->locks[i].held) > 0 && stirred(&settle->sets[i], since) &&
            !is_noted_ahead(&settle->sets[i], &spot->locks[i], since))
            return false;
    return true;
}

/* Under the mutex. A set in which no lock was given up since the change began had no part in it. */
static bool is_noted(const struct settle *settle, const struct settle_spot *spot, uint64_t since)
{
    for (size_t i = 0; i < settle->count; i++)
        if (stirred(&settle->sets[i], since) && atomic_load(&spot->locks[i].given_up) >= since &&
            !has_quorum(&settle->sets[i], spot->locks[i].without, since))
            return false;
    return true;
}

struct released {
    struct settle_change *noted, *lost, *waiting;
};

/* Under the mutex: opens the spot if it is shut and settled for all who left it. */
static void release(struct settle *settle, struct settle_spot *spot, struct released *ret_released)
{
    struct settle_queue noted, lost;
    if (!spot->shut)
        return;
    for (struct settle_change *change = spot->left.first; change; change = change->next)
        if (!is_settled(settle, spot, change->since))
            return;
    queue_init(&noted);
    queue_init(&lost);
    for (struct settle_change *change = queue_take_all(&spot->left), *next; change; change = next) {
        next = change->next;
        queue_add(is_noted(settle, spot, change->since) ? &noted : &lost, change);
    }
    ret_released->noted = noted.first;
    ret_released->lost = lost.first;
    ret_released->waiting = queue_take_all(&spot->waiting);
    spot->shut = false;
    atomic_fetch_sub(&settle->settling, 1);
    watch(settle, spot);
}

static void answer_all(struct settle_change *first, bool noted)
{
    for (struct settle_change *change = first, *next; change; change = next) {
        next = change->next; /* the change is its owner's once it is told */
        change->answer(change, noted);
    }
}

static void tell(const struct released *released)
{
    answer_all(released->noted, true);
    answer_all(released->lost, false);
    for (struct settle_change *change = released->waiting, *next; change; change = next) {
        next = change->next;
        change->retry(change);
    }
}

/* ---- What replicate does ---- */

void settle_asks(struct settle_spot *spot, size_t set)
{
    atomic_fetch_add(&spot->locks[set].asked, 1);
}

void settle_locked(struct settle_spot *spot, size_t set, size_t brick)
{
    struct settle_locks *locks = &spot->locks[set];
    uint64_t bit = UINT64_C(1) << brick;
    if (atomic_fetch_or(&locks->holders, bit) & bit)
        atomic_store(&locks->overlaps, true);
    atomic_fetch_add(&locks->held, 1);
    atomic_fetch_sub(&locks->asked, 1);
}

/* Under the mutex. */
static void leave_out(struct settle *settle, struct settle_spot *spot, size_t set, size_t brick)
{
    changed(settle, &settle->sets[set], spot->locks[set].without ? 0 : 1);
    spot->locks[set].without |= UINT64_C(1) << brick;
    atomic_store(&spot->watched, true);
}

void settle_refused(struct settle *settle, struct settle_spot *spot, size_t set, size_t brick)
{
    pthread_mutex_lock(&settle->mutex);
    leave_out(settle, spot, set, brick);
    pthread_mutex_unlock(&settle->mutex);
}

void settle_failed(struct settle *settle, struct settle_spot *spot, size_t set, size_t brick)
{
    pthread_mutex_lock(&settle->mutex);
    if (atomic_load(&spot->locks[set].held) > 0)
        leave_out(settle, spot, set, brick);
    pthread_mutex_unlock(&settle->mutex);
}

/*
 * Under the mutex. Only bricks that are away or refused their lock: one that is there and has no lock is
 * about to be locked, and may take part in the change.
 */
static uint64_t left_behind(const struct settle_set *set, const struct settle_locks *locks)
{
    uint64_t holders = atomic_load(&locks->holders), behind = 0;
    if (atomic_load(&locks->overlaps) || !is_quorum(set, holders))
        return 0;
    for (size_t i = 0; i < set->count; i++) {
        if (holders >> i & 1)
            continue;
        if (set->bricks[i].up && !(locks->without >> i & 1))
            return 0;
        behind |= UINT64_C(1) << i;
    }
    return behind;
}

uint64_t settle_ahead(struct settle *settle, struct settle_spot *spot, size_t set)
{
    struct settle_locks *locks = &spot->locks[set];
    if (atomic_load(&settle->unrest) == 0)
        return 0;
    pthread_mutex_lock(&settle->mutex);
    uint64_t behind = left_behind(&settle->sets[set], locks);
    if (behind && !atomic_load(&locks->ahead)) {
        locks->behind = behind;
        locks->has = 0;
        locks->noted = atomic_load(&settle->sequence);
        atomic_store(&locks->ahead, true);
    } else if (behind) {
        locks->behind &= behind;
    }
    pthread_mutex_unlock(&settle->mutex);
    return behind;
}

void settle_has_note(struct settle *settle, struct settle_spot *spot, size_t set, size_t brick)
{
    pthread_mutex_lock(&settle->mutex);
    spot->locks[set].has |= UINT64_C(1) << brick;
    pthread_mutex_unlock(&settle->mutex);
}

/* The notes hold no longer than the lock of each brick. */
static void forget_notes(struct settle *settle, struct settle_locks *locks)
{
    pthread_mutex_lock(&settle->mutex);
    atomic_store(&locks->ahead, false);
    pthread_mutex_unlock(&settle->mutex);
}

/* Something was given up, or will not be given. */
static void look(struct settle *settle, struct settle_spot *spot, size_t set)
{
    struct released released = {0};
    struct settle_locks *locks = &spot->locks[set];
    pthread_mutex_lock(&settle->mutex);
    release(settle, spot, &released);
    if (locks->without && atomic_load(&locks->held) == 0 && atomic_load(&locks->asked) == 0) {
        end_partial(settle, spot, set);
        watch(settle, spot);
    }
    pthread_mutex_unlock(&settle->mutex);
    tell(&released);
}

void settle_heard(struct settle *settle, struct settle_spot *spot, size_t set)
{
    atomic_fetch_sub(&spot->locks[set].asked, 1);
    if (atomic_load(&spot->watched))
        look(settle, spot, set);
}

void settle_gives_up(struct settle *settle, struct settle_spot *spot, size_t set, size_t brick)
{
    struct settle_locks *locks = &spot->locks[set];
    if (atomic_load(&locks->ahead))
        forget_notes(settle, locks);
    atomic_fetch_and(&locks->holders, ~(UINT64_C(1) << brick));
    atomic_store(&locks->given_up, atomic_load(&settle->sequence));
    if (atomic_fetch_sub(&locks->held, 1) == 1 && atomic_load(&spot->watched))
        look(settle, spot, set);
}

/* ---- What changes do ---- */

bool settle_enter(struct settle *settle, struct settle_spot *spot, struct settle_change *change)
{
    pthread_mutex_lock(&settle->mutex);
    bool shut = spot->shut;
    if (shut)
        queue_add(&spot->waiting, change);
    else
        change->since = atomic_load(&settle->sequence);
    pthread_mutex_unlock(&settle->mutex);
    return !shut;
}

enum settle_result settle_leave(struct settle *settle, struct settle_spot *spot, struct settle_change *change)
{
    enum settle_result result = SETTLE_WAIT;
    pthread_mutex_lock(&settle->mutex);
    if (!spot->shut) {
        /* Seen by who gives a lock up from here on; who did so before is seen here. */
        atomic_store(&spot->watched, true);
        if (is_settled(settle, spot, change->since)) {
            result = is_noted(settle, spot, change->since) ? SETTLE_NOTED : SETTLE_LOST;
            watch(settle, spot);
        } else {
            spot->shut = true;
            atomic_fetch_add(&settle->settling, 1);
        }
    }
    if (result == SETTLE_WAIT)
        queue_add(&spot->left, change);
    pthread_mutex_unlock(&settle->mutex);
    return result;
}

bool settle_wake(struct settle *settle, struct settle_spot *spot)
{
    pthread_mutex_lock(&settle->mutex);
    bool first = spot->shut && !spot->waking;
    spot->again = spot->waking;
    spot->waking = spot->waking || first;
    pthread_mutex_unlock(&settle->mutex);
    return first;
}

bool settle_woken(struct settle *settle, struct settle_spot *spot)
{
    pthread_mutex_lock(&settle->mutex);
    bool more = spot->again && spot->shut;
    spot->again = false;
    spot->waking = more;
    pthread_mutex_unlock(&settle->mutex);
    return more;
}
