// AMQP's topic patterns in Kafka's terms: words between dots, * is one word, # any number of words, and a * in a longer
// word any letters of it. Without any of them it is the name of one topic; otherwise librdkafka wants "^REGEX".
#include "bus/kafka_group.h"

#include "base/buf.h"

#include <string.h>

static bool legal(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

static bool word(struct buf *b, const char *at, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (at[i] == '*') buf_add_str(b, "[^.]*");
        else if (legal(at[i])) buf_add_u8(b, (uint8_t)at[i]);
        else return false;
    }
    return true;
}

// `first`: nothing that needs a dot before the next word has been written.
static bool words(struct buf *b, const char *at) {
    for (bool first = true;;) {
        size_t n = strcspn(at, ".");
        bool last = at[n] == 0, any = n == 1 && at[0] == '#';
        if (any && first && last) buf_add_str(b, ".*");
        else if (any) buf_add_str(b, first ? "([^.]*[.])*" : "([.][^.]*)*");
        else {
            if (!first) buf_add_str(b, "[.]");
            if (!word(b, at, n)) return false;
            first = false;
        }
        if (last) return true;
        at += n + 1;
    }
}

bool kafka_pattern(const char *pattern, char *out, size_t size) {
    struct buf b;
    buf_init(&b, size - 1);
    bool plain = !strpbrk(pattern, "*#"), ok = pattern[0] != 0;
    if (plain) {
        for (const char *at = pattern; *at; at++) ok = ok && (legal(*at) || *at == '.');
        buf_add_str(&b, pattern);
        ok = ok && b.len < KAFKA_TOPIC_MAX;
    } else {
        buf_add_str(&b, "^");
        ok = ok && words(&b, pattern);
        buf_add_str(&b, "$");
    }
    ok = ok && buf_ok(&b);
    if (ok) memcpy(out, b.data, b.len);
    out[ok ? b.len : 0] = 0;
    buf_release(&b);
    return ok;
}
