#include "access/hash.h"

#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define OPS        2
#define MEMORY     ((size_t)19 * 1024 * 1024)
#define OPS_MAX    10 // of a hash that was made elsewhere
#define MEMORY_MAX (64 * 1024)
#define SALT       4

// Of a random password nobody has kept: what an attempt is compared with when there is nothing to compare it with.
#define NOBODY "$argon2id$v=19$m=19456,t=2,p=1$+bGornyE6wElMAQvVrXp8A$yMMp94BrB7BBQD8L8ckXi4GIv24t8F/dCfgsFSwcm7Q"

struct digest {
    const char *algorithm;
    size_t size;
    bool wide; // sha512
};
static const struct digest digests[] = {
    {"rabbit_password_hashing_sha256", crypto_hash_sha256_BYTES, false},
    {"rabbit_password_hashing_sha512", crypto_hash_sha512_BYTES, true},
};
#define DIGEST_MAX crypto_hash_sha512_BYTES

static const struct digest *digest_of(const char *algorithm) {
    for (size_t i = 0; i < sizeof digests / sizeof *digests; i++)
        if (strcmp(digests[i].algorithm, algorithm) == 0) return &digests[i];
    return NULL;
}

static bool digest_decode(const struct digest *d, const char *hash, uint8_t out[static SALT + DIGEST_MAX]) {
    size_t n = 0;
    return sodium_base642bin(out, SALT + DIGEST_MAX, hash, strlen(hash), NULL, &n, NULL,
                             sodium_base64_VARIANT_ORIGINAL) == 0 &&
           n == SALT + d->size;
}

static void digest_make(const struct digest *d, const uint8_t *salt, const char *password, uint8_t *out) {
    const uint8_t *text = (const uint8_t *)password;
    if (d->wide) {
        crypto_hash_sha512_state s;
        crypto_hash_sha512_init(&s);
        crypto_hash_sha512_update(&s, salt, SALT);
        crypto_hash_sha512_update(&s, text, strlen(password));
        crypto_hash_sha512_final(&s, out);
    } else {
        crypto_hash_sha256_state s;
        crypto_hash_sha256_init(&s);
        crypto_hash_sha256_update(&s, salt, SALT);
        crypto_hash_sha256_update(&s, text, strlen(password));
        crypto_hash_sha256_final(&s, out);
    }
}

static bool digest_verify(const struct digest *d, const char *hash, const char *password) {
    uint8_t stored[SALT + DIGEST_MAX], made[DIGEST_MAX];
    if (!digest_decode(d, hash, stored)) return false;
    digest_make(d, stored, password, made);
    return sodium_memcmp(stored + SALT, made, d->size) == 0;
}

// The cost is the hash's own: a hash from elsewhere must not be a way to hold up the pool.
static enum err check_argon2id(const char *hash, struct error *e) {
    unsigned memory = 0, ops = 0, lanes = 0;
    int end = 0;
    char padded[crypto_pwhash_STRBYTES] = "";
    int length = snprintf(padded, sizeof padded, "%s", hash);
    if (sscanf(hash, "$argon2id$v=19$m=%7u,t=%4u,p=%4u$%n", &memory, &ops, &lanes, &end) != 3 || end == 0 ||
        length >= (int)sizeof padded || crypto_pwhash_str_needs_rehash(padded, OPS, MEMORY) < 0)
        return error_field(e, "password_hash", "is not an argon2id hash in its text form");
    if (memory > MEMORY_MAX || ops > OPS_MAX || lanes > 1)
        return error_field(e, "password_hash", "costs more than m=%d,t=%d,p=1", MEMORY_MAX, OPS_MAX);
    return ERR_OK;
}

enum err hash_check(const char *algorithm, const char *hash, struct error *e) {
    uint8_t decoded[SALT + DIGEST_MAX];
    if (strlen(hash) >= HASH_MAX) return error_field(e, "password_hash", "longer than %d bytes", HASH_MAX - 1);
    if (strcmp(algorithm, HASH_ARGON2ID) == 0) return check_argon2id(hash, e);
    const struct digest *d = digest_of(algorithm);
    if (d == NULL)
        return error_field(e, "hashing_algorithm", "%.60s is not known: %s, %s or %s", algorithm, HASH_ARGON2ID,
                           digests[0].algorithm, digests[1].algorithm);
    if (!digest_decode(d, hash, decoded))
        return error_field(e, "password_hash", "is not the base64 text of a salt and a hash of %zu bytes", d->size);
    return ERR_OK;
}

bool hash_make(const char *password, char out[static HASH_MAX]) {
    _Static_assert(HASH_MAX >= crypto_pwhash_STRBYTES, "a hash fits");
    return crypto_pwhash_str(out, password, strlen(password), OPS, MEMORY) == 0;
}

static bool argon2id_verify(const char *hash, const char *password) {
    char padded[crypto_pwhash_STRBYTES] = ""; // libsodium may read that much
    snprintf(padded, sizeof padded, "%s", hash);
    return crypto_pwhash_str_verify(padded, password, strlen(password)) == 0;
}

bool hash_verify(const char *algorithm, const char *hash, const char *password) {
    if (hash != NULL && strcmp(algorithm, HASH_ARGON2ID) == 0) return argon2id_verify(hash, password);
    const struct digest *d = hash != NULL ? digest_of(algorithm) : NULL;
    bool fits = d != NULL && digest_verify(d, hash, password);
    bool nobody = argon2id_verify(NOBODY, password); // for the time it takes
    return fits && !nobody;
}
