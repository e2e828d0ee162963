/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * In a mount, above all sets of bricks: a change is answered only when replicate has noted on the good bricks
 * which ones missed it (settle.h says when that is). It stands above distribute, and not directly above
 * replicate: distribute writes the names of those below it into files, and replicate locks by its own name.
 * What replicate does it hears from the translators `watch` below that.
 *
 * Disperse has no watches, and so counts as calm. It reads under its lock, and notes who is behind before it
 * gives that up, so that another mount waits for the note; and it makes its notes before it syncs or flushes,
 * so that what was synced outlives its writer. What remains: before that it only marks a file as dirty, and
 * neither its reads nor its heals ask who has not the mark. So when a writer ends between a write and its
 * note, the fragment of a brick that was away counts as good when that is back, and the stripe is read as a
 * mixture, with what was synced there before. To hold answers back would not help those bytes, as a write
 * that was never answered does the same; and a note made ahead, as with replicate, is a version that the
 * fragments must share: made on a part of them only, there may be too few left that agree.
 */
#include "xlators/gate/gate.h"

#include <errno.h>
#include <stdlib.h>

#include <glusterfs/defaults.h>
#include <glusterfs/statedump.h>

#define BRICKS_MAX 64 /* of a set */
/* Replicate's default. */
#define DELAY_SECONDS "1"

struct gate_listener {
    struct watch_listener base; /* first, for what the watches call */
    xlator_t *gate, *watch;
    size_t set, brick;
    char *note; /* the attribute by which bricks note that this one is behind; NULL: not known */
};

/* ---- Spots ---- */

struct gate_inode {
    struct settle_spot spots[GATE_KINDS];
    struct settle_locks locks[]; /* of each spot one a set */
};

static struct gate_inode *new_inode(const struct settle *settle)
{
    struct gate_inode *made = calloc(1, sizeof *made + GATE_KINDS * settle->count * sizeof made->locks[0]);
    for (size_t kind = 0; made && kind < GATE_KINDS; kind++)
        settle_spot_init(&made->spots[kind], &made->locks[kind * settle->count]);
    return made;
}

struct settle_spot *gate_spot(xlator_t *this, inode_t *inode, enum watch_lock kind)
{
    const struct gate *gate = this->private;
    struct gate_inode *found = NULL;
    uint64_t value = 0;
    LOCK(&inode->lock);
    if (__inode_ctx_get0(inode, this, &value) == 0 && value) {
        found = (struct gate_inode *)(uintptr_t)value;
    } else {
        found = new_inode(&gate->settle);
        value = (uint64_t)(uintptr_t)found;
        if (found && __inode_ctx_set0(inode, this, &value) != 0) {
            free(found);
            found = NULL;
        }
    }
    UNLOCK(&inode->lock);
    return found ? &found->spots[kind] : NULL;
}

static int32_t gate_forget(xlator_t *this, inode_t *inode)
{
    struct gate *gate = this->private;
    uint64_t value = 0;
    inode_ctx_del(inode, this, &value);
    struct gate_inode *found = (struct gate_inode *)(uintptr_t)value;
    for (size_t kind = 0; gate && found && kind < GATE_KINDS; kind++)
        settle_spot_clear(&gate->settle, &found->spots[kind]);
    free(found);
    return 0;
}

/* ---- What the watches tell ---- */

#define TOLD_OF_BRICK(event)                                                                                 \
    static void on_##event(struct watch_listener *base)                                                      \
    {                                                                                                        \
        struct gate_listener *listener = (struct gate_listener *)base;                                       \
        struct gate *gate = listener->gate->private;                                                         \
        settle_##event(&gate->settle, listener->set, listener->brick);                                       \
    }

TOLD_OF_BRICK(coming)
TOLD_OF_BRICK(came)
TOLD_OF_BRICK(went)

static void on_failed(struct watch_listener *base, inode_t *inode)
{
    struct gate_listener *listener = (struct gate_listener *)base;
    struct gate *gate = listener->gate->private;
    for (enum watch_lock kind = WATCH_DATA; kind <= WATCH_ENTRY; kind++) {
        struct settle_spot *spot = gate_spot(listener->gate, inode, kind);
        if (spot)
            settle_failed(&gate->settle, spot, listener->set, listener->brick);
    }
}

static void on_asks(struct watch_listener *base, inode_t *inode, enum watch_lock kind)
{
    struct gate_listener *listener = (struct gate_listener *)base;
    struct settle_spot *spot = gate_spot(listener->gate, inode, kind);
    if (spot)
        settle_asks(spot, listener->set);
}

static void on_locked(struct watch_listener *base, inode_t *inode, enum watch_lock kind)
{
    struct gate_listener *listener = (struct gate_listener *)base;
    struct settle_spot *spot = gate_spot(listener->gate, inode, kind);
    if (spot)
        settle_locked(spot, listener->set, listener->brick);
}

