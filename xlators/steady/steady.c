/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * In the program that empties a set of bricks: stands between what keeps a set together and each of its
 * bricks' clients, and makes the copy of a file right while others write to the file.
 *
 * While distribute moves a file, its clients write to the old copy and then to the new one. What the program
 * read before such a write must not come to the new copy after it. So each piece is read under a lock that
 * keeps replicate's writers away, and the lock is given up at the program's next request for the old copy,
 * which comes when the piece lies in the new one. A lock that was lost meanwhile ends the move of the file.
 *
 * A move that was cut short leaves marks in the old copy's mode, and data in the new one: the marks are no
 * part of the mode that the file is given in the end, and the new copy begins empty.
 */
#include "xlators/abi.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#include <glusterfs/call-stub.h>
#include <glusterfs/defaults.h>

#define LINK_XATTR "trusted.glusterfs.dht.linkto"
/* Short of the place that replicate locks for attributes. */
#define TO_THE_END (INT64_C(1) << 62)

struct hold {
    xlator_t *at; /* NULL: none */
    inode_t *inode;
    struct gf_flock range;
    gf_lkowner_t owner;
};

/* The program moves one file after the other. */
static struct {
    pthread_mutex_t mutex; /* guards what follows */
    struct hold hold;
    uuid_t broken; /* a file whose lock was lost: its move must fail */
    uint64_t locks;
} state = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* What a request waits for. */
struct turn {
    call_stub_t *stub;
    struct hold hold; /* to be given up, and then the one that is taken */
    inode_t *inode;
    xlator_t *at;
    bool takes, mends;
    off_t start, length;
};

static bool is_locking(const xlator_t *this)
{
    return this->private != NULL;
}

static xlator_t *set_of(const xlator_t *this)
{
    return this->parents->xlator;
}

static void turn_free(struct turn *turn)
{
    inode_unref(turn->inode);
    free(turn);
}

/* ---- Locks of replicate ---- */

static int send_lock(struct hold *hold, short type, fop_inodelk_cbk_t answer, struct turn *turn)
{
    call_frame_t *frame = create_frame(hold->at, hold->at->ctx->pool);
    if (!frame)
        return -ENOMEM;
    frame->local = turn;
    frame->root->pid = GF_CLIENT_PID_DEFRAG;
    frame->root->lk_owner = hold->owner;
    loc_t loc = {.inode = inode_ref(hold->inode)};
    gf_uuid_copy(loc.gfid, hold->inode->gfid);
    struct gf_flock range = hold->range;
    range.l_type = type;
    STACK_WIND(frame, answer, FIRST_CHILD(hold->at), FIRST_CHILD(hold->at)->fops->inodelk,
               set_of(hold->at)->name, &loc, type == F_UNLCK ? F_SETLK : F_SETLKW, &range, NULL);
    loc_wipe(&loc);
    return 0;
}

static void go(struct turn *turn, int number)
{
    call_stub_t *stub = turn->stub;
    turn_free(turn);
    if (number)
        call_unwind_error(stub, -1, number);
    else
        call_resume(stub);
}

static int32_t on_locked(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                         dict_t *xdata)
{
    (void)cookie, (void)this, (void)xdata;
    struct turn *turn = frame->local;
    frame->local = NULL;
    STACK_DESTROY(frame->root);
    if (op_ret < 0) {
        inode_unref(turn->hold.inode);
        go(turn, op_errno);
        return 0;
    }
    pthread_mutex_lock(&state.mutex);
    state.hold = turn->hold;
    pthread_mutex_unlock(&state.mutex);
    go(turn, 0);
    return 0;
}

static void take(struct turn *turn)
{
    pthread_mutex_lock(&state.mutex);
    bool broken = gf_uuid_compare(state.broken, turn->inode->gfid) == 0;
    if (turn->mends && broken)
        gf_uuid_clear(state.broken);
    uint64_t number = ++state.locks;
    pthread_mutex_unlock(&state.mutex);
    if (!turn->takes || broken) {
        go(turn, broken && !turn->mends ? EIO : 0);
        return;
    }
    turn->hold = (struct hold){
        .at = turn->at,
        .inode = inode_ref(turn->inode),
        .range = {.l_whence = SEEK_SET, .l_start = turn->start, .l_len = turn->length},
    };
    set_lk_owner_from_uint64(&turn->hold.owner, number);
    if (send_lock(&turn->hold, F_RDLCK, on_locked, turn) < 0) {
        inode_unref(turn->hold.inode);
        go(turn, ENOMEM);
    }
}

