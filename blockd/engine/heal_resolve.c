/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The end of a split-brain: one copy is declared right and the others are healed from it. GlusterFS's own
 * program does it, under replicate's locks; whether it has is read off the bricks, not out of its words.
 */
#include "blockd/engine/heal_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"
#include "rpc/base/spawn.h"

#define FIND_PROGRAM_MS 10000

/* ---- The file ---- */

struct conflict {
    struct heal_set set;
    struct gfid gfid; /* of the file, or of the folder whose name `clash` is several files */
    char *file, *clash, *kind;
    bool data; /* its data differs, so that a witness has no copy of it */
    struct stat copies[HEAL_WIDTH_MAX];
    bool there[HEAL_WIDTH_MAX];
};

static void conflict_close(struct conflict *conflict)
{
    heal_set_close(&conflict->set);
    free(conflict->file);
    free(conflict->clash);
    free(conflict->kind);
}

static bool is_witness(const struct heal_set *set, size_t i)
{
    return volume_child_is_witness(set->volume, set->children[i]);
}

static bool find_clash(struct conflict *conflict, const char *file)
{
    autostring_list struct string_list names = {0}, kinds = {0};
    autofree char *folder = heal_file_name(&conflict->set, &conflict->gfid);
    heal_clashes(&conflict->set, &conflict->gfid, &names, &kinds);
    for (size_t i = 0; i < names.count; i++) {
        autofree char *path = xasprintf("%s/%s", strcmp(folder, "/") == 0 ? "" : folder, names.items[i]);
        if (strcmp(path, file) != 0)
            continue;
        conflict->clash = xstrdup(names.items[i]);
        conflict->kind = xstrdup(kinds.items[i]);
        conflict->file = xstrdup(path);
        conflict->data = strcmp(kinds.items[i], "gfid") == 0;
        return true;
    }
    return false;
}

static bool find_file(struct conflict *conflict, const char *file)
{
    struct heal_copy copies[HEAL_WIDTH_MAX];
    struct heal_verdict verdict;
    char text[GFID_TEXT_SIZE];
    autofree char *path = heal_file_name(&conflict->set, &conflict->gfid);
    gfid_format(&conflict->gfid, text);
    bool named =
        strcmp(path, file) == 0 || (string_starts_with(file, "gfid:") && strcmp(file + 5, text) == 0);
    if (!named)
        return false;
    heal_look(&conflict->set, &conflict->gfid, copies);
    heal_judge(&conflict->set, copies, &verdict);
    if (verdict.state != HEAL_SPLIT_BRAIN)
        return false;
    conflict->file = steal_ptr(&path);
    conflict->data = verdict.split >> HEAL_DATA & 1;
    return true;
}

static void look_at_copies(struct conflict *conflict)
{
    for (size_t i = 0; i < conflict->set.width; i++) {
        const char *folder = conflict->set.folders[i];
        autofree char *handle = folder ? heal_handle(folder, &conflict->gfid) : NULL;
        autofree char *path = handle && conflict->clash ? xasprintf("%s/%s", handle, conflict->clash) : NULL;
        conflict->there[i] = handle && lstat(path ? path : handle, &conflict->copies[i]) == 0;
    }
}

/* Only what the view knows to be in split-brain is compared: no path from outside is looked up on a brick. */
static int find_conflict(struct engine *engine, const struct volume *volume, const char *file,
                         struct conflict *ret_conflict, struct error **ret_error)
{
    scoped_claim(engine, "heal", volume->meta.name);
    const struct heal_view *view = heal_view_refresh(engine, volume, true);
    for (size_t i = 0; i < view->count; i++) {
        const struct heal_entry *entry = &view->entries[i];
        if (entry->state != HEAL_SPLIT_BRAIN && !entry->clashes)
            continue;
        struct conflict conflict = {.gfid = entry->gfid};
        heal_set_open(engine, volume, entry->set, &conflict.set);
        if (find_file(&conflict, file) || (entry->clashes && find_clash(&conflict, file))) {
            look_at_copies(&conflict);
            *ret_conflict = conflict;
            return 0;
        }
        conflict_close(&conflict);
    }
    return error_set(ret_error, EEXIST,
                     "%s of volume %s is not in split-brain; see: gluster-block volume heal "
                     "info %s",
                     file, volume->meta.name, volume->meta.name);
}

