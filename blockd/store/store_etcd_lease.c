/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Leases: etcd counts their time itself. */
#include <errno.h>

#include "blockd/store/store_etcd_priv.h"

static int no_lease(int64_t lease, struct error **ret_error)
{
    return error_set(ret_error, ENOENT, "the lease %lld has ended", (long long)lease);
}

/* A grant that is asked for twice leaves a lease that nobody knows, which ends by itself. */
int etcd_lease_grant(struct etcd_transport *transport, unsigned seconds, int64_t *ret_lease,
                     struct error **ret_error)
{
    struct etcd_effort effort = etcd_effort_begin(transport);
    json_t *reply = NULL;
    int r = etcd_ask(transport, &effort, "/v3/lease/grant", json_pack("{s:o}", "TTL", etcd_number(seconds)),
                     &reply, ret_error);
    if (r < 0)
        return r;
    uint64_t lease = 0;
    r = etcd_number_of(reply, "ID", &lease, ret_error);
    json_decref(reply);
    if (r == 0 && lease == 0)
        r = error_set(ret_error, EBADMSG, "etcd granted a lease without a number");
    if (r == 0)
        *ret_lease = (int64_t)lease;
    return r;
}

int etcd_lease_renew(struct etcd_transport *transport, int64_t lease, struct error **ret_error)
{
    struct etcd_effort effort = etcd_effort_begin(transport);
    json_t *reply = NULL;
    int r = etcd_ask(transport, &effort, "/v3/lease/keepalive",
                     json_pack("{s:o}", "ID", etcd_number((uint64_t)lease)), &reply, ret_error);
    if (r < 0)
        return r;
    uint64_t seconds = 0;
    r = etcd_number_of(json_object_get(reply, "result"), "TTL", &seconds, ret_error);
    json_decref(reply);
    return r == 0 && seconds == 0 ? no_lease(lease, ret_error) : r;
}

int etcd_lease_revoke(struct etcd_transport *transport, int64_t lease, struct error **ret_error)
{
    struct etcd_effort effort = etcd_effort_begin(transport);
    json_t *reply = NULL;
    autoerror struct error *problem = NULL;
    int r = etcd_ask(transport, &effort, "/v3/lease/revoke",
                     json_pack("{s:o}", "ID", etcd_number((uint64_t)lease)), &reply, &problem);
    json_decref(reply);
    if (r == -ENOENT) /* an attempt whose answer was lost may have ended it */
        return effort.uncertain ? 0 : no_lease(lease, ret_error);
    return r < 0 ? error_set(ret_error, -r, "%s", error_message(problem)) : 0;
}
