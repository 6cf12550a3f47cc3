// The JSON writer of json_out.h.
#include "http/json_out.h"

#include "base/hex.h"
#include "base/time.h"

#include <string.h>

static void comma(struct buf *b) {
    if (b->len == 0) return;
    uint8_t last = b->data[b->len - 1];
    if (last != '{' && last != '[' && last != ':') buf_add_u8(b, ',');
}

static void begin(struct buf *b, const char *key) {
    comma(b);
    if (key == NULL) return;
    buf_add_u8(b, '"');
    buf_add_str(b, key);
    buf_add(b, "\":", 2);
}

void json_open(struct buf *b, const char *key, char bracket) {
    begin(b, key);
    buf_add_u8(b, (uint8_t)bracket);
}

void json_close(struct buf *b, char bracket) { buf_add_u8(b, (uint8_t)bracket); }

static void escape(struct buf *b, unsigned char c) {
    static const char digits[] = "0123456789abcdef";
    switch (c) {
    case '"': buf_add(b, "\\\"", 2); return;
    case '\\': buf_add(b, "\\\\", 2); return;
    case '\n': buf_add(b, "\\n", 2); return;
    case '\r': buf_add(b, "\\r", 2); return;
    case '\t': buf_add(b, "\\t", 2); return;
    }
    char out[6] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};
    buf_add(b, out, sizeof out);
}

void json_text_n(struct buf *b, const char *key, const char *text, size_t n) {
    begin(b, key);
    buf_add_u8(b, '"');
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        buf_add(b, text + from, i - from);
        escape(b, c);
        from = i + 1;
    }
    buf_add(b, text + from, n - from);
    buf_add_u8(b, '"');
}

void json_text(struct buf *b, const char *key, const char *text) { json_text_n(b, key, text, strlen(text)); }

void json_text_opt(struct buf *b, const char *key, const char *text) {
    if (text != NULL) json_text(b, key, text);
}

void json_uint(struct buf *b, const char *key, uint64_t v) {
    begin(b, key);
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v != 0);
    buf_add(b, digits + at, sizeof digits - at);
}

void json_flag(struct buf *b, const char *key, bool v) { json_raw(b, key, v ? "true" : "false"); }

// The plain ones need no escaping: what is written is ours.
static void plain(struct buf *b, const char *key, const char *text, size_t n) {
    begin(b, key);
    buf_add_u8(b, '"');
    buf_add(b, text, n);
    buf_add_u8(b, '"');
}

void json_time(struct buf *b, const char *key, int64_t ms) {
    char text[TIME_TEXT];
    time_format_ms(ms, text);
    plain(b, key, text, TIME_TEXT - 1);
}

void json_id(struct buf *b, const char *key, const struct id *id) {
    char text[ID_TEXT];
    id_format(id, text);
    plain(b, key, text, ID_TEXT - 1);
}

void json_hex(struct buf *b, const char *key, const uint8_t *data, size_t n) {
    begin(b, key);
    buf_add_u8(b, '"');
    for (size_t i = 0; i < n; i++) {
        char two[3];
        hex_encode(data + i, 1, two);
        buf_add(b, two, 2);
    }
    buf_add_u8(b, '"');
}

void json_raw(struct buf *b, const char *key, const char *json) {
    begin(b, key);
    buf_add_str(b, json);
}
