/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "examine.h"

#include "rpc/base/alloc.h"
#include "rpc/schema_table.h"

/* ---- Examination ---- */

static const struct field finding_fields[] = {
    {"code", FIELD_STRING, OF(finding, code), 0, .help = "Kind of difference"},
    {"object", FIELD_STRING, OF(finding, object), 0, .help = "What differs, as confirm names it"},
    {"expected", FIELD_STRING, OF(finding, expected), 0, .help = "What the store asks for"},
    {"found", FIELD_STRING, OF(finding, found), 0, .help = "What is there"},
    {"action", FIELD_STRING, OF(finding, action), 0, .help = "What a repair does, or what is left to you"},
    {"repairable", FIELD_BOOL, OF(finding, repairable), 0, .help = "A repair can mend it"},
    {"destroys", FIELD_BOOL, OF(finding, destroys), 0,
     .help = "The repair removes data, and must be confirmed by the object's name"},
    {"repaired", FIELD_BOOL, OF(finding, repaired), 0, .help = "It was mended"},
    {"error", FIELD_STRING, OF(finding, error), FIELD_OPTIONAL, .help = "Why the repair failed"},
    END,
};
SCHEMA(finding, "Finding", "A difference between the store and a node");

struct finding *finding_add(struct object_list *findings, const char *code, const char *object,
                            const char *expected, const char *found, const char *action)
{
    struct finding *finding = object_list_add(findings, sizeof *finding);
    finding->code = xstrdup(code);
    finding->object = xstrdup(object);
    finding->expected = xstrdup(expected);
    finding->found = xstrdup(found);
    finding->action = xstrdup(action);
    return finding;
}

void findings_clear(struct object_list *findings)
{
    for (size_t i = 0; i < findings->count; i++)
        schema_clear(&finding_schema, (struct finding *)findings->items + i);
    free(findings->items);
    *findings = (struct object_list){0};
}

static const struct field examine_request_fields[] = {
    {"repair", FIELD_BOOL, OF(examine_request, repair), 0, .help = "Mend what can be mended without loss"},
    {"confirm", FIELD_STRINGS, OF(examine_request, confirm), 0, .max = 1000,
     .help = "With repair: objects of findings that may be removed with their data"},
    END,
};
SCHEMA(examine_request, "ExamineRequest", "An examination");

static const struct field examine_report_fields[] = {
    {"node", FIELD_STRING, OF(examine_report, node), 0, .help = "The node that was examined"},
    {"checked", FIELD_UINT, OF(examine_report, checked), 0, .help = "Number of things that were looked at"},
    {"repaired", FIELD_UINT, OF(examine_report, repaired), 0, .help = "Number of findings that were mended"},
    {"remaining", FIELD_UINT, OF(examine_report, remaining), 0, .help = "Number of findings that are left"},
    {"findings", FIELD_OBJECTS, OF(examine_report, findings), 0, .object = &finding_schema,
     .help = "The differences"},
    END,
};
SCHEMA(examine_report, "ExamineReport", "What differs on a node from what the store says");

/* ---- Adoption ---- */

static const struct field adopt_request_fields[] = {
    {"paths", FIELD_STRINGS, OF(adopt_request, paths), FIELD_REQUIRED, 1, 256,
     .help = "Disks and images whose devices, volumes and blocks are to be known again"},
    {"apply", FIELD_BOOL, OF(adopt_request, apply), 0,
     .help = "Do it; otherwise only tell what would be done"},
    {"unknown", FIELD_BOOL, OF(adopt_request, unknown), 0,
     .help = "Make blocks of the files that no record names, too"},
    END,
};
SCHEMA(adopt_request, "AdoptRequest", "Disks to adopt");

const char *const adopt_outcome_words[] = {"adopt", "present", "skip", "refuse", NULL};

static const struct field adopt_item_fields[] = {
    {"object", FIELD_STRING, OF(adopt_item, object), 0, .help = "What it is about"},
    {"outcome", FIELD_ENUM, OF(adopt_item, outcome), 0, .words = adopt_outcome_words,
     .help = "adopt, present (known already), skip, or refuse"},
    {"detail", FIELD_STRING, OF(adopt_item, detail), 0, .help = "What is known of it, or why not"},
    END,
};
SCHEMA(adopt_item, "AdoptItem", "What becomes of one thing on the disks");

static const struct field adopt_report_fields[] = {
    {"applied", FIELD_BOOL, OF(adopt_report, applied), 0, .help = "It was done"},
    {"adopted", FIELD_UINT, OF(adopt_report, adopted), 0, .help = "Number of objects to adopt, or adopted"},
    {"present", FIELD_UINT, OF(adopt_report, present), 0, .help = "Number of objects that are known already"},
    {"skipped", FIELD_UINT, OF(adopt_report, skipped), 0, .help = "Number of things that are left alone"},
    {"refused", FIELD_UINT, OF(adopt_report, refused), 0,
     .help = "Number of things that stand in the way: nothing is adopted then"},
    {"items", FIELD_OBJECTS, OF(adopt_report, items), 0, .object = &adopt_item_schema,
     .help = "Every thing, in the order of the work"},
    END,
};
SCHEMA(adopt_report, "AdoptReport", "What lies on disks, and what becomes of it");
