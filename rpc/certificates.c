/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/certificates.h"

#include "rpc/pki.h"
#include "rpc/schema_table.h"

static const struct field certificate_sign_fields[] = {
    {"name", FIELD_STRING, OF(certificate_sign, name), FIELD_REQUIRED, 1, PKI_NAME_MAX,
     .help = "Name (CN) of whom the certificate is for"},
    {"role", FIELD_STRING, OF(certificate_sign, role), FIELD_REQUIRED, 1, 16,
     .help = "admin, csi, metrics, or client, which only uses volumes"},
    {"request", FIELD_STRING, OF(certificate_sign, request), FIELD_REQUIRED | FIELD_LINES, 1, PKI_TEXT_MAX,
     .help = "The request (PKCS #10) as PEM; on the command line a file with it, or - for standard input"},
    {"hosts", FIELD_STRINGS, OF(certificate_sign, hosts), 0, .max = PKI_HOSTS_MAX,
     .help = "DNS names and addresses that it also stands for"},
    {"days", FIELD_UINT, OF(certificate_sign, days), 0, 1, PKI_LIFE_MAX / 86400,
     .help = "How long it is good; 365 if absent"},
    END,
};
SCHEMA(certificate_sign, "CertificateSign", "A request for a certificate");

static const struct field certificate_signed_fields[] = {
    {"certificate", FIELD_STRING, OF(certificate_signed, certificate), FIELD_LINES,
     .help = "The certificate as PEM"},
    {"authority", FIELD_STRING, OF(certificate_signed, authority), FIELD_LINES,
     .help = "The certificate of the cluster's authority as PEM"},
    {"serial", FIELD_STRING, OF(certificate_signed, serial), 0, .help = "Its serial number, to revoke it by"},
    {"fingerprint", FIELD_STRING, OF(certificate_signed, fingerprint), 0, .help = "Its SHA-256"},
    {"expires", FIELD_TIME, OF(certificate_signed, expires), 0, .help = "Until when it is good"},
    END,
};
SCHEMA(certificate_signed, "CertificateSigned", "A certificate");

static const struct field certificate_revoke_fields[] = {
    {"serial", FIELD_STRING, OF(certificate_revoke, serial), FIELD_REQUIRED, 2, 40,
     .help = "Serial number in hexadecimal digits"},
    END,
};
SCHEMA(certificate_revoke, "CertificateRevoke", "A certificate to revoke");

static const struct field certificate_revoked_fields[] = {
    {"serial", FIELD_STRING, OF(certificate_revoked, serial), 0, .help = "The serial number"},
    {"list", FIELD_STRING, OF(certificate_revoked, list), FIELD_LINES,
     .help = "The list of all revoked certificates as PEM"},
    {"name", FIELD_STRING, OF(certificate_revoked, name), FIELD_OPTIONAL,
     .help = "Whom it was for (CN); absent where no certificate of that number is known"},
    END,
};
SCHEMA(certificate_revoked, "CertificateRevoked", "A certificate that counts no more");
