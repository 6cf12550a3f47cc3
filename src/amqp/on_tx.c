// Transactions: publishes and acks are kept until tx.commit, then done in that order, and the commit is answered when
// all of it is durable. As in RabbitMQ a commit is not atomic over a crash: what had no answer may be there in part.
//
// A commit for which the engine has no room goes on when there is some (publishes_retry); the connection waits.
#include "amqp/basic.h"

#include <inttypes.h>
#include <stdlib.h>

#define TX_BYTES_MAX   (64u << 20) // of publishes kept
#define TX_SETTLES_MAX 1000000u

struct tx_settle {
    uint64_t tag;
    uint32_t method;
    bool multiple;
    enum settle how;
};

struct channel_tx {
    struct kept *first, **last;
    uint32_t publishes;
    size_t bytes;
    struct tx_settle *settles;
    uint32_t n_settles, settles_size;
    bool refused; // a queue refused one of the publishes
};

static void forget_first(struct channel_tx *tx) {
    struct kept *k = tx->first;
    tx->first = k->next;
    if (tx->first == NULL) tx->last = &tx->first;
    tx->publishes--;
    tx->bytes -= k->size;
    kept_free(k);
}

static void forget_all(struct channel *ch) {
    struct channel_tx *tx = ch->tx;
    while (tx->first != NULL) forget_first(tx);
    tx->n_settles = 0;
    tx->refused = false;
    engine_unreserve(ch->session);
}

static void too_large(struct channel *ch, uint32_t method) {
    channel_error(ch, REPLY_PRECONDITION_FAILED, method,
                  "transaction too large: at most %u bytes of messages and %u acknowledgements", TX_BYTES_MAX,
                  TX_SETTLES_MAX);
}

void tx_publish(struct channel *ch, const struct publish *p) {
    struct channel_tx *tx = ch->tx;
    struct kept *k = kept_new(ch, p);
    if (k == NULL || k->size > TX_BYTES_MAX - tx->bytes) {
        kept_free(k);
        too_large(ch, METHOD_BASIC_PUBLISH);
        return;
    }
    *tx->last = k;
    tx->last = &k->next;
    tx->publishes++;
    tx->bytes += k->size;
}

static bool settles_grow(struct channel_tx *tx) {
    uint32_t size = tx->settles_size == 0 ? 64 : tx->settles_size * 2;
    struct tx_settle *settles = tx->n_settles < TX_SETTLES_MAX ? realloc(tx->settles, size * sizeof *settles) : NULL;
    if (settles == NULL) return false;
    tx->settles = settles;
    tx->settles_size = size;
    return true;
}

void tx_settle(struct channel *ch, uint32_t method, uint64_t tag, bool multiple, enum settle how) {
    struct channel_tx *tx = ch->tx;
    struct error e = {0};
    uint64_t last;
    if (engine_reserve(ch->session, tag, multiple, &last, &e) != ERR_OK) {
        channel_error(ch, REPLY_PRECONDITION_FAILED, method, "unknown delivery tag %" PRIu64, tag);
        return;
    }
    if (last == 0) return; // there was nothing to settle
    if (tx->n_settles == tx->settles_size && !settles_grow(tx)) {
        too_large(ch, method);
        return;
    }
    // "All" are those delivered until now, not until the commit.
    tx->settles[tx->n_settles++] = (struct tx_settle){.tag = last, .method = method, .multiple = multiple, .how = how};
}

// ---- tx.commit

static bool publish_kept(struct channel *ch, bool *room) {
    struct channel_tx *tx = ch->tx;
    *room = true;
    while (tx->first != NULL) {
        enum publish_result result;
        enum err err = publish_now(ch, &tx->first->publish, &result);
        *room = err != ERR_BUSY && err != ERR_FULL;
        if (err != ERR_OK) return false;
        tx->refused |= result == PUBLISH_REJECTED;
        forget_first(tx);
    }
    return true;
}

static bool settle_kept(struct channel *ch) {
    struct channel_tx *tx = ch->tx;
    engine_unreserve(ch->session);
    for (uint32_t i = 0; i < tx->n_settles; i++) {
        const struct tx_settle *s = &tx->settles[i];
        if (engine_session_unacked(ch->session) == 0 && s->multiple) continue;
        if (!settle_now(ch, s->method, s->tag, s->multiple, s->how)) return false;
    }
    tx->n_settles = 0;
    return true;
}

static void finish(struct channel *ch) {
    bool refused = ch->tx->refused;
    if (!settle_kept(ch)) return;
    ch->tx->refused = false;
    engine_flush(ch->connection->amqp->o.engine);
    if (refused) channel_error(ch, REPLY_PRECONDITION_FAILED, METHOD_TX_COMMIT, "partial tx completion");
    else channel_send_durable(ch, &(struct method){.id = METHOD_TX_COMMIT_OK});
}

bool tx_continue(struct channel *ch) {
    bool room;
    channel_hold(ch);
    if (publish_kept(ch, &room)) finish(ch);
    if (room) publish_release(ch); // it waits no more
    channel_release(ch);
    return room;
}

static void commit(struct channel *ch) {
    struct channel_basic *b = ch->basic;
    if (tx_continue(ch)) return;
    list_push_back(&ch->connection->amqp->holding, &b->of_holding);
    connection_pause(ch->connection);
}

static void select_tx(struct channel *ch) {
    if (ch->confirms) {
        channel_error(ch, REPLY_PRECONDITION_FAILED, METHOD_TX_SELECT, "cannot switch from confirm to tx mode");
        return;
    }
    if (ch->tx == NULL) {
        ch->tx = calloc(1, sizeof *ch->tx);
        if (ch->tx == NULL) {
            connection_error(ch->connection, REPLY_RESOURCE_ERROR, METHOD_TX_SELECT, "out of memory");
            return;
        }
        ch->tx->last = &ch->tx->first;
    }
    ch->transactional = true;
    channel_send(ch, &(struct method){.id = METHOD_TX_SELECT_OK});
}

void on_tx(struct channel *ch, const struct command *c) {
    uint32_t id = c->method->id;
    if (id == METHOD_TX_SELECT) select_tx(ch);
    else if (id != METHOD_TX_COMMIT && id != METHOD_TX_ROLLBACK)
        connection_error(ch->connection, REPLY_COMMAND_INVALID, id, "unimplemented method");
    else if (!ch->transactional) channel_error(ch, REPLY_PRECONDITION_FAILED, id, "channel is not transactional");
    else if (id == METHOD_TX_COMMIT) commit(ch);
    else {
        forget_all(ch);
        channel_send(ch, &(struct method){.id = METHOD_TX_ROLLBACK_OK});
    }
}

uint32_t tx_publishes(const struct channel *ch) { return ch->tx == NULL ? 0 : ch->tx->publishes; }
uint32_t tx_settles(const struct channel *ch) { return ch->tx == NULL ? 0 : ch->tx->n_settles; }

void channel_tx_release(struct channel *ch) {
    if (ch->tx == NULL) return;
    forget_all(ch);
    free(ch->tx->settles);
    free(ch->tx);
    ch->tx = NULL;
}
