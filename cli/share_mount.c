/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * share mount and share unmount: what runs on the machine where the files are wanted. The mount is served by
 * a glusterfs process that no daemon's stop, upgrade or death takes away.
 */
#include <errno.h>
#include <mntent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli.h"
#include "cli/readahead.h"
#include "cli/scope.h"
#include "cli/translators.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/base/sizes.h"
#include "rpc/base/spawn.h"
#include "rpc/config.h"

#define GLUSTERFS "/usr/sbin/glusterfs"
#define MOUNT_MS  120000
#define FUSE_TYPE "fuse.glusterfs"
#define SOURCE_PREFIX                                                                                        \
    "blockd:" /* how the source of a share begins in the mount table: "blockd:V/shares/S"                    \
               */

/* ---- The mount table ---- */

static char *source_of(const char *share)
{
    autofree char *volume = object_name_part(share, 0);
    return xasprintf(SOURCE_PREFIX "%s/shares/%s", volume, strchr(share, '/') + 1);
}

struct mounted {
    struct string_list sources, folders, types;
};

static void mounted_clear(struct mounted *mounted)
{
    string_list_clear(&mounted->sources);
    string_list_clear(&mounted->folders);
    string_list_clear(&mounted->types);
}

static int read_mounts(struct mounted *ret_mounted, struct error **ret_error)
{
    FILE *table = setmntent("/proc/self/mounts", "re");
    if (!table)
        return error_set(ret_error, errno, "cannot read the table of mounts: %s", strerror(errno));
    for (struct mntent *entry; (entry = getmntent(table));) {
        string_list_add(&ret_mounted->sources, entry->mnt_fsname);
        string_list_add(&ret_mounted->folders, entry->mnt_dir);
        string_list_add(&ret_mounted->types, entry->mnt_type);
    }
    endmntent(table);
    return 0;
}

/* Is the line a mount of the share (NULL: of any)? glusterfs puts the sub-directory after the name it is
 * given. */
static bool is_share(const struct mounted *mounted, size_t index, const char *share)
{
    const char *source = mounted->sources.items[index];
    if (strcmp(mounted->types.items[index], FUSE_TYPE) != 0 || !string_starts_with(source, SOURCE_PREFIX))
        return false;
    autofree char *wanted = share ? source_of(share) : NULL;
    return !wanted || strcmp(source, wanted) == 0;
}

/* The last line that has the folder: it covers those before it. -1: none. */
static ssize_t find_folder(const struct mounted *mounted, const char *folder)
{
    for (size_t i = mounted->folders.count; i > 0; i--)
        if (strcmp(mounted->folders.items[i - 1], folder) == 0)
            return (ssize_t)i - 1;
    return -1;
}

/* ---- Options ---- */

/*
 * Nobody needs devices of a share, or programs that run as their owner: who has another machine's root could
 * make them.
 */
#define FUSE_DEFAULTS "nosuid,nodev"
/* For who wants no attributes kept at all. */
#define FORGET_PARENTS "--xlator-option=*-parents.keep=off"

/*
 * glusterfs tells the kernel to keep what it has read of a file over open(2), and does not tell it to compare
 * the file's times unless asked to: what another mount writes in place would never be read.
 */
#define FORGET_AT_OPEN "--fopen-keep-cache=off"

/*
 * Nothing between the mount and the bricks: what one mount wrote before it gave a lock back, another reads
 * once it has the lock. The kernel tells changes by the time of a file, which two writes can have in common,
 * and write-behind lets an unlock overtake a write. Which bricks are good is asked anew at each lock. Nor
 * does replicate keep its own lock after a write: another mount would wait a second for it.
 */
static const char *const coherent[] = {"--direct-io-mode=enable",
                                       "--attribute-timeout=0",
                                       "--entry-timeout=0",
                                       "--xlator-option=*-write-behind.pass-through=on",
                                       "--xlator-option=*-md-cache.pass-through=on",
                                       FORGET_PARENTS,
                                       "--xlator-option=*-gate.refresh=on",
                                       "--xlator-option=*-replicate-*.post-op-delay-secs=0",
                                       NULL};

struct mount_words {
    const char *share, *folder; /* borrowed */
    struct strbuf fuse;         /* for the kernel */
    struct string_list client;  /* for glusterfs */
};

static void mount_words_clear(struct mount_words *words)
{
    strbuf_clear(&words->fuse);
    string_list_clear(&words->client);
}

