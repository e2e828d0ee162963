/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* iSCSI by libiscsi: iscsi://HOST:PORT/TARGET/LUN. */
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/bench/load/load.h"

struct connection {
    struct iscsi_context *iscsi;
    int lun;
    uint32_t block_size;
    uint64_t blocks;
};

static bool failed(const struct connection *connection)
{
    fprintf(stderr, "iSCSI: %s\n", iscsi_get_error(connection->iscsi));
    return false;
}

static bool read_capacity(struct connection *connection)
{
    struct scsi_task *task = iscsi_readcapacity16_sync(connection->iscsi, connection->lun);
    struct scsi_readcapacity16 *capacity =
        task && task->status == SCSI_STATUS_GOOD ? scsi_datain_unmarshall(task) : NULL;
    if (!capacity)
        return failed(connection);
    connection->block_size = capacity->block_length;
    connection->blocks = capacity->returned_lba + 1;
    scsi_free_scsi_task(task);
    return true;
}

static void *connect_iscsi(const char *uri)
{
    static struct connection connection;
    connection.iscsi = iscsi_create_context("iqn.2026-01.test.blockd:load");
    struct iscsi_url *url = connection.iscsi ? iscsi_parse_full_url(connection.iscsi, uri) : NULL;
    if (!url) {
        fprintf(stderr, "iSCSI: %s is no address of a LUN\n", uri);
        return NULL;
    }
    iscsi_set_targetname(connection.iscsi, url->target);
    iscsi_set_session_type(connection.iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_header_digest(connection.iscsi, ISCSI_HEADER_DIGEST_NONE);
    iscsi_set_noautoreconnect(connection.iscsi, 1);
    connection.lun = url->lun;
    if (iscsi_full_connect_sync(connection.iscsi, url->portal, url->lun) != 0) {
        failed(&connection);
        return NULL;
    }
    iscsi_destroy_url(url);
    return read_capacity(&connection) ? &connection : NULL;
}

static uint64_t size(void *opaque)
{
    struct connection *connection = opaque;
    return connection->blocks * connection->block_size;
}

static void ended(struct iscsi_context *iscsi, int status, void *task, void *slot)
{
    load_completed(slot, status == SCSI_STATUS_GOOD ? NULL : iscsi_get_error(iscsi));
    scsi_free_scsi_task(task);
}

static bool submit(void *opaque, const struct request *request)
{
    struct connection *connection = opaque;
    uint64_t block = request->offset / connection->block_size;
    struct scsi_task *task =
        request->write
            ? iscsi_write16_task(connection->iscsi, connection->lun, block, request->buffer,
                                 (uint32_t)request->length, (int)connection->block_size, 0, 0, 0, 0, 0, ended,
                                 request->slot)
            : iscsi_read16_task(connection->iscsi, connection->lun, block, (uint32_t)request->length,
                                (int)connection->block_size, 0, 0, 0, 0, 0, ended, request->slot);
    if (!task)
        return failed(connection);
    if (!request->write && scsi_task_add_data_in_buffer(task, (int)request->length, request->buffer) != 0)
        return failed(connection);
    return true;
}

static int descriptor(void *opaque)
{
    struct connection *connection = opaque;
    return iscsi_get_fd(connection->iscsi);
}

static short events(void *opaque)
{
    struct connection *connection = opaque;
    return (short)iscsi_which_events(connection->iscsi);
}

static bool service(void *opaque, short happened)
{
    struct connection *connection = opaque;
    return iscsi_service(connection->iscsi, happened) == 0 || failed(connection);
}

const struct driver iscsi_driver = {.connect = connect_iscsi,
                                    .size = size,
                                    .submit = submit,
                                    .descriptor = descriptor,
                                    .events = events,
                                    .service = service};
