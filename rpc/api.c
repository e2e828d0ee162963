/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "api.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"
#include "rpc/certificates.h"
#include "rpc/cluster.h"
#include "rpc/examine.h"
#include "rpc/schema_table.h"

#define VOLUME_SIZE_MIN (UINT64_C(16) << 20)

/* ---- Queries ---- */

#define CHANGE_FIELDS(structure)                                                                             \
    {"wait",                                                                                                 \
     FIELD_UINT,                                                                                             \
     OF(structure, wait),                                                                                    \
     0,                                                                                                      \
     0,                                                                                                      \
     3600,                                                                                                   \
     .help = "Seconds to wait until the change is done or has failed"},                                      \
        {"revision", FIELD_UINT, OF(structure, revision), 0,                                                 \
         .help = "Refuse unless the object has this revision"},                                              \
    {                                                                                                        \
        "force", FIELD_BOOL, OF(structure, force), 0, .help = "Go on where the change is refused for safety" \
    }

static const struct field change_query_fields[] = {CHANGE_FIELDS(change_query), END};
SCHEMA(change_query, "ChangeQuery", "What every change takes");

static const struct field block_delete_query_fields[] = {
    CHANGE_FIELDS(block_delete_query),
    {"keep_storage", FIELD_BOOL, OF(block_delete_query, keep_storage), 0,
     .help = "Leave the file in the hosting volume"},
    END,
};
SCHEMA(block_delete_query, "BlockDeleteQuery", "What the deletion of a block takes");

static const struct field share_delete_query_fields[] = {
    CHANGE_FIELDS(share_delete_query),
    {"archive", FIELD_BOOL, OF(share_delete_query, archive), 0,
     .help = "Keep the files: the share becomes an archived one, under a name with the time"},
    END,
};
SCHEMA(share_delete_query, "ShareDeleteQuery", "What the deletion of a share takes");

static const struct field list_query_fields[] = {
    {"watch", FIELD_BOOL, OF(list_query, watch), 0, .help = "Stream changes, one JSON object a line"},
    {"after", FIELD_UINT, OF(list_query, after), 0,
     .help = "With watch: changes after this revision; from now on if absent"},
    {"limit", FIELD_UINT, OF(list_query, limit), 0, 0, 100000, .help = "At most so many items"},
    {"start", FIELD_STRING, OF(list_query, start), 0, .help = "With limit: items after this name"},
    END,
};
SCHEMA(list_query, "ListQuery", "What a list takes");

/* ---- Bodies ---- */

static const struct field node_patch_fields[] = {
    {"state", FIELD_ENUM, OF(node_patch, state), 0, .words = node_state_words,
     .help = "stopped: stop serving, unmount the devices"},
    {"addresses", FIELD_STRINGS, OF(node_patch, addresses), 0, .max = 16, .help = "IP addresses of the node"},
    {"zone", FIELD_NAME, OF(node_patch, zone), 0, .help = "Failure domain"},
    END,
};
SCHEMA(node_patch, "NodePatch", "Changes of a node");

static const struct field device_create_fields[] = {
    {"node", FIELD_NAME, OF(device_create, node), 0, .help = "Node that has it; this one if absent"},
    {"name", FIELD_NAME, OF(device_create, name), FIELD_REQUIRED, .help = "Name of the device"},
    {"path", FIELD_STRING, OF(device_create, path), FIELD_REQUIRED, 2, 4000,
     .help = "Block device (by a stable name, /dev/disk/by-id/...), or an image file"},
    {"image_size", FIELD_SIZE, OF(device_create, image_size), 0,
     .help = "Make an image file of this size at the path, for trials"},
    {"destroy_existing_data", FIELD_BOOL, OF(device_create, destroy_existing_data), 0,
     .help = "Format it even if it holds data"},
    END,
};
SCHEMA(device_create, "DeviceCreate", "A device to add");

static const struct field device_patch_fields[] = {
    {"state", FIELD_ENUM, OF(device_patch, state), 0, .words = device_state_words,
     .help = "enabled, or disabled: it gets no new bricks"},
    END,
};
SCHEMA(device_patch, "DevicePatch", "Changes of a device");

static const struct field device_evacuate_fields[] = {
    {"target", FIELD_STRING, OF(device_evacuate, target), 0, 1, 510,
     .help = "DEVICE or NODE/DEVICE that takes all of it; picked by free space for each brick if absent"},
    END,
};
SCHEMA(device_evacuate, "DeviceEvacuate", "Where the bricks of a device go");

static const struct field device_replace_fields[] = {
    {"target", FIELD_STRING, OF(device_replace, target), FIELD_REQUIRED, 1, 510,
     .help = "DEVICE or NODE/DEVICE that takes its place"},
    END,
};
SCHEMA(device_replace, "DeviceReplace", "What takes the place of a device");

