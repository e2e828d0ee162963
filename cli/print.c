/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What the API answers, as JSON in the styles that gluster-block's scripts know, or for people. */
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"

/* ---- Members ---- */

const json_t *json_at(const json_t *object, const char *path)
{
    while (object && *path) {
        autofree char *part = xstrndup(path, strcspn(path, "."));
        object = json_object_get(object, part);
        path += strlen(part);
        path += *path == '.';
    }
    return object;
}

const char *json_text(const json_t *object, const char *path)
{
    const char *text = json_string_value(json_at(object, path));
    return text ? text : "";
}

uint64_t json_number(const json_t *object, const char *path)
{
    json_int_t number = json_integer_value(json_at(object, path));
    return number > 0 ? (uint64_t)number : 0;
}

/* ---- JSON ---- */

static void print_scalar(FILE *stream, const json_t *json)
{
    autofree char *text = json_dumps(json, JSON_ENCODE_ANY);
    fputs(text ? text : "null", stream);
}

/* "{ "a": 1, "b": [ "c" ] }" */
static void print_spaced(FILE *stream, const json_t *json)
{
    const char *name, *comma = "";
    json_t *value;
    size_t index;
    if (json_is_object(json)) {
        fputs("{", stream);
        json_object_foreach((json_t *)json, name, value)
        {
            json_t *key cleanup(json_decrefp) = json_string_nocheck(name);
            fprintf(stream, "%s ", comma);
            print_scalar(stream, key);
            fputs(": ", stream);
            print_spaced(stream, value);
            comma = ",";
        }
        fputs(" }", stream);
    } else if (json_is_array(json)) {
        fputs("[", stream);
        json_array_foreach((json_t *)json, index, value)
        {
            fprintf(stream, "%s ", comma);
            print_spaced(stream, value);
            comma = ",";
        }
        fputs(" ]", stream);
    } else {
        print_scalar(stream, json);
    }
}

void print_json(FILE *stream, enum json_style style, const json_t *json)
{
    if (style == JSON_STYLE_SPACED || style == JSON_NONE)
        print_spaced(stream, json);
    else
        json_dumpf(json, stream,
                   JSON_ENCODE_ANY | JSON_COMPACT | (style == JSON_STYLE_PRETTY ? JSON_INDENT(2) : 0));
    fputc('\n', stream);
}

/* ---- Values for people ---- */

/* Text from the daemon goes to a terminal: control characters are shown as "?". */
static char *printable(const char *text)
{
    char *copy = xstrdup(text);
    string_mask_controls(copy, '?');
    return copy;
}

static char *join_strings(const json_t *array)
{
    autostrbuf struct strbuf text = {0};
    size_t index;
    json_t *value;
    json_array_foreach((json_t *)array, index, value)
        strbuf_addf(&text, "%s%s", index ? ", " : "", json_is_string(value) ? json_string_value(value) : "?");
    return printable(strbuf_string(&text));
}

static char *size_text(const json_t *value, bool with_bytes)
{
    char text[SIZE_TEXT_SIZE];
    uint64_t bytes = json_integer_value(value) > 0 ? (uint64_t)json_integer_value(value) : 0;
    size_format(bytes, text);
    return with_bytes && bytes >= 1024 ? xasprintf("%s (%llu bytes)", text, (unsigned long long)bytes)
                                       : xstrdup(text);
}

/* One member's value as a line; NULL when there is nothing to show. */
static char *value_text(const struct field *field, const json_t *value, bool with_bytes)
{
    if (!value || json_is_null(value))
        return NULL;
    if (field && field->type == FIELD_SIZE && json_is_integer(value))
        return size_text(value, with_bytes);
    if (json_is_string(value))
        return printable(json_string_value(value));
    if (json_is_array(value))
        return join_strings(value);
    if (json_is_boolean(value))
        return xstrdup(json_is_true(value) ? "yes" : "no");
    if (json_is_real(value))
        return xasprintf("%g", json_real_value(value));
    return json_dumps(value, JSON_ENCODE_ANY);
}

/* ---- Tables ---- */

/* The field that a path such as "status.size" leads to; NULL when the schema has none. */
static const struct field *field_at(const struct schema *schema, const char *path)
{
    while (schema) {
        size_t length = strcspn(path, ".");
        const struct field *field = schema->fields;
        while (field->name && (strlen(field->name) != length || strncmp(field->name, path, length) != 0))
            field++;
        if (!field->name)
            return NULL;
        if (!path[length])
            return field;
        schema = field->object;
        path += length + 1;
    }
    return NULL;
}

#define COLUMNS 9
struct column {
    const char *title, *path;
};

