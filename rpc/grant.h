/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The grant: the file by which blockd tells a data-path process what it may open, and how. It lies at
 * RUN_DIR/grants/V/B.json (mode 0600), appears and changes by rename, and its removal is the revocation. The
 * process reads it when a client asks for the export "V/B", and follows changes by inotify(7): it never asks
 * blockd.
 */
#ifndef BLOCKD_RPC_GRANT_H
#define BLOCKD_RPC_GRANT_H

#include "rpc/schema.h"

/*
 * Begins the first line of a client volfile that can be had live too, from the volfile server of this node:
 * "#: live KEY SOCKET". Whoever fetches it there follows its changes; the file is for when the server is
 * away.
 */
#define VOLFILE_LIVE_MARK "#: live "

struct grant {
    char *volume, *block; /* the export name is volume "/" block */
    char *gbid;           /* identity: a grant with another gbid is another block, whatever its name */
    char *file;           /* path of the image inside the hosting volume, "/block-store/GBID" */
    char *volfile;        /* absolute path of the client volfile of the hosting volume */
    uint64_t size;        /* bytes that clients see */
    uint64_t block_size;  /* 512 or 4096 */
    bool read_only;
    uint64_t epoch; /* of the fence; 0: no fence */
};

extern const struct schema grant_schema;

static inline void cleanup_grant(struct grant *grant)
{
    schema_clear(&grant_schema, grant);
}

/* RUN_DIR/grants/V/B.json; without ".json" where that would make the file's name too long. The caller's. */
char *grant_path(const char *run_dir, const char *volume, const char *block);
/* The block whose grant a file of the folder RUN_DIR/grants/V is; NULL for any other file. The caller's. */
char *grant_file_block(const char *file);
/* Reads and validates one. -ENOENT when there is none. Names are checked before a path is made of them. */
int grant_read(const char *run_dir, const char *volume, const char *block, struct grant *ret_grant,
               struct error **ret_error);
/* Writes it by rename, creating folders; unchanged content is left alone (ret_changed may be NULL). */
int grant_write(const char *run_dir, const struct grant *grant, bool *ret_changed, struct error **ret_error);
int grant_remove(const char *run_dir, const char *volume, const char *block, struct error **ret_error);

#endif