static const struct field volume_create_fields[] = {
    {"name", FIELD_NAME, OF(volume_create, name), FIELD_REQUIRED, .help = "Name of the volume"},
    {"template", FIELD_ENUM, OF(volume_create, template_name), 0, .words = volume_template_words,
     .help = "single, replica3, arbiter or disperse; replica3 if absent"},
    {"size", FIELD_SIZE, OF(volume_create, size), 0, VOLUME_SIZE_MIN, INT64_MAX,
     .help = "Bytes that it shall hold; all that its devices have if absent"},
    {"sets", FIELD_UINT, OF(volume_create, sets), 0, 1, 120,
     .help = "Distribute over so many sets of bricks; as few as fit if absent"},
    {"data", FIELD_UINT, OF(volume_create, data), 0, 2, 16,
     .help = "Disperse: fragments that hold data; 4 if absent"},
    {"redundancy", FIELD_UINT, OF(volume_create, redundancy), 0, 1, 15,
     .help = "Disperse: fragments that may be lost; 2 if absent"},
    {"devices", FIELD_STRINGS, OF(volume_create, devices), 0, .max = 120,
     .help = "DEVICE or NODE/DEVICE: with a size those to pick among, else those of the bricks in order"},
    {"nodes", FIELD_STRINGS, OF(volume_create, nodes), 0, .max = 120, .help = "Pick on these nodes only"},
    {"zones", FIELD_STRINGS, OF(volume_create, zones), 0, .max = 120, .help = "Pick in these zones only"},
    {"overcommit", FIELD_RATIO, OF(volume_create, overcommit), 0, 100, 1000000,
     .help = "Sum of block sizes, as a multiple of the volume's size; 1.0 if absent"},
    {"allow_same_node", FIELD_BOOL, OF(volume_create, allow_same_node), 0,
     .help = "Allow several bricks of one set on one node, and so in one zone"},
    {"allow_same_zone", FIELD_BOOL, OF(volume_create, allow_same_zone), 0,
     .help = "Allow several bricks of one set in one zone"},
    {"access", FIELD_STRINGS, OF(volume_create, access), 0, .max = 64,
     .help = "Who may mount it beside the nodes: addresses, networks /8, /16 or /24, or * for all; with "
             "TLS certificates, cert:NAME or cert:*"},
    {"profile", FIELD_NAME, OF(volume_create, profile), 0,
     .help = "Named set of options: database, vm, share or archive"},
    {"options", FIELD_STRINGS, OF(volume_create, options), 0, .max = 64,
     .help = "TRANSLATOR.OPTION=VALUE of GlusterFS's translators"},
    {"advanced", FIELD_BOOL, OF(volume_create, advanced), 0,
     .help = "Allow options that their authors do not offer to everybody"},
    {"tls", FIELD_ENUM, OF(volume_create, tls), 0, .words = volume_tls_words,
     .help = "on: bricks speak TLS only; as the configuration has it ([tls] volumes) if absent"},
    END,
};
SCHEMA(volume_create, "VolumeCreate", "A hosting volume to create");

static const struct field volume_create_query_fields[] = {
    CHANGE_FIELDS(volume_create_query),
    {"dry_run", FIELD_BOOL, OF(volume_create_query, dry_run), 0,
     .help = "Show the plan (VolumePlan) and change nothing"},
    END,
};
SCHEMA(volume_create_query, "VolumeCreateQuery", "What the creation of a volume takes");

static const struct field volume_expand_fields[] = {
    {"size", FIELD_SIZE, OF(volume_expand, size), 0, VOLUME_SIZE_MIN, INT64_MAX,
     .help = "Bytes that the whole volume shall hold then"},
    {"sets", FIELD_UINT, OF(volume_expand, sets), 0, 1, 120,
     .help = "Sets of bricks to add; one if neither is given"},
    {"devices", FIELD_STRINGS, OF(volume_expand, devices), 0, .max = 120,
     .help = "DEVICE or NODE/DEVICE to pick among; of a volume without a size those of the bricks in order"},
    {"nodes", FIELD_STRINGS, OF(volume_expand, nodes), 0, .max = 120, .help = "Pick on these nodes only"},
    {"zones", FIELD_STRINGS, OF(volume_expand, zones), 0, .max = 120, .help = "Pick in these zones only"},
    {"allow_same_node", FIELD_BOOL, OF(volume_expand, allow_same_node), 0,
     .help = "Allow several bricks of one set on one node, and so in one zone"},
    {"allow_same_zone", FIELD_BOOL, OF(volume_expand, allow_same_zone), 0,
     .help = "Allow several bricks of one set in one zone"},
    END,
};
SCHEMA(volume_expand, "VolumeExpand", "Sets of bricks to add to a volume");

static const struct field volume_shrink_fields[] = {
    {"set", FIELD_UINT, OF(volume_shrink, set), 0, 0, 119,
     .help = "Number of the set of bricks, as the volume's status has it; the one with the least data if "
             "absent"},
    END,
};
SCHEMA(volume_shrink, "VolumeShrink", "A set of bricks to take out of a volume");

