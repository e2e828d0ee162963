/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "heal.h"

#include "rpc/schema_table.h"

const char *const heal_state_words[] = {"dirty", "pending", "healing", "split-brain", NULL};

static const struct field heal_file_fields[] = {
    {"file", FIELD_STRING, OF(heal_file, file), 0, .help = "Path in the volume, or gfid:UUID"},
    {"block", FIELD_STRING, OF(heal_file, block), FIELD_OPTIONAL, .help = "The block whose file it is"},
    {"share", FIELD_STRING, OF(heal_file, share), FIELD_OPTIONAL, .help = "The share that it lies in"},
    {"gfid", FIELD_STRING, OF(heal_file, gfid), FIELD_OPTIONAL, .help = "Identity of the file"},
    {"state", FIELD_ENUM, OF(heal_file, state), 0, .words = heal_state_words,
     .help = "dirty, pending, healing or split-brain"},
    {"kinds", FIELD_STRINGS, OF(heal_file, kinds), 0,
     .help = "What differs: data, metadata, entry, gfid, type"},
    {"size", FIELD_SIZE, OF(heal_file, size), 0, .help = "Size of the largest copy"},
    {"blames", FIELD_STRINGS, OF(heal_file, blames), 0, .help = "Which brick knows which one to be behind"},
    END,
};
SCHEMA(heal_file, "HealFile", "A file that is not the same on all bricks, or may not be");

static const struct field heal_report_fields[] = {
    {"volume", FIELD_STRING, OF(heal_report, volume), 0, .help = "Hosting volume"},
    {"pending", FIELD_UINT, OF(heal_report, pending), 0, .help = "Files that wait for a heal"},
    {"dirty", FIELD_UINT, OF(heal_report, dirty), 0,
     .help = "Files that are being written, or whose writer died"},
    {"split_brain", FIELD_UINT, OF(heal_report, split_brain), 0, .help = "Files in split-brain"},
    {"truncated", FIELD_BOOL, OF(heal_report, truncated), 0, .help = "There are more files than these"},
    {"files", FIELD_OBJECTS, OF(heal_report, files), 0, .object = &heal_file_schema, .help = "The files"},
    END,
};
SCHEMA(heal_report, "HealReport", "What waits for a heal in a hosting volume");

static const struct field heal_list_query_fields[] = {
    {"limit", FIELD_UINT, OF(heal_list_query, limit), 0, 1, 10000, .help = "At most so many files; 1000"},
    {"split_brain", FIELD_BOOL, OF(heal_list_query, split_brain), 0, .help = "Only files in split-brain"},
    END,
};
SCHEMA(heal_list_query, "HealListQuery", "Which files to list");

static const struct field heal_start_fields[] = {
    {"full", FIELD_BOOL, OF(heal_start, full), 0,
     .help = "Look at every file, not only at those that are known to be behind"},
    END,
};
SCHEMA(heal_start, "HealStart", "A heal to start");

static const struct field heal_resolve_fields[] = {
    {"file", FIELD_STRING, OF(heal_resolve, file), FIELD_WORD, 1, 4096,
     .help = "File in split-brain, as the list of heals names it, or the block VOLUME/BLOCK"},
    {"all", FIELD_BOOL, OF(heal_resolve, all), 0, .help = "Every file in split-brain of the volume"},
    {"keep", FIELD_STRING, OF(heal_resolve, keep), 0, 1, 512,
     .help = "The copy that is right: of a brick (NODE, DEVICE or NODE/DEVICE), newest or largest"},
    END,
};
SCHEMA(heal_resolve, "HealResolve", "Which copy of a file in split-brain is kept");

static const struct field heal_resolution_fields[] = {
    {"file", FIELD_STRING, OF(heal_resolution, file), 0, .help = "The file"},
    {"kept", FIELD_STRING, OF(heal_resolution, kept), FIELD_OPTIONAL, .help = "Brick whose copy was kept"},
    {"state", FIELD_STRING, OF(heal_resolution, state), 0, .help = "One of resolved, resolving, failed"},
    {"error", FIELD_STRING, OF(heal_resolution, error), FIELD_OPTIONAL, .help = "Why it was not resolved"},
    END,
};
static SCHEMA(heal_resolution, "HealResolution", "What became of a file in split-brain");

static const struct field heal_resolved_fields[] = {
    {"volume", FIELD_STRING, OF(heal_resolved, volume), 0, .help = "Hosting volume"},
    {"files", FIELD_OBJECTS, OF(heal_resolved, files), 0, .object = &heal_resolution_schema,
     .help = "The files that were in split-brain"},
    END,
};
SCHEMA(heal_resolved, "HealResolved", "Which copies were kept");

static const struct field heal_record_fields[] = {
    {"started", FIELD_TIME, OF(heal_record, started), 0, .help = "When the first file was behind"},
    {"finished", FIELD_TIME, OF(heal_record, finished), 0, .help = "When none was any more"},
    {"files", FIELD_UINT, OF(heal_record, files), 0, .help = "Files that were healed"},
    {"bytes", FIELD_SIZE, OF(heal_record, bytes), 0, .help = "Sum of the sizes of those with other data"},
    {"from", FIELD_STRINGS, OF(heal_record, from), 0, .help = "Bricks that had the right copies"},
    {"to", FIELD_STRINGS, OF(heal_record, to), 0, .help = "Bricks that were behind"},
    END,
};
SCHEMA(heal_record, "HealRecord", "A heal that has ended");

static const struct field heal_history_fields[] = {
    {"volume", FIELD_STRING, OF(heal_history, volume), 0, .help = "Hosting volume"},
    {"heals", FIELD_OBJECTS, OF(heal_history, heals), 0, .object = &heal_record_schema,
     .help = "Heals that have ended, the newest first"},
    END,
};
SCHEMA(heal_history, "HealHistory", "Heals of a hosting volume");
