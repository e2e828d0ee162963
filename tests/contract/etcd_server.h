/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Real members of etcd for tests, on free ports of loopback, with their data in memory where there is
 * /dev/shm. */
#ifndef BLOCKD_TESTS_ETCD_SERVER_H
#define BLOCKD_TESTS_ETCD_SERVER_H

#include <arpa/inet.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/spawn.h"
#include "rpc/base/strings.h"

#define ETCD_PROGRAM    "/usr/bin/etcd"
#define ETCD_PATIENCE   60000 /* ms */
#define ETCD_MEMBER_MAX 3

struct etcd_cluster {
    char folder[64];
    size_t count;
    struct {
        unsigned client_port, peer_port;
        pid_t pid; /* 0: does not run */
    } members[ETCD_MEMBER_MAX];
    const char *tls; /* folder with ca.pem, server.pem, server-key.pem, ...; NULL: plain */
};

static inline bool etcd_is_installed(void)
{
    return access(ETCD_PROGRAM, X_OK) == 0;
}

/* Below the ports that the kernel gives to clients: a client that tries to reach a dead member could get the
 * member's own. */
#define ETCD_PORT_FIRST 12000
#define ETCD_PORT_COUNT 11000

static inline unsigned etcd_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static unsigned given;
    if (!given)
        given = (unsigned)getpid() * 97;
    for (unsigned tries = 0; tries < ETCD_PORT_COUNT; tries++) {
        unsigned port = ETCD_PORT_FIRST + given++ % ETCD_PORT_COUNT;
        address.sin_port = htons((uint16_t)port);
        autoclose int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0)
            return port;
    }
    abort();
}

static inline char *etcd_member_url(const struct etcd_cluster *cluster, size_t index)
{
    return xasprintf("%s://127.0.0.1:%u", cluster->tls ? "https" : "http",
                     cluster->members[index].client_port);
}

/* "HOST:PORT,..." of all members. */
static inline char *etcd_endpoints(const struct etcd_cluster *cluster)
{
    struct strbuf text = {0};
    for (size_t i = 0; i < cluster->count; i++) {
        autofree char *url = etcd_member_url(cluster, i);
        strbuf_addf(&text, "%s%s", i ? "," : "", url);
    }
    return strbuf_steal(&text);
}

/* In the child: it ends with the test, however that ends. */
static inline void etcd_run_member(const struct etcd_cluster *cluster, const char *const argv[], size_t index)
{
    autofree char *log = xasprintf("%s/log%zu", cluster->folder, index);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    close_range(3, ~0U, 0);
    execv(argv[0], (char *const *)argv);
    _exit(127);
}

static inline void etcd_start_member(struct etcd_cluster *cluster, size_t index)
{
    autostrbuf struct strbuf initial = {0};
    for (size_t i = 0; i < cluster->count; i++)
        strbuf_addf(&initial, "%sm%zu=http://127.0.0.1:%u", i ? "," : "", i, cluster->members[i].peer_port);
    autofree char *name = xasprintf("m%zu", index), *data = xasprintf("%s/m%zu", cluster->folder, index);
    autofree char *client = etcd_member_url(cluster, index);
    autofree char *peer = xasprintf("http://127.0.0.1:%u", cluster->members[index].peer_port);
    const char *argv[32] = {ETCD_PROGRAM,
                            "--name",
                            name,
                            "--data-dir",
                            data,
                            "--listen-client-urls",
                            client,
                            "--advertise-client-urls",
                            client,
                            "--listen-peer-urls",
                            peer,
                            "--initial-advertise-peer-urls",
                            peer,
                            "--initial-cluster",
                            strbuf_string(&initial)};
    size_t count = 15;
    autofree char *ca = xasprintf("%s/ca.pem", cluster->tls),
                  *cert = xasprintf("%s/server.pem", cluster->tls);
    autofree char *key = xasprintf("%s/server-key.pem", cluster->tls);
    const char *tls[] = {
        "--client-cert-auth", "--trusted-ca-file", ca, "--cert-file", cert, "--key-file", key};
    for (size_t i = 0; cluster->tls && i < sizeof tls / sizeof *tls; i++)
        argv[count++] = tls[i];
    pid_t pid = fork();
    if (pid == 0)
        etcd_run_member(cluster, argv, index);
    if (pid < 0)
        abort();
    cluster->members[index].pid = pid;
}

static inline void etcd_kill_member(struct etcd_cluster *cluster, size_t index)
{
    if (!cluster->members[index].pid)
        return;
    kill(cluster->members[index].pid, SIGKILL);
    waitpid(cluster->members[index].pid, NULL, 0);
    cluster->members[index].pid = 0;
}

/* `tls` must outlive the cluster. Members are up when a store says so. */
static inline void etcd_start(struct etcd_cluster *cluster, size_t count, const char *tls)
{
    *cluster = (struct etcd_cluster){.count = count, .tls = tls};
    snprintf(cluster->folder, sizeof cluster->folder, "%s/test-etcd-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(cluster->folder))
        abort();
    for (size_t i = 0; i < count; i++) {
        cluster->members[i].client_port = etcd_free_port();
        cluster->members[i].peer_port = etcd_free_port();
    }
    for (size_t i = 0; i < count; i++)
        etcd_start_member(cluster, i);
}

static inline void etcd_stop(struct etcd_cluster *cluster)
{
    for (size_t i = 0; i < cluster->count; i++)
        etcd_kill_member(cluster, i);
    if (cluster->folder[0])
        program_run((const char *[]){"rm", "-rf", cluster->folder, NULL}, ETCD_PATIENCE, NULL, NULL, NULL);
    cluster->folder[0] = '\0';
}

static inline size_t etcd_collect(char *bytes, size_t size, size_t count, void *data)
{
    strbuf_add(data, bytes, size * count);
    return size * count;
}

/* The answer of one member, or NULL. */
static inline json_t *etcd_post(const struct etcd_cluster *cluster, size_t index, const char *path,
                                const char *body)
{
    autofree char *url = xasprintf("http://127.0.0.1:%u%s", cluster->members[index].client_port, path);
    autostrbuf struct strbuf reply = {0};
    CURL *curl = curl_easy_init();
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 5000L);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, etcd_collect);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &reply);
    bool good = curl_easy_perform(curl) == CURLE_OK;
    curl_easy_cleanup(curl);
    return good ? json_loads(strbuf_string(&reply), 0, NULL) : NULL;
}

/* Forgets the history before a revision. */
static inline bool etcd_compact(const struct etcd_cluster *cluster, unsigned long long revision)
{
    autofree char *body = xasprintf("{\"revision\":\"%llu\",\"physical\":true}", revision);
    json_t *reply = etcd_post(cluster, 0, "/v3/kv/compaction", body);
    bool done = reply && !json_object_get(reply, "error");
    json_decref(reply);
    return done;
}

#endif