static const struct column columns_of[KIND_COUNT][COLUMNS] = {
    [KIND_NODE] = {{"NAME", "name"},
                   {"STATE", "status.phase"},
                   {"ADDRESSES", "spec.addresses"},
                   {"ZONE", "spec.zone"},
                   {"VERSION", "status.version"},
                   {"ERROR", "status.error"}},
    [KIND_DEVICE] = {{"NAME", "name"},
                     {"STATE", "status.phase"},
                     {"USE", "spec.state"},
                     {"HEALTH", "status.health"},
                     {"BRICKS", "status.bricks"},
                     {"SIZE", "status.size"},
                     {"FREE", "status.free"},
                     {"PATH", "spec.path"},
                     {"ERROR", "status.error"}},
    [KIND_VOLUME] = {{"NAME", "name"},
                     {"STATE", "status.phase"},
                     {"TEMPLATE", "spec.template"},
                     {"SIZE", "status.size"},
                     {"FREE", "status.free"},
                     {"PROVISIONED", "status.provisioned"},
                     {"BLOCKS", "status.blocks"},
                     {"TO HEAL", "status.heal_pending"},
                     {"ERROR", "status.error"}},
    [KIND_BLOCK] = {{"NAME", "name"},
                    {"STATE", "status.phase"},
                    {"SIZE", "spec.size"},
                    {"PREALLOC", "spec.prealloc"},
                    {"CREATED", "created"},
                    {"ERROR", "status.error"}},
    [KIND_SHARE] = {{"NAME", "name"},
                    {"STATE", "status.phase"},
                    {"SIZE", "spec.size"},
                    {"USED", "status.used"},
                    {"NO QUOTA", "spec.no_quota"},
                    {"ACCESS", "spec.access"},
                    {"CREATED", "created"},
                    {"ERROR", "status.error"}},
    [KIND_EXPORT] = {{"NAME", "name"},
                     {"STATE", "status.phase"},
                     {"PROTOCOL", "spec.protocol"},
                     {"READ ONLY", "spec.read_only"},
                     {"URI", "status.uri"},
                     {"ERROR", "status.error"}},
    [KIND_JOB] = {{"NAME", "name"},
                  {"KIND", "spec.kind"},
                  {"OBJECT", "spec.object"},
                  {"STATE", "status.phase"},
                  {"DONE", "status.done"},
                  {"TOTAL", "status.total"},
                  {"STARTED", "status.started"},
                  {"MESSAGE", "status.message"},
                  {"ERROR", "status.error"}},
};

static size_t count_columns(const struct column *columns)
{
    size_t count = 0;
    while (count < COLUMNS && columns[count].title)
        count++;
    return count;
}

/* Rows of cells, printed with each column as wide as its widest cell. */
struct grid {
    char **cells; /* owned */
    size_t columns, rows;
};

static void grid_add(struct grid *grid, size_t row, size_t column, char *cell)
{
    grid->cells[row * grid->columns + column] = cell;
}

static struct grid grid_new(size_t columns, size_t rows)
{
    return (struct grid){xcalloc(columns * rows + 1, sizeof(char *)), columns, rows};
}

