/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "schema.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/sizes.h"

#define STRING_MAX_DEFAULT 4096u
#define LIST_MAX_DEFAULT   1024u

/* Typed views of a member. */
#define MEMBER(type, object, field) ((type *)(void *)((char *)(object) + (field)->offset))
#define MEMBER_CONST(type, object, field)                                                                    \
    ((const type *)(const void *)((const char *)(object) + (field)->offset))

int enum_parse(const char *const words[], const char *word)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], word) == 0)
            return i;
    return -1;
}

void *object_list_add(struct object_list *list, size_t size)
{
    list->items = xrealloc(list->items, list->count + 1, size);
    void *item = (char *)list->items + list->count * size;
    memset(item, 0, size);
    list->count++;
    return item;
}

/* ---- Limits ---- */

static int check_string(const struct field *field, const char *text, struct error **ret_error)
{
    size_t length = strlen(text);
    uint64_t max = field->max ? field->max : STRING_MAX_DEFAULT;
    if (field->type == FIELD_NAME)
        return name_check(field->name, text, ret_error);
    if (length < field->min)
        return error_set(ret_error, EINVAL, "%s is empty", field->name);
    if (length > max)
        return error_set(ret_error, EINVAL, "%s is longer than %llu characters", field->name,
                         (unsigned long long)max);
    for (const char *c = text; *c; c++)
        if (((unsigned char)*c < 0x20 || *c == 0x7f) && !((field->flags & FIELD_LINES) && *c == '\n'))
            return error_set(ret_error, EINVAL, "%s holds a control character", field->name);
    return 0;
}

static int check_number(const struct field *field, uint64_t number, struct error **ret_error)
{
    if (number < field->min)
        return error_set(ret_error, EINVAL, "%s is %llu, and must be at least %llu", field->name,
                         (unsigned long long)number, (unsigned long long)field->min);
    if (field->max && number > field->max)
        return error_set(ret_error, EINVAL, "%s is %llu, and must be at most %llu", field->name,
                         (unsigned long long)number, (unsigned long long)field->max);
    return 0;
}

static int check_ratio(const struct field *field, double ratio, struct error **ret_error)
{
    double low = (double)field->min / 1000, high = (double)field->max / 1000;
    if (!(ratio >= low && (!field->max || ratio <= high)))
        return error_set(ret_error, EINVAL, "%s is %g, and must be from %g to %g", field->name, ratio, low,
                         high);
    return 0;
}

static int check_enum(const struct field *field, int value, struct error **ret_error)
{
    int count = 0;
    while (field->words[count])
        count++;
    if (value < 0 || value >= count)
        return error_set(ret_error, EINVAL, "%s has the number %d, which stands for no word", field->name,
                         value);
    return 0;
}

static int check_member(const struct field *field, const void *object, struct error **ret_error)
{
    const struct string_list *strings;
    const struct object_list *list;
    const char *text;
    int r = 0;
    switch (field->type) {
    case FIELD_STRING:
    case FIELD_NAME:
        text = *MEMBER_CONST(char *, object, field);
        if (!text)
            return field->flags & FIELD_REQUIRED ? error_set(ret_error, EINVAL, "%s is missing", field->name)
                                                 : 0;
        return check_string(field, text, ret_error);
    case FIELD_SIZE:
    case FIELD_UINT:
        return check_number(field, *MEMBER_CONST(uint64_t, object, field), ret_error);
    case FIELD_RATIO:
        return check_ratio(field, *MEMBER_CONST(double, object, field), ret_error);
    case FIELD_STRINGS:
        strings = MEMBER_CONST(struct string_list, object, field);
        if (strings->count > (field->max ? field->max : LIST_MAX_DEFAULT))
            return error_set(ret_error, EINVAL, "%s has %zu items, which is too many", field->name,
                             strings->count);
        for (size_t i = 0; i < strings->count && r == 0; i++) {
            struct field element = {.name = field->name, .type = FIELD_STRING, .min = 1};
            r = check_string(&element, strings->items[i], ret_error);
        }
        return r;
    case FIELD_OBJECT:
        return schema_check(field->object, MEMBER_CONST(char, object, field), ret_error);
    case FIELD_OBJECTS:
        list = MEMBER_CONST(struct object_list, object, field);
        for (size_t i = 0; i < list->count && r == 0; i++)
            r = schema_check(field->object, (const char *)list->items + i * field->object->size, ret_error);
        return r;
    case FIELD_ENUM:
        return check_enum(field, *MEMBER_CONST(int, object, field), ret_error);
    case FIELD_BOOL:
    case FIELD_TIME:
        return 0;
    }
    return 0;
}

