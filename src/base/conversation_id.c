#include "base/conversation_id.h"

#include "base/assert.h"
#include "base/hex.h"

#include <sodium.h>
#include <string.h>

#define PREFIX "dm-"

void conversation_id_derive(const char *const *members, size_t n, char out[static CONVERSATION_ID_DERIVED]) {
    unsigned char digest[16];
    crypto_generichash_state state;
    int rc = crypto_generichash_init(&state, NULL, 0, sizeof digest);
    for (size_t i = 0; i < n; i++) {
        ASSERT(i == 0 || strcmp(members[i - 1], members[i]) < 0);
        rc |= crypto_generichash_update(&state, (const unsigned char *)members[i], strlen(members[i]) + 1);
    }
    rc |= crypto_generichash_final(&state, digest, sizeof digest);
    ASSERT(rc == 0);
    memcpy(out, PREFIX, strlen(PREFIX));
    hex_encode(digest, sizeof digest, out + strlen(PREFIX));
}

bool conversation_id_is_derived(const char *id) { return strncmp(id, PREFIX, strlen(PREFIX)) == 0; }
