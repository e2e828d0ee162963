/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "objects.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"
#include "rpc/schema_table.h"

const char *const node_state_words[] = {"enabled", "stopped", NULL};
const char *const volume_template_words[] = {"single", "replica3", "arbiter", "disperse", NULL};
const char *const volume_state_words[] = {"started", "stopped", NULL};
const char *const volume_tls_words[] = {"off", "on", NULL};
const char *const block_prealloc_words[] = {"no", "full", NULL};
const char *const export_protocol_words[] = {"nbd", NULL};
const char *const job_kind_words[] = {"preallocate", "rebalance", "remove", "evacuate", "replace",
                                      "heal",        "heal-full", "shrink", NULL};
const char *const device_state_words[] = {"enabled", "disabled", NULL};
const char *const leave_step_words[] = {"empty", "forget", "erase", NULL};
const char *const move_step_words[] = {"prepare",   "join",  "heal", "swap-join",
                                       "swap-heal", "leave", "left", NULL};

/* The envelope is the same for every kind. */
#define META_FIELDS                                                                                          \
    {"name", FIELD_STRING, OF(meta, name), FIELD_REQUIRED, 1, 1024, .help = "Name, unique in its kind"},     \
        {"uid", FIELD_STRING, OF(meta, uid), 0,                                                              \
         .help = "Identity (UUID), kept over a rename; a block's GBID"},                                     \
        {"revision", FIELD_UINT, OF(meta, revision), FIELD_OPTIONAL, .help = "Revision of the last change"}, \
        {"generation", FIELD_UINT, OF(meta, generation), 0, .help = "Grows with every change of the spec"},  \
        {"created", FIELD_TIME, OF(meta, created), 0, .help = "Time of creation"},                           \
    {                                                                                                        \
        "deleting", FIELD_BOOL, OF(meta, deleting), FIELD_OPTIONAL, .help = "Marked for deletion"            \
    }

#define STATUS_COMMON(structure)                                                                             \
    {                                                                                                        \
        "error", FIELD_STRING, OF(structure, error), FIELD_OPTIONAL,                                         \
            .help = "What went wrong last, if anything"                                                      \
    }
#define OBSERVED(structure)                                                                                  \
    {                                                                                                        \
        "observed_generation", FIELD_UINT, OF(structure, observed_generation), 0,                            \
            .help = "The generation of the spec that this status speaks of"                                  \
    }
#define PHASE(structure, words)                                                                              \
    {                                                                                                        \
        "phase", FIELD_STRING, OF(structure, phase), 0, .help = "One of " words                              \
    }

/* A whole object: NAME_schema from NAME_spec_schema and NAME_status_schema. */
#define OBJECT_SCHEMA(noun, title, text)                                                                     \
    static const struct field noun##_fields[] = {                                                            \
        META_FIELDS,                                                                                         \
        {"spec", FIELD_OBJECT, OF(noun, spec), FIELD_REQUIRED, .object = &noun##_spec_schema,                \
         .help = "What is wanted"},                                                                          \
        {"status", FIELD_OBJECT, OF(noun, status), 0, .object = &noun##_status_schema,                       \
         .help = "What is seen"},                                                                            \
        END,                                                                                                 \
    };                                                                                                       \
    const struct schema noun##_schema = {title, sizeof(struct noun), noun##_fields, text}

/* ---- Node ---- */

static const struct field node_spec_fields[] = {
    {"state", FIELD_ENUM, OF(node_spec, state), 0, .words = node_state_words,
     .help = "enabled, or stopped: nothing is served from it"},
    {"addresses", FIELD_STRINGS, OF(node_spec, addresses), 0, .max = 16,
     .help = "IP addresses of its bricks and exports, the first one advertised"},
    {"zone", FIELD_NAME, OF(node_spec, zone), FIELD_OPTIONAL, .help = "Failure domain"},
    END,
};
const struct schema node_spec_schema = {"NodeSpec", sizeof(struct node_spec), node_spec_fields,
                                        "What a node should do"};

static const struct field node_status_fields[] = {
    PHASE(node_status, "online, stopping, stopped, failed"),
    {"version", FIELD_STRING, OF(node_status, version), 0, .help = "Version of blockd"},
    {"started", FIELD_TIME, OF(node_status, started), 0, .help = "When its blockd started"},
    {"certificate", FIELD_STRING, OF(node_status, certificate), FIELD_OPTIONAL,
     .help = "Fingerprint (SHA-256) of its certificate, where it has one"},
    {"certificate_expires", FIELD_TIME, OF(node_status, certificate_expires), FIELD_OPTIONAL,
     .help = "Until when that is good; it is renewed before"},
    STATUS_COMMON(node_status),
    END,
};
static const struct schema node_status_schema = {"NodeStatus", sizeof(struct node_status), node_status_fields,
                                                 "What is seen of a node"};
