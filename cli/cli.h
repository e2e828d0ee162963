/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The inside of gluster-block: one section a file. Everything runs on one thread, but interrupt.c's. */
#ifndef BLOCKD_CLI_H
#define BLOCKD_CLI_H

#include <stdio.h>

#include "rpc/api.h"
#include "rpc/http_client.h"

/* Exit statuses beside 0 and errno's numbers: what scripts for gluster-block know. */
enum { STATUS_UNKNOWN_COMMAND = 1, STATUS_DIFFERS = 1, STATUS_USAGE = 255, STATUS_NO_ANSWER = 255 };

enum json_style { JSON_NONE, JSON_STYLE_SPACED, JSON_STYLE_PLAIN, JSON_STYLE_PRETTY };

/* One run of the program. */
struct cli {
    const char *socket_option, *config_option; /* --socket, --config */
    const char *endpoint_option, *ca_option, *cert_option, *key_option;
    enum json_style json;
    unsigned timeout;  /* seconds that a classic command waits */
    bool hurry;        /* a shell waits for words: give up on the daemon after a second */
    bool terminal;     /* progress bars may be drawn on `err` */
    char *note;        /* for people, beside the reply of a classic command that succeeds; NULL: none */
    FILE *out, *err;   /* what was asked for; everything else */
    char *socket_path; /* once connected to this machine's blockd */
    struct http_client *client;
    bool no_answer; /* the last call failed because blockd did not answer it */
    bool met;       /* blockd has answered before in this run */
};

/* ---- run.c ---- */

/* The whole program with its streams set up: returns the exit status. argv ends with
 * NULL and is reordered. */
int cli_run(struct cli *cli, int argc, char **argv);
void cli_clear(struct cli *cli);

/* ---- connect.c ---- */

/* Where the value of a global option goes, "--socket"; NULL: it is none. */
const char **global_option(struct cli *cli, const char *word, size_t length);
/* Makes the client for where blockd is. */
int cli_connect(struct cli *cli, struct error **ret_error);

/* ---- client.c: calls to blockd ---- */

/* A new reference in *ret_reply; NULL is allowed there. */
int client_get(struct cli *cli, const char *path, json_t **ret_reply, struct error **ret_error);

struct client_change {
    const char *method, *path; /* path with its query, without wait */
    const json_t *body;        /* NULL: none */
    unsigned wait;             /* seconds that the daemon may wait before it answers */
    unsigned patience;         /* seconds to go on trying when the connection breaks */
    bool at_once;              /* the call is done when it is answered; `wait` bounds that */
};
/*
 * Makes a change under a fresh Idempotency-Key. When the connection breaks the call is repeated with that
 * key, so that a restart of blockd in the middle is not seen.
 */
int client_change(struct cli *cli, const struct client_change *change, json_t **ret_reply,
                  struct error **ret_error);

/*
 * Follows a stream of changes: {"type":"put|delete","key":..,"revision":..,"object":..}. visit() gets each
 * (borrowed) and ends the stream by returning non-zero. Returns 0 when visit() ended it or the daemon did,
 * -ETIMEDOUT after timeout_ms (0: never).
 */
typedef int (*client_visit)(void *data, const json_t *change);
int client_watch(struct cli *cli, const char *path, int timeout_ms, client_visit visit, void *data,
                 struct error **ret_error);

/* Which node answers: the default where a node may be left out. The caller's. */
int client_this_node(struct cli *cli, char **ret_node, struct error **ret_error);

/* 255 when blockd did not answer, otherwise the errno of a negative result. */
int client_exit_status(const struct cli *cli, int result);

/* ---- settle.c: waiting until a change has arrived ---- */

enum settled { SETTLED_NOT_YET, SETTLED_DONE, SETTLED_FAILED };
enum settled object_settled(const json_t *object);

/*
 * A change may be answered with the job that works on the object: *reply becomes the object itself then, NULL
 * when it is gone by now. Takes and gives references.
 */
int settle_resolve(struct cli *cli, enum object_kind kind, json_t **reply, struct error **ret_error);

