#include "amqp/confirms.h"

#include "amqp/basic.h"

#include <stdlib.h>

static void send_run(struct channel *ch) {
    struct confirms *c = &ch->basic->confirms;
    bool multiple = c->answered - c->sent > 1;
    struct method m = {.id = c->refused ? METHOD_BASIC_NACK : METHOD_BASIC_ACK};
    if (c->answered == c->sent) return;
    if (c->refused) m.basic_nack = (struct basic_nack){.delivery_tag = c->answered, .multiple = multiple};
    else m.basic_ack = (struct basic_ack){.delivery_tag = c->answered, .multiple = multiple};
    if (!c->refused) ch->connection->amqp->stats.confirmed += c->answered - c->sent;
    c->sent = c->answered;
    if (!ch->closed && !ch->close_sent) channel_send(ch, &m);
}

// The next number is answered; a run of the other kind leaves first.
static void advance(struct channel *ch, bool refused) {
    struct confirms *c = &ch->basic->confirms;
    if (c->answered > c->sent && c->refused != refused) send_run(ch);
    c->answered++;
    c->refused = refused;
    if (!list_linked(&c->of_confirming)) list_push_back(&ch->connection->amqp->confirming, &c->of_confirming);
}

static void advance_over_own(struct channel *ch) {
    struct confirms *c = &ch->basic->confirms;
    while (c->own_count > 0 && c->own[c->own_first] == c->answered + 1) {
        c->own_first = (c->own_first + 1) % c->own_size;
        c->own_count--;
        advance(ch, false);
    }
}

void confirms_expect(struct channel *ch) {
    ch->basic->confirms.published++;
    channel_hold(ch);
}

void confirms_answered(void *channel, enum publish_result result) {
    struct channel *ch = channel;
    if (ch->basic != NULL && !ch->closed && !ch->close_sent) {
        advance(ch, result == PUBLISH_REJECTED);
        advance_over_own(ch);
    }
    channel_release(ch);
}

static bool own_grow(struct confirms *c) {
    uint32_t size = c->own_size == 0 ? 16 : c->own_size * 2;
    uint64_t *own = malloc(size * sizeof *own);
    if (own == NULL) return false;
    for (uint32_t i = 0; i < c->own_count; i++) own[i] = c->own[(c->own_first + i) % c->own_size];
    free(c->own);
    c->own = own;
    c->own_first = 0;
    c->own_size = size;
    return true;
}

// As many wait here as publishes of the channel wait for the disk between them: the engine bounds those, and OWN_MAX
// the replies among them.
#define OWN_MAX (1u << 20)

void confirms_answer_own(struct channel *ch) {
    struct confirms *c = &ch->basic->confirms;
    uint64_t number = ++c->published;
    if (c->own_count == c->own_size && (c->own_size >= OWN_MAX || !own_grow(c))) {
        connection_error(ch->connection, REPLY_RESOURCE_ERROR, METHOD_BASIC_PUBLISH, "too many unconfirmed replies");
        return;
    }
    c->own[(c->own_first + c->own_count++) % c->own_size] = number;
    advance_over_own(ch);
}

uint64_t confirms_waiting(const struct channel *ch) { return ch->basic->confirms.published - ch->basic->confirms.sent; }

void confirms_flush(struct amqp *a) {
    struct list_node *at;
    while ((at = list_pop_front(&a->confirming)) != NULL)
        send_run(LIST_ITEM(at, struct channel_basic, confirms.of_confirming)->channel);
}

void confirms_release(struct channel *ch) {
    list_remove(&ch->basic->confirms.of_confirming);
    free(ch->basic->confirms.own);
}

void on_confirm(struct channel *ch, const struct command *c) {
    if (c->method->id != METHOD_CONFIRM_SELECT) {
        connection_error(ch->connection, REPLY_COMMAND_INVALID, c->method->id, "unimplemented method");
        return;
    }
    if (ch->transactional) {
        channel_error(ch, REPLY_PRECONDITION_FAILED, METHOD_CONFIRM_SELECT, "cannot switch from tx to confirm mode");
        return;
    }
    ch->confirms = true;
    if (!c->method->confirm_select.no_wait) channel_send(ch, &(struct method){.id = METHOD_CONFIRM_SELECT_OK});
}