int schema_check(const struct schema *schema, const void *object, struct error **ret_error)
{
    for (const struct field *field = schema->fields; field->name; field++) {
        int r = check_member(field, object, ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- From JSON ---- */

static int wrong_type(const struct field *field, const char *wanted, struct error **ret_error)
{
    return error_set(ret_error, EINVAL, "%s must be %s", field->name, wanted);
}

/* A JSON string without an embedded NUL, which would be cut short in C; NULL otherwise. */
static const char *string_of(const json_t *json)
{
    const char *text = json_string_value(json);
    return text && strlen(text) == json_string_length(json) ? text : NULL;
}

static int decode_size(const struct field *field, const json_t *json, uint64_t *number,
                       struct error **ret_error)
{
    const char *text = string_of(json);
    if (text) {
        int r = size_parse(text, number, ret_error);
        if (r < 0)
            error_prefix(ret_error, "%s", field->name);
        return r;
    }
    if (!json_is_integer(json) || json_integer_value(json) < 0)
        return wrong_type(field, "a number of bytes, or a string such as \"10GiB\"", ret_error);
    *number = (uint64_t)json_integer_value(json);
    return 0;
}

static int decode_enum(const struct field *field, const json_t *json, int *value, struct error **ret_error)
{
    const char *text = string_of(json);
    int index = text ? enum_parse(field->words, text) : -1;
    if (index < 0) {
        autostrbuf struct strbuf words = {0};
        for (int i = 0; field->words[i]; i++)
            strbuf_addf(&words, "%s\"%s\"", i ? ", " : "", field->words[i]);
        return error_set(ret_error, EINVAL, "%s must be one of %s", field->name, strbuf_string(&words));
    }
    *value = index;
    return 0;
}

static int decode_strings(const struct field *field, const json_t *json, struct string_list *list,
                          struct error **ret_error)
{
    if (!json_is_array(json))
        return wrong_type(field, "a list of strings", ret_error);
    string_list_clear(list);
    size_t index;
    json_t *element;
    json_array_foreach((json_t *)json, index, element)
    {
        const char *text = string_of(element);
        if (!text)
            return wrong_type(field, "a list of strings", ret_error);
        string_list_add(list, text);
    }
    return 0;
}

void object_list_clear(struct object_list *list, const struct schema *schema)
{
    for (size_t i = 0; i < list->count; i++)
        schema_clear(schema, (char *)list->items + i * schema->size);
    free(list->items);
    *list = (struct object_list){0};
}

static int decode_objects(const struct field *field, const json_t *json, struct object_list *list,
                          struct error **ret_error)
{
    if (!json_is_array(json))
        return wrong_type(field, "a list of objects", ret_error);
    if (json_array_size(json) > (field->max ? field->max : LIST_MAX_DEFAULT))
        return error_set(ret_error, EINVAL, "%s has too many items", field->name);
    object_list_clear(list, field->object);
    size_t index;
    json_t *element;
    json_array_foreach((json_t *)json, index, element)
    {
        void *item = object_list_add(list, field->object->size);
        int r = schema_decode(field->object, element, item, NULL, ret_error);
        if (r < 0) {
            error_prefix(ret_error, "%s[%zu]", field->name, index);
            return r;
        }
    }
    return 0;
}

static int decode_value(const struct field *field, const json_t *json, void *object, struct error **ret_error)
{
    const char *text;
    int r;
    switch (field->type) {
    case FIELD_STRING:
    case FIELD_NAME:
        if (!(text = string_of(json)))
            return wrong_type(field, "a string", ret_error);
        free(*MEMBER(char *, object, field));
        *MEMBER(char *, object, field) = xstrdup(text);
        return 0;
    case FIELD_SIZE:
        return decode_size(field, json, MEMBER(uint64_t, object, field), ret_error);
    case FIELD_UINT:
        if (!json_is_integer(json) || json_integer_value(json) < 0)
            return wrong_type(field, "a whole number that is not negative", ret_error);
        *MEMBER(uint64_t, object, field) = (uint64_t)json_integer_value(json);
        return 0;
    case FIELD_BOOL:
        if (!json_is_boolean(json))
            return wrong_type(field, "true or false", ret_error);
        *MEMBER(bool, object, field) = json_is_true(json);
        return 0;
    case FIELD_ENUM:
        return decode_enum(field, json, MEMBER(int, object, field), ret_error);
    case FIELD_RATIO:
        if (!json_is_number(json))
            return wrong_type(field, "a number", ret_error);
        *MEMBER(double, object, field) = json_number_value(json);
        return 0;
    case FIELD_TIME:
        if (!(text = string_of(json)))
            return wrong_type(field, "an RFC 3339 time", ret_error);
        return clock_parse(text, MEMBER(int64_t, object, field), ret_error);
    case FIELD_STRINGS:
        return decode_strings(field, json, MEMBER(struct string_list, object, field), ret_error);
    case FIELD_OBJECT:
        r = schema_decode(field->object, json, MEMBER(char, object, field), NULL, ret_error);
        if (r < 0)
            error_prefix(ret_error, "%s", field->name);
        return r;
    case FIELD_OBJECTS:
        return decode_objects(field, json, MEMBER(struct object_list, object, field), ret_error);
    }
    return 0;
}

static const struct field *find_field(const struct schema *schema, const char *name)
{
    for (const struct field *field = schema->fields; field->name; field++)
        if (strcmp(field->name, name) == 0)
            return field;
    return NULL;
}

int schema_decode(const struct schema *schema, const json_t *json, void *object, uint64_t *ret_present,
                  struct error **ret_error)
{
    if (!json_is_object(json))
        return error_set(ret_error, EINVAL, "a JSON object is wanted here");

    uint64_t present = 0;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)json, name, value)
    {
        const struct field *field = find_field(schema, name);
        if (!field)
            return error_set(ret_error, EINVAL, "there is no member \"%.64s\" here", name);
        int r = decode_value(field, value, object, ret_error);
        if (r == 0)
            r = check_member(field, object, ret_error);
        if (r < 0)
            return r;
        present |= UINT64_C(1) << (field - schema->fields);
    }
    for (const struct field *field = schema->fields; field->name; field++)
        if ((field->flags & FIELD_REQUIRED) && !(present >> (field - schema->fields) & 1))
            return error_set(ret_error, EINVAL, "%s is missing", field->name);
    if (ret_present)
        *ret_present = present;
    return 0;
}

/* ---- To JSON ---- */

static size_t utf8_length(const unsigned char *c)
{
    static const struct {
        unsigned char mask, lead, low, high;
        size_t length;
    } forms[] = {{0x80, 0x00, 0x00, 0xff, 1},
                 {0xe0, 0xc0, 0x80, 0xbf, 2},
                 {0xf0, 0xe0, 0x80, 0xbf, 3},
                 {0xf8, 0xf0, 0x80, 0xbf, 4}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if ((*c & forms[i].mask) != forms[i].lead)
            continue;
        for (size_t k = 1; k < forms[i].length; k++)
            if (c[k] < 0x80 || c[k] > 0xbf)
                return 0;
        return forms[i].length;
    }
    return 0;
}

json_t *json_string_lossy(const char *text)
{
    json_t *json = json_string(text);
    if (json)
        return json;
    autofree char *copy = xstrdup(text);
    for (unsigned char *c = (unsigned char *)copy; *c;) {
        size_t length = utf8_length(c);
        if (!length)
            *c = '?';
        c += length ? length : 1;
    }
    json = json_string(copy);
    return json ? json : json_string("?"); /* overlong forms and surrogates, which jansson refuses too */
}

static json_t *encode_strings(const struct string_list *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, json_string_lossy(list->items[i]));
    return array;
}

