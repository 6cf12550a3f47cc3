#include "client/render.h"

#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void render_colour(struct buf *out, struct style style, enum colour colour, const char *text) {
    static const char *const codes[] = {"", "2", "1", "32", "33", "31", "36"};
    if (style.colour && colour != COLOUR_PLAIN) buf_printf(out, "\033[%sm%s\033[0m", codes[colour], text);
    else buf_add_str(out, text);
}

void render_safe(struct buf *out, const char *text, bool lines) {
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        bool c1_control = c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0;
        if (c1_control) c++;
        if (lines && (*c == '\n' || *c == '\t')) buf_add_u8(out, *c);
        else if (!lines && *c == '\n') buf_add_str(out, " ⏎ ");
        else buf_add_u8(out, c1_control || *c < 0x20 || *c == 0x7f ? '?' : *c);
    }
}

// A text of several lines: what follows the first is set off, so that it cannot pass for another message.
static void render_lines(struct buf *out, const char *text) {
    for (const char *end; (end = strchr(text, '\n')) != NULL; text = end + 1) {
        char *line = strndup(text, (size_t)(end - text));
        if (!line) die("out of memory");
        render_safe(out, line, true);
        buf_add_str(out, "\n    | ");
        free(line);
    }
    render_safe(out, text, true);
}

static void render_name(struct buf *out, struct style style, const char *name) {
    struct buf safe;
    buf_init(&safe, 4096);
    render_safe(&safe, name, false);
    render_colour(out, style, COLOUR_BOLD, buf_cstr(&safe));
    buf_release(&safe);
}

void render_clock(struct buf *out, int64_t at_ms, bool millis) {
    time_t seconds = (time_t)(at_ms / 1000);
    struct tm local;
    char text[32] = "--:--:--";
    if (localtime_r(&seconds, &local)) strftime(text, sizeof text, "%H:%M:%S", &local);
    buf_add_str(out, text);
    if (millis) buf_printf(out, ".%03d", (int)(at_ms % 1000));
}

void render_bytes(struct buf *out, uint64_t bytes) {
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1000 && unit < sizeof units / sizeof *units - 1; unit++) value /= 1000;
    buf_printf(out, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

const char *short_id(const char *message_id) {
    size_t n = strlen(message_id);
    return message_id + (n > 8 ? n - 8 : 0);
}

static const struct {
    const char *name, *text;
    enum colour colour;
} ticks[] = {
    [TICK_SENDING] = {"sending", "… sending", COLOUR_DIM},
    [TICK_WAITING] = {"waiting", "… waiting", COLOUR_YELLOW},
    [TICK_SENT] = {"accepted", "✓ sent", COLOUR_GREEN},
    [TICK_DELIVERED] = {"delivered", "✓✓ delivered", COLOUR_GREEN},
    [TICK_READ] = {"read", "✓✓ read", COLOUR_BLUE},
    [TICK_REJECTED] = {"rejected", "✗ rejected", COLOUR_RED},
    [TICK_EXPIRED] = {"expired", "✗ expired", COLOUR_RED},
};

const char *tick_name(enum tick tick) { return ticks[tick].name; }

void render_tick(struct buf *out, struct style style, enum tick tick) {
    render_colour(out, style, ticks[tick].colour, ticks[tick].text);
}

enum tick tick_of(const struct out_message *m, uint32_t retry_ms) {
    if (m->state == OUT_ACCEPTED) return TICK_SENT;
    if (m->state == OUT_REJECTED) return TICK_REJECTED;
    return retry_ms > 0 ? TICK_WAITING : TICK_SENDING;
}

static void render_head(struct buf *out, struct style style, int64_t at, const char *message_id) {
    struct buf clock;
    buf_init(&clock, 64);
    render_clock(&clock, at, false);
    render_colour(out, style, COLOUR_DIM, buf_cstr(&clock));
    buf_add_str(out, "  ");
    render_colour(out, style, COLOUR_DIM, short_id(message_id));
    buf_add_str(out, "  ");
    buf_release(&clock);
}

static void render_media(struct buf *out, const char *media_type, const char *name, uint64_t bytes) {
    buf_add_str(out, "[");
    render_safe(out, media_type ? media_type : "media", false);
    buf_add_str(out, " ");
    render_safe(out, name ? name : "", false);
    if (bytes) {
        buf_add_str(out, ", ");
        render_bytes(out, bytes);
    }
    buf_add_str(out, "]");
}

void render_in_message(struct buf *out, struct style style, const struct in_message *m, const char *beside) {
    render_head(out, style, m->accepted_at, m->message_id);
    render_colour(out, style, COLOUR_BOLD, m->by_user_id);
    if (beside && *beside) {
        buf_add_str(out, " ");
        render_safe(out, beside, false);
    }
    buf_add_str(out, ": ");
    if (m->gone) render_colour(out, style, COLOUR_YELLOW, "(the content was deleted before it could be fetched)");
    else if (m->text) render_lines(out, m->text);
    else render_media(out, m->media_type, m->filename, m->bytes);
    if (m->media_path) {
        buf_add_str(out, " saved as ");
        render_safe(out, m->media_path, false);
    }
    buf_add_str(out, "\n");
}

void render_out_message(struct buf *out, struct style style, const struct out_message *m, const char *to,
                        enum tick tick, const char *reads) {
    render_head(out, style, m->created_at, m->message_id);
    buf_add_str(out, "→ ");
    render_name(out, style, to);
    buf_add_str(out, ": ");
    if (m->text) render_safe(out, m->text, false);
    else render_media(out, m->media_type, m->filename, 0);
    buf_add_str(out, "  ");
    render_tick(out, style, tick);
    if (m->error && (tick == TICK_REJECTED || tick == TICK_WAITING)) {
        buf_add_str(out, ": ");
        render_safe(out, m->error, false);
    }
    if (reads && *reads) {
        buf_add_str(out, ", ");
        render_safe(out, reads, false);
    }
    buf_add_str(out, "\n");
}