static int take_option(struct mount_words *words, const char *option, struct error **ret_error)
{
    static const char *const kernel[] = {"noexec", "exec",  "noatime", "relatime", "nosuid",
                                         "suid",   "nodev", "dev",     NULL};
    static const char *const timeouts[] = {"attribute-timeout=", "entry-timeout=", "negative-timeout=", NULL};
    if (strcmp(option, "ro") == 0) {
        string_list_add(&words->client, "--read-only");
        return 0;
    }
    if (strcmp(option, "coherent") == 0) {
        for (size_t i = 0; coherent[i]; i++)
            string_list_add(&words->client, coherent[i]);
        return 0;
    }
    if (strcmp(option, "acl") == 0) {
        string_list_add(&words->client, "--acl");
        /* The kernel checks no permission then, so each step of a path must come by the
         * translator that does. */
        string_list_add(&words->client, "--entry-timeout=0");
        return 0;
    }
    if (strcmp(option, "rw") == 0 || strcmp(option, "defaults") == 0 || strcmp(option, "_netdev") == 0)
        return 0;
    if (enum_parse(kernel, option) >= 0) {
        strbuf_addf(&words->fuse, ",%s", option);
        return 0;
    }
    for (size_t i = 0; timeouts[i]; i++) {
        size_t length = strlen(timeouts[i]);
        if (strncmp(option, timeouts[i], length) != 0)
            continue;
        const char *value = option + length;
        if (!*value || strlen(value) > 6 || strspn(value, "0123456789") != strlen(value))
            return error_set(ret_error, EINVAL, "mount option %.64s needs a number of seconds", option);
        string_list_addf(&words->client, "--%s", option);
        if (strcmp(timeouts[i], "attribute-timeout=") == 0 && strtoul(value, NULL, 10) == 0)
            string_list_add(&words->client, FORGET_PARENTS);
        return 0;
    }
    return error_set(
        ret_error, EINVAL,
        "there is no mount option \"%.64s\"; there are ro, coherent, acl, noexec, noatime, suid, dev, "
        "attribute-timeout=SECONDS, entry-timeout=SECONDS and negative-timeout=SECONDS",
        option);
}

static int parse_mount(int argc, char **argv, struct mount_words *words, struct error **ret_error)
{
    strbuf_adds(&words->fuse, FUSE_DEFAULTS);
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "-o") == 0) {
            if (i + 1 >= argc)
                return error_set(ret_error, EINVAL, "-o needs options");
            autostring_list struct string_list options = {0};
            string_list_split(&options, argv[++i], ',');
            for (size_t k = 0; k < options.count; k++) {
                int r = take_option(words, options.items[k], ret_error);
                if (r < 0)
                    return r;
            }
        } else if (argv[i][0] == '-') {
            return error_set(ret_error, EINVAL, "there is no option %.64s here", argv[i]);
        } else if (!words->share) {
            words->share = argv[i];
        } else if (!words->folder) {
            words->folder = argv[i];
        } else {
            return error_set(ret_error, EINVAL, "\"%.64s\" is one word too many", argv[i]);
        }
    }
    if (!words->folder)
        return error_set(ret_error, EINVAL, words->share ? "FOLDER is missing" : "VOLUME/SHARE is missing");
    return 0;
}

/* ---- Mounting ---- */

static int need_root(const char *what, struct error **ret_error)
{
    return geteuid() == 0 ? 0 : error_set(ret_error, EPERM, "only root may %s shares", what);
}

static int check_folder(const char *share, const char *folder, char **ret_real, struct error **ret_error)
{
    struct stat status;
    cleanup(mounted_clear) struct mounted mounted = {0};
    autofree char *real = realpath(folder, NULL);
    if (!real && errno == ENOTCONN)
        return error_set(ret_error, ENOTCONN, "%s holds a mount whose process is gone: unmount it first",
                         folder);
    if (!real || stat(real, &status) < 0)
        return error_set(ret_error, errno, "cannot mount at %s: %s", folder, strerror(errno));
    if (!S_ISDIR(status.st_mode))
        return error_set(ret_error, ENOTDIR, "cannot mount at %s: it is no folder", folder);
    int r = read_mounts(&mounted, ret_error);
    if (r < 0)
        return r;
    ssize_t index = find_folder(&mounted, real);
    if (index >= 0 && is_share(&mounted, (size_t)index, share))
        return error_set(ret_error, EBUSY, "share %s is mounted at %s already", share, real);
    if (index >= 0 && strcmp(real, "/") != 0)
        return error_set(ret_error, EBUSY, "%s is mounted at %s: unmount it first",
                         mounted.sources.items[index], real);
    *ret_real = steal_ptr(&real);
    return 0;
}

