// List, heap and map beside the simplest models that could be right, driven by random calls.
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "base/test.h"
#include "base/test_io.h"

#define ITEMS 300
#define STEPS 60000

struct item {
    struct list_node link;
    struct heap_node heap;
    uint64_t key;
    char name[24];
};

static bool item_before(const struct heap_node *a, const struct heap_node *b) {
    return LIST_ITEM(a, struct item, heap)->key < LIST_ITEM(b, struct item, heap)->key;
}

static uint64_t smallest_key(const struct item *items) {
    uint64_t smallest = UINT64_MAX;
    for (int i = 0; i < ITEMS; i++)
        if (heap_has(&items[i].heap) && items[i].key < smallest) smallest = items[i].key;
    return smallest;
}

static void the_heap_always_gives_the_smallest(void **state) {
    (void)state;
    static struct item items[ITEMS];
    struct test_io t;
    struct heap h;
    uint32_t inside = 0;
    test_io_init(&t, 11);
    heap_init(&h, item_before);
    for (int step = 0; step < STEPS; step++) {
        struct item *it = &items[io_random_below(&t.io, ITEMS)];
        if (!heap_has(&it->heap)) {
            it->key = io_random_below(&t.io, 1000);
            assert_true(heap_push(&h, &it->heap));
            inside++;
        } else if (io_random_below(&t.io, 3) == 0) {
            it->key = io_random_below(&t.io, 1000);
            heap_update(&h, &it->heap);
        } else {
            heap_remove(&h, &it->heap);
            inside--;
        }
        assert_int_equal(h.len, inside);
        if (inside > 0) assert_true(LIST_ITEM(heap_first(&h), struct item, heap)->key == smallest_key(items));
    }
    uint64_t last = 0;
    for (struct heap_node *n; (n = heap_pop(&h)) != NULL; inside--) {
        uint64_t key = LIST_ITEM(n, struct item, heap)->key;
        assert_true(key >= last);
        last = key;
    }
    assert_int_equal(inside, 0);
    heap_release(&h);
}

static void an_idle_node_may_be_removed_from_heap_and_list(void **state) {
    (void)state;
    struct item it = {.key = 1};
    struct heap h;
    heap_init(&h, item_before);
    heap_remove(&h, &it.heap);
    assert_null(heap_pop(&h));
    list_remove(&it.link);
    heap_release(&h);
}

static void the_map_agrees_with_a_plain_array(void **state) {
    (void)state;
    static struct item items[ITEMS];
    static bool present[ITEMS];
    struct test_io t;
    struct map m;
    size_t inside = 0;
    test_io_init(&t, 12);
    map_init(&m, 99);
    for (int i = 0; i < ITEMS; i++) snprintf(items[i].name, sizeof items[i].name, "name-%d", i);
    for (int step = 0; step < STEPS; step++) {
        size_t i = io_random_below(&t.io, ITEMS);
        const char *name = items[i].name;
        assert_ptr_equal(map_get(&m, name, strlen(name)), present[i] ? &items[i] : NULL);
        if (io_random_below(&t.io, 2) == 0) {
            assert_true(map_put(&m, name, strlen(name), &items[i]));
            inside += !present[i];
            present[i] = true;
        } else {
            assert_ptr_equal(map_remove(&m, name, strlen(name)), present[i] ? &items[i] : NULL);
            inside -= present[i];
            present[i] = false;
        }
        assert_int_equal(m.len, inside);
    }
    size_t at = 0, seen = 0;
    for (struct item *it; (it = map_next(&m, &at)) != NULL; seen++) {
        assert_true(present[it - items]);
        present[it - items] = false;
    }
    assert_int_equal(seen, inside);
    map_release(&m);
}

static void map_keys_are_bytes_with_a_length(void **state) {
    (void)state;
    struct map m;
    int a, b, c;
    map_init(&m, 1);
    assert_null(map_get(&m, "x", 1));
    assert_null(map_remove(&m, "x", 1));
    assert_true(map_put(&m, "x\0y", 3, &a));
    assert_true(map_put(&m, "x\0z", 3, &b));
    assert_true(map_put(&m, "", 0, &c));
    assert_ptr_equal(map_get(&m, "x\0y", 3), &a);
    assert_ptr_equal(map_get(&m, "x\0z", 3), &b);
    assert_ptr_equal(map_get(&m, "", 0), &c);
    assert_null(map_get(&m, "x", 1));
    assert_true(map_put(&m, "x\0y", 3, &c));
    assert_ptr_equal(map_get(&m, "x\0y", 3), &c);
    assert_int_equal(m.len, 3);
    map_release(&m);
}

static void the_list_keeps_order_through_inserts_and_removals(void **state) {
    (void)state;
    struct item items[5] = {{.key = 0}, {.key = 1}, {.key = 2}, {.key = 3}, {.key = 4}};
    struct list l;
    list_init(&l);
    assert_true(list_empty(&l));
    assert_null(list_pop_front(&l));
    for (int i = 2; i < 5; i++) list_push_back(&l, &items[i].link);
    list_push_front(&l, &items[0].link);
    list_insert_before(&items[1].link, &items[2].link);
    uint64_t expected = 0;
    LIST_EACH(&l, at) { assert_int_equal(LIST_ITEM(at, struct item, link)->key, expected++); }
    assert_int_equal(expected, 5);
    LIST_EACH_SAFE(&l, at) {
        if (LIST_ITEM(at, struct item, link)->key % 2 == 1) list_remove(at);
    }
    assert_false(list_linked(&items[1].link));
    assert_ptr_equal(list_first(&l), &items[0].link);
    assert_ptr_equal(list_next(&l, &items[0].link), &items[2].link);
    assert_ptr_equal(list_last(&l), &items[4].link);
    assert_null(list_next(&l, &items[4].link));
    for (int i = 0; i < 5; i += 2) assert_ptr_equal(list_pop_front(&l), &items[i].link);
    assert_true(list_empty(&l));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_heap_always_gives_the_smallest),
        cmocka_unit_test(an_idle_node_may_be_removed_from_heap_and_list),
        cmocka_unit_test(the_map_agrees_with_a_plain_array),
        cmocka_unit_test(map_keys_are_bytes_with_a_length),
        cmocka_unit_test(the_list_keeps_order_through_inserts_and_removals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
