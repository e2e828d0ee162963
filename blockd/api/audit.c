/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Who changed what, and when: a JSON object a line. What is secret in a request is left out. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "blockd/api/api_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/log.h"

struct audit {
    char *path; /* NULL: none, or the journal */
    bool journal;
    pthread_mutex_t mutex; /* guards what follows */
    int fd;
    bool failed; /* it was told that nothing can be written */
};

static void open_file(struct audit *audit)
{
    if (!audit->path)
        return;
    int fd = open(audit->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        log_error("changes are not recorded: cannot open %s: %s", audit->path, strerror(errno));
        return;
    }
    if (audit->fd >= 0)
        close(audit->fd);
    audit->fd = fd;
    audit->failed = false;
}

struct audit *audit_new(const struct config *config)
{
    struct audit *audit = xcalloc(1, sizeof *audit);
    audit->path = config_audit_path(config);
    audit->journal = strcmp(config->api_audit, CONFIG_AUDIT_JOURNAL) == 0;
    audit->fd = -1;
    pthread_mutex_init(&audit->mutex, NULL);
    open_file(audit);
    return audit;
}

void audit_free(struct audit *audit)
{
    if (!audit)
        return;
    if (audit->fd >= 0)
        close(audit->fd);
    pthread_mutex_destroy(&audit->mutex);
    free(audit->path);
    free(audit);
}

void audit_reopen(struct audit *audit)
{
    scoped_lock(&audit->mutex);
    open_file(audit);
}

/* ---- One record ---- */

static json_t *who(const struct call *call)
{
    const struct http_request *request = call->request;
    const struct caller *caller = call->caller;
    if (caller->local)
        return json_pack("{s:s, s:o, s:i, s:i}", "by", "socket", "user", json_string_lossy(caller->name),
                         "uid", request->peer_known ? (int)request->peer_uid : -1, "pid",
                         request->peer_known ? (int)request->peer_pid : -1);
    return json_pack("{s:s, s:o, s:s, s:s*, s:s*}", "by", caller->serial ? "certificate" : "nobody", "name",
                     json_string_lossy(caller->name), "role", caller->role_word, "serial", caller->serial,
                     "address", request->peer_address);
}

/* What was asked for, as it was understood; of secrets, and of whole files, only that they were there. */
static json_t *asked(const struct call *call)
{
    const struct schema *schema = call->match->route->request;
    if (!schema || !call->body)
        return NULL;
    json_t *json = schema_encode(schema, call->body);
    for (size_t i = 0; schema->fields[i].name; i++) {
        const struct field *field = &schema->fields[i];
        if (!(call->present >> i & 1))
            json_object_del(json, field->name);
        else if (field->flags & FIELD_SECRET)
            json_object_set_new(json, field->name, json_string("(secret)"));
        else if (field->flags & FIELD_LINES)
            json_object_set_new(json, field->name, json_string("(text)"));
    }
    return json;
}

static void write_line(struct audit *audit, const char *line)
{
    if (audit->journal)
        log_info("audit: %s", line);
    if (!audit->path)
        return;
    autofree char *text = xasprintf("%s\n", line);
    ssize_t length = (ssize_t)strlen(text);
    scoped_lock(&audit->mutex);
    ssize_t written = audit->fd >= 0 ? write(audit->fd, text, (size_t)length) : -1;
    if (written != length && !audit->failed) {
        audit->failed = true;
        log_error("a change is not recorded in %s: %s", audit->path,
                  audit->fd < 0 ? "it is not open"
                  : written < 0 ? strerror(errno)
                                : "the disk is full");
    } else if (written == length) {
        audit->failed = false;
    }
}

void audit_change(struct audit *audit, const struct call *call, unsigned status, int64_t took_ms,
                  const struct error *error)
{
    if (!audit->path && !audit->journal)
        return;
    char now[CLOCK_TEXT_SIZE];
    clock_format(clock_real_ms(), now);
    json_t *record =
        json_pack("{s:s, s:s, s:s, s:o, s:s, s:o, s:o*, s:s*, s:I, s:s*, s:I}", "time", now, "id",
                  call->request->id, "node", core_node(call->core), "who", who(call), "method",
                  call->request->method, "path", json_string_lossy(call->request->path), "request",
                  asked(call), "object", call->object, "status", (json_int_t)status, "code",
                  error ? api_code_of_errno(error->number)->code : NULL, "took_ms", (json_int_t)took_ms);
    if (call->revision)
        json_object_set_new(record, "revision", json_integer((json_int_t)call->revision));
    autofree char *line = json_dumps(record, JSON_COMPACT);
    json_decref(record);
    write_line(audit, line);
}