OBJECT_SCHEMA(node, "Node", "A machine that runs blockd");

/* ---- Device ---- */

static const struct field device_spec_fields[] = {
    {"path", FIELD_STRING, OF(device_spec, path), FIELD_REQUIRED, 2, 4000,
     .help = "Block device, or image file used through a loop device"},
    {"given_path", FIELD_STRING, OF(device_spec, given_path), FIELD_OPTIONAL,
     .help = "What it was called when it was added, where that is no stable name"},
    {"state", FIELD_ENUM, OF(device_spec, state), 0, .words = device_state_words,
     .help = "enabled, or disabled: it gets no new bricks"},
    {"destroy_existing_data", FIELD_BOOL, OF(device_spec, destroy_existing_data), FIELD_OPTIONAL,
     .help = "It may be formatted although it holds something else"},
    {"graves", FIELD_STRINGS, OF(device_spec, graves), FIELD_OPTIONAL,
     .help = "Volumes that were deleted while it was gone, erased when it is back"},
    {"forced", FIELD_BOOL, OF(device_spec, forced), FIELD_OPTIONAL,
     .help = "Removal does not insist on wiping a disk that fails"},
    {"image_size", FIELD_SIZE, OF(device_spec, image_size), FIELD_OPTIONAL,
     .help = "Size of the image file that blockd made"},
    END,
};
const struct schema device_spec_schema = {"DeviceSpec", sizeof(struct device_spec), device_spec_fields,
                                          "A disk, partition or image of a node"};

static const struct field device_status_fields[] = {
    PHASE(device_status, "pending, ready, failed, stopped"),
    {"uuid", FIELD_STRING, OF(device_status, uuid), 0, .help = "UUID of its file system"},
    {"mount", FIELD_STRING, OF(device_status, mount), 0, .help = "Where it is mounted"},
    {"size", FIELD_SIZE, OF(device_status, size), 0, .help = "Bytes"},
    {"free", FIELD_SIZE, OF(device_status, free), 0, .help = "Bytes that are free"},
    {"quota", FIELD_BOOL, OF(device_status, quota), 0, .help = "The kernel enforces XFS project quota on it"},
    {"health", FIELD_STRING, OF(device_status, health), FIELD_OPTIONAL,
     .help = "One of ok, failing, unknown: what the disk says of itself (SMART)"},
    {"health_reason", FIELD_STRING, OF(device_status, health_reason), FIELD_OPTIONAL,
     .help = "Why, unless it is ok"},
    {"bricks", FIELD_STRINGS, OF(device_status, bricks), FIELD_OPTIONAL,
     .help = "The volumes that have a brick on it"},
    {"failures", FIELD_UINT, OF(device_status, failures), FIELD_OPTIONAL,
     .help = "How often it was taken out because its disk failed"},
    OBSERVED(device_status),
    STATUS_COMMON(device_status),
    END,
};
static const struct schema device_status_schema = {"DeviceStatus", sizeof(struct device_status),
                                                   device_status_fields, "What is seen of a device"};
OBJECT_SCHEMA(device, "Device", "A disk, partition or image, formatted XFS, that holds bricks");

/* ---- Volume ---- */

static const struct field brick_spec_fields[] = {
    {"node", FIELD_NAME, OF(brick_spec, node), FIELD_REQUIRED, .help = "Node that serves it"},
    {"device", FIELD_NAME, OF(brick_spec, device), FIELD_REQUIRED, .help = "Device that holds it"},
    {"port", FIELD_UINT, OF(brick_spec, port), 0, 1, 65535, .help = "TCP port of its glusterfsd"},
    {"serial", FIELD_UINT, OF(brick_spec, serial), FIELD_OPTIONAL,
     .help = "Counts from 1 over all bricks that the volume ever had; its place in the list if absent"},
    {"set_serial", FIELD_UINT, OF(brick_spec, set_serial), FIELD_OPTIONAL,
     .help = "The same of its set: counts from 1 over all sets that the volume ever had"},
    {"size", FIELD_SIZE, OF(brick_spec, size), FIELD_OPTIONAL,
     .help = "Bytes of the device that are promised to it; all of them if absent"},
    END,
};
const struct schema brick_spec_schema = {"BrickSpec", sizeof(struct brick_spec), brick_spec_fields,
                                         "Where a brick lies"};

