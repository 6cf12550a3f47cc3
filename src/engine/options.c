// What is declared again must be as it was. The texts are RabbitMQ's: they name the first argument that differs.
#include "engine/internal.h"

#include <stdio.h>

struct subject {
    const char *kind, *name, *vhost;
    struct error *err;
    bool differs;
};

static void differ(struct subject *s, const char *arg, const char *received, const char *current) {
    if (s->differs) return;
    s->differs = true;
    error_set(s->err, ERR_CONFLICT, "inequivalent arg '%s' for %s '%s' in vhost '%s': received %s but current is %s",
              arg, s->kind, s->name, s->vhost, received, current);
}

static void same_flag(struct subject *s, const char *arg, bool received, bool current) {
    if (received != current) differ(s, arg, received ? "'true'" : "'false'", current ? "'true'" : "'false'");
}

static void same_word(struct subject *s, const char *arg, const char *received, const char *current) {
    char a[64], b[64];
    if (strcmp(received, current) == 0) return;
    snprintf(a, sizeof a, "'%s'", received);
    snprintf(b, sizeof b, "'%s'", current);
    differ(s, arg, a, b);
}

static const char *number_text(char *out, size_t size, bool there, uint64_t v) {
    if (!there) return "none";
    snprintf(out, size, "the value '%llu' of type 'long'", (unsigned long long)v);
    return out;
}

static void same_optional(struct subject *s, const char *arg, bool has, uint64_t received, bool had, uint64_t current) {
    char a[64], b[64];
    if (has == had && (!has || received == current)) return;
    differ(s, arg, number_text(a, sizeof a, has, received), number_text(b, sizeof b, had, current));
}

static void same_number(struct subject *s, const char *arg, uint64_t received, uint64_t current) {
    same_optional(s, arg, received != 0, received, current != 0, current);
}

static const char *text_text(char *out, size_t size, const char *v) {
    if (!v) return "none";
    snprintf(out, size, "the value '%.150s' of type 'longstr'", v);
    return out;
}

static void same_text(struct subject *s, const char *arg, const char *received, const char *current) {
    char a[192], b[192];
    if (received && current ? strcmp(received, current) == 0 : received == current) return;
    differ(s, arg, text_text(a, sizeof a, received), text_text(b, sizeof b, current));
}

static const char *const type_names[] = {"direct", "fanout", "topic", "headers", "x-consistent-hash"};

static const char *type_name(const struct exchange_options *o) {
    return o->delayed ? "x-delayed-message" : o->dedupe_size ? "x-message-deduplication" : type_names[o->type];
}

enum err exchange_options_same(const struct exchange *x, const struct exchange_options *o, struct error *err) {
    const struct exchange_options *is = &x->options;
    struct subject s = {.kind = "exchange", .name = x->name, .vhost = x->vhost->name, .err = err};
    same_word(&s, "type", type_name(o), type_name(is));
    same_flag(&s, "durable", o->durable, is->durable);
    same_flag(&s, "auto_delete", o->auto_delete, is->auto_delete);
    same_flag(&s, "internal", o->internal, is->internal);
    same_text(&s, o->delayed ? "x-delayed-type" : "x-exchange-type", type_names[o->type], type_names[is->type]);
    same_text(&s, "alternate-exchange", o->alternate, is->alternate);
    same_text(&s, "hash-header", o->hash_header, is->hash_header);
    same_text(&s, "hash-property", o->hash_property, is->hash_property);
    same_number(&s, "x-cache-size", o->dedupe_size, is->dedupe_size);
    same_number(&s, "x-cache-ttl", o->dedupe_ttl_ms, is->dedupe_ttl_ms);
    return s.differs ? ERR_CONFLICT : ERR_OK;
}

static void same_retry(struct subject *s, const struct queue_options *o, const struct queue_options *is) {
    char a[48], b[48];
    // The argument says how often a message may be given back, the option how often it may be tried.
    same_optional(s, "x-delivery-limit", o->delivery_limit > 0, o->delivery_limit - 1u, is->delivery_limit > 0,
                  is->delivery_limit - 1u);
    same_number(s, "x-retry-delay", o->retry_delay_ms, is->retry_delay_ms);
    same_number(s, "x-retry-max-delay", o->retry_max_delay_ms, is->retry_max_delay_ms);
    if (o->retry_multiplier != is->retry_multiplier) {
        snprintf(a, sizeof a, "'%g'", o->retry_multiplier);
        snprintf(b, sizeof b, "'%g'", is->retry_multiplier);
        differ(s, "x-retry-multiplier", a, b);
    }
    same_number(s, "x-deduplication-window", o->dedupe_window_ms, is->dedupe_window_ms);
    same_flag(s, "x-message-deduplication", o->dedupe_present, is->dedupe_present);
    same_flag(s, "x-park", o->park, is->park);
}

enum err queue_options_same(const struct queue *q, const struct queue_options *o, struct error *err) {
    static const char *const overflows[] = {"drop-head", "reject-publish", "reject-publish-dlx"};
    static const char *const types[] = {"classic", "quorum"};
    const struct queue_options *is = &q->options;
    struct subject s = {.kind = "queue", .name = q->name, .vhost = q->vhost->name, .err = err};
    if (is->owner && is->owner != o->owner)
        return error_set(err, ERR_LOCKED, "cannot obtain exclusive access to locked queue '%s' in vhost '%s'", q->name,
                         q->vhost->name);
    same_flag(&s, "durable", o->durable, is->durable);
    same_flag(&s, "auto_delete", o->auto_delete, is->auto_delete);
    same_flag(&s, "exclusive", o->owner != NULL, is->owner != NULL);
    same_text(&s, "x-queue-type", types[o->type], types[is->type]);
    same_number(&s, "x-expires", queue_time(o->expires_ms), is->expires_ms);
    same_optional(&s, "x-message-ttl", o->has_message_ttl, queue_time(o->message_ttl_ms), is->has_message_ttl,
                  is->message_ttl_ms);
    same_text(&s, "x-dead-letter-exchange", o->dead_letter_exchange, is->dead_letter_exchange);
    same_text(&s, "x-dead-letter-routing-key", o->dead_letter_routing_key, is->dead_letter_routing_key);
    same_optional(&s, "x-max-length", o->has_max_length, o->max_length, is->has_max_length, is->max_length);
    same_optional(&s, "x-max-length-bytes", o->has_max_length_bytes, o->max_length_bytes, is->has_max_length_bytes,
                  is->max_length_bytes);
    same_number(&s, "x-max-priority", o->max_priority, is->max_priority);
    same_text(&s, "x-overflow", overflows[o->overflow], overflows[is->overflow]);
    same_flag(&s, "x-single-active-consumer", o->single_active_consumer, is->single_active_consumer);
    same_retry(&s, o, is);
    return s.differs ? ERR_CONFLICT : ERR_OK;
}
