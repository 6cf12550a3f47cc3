// How the client shows things on a terminal: colours, ticks, times, and texts of others made harmless.
#ifndef BARID_CLIENT_RENDER_H
#define BARID_CLIENT_RENDER_H

#include "base/buf.h"
#include "client/store_inbox.h"
#include "client/store_outbox.h"

#include <stdbool.h>

enum colour { COLOUR_PLAIN, COLOUR_DIM, COLOUR_BOLD, COLOUR_GREEN, COLOUR_YELLOW, COLOUR_RED, COLOUR_BLUE };

struct style {
    bool colour;
};

void render_colour(struct buf *out, struct style style, enum colour colour, const char *text);
// Text of someone else: control characters, which could move the cursor or worse, become '?'. `lines`: newlines and
// tabs stay.
void render_safe(struct buf *out, const char *text, bool lines);
void render_clock(struct buf *out, int64_t at_ms, bool millis); // local time of day
void render_bytes(struct buf *out, uint64_t bytes);             // "12.3 MB"
const char *short_id(const char *message_id);                   // the last 8 characters

// "✓✓ read": the tick of a message of our own. `retry_ms` > 0: it waits for its next try.
enum tick { TICK_SENDING, TICK_WAITING, TICK_SENT, TICK_DELIVERED, TICK_READ, TICK_REJECTED, TICK_EXPIRED };
void render_tick(struct buf *out, struct style style, enum tick tick);
enum tick tick_of(const struct out_message *m, uint32_t retry_ms);
const char *tick_name(enum tick tick); // "sending", "waiting", "accepted", "delivered", "read", …

// One line each, ended by a newline. `beside`: after the sender's name; `reads`: after the tick. Both may be NULL.
void render_in_message(struct buf *out, struct style style, const struct in_message *m, const char *beside);
void render_out_message(struct buf *out, struct style style, const struct out_message *m, const char *to,
                        enum tick tick, const char *reads);

#endif