static const struct field brick_move_fields[] = {
    {"brick", FIELD_OBJECT, OF(brick_move, brick), FIELD_REQUIRED, .object = &brick_spec_schema,
     .help = "The new brick; from leave or swap-join on, the one that goes"},
    {"replaces", FIELD_UINT, OF(brick_move, replaces), 0,
     .help = "Number of the brick that it succeeds, or that succeeded it"},
    {"step", FIELD_ENUM, OF(brick_move, step), 0, .words = move_step_words, .help = "How far the move is"},
    {"in_place", FIELD_BOOL, OF(brick_move, in_place), 0,
     .help = "The old brick is lost or a witness, and is left out before the new one is whole"},
    {"base", FIELD_SIZE, OF(brick_move, base), 0,
     .help = "Bytes in use on the new brick's device when the move began"},
    END,
};
const struct schema brick_move_schema = {"BrickMove", sizeof(struct brick_move), brick_move_fields,
                                         "A brick on its way to another device"};

static const struct field volume_spec_fields[] = {
    {"template", FIELD_ENUM, OF(volume_spec, template_name), 0, .words = volume_template_words,
     .help = "How a set keeps data: single, replica3 (three copies), arbiter (two copies and a witness), "
             "disperse (fragments)"},
    {"state", FIELD_ENUM, OF(volume_spec, state), 0, .words = volume_state_words,
     .help = "started or stopped"},
    {"overcommit", FIELD_RATIO, OF(volume_spec, overcommit), 0, 100, 1000000,
     .help = "The sum of block sizes may be this many times the volume's size"},
    {"access", FIELD_STRINGS, OF(volume_spec, access), FIELD_OPTIONAL, .max = 64,
     .help = "Who may mount it beside the nodes: addresses, networks /8, /16 or /24, or * for all; with "
             "TLS certificates, cert:NAME or cert:*"},
    {"tls", FIELD_ENUM, OF(volume_spec, tls), FIELD_OPTIONAL, .words = volume_tls_words,
     .help = "on: bricks speak TLS only, and know clients by their certificates"},
    {"data", FIELD_UINT, OF(volume_spec, data), FIELD_OPTIONAL, 0, 16,
     .help = "Disperse: fragments of a set that hold data"},
    {"redundancy", FIELD_UINT, OF(volume_spec, redundancy), FIELD_OPTIONAL, 0, 15,
     .help = "Disperse: fragments of a set that may be lost"},
    {"bricks", FIELD_OBJECTS, OF(volume_spec, bricks), 0, .max = 120, .object = &brick_spec_schema,
     .help = "Its bricks, set by set; for arbiter every third is the witness"},
    {"options", FIELD_STRINGS, OF(volume_spec, options), FIELD_OPTIONAL, .max = 64,
     .help = "Options of the translators, TRANSLATOR.OPTION=VALUE"},
    {"profile", FIELD_NAME, OF(volume_spec, profile), FIELD_OPTIONAL, .help = "Named set of options"},
    {"moves", FIELD_OBJECTS, OF(volume_spec, moves), FIELD_OPTIONAL, .max = 64, .object = &brick_move_schema,
     .help = "Bricks on their way to another device"},
    {"bricks_made", FIELD_UINT, OF(volume_spec, bricks_made), FIELD_OPTIONAL,
     .help = "How many bricks it ever had; those that it has if absent"},
    {"sets_made", FIELD_UINT, OF(volume_spec, sets_made), FIELD_OPTIONAL,
     .help = "How many sets it ever had; those that it has if absent"},
    {"leaving", FIELD_UINT, OF(volume_spec, leaving), FIELD_OPTIONAL,
     .help = "Serial of the set of bricks that is being taken out of it"},
    {"leaving_step", FIELD_ENUM, OF(volume_spec, leaving_step), FIELD_OPTIONAL, .words = leave_step_words,
     .help = "How far that is: its files move, clients are told, its bricks are erased"},
    {"forced", FIELD_BOOL, OF(volume_spec, forced), FIELD_OPTIONAL,
     .help = "Deletion leaves bricks behind on devices that are gone"},
    END,
};
const struct schema volume_spec_schema = {"VolumeSpec", sizeof(struct volume_spec), volume_spec_fields,
                                          "A hosting volume"};