static const struct field plan_brick_fields[] = {
    {"set", FIELD_UINT, OF(plan_brick, set), 0, .help = "Set of bricks, from 0"},
    {"node", FIELD_NAME, OF(plan_brick, node), 0, .help = "Node that serves it"},
    {"device", FIELD_NAME, OF(plan_brick, device), 0, .help = "Device that holds it"},
    {"zone", FIELD_NAME, OF(plan_brick, zone), FIELD_OPTIONAL, .help = "Zone of the node"},
    {"size", FIELD_SIZE, OF(plan_brick, size), FIELD_OPTIONAL, .help = "Bytes that are promised to it"},
    {"room", FIELD_SIZE, OF(plan_brick, room), 0, .help = "Bytes that the device could have promised"},
    {"witness", FIELD_BOOL, OF(plan_brick, witness), FIELD_OPTIONAL, .help = "It holds no data"},
    END,
};
static const struct schema plan_brick_schema = {"PlanBrick", sizeof(struct plan_brick), plan_brick_fields,
                                                "Where a brick goes"};
static const struct field plan_refusal_fields[] = {
    {"device", FIELD_STRING, OF(plan_refusal, device), 0, .help = "NODE/DEVICE"},
    {"reason", FIELD_STRING, OF(plan_refusal, reason), 0, .help = "Why it is not taken"},
    END,
};
static const struct schema plan_refusal_schema = {"PlanRefusal", sizeof(struct plan_refusal),
                                                  plan_refusal_fields, "A device that is not taken"};
static const struct field volume_plan_fields[] = {
    {"volume", FIELD_NAME, OF(volume_plan, volume), 0, .help = "Name of the volume"},
    {"layout", FIELD_STRING, OF(volume_plan, layout), 0, .help = "Template, and the numbers of disperse"},
    {"sets", FIELD_UINT, OF(volume_plan, sets), 0, .help = "How many sets of bricks it adds"},
    {"size", FIELD_SIZE, OF(volume_plan, size), FIELD_OPTIONAL, .help = "Bytes that they hold"},
    {"largest", FIELD_SIZE, OF(volume_plan, largest), FIELD_OPTIONAL, .help = "Bytes that one file can have"},
    {"bricks", FIELD_OBJECTS, OF(volume_plan, bricks), 0, .object = &plan_brick_schema,
     .help = "Where the bricks go, set by set"},
    {"refused", FIELD_OBJECTS, OF(volume_plan, refused), 0, .object = &plan_refusal_schema,
     .help = "Devices that are not taken"},
    {"text", FIELD_STRINGS, OF(volume_plan, text), 0, .help = "The plan in words"},
    END,
};
SCHEMA(volume_plan, "VolumePlan", "Where the bricks of a volume would go, and why not elsewhere");

static const struct field volume_patch_fields[] = {
    {"state", FIELD_ENUM, OF(volume_patch, state), 0, .words = volume_state_words,
     .help = "started or stopped"},
    {"overcommit", FIELD_RATIO, OF(volume_patch, overcommit), 0, 100, 1000000,
     .help = "Sum of block sizes, as a multiple of the volume's size"},
    {"access", FIELD_STRINGS, OF(volume_patch, access), 0, .max = 64,
     .help = "Who may mount it beside the nodes: addresses, networks /8, /16 or /24, or * for all; with "
             "TLS certificates, cert:NAME or cert:*"},
    {"profile", FIELD_NAME, OF(volume_patch, profile), 0,
     .help = "Named set of options: database, vm, share, archive or none"},
    {"options", FIELD_STRINGS, OF(volume_patch, options), 0, .max = 64,
     .help = "TRANSLATOR.OPTION=VALUE sets one, TRANSLATOR.OPTION= unsets it, others stay"},
    {"advanced", FIELD_BOOL, OF(volume_patch, advanced), 0,
     .help = "Allow options that their authors do not offer to everybody"},
    {"tls", FIELD_ENUM, OF(volume_patch, tls), 0, .words = volume_tls_words,
     .help = "on: bricks speak TLS only; changed while the volume is stopped"},
    END,
};
SCHEMA(volume_patch, "VolumePatch", "Changes of a hosting volume");

static const struct field block_create_fields[] = {
    {"volume", FIELD_NAME, OF(block_create, volume), FIELD_REQUIRED, .help = "Hosting volume"},
    {"name", FIELD_NAME, OF(block_create, name), FIELD_REQUIRED, .help = "Name of the block"},
    {"size", FIELD_SIZE, OF(block_create, size), FIELD_WORD, .help = "Size; with storage, the file's"},
    {"block_size", FIELD_UINT, OF(block_create, block_size), 0, 512, 4096,
     .help = "Logical block size, 512 or 4096"},
    {"prealloc", FIELD_ENUM, OF(block_create, prealloc), 0, .words = block_prealloc_words,
     .help = "no: thin; full: allocate the space now, as a job"},
    {"storage", FIELD_STRING, OF(block_create, storage), 0, 2, 4000,
     .help = "File of the hosting volume to adopt instead of making one"},
    {"hosts", FIELD_STRINGS, OF(block_create, hosts), 0, .max = 64,
     .help = "Nodes, by name or address, that export it over NBD"},
    END,
};
SCHEMA(block_create, "BlockCreate", "A block to create");

