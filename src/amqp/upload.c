// A large body comes in: frames are gathered to pieces, pieces written to a file while the next is gathered.
//
//   header ─► upload_new ─► body … body ─► finish ─► channel_uploaded(ticket): the command is done
//
// Memory: the piece that is being written and the one being gathered. When both are full the connection is paused;
// at the end it is paused until the file is durable and has its name, so that commands keep their order.
//
// The store takes a bounded number of writers. A connection that has none waits, paused, for its turn; one that has
// one already, on another channel, must not wait for others while they wait for it: it is refused.
#include "amqp/claims.h"
#include "amqp/core.h"
#include "datastore/datastore.h"

#include <inttypes.h>
#include <stdlib.h>

#define PIECE (256u << 10)

struct upload {
    struct channel *channel;
    struct claims *claims;
    struct ds_writer *writer; // NULL: it waits for its turn, or is finishing
    struct claims_call *finishing;
    uint32_t method;
    uint64_t bytes, got;
    struct buf piece;
    bool writing, paused;
    struct list_node of_uploading; // waits for its turn
};

static void pause(struct upload *u) {
    if (u->paused) return;
    u->paused = true;
    connection_pause(u->channel->connection);
}

static void resume(struct upload *u) {
    if (!u->paused) return;
    u->paused = false;
    connection_resume(u->channel->connection);
}

// ---- failing: the channel is closed, and the upload goes with it

static void fail(struct upload *u, enum err err) {
    struct channel *ch = u->channel;
    if (err == ERR_FULL)
        channel_error(ch, REPLY_PRECONDITION_FAILED, u->method, "no room on the disk for a body of %" PRIu64 " bytes",
                      u->bytes);
    else
        channel_give_up(ch, REPLY_INTERNAL_ERROR, u->method, "a body of %" PRIu64 " bytes cannot be kept: %s", u->bytes,
                        err_text(err));
}

// ---- writing

static void step(struct upload *u);

static void on_written(void *arg, enum err err) {
    struct upload *u = arg;
    u->writing = false;
    if (err != ERR_OK) fail(u, err);
    else step(u);
}

static void on_finished(void *arg, enum err err, const uint8_t *ticket) {
    struct upload *u = arg;
    u->finishing = NULL;
    if (err != ERR_OK) fail(u, err);
    else channel_uploaded(u->channel, ticket);
}

static void finish(struct upload *u) {
    struct ds_writer *w = u->writer;
    u->writer = NULL;
    pause(u);
    u->finishing = claims_finish(u->claims, w, on_finished, u);
}

static void step(struct upload *u) {
    bool all = u->got == u->bytes;
    if (u->writer && !u->writing && u->piece.len > 0 && (all || u->piece.len >= PIECE)) {
        u->writing = true;
        ds_writer_write(u->writer, u->piece.data, u->piece.len, on_written, u);
        buf_clear(&u->piece);
    } else if (u->writer && !u->writing && all) {
        finish(u);
        return;
    }
    if (all || !u->writer || u->piece.len >= PIECE) pause(u);
    else resume(u);
}

void upload_body(struct upload *u, struct view part) {
    u->got += part.length;
    buf_add(&u->piece, part.data, part.length);
    if (buf_ok(&u->piece)) step(u);
    else fail(u, ERR_NOMEM);
}

// ---- beginning and ending

static bool begin(struct upload *u) {
    enum err err = ds_writer_new(claims_store(u->claims), u->bytes, &u->writer);
    if (err == ERR_OK) {
        list_remove(&u->of_uploading);
        step(u);
    } else if (err != ERR_BUSY || core_of(u->channel->connection)->uploads > 1) {
        list_remove(&u->of_uploading);
        fail(u, err);
    } else {
        pause(u);
        return false;
    }
    return true;
}

struct upload *upload_new(struct channel *ch, uint32_t method, uint64_t bytes) {
    struct amqp *a = ch->connection->amqp;
    struct upload *u = calloc(1, sizeof *u);
    if (!u) {
        connection_error(ch->connection, REPLY_RESOURCE_ERROR, method, "out of memory");
        return NULL;
    }
    u->channel = ch;
    u->claims = a->o.claims;
    u->method = method;
    u->bytes = bytes;
    buf_init(&u->piece, SIZE_MAX);
    core_of(ch->connection)->uploads++;
    list_push_back(&a->uploading, &u->of_uploading);
    begin(u);
    return u;
}

void upload_free(struct upload *u) {
    resume(u);
    core_of(u->channel->connection)->uploads--;
    list_remove(&u->of_uploading);
    if (u->finishing) claims_call_forget(u->finishing);
    if (u->writer) ds_writer_abort(u->writer);
    buf_release(&u->piece);
    free(u);
}

void uploads_retry(struct amqp *a) {
    struct list_node *n;
    while ((n = list_first(&a->uploading)) != NULL)
        if (!begin(LIST_ITEM(n, struct upload, of_uploading))) return;
}