static const struct field brick_status_fields[] = {
    {"node", FIELD_NAME, OF(brick_status, node), 0, .help = "Node that serves it"},
    {"device", FIELD_NAME, OF(brick_status, device), 0, .help = "Device that holds it"},
    {"path", FIELD_STRING, OF(brick_status, path), 0, .help = "Its folder"},
    {"port", FIELD_UINT, OF(brick_status, port), 0, .help = "TCP port"},
    {"state", FIELD_STRING, OF(brick_status, state), 0,
     .help = "One of online, starting, offline, failed, stopped"},
    {"pid", FIELD_UINT, OF(brick_status, pid), 0,
     .help = "Process id of its glusterfsd, 0 when there is none"},
    {"heal_pending", FIELD_UINT, OF(brick_status, heal_pending), 0, .help = "Files that wait for a heal"},
    {"size", FIELD_SIZE, OF(brick_status, size), 0, .help = "Bytes of its file system"},
    {"free", FIELD_SIZE, OF(brick_status, free), 0, .help = "Bytes that are free there"},
    STATUS_COMMON(brick_status),
    END,
};
const struct schema brick_status_schema = {"BrickStatus", sizeof(struct brick_status), brick_status_fields,
                                           "What is seen of a brick"};

static const struct field set_status_fields[] = {
    {"number", FIELD_UINT, OF(set_status, number), 0, .help = "Its place, from 0"},
    PHASE(set_status, "online, degraded, offline, failed, stopped"),
    {"bricks", FIELD_UINT, OF(set_status, bricks), 0, .help = "How many bricks it has"},
    {"online", FIELD_UINT, OF(set_status, online), 0, .help = "How many of them serve"},
    {"quorum", FIELD_UINT, OF(set_status, quorum), 0, .help = "How many must serve"},
    {"size", FIELD_SIZE, OF(set_status, size), 0, .help = "Bytes that it can hold"},
    {"free", FIELD_SIZE, OF(set_status, free), 0, .help = "Bytes that are free"},
    {"heal_pending", FIELD_UINT, OF(set_status, heal_pending), 0, .help = "Files that wait for a heal"},
    {"leaving", FIELD_BOOL, OF(set_status, leaving), FIELD_OPTIONAL,
     .help = "It is being taken out of the volume, and its space does not count"},
    END,
};
static const struct schema set_status_schema = {"SetStatus", sizeof(struct set_status), set_status_fields,
                                                "What is seen of a set of bricks"};

static const struct field volume_status_fields[] = {
    PHASE(volume_status, "pending, online, degraded, offline, stopped, failed"),
    {"size", FIELD_SIZE, OF(volume_status, size), 0, .help = "Bytes that it can hold"},
    {"free", FIELD_SIZE, OF(volume_status, free), 0, .help = "Bytes that are free"},
    {"provisioned", FIELD_SIZE, OF(volume_status, provisioned), 0,
     .help = "Sum of the sizes of its blocks and shares"},
    {"blocks", FIELD_UINT, OF(volume_status, blocks), 0, .help = "Number of its blocks"},
    {"shares", FIELD_UINT, OF(volume_status, shares), 0, .help = "Number of its shares"},
    {"largest", FIELD_SIZE, OF(volume_status, largest), 0,
     .help = "Bytes that one file can have: each lies in one set of bricks"},
    {"heal_pending", FIELD_UINT, OF(volume_status, heal_pending), 0, .help = "Files that wait for a heal"},
    {"heal_dirty", FIELD_UINT, OF(volume_status, heal_dirty), FIELD_OPTIONAL,
     .help = "Files that are being written, or whose writer died just now"},
    {"split_brain", FIELD_UINT, OF(volume_status, split_brain), FIELD_OPTIONAL,
     .help = "Files of which no copy is known to be right; they wait for a choice"},
    {"sets", FIELD_OBJECTS, OF(volume_status, sets), 0, .object = &set_status_schema,
     .help = "Its sets of bricks"},
    {"bricks", FIELD_OBJECTS, OF(volume_status, bricks), 0, .object = &brick_status_schema,
     .help = "Its bricks"},
    OBSERVED(volume_status),
    STATUS_COMMON(volume_status),
    END,
};
static const struct schema volume_status_schema = {"VolumeStatus", sizeof(struct volume_status),
                                                   volume_status_fields, "What is seen of a hosting volume"};
OBJECT_SCHEMA(volume, "Volume", "A hosting volume: a GlusterFS volume made of bricks, which holds blocks");

/* ---- Block ---- */