static const struct field block_patch_fields[] = {
    {"size", FIELD_SIZE, OF(block_patch, size), FIELD_WORD, .help = "New size; a smaller one needs force"},
    END,
};
SCHEMA(block_patch, "BlockPatch", "Changes of a block");

static const struct field block_rename_fields[] = {
    {"name", FIELD_NAME, OF(block_rename, name), FIELD_REQUIRED, .help = "New name, in the same volume"},
    END,
};
SCHEMA(block_rename, "BlockRename", "A new name of a block");

static const struct field share_create_fields[] = {
    {"volume", FIELD_NAME, OF(share_create, volume), FIELD_REQUIRED, .help = "Hosting volume"},
    {"name", FIELD_NAME, OF(share_create, name), FIELD_REQUIRED, .help = "Name of the share"},
    {"size", FIELD_SIZE, OF(share_create, size), FIELD_REQUIRED, .help = "Bytes that its files may take"},
    {"no_quota", FIELD_BOOL, OF(share_create, no_quota), 0,
     .help = "Let nothing enforce the size, where the kernel has no XFS project quota"},
    {"access", FIELD_STRINGS, OF(share_create, access), 0, .max = SHARE_ACCESS_MAX,
     .help = "Addresses, networks (10.0.0.0/8) and patterns (10.1.*) that may mount it, beside the nodes"},
    END,
};
SCHEMA(share_create, "ShareCreate", "A share to create");

static const struct field share_patch_fields[] = {
    {"size", FIELD_SIZE, OF(share_patch, size), FIELD_REQUIRED, .help = "New size, not below what is used"},
    END,
};
SCHEMA(share_patch, "SharePatch", "Changes of a share");

static const struct field share_access_fields[] = {
    {"access", FIELD_STRINGS, OF(share_access, access), FIELD_REQUIRED, .max = SHARE_ACCESS_MAX,
     .help = "Addresses, networks and patterns that may mount it, beside the nodes; none: the nodes only"},
    END,
};
SCHEMA(share_access, "ShareAccess", "Who may mount a share");

static const struct field export_create_fields[] = {
    {"volume", FIELD_NAME, OF(export_create, volume), FIELD_REQUIRED, .help = "Hosting volume"},
    {"block", FIELD_NAME, OF(export_create, block), FIELD_REQUIRED, .help = "Block"},
    {"node", FIELD_STRING, OF(export_create, node), 0, 1, 254,
     .help = "Node, by name or address; this one if absent"},
    {"protocol", FIELD_ENUM, OF(export_create, protocol), 0, .words = export_protocol_words, .help = "nbd"},
    {"read_only", FIELD_BOOL, OF(export_create, read_only), 0, .help = "Clients cannot write"},
    END,
};
SCHEMA(export_create, "ExportCreate", "An export to create");

static const struct field status_report_fields[] = {
    {"node", FIELD_STRING, OF(status_report, node), 0, .help = "The node that answers"},
    {"version", FIELD_STRING, OF(status_report, version), 0, .help = "Version of blockd"},
    {"phase", FIELD_STRING, OF(status_report, phase), 0, .help = "One of ok, degraded, failed"},
    {"nodes", FIELD_UINT, OF(status_report, nodes), 0, .help = "Number of nodes"},
    {"devices", FIELD_UINT, OF(status_report, devices), 0, .help = "Number of devices"},
    {"volumes", FIELD_UINT, OF(status_report, volumes), 0, .help = "Number of hosting volumes"},
    {"blocks", FIELD_UINT, OF(status_report, blocks), 0, .help = "Number of blocks"},
    {"shares", FIELD_UINT, OF(status_report, shares), 0, .help = "Number of shares"},
    {"exports", FIELD_UINT, OF(status_report, exports), 0, .help = "Number of exports"},
    {"jobs_running", FIELD_UINT, OF(status_report, jobs_running), 0, .help = "Number of running jobs"},
    {"problems", FIELD_STRINGS, OF(status_report, problems), 0, .help = "What is wrong and what to do"},
    END,
};
SCHEMA(status_report, "StatusReport", "One screen of state");

static const struct field version_report_fields[] = {
    {"version", FIELD_STRING, OF(version_report, version), 0, .help = "Version of blockd"},
    {"api", FIELD_STRING, OF(version_report, api), 0, .help = "Version of the API"},
    END,
};
SCHEMA(version_report, "VersionReport", "Versions");

/* ---- Routes ---- */

const char *const api_role_words[] = {"admin", "node", "csi", "metrics", NULL};

#define ANY_NODE (ROLE_NODE | ROLE_CSI)

