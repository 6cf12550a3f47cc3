#include "client/conversation_id.h"

#include "base/assert.h"
#include "base/hex.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

json_t *members_sorted(const char *const *members, size_t n) {
    const char **sorted = calloc(n ? n : 1, sizeof *sorted);
    if (!sorted) return NULL;
    memcpy(sorted, members, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_text);
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(sorted[i], sorted[i - 1]) != 0) json_array_append_new(array, json_string(sorted[i]));
    free(sorted);
    return array;
}

void conversation_id_derive(const json_t *members, char out[static CONVERSATION_ID_DERIVED]) {
    unsigned char digest[16];
    crypto_generichash_state state;
    int rc = crypto_generichash_init(&state, NULL, 0, sizeof digest);
    size_t i;
    const json_t *member;
    json_array_foreach(members, i, member) {
        const char *name = json_string_value(member);
        rc |= crypto_generichash_update(&state, (const unsigned char *)name, strlen(name) + 1);
    }
    rc |= crypto_generichash_final(&state, digest, sizeof digest);
    ASSERT(rc == 0);
    memcpy(out, "dm-", 3);
    hex_encode(digest, sizeof digest, out + 3);
}