static int32_t on_unlocked(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret,
                           int32_t op_errno, dict_t *xdata)
{
    (void)cookie, (void)xdata;
    struct turn *turn = frame->local;
    frame->local = NULL;
    STACK_DESTROY(frame->root);
    if (op_ret < 0) {
        gf_log(this->name, GF_LOG_WARNING, "%s: the lock was lost: %s", uuid_utoa(turn->inode->gfid),
               strerror(op_errno));
        pthread_mutex_lock(&state.mutex);
        gf_uuid_copy(state.broken, turn->inode->gfid);
        pthread_mutex_unlock(&state.mutex);
    }
    inode_unref(turn->hold.inode);
    take(turn);
    return 0;
}

/* Gives up the lock that the file has, and takes another one if it shall; then the request goes on. */
static void begin(xlator_t *this, inode_t *inode, struct turn turn_now)
{
    struct turn *turn = calloc(1, sizeof *turn);
    if (!turn) {
        call_unwind_error(turn_now.stub, -1, ENOMEM);
        return;
    }
    *turn = turn_now;
    turn->at = this;
    turn->inode = inode_ref(inode);
    pthread_mutex_lock(&state.mutex);
    const struct hold *hold = &state.hold;
    if (hold->at && set_of(hold->at) == set_of(this) && hold->inode == inode) {
        turn->hold = *hold;
        state.hold = (struct hold){0};
    }
    pthread_mutex_unlock(&state.mutex);
    if (!turn->hold.at)
        take(turn);
    else if (send_lock(&turn->hold, F_UNLCK, on_unlocked, turn) < 0)
        go(turn, ENOMEM);
}

static int32_t steady_readv(call_frame_t *frame, xlator_t *this, fd_t *fd, size_t size, off_t offset,
                            uint32_t flags, dict_t *xdata)
{
    call_stub_t *stub =
        is_locking(this) ? fop_readv_stub(frame, default_readv_resume, fd, size, offset, flags, xdata) : NULL;
    if (!stub)
        return default_readv(frame, this, fd, size, offset, flags, xdata);
    begin(this, fd->inode,
          (struct turn){.stub = stub, .takes = true, .start = offset, .length = (off_t)size});
    return 0;
}

static int32_t steady_seek(call_frame_t *frame, xlator_t *this, fd_t *fd, off_t offset, gf_seek_what_t what,
                           dict_t *xdata)
{
    call_stub_t *stub =
        is_locking(this) ? fop_seek_stub(frame, default_seek_resume, fd, offset, what, xdata) : NULL;
    if (!stub)
        return default_seek(frame, this, fd, offset, what, xdata);
    begin(this, fd->inode, (struct turn){.stub = stub, .takes = true, .start = offset, .length = TO_THE_END});
    return 0;
}

static int32_t steady_fstat(call_frame_t *frame, xlator_t *this, fd_t *fd, dict_t *xdata)
{
    call_stub_t *stub = is_locking(this) ? fop_fstat_stub(frame, default_fstat_resume, fd, xdata) : NULL;
    if (!stub)
        return default_fstat(frame, this, fd, xdata);
    begin(this, fd->inode, (struct turn){.stub = stub});
    return 0;
}

/* What replicate locks itself it must not find locked; and after the move failed the next one may begin. */
static int32_t steady_inodelk(call_frame_t *frame, xlator_t *this, const char *volume, loc_t *loc,
                              int32_t command, struct gf_flock *range, dict_t *xdata)
{
    call_stub_t *stub =
        is_locking(this) && strcmp(volume, set_of(this)->name) == 0
            ? fop_inodelk_stub(frame, default_inodelk_resume, volume, loc, command, range, xdata)
            : NULL;
    if (!stub)
        return default_inodelk(frame, this, volume, loc, command, range, xdata);
    begin(this, loc->inode, (struct turn){.stub = stub, .mends = true});
    return 0;
}