/* What the data path and its clients look at; and what nodes look at only. */
#define LIST(op_name, path_text, noun_word, verb_word, schema, text)                                         \
    LIST_FOR(ANY_NODE, op_name, path_text, noun_word, verb_word, schema, text)
#define GET(op_name, path_text, noun_word, verb_word, schema, text)                                          \
    GET_FOR(ANY_NODE, op_name, path_text, noun_word, verb_word, schema, text)
#define LIST_FOR(who, op_name, path_text, noun_word, verb_word, schema, text)                                \
    [op_name] = {.op = op_name,                                                                              \
                 .method = "GET",                                                                            \
                 .path = path_text,                                                                          \
                 .noun = noun_word,                                                                          \
                 .verb = verb_word,                                                                          \
                 .roles = who,                                                                               \
                 .query = &list_query_schema,                                                                \
                 .response = schema,                                                                         \
                 .response_kind = RESPONSE_LIST,                                                             \
                 .help = text}
#define GET_FOR(who, op_name, path_text, noun_word, verb_word, schema, text)                                 \
    [op_name] = {.op = op_name,                                                                              \
                 .method = "GET",                                                                            \
                 .path = path_text,                                                                          \
                 .noun = noun_word,                                                                          \
                 .verb = verb_word,                                                                          \
                 .roles = who,                                                                               \
                 .response = schema,                                                                         \
                 .help = text}
#define CHANGE(op_name, verb_text, path_text, noun_word, verb_word, who, query_schema, body, schema, text)   \
    [op_name] = {.op = op_name,                                                                              \
                 .method = verb_text,                                                                        \
                 .path = path_text,                                                                          \
                 .noun = noun_word,                                                                          \
                 .verb = verb_word,                                                                          \
                 .roles = who,                                                                               \
                 .query = query_schema,                                                                      \
                 .request = body,                                                                            \
                 .response = schema,                                                                         \
                 .help = text}

