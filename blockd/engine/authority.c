/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What the cluster signs by, read for others: nodes that join, and those who want to know whom to trust. */
#include "blockd/engine/engine_priv.h"

#include "rpc/base/files.h"
#include "rpc/pki_files.h"

void engine_authority_clear(struct engine_authority *authority)
{
    free(authority->certificate);
    free(authority->list);
    free(authority->key);
    *authority = (struct engine_authority){0};
}

int engine_authority(struct engine *engine, struct engine_authority *ret_authority, struct error **ret_error)
{
    struct engine_authority found cleanup(engine_authority_clear) = {0};
    autofree char *certificate = pki_path(engine->pki, PKI_AUTHORITY);
    autofree char *list = pki_path(engine->pki, PKI_LIST);
    autofree char *key = pki_path(engine->pki, PKI_AUTHORITY_KEY);
    int r = file_read(certificate, PKI_TEXT_MAX, &found.certificate, NULL, ret_error);
    if (r == 0)
        r = file_read(list, PKI_LIST_MAX, &found.list, NULL, ret_error);
    if (r == 0 && access(key, F_OK) == 0)
        r = file_read(key, PKI_TEXT_MAX, &found.key, NULL, ret_error);
    if (r < 0)
        return r;
    *ret_authority = found;
    found = (struct engine_authority){0};
    return 0;
}

int engine_own_certificate(struct engine *engine, struct pki_certificate *ret_certificate,
                           struct error **ret_error)
{
    return pki_folder_check(engine->pki, ret_certificate, ret_error);
}