/*
 * Waits until an object is as its spec wants it, or has failed, or is gone; draws the progress of its job on
 * a terminal. *object is the last known state, replaced by the newest; NULL once it is gone. 0 when it has
 * settled, -ETIMEDOUT at the deadline (clock_monotonic_ms()).
 */
int settle_wait(struct cli *cli, enum object_kind kind, const char *name, int64_t deadline, json_t **object,
                struct error **ret_error);

/* The same for a deletion: 0 when the object is gone, -ETIMEDOUT at the deadline. */
int settle_gone(struct cli *cli, enum object_kind kind, const char *name, int64_t deadline,
                struct error **ret_error);

/* Adds seconds to the present time, as deadlines are given. */
int64_t deadline_after(unsigned seconds);
/* Whole seconds that are left, at least 0. */
unsigned deadline_left(int64_t deadline);

/* ---- progress.c ---- */

struct progress {
    FILE *stream;
    const char *label;
    size_t width; /* of the line that stands there; 0: none */
};
void progress_show(struct progress *progress, uint64_t done, uint64_t total);
/* Takes the bar away. */
void progress_end(struct progress *progress);

/* ---- interrupt.c ---- */

/* Says, from now on until the next call, what goes on in the daemon if the user interrupts; NULL: nothing.
 * The text is copied. */
void interrupt_says(const char *text);
/* Starts to handle SIGINT and SIGTERM. Called once, before other threads. */
void interrupt_start(void);

/* ---- print.c: JSON, tables, objects ---- */

void print_json(FILE *stream, enum json_style style, const json_t *json);
/* A table of what a list of objects shows to people. */
void print_table(FILE *stream, enum object_kind kind, const json_t *items);
/* One change of a watched list as a line. */
void print_change(FILE *stream, enum object_kind kind, const json_t *change);
/* All members of one object, aligned. */
void print_object(FILE *stream, const struct schema *schema, const json_t *object);
/* One line an error. */
void complain(struct cli *cli, const struct error *error);
/* The end of a command that failed: the error as people or --json want it. Returns the exit status. */
int cli_fail(struct cli *cli, int result, const struct error *error);

/* A string inside an object by its path, "status.phase"; "" when it is not there. */
const char *json_text(const json_t *object, const char *path);
const json_t *json_at(const json_t *object, const char *path);
uint64_t json_number(const json_t *object, const char *path);

/* ---- command.c: the new nouns, as the API table has them ---- */

struct command {
    const char *noun, *verb; /* verb NULL: the noun alone is the command */
    const struct api_route *route;
    const struct api_route *all_route; /* used when the positional name is left out: block list; NULL: none */
    const struct api_alias *alias;     /* NULL: none */
    const char *help;
};

struct positional {
    char *label;                   /* "VOLUME/BLOCK", "[NODE/]DEVICE", "SIZE" */
    const struct field *fields[2]; /* members of the request that it sets; none: it names the object */
    unsigned parts;                /* parts between slashes */
    bool default_node;             /* the first part may be left out: this node */
    bool optional;
};

#define COMMAND_POSITIONALS 4
#define COMMAND_OPTIONS     24

struct command_option {
    char *name;                /* "image-size", without dashes */
    const struct field *field; /* NULL: no-wait, which is wait=0 in another word */
    bool in_query;
    char *value; /* what stands for its value in the help; NULL: a flag */
    const char *help;
};

struct command_shape {
    struct positional positionals[COMMAND_POSITIONALS];
    size_t positional_count;
    struct command_option options[COMMAND_OPTIONS];
    size_t option_count;
};

/* All commands, nouns in order; *ret_count of them, static after the first call. */
const struct command *command_all(size_t *ret_count);
/* NULL when there is none. */
const struct command *command_find(const char *noun, const char *verb);
/* The command of argv[0], a noun, and its verb of one word or two in what follows; NULL when there is none.
 * *ret_used is the number of words that they are. */