const struct api_route api_routes[API_OP_COUNT] = {
    LIST_FOR(ROLE_NODE, API_NODE_LIST, "/v1/nodes", "node", "list", &node_schema, "List the nodes"),
    GET_FOR(ROLE_NODE, API_NODE_GET, "/v1/nodes/{node}", "node", "info", &node_schema, "Show a node"),
    CHANGE(API_NODE_PATCH, "PATCH", "/v1/nodes/{node}", "node", "modify", 0, &change_query_schema,
           &node_patch_schema, &node_schema, "Change a node"),

    LIST_FOR(ROLE_NODE, API_DEVICE_LIST, "/v1/devices", "device", "list", &device_schema, "List the devices"),
    GET_FOR(ROLE_NODE, API_DEVICE_GET, "/v1/devices/{node}/{device}", "device", "info", &device_schema,
            "Show a device"),
    CHANGE(API_DEVICE_CREATE, "POST", "/v1/devices", "device", "add", 0, &change_query_schema,
           &device_create_schema, &device_schema,
           "Add a disk, a partition or an image to a node, and format it"),
    CHANGE(API_DEVICE_DELETE, "DELETE", "/v1/devices/{node}/{device}", "device", "remove", 0,
           &change_query_schema, NULL, &device_schema, "Remove a device that holds no brick"),
    CHANGE(API_DEVICE_ADOPT, "POST", "/v1/devices/adopt", "device", "adopt", 0, NULL, &adopt_request_schema,
           &adopt_report_schema, "Tell which devices, volumes and blocks lie on disks, and know them again"),
    CHANGE(API_DEVICE_PATCH, "PATCH", "/v1/devices/{node}/{device}", "device", "modify", 0,
           &change_query_schema, &device_patch_schema, &device_schema, "Change a device"),
    CHANGE(API_DEVICE_EVACUATE, "POST", "/v1/devices/{node}/{device}/evacuate", "device", "evacuate", 0,
           &change_query_schema, &device_evacuate_schema, &job_schema,
           "Move every brick of a device to other devices, as a job"),
    CHANGE(API_DEVICE_REPLACE, "POST", "/v1/devices/{node}/{device}/replace", "device", "replace", 0,
           &change_query_schema, &device_replace_schema, &job_schema,
           "Rebuild the bricks of a device, dead or alive, on another one, as a job"),

    LIST(API_VOLUME_LIST, "/v1/volumes", "volume", "list", &volume_schema, "List the hosting volumes"),
    GET(API_VOLUME_GET, "/v1/volumes/{volume}", "volume", "info", &volume_schema, "Show a hosting volume"),
    CHANGE(API_VOLUME_CREATE, "POST", "/v1/volumes", "volume", "create", 0, &volume_create_query_schema,
           &volume_create_schema, &volume_schema, "Create a hosting volume and start it"),
    CHANGE(API_VOLUME_PATCH, "PATCH", "/v1/volumes/{volume}", "volume", "modify", 0, &change_query_schema,
           &volume_patch_schema, &volume_schema, "Change a hosting volume"),
    CHANGE(API_VOLUME_DELETE, "DELETE", "/v1/volumes/{volume}", "volume", "delete", 0, &change_query_schema,
           NULL, &volume_schema, "Delete a hosting volume that holds no block and no share"),
    CHANGE(API_VOLUME_EXPAND, "POST", "/v1/volumes/{volume}/expand", "volume", "expand", 0,
           &volume_create_query_schema, &volume_expand_schema, &job_schema,
           "Add sets of bricks to a hosting volume and spread its files over all of them, as a job"),
    CHANGE(API_VOLUME_SHRINK, "POST", "/v1/volumes/{volume}/shrink", "volume", "shrink", 0,
           &change_query_schema, &volume_shrink_schema, &job_schema,
           "Move all files off a set of bricks and take it out of a hosting volume, as a job"),
    CHANGE(API_VOLUME_REBALANCE, "POST", "/v1/volumes/{volume}/rebalance", "volume", "rebalance", 0,
           &change_query_schema, NULL, &job_schema,
           "Spread the files of a hosting volume over its sets of bricks, as a job"),
    [API_HEAL_INFO] = {API_HEAL_INFO, "GET", "/v1/volumes/{volume}/heal", "volume", "heal info", ANY_NODE,
                       &heal_list_query_schema, NULL, &heal_report_schema, RESPONSE_OBJECT,
                       "List the files of a hosting volume that wait for a heal or are in split-brain"},
    CHANGE(API_HEAL_START, "POST", "/v1/volumes/{volume}/heal", "volume", "heal start", 0,
           &change_query_schema, &heal_start_schema, &job_schema, "Heal a hosting volume now, as a job"),
    CHANGE(API_HEAL_RESOLVE, "POST", "/v1/volumes/{volume}/heal/resolve", "volume", "heal resolve", 0,
           &change_query_schema, &heal_resolve_schema, &heal_resolved_schema,
           "Choose the copy of a file in split-brain that is right; the others are overwritten"),
    GET(API_HEAL_HISTORY, "/v1/volumes/{volume}/heal/history", "volume", "heal history", &heal_history_schema,
        "List the last heals of a hosting volume"),

    LIST(API_BLOCK_LIST, "/v1/blocks", "block", "list", &block_schema, "List the blocks of all volumes"),
    LIST(API_BLOCK_LIST_VOLUME, "/v1/blocks/{volume}", "block", "list", &block_schema,
         "List the blocks of a volume"),
    GET(API_BLOCK_GET, "/v1/blocks/{volume}/{block}", "block", "info", &block_schema, "Show a block"),
    CHANGE(API_BLOCK_CREATE, "POST", "/v1/blocks", "block", "create", ROLE_CSI, &change_query_schema,
           &block_create_schema, &block_schema, "Create a block"),
    CHANGE(API_BLOCK_PATCH, "PATCH", "/v1/blocks/{volume}/{block}", "block", "modify", ROLE_CSI,
           &change_query_schema, &block_patch_schema, &block_schema, "Change the size of a block"),
    CHANGE(API_BLOCK_RENAME, "POST", "/v1/blocks/{volume}/{block}/rename", "block", "rename", 0,
           &change_query_schema, &block_rename_schema, &block_schema, "Rename a block"),
    CHANGE(API_BLOCK_DELETE, "DELETE", "/v1/blocks/{volume}/{block}", "block", "delete", ROLE_CSI,
           &block_delete_query_schema, NULL, &block_schema, "Delete a block and its exports"),

    LIST(API_SHARE_LIST, "/v1/shares", "share", "list", &share_schema, "List the shares of all volumes"),
    LIST(API_SHARE_LIST_VOLUME, "/v1/shares/{volume}", "share", "list", &share_schema,
         "List the shares of a volume"),
    GET(API_SHARE_GET, "/v1/shares/{volume}/{share}", "share", "info", &share_schema, "Show a share"),
    CHANGE(API_SHARE_CREATE, "POST", "/v1/shares", "share", "create", ROLE_CSI, &change_query_schema,
           &share_create_schema, &share_schema, "Create a share"),
    CHANGE(API_SHARE_PATCH, "PATCH", "/v1/shares/{volume}/{share}", "share", "resize", ROLE_CSI,
           &change_query_schema, &share_patch_schema, &share_schema, "Change the size of a share"),
    CHANGE(API_SHARE_ACCESS, "POST", "/v1/shares/{volume}/{share}/access", "share", "access", ROLE_CSI,
           &change_query_schema, &share_access_schema, &share_schema, "Say who may mount a share"),
    CHANGE(API_SHARE_DELETE, "DELETE", "/v1/shares/{volume}/{share}", "share", "delete", ROLE_CSI,
           &share_delete_query_schema, NULL, &share_schema, "Delete a share with its files, or archive it"),

    LIST(API_EXPORT_LIST, "/v1/exports", "export", "list", &export_schema, "List the exports"),
    GET(API_EXPORT_GET, "/v1/exports/{node}/{volume}/{block}", "export", "info", &export_schema,
        "Show an export"),
    CHANGE(API_EXPORT_CREATE, "POST", "/v1/exports", "export", "create", ROLE_CSI, &change_query_schema,
           &export_create_schema, &export_schema, "Export a block from a node"),
    CHANGE(API_EXPORT_DELETE, "DELETE", "/v1/exports/{node}/{volume}/{block}", "export", "delete", ROLE_CSI,
           &change_query_schema, NULL, &export_schema, "Withdraw an export; its clients are cut off"),

    LIST(API_JOB_LIST, "/v1/jobs", "job", "list", &job_schema, "List the jobs"),
    GET(API_JOB_GET, "/v1/jobs/{job}", "job", "info", &job_schema, "Show a job"),
    CHANGE(API_JOB_DELETE, "DELETE", "/v1/jobs/{job}", "job", "cancel", 0, &change_query_schema, NULL,
           &job_schema, "Cancel a job, or forget one that has ended"),

    CHANGE(API_CLUSTER_INIT, "POST", "/v1/cluster/init", NULL, NULL, 0, NULL, NULL, &cluster_authority_schema,
           "Make the cluster's authority, and this node's certificate, unless they are there"),
    [API_CLUSTER_AUTHORITY] = {API_CLUSTER_AUTHORITY, "GET", "/v1/cluster/authority", "cluster", "authority",
                               ROLE_NOBODY, NULL, NULL, &cluster_authority_schema, RESPONSE_OBJECT,
                               "Show who signs the cluster's certificates"},
    [API_CLUSTER_JOIN] = {API_CLUSTER_JOIN, "POST", "/v1/cluster/join", NULL, NULL, ROLE_NOBODY, NULL,
                          &join_request_schema, &join_reply_schema, RESPONSE_OBJECT,
                          "Make a node one of the cluster's, by a token"},
    GET_FOR(0, API_TOKEN_LIST, "/v1/tokens", "cluster", "token list", &token_list_schema,
            "List the tokens that nodes join with"),
    CHANGE(API_TOKEN_CREATE, "POST", "/v1/tokens", "cluster", "token create", 0, NULL, &token_create_schema,
           &token_created_schema, "Make a token that one node joins with, once"),
    CHANGE(API_TOKEN_DELETE, "DELETE", "/v1/tokens/{token}", "cluster", "token revoke", 0, NULL, NULL,
           &token_deleted_schema, "Withdraw a token"),

    GET_FOR(0, API_CERTIFICATE_LIST, "/v1/certificates", "certificate", "list", &certificate_list_schema,
            "List the certificates that were signed"),
    CHANGE(API_CERTIFICATE_RENEW, "POST", "/v1/certificates/renew", "certificate", "renew", 0, NULL, NULL,
           &certificate_record_schema,
           "Sign the answering node's certificate anew, which it does itself in time"),
    CHANGE(API_CERTIFICATE_SIGN, "POST", "/v1/certificates", "certificate", "sign", 0, NULL,
           &certificate_sign_schema, &certificate_signed_schema,
           "Sign a request for a certificate of the cluster"),
    CHANGE(API_CERTIFICATE_REVOKE, "POST", "/v1/certificates/revoke", "certificate", "revoke", 0, NULL,
           &certificate_revoke_schema, &certificate_revoked_schema,
           "Revoke a certificate: new connections with it are refused"),

    CHANGE(API_EXAMINE, "POST", "/v1/examine", "examine", NULL, 0, NULL, &examine_request_schema,
           &examine_report_schema, "Compare a node with the store, and mend what differs"),
    GET_FOR(ROLE_NODE, API_EXAMINE_GET, "/v1/examine", NULL, NULL, &examine_report_schema,
            "Compare a node with the store"),
    GET_FOR(ROLE_NODE, API_STATUS, "/v1/status", "status", NULL, &status_report_schema,
            "Show the state of everything on one screen"),
    [API_VERSION] = {API_VERSION, "GET", "/v1/version", .roles = ROLE_ANYONE,
                     .response = &version_report_schema, .help = "Say which version answers"},
    [API_OPENAPI] = {API_OPENAPI, "GET", "/v1/openapi.json", .roles = ANY_NODE,
                     .response_kind = RESPONSE_TEXT, .help = "Describe this API (OpenAPI 3.0)"},
    [API_METRICS] = {API_METRICS, "GET", "/metrics", .roles = ROLE_METRICS | ROLE_NODE,
                     .response_kind = RESPONSE_TEXT, .help = "Give metrics in Prometheus' text format"},
    [API_HEALTHZ] = {API_HEALTHZ, "GET", "/healthz", .roles = ROLE_ANYONE, .response_kind = RESPONSE_TEXT,
                     .help = "Say that the daemon runs"},
    [API_READYZ] = {API_READYZ, "GET", "/readyz", .roles = ROLE_ANYONE, .response_kind = RESPONSE_TEXT,
                    .help = "Say whether the daemon has finished its first pass and serves"},
};