static const struct field block_spec_fields[] = {
    {"size", FIELD_SIZE, OF(block_spec, size), FIELD_REQUIRED, .help = "Bytes, a multiple of block_size"},
    {"block_size", FIELD_UINT, OF(block_spec, block_size), 0, 512, 4096,
     .help = "Logical block size, 512 or 4096"},
    {"prealloc", FIELD_ENUM, OF(block_spec, prealloc), 0, .words = block_prealloc_words,
     .help = "no: thin; full: space is allocated at once"},
    {"storage", FIELD_STRING, OF(block_spec, storage), 0, 2, 4000, .help = "File in the hosting volume"},
    {"adopted", FIELD_BOOL, OF(block_spec, adopted), FIELD_OPTIONAL,
     .help = "The file was there before the block"},
    {"keep_storage", FIELD_BOOL, OF(block_spec, keep_storage), FIELD_OPTIONAL,
     .help = "The file stays when the block is deleted"},
    END,
};
const struct schema block_spec_schema = {"BlockSpec", sizeof(struct block_spec), block_spec_fields,
                                         "A block volume"};

static const struct field block_status_fields[] = {
    PHASE(block_status, "pending, preallocating, ready, failed"),
    {"job", FIELD_NAME, OF(block_status, job), FIELD_OPTIONAL, .help = "The job that preallocates it"},
    {"size", FIELD_SIZE, OF(block_status, size), 0, .help = "Bytes of its file"},
    {"used", FIELD_SIZE, OF(block_status, used), FIELD_OPTIONAL, .help = "Bytes allocated on one replica"},
    {"heal", FIELD_STRING, OF(block_status, heal), FIELD_OPTIONAL,
     .help = "split-brain: no copy is known to be right; absent when all is well"},
    {"set", FIELD_UINT, OF(block_status, set), FIELD_OPTIONAL, .max = INT64_MAX,
     .help = "Of a volume with several sets of bricks: which one its file lies in, counted from 1 over all "
             "that it ever had"},
    OBSERVED(block_status),
    STATUS_COMMON(block_status),
    END,
};
static const struct schema block_status_schema = {"BlockStatus", sizeof(struct block_status),
                                                  block_status_fields, "What is seen of a block"};
OBJECT_SCHEMA(block, "Block", "A block volume (RWO): a file in a hosting volume");

/* ---- Share ---- */

static const struct field share_spec_fields[] = {
    {"size", FIELD_SIZE, OF(share_spec, size), FIELD_REQUIRED, .help = "Bytes that its files may take"},
    {"no_quota", FIELD_BOOL, OF(share_spec, no_quota), FIELD_OPTIONAL,
     .help = "Nothing enforces the size: it counts against the volume only"},
    {"project", FIELD_UINT, OF(share_spec, project), 0, 0, UINT32_MAX - 1,
     .help = "XFS project id of its files on every brick"},
    {"access", FIELD_STRINGS, OF(share_spec, access), 0, .max = SHARE_ACCESS_MAX,
     .help = "Addresses, networks and patterns that may mount it, beside the nodes"},
    {"archived", FIELD_BOOL, OF(share_spec, archived), FIELD_OPTIONAL,
     .help = "It was taken out of service, and its files lie in the archive"},
    {"archive_as", FIELD_NAME, OF(share_spec, archive_as), FIELD_OPTIONAL,
     .help = "Name of the archived share that it is about to become"},
    END,
};
const struct schema share_spec_schema = {"ShareSpec", sizeof(struct share_spec), share_spec_fields,
                                         "A shared file volume"};

static const struct field share_status_fields[] = {
    PHASE(share_status, "pending, ready, archived, failed"),
    {"path", FIELD_STRING, OF(share_status, path), FIELD_OPTIONAL,
     .help = "Its folder in the hosting volume"},
    {"size", FIELD_SIZE, OF(share_status, size), 0, .help = "Bytes that are enforced (or promised) now"},
    {"used", FIELD_SIZE, OF(share_status, used), FIELD_OPTIONAL,
     .help = "Bytes that its files take, where the kernel counts them"},
    OBSERVED(share_status),
    STATUS_COMMON(share_status),
    END,
};
static const struct schema share_status_schema = {"ShareStatus", sizeof(struct share_status),
                                                  share_status_fields, "What is seen of a share"};
OBJECT_SCHEMA(share, "Share", "A shared file volume (RWX): a folder in a hosting volume, with a quota");

/* ---- Export ---- */

