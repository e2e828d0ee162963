/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Tells the others of a set that one of its bricks is new, so that it is never read from and the self-heal
 * daemon fills it. Replicate has a request for that, "replace-brick", which notes that the brick's root lacks
 * everything; it takes it from one process id only, which is no process's. Disperse has none: it compares the
 * counts of changes of the root that the bricks have, and notes a difference with the next change of the
 * root.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <glusterfs/api/glfs.h>

#include "handler/image/image.h"
#include "rpc/base/alloc.h"

#define ADD_REPLICA_PID  (-12) /* GF_CLIENT_PID_ADD_REPLICA_MOUNT */
#define MARK_XATTR       "trusted.replace-brick"
#define CHANGE_XATTR     "trusted.blockd.new-brick"
#define ENGINE_LOG_LEVEL 5 /* GF_LOG_WARNING */

/* Of libgfapi's private interface; it counts for the calling thread. */
int glfs_setfspid(glfs_t *fs, pid_t pid);

struct request {
    const char *name, *volfile, *log_path;
    const char *brick; /* NULL: one of disperse */
    int result;
    struct error *error;
};

static void *finish(void *fs)
{
    glfs_fini(fs);
    return NULL;
}

/* It waits for timers of libgfapi's, for up to ten seconds: aside. */
static void cleanup_glfs(glfs_t **fs)
{
    pthread_t thread;
    if (!*fs)
        return;
    if (pthread_create(&thread, NULL, finish, *fs) == 0)
        pthread_detach(thread);
    else
        glfs_fini(*fs);
}

static int failed(struct request *request, const char *what)
{
    int number = errno ? errno : EIO;
    return error_set(&request->error, number, "volume %s: cannot %s %s: %s; look at %s", request->name, what,
                     request->brick ? request->brick : "its new brick", strerror(number), request->log_path);
}

/* A change and its end; the note of it is on the disks about a second later. */
static int change_root(struct request *request, glfs_t *fs)
{
    if (glfs_setxattr(fs, "/", CHANGE_XATTR, "", 1, 0) < 0 || glfs_removexattr(fs, "/", CHANGE_XATTR) < 0)
        return failed(request, "mark");
    return 0;
}

static int mark(struct request *request)
{
    errno = 0;
    cleanup(cleanup_glfs) glfs_t *fs = glfs_new(request->name);
    if (!fs || glfs_set_volfile(fs, request->volfile) < 0 ||
        glfs_set_logging(fs, request->log_path, ENGINE_LOG_LEVEL) < 0)
        return failed(request, "make a client for the marking of");
    struct stat root;
    if (glfs_init(fs) < 0 || glfs_stat(fs, "/", &root) < 0)
        return failed(request, "connect for the marking of");
    if (!request->brick)
        return change_root(request, fs);
    if (glfs_setfspid(fs, ADD_REPLICA_PID) < 0)
        return failed(request, "connect for the marking of");
    if (glfs_setxattr(fs, "/", MARK_XATTR, request->brick, strlen(request->brick) + 1, 0) < 0)
        return failed(request, "mark");
    return 0;
}

static void *run(void *data)
{
    struct request *request = data;
    request->result = mark(request);
    return NULL;
}

/* A thread of its own takes the process id into its grave. */
int image_mark_behind(const char *name, const char *volfile, const char *log_path, const char *brick,
                      struct error **ret_error)
{
    struct request request = {.name = name, .volfile = volfile, .log_path = log_path, .brick = brick};
    pthread_t thread;
    int number = pthread_create(&thread, NULL, run, &request);
    if (number)
        return error_set(ret_error, number, "cannot start a thread: %s", strerror(number));
    pthread_join(thread, NULL);
    if (ret_error)
        *ret_error = request.error;
    else
        error_free(request.error);
    return request.result;
}
