// Stands in for PostgreSQL in a build without libpq: its urls are refused with a sentence.
#include "database/postgres_pool.h"

#include "base/assert.h"

static enum err left_out(struct error *e) {
    return error_set(e, ERR_UNSUPPORTED, "this barid was built without PostgreSQL");
}

static enum err open_none(const struct database_options *o, enum db_role role, bool create, struct db **out,
                          struct error *e) {
    return left_out(e);
}

static enum err check_none(const char *url, database_finding_fn *each, void *arg, struct error *e) {
    return left_out(e);
}

const struct db_driver postgres_driver = {.kind = DATABASE_POSTGRES, .open = open_none, .check = check_none};

// Nobody gets here: there is no connection to begin with.
struct postgres_pool *postgres_pool_new(struct loop *loop, const struct database_options *o, struct db *first,
                                        postgres_pool_done_fn *done, void *arg) {
    ASSERT(!"without PostgreSQL");
    return NULL;
}

void postgres_pool_push(struct postgres_pool *p, struct db_unit *u) { ASSERT(!"without PostgreSQL"); }
void postgres_pool_free(struct postgres_pool *p) {}
void postgres_pool_stats(struct postgres_pool *p, struct database_stats *out) {}

enum err postgres_pool_listen(struct postgres_pool *p, const char *channel, database_notice_fn *fn, void *arg,
                              struct error *e) {
    return left_out(e);
}

void postgres_pool_unlisten(struct postgres_pool *p, const char *channel, database_notice_fn *fn, void *arg) {}
enum database_notices postgres_pool_notices(const struct postgres_pool *p) { return NOTICES_NONE; }