static const struct field export_spec_fields[] = {
    {"protocol", FIELD_ENUM, OF(export_spec, protocol), 0, .words = export_protocol_words, .help = "nbd"},
    {"read_only", FIELD_BOOL, OF(export_spec, read_only), 0, .help = "Clients cannot write"},
    END,
};
const struct schema export_spec_schema = {"ExportSpec", sizeof(struct export_spec), export_spec_fields,
                                          "What a node offers for one block"};

static const struct field export_status_fields[] = {
    PHASE(export_status, "pending, live, offline, failed"),
    {"uri", FIELD_STRING, OF(export_status, uri), 0, .help = "Where clients connect to"},
    OBSERVED(export_status),
    STATUS_COMMON(export_status),
    END,
};
static const struct schema export_status_schema = {"ExportStatus", sizeof(struct export_status),
                                                   export_status_fields, "What is seen of an export"};
OBJECT_SCHEMA(export, "Export", "What a node offers to clients for one block");

/* ---- Job ---- */

static const struct field job_spec_fields[] = {
    {"kind", FIELD_ENUM, OF(job_spec, kind), FIELD_REQUIRED, .words = job_kind_words, .help = "What it does"},
    {"object", FIELD_STRING, OF(job_spec, object), FIELD_REQUIRED,
     .help = "Key of the object that it works on"},
    {"object_uid", FIELD_STRING, OF(job_spec, object_uid), 0, .help = "Identity of that object"},
    {"target", FIELD_STRING, OF(job_spec, target), FIELD_OPTIONAL,
     .help = "NODE/DEVICE that takes over, where one was named"},
    {"path", FIELD_STRING, OF(job_spec, path), FIELD_OPTIONAL, .help = "Folder that is removed"},
    {"project", FIELD_UINT, OF(job_spec, project), FIELD_OPTIONAL,
     .help = "XFS project id that is free afterwards"},
    END,
};
const struct schema job_spec_schema = {"JobSpec", sizeof(struct job_spec), job_spec_fields, "Long work"};

static const struct field job_status_fields[] = {
    PHASE(job_status, "pending, running, succeeded, failed, canceled"),
    {"done", FIELD_SIZE, OF(job_status, done), 0, .help = "Bytes that are done"},
    {"total", FIELD_SIZE, OF(job_status, total), 0, .help = "Bytes in all"},
    {"started", FIELD_TIME, OF(job_status, started), 0, .help = "When it started"},
    {"finished", FIELD_TIME, OF(job_status, finished), 0, .help = "When it ended"},
    {"message", FIELD_STRING, OF(job_status, message), FIELD_OPTIONAL,
     .help = "What it does now, and what it waits for"},
    STATUS_COMMON(job_status),
    END,
};
static const struct schema job_status_schema = {"JobStatus", sizeof(struct job_status), job_status_fields,
                                                "How far a job is"};
OBJECT_SCHEMA(job, "Job", "Long work with progress");

/* ---- Keys ---- */

const struct object_type object_types[KIND_COUNT] = {
    [KIND_NODE] = {KIND_NODE, "node", "nodes", 1, &node_schema},
    [KIND_DEVICE] = {KIND_DEVICE, "device", "devices", 2, &device_schema},
    [KIND_VOLUME] = {KIND_VOLUME, "volume", "volumes", 1, &volume_schema},
    [KIND_BLOCK] = {KIND_BLOCK, "block", "blocks", 2, &block_schema},
    [KIND_SHARE] = {KIND_SHARE, "share", "shares", 2, &share_schema},
    [KIND_EXPORT] = {KIND_EXPORT, "export", "exports", 3, &export_schema},
    [KIND_JOB] = {KIND_JOB, "job", "jobs", 1, &job_schema},
};

char *object_key(enum object_kind kind, const char *name)
{
    return xasprintf("%s/%s", object_types[kind].plural, name);
}

int object_key_parse(const char *key, enum object_kind *ret_kind, const char **ret_name)
{
    for (size_t i = 0; i < KIND_COUNT; i++) {
        size_t length = strlen(object_types[i].plural);
        if (strncmp(key, object_types[i].plural, length) == 0 && key[length] == '/' && key[length + 1]) {
            *ret_kind = object_types[i].kind;
            *ret_name = key + length + 1;
            return 0;
        }
    }
    return -EINVAL;
}

char *object_name_part(const char *name, unsigned index)
{
    for (; index > 0; index--) {
        name = strchr(name, '/');
        if (!name)
            return NULL;
        name++;
    }
    return xstrndup(name, strcspn(name, "/"));
}
