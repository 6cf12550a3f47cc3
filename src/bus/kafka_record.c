// What a record says: ours, or anybody's.
//
//   id    the header ce_id when it is a UUID. Another text there is unique within its ce_source (as CloudEvents
//         want it), and the id is made of the two. Without any it is made of topic, partition, offset and time: the
//         same record has the same id however often it comes, and a topic made anew has others.
//   key   as text. Bytes that are no text that a database takes (no UTF-8, or with a zero byte), and keys longer than
//         255 bytes, are given as "0x" and hexadecimal digits, and when that is too long, as a hash of them, so that
//         different keys stay different.
//   time  the broker's, or the producer's, as the topic is set
#include "bus/kafka_group.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

#define HEX_KEY_MAX ((KAFKA_KEY_MAX - 2) / 2)

bool kafka_record_key(const rd_kafka_message_t *m, char out[static KAFKA_KEY_MAX + 1]) {
    out[0] = 0;
    if (!m->key || m->key_len == 0) return false;
    if (m->key_len <= KAFKA_KEY_MAX && !memchr(m->key, 0, m->key_len) && utf8_valid(m->key, m->key_len)) {
        memcpy(out, m->key, m->key_len);
        out[m->key_len] = 0;
        return true;
    }
    if (m->key_len <= HEX_KEY_MAX) {
        memcpy(out, "0x", 2);
        for (size_t i = 0; i < m->key_len; i++) snprintf(out + 2 + 2 * i, 3, "%02x", ((const uint8_t *)m->key)[i]);
        return true;
    }
    char hash[ID_TEXT];
    struct id id = id_of_name(m->key, m->key_len);
    id_format(&id, hash);
    snprintf(out, KAFKA_KEY_MAX + 1, "hash:%s", hash);
    return true;
}

static const char *header(const struct bus_event *event, const char *name) {
    for (size_t i = 0; i < event->header_count; i++)
        if (strcmp(event->headers[i].name, name) == 0) return event->headers[i].value;
    return NULL;
}

static struct id id_of(const struct bus_event *event, const rd_kafka_message_t *m) {
    struct id id;
    char name[2048];
    const char *text = header(event, "ce_id"), *source = header(event, "ce_source");
    if (text && id_parse(text, strlen(text), &id)) return id;
    int n = text && text[0] ? snprintf(name, sizeof name, "event\n%s\n%s", source ? source : "", text)
                            : snprintf(name, sizeof name, "record\n%s\n%d\n%lld\n%lld", event->topic, (int)m->partition,
                                       (long long)m->offset, (long long)rd_kafka_message_timestamp(m, NULL));
    return id_of_name(name, n < (int)sizeof name ? (size_t)n : sizeof name - 1);
}

// librdkafka ends a header's value with a zero byte that is not counted; one with a zero inside is cut there. More
// headers than the bound, and those whose value is no text, are left out.
static void read_headers(struct kafka_record *out, const rd_kafka_message_t *m) {
    rd_kafka_headers_t *headers;
    const char *name;
    const void *value;
    size_t size, n = 0;
    if (!rd_kafka_message_headers(m, &headers)) {
        for (size_t i = 0; n < KAFKA_HEADERS_MAX && !rd_kafka_header_get_all(headers, i, &name, &value, &size); i++)
            if (value && utf8_valid(value, size) && utf8_valid(name, strlen(name)))
                out->headers[n++] = (struct bus_header){.name = name, .value = value};
    }
    out->event.headers = out->headers;
    out->event.header_count = n;
}

size_t kafka_record_bytes(const rd_kafka_message_t *m) {
    rd_kafka_headers_t *headers;
    const char *name;
    const void *value;
    size_t size, n = m->len + m->key_len;
    if (rd_kafka_message_headers(m, &headers)) return n;
    for (size_t i = 0; !rd_kafka_header_get_all(headers, i, &name, &value, &size); i++) n += strlen(name) + size;
    return n;
}

void kafka_record_read(struct kafka_record *out, const rd_kafka_message_t *m) {
    out->event =
        (struct bus_event){.topic = rd_kafka_topic_name(m->rkt), .payload = m->payload, .payload_length = m->len};
    out->event.key = kafka_record_key(m, out->key) ? out->key : NULL;
    read_headers(out, m);
    out->event.event_id = id_of(&out->event, m);
}
