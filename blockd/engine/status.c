/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/engine/heal_priv.h"

#include "rpc/base/alloc.h"

/* Half of the replicas and one are needed to write; one brick that is behind counts as whole only after its
 * heal. */
const char *volume_phase(const struct volume *volume, const struct brick_status *bricks, size_t count)
{
    size_t all = volume->spec.bricks.count, down = 0, failed = 0, behind = 0;
    for (size_t i = 0; i < count; i++) {
        down += !string_equal(bricks[i].state, "online");
        failed += string_equal(bricks[i].state, "failed");
        behind += bricks[i].heal_pending > 0;
    }
    size_t up = all > down ? all - down : 0;
    if (volume->spec.state == VOLUME_STOPPED && down == count)
        return "stopped";
    if (up < all / 2 + 1)
        return failed ? "failed" : "offline";
    return down || behind ? "degraded" : "online";
}

/* A witness has no room for data, so it does not count. */
static bool holds_data(const struct volume *volume, size_t index)
{
    return volume->spec.template_name != TEMPLATE_ARBITER || index != 2;
}

static void add_space(struct volume_status *status, const struct brick_status *brick, bool *first)
{
    if (brick->size == 0)
        return;
    if (*first || brick->size < status->size)
        status->size = brick->size;
    if (*first || brick->free < status->free)
        status->free = brick->free;
    *first = false;
}

int engine_volume_status(struct engine *engine, const struct volume *volume, struct volume_status *ret_status,
                         struct error **ret_error)
{
    int r = volfile_volume_check(volume, ret_error);
    if (r < 0)
        return r;
    struct volume_status status = {.observed_generation = volume->meta.generation};
    autostrbuf struct strbuf errors = {0};
    bool first = true;
    scoped_claim(engine, "heal", volume->meta.name);
    const struct heal_view *heal = heal_view_refresh(engine, volume, false);
    status.heal_pending = heal->counts.pending;
    status.heal_dirty = heal->counts.dirty;
    status.split_brain = heal->counts.split_brain;
    for (size_t i = 0; i < volume->spec.bricks.count; i++) {
        const struct brick_spec *spec = volume_brick(volume, i);
        if (!brick_is_local(engine, spec))
            continue;
        struct brick_status *brick = object_list_add(&status.bricks, sizeof *brick);
        brick_look(engine, volume, spec, brick);
        brick->heal_pending = heal->pending[i].files.count;
        if (holds_data(volume, i))
            add_space(&status, brick, &first);
        if (brick->error)
            strbuf_addf(&errors, "%sbrick on %s: %s", errors.length ? "; " : "", brick->device, brick->error);
    }
    status.phase = xstrdup(volume_phase(volume, status.bricks.items, status.bricks.count));
    if (errors.length)
        status.error = strbuf_steal(&errors);
    *ret_status = status;
    return 0;
}