const struct api_alias api_aliases[] = {
    {"node", "stop", API_NODE_PATCH, "{\"state\":\"stopped\"}",
     "Stop serving from a node and unmount its devices"},
    {"node", "start", API_NODE_PATCH, "{\"state\":\"enabled\"}", "Serve from a node again"},
    {"device", "disable", API_DEVICE_PATCH, "{\"state\":\"disabled\"}", "Put no new bricks on a device"},
    {"device", "enable", API_DEVICE_PATCH, "{\"state\":\"enabled\"}", "Put bricks on a device again"},
    {"volume", "start", API_VOLUME_PATCH, "{\"state\":\"started\"}", "Start the bricks of a hosting volume"},
    {"volume", "stop", API_VOLUME_PATCH, "{\"state\":\"stopped\"}", "Stop the bricks of a hosting volume"},
    {.noun = NULL},
};

/* ---- Matching ---- */

/* Percent-decodes `length` bytes; NULL when the encoding is wrong or hides a NUL. */
static char *decode_segment(const char *text, size_t length)
{
    autostrbuf struct strbuf decoded = {0};
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '%') {
            unsigned value;
            char hex[3] = {0};
            if (i + 2 >= length)
                return NULL;
            memcpy(hex, text + i + 1, 2);
            if (strspn(hex, "0123456789abcdefABCDEF") != 2)
                return NULL;
            value = (unsigned)strtoul(hex, NULL, 16);
            if (!value)
                return NULL;
            c = (char)value;
            i += 2;
        }
        strbuf_add(&decoded, &c, 1);
    }
    return strbuf_steal(&decoded);
}