static int find_share(struct cli *cli, const char *share, char **ret_path, struct error **ret_error)
{
    json_t *reply cleanup(json_decrefp) = NULL;
    const char *slash = strchr(share, '/');
    if (!slash || slash == share || !slash[1] || strchr(slash + 1, '/'))
        return error_set(ret_error, EINVAL, "\"%.64s\" is not of the form VOLUME/SHARE", share);
    autofree char *volume = xstrndup(share, (size_t)(slash - share));
    int r = name_check("volume", volume, ret_error);
    if (r == 0)
        r = name_check("share", slash + 1, ret_error);
    autofree char *path = xasprintf("/v1/shares/%s", share);
    if (r == 0)
        r = client_get(cli, path, &reply, ret_error);
    if (r < 0)
        return r;
    const char *phase = json_text(reply, "status.phase");
    if (strcmp(phase, "ready") != 0)
        return error_set(ret_error, EAGAIN, "share %s is %s and cannot be mounted", share, phase);
    *ret_path = xstrdup(json_text(reply, "status.path"));
    return 0;
}

static int load_config(const struct cli *cli, struct config *ret_config, struct error **ret_error)
{
    return config_load(cli->config_option ? cli->config_option : CONFIG_DEFAULT_PATH, ret_config, ret_error);
}

static char *log_path(const struct config *config, const char *share)
{
    autofree char *flat = xstrdup(share);
    *strchr(flat, '/') = '.';
    return xasprintf("%s/mount.%s.log", config->log_dir, flat);
}

static bool answers(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || strlen(path) >= sizeof address.sun_path)
        return false;
    strcpy(address.sun_path, path);
    return connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
}

static char *volfile_path(const struct config *config, const char *volume)
{
    return xasprintf("%s/volserver/%s.share.vol", config->state_dir, volume);
}

/* From the node's volfile server, so that the mount follows changes; from the file when that is away. */
static void add_volfile(const struct config *config, const char *volume, struct string_list *argv)
{
    autofree char *server = config_volserver_socket_path(config);
    if (!answers(server)) {
        autofree char *path = volfile_path(config, volume);
        string_list_addf(argv, "--volfile=%s", path);
        return;
    }
    string_list_addf(argv, "--volfile-server=%s", server);
    string_list_add(argv, "--volfile-server-transport=unix");
    string_list_addf(argv, "--volfile-id=%s.share", volume);
}

static int run_client(const struct config *config, const struct mount_words *words, const char *path,
                      const char *folder, struct error **ret_error)
{
    autostring_list struct string_list argv = {0};
    autofree char *volume = object_name_part(words->share, 0);
    autofree char *log = log_path(config, words->share);
    string_list_add(&argv, GLUSTERFS);
    string_list_add(&argv, "--process-name=fuse");
    string_list_add(&argv, FORGET_AT_OPEN);
    add_volfile(config, volume, &argv);
    string_list_addf(&argv, "--subdir-mount=%s", path);
    string_list_addf(&argv, "--fs-display-name=" SOURCE_PREFIX "%s", volume);
    string_list_addf(&argv, "--fuse-mountopts=%s", strbuf_string(&words->fuse));
    string_list_addf(&argv, "--log-file=%s", log);
    string_list_add(&argv, "--log-level=WARNING");
    for (size_t i = 0; i < words->client.count; i++)
        string_list_add(&argv, words->client.items[i]);
    string_list_add(&argv, folder);
    const char **words_of cleanup(cleanup_free) = xcalloc(argv.count + 1, sizeof *words_of);
    for (size_t i = 0; i < argv.count; i++)
        words_of[i] = argv.items[i];
    autoerror struct error *problem = NULL;
    int r = program_run(words_of, MOUNT_MS, NULL, NULL, &problem);
    autofree char *volfile = r < 0 ? volfile_path(config, volume) : NULL;
    autofree char *missing = r < 0 ? translators_missing(GLUSTERFS, volfile) : NULL;
    if (missing)
        return error_set(ret_error, ENOENT,
                         "share %s cannot be mounted: %s is missing; install blockd's translators here",
                         words->share, missing);
    if (r < 0)
        return error_set(ret_error, -r, "share %s cannot be mounted: %s; see %s", words->share,
                         error_message(problem), log);
    return 0;
}

/* The process may be there and yet get no answer: a client that is not admitted, bricks that are away. */
static int check_mounted(const struct config *config, const char *share, const char *folder,
                         struct error **ret_error)
{
    cleanup(mounted_clear) struct mounted mounted = {0};
    autofree char *log = log_path(config, share);
    int r = read_mounts(&mounted, ret_error);
    if (r < 0)
        return r;
    ssize_t index = find_folder(&mounted, folder);
    if (index < 0 || !is_share(&mounted, (size_t)index, share))
        return error_set(ret_error, EIO, "share %s was not mounted; see %s", share, log);
    struct statvfs space;
    if (statvfs(folder, &space) == 0)
        return 0;
    int number = errno;
    umount2(folder, MNT_DETACH);
    return error_set(ret_error, number, "share %s cannot be used at %s: %s; see %s", share, folder,
                     strerror(number), log);
}