static int32_t steady_finodelk(call_frame_t *frame, xlator_t *this, const char *volume, fd_t *fd,
                               int32_t command, struct gf_flock *range, dict_t *xdata)
{
    call_stub_t *stub =
        is_locking(this) && strcmp(volume, set_of(this)->name) == 0
            ? fop_finodelk_stub(frame, default_finodelk_resume, volume, fd, command, range, xdata)
            : NULL;
    if (!stub)
        return default_finodelk(frame, this, volume, fd, command, range, xdata);
    begin(this, fd->inode, (struct turn){.stub = stub, .mends = true});
    return 0;
}

/* ---- What a move that was cut short left behind ---- */

static int32_t on_lookup(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                         inode_t *inode, struct iatt *status, dict_t *xdata, struct iatt *parent)
{
    (void)cookie, (void)this;
    if (op_ret == 0 && IA_ISREG(status->ia_type) && status->ia_prot.sticky && status->ia_prot.sgid && xdata &&
        dict_get(xdata, LINK_XATTR)) {
        status->ia_prot.sticky = 0;
        status->ia_prot.sgid = 0;
    }
    STACK_UNWIND_STRICT(lookup, frame, op_ret, op_errno, inode, status, xdata, parent);
    return 0;
}

static int32_t steady_lookup(call_frame_t *frame, xlator_t *this, loc_t *loc, dict_t *xdata)
{
    STACK_WIND(frame, on_lookup, FIRST_CHILD(this), FIRST_CHILD(this)->fops->lookup, loc, xdata);
    return 0;
}

static int32_t on_emptied(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                          struct iatt *before, struct iatt *after, dict_t *xdata)
{
    (void)cookie, (void)this, (void)before, (void)after, (void)xdata;
    call_stub_t *stub = frame->local;
    frame->local = NULL;
    if (op_ret < 0)
        call_unwind_error(stub, -1, op_errno);
    else
        call_resume(stub);
    return 0;
}

/* The only length that a copy is given before it is filled: what lies in it already is no part of it. */
static int32_t steady_ftruncate(call_frame_t *frame, xlator_t *this, fd_t *fd, off_t offset, dict_t *xdata)
{
    call_stub_t *stub =
        offset ? fop_ftruncate_stub(frame, default_ftruncate_resume, fd, offset, xdata) : NULL;
    if (!stub)
        return default_ftruncate(frame, this, fd, offset, xdata);
    frame->local = stub;
    STACK_WIND(frame, on_emptied, FIRST_CHILD(this), FIRST_CHILD(this)->fops->ftruncate, fd, 0, xdata);
    return 0;
}

/* ---- The translator ---- */

static int32_t steady_init(xlator_t *this)
{
    gf_boolean_t locks = _gf_false;
    if (!this->children || this->children->next || !this->parents) {
        gf_log(this->name, GF_LOG_ERROR, "needs one translator below and one above");
        return -1;
    }
    GF_OPTION_INIT("locks", locks, bool, out);
    this->private = locks ? this : NULL;
    return 0;
out:
    return -1;
}

static void steady_fini(xlator_t *this)
{
    (void)this;
}

static struct xlator_fops steady_fops = {
    .lookup = steady_lookup,
    .readv = steady_readv,
    .seek = steady_seek,
    .fstat = steady_fstat,
    .ftruncate = steady_ftruncate,
    .inodelk = steady_inodelk,
    .finodelk = steady_finodelk,
};
static struct xlator_cbks steady_cbks;
static struct volume_options steady_options[] = {
    {.key = {"locks"},
     .type = GF_OPTION_TYPE_BOOL,
     .default_value = "off",
     .description = "what is above is replicate, whose locks keep writers away"},
    {.key = {NULL}}};

xlator_api_t xlator_api = {
    .init = steady_init,
    .fini = steady_fini,
    .op_version = {1},
    .fops = &steady_fops,
    .cbks = &steady_cbks,
    .options = steady_options,
    .identifier = "steady",
    .category = GF_EXPERIMENTAL,
};