static bool still_there(struct engine *engine, const struct volume *volume, const char *file)
{
    struct conflict conflict = {0};
    if (find_conflict(engine, volume, file, &conflict, NULL) < 0)
        return false;
    conflict_close(&conflict);
    return true;
}

/* ---- The choice ---- */

static bool is_copy(const struct conflict *conflict, size_t i)
{
    return conflict->there[i] && !(conflict->data && is_witness(&conflict->set, i));
}

/* Which of two copies is newer (larger): as strcmp(3). A change of metadata alone shows in the ctime. */
static int compare_copies(const struct conflict *conflict, bool by_size, size_t a, size_t b)
{
    const struct stat *one = &conflict->copies[a], *other = &conflict->copies[b];
    const struct timespec *t = conflict->data ? &one->st_mtim : &one->st_ctim;
    const struct timespec *u = conflict->data ? &other->st_mtim : &other->st_ctim;
    if (by_size)
        return (one->st_size > other->st_size) - (one->st_size < other->st_size);
    if (t->tv_sec != u->tv_sec)
        return t->tv_sec > u->tv_sec ? 1 : -1;
    return (t->tv_nsec > u->tv_nsec) - (t->tv_nsec < u->tv_nsec);
}

static int choose_best(const struct conflict *conflict, bool by_size, size_t *ret_brick,
                       struct error **ret_error)
{
    size_t best = SIZE_MAX;
    bool tie = false;
    for (size_t i = 0; i < conflict->set.width; i++) {
        if (!is_copy(conflict, i))
            continue;
        int order = best == SIZE_MAX ? 1 : compare_copies(conflict, by_size, i, best);
        tie = order == 0 || (tie && order < 0);
        if (order > 0)
            best = i;
    }
    if (best == SIZE_MAX || tie)
        return error_set(ret_error, EINVAL, "%s: no copy is the %s one; name the brick to keep, NODE/DEVICE",
                         conflict->file, by_size ? "largest" : "newest");
    *ret_brick = best;
    return 0;
}

static int choose_brick(const struct conflict *conflict, const char *keep, size_t *ret_brick,
                        struct error **ret_error)
{
    size_t found = SIZE_MAX;
    for (size_t i = 0; i < conflict->set.width; i++) {
        const struct brick_spec *brick = volume_child(conflict->set.volume, conflict->set.children[i]);
        autofree char *name = heal_brick_name(conflict->set.volume, conflict->set.children[i]);
        if (strcmp(keep, name) != 0 && strcmp(keep, brick->device) != 0 && strcmp(keep, brick->node) != 0)
            continue;
        if (found != SIZE_MAX)
            return error_set(ret_error, EINVAL, "%s: %s stands for several bricks; name one, NODE/DEVICE",
                             conflict->file, keep);
        found = i;
    }
    if (found == SIZE_MAX)
        return error_set(ret_error, EINVAL, "%s: no brick of it is %s", conflict->file, keep);
    if (!is_copy(conflict, found))
        return error_set(ret_error, EINVAL, "%s: %s %s", conflict->file, keep,
                         conflict->there[found] ? "is the witness, which holds no data"
                                                : "has no copy of it");
    *ret_brick = found;
    return 0;
}

static int choose(const struct conflict *conflict, const char *keep, size_t *ret_brick,
                  struct error **ret_error)
{
    for (size_t i = 0; i < conflict->set.width; i++) {
        autofree char *name = heal_brick_name(conflict->set.volume, conflict->set.children[i]);
        if (!conflict->set.up[i])
            return error_set(ret_error, ENOTCONN,
                             "%s: the brick on %s is away; a split-brain is resolved when all are up",
                             conflict->file, name);
    }
    if (string_equal(conflict->kind, "type"))
        return error_set(ret_error, EOPNOTSUPP,
                         "%s is a folder on one brick and none on another: move the wrong one out of the "
                         "brick's folder, with its name below .glusterfs",
                         conflict->file);
    if (strcmp(keep, "newest") == 0 || strcmp(keep, "largest") == 0)
        return choose_best(conflict, strcmp(keep, "largest") == 0, ret_brick, ret_error);
    return choose_brick(conflict, keep, ret_brick, ret_error);
}