static json_t *encode_objects(const struct schema *schema, const struct object_list *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, schema_encode(schema, (const char *)list->items + i * schema->size));
    return array;
}

static json_t *encode_time(int64_t time)
{
    char text[CLOCK_TEXT_SIZE];
    clock_format(time, text);
    return json_string(text);
}

/* NULL: the member is left out. An absent string is always left out, as JSON null is
 * no value of any field. */
static json_t *encode_value(const struct field *field, const void *object)
{
    bool optional = field->flags & FIELD_OPTIONAL;
    const char *text;
    const struct string_list *strings;
    const struct object_list *list;
    switch (field->type) {
    case FIELD_STRING:
    case FIELD_NAME:
        text = *MEMBER_CONST(char *, object, field);
        return text ? json_string_lossy(text) : NULL;
    case FIELD_SIZE:
    case FIELD_UINT: {
        uint64_t number = *MEMBER_CONST(uint64_t, object, field);
        return optional && !number ? NULL : json_integer((json_int_t)number);
    }
    case FIELD_BOOL: {
        bool value = *MEMBER_CONST(bool, object, field);
        return optional && !value ? NULL : json_boolean(value);
    }
    case FIELD_ENUM:
        return optional && !*MEMBER_CONST(int, object, field)
                   ? NULL
                   : json_string(field->words[*MEMBER_CONST(int, object, field)]);
    case FIELD_RATIO:
        return json_real(*MEMBER_CONST(double, object, field));
    case FIELD_TIME: {
        int64_t time = *MEMBER_CONST(int64_t, object, field);
        return time ? encode_time(time) : NULL;
    }
    case FIELD_STRINGS:
        strings = MEMBER_CONST(struct string_list, object, field);
        return optional && !strings->count ? NULL : encode_strings(strings);
    case FIELD_OBJECT:
        return schema_encode(field->object, MEMBER_CONST(char, object, field));
    case FIELD_OBJECTS:
        list = MEMBER_CONST(struct object_list, object, field);
        return optional && !list->count ? NULL : encode_objects(field->object, list);
    }
    return NULL;
}

