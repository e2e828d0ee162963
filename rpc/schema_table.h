/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Words for the files that write down schemas: short enough that a field is a line. */
#ifndef RPC_SCHEMA_TABLE_H
#define RPC_SCHEMA_TABLE_H

#include "rpc/schema.h"

#define OF(structure, member) offsetof(struct structure, member)
/* Ends a table of fields. */
#define END                                                                                                  \
    {                                                                                                        \
        .name = NULL                                                                                         \
    }
/* STRUCTURE_schema out of STRUCTURE_fields. */
#define SCHEMA(structure, title, text)                                                                       \
    const struct schema structure##_schema = {title, sizeof(struct structure), structure##_fields, text}

#endif