/* ---- The deed ---- */

/* The program begins before it is connected to every brick, and fails when the one that it needs is late. */
#define RESOLVE_TRIES 5

char *heal_volfile(const struct engine *engine, const char *volume)
{
    return xasprintf("%s/volfiles/%s/resolve.vol", engine->config->state_dir, volume);
}

static int write_volfile(const struct engine *engine, const struct volfile_sources *sources,
                         struct error **ret_error)
{
    autostrbuf struct strbuf text = {0};
    autofree char *path = heal_volfile(engine, sources->volume->meta.name);
    int r = volfile_resolve(sources, &text, ret_error);
    return r < 0 ? r : file_write_if_changed(path, strbuf_string(&text), 0640, NULL, ret_error);
}

/* Where GlusterFS keeps the programs that are not for people. */
static int find_program(const struct engine *engine, char **ret_path, struct error **ret_error)
{
    autostrbuf struct strbuf output = {0};
    const char *const argv[] = {engine->roots.glusterfsd, "--print-libexecdir", NULL};
    int r = program_run(argv, FIND_PROGRAM_MS, &output, NULL, ret_error);
    if (r < 0)
        return r;
    autofree char *folder = xstrndup(strbuf_string(&output), strcspn(strbuf_string(&output), "\n"));
    *ret_path = xasprintf("%s/glfsheal", folder);
    return 0;
}

static const char *address_of(const struct node *nodes, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (string_equal(nodes[i].meta.name, name) && nodes[i].spec.addresses.count)
            return nodes[i].spec.addresses.items[0];
    return "";
}

/*
 * How the program is told: it takes what stands before the first colon for the host, so that a brick at an
 * IPv6 address cannot be named to it; it can find the copy by the same rule itself, where data differs.
 */
static int add_choice(const struct volfile_sources *sources, const struct conflict *conflict, size_t brick,
                      const char *keep, struct string_list *argv, struct error **ret_error)
{
    size_t index = conflict->set.children[brick];
    const char *address =
        address_of(sources->nodes, sources->node_count, volume_child(sources->volume, index)->node);
    if (!strchr(address, ':')) {
        string_list_add(argv, "source-brick");
        string_list_addf(argv, "%s:%s-brick-%llu", address, sources->volume->meta.name,
                         (unsigned long long)volume_child_number(sources->volume, index));
        return 0;
    }
    bool newest = strcmp(keep, "newest") == 0;
    if (!conflict->data || (!newest && strcmp(keep, "largest") != 0))
        return error_set(
            ret_error, EOPNOTSUPP,
            "%s: a brick cannot be chosen while the bricks have IPv6 addresses, and the newest or "
            "largest copy only where data differs",
            conflict->file);
    string_list_add(argv, newest ? "latest-mtime" : "bigger-file");
    return 0;
}

static int start_program(struct engine *engine, const struct volfile_sources *sources,
                         const struct conflict *conflict, size_t brick, const char *keep, const char *log,
                         pid_t *ret_pid, struct error **ret_error)
{
    const char *volume = sources->volume->meta.name;
    autostring_list struct string_list words = {0};
    autofree char *program = NULL, *volfile = heal_volfile(engine, volume);
    char text[GFID_TEXT_SIZE];
    int r = find_program(engine, &program, ret_error);
    if (r < 0)
        return r;
    string_list_add(&words, program);
    string_list_add(&words, volume);
    r = add_choice(sources, conflict, brick, keep, &words, ret_error);
    if (r < 0)
        return r;
    gfid_format(&conflict->gfid, text);
    string_list_addf(&words, "%s%s", conflict->clash ? "" : "gfid:", conflict->clash ? conflict->file : text);
    string_list_add(&words, "volfile-path");
    string_list_add(&words, volfile);
    const char **argv cleanup(cleanup_free) = xcalloc(words.count + 1, sizeof *argv);
    for (size_t i = 0; i < words.count; i++)
        argv[i] = words.items[i];
    return program_start(argv, log, ret_pid, ret_error);
}