static size_t segment_length(const char *path)
{
    return strcspn(path, "/");
}

/* Does the path have the shape of the pattern? Names are not looked at. */
static bool shape_matches(const char *pattern, const char *path)
{
    while (*pattern && *path) {
        size_t p = segment_length(pattern), q = segment_length(path);
        if (*pattern == '{' ? q == 0 : p != q || strncmp(pattern, path, p) != 0)
            return false;
        pattern += p;
        path += q;
        if (*pattern != *path)
            return false;
        if (*pattern) {
            pattern++;
            path++;
        }
    }
    return *pattern == *path;
}

static int collect_arguments(const char *pattern, const char *path, struct api_match *match,
                             struct error **ret_error)
{
    unsigned count = 0;
    while (*pattern) {
        size_t p = segment_length(pattern), q = segment_length(path);
        if (*pattern == '{') {
            autofree char *what = xstrndup(pattern + 1, p - 2);
            char *name = match->arguments[count++] = decode_segment(path, q);
            if (!name)
                return error_set(ret_error, EINVAL, "the %s name in the path is badly encoded", what);
            int r = name_check(what, name, ret_error);
            if (r < 0)
                return r;
        }
        pattern += p + (pattern[p] == '/');
        path += q + (path[q] == '/');
    }
    return 0;
}

int api_route_find(const char *method, const char *path, struct api_match *ret_match,
                   struct error **ret_error)
{
    bool path_known = false;
    for (size_t i = 0; i < API_OP_COUNT; i++) {
        const struct api_route *route = &api_routes[i];
        if (!shape_matches(route->path, path))
            continue;
        path_known = true;
        if (strcmp(route->method, method) != 0)
            continue;
        struct api_match match = {.route = route};
        int r = collect_arguments(route->path, path, &match, ret_error);
        if (r < 0) {
            api_match_clear(&match);
            return r;
        }
        *ret_match = match;
        return 0;
    }
    if (path_known)
        return error_set(ret_error, EOPNOTSUPP, "%s is not a method of %.200s", method, path);
    return error_set(ret_error, ENOENT, "there is nothing at %.200s", path);
}

const char *api_allowed_methods(const char *path)
{
    static const char *const methods[] = {"GET", "POST", "PATCH", "DELETE"};
    static const char *const lists[] = {
        NULL,
        "GET, HEAD",
        "POST",
        "GET, HEAD, POST",
        "PATCH",
        "GET, HEAD, PATCH",
        "POST, PATCH",
        "GET, HEAD, POST, PATCH",
        "DELETE",
        "GET, HEAD, DELETE",
        "POST, DELETE",
        "GET, HEAD, POST, DELETE",
        "PATCH, DELETE",
        "GET, HEAD, PATCH, DELETE",
        "POST, PATCH, DELETE",
        "GET, HEAD, POST, PATCH, DELETE",
    };
    unsigned found = 0; /* bit I: methods[I] */
    for (size_t i = 0; i < API_OP_COUNT; i++)
        for (size_t k = 0; k < sizeof methods / sizeof *methods; k++)
            if (strcmp(api_routes[i].method, methods[k]) == 0 && shape_matches(api_routes[i].path, path))
                found |= 1u << k;
    return lists[found];
}

void api_match_clear(struct api_match *match)
{
    for (size_t i = 0; i < API_PATH_ARGUMENTS; i++)
        free(match->arguments[i]);
    *match = (struct api_match){0};
}
