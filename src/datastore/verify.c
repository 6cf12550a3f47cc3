// Is what is read, from its beginning on, what its name says? The same for files and for rows.
#include "datastore/driver.h"

#include "base/assert.h"

#include <openssl/evp.h>
#include <string.h>

struct evp_md_ctx_st *ds_verify_new(void) {
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    if (!sha || EVP_DigestInit_ex(sha, EVP_sha256(), NULL) != 1) die("no memory for the data store");
    return sha;
}

enum err ds_verify_next(struct evp_md_ctx_st *sha, const void *data, size_t n, bool end,
                        const uint8_t hash[DATASTORE_HASH]) {
    uint8_t got[DATASTORE_HASH];
    if (EVP_DigestUpdate(sha, data, n) != 1) return ERR_NOMEM;
    if (!end) return ERR_OK;
    if (EVP_DigestFinal_ex(sha, got, NULL) != 1) return ERR_NOMEM;
    return memcmp(got, hash, DATASTORE_HASH) == 0 ? ERR_OK : ERR_CORRUPT;
}