const struct command *command_take(int argc, char *const argv[], int *ret_used);
bool command_is_noun(const char *word);
void command_shape(const struct command *command, struct command_shape *ret_shape);
void command_shape_clear(struct command_shape *shape);
const struct command_option *command_shape_option(const struct command_shape *shape, const char *name);
/* "gluster-block block create VOLUME/NAME SIZE [options]" */
char *command_synopsis(const struct command *command);

/* The kind of object that a command shows; KIND_COUNT when it is none. */
enum object_kind command_kind(const struct command *command);

/* ---- arguments.c: the words of a new noun's command, made into a request ---- */

struct arguments {
    const struct api_route *route;
    char *name;    /* of the object in the path, "V/B"; NULL: none */
    json_t *body;  /* NULL: none */
    json_t *query; /* strings */
    unsigned wait;
    bool no_wait, watch;
};
/* argv holds the words after noun and verb. -EINVAL with what is wrong; may ask blockd
 * for this node's name. */
int arguments_parse(struct cli *cli, const struct command *command, int argc, char **argv,
                    struct arguments *ret_arguments, struct error **ret_error);
void arguments_clear(struct arguments *arguments);
/* The request's path with its query; `wait` is not in it. The caller's. */
char *arguments_path(const struct arguments *arguments);

/* ---- nouns.c ---- */

int nouns_run(struct cli *cli, int argc, char **argv);

/* ---- noun_words.c: verbs of a noun that are no call of the API, but work on this machine ---- */

struct noun_word {
    const char *noun, *verb, *syntax, *help;
    const struct classic_option *options;
    int (*run)(struct cli *cli, int argc, char **argv); /* the words after the verb */
};
extern const struct noun_word noun_words[]; /* ends with a NULL noun */
/* NULL when there is none. */
const struct noun_word *noun_word_find(const char *noun, const char *verb);
/* An argument error: says it, and how the command is used. Returns the exit status. */
int noun_word_usage(struct cli *cli, const char *noun, const char *verb, const struct error *error);

/* ---- classic.c: the command line of gluster-block ---- */

struct classic_option {
    const char *word, *value, *help;
};
struct classic_command {
    const char *word, *syntax, *help;
    const struct classic_option *options;               /* ends with a NULL word; NULL: none */
    int (*run)(struct cli *cli, int argc, char **argv); /* the words after the command's own */
};
extern const struct classic_command classic_commands[]; /* ends with a NULL word */

const struct classic_command *classic_find(const char *word);

/* An argument error: says it, and which command's help to read. Returns the exit status. */
int classic_usage(struct cli *cli, const char *command, const struct error *error);
/* -EINVAL unless there are from `min` to `max` words; `label` names what is missing. */
int classic_words(int argc, char **argv, int min, int max, const char *label, struct error **ret_error);
/* Prints the reply with RESULT, errCode and errMsg added to its keys. Takes the reply (NULL: none). */
int classic_fail(struct cli *cli, json_t *reply, int result, const struct error *error);
/* Prints the reply as a success. Takes it. */
int classic_succeed(struct cli *cli, json_t *reply);

/* "V/B" as a checked pair of names. */
struct block_name {
    char *volume, *block, *joined;
};
int block_name_parse(const char *text, struct block_name *ret_name, struct error **ret_error);
void block_name_clear(struct block_name *name);
/* yes/no, true/false, enable/disable, 1/0, set/unset, full. */
int classic_boolean(const char *option, const char *text, bool *ret_value, struct error **ret_error);
int classic_number(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *ret_number,
                   struct error **ret_error);
/* Rounds down to whole blocks, and leaves a note of it. -EINVAL when nothing is left. */
int classic_size(struct cli *cli, const char *text, uint64_t block_size, uint64_t *ret_size,
                 struct error **ret_error);

/*
 * The block, or -ENOENT with the message that heketi looks for: `volume V does not exist`, `block V/B doesn't
 * exist`.
 */
int classic_get_block(struct cli *cli, const struct block_name *name, json_t **ret_block,
                      struct error **ret_error);