json_t *schema_encode(const struct schema *schema, const void *object)
{
    json_t *json = json_object();
    for (const struct field *field = schema->fields; field->name; field++) {
        json_t *value = encode_value(field, object);
        if (value)
            json_object_set_new_nocheck(json, field->name, value);
    }
    return json;
}

/* ---- Life ---- */

void schema_clear(const struct schema *schema, void *object)
{
    for (const struct field *field = schema->fields; field->name; field++) {
        switch (field->type) {
        case FIELD_STRING:
        case FIELD_NAME:
            free(*MEMBER(char *, object, field));
            break;
        case FIELD_STRINGS:
            string_list_clear(MEMBER(struct string_list, object, field));
            break;
        case FIELD_OBJECT:
            schema_clear(field->object, MEMBER(char, object, field));
            break;
        case FIELD_OBJECTS:
            object_list_clear(MEMBER(struct object_list, object, field), field->object);
            break;
        default:
            break;
        }
    }
    memset(object, 0, schema->size);
}

static void copy_list(const struct schema *schema, struct object_list *to, const struct object_list *from)
{
    *to = (struct object_list){0};
    for (size_t i = 0; i < from->count; i++)
        schema_copy(schema, object_list_add(to, schema->size), (const char *)from->items + i * schema->size);
}

void schema_copy(const struct schema *schema, void *to, const void *from)
{
    memcpy(to, from, schema->size);
    for (const struct field *field = schema->fields; field->name; field++) {
        switch (field->type) {
        case FIELD_STRING:
        case FIELD_NAME:
            *MEMBER(char *, to, field) = xstrdup(*MEMBER_CONST(char *, from, field));
            break;
        case FIELD_STRINGS:
            *MEMBER(struct string_list, to, field) = (struct string_list){0};
            string_list_copy(MEMBER(struct string_list, to, field),
                             MEMBER_CONST(struct string_list, from, field));
            break;
        case FIELD_OBJECT:
            schema_copy(field->object, MEMBER(char, to, field), MEMBER_CONST(char, from, field));
            break;
        case FIELD_OBJECTS:
            copy_list(field->object, MEMBER(struct object_list, to, field),
                      MEMBER_CONST(struct object_list, from, field));
            break;
        default:
            break;
        }
    }
}
