/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * TLS in volfiles. GlusterFS reads the files anew for every connection, so that a certificate that was
 * renewed or revoked counts from the next one on. It compares no host names and no purposes: whoever has a
 * certificate of the authority could serve in a brick's place, were it at the brick's address.
 */
#include "blockd/engine/volfile_priv.h"

#include "rpc/base/alloc.h"
#include "rpc/pki_files.h"

static void add_file(struct strbuf *text, const char *key, const char *folder, enum pki_file file)
{
    autofree char *path = pki_path(folder, file);
    vol_option(text, key, path);
}

static int add_files(const char *pki, enum pki_file authority, struct strbuf *text, struct error **ret_error)
{
    int r = volfile_path_check("the folder of certificates", pki, ret_error);
    if (r < 0)
        return r;
    add_file(text, "transport.socket.ssl-own-cert", pki, PKI_NODE);
    add_file(text, "transport.socket.ssl-private-key", pki, PKI_NODE_KEY);
    add_file(text, "transport.socket.ssl-ca-list", pki, authority);
    return 0;
}

int vol_add_client_tls(const struct volfile_sources *sources, struct strbuf *text, struct error **ret_error)
{
    if (sources->volume->spec.tls != VOLUME_TLS_ON)
        return 0;
    vol_option(text, "transport.socket.ssl-enabled", "on");
    return sources->pki ? add_files(sources->pki, PKI_AUTHORITY, text, ret_error) : 0;
}

/* The path of lists makes OpenSSL ask for one; it finds it beside the authority. */
int vol_add_server_certificates(const char *pki, struct strbuf *text, struct error **ret_error)
{
    vol_option(text, "transport.socket.ssl-enabled", "on");
    int r = add_files(pki, PKI_BUNDLE, text, ret_error);
    if (r == 0)
        vol_option(text, "transport.socket.ssl-crl-path", pki);
    return r;
}

int vol_add_server_tls(const struct volfile_sources *sources, struct strbuf *text, struct error **ret_error)
{
    if (sources->volume->spec.tls != VOLUME_TLS_ON)
        return 0;
    return vol_add_server_certificates(sources->pki, text, ret_error);
}
