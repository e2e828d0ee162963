/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The NBD protocol on the wire: numbers and sizes as its specification (doc/proto.md of the NBD project)
 * gives them, and access to big-endian integers. All integers of the protocol are unsigned and big-endian.
 */
#ifndef BLOCKD_NBD_PROTOCOL_H
#define BLOCKD_NBD_PROTOCOL_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* ---- Handshake ---- */

#define NBD_MAGIC        UINT64_C(0x4e42444d41474943) /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_REP_MAGIC    UINT64_C(0x0003e889045565a9)

#define NBD_GREETING_SIZE     18 /* magic, option magic, flags (16) */
#define NBD_CLIENT_FLAGS_SIZE 4
#define NBD_OPTION_SIZE       16  /* magic, option (32), length (32) */
#define NBD_OPTION_REPLY_SIZE 20  /* magic, option (32), type (32), length (32) */
#define NBD_PADDING_SIZE      124 /* after the answer to EXPORT_NAME, unless both sides have NO_ZEROES */
#define NBD_STRING_MAX        4096

enum nbd_handshake_flag { NBD_FLAG_FIXED_NEWSTYLE = 1 << 0, NBD_FLAG_NO_ZEROES = 1 << 1 };

enum nbd_option {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
};

#define NBD_REP_ACK                 UINT32_C(1)
#define NBD_REP_SERVER              UINT32_C(2)
#define NBD_REP_INFO                UINT32_C(3)
#define NBD_REP_META_CONTEXT        UINT32_C(4)
#define NBD_REP_ERROR(number)       (UINT32_C(0x80000000) + (number))
#define NBD_REP_ERR_UNSUP           NBD_REP_ERROR(1)
#define NBD_REP_ERR_POLICY          NBD_REP_ERROR(2)
#define NBD_REP_ERR_INVALID         NBD_REP_ERROR(3)
#define NBD_REP_ERR_PLATFORM        NBD_REP_ERROR(4)
#define NBD_REP_ERR_TLS_REQD        NBD_REP_ERROR(5)
#define NBD_REP_ERR_UNKNOWN         NBD_REP_ERROR(6)
#define NBD_REP_ERR_SHUTDOWN        NBD_REP_ERROR(7)
#define NBD_REP_ERR_BLOCK_SIZE_REQD NBD_REP_ERROR(8)
#define NBD_REP_ERR_TOO_BIG         NBD_REP_ERROR(9)

enum nbd_info { NBD_INFO_EXPORT = 0, NBD_INFO_NAME = 1, NBD_INFO_DESCRIPTION = 2, NBD_INFO_BLOCK_SIZE = 3 };

enum nbd_transmission_flag {
    NBD_FLAG_HAS_FLAGS = 1 << 0,
    NBD_FLAG_READ_ONLY = 1 << 1,
    NBD_FLAG_SEND_FLUSH = 1 << 2,
    NBD_FLAG_SEND_FUA = 1 << 3,
    NBD_FLAG_SEND_TRIM = 1 << 5,
    NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
    NBD_FLAG_SEND_DF = 1 << 7,
    NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
    NBD_FLAG_SEND_CACHE = 1 << 10,
    NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
};

/* ---- Transmission ---- */

#define NBD_REQUEST_MAGIC          UINT32_C(0x25609513)
#define NBD_SIMPLE_REPLY_MAGIC     UINT32_C(0x67446698)
#define NBD_STRUCTURED_REPLY_MAGIC UINT32_C(0x668e33ef)

#define NBD_REQUEST_SIZE          28 /* magic, flags (16), type (16), cookie (64), offset (64), length (32) */
#define NBD_SIMPLE_REPLY_SIZE     16 /* magic, error (32), cookie (64) */
#define NBD_STRUCTURED_REPLY_SIZE 20 /* magic, flags (16), type (16), cookie (64), length (32) */

enum nbd_command {
    NBD_CMD_READ = 0,
    NBD_CMD_WRITE = 1,
    NBD_CMD_DISC = 2,
    NBD_CMD_FLUSH = 3,
    NBD_CMD_TRIM = 4,
    NBD_CMD_CACHE = 5,
    NBD_CMD_WRITE_ZEROES = 6,
    NBD_CMD_BLOCK_STATUS = 7,
};

enum nbd_command_flag {
    NBD_CMD_FLAG_FUA = 1 << 0,
    NBD_CMD_FLAG_NO_HOLE = 1 << 1,
    NBD_CMD_FLAG_DF = 1 << 2,
    NBD_CMD_FLAG_REQ_ONE = 1 << 3,
    NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
};

#define NBD_REPLY_FLAG_DONE         1
#define NBD_REPLY_TYPE_NONE         0
#define NBD_REPLY_TYPE_OFFSET_DATA  1
#define NBD_REPLY_TYPE_BLOCK_STATUS 5
#define NBD_REPLY_TYPE_ERROR        0x8001

#define NBD_STATE_HOLE UINT32_C(1)
#define NBD_STATE_ZERO UINT32_C(2)

enum nbd_error {
    NBD_SUCCESS = 0,
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108,
};

/* ---- Integers ---- */

static inline uint16_t nbd_get16(const void *from)
{
    uint16_t value;
    memcpy(&value, from, sizeof value);
    return be16toh(value);
}

static inline uint32_t nbd_get32(const void *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return be32toh(value);
}

static inline uint64_t nbd_get64(const void *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return be64toh(value);
}

static inline void nbd_put16(void *to, uint16_t value)
{
    value = htobe16(value);
    memcpy(to, &value, sizeof value);
}

static inline void nbd_put32(void *to, uint32_t value)
{
    value = htobe32(value);
    memcpy(to, &value, sizeof value);
}

static inline void nbd_put64(void *to, uint64_t value)
{
    value = htobe64(value);
    memcpy(to, &value, sizeof value);
}

#endif