static void *reap(void *data)
{
    pid_t pid = (pid_t)(intptr_t)data;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return NULL;
}

/* True when it ended; else it goes on, and is reaped on a thread of its own. */
static bool wait_program(pid_t pid, int wait_ms)
{
    autoclose int fd = pidfd_open(pid, 0);
    struct pollfd ended = {.fd = fd, .events = POLLIN};
    int64_t deadline = clock_monotonic_ms() + wait_ms;
    int r = 0;
    while (fd >= 0 && r <= 0 && clock_monotonic_ms() < deadline)
        r = poll(&ended, 1, (int)(deadline - clock_monotonic_ms()) + 1);
    if (r > 0) {
        reap((void *)(intptr_t)pid);
        return true;
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, reap, (void *)(intptr_t)pid) == 0)
        pthread_detach(thread);
    return false;
}

static int run(struct engine *engine, const struct volfile_sources *sources, const struct conflict *conflict,
               size_t brick, const char *keep, int wait_ms, bool *ret_ended, char **ret_words,
               struct error **ret_error)
{
    autofree char *log = xasprintf("%s/heal-resolve.log", engine->config->log_dir);
    struct stat before = {0};
    pid_t pid;
    int r = write_volfile(engine, sources, ret_error);
    if (r < 0)
        return r;
    (void)stat(log, &before); /* not there yet: from its beginning on */
    r = start_program(engine, sources, conflict, brick, keep, log, &pid, ret_error);
    if (r < 0)
        return r;
    fault_point("heal.resolve.after-start");
    *ret_ended = wait_program(pid, wait_ms);
    *ret_words = log_telling_line(log, before.st_size, false);
    return 0;
}

int engine_heal_resolve(struct engine *engine, const struct volume *volume, const struct node *nodes,
                        size_t node_count, const char *file, const char *keep, int wait_ms,
                        struct heal_resolution *ret_resolution, struct error **ret_error)
{
    int r = volfile_volume_check(volume, ret_error);
    if (r == 0 && (!heal_sets(volume) || volume->spec.template_name == TEMPLATE_DISPERSE))
        r = error_set(ret_error, EOPNOTSUPP, "volume %s keeps no copies of which one could be chosen",
                      volume->meta.name);
    if (r < 0)
        return r;
    struct volume seen cleanup(cleanup_volume) = {0};
    heal_volume(volume, &seen);
    scoped_claim(engine, "resolve", volume->meta.name);
    struct conflict conflict cleanup(conflict_close) = {0};
    size_t brick = 0;
    r = find_conflict(engine, &seen, file, &conflict, ret_error);
    if (r == 0)
        r = choose(&conflict, keep, &brick, ret_error);
    if (r < 0)
        return r;
    const struct volfile_sources sources = {
        .volume = &seen,
        .nodes = nodes,
        .node_count = node_count,
        .ping_timeout = engine->config->ping_timeout,
        .event_threads = engine->event_threads,
        .xlators = engine->xlators,
        .pki = engine->pki,
    };
    bool ended = false;
    autofree char *words = NULL;
    bool again = true;
    for (unsigned tries = 0; again && tries < RESOLVE_TRIES; tries++) {
        free(steal_ptr(&words));
        r = run(engine, &sources, &conflict, brick, keep, wait_ms, &ended, &words, ret_error);
        if (r < 0)
            return r;
        again =
            ended && still_there(engine, &seen, conflict.file) && words && strstr(words, strerror(ENOTCONN));
    }
    if (ended && still_there(engine, &seen, conflict.file))
        return error_set(ret_error, EIO, "%s is still in split-brain: %s", conflict.file, words);
    *ret_resolution = (struct heal_resolution){
        .file = xstrdup(conflict.file),
        .kept = heal_brick_name(&seen, conflict.set.children[brick]),
        .state = xstrdup(ended ? "resolved" : "resolving"),
    };
    return 0;
}