static int mount_share(struct cli *cli, const struct mount_words *words, struct error **ret_error)
{
    struct config config cleanup(config_clear) = {0};
    autofree char *path = NULL, *folder = NULL;
    autofree char *description = xasprintf("Share %s mounted at %s", words->share, words->folder);
    int r = need_root("mount", ret_error);
    if (r == 0)
        r = load_config(cli, &config, ret_error);
    if (r == 0)
        r = find_share(cli, words->share, &path, ret_error);
    if (r == 0)
        r = check_folder(words->share, words->folder, &folder, ret_error);
    if (r == 0)
        r = folder_make(config.log_dir, 0750, ret_error);
    if (r == 0)
        r = scope_enter(description, folder, ret_error);
    if (r == 0)
        r = run_client(&config, words, path, folder, ret_error);
    if (r == 0)
        r = check_mounted(&config, words->share, folder, ret_error);
    if (r == 0)
        readahead_widen(folder);
    return r;
}

/* ---- Unmounting ---- */

/* A folder, or a share that is mounted once. */
static int find_mount(const char *word, char **ret_folder, struct error **ret_error)
{
    cleanup(mounted_clear) struct mounted mounted = {0};
    int r = read_mounts(&mounted, ret_error);
    if (r < 0)
        return r;
    size_t found = 0, at = 0;
    for (size_t i = 0; i < mounted.folders.count; i++)
        if (strchr(word, '/') && is_share(&mounted, i, word)) {
            found++;
            at = i;
        }
    if (found > 1)
        return error_set(ret_error, EINVAL, "share %s is mounted %zu times: name the folder", word, found);
    if (found == 1) {
        *ret_folder = xstrdup(mounted.folders.items[at]);
        return 0;
    }
    /* realpath(3) fails where the process behind a mount is gone. */
    autofree char *real = realpath(word, NULL);
    const char *folder = real ? real : word;
    ssize_t index = find_folder(&mounted, folder);
    if (index < 0 || !is_share(&mounted, (size_t)index, NULL))
        return error_set(ret_error, ENOENT, "no share is mounted at %s", word);
    *ret_folder = xstrdup(folder);
    return 0;
}

static int unmount_share(const char *word, bool lazy, struct error **ret_error)
{
    autofree char *folder = NULL;
    int r = need_root("unmount", ret_error);
    if (r == 0)
        r = find_mount(word, &folder, ret_error);
    if (r < 0)
        return r;
    if (umount2(folder, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
        return 0;
    if (errno == EBUSY)
        return error_set(ret_error, EBUSY, "%s is in use: end what uses it, or take --lazy", folder);
    return error_set(ret_error, errno, "cannot unmount %s: %s", folder, strerror(errno));
}

/* ---- The commands ---- */

static int finish(struct cli *cli, int result, const struct error *error, const char *word, const char *phase)
{
    if (result < 0)
        return cli_fail(cli, result, error);
    if (cli->json) {
        json_t *json cleanup(json_decrefp) = json_pack("{s:s, s:s}", "name", word, "phase", phase);
        print_json(cli->out, cli->json, json);
    } else {
        fprintf(cli->out, "share %s: %s\n", word, phase);
    }
    return 0;
}

int share_mount_run(struct cli *cli, int argc, char **argv)
{
    cleanup(mount_words_clear) struct mount_words words = {0};
    autoerror struct error *error = NULL;
    if (parse_mount(argc, argv, &words, &error) < 0)
        return noun_word_usage(cli, "share", "mount", error);
    int r = mount_share(cli, &words, &error);
    return finish(cli, r, error, words.share, "mounted");
}

int share_unmount_run(struct cli *cli, int argc, char **argv)
{
    autoerror struct error *error = NULL;
    const char *word = NULL;
    bool lazy = false, good = true;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--lazy") == 0)
            lazy = true;
        else if (!word && argv[i][0] != '-')
            word = argv[i];
        else
            good = false;
    }
    if (!word || !good) {
        error_set(&error, EINVAL, "one FOLDER or VOLUME/SHARE is wanted");
        return noun_word_usage(cli, "share", "unmount", error);
    }
    int r = unmount_share(word, lazy, &error);
    return finish(cli, r, error, word, "unmounted");
}

const struct classic_option share_mount_options[] = {
    {"-o", "OPTION,...",
     "ro; coherent (no cache: for programs on several machines that share open files under locks; it "
     "excludes "
     "shared memory maps); acl, noexec, noatime, suid, dev, attribute-timeout=SECONDS, "
     "entry-timeout=SECONDS, "
     "negative-timeout=SECONDS"},
    {NULL, NULL, NULL},
};
const struct classic_option share_unmount_options[] = {
    {"--lazy", NULL, "Take it out of sight now, and end it when nobody uses it any more"},
    {NULL, NULL, NULL},
};
