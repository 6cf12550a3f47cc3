// Stored passwords: our own, RabbitMQ's, and what is neither.
#include "access/hash.h"
#include "base/test.h"

#include <sodium.h>
#include <time.h>

// "test12" with the salt 908DC60A, as RabbitMQ's documentation computes it by hand.
#define DOCUMENTED "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
#define SHA256     "rabbit_password_hashing_sha256"
#define SHA512     "rabbit_password_hashing_sha512"

static void an_own_hash_fits_its_password_alone(void **state) {
    char hash[HASH_MAX], again[HASH_MAX];
    assert_true(hash_make("salam", hash));
    assert_true(hash_make("salam", again));
    assert_string_not_equal(hash, again);
    assert_true(hash_verify(HASH_ARGON2ID, hash, "salam"));
    assert_false(hash_verify(HASH_ARGON2ID, hash, "Salam"));
    assert_false(hash_verify(HASH_ARGON2ID, hash, ""));
    assert_int_equal(hash_check(HASH_ARGON2ID, hash, NULL), ERR_OK);
}

static void rabbitmqs_documented_hash_fits(void **state) {
    assert_int_equal(hash_check(SHA256, DOCUMENTED, NULL), ERR_OK);
    assert_true(hash_verify(SHA256, DOCUMENTED, "test12"));
    assert_false(hash_verify(SHA256, DOCUMENTED, "test13"));
    assert_false(hash_verify(SHA512, DOCUMENTED, "test12"));
}

static void sha512_fits_too(void **state) {
    uint8_t bytes[4 + crypto_hash_sha512_BYTES] = {1, 2, 3, 4};
    char hash[HASH_MAX];
    crypto_hash_sha512(bytes + 4, (const uint8_t *)"\1\2\3\4secret", 10);
    sodium_bin2base64(hash, sizeof hash, bytes, sizeof bytes, sodium_base64_VARIANT_ORIGINAL);
    assert_int_equal(hash_check(SHA512, hash, NULL), ERR_OK);
    assert_true(hash_verify(SHA512, hash, "secret"));
    assert_false(hash_verify(SHA512, hash, "secreT"));
}

static void what_cannot_be_verified_is_refused(void **state) {
    static const char *const bad[][2] = {
        {"rabbit_password_hashing_md5", DOCUMENTED},
        {SHA256, "not base64!"},
        {SHA256, ""},
        {SHA256, "kI3GCg=="},
        {SHA512, DOCUMENTED},
        {HASH_ARGON2ID, DOCUMENTED},
        {HASH_ARGON2ID,
         "$argon2id$v=19$m=4194304,t=2,p=1$+bGornyE6wElMAQvVrXp8A$yMMp94BrB7BBQD8L8ckXi4GIv24t8F/dCfgsFSwcm7Q"},
        {HASH_ARGON2ID,
         "$argon2id$v=19$m=19456,t=900,p=1$+bGornyE6wElMAQvVrXp8A$yMMp94BrB7BBQD8L8ckXi4GIv24t8F/dCfgsFSwcm7Q"},
        {HASH_ARGON2ID, "$argon2id$v=19$m=19456,t=2,p=1$"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error e = {0};
        assert_int_equal(hash_check(bad[i][0], bad[i][1], &e), ERR_INVALID);
        assert_true(e.field[0] != '\0' && e.text[0] != '\0');
    }
}

static double seconds(const char *algorithm, const char *hash, const char *password) {
    struct timespec from, to;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    for (int i = 0; i < 3; i++) hash_verify(algorithm, hash, password);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
}

// Whoever tries names must not learn from the time which of them are there, nor how their passwords are kept.
static void every_verification_takes_as_long(void **state) {
    char hash[HASH_MAX];
    assert_true(hash_make("salam", hash));
    double own = seconds(HASH_ARGON2ID, hash, "wrong");
    assert_true(seconds(NULL, NULL, "wrong") > own / 3);
    assert_true(seconds(SHA256, DOCUMENTED, "wrong") > own / 3);
    assert_true(seconds(SHA256, DOCUMENTED, "test12") > own / 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_own_hash_fits_its_password_alone),
        cmocka_unit_test(rabbitmqs_documented_hash_fits),
        cmocka_unit_test(sha512_fits_too),
        cmocka_unit_test(what_cannot_be_verified_is_refused),
        cmocka_unit_test(every_verification_takes_as_long),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