static void on_refused(struct watch_listener *base, inode_t *inode, enum watch_lock kind)
{
    struct gate_listener *listener = (struct gate_listener *)base;
    struct gate *gate = listener->gate->private;
    struct settle_spot *spot = gate_spot(listener->gate, inode, kind);
    if (spot)
        settle_refused(&gate->settle, spot, listener->set, listener->brick);
}

static void on_heard(struct watch_listener *base, inode_t *inode, enum watch_lock kind)
{
    struct gate_listener *listener = (struct gate_listener *)base;
    struct gate *gate = listener->gate->private;
    struct settle_spot *spot = gate_spot(listener->gate, inode, kind);
    if (spot)
        settle_heard(&gate->settle, spot, listener->set);
}

static void on_gives_up(struct watch_listener *base, inode_t *inode, enum watch_lock kind)
{
    struct gate_listener *listener = (struct gate_listener *)base;
    struct gate *gate = listener->gate->private;
    struct settle_spot *spot = gate_spot(listener->gate, inode, kind);
    if (spot)
        settle_gives_up(&gate->settle, spot, listener->set, listener->brick);
}

/* ---- Notes made ahead ---- */

/* The marks, and notes that those bricks have missed one more change of data; NULL without memory. */
static dict_t *with_notes(const struct gate_listener *bricks, uint64_t behind, dict_t *marks)
{
    /* As replicate counts: data, attributes, names; big endian. */
    static uint8_t one_more[GATE_KINDS * sizeof(uint32_t)] = {[3] = 1};
    dict_t *made = dict_copy_with_ref(marks, NULL);
    for (size_t i = 0; made && behind >> i; i++) {
        if (!(behind >> i & 1))
            continue;
        if (!bricks[i].note || dict_set_static_bin(made, bricks[i].note, one_more, sizeof one_more) != 0) {
            dict_unref(made);
            made = NULL;
        }
    }
    return made;
}

static dict_t *on_marks(struct watch_listener *base, inode_t *inode, dict_t *marks)
{
    struct gate_listener *listener = (struct gate_listener *)base;
    struct gate *gate = listener->gate->private;
    struct settle_spot *spot = gate_spot(listener->gate, inode, WATCH_DATA);
    uint64_t behind = spot ? settle_ahead(&gate->settle, spot, listener->set) : 0;
    return behind ? with_notes(listener - listener->brick, behind, marks) : NULL;
}

static void on_marked(struct watch_listener *base, inode_t *inode)
{
    struct gate_listener *listener = (struct gate_listener *)base;
    struct gate *gate = listener->gate->private;
    struct settle_spot *spot = gate_spot(listener->gate, inode, WATCH_DATA);
    if (spot)
        settle_has_note(&gate->settle, spot, listener->set, listener->brick);
}

static const struct watch_calls calls = {
    .coming = on_coming,
    .came = on_came,
    .went = on_went,
    .failed = on_failed,
    .marks = on_marks,
    .marked = on_marked,
    .asks = on_asks,
    .locked = on_locked,
    .refused = on_refused,
    .heard = on_heard,
    .gives_up = on_gives_up,
};

/* ---- The translators below ---- */

static bool is_watch(const xlator_t *xlator)
{
    size_t length = strlen(xlator->type), end = strlen(WATCH_TYPE);
    return length > end && strcmp(xlator->type + length - end, WATCH_TYPE) == 0;
}

/* Whether it keeps replicas below watches. */
static bool is_set(const xlator_t *xlator)
{
    return xlator->children && is_watch(xlator->children->xlator);
}

static size_t count_bricks(const xlator_t *set)
{
    size_t count = 0;
    for (const xlator_list_t *list = set->children; list; list = list->next)
        count++;
    return count;
}

/* Calls for each set at or below; the first failure. */
static int each_set(xlator_t *xlator, int (*call)(xlator_t *this, xlator_t *set, size_t *count),
                    xlator_t *this, size_t *count)
{
    if (is_set(xlator))
        return call(this, xlator, count);
    int r = 0;
    for (xlator_list_t *list = xlator->children; list && r == 0; list = list->next)
        r = each_set(list->xlator, call, this, count);
    return r;
}

static int count_set(xlator_t *this, xlator_t *set, size_t *count)
{
    struct gate *gate = this->private;
    (*count)++;
    gate->listener_count += count_bricks(set);
    return 0;
}

/* Whether it keeps a lock for a while after a write. */
static bool delays(xlator_t *set)
{
    char *seconds = NULL;
    if (dict_get_str(set->options, (char *)"post-op-delay-secs", &seconds) != 0)
        seconds = (char *)DELAY_SECONDS;
    return atoi(seconds) > 0;
}