/* Makes those messages of a -ENOENT that another call gave, or the volume's only. Returns the result. */
int classic_missing_volume(struct cli *cli, const char *volume, int result, struct error **error);
int classic_missing(struct cli *cli, const struct block_name *name, int result, struct error **error);
/* The exports of a block as a list of objects: a new reference. */
int classic_exports(struct cli *cli, const struct block_name *name, json_t **ret_exports,
                    struct error **ret_error);
/* The hosts of those exports whose phase is "live", or of the others: a new list of addresses. */
json_t *classic_hosts(struct cli *cli, const json_t *exports, bool live);
/* "127.0.0.1:10809" of each live export: a new list. */
json_t *classic_portals(const json_t *exports);
/* "iqn.2016-12.org.gluster-block:GBID": a new string. */
json_t *classic_iqn(const json_t *block);

int classic_create(struct cli *cli, int argc, char **argv);
int classic_list(struct cli *cli, int argc, char **argv);
int classic_info(struct cli *cli, int argc, char **argv);
int classic_delete(struct cli *cli, int argc, char **argv);
int classic_modify(struct cli *cli, int argc, char **argv);
int classic_replace(struct cli *cli, int argc, char **argv);
int classic_reload(struct cli *cli, int argc, char **argv);
int classic_genconfig(struct cli *cli, int argc, char **argv);

/* ---- uri.c, status.c, version.c ---- */

int uri_run(struct cli *cli, int argc, char **argv);
int status_run(struct cli *cli);
int version_run(struct cli *cli);

/* ---- examine.c: examine, and device adopt ---- */

/* STATUS_DIFFERS when something is left to be repaired, or was refused. */
int examine_run(struct cli *cli, const struct arguments *arguments);
int adopt_run(struct cli *cli, const struct arguments *arguments);

/* ---- certificate.c ---- */

/* certificate sign and revoke, as the API has them. */
int certificate_run(struct cli *cli, const struct arguments *arguments);
int certificate_issue(struct cli *cli, int argc, char **argv);
extern const struct classic_option certificate_issue_options[];

/* ---- share_mount.c ---- */

int share_mount_run(struct cli *cli, int argc, char **argv);
int share_unmount_run(struct cli *cli, int argc, char **argv);
extern const struct classic_option share_mount_options[], share_unmount_options[];

/* ---- help.c ---- */

void help_all(FILE *stream);
void help_noun(FILE *stream, const char *noun);
void help_command(FILE *stream, const struct command *command);
void help_noun_word(FILE *stream, const struct noun_word *word);
void help_classic(FILE *stream, const struct classic_command *command);
/* `help [WORD [VERB]]`. Returns the exit status. */
int help_run(struct cli *cli, int argc, char **argv);
/* Says that the word is unknown, and which one is close. Returns the exit status. */
int help_unknown(struct cli *cli, const char *what, const char *word, const struct string_list *known);
/* Is it one of the words that ask for help? */
bool help_asked(const char *word);
/* The words that are no noun and no classic command, with their help. */
struct help_word {
    const char *word, *syntax, *help;
};
extern const struct help_word help_words[], help_global_options[]; /* end with a NULL word */

/* ---- complete.c ---- */

/* Prints what the last of the words may go on as, one a line; never an error. */
int complete_run(struct cli *cli, int argc, char **argv);

/* ---- manual.c: the parts of gluster-block(8) that come from the tables, as mdoc(7) ---- */

void manual_nouns(FILE *stream);
void manual_classic(FILE *stream);
void manual_words(FILE *stream);
void manual_options(FILE *stream);

/* ---- config_set.c ---- */

/* blockd.conf of this machine. */
const char *config_file(const struct cli *cli);
/* Adds lines at the end, unless the whole would not be good. */
int config_append(const char *path, const char *lines, struct error **ret_error);

/* ---- cluster.c, join.c ---- */

/* -EEXIST: blockd.conf has another [api] listen. */
int config_listen(const struct cli *cli, const char *listen, bool *ret_changed, struct error **ret_error);
int cluster_init_run(struct cli *cli, int argc, char **argv);
extern const struct classic_option cluster_init_options[];
int node_join_run(struct cli *cli, int argc, char **argv);
extern const struct classic_option node_join_options[];

#endif
