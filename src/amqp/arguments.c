#include "amqp/arguments.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TEN_YEARS_MS INT64_C(315360000000)

// What an argument belongs to, for the texts.
struct reading {
    struct view table;
    const char *what; // "queue" or "exchange"
    const char *name, *vhost;
    struct error *e;
};

static const char *type_name(enum field_type type) {
    switch (type) {
    case FIELD_BOOL: return "bool";
    case FIELD_I8: return "byte";
    case FIELD_U8: return "unsignedbyte";
    case FIELD_I16: return "short";
    case FIELD_U16: return "unsignedshort";
    case FIELD_I32: return "signedint";
    case FIELD_U32: return "unsignedint";
    case FIELD_I64: return "long";
    case FIELD_FLOAT: return "float";
    case FIELD_DOUBLE: return "double";
    case FIELD_DECIMAL: return "decimal";
    case FIELD_STRING: return "longstr";
    case FIELD_BYTES: return "binary";
    case FIELD_ARRAY: return "array";
    case FIELD_TIMESTAMP: return "timestamp";
    case FIELD_TABLE: return "table";
    case FIELD_VOID: return "void";
    }
    return "unknown";
}

static enum err invalid(const struct reading *r, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static enum err invalid(const struct reading *r, const char *key, const char *format, ...) {
    char why[160];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    return error_set(r->e, ERR_INVALID, "invalid arg '%s' for %s '%.255s' in vhost '%.255s': %s", key, r->what, r->name,
                     r->vhost, why);
}

// ---- readers of one argument each. *there: it was given. The value is untouched when it was not.

static enum err read_integer(const struct reading *r, const char *key, int64_t *value, bool *there) {
    struct field f;
    *there = table_find(r->table, key, &f);
    if (!*there || field_integer(&f, value)) return ERR_OK;
    return invalid(r, key, "\"expected integer, got %s\"", type_name(f.type));
}

static enum err read_unsigned(const struct reading *r, const char *key, int64_t max, uint64_t *value, bool *there) {
    int64_t integer = 0;
    bool given;
    enum err err = read_integer(r, key, &integer, &given);
    if (there != NULL) *there = given;
    if (err != ERR_OK || !given) return err;
    if (integer < 0) return invalid(r, key, "{value_negative,%" PRId64 "}", integer);
    if (integer > max) return invalid(r, key, "{value_too_large,%" PRId64 "}", integer);
    *value = (uint64_t)integer;
    return ERR_OK;
}

static enum err read_bool(const struct reading *r, const char *key, bool *value) {
    struct field f;
    if (!table_find(r->table, key, &f)) return ERR_OK;
    if (f.type != FIELD_BOOL) return invalid(r, key, "{unacceptable_type,%s}", type_name(f.type));
    *value = f.integer != 0;
    return ERR_OK;
}

static enum err read_text(const struct reading *r, const char *key, char text[static NAME_SIZE], const char **value) {
    struct field f;
    if (!table_find(r->table, key, &f)) return ERR_OK;
    if (f.type != FIELD_STRING) return invalid(r, key, "{unacceptable_type,%s}", type_name(f.type));
    if (!name_copy(text, f.bytes)) return invalid(r, key, "longer than 255 bytes, or with a zero byte");
    *value = text;
    return ERR_OK;
}

static enum err read_name(const struct reading *r, const char *key, char text[static NAME_SIZE], const char **value) {
    struct field f;
    if (table_find(r->table, key, &f) && f.type != FIELD_STRING)
        return error_set(r->e, ERR_INVALID, "invalid type '%s' for arg '%s' in %s '%.255s' in vhost '%.255s'",
                         type_name(f.type), key, r->what, r->name, r->vhost);
    return read_text(r, key, text, value);
}

static enum err read_number(const struct reading *r, const char *key, double *value) {
    struct field f;
    int64_t integer;
    if (!table_find(r->table, key, &f)) return ERR_OK;
    if (f.type == FIELD_FLOAT || f.type == FIELD_DOUBLE) *value = f.real;
    else if (field_integer(&f, &integer)) *value = (double)integer;
    else return invalid(r, key, "\"expected a number, got %s\"", type_name(f.type));
    if (!(*value >= 1 && *value <= 1000)) return invalid(r, key, "expected a number from 1 to 1000");
    return ERR_OK;
}

// ---- queues

static enum err read_queue_type(const struct reading *r, struct queue_options *o) {
    struct field f;
    if (!table_find(r->table, "x-queue-type", &f)) return ERR_OK;
    if (f.type != FIELD_STRING) return invalid(r, "x-queue-type", "{unacceptable_type,%s}", type_name(f.type));
    if (view_is(f.bytes, "classic")) o->type = QUEUE_CLASSIC;
    else if (view_is(f.bytes, "quorum")) o->type = QUEUE_QUORUM;
    else if (view_is(f.bytes, "stream"))
        return invalid(r, "x-queue-type", "\"streams are not supported here, declare a classic or quorum queue\"");
    else
        return invalid(r, "x-queue-type", "\"unsupported queue type '%.*s'\"",
                       (int)(f.bytes.length > 64 ? 64 : f.bytes.length), (const char *)f.bytes.data);
    return ERR_OK;
}

static enum err read_times(const struct reading *r, struct queue_options *o) {
    uint64_t expires = 0, retry_delay = 0, retry_max = 0, window = 0;
    bool there;
    enum err err = read_unsigned(r, "x-expires", TEN_YEARS_MS, &expires, &there);
    if (err == ERR_OK && there && expires == 0) err = invalid(r, "x-expires", "{value_zero,0}");
    if (err == ERR_OK) err = read_unsigned(r, "x-message-ttl", TEN_YEARS_MS, &o->message_ttl_ms, &o->has_message_ttl);
    if (err == ERR_OK) err = read_unsigned(r, "x-retry-delay", UINT32_MAX, &retry_delay, NULL);
    if (err == ERR_OK) err = read_unsigned(r, "x-retry-max-delay", UINT32_MAX, &retry_max, NULL);
    if (err == ERR_OK) err = read_number(r, "x-retry-multiplier", &o->retry_multiplier);
    if (err == ERR_OK) err = read_unsigned(r, "x-deduplication-window", UINT32_MAX, &window, NULL);
    o->expires_ms = expires;
    o->retry_delay_ms = (uint32_t)retry_delay;
    o->retry_max_delay_ms = (uint32_t)retry_max;
    o->dedupe_window_ms = (uint32_t)window;
    return err;
}

static enum err read_overflow(const struct reading *r, struct queue_options *o) {
    struct field f;
    if (!table_find(r->table, "x-overflow", &f)) return ERR_OK;
    if (f.type != FIELD_STRING) return invalid(r, "x-overflow", "{unacceptable_type,%s}", type_name(f.type));
    if (view_is(f.bytes, "drop-head")) o->overflow = OVERFLOW_DROP_HEAD;
    else if (view_is(f.bytes, "reject-publish")) o->overflow = OVERFLOW_REJECT_PUBLISH;
    else if (view_is(f.bytes, "reject-publish-dlx")) o->overflow = OVERFLOW_REJECT_PUBLISH_DLX;
    else return invalid(r, "x-overflow", "invalid_overflow");
    return ERR_OK;
}

// How often a message may be given back, as in RabbitMQ: it is delivered once more than that. -1: without a limit.
static enum err read_delivery_limit(const struct reading *r, struct queue_options *o) {
    int64_t limit = 0;
    bool there;
    enum err err = read_integer(r, "x-delivery-limit", &limit, &there);
    if (err != ERR_OK) return err;
    if (limit < -1) return invalid(r, "x-delivery-limit", "{value_negative,%" PRId64 "}", limit);
    if (limit >= UINT32_MAX) return invalid(r, "x-delivery-limit", "{value_too_large,%" PRId64 "}", limit);
    o->delivery_limit = there ? (uint32_t)(limit + 1) : 0;
    return ERR_OK;
}

static enum err read_lengths(const struct reading *r, struct queue_options *o) {
    uint64_t priority = 0;
    bool there;
    enum err err = read_unsigned(r, "x-max-priority", INT64_MAX, &priority, &there);
    if (err == ERR_OK && priority > 255)
        err = invalid(r, "x-max-priority", "{max_value_exceeded,%" PRIu64 "}", priority);
    if (err == ERR_OK) err = read_unsigned(r, "x-max-length", INT64_MAX, &o->max_length, &o->has_max_length);
    if (err == ERR_OK)
        err = read_unsigned(r, "x-max-length-bytes", INT64_MAX, &o->max_length_bytes, &o->has_max_length_bytes);
    if (err == ERR_OK) err = read_overflow(r, o);
    if (err == ERR_OK) err = read_delivery_limit(r, o);
    o->max_priority = (uint8_t)priority;
    return err;
}

static enum err read_dead_letters(const struct reading *r, struct queue_arguments *out) {
    struct queue_options *o = &out->options;
    enum err err = read_name(r, "x-dead-letter-exchange", out->dead_letter_exchange, &o->dead_letter_exchange);
    if (err == ERR_OK)
        err = read_text(r, "x-dead-letter-routing-key", out->dead_letter_routing_key, &o->dead_letter_routing_key);
    if (err == ERR_OK && o->dead_letter_routing_key != NULL && o->dead_letter_exchange == NULL)
        err = invalid(r, "x-dead-letter-routing-key", "routing_key_but_no_dlx_defined");
    return err;
}

enum err queue_arguments(struct queue_arguments *out, struct view arguments, const char *queue, const char *vhost,
                         struct error *e) {
    struct reading r = {.table = arguments, .what = "queue", .name = queue, .vhost = vhost, .e = e};
    struct queue_options *o = &out->options;
    *o = (struct queue_options){.arguments = arguments};
    enum err err = read_queue_type(&r, o);
    if (err == ERR_OK) err = read_times(&r, o);
    if (err == ERR_OK) err = read_lengths(&r, o);
    if (err == ERR_OK) err = read_dead_letters(&r, out);
    if (err == ERR_OK) err = read_bool(&r, "x-single-active-consumer", &o->single_active_consumer);
    if (err == ERR_OK) err = read_bool(&r, "x-message-deduplication", &o->dedupe_present);
    if (err == ERR_OK) err = read_bool(&r, "x-park", &o->park);
    return err;
}

// ---- exchanges

static bool plain_type(struct view name, enum exchange_type *out) {
    static const struct {
        const char *name;
        enum exchange_type type;
    } types[] = {
        {"direct", EXCHANGE_DIRECT},   {"fanout", EXCHANGE_FANOUT},
        {"topic", EXCHANGE_TOPIC},     {"x-consistent-hash", EXCHANGE_CONSISTENT_HASH},
        {"headers", EXCHANGE_HEADERS},
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (view_is(name, types[i].name)) {
            *out = types[i].type;
            return true;
        }
    return false;
}

static enum err unknown_type(struct error *e, struct view type) {
    return error_set(e, ERR_INVALID, "unknown exchange type '%.*s'", (int)(type.length > 128 ? 128 : type.length),
                     (const char *)type.data);
}

static enum err read_delayed(const struct reading *r, struct exchange_options *o) {
    struct field f;
    if (!table_find(r->table, "x-delayed-type", &f) || f.type != FIELD_STRING)
        return error_set(r->e, ERR_INVALID, "Invalid argument, 'x-delayed-type' must be an existing exchange type");
    if (view_is(f.bytes, "x-delayed-message"))
        return error_set(r->e, ERR_INVALID, "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'");
    o->delayed = true;
    return plain_type(f.bytes, &o->type) ? ERR_OK : unknown_type(r->e, f.bytes);
}

// The plugin takes numbers as strings too.
static bool lenient_integer(const struct field *f, int64_t *out) {
    if (f->type != FIELD_STRING) return field_integer(f, out);
    if (f->bytes.length == 0 || f->bytes.length > 18) return false;
    *out = 0;
    for (uint32_t i = 0; i < f->bytes.length; i++) {
        if (f->bytes.data[i] < '0' || f->bytes.data[i] > '9') return false;
        *out = *out * 10 + (f->bytes.data[i] - '0');
    }
    return true;
}

static enum err read_deduplicating(const struct reading *r, struct exchange_options *o) {
    struct field f;
    int64_t size, ttl = 0;
    if (!table_find(r->table, "x-cache-size", &f) || !lenient_integer(&f, &size) || size < 1 || size > UINT32_MAX)
        return error_set(r->e, ERR_INVALID,
                         "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0");
    if (table_find(r->table, "x-cache-ttl", &f) && (!lenient_integer(&f, &ttl) || ttl < 1 || ttl > TEN_YEARS_MS))
        return error_set(r->e, ERR_INVALID, "Invalid argument, 'x-cache-ttl' must be an integer greater than 0");
    o->type = EXCHANGE_FANOUT;
    o->dedupe_size = (uint32_t)size;
    o->dedupe_ttl_ms = (uint64_t)ttl;
    return ERR_OK;
}

static enum err read_hash(const struct reading *r, struct exchange_arguments *out) {
    struct exchange_options *o = &out->options;
    enum err err = read_text(r, "hash-header", out->hash_header, &o->hash_header);
    if (err == ERR_OK) err = read_text(r, "hash-property", out->hash_property, &o->hash_property);
    if (err != ERR_OK || o->hash_property == NULL) return err;
    if (o->hash_header != NULL)
        return error_set(r->e, ERR_INVALID, "hash-header and hash-property are mutually exclusive");
    if (strcmp(o->hash_property, "message_id") != 0 && strcmp(o->hash_property, "correlation_id") != 0 &&
        strcmp(o->hash_property, "timestamp") != 0)
        return error_set(r->e, ERR_INVALID, "Unsupported property: %.100s", o->hash_property);
    return ERR_OK;
}

enum err exchange_arguments(struct exchange_arguments *out, struct view type, struct view arguments,
                            const char *exchange, const char *vhost, struct error *e) {
    struct reading r = {.table = arguments, .what = "exchange", .name = exchange, .vhost = vhost, .e = e};
    struct exchange_options *o = &out->options;
    *o = (struct exchange_options){.arguments = arguments};
    enum err err = ERR_OK;
    if (view_is(type, "x-delayed-message")) err = read_delayed(&r, o);
    else if (view_is(type, "x-message-deduplication")) err = read_deduplicating(&r, o);
    else if (!plain_type(type, &o->type)) err = unknown_type(e, type);
    if (err == ERR_OK && o->type == EXCHANGE_CONSISTENT_HASH) err = read_hash(&r, out);
    if (err == ERR_OK) err = read_name(&r, "alternate-exchange", out->alternate, &o->alternate);
    return err;
}

// ---- consumers and bindings

enum err consume_arguments(int32_t *priority, struct view arguments, const char *queue, const char *vhost,
                           struct error *e) {
    struct reading r = {.table = arguments, .what = "queue", .name = queue, .vhost = vhost, .e = e};
    int64_t value = 0;
    bool there;
    enum err err = read_integer(&r, "x-priority", &value, &there);
    if (err != ERR_OK) return err;
    *priority = value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : (int32_t)value;
    return ERR_OK;
}

static enum err check_match(struct view arguments, struct error *e) {
    struct field f;
    if (!table_find(arguments, "x-match", &f)) return ERR_OK;
    if (f.type != FIELD_STRING)
        return error_set(e, ERR_INVALID, "Invalid x-match field type %s; expected longstr", type_name(f.type));
    if (view_is(f.bytes, "all") || view_is(f.bytes, "any") || view_is(f.bytes, "all-with-x") ||
        view_is(f.bytes, "any-with-x"))
        return ERR_OK;
    return error_set(e, ERR_INVALID,
                     "Invalid x-match field value <<\"%.*s\">>; expected all, any, all-with-x, or any-with-x",
                     (int)(f.bytes.length > 100 ? 100 : f.bytes.length), (const char *)f.bytes.data);
}

static enum err check_weight(const char *key, struct error *e) {
    size_t digits = strspn(key, "0123456789");
    if (digits == 0 || key[digits] != '\0')
        return error_set(e, ERR_INVALID, "The binding key must be an integer: \"%.100s\"", key);
    if (strspn(key, "0") == digits) return error_set(e, ERR_INVALID, "The binding key must be greater than 0");
    return ERR_OK;
}

enum err binding_arguments(const struct exchange_options *exchange, const char *key, struct view arguments,
                           struct error *e) {
    if (exchange->type == EXCHANGE_HEADERS) return check_match(arguments, e);
    if (exchange->type == EXCHANGE_CONSISTENT_HASH) return check_weight(key, e);
    return ERR_OK;
}
