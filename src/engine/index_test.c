// The index against what it must know, while it grows by splitting and empties again.
#include "base/test.h"

#include "engine/index.h"

#include <stdlib.h>

#define MANY 1000000

static uint64_t *keys;

static uint64_t key_of(const void *owner, uint32_t h) { return ((const uint64_t *)owner)[h]; }

static void check(const struct index *x, uint32_t from, uint32_t to, uint32_t step) {
    for (uint32_t i = from; i < to; i += step) assert_int_equal(index_find(x, keys[i]), i);
}

static void grow_and_empty(void **state) {
    struct index x;
    index_init(&x, key_of, keys);
    assert_int_equal(index_find(&x, keys[0]), NONE);
    for (uint32_t i = 0; i < MANY; i++) index_add(&x, i);
    check(&x, 0, MANY, 1);
    assert_true(index_bytes(&x) < (uint64_t)MANY * 16);
    uint64_t full = index_bytes(&x);
    for (uint32_t i = 0; i < MANY; i += 2) index_remove(&x, i);
    check(&x, 1, MANY, 2);
    for (uint32_t i = 0; i < MANY; i += 2) assert_int_equal(index_find(&x, keys[i]), NONE);
    for (uint32_t i = 0; i < MANY; i += 2) index_add(&x, i);
    check(&x, 0, MANY, 1);
    for (uint32_t i = MANY; i-- > 0;) index_remove(&x, i);
    assert_int_equal(x.count, 0);
    assert_true(index_bytes(&x) < full / 4);
    assert_int_equal(index_find(&x, keys[0]), NONE);
    index_add(&x, 7);
    assert_int_equal(index_find(&x, keys[7]), 7);
    index_release(&x);
}

static void places_of_records(void **state) {
    for (uint32_t i = 0; i < MANY; i++) keys[i] = index_place(1 + i / 300000, 4096 + i % 300000 * 200);
    grow_and_empty(state);
}

static void counters(void **state) {
    for (uint32_t i = 0; i < MANY; i++) keys[i] = index_counter(i + 1);
    grow_and_empty(state);
}

// All of one hash: parts cannot split, and grow instead.
static void keys_that_collide(void **state) {
    struct index x;
    index_init(&x, key_of, keys);
    for (uint32_t i = 0; i < 512; i++) keys[i] = i;
    for (uint32_t i = 0; i < 512; i++) index_add(&x, i);
    check(&x, 0, 512, 1);
    index_release(&x);
}

static int setup(void **state) {
    keys = malloc(MANY * sizeof *keys);
    return keys ? 0 : -1;
}
static int teardown(void **state) {
    free(keys);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(places_of_records), cmocka_unit_test(counters),
                                       cmocka_unit_test(keys_that_collide)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