/* The names by which replicate notes bricks, in their order. The caller's; NULL: not known. */
static char *note_names(xlator_t *set)
{
    char *names = NULL;
    return dict_get_str(set->options, (char *)"afr-pending-xattr", &names) == 0 ? strdup(names) : NULL;
}

static int listen_to_set(xlator_t *this, xlator_t *set, size_t *count)
{
    struct gate *gate = this->private;
    size_t number = (*count)++, brick = 0;
    gate->delays = gate->delays || delays(set);
    char *names = note_names(set), *rest = names;
    for (xlator_list_t *list = set->children; list; list = list->next, brick++) {
        if (!is_watch(list->xlator) || brick >= BRICKS_MAX) {
            free(names);
            return -EINVAL;
        }
        const char *name = rest ? strsep(&rest, ",") : NULL;
        struct gate_listener *listener = &gate->listeners[gate->listener_count++];
        *listener = (struct gate_listener){.base = {.calls = &calls, .domain = set->name},
                                           .gate = this,
                                           .watch = list->xlator,
                                           .set = number,
                                           .brick = brick};
        if (name && asprintf(&listener->note, "trusted.afr.%s", name) < 0)
            listener->note = NULL;
        list->xlator->private = listener;
    }
    free(names);
    return settle_add_bricks(&gate->settle, number, brick);
}

static int listen_to_all(xlator_t *this, struct gate *gate)
{
    size_t sets = 0;
    xlator_t *below = FIRST_CHILD(this);
    int r = each_set(below, count_set, this, &sets);
    if (r < 0)
        return r;
    gate->listeners = calloc(gate->listener_count ? gate->listener_count : 1, sizeof *gate->listeners);
    r = settle_init(&gate->settle, sets);
    if (!gate->listeners || r < 0)
        return -ENOMEM;
    sets = gate->listener_count = 0;
    return each_set(below, listen_to_set, this, &sets);
}

/* ---- The translator ---- */

static void gate_fini(xlator_t *this)
{
    struct gate *gate = this->private;
    this->private = NULL;
    if (!gate)
        return;
    for (size_t i = 0; i < gate->listener_count; i++) {
        gate->listeners[i].watch->private = NULL;
        free(gate->listeners[i].note);
    }
    gate_answers_end(&gate->answers);
    settle_clear(&gate->settle);
    free(gate->listeners);
    free(gate);
}

/* A failure ends the graph, and with it what was made. */
static int32_t gate_init(xlator_t *this)
{
    if (!this->children || this->children->next || !this->parents) {
        gf_log(this->name, GF_LOG_ERROR, "needs one translator below and one above");
        return -1;
    }
    struct gate *gate = this->private = calloc(1, sizeof *gate);
    if (!gate)
        return -1;
    gate_answers_init(&gate->answers);
    GF_OPTION_INIT("refresh", gate->refresh, bool, failed);
    int r = listen_to_all(this, gate);
    if (r < 0) {
        gf_log(this->name, GF_LOG_ERROR, "cannot listen to the bricks: %s", strerror(-r));
        return -1;
    }
    return 0;
failed:
    return -1;
}

static int32_t gate_dump(xlator_t *this)
{
    const struct gate *gate = this->private;
    gf_proc_dump_add_section("%s.%s", this->type, this->name);
    gf_proc_dump_write("unrest", "%u", atomic_load(&gate->settle.unrest));
    gf_proc_dump_write("settling", "%u", atomic_load(&gate->settle.settling));
    gf_proc_dump_write("waited", "%" PRIu64, (uint64_t)atomic_load(&gate->waited));
    gf_proc_dump_write("held", "%" PRIu64, (uint64_t)atomic_load(&gate->held));
    gf_proc_dump_write("woken", "%" PRIu64, (uint64_t)atomic_load(&gate->woken));
    gf_proc_dump_write("lost", "%" PRIu64, (uint64_t)atomic_load(&gate->lost));
    return 0;
}

static int32_t gate_notify(xlator_t *this, int32_t event, void *data, ...)
{
    return default_notify(this, event, data);
}

static struct xlator_dumpops gate_dumps = {.priv = gate_dump};
static struct xlator_cbks gate_cbks = {.forget = gate_forget};
static struct volume_options gate_options[] = {
    {.key = {"refresh"}, .type = GF_OPTION_TYPE_BOOL, .default_value = "off"},
    {.key = {NULL}},
};

xlator_api_t xlator_api = {
    .init = gate_init,
    .fini = gate_fini,
    .notify = gate_notify,
    .op_version = {1},
    .fops = &gate_fops,
    .cbks = &gate_cbks,
    .dumpops = &gate_dumps,
    .options = gate_options,
    .identifier = "gate",
    .category = GF_EXPERIMENTAL,
};
