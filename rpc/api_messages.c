/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What requests carry and what is answered that is no object of the store. */
#include "rpc/api.h"
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
    {"zone", FIELD_NAME, OF(node_patch, zone), 0, .help = "Failure domain; none: it is of no zone"},
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
    {"size", FIELD_SIZE, OF(block_patch, size), FIELD_REQUIRED,
     .help = "New size; a smaller one needs force"},
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
