/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * How the size of a share is divided among the sets of a volume. Each set has what it holds of the share, and
 * a like part of what the share has left. So the parts make up the size, which is what df shows (a client's
 * statfs adds the sets up), and room that one set lacks comes from those that have it.
 *
 * While files move between sets they are in both of them for a moment, and it is not known which set needs
 * the room: each may then take all that is left of the share, and as much as the largest of them holds, so
 * that even a full share can move. That is more than the share's size, for as long as the move lasts.
 */
#include "blockd/engine/engine_priv.h"

/* Where each set has what it needs, parts stay as they are: the kernel writes each change down. */
static bool may_stay(const struct share_part *parts, size_t count, uint64_t total, uint64_t fair)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].shown < parts[i].used + (parts[i].leaving ? 0 : fair / 2) ||
            parts[i].most != parts[i].shown)
            return false;
        sum += parts[i].shown;
    }
    return sum == total;
}

/* The sets have more than the share's size: what is shown of each is what it has of
 * all, and none of it free. */
static void scale(struct share_part *parts, size_t count, uint64_t total, uint64_t sum)
{
    uint64_t left = total;
    for (size_t i = 0; i < count; i++) {
        parts[i].shown = (uint64_t)((unsigned __int128)parts[i].used * total / sum);
        left -= parts[i].shown;
    }
    for (size_t i = 0; left > 0; left--, i = (i + 1) % count)
        parts[i].shown++;
}

static void divide(struct share_part *parts, size_t count, uint64_t rest, size_t takers)
{
    uint64_t extra = takers ? rest % takers : 0;
    for (size_t i = 0; i < count; i++) {
        parts[i].shown = parts[i].used;
        if (parts[i].leaving)
            continue;
        parts[i].shown += rest / takers + (extra > 0);
        extra -= extra > 0;
    }
}

/* In units. */
static void divide_units(uint64_t total, bool moving, struct share_part *parts, size_t count)
{
    uint64_t sum = 0, largest = 0;
    size_t takers = 0;
    for (size_t i = 0; i < count; i++) {
        sum += parts[i].used;
        largest = parts[i].used > largest ? parts[i].used : largest;
        takers += !parts[i].leaving;
    }
    uint64_t rest = total > sum ? total - sum : 0;
    if (!moving && may_stay(parts, count, total, takers ? rest / takers : 0))
        return;
    if (sum > total)
        scale(parts, count, total, sum);
    else
        divide(parts, count, rest, takers);
    uint64_t room = total + largest > sum ? total + largest - sum : 0;
    for (size_t i = 0; i < count; i++) {
        struct share_part *part = &parts[i];
        if (!part->shown)
            part->shown = 1; /* 0 would be no limit */
        uint64_t most = part->used + room < total ? part->used + room : total;
        part->most = moving && most > part->shown ? most : part->shown;
    }
}

static uint64_t units_of(uint64_t bytes, uint64_t unit)
{
    return bytes / unit + (bytes % unit != 0);
}

void share_divide(uint64_t size, uint64_t unit, bool moving, struct share_part *parts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        parts[i].used = units_of(parts[i].used, unit);
        parts[i].shown = units_of(parts[i].shown, unit);
        parts[i].most = units_of(parts[i].most, unit);
    }
    divide_units(units_of(size, unit), moving, parts, count);
    for (size_t i = 0; i < count; i++) {
        parts[i].used *= unit;
        parts[i].shown *= unit;
        parts[i].most *= unit;
    }
}
