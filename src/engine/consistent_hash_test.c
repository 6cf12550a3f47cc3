// Consistent hashing: shares by weight, and few move when a binding comes or goes.
#include "engine/table_test.h"

#include "engine/consistent_hash.h"

#define VALUES 20000

static uint32_t weights[8];

static int winner(uint64_t value) {
    int best = -1;
    double highest = -1;
    for (int i = 0; i < 8; i++) {
        if (weights[i] == 0) continue;
        char name[16];
        snprintf(name, sizeof name, "queue-%d", i);
        double score = consistent_score(consistent_seed(name, false), value, weights[i]);
        if (score > highest) best = i, highest = score;
    }
    return best;
}

static uint64_t value_number(int i) {
    char key[16];
    snprintf(key, sizeof key, "%d", i);
    return consistent_value(key, (struct view){0}, NULL, NULL);
}

static void shares_follow_the_weights(void **state) {
    uint32_t hits[8] = {0};
    memset(weights, 0, sizeof weights);
    weights[0] = 1, weights[1] = 2, weights[2] = 5;
    for (int i = 0; i < VALUES; i++) hits[winner(value_number(i))]++;
    for (int i = 0; i < 3; i++) {
        double expected = VALUES * weights[i] / 8.0;
        assert_true(hits[i] > expected * 0.93 && hits[i] < expected * 1.07);
    }
}

static void only_what_must_moves(void **state) {
    static int before[VALUES];
    memset(weights, 0, sizeof weights);
    for (int i = 0; i < 7; i++) weights[i] = 10;
    for (int i = 0; i < VALUES; i++) before[i] = winner(value_number(i));
    weights[7] = 10;
    int moved = 0;
    for (int i = 0; i < VALUES; i++) {
        int after = winner(value_number(i));
        if (after == before[i]) continue;
        assert_int_equal(after, 7);
        moved++;
    }
    assert_true(moved > VALUES / 8 * 0.9 && moved < VALUES / 8 * 1.1);
    weights[7] = 0;
    weights[3] = 0;
    for (int i = 0; i < VALUES; i++) assert_true(before[i] == 3 || winner(value_number(i)) == before[i]);
}

static void a_weight_is_a_number_from_one(void **state) {
    uint32_t n;
    struct error e;
    assert_int_equal(consistent_weight("10000", &n, &e), ERR_OK);
    assert_int_equal(n, 10000);
    static const char *const wrong[] = {"", "0", "-1", "10001", "99999999999999999999", "1a", "a"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(consistent_weight(wrong[i], &n, &e), ERR_INVALID);
}

static void a_header_or_a_property_can_be_what_counts(void **state) {
    struct buf *b = table_fresh();
    table_put_text(b, "customer", "7");
    struct view with = properties_with(view_of_buf(b), NULL);
    uint64_t key = consistent_value("7", with, NULL, NULL);
    assert_int_equal(consistent_value("8", with, "customer", NULL), key);
    assert_int_equal(consistent_value("8", with, "absent", NULL), consistent_value("9", with, NULL, "message_id"));
    struct properties p = {.flags = PROPERTY_MESSAGE_ID | PROPERTY_CORRELATION_ID | PROPERTY_TIMESTAMP,
                           .message_id = view_of("7"),
                           .correlation_id = view_of("c"),
                           .timestamp = 12};
    b = table_fresh();
    properties_encode(b, &p);
    assert_int_equal(consistent_value("8", view_of_buf(b), NULL, "message_id"), key);
    assert_int_equal(consistent_value("8", view_of_buf(b), NULL, "correlation_id"),
                     consistent_value("c", with, NULL, NULL));
    assert_int_not_equal(consistent_value("8", view_of_buf(b), NULL, "timestamp"),
                         consistent_value("8", with, NULL, "timestamp"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_follow_the_weights),
        cmocka_unit_test(only_what_must_moves),
        cmocka_unit_test(a_weight_is_a_number_from_one),
        cmocka_unit_test(a_header_or_a_property_can_be_what_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
