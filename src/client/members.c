#include "client/members.h"

#include "base/assert.h"

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

void members_derive_id(const json_t *sorted, char out[static CONVERSATION_ID_DERIVED]) {
    size_t n = json_array_size(sorted);
    const char **members = calloc(n ? n : 1, sizeof *members);
    if (!members) die("out of memory");
    for (size_t i = 0; i < n; i++) members[i] = json_string_value(json_array_get(sorted, i));
    conversation_id_derive(members, n, out);
    free(members);
}