/* Characters, not bytes, as far as UTF-8 goes. */
static size_t text_width(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

/* Does any row but the heading have something in that column? */
static bool column_used(const struct grid *grid, size_t column)
{
    for (size_t row = 1; row < grid->rows; row++)
        if (grid->cells[row * grid->columns + column] && *grid->cells[row * grid->columns + column])
            return true;
    return grid->rows == 1;
}

static void grid_print(FILE *stream, const struct grid *grid, const char *indent)
{
    size_t *widths cleanup(cleanup_free) = xcalloc(grid->columns, sizeof *widths);
    for (size_t i = 0; i < grid->columns * grid->rows; i++) {
        size_t width = grid->cells[i] && *grid->cells[i] ? text_width(grid->cells[i]) : 1;
        if (width > widths[i % grid->columns])
            widths[i % grid->columns] = width;
    }
    for (size_t row = 0; row < grid->rows; row++) {
        autostrbuf struct strbuf line = {0};
        for (size_t column = 0; column < grid->columns; column++) {
            const char *cell = grid->cells[row * grid->columns + column];
            if (!column_used(grid, column))
                continue;
            cell = cell && *cell ? cell : "-";
            strbuf_addf(&line, "%s%*s  ", cell, (int)(widths[column] - text_width(cell)), "");
        }
        size_t length = line.length;
        while (length > 0 && line.data[length - 1] == ' ')
            length--;
        fprintf(stream, "%s%.*s\n", indent, (int)length, strbuf_string(&line));
    }
}

static void grid_clear(struct grid *grid)
{
    for (size_t i = 0; i < grid->columns * grid->rows; i++)
        free(grid->cells[i]);
    free(grid->cells);
}

void print_table(FILE *stream, enum object_kind kind, const json_t *items)
{
    const struct column *columns = columns_of[kind];
    size_t count = count_columns(columns), index;
    struct grid grid cleanup(grid_clear) = grid_new(count, json_array_size(items) + 1);
    json_t *item;
    for (size_t i = 0; i < count; i++)
        grid_add(&grid, 0, i, xstrdup(columns[i].title));
    json_array_foreach((json_t *)items, index, item) for (size_t i = 0; i < count; i++)
        grid_add(&grid, index + 1, i,
                 value_text(field_at(object_types[kind].schema, columns[i].path),
                            json_at(item, columns[i].path), false));
    grid_print(stream, &grid, "");
}

void print_change(FILE *stream, enum object_kind kind, const json_t *change)
{
    const struct column *columns = columns_of[kind];
    const json_t *object = json_object_get(change, "object");
    const char *slash = strchr(json_text(change, "key"), '/');
    autofree char *name = printable(slash ? slash + 1 : "");
    fprintf(stream, "%-6s  %s", json_text(change, "type"), name);
    for (size_t i = 1; object && i < count_columns(columns); i++) {
        autofree char *text = value_text(field_at(object_types[kind].schema, columns[i].path),
                                         json_at(object, columns[i].path), false);
        if (text && *text)
            fprintf(stream, "  %s=%s", columns[i].path, text);
    }
    fputc('\n', stream);
}

/* ---- One object ---- */

static bool is_nested(const struct field *field)
{
    return field->type == FIELD_OBJECT;
}

static size_t longest_name(const struct schema *schema, const json_t *object, size_t indent)
{
    size_t longest = 0;
    for (const struct field *field = schema->fields; field->name; field++) {
        const json_t *value = json_object_get(object, field->name);
        if (!value || (field->type == FIELD_OBJECTS && json_array_size(value)))
            continue;
        size_t width =
            is_nested(field) ? longest_name(field->object, value, indent + 2) : indent + strlen(field->name);
        if (width > longest)
            longest = width;
    }
    return longest;
}

static void print_list(FILE *stream, const struct schema *schema, const json_t *items, const char *indent)
{
    size_t columns = 0, index;
    json_t *item;
    while (schema->fields[columns].name)
        columns++;
    struct grid grid cleanup(grid_clear) = grid_new(columns, json_array_size(items) + 1);
    for (size_t i = 0; i < columns; i++)
        grid_add(&grid, 0, i, xstrdup(schema->fields[i].name));
    json_array_foreach((json_t *)items, index, item) for (size_t i = 0; i < columns; i++)
        grid_add(&grid, index + 1, i,
                 value_text(&schema->fields[i], json_object_get(item, schema->fields[i].name), false));
    grid_print(stream, &grid, indent);
}

/* Of several lines, each below the other. */
static void print_text(FILE *stream, const char *text, size_t indent)
{
    autostring_list struct string_list lines = {0};
    string_list_split(&lines, text ? text : "", '\n');
    for (size_t i = 0; i < lines.count; i++) {
        autofree char *line = printable(lines.items[i]);
        if (*line)
            fprintf(stream, "%*s%s\n", (int)indent, "", line);
    }
}

static void print_members(FILE *stream, const struct schema *schema, const json_t *object, size_t indent,
                          size_t width)
{
    for (const struct field *field = schema->fields; field->name; field++) {
        const json_t *value = json_object_get(object, field->name);
        if (!value)
            continue;
        if (is_nested(field)) {
            fprintf(stream, "%*s%s:\n", (int)indent, "", field->name);
            print_members(stream, field->object, value, indent + 2, width);
        } else if (field->type == FIELD_OBJECTS && json_array_size(value)) {
            autofree char *deeper = xasprintf("%*s", (int)indent + 2, "");
            fprintf(stream, "%*s%s:\n", (int)indent, "", field->name);
            print_list(stream, field->object, value, deeper);
        } else if (field->flags & FIELD_LINES) {
            fprintf(stream, "%*s%s:\n", (int)indent, "", field->name);
            print_text(stream, json_string_value(value), indent + 2);
        } else {
            autofree char *text = value_text(field, value, true);
            fprintf(stream, "%*s%s:%*s %s\n", (int)indent, "", field->name,
                    (int)(width - indent - strlen(field->name)), "", text && *text ? text : "-");
        }
    }
}

void print_object(FILE *stream, const struct schema *schema, const json_t *object)
{
    print_members(stream, schema, object, 0, longest_name(schema, object, 0));
}

int cli_fail(struct cli *cli, int result, const struct error *error)
{
    if (cli->json) {
        json_t *json cleanup(json_decrefp) = api_error_encode(error);
        print_json(cli->err, cli->json, json);
    } else {
        complain(cli, error);
    }
    return client_exit_status(cli, result);
}

void complain(struct cli *cli, const struct error *error)
{
    autofree char *text = printable(error_message(error));
    fprintf(cli->err, "gluster-block: %s\n", text);
}
