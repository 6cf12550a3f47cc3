// The URL of a Kafka bus: kafka://HOST:PORT[,HOST:PORT…][?NAME=VALUE&…]
//
// Names of our own: create_topics=true, partitions=N, replication=N, source=TEXT. Every other name is one of
// librdkafka's settings (security.protocol, sasl.username, ssl.ca.location, compression.type, linger.ms, …). Those on
// which the promises of the bus rest are refused. Values are percent-encoded where they must be. The URL may hold a
// password: no error here repeats a value.
#include "bus/kafka.h"

#include "base/assert.h"
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEME    "kafka://"
#define NAME_MAX_ 128
#define VALUE_MAX 4096

static const char *const ours[] = {
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "group.id",
    "partition.assignment.strategy",
    "transactional.id",
    "bootstrap.servers",
    "metadata.broker.list",
    "enable.gapless.guarantee",
    "enable.partition.eof",
    "batch.num.messages",
    "auto.offset.reset",
};

// What every instance begins with; the URL may say otherwise.
static void defaults(rd_kafka_conf_t *conf) {
    kafka_conf_set(conf, "client.id", "barid", "socket.nagle.disable", "true", "socket.keepalive.enable", "true",
                   "log.connection.close", "false",
                   // Back within two seconds of the broker's return; a frozen one is noticed after ten.
                   "reconnect.backoff.ms", "50", "reconnect.backoff.max.ms", "2000", "socket.timeout.ms", "10000",
                   "request.timeout.ms", "10000", NULL);
    // Subscribing. A consumer that died is missed after six seconds; a new topic that a pattern wants is found in two.
    kafka_conf_set(conf, "session.timeout.ms", "6000", "heartbeat.interval.ms", "1500",
                   "topic.metadata.refresh.interval.ms", "2000", "fetch.error.backoff.ms", "100",
                   // Of each partition, since each has a queue of its own; and a fetch (fetch.message.max.bytes) more.
                   // librdkafka looks once a second whether a full queue has room again, so less would be slow.
                   "queued.max.messages.kbytes", "8192", NULL);
    // Publishing. A batch is what has gathered while the one before was under way, so waiting for more gains nothing
    // that is worth the wait. A record that is not confirmed in 30 seconds is answered as `away`: longer than an
    // election or a broker's restart takes, which librdkafka thus rides out by itself and in order; short enough that
    // whoever publishes learns of an outage, says so, and keeps its events where they are safe. It publishes them
    // again.
    kafka_conf_set(conf, "linger.ms", "0", "message.timeout.ms", "30000", "retry.backoff.ms", "100", "partitioner",
                   "murmur2_random", "queue.buffering.max.messages", "100000", "queue.buffering.max.kbytes", "131072",
                   NULL);
}

void kafka_conf_set(rd_kafka_conf_t *conf, ...) {
    va_list args;
    va_start(args, conf);
    for (const char *name; (name = va_arg(args, const char *));) {
        char why[256];
        const char *value = va_arg(args, const char *);
        if (rd_kafka_conf_set(conf, name, value, why, sizeof why)) die("%s", why);
    }
    va_end(args);
}

// Of what librdkafka logs, offsets that had to be given up are news to an operator; of brokers that come and go we tell
// ourselves, once.
static void on_log(const rd_kafka_t *rk, int severity, const char *facility, const char *text) {
    log_event(severity <= 2 || strcmp(facility, "OFFSET") == 0 ? LOG_WARN : LOG_DEBUG, "kafka_client", "facility",
              facility, "msg", text, NULL);
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool decode(const char *from, size_t length, char *out, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        char c = from[i];
        if (c == '%') {
            if (i + 2 >= length) return false;
            int high = hex_digit(from[i + 1]), low = hex_digit(from[i + 2]);
            if (high < 0 || low < 0 || high + low == 0) return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (n + 1 >= size) return false;
        out[n++] = c;
    }
    out[n] = 0;
    return true;
}

static bool is_ours(const char *name) {
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcmp(name, ours[i]) == 0) return true;
    return false;
}

static enum err number(const char *name, const char *value, int *out, struct error *e) {
    char *end;
    long n = strtol(value, &end, 10);
    if (end == value || *end || n < 1 || n > 10000)
        return error_field(e, "url", "%s is a number from 1 to 10000", name);
    *out = (int)n;
    return ERR_OK;
}

static enum err set(struct kafka_settings *s, const char *name, const char *value, struct error *e) {
    char why[256];
    if (strcmp(name, "create_topics") == 0) {
        s->create_topics = strcmp(value, "true") == 0;
        return s->create_topics || strcmp(value, "false") == 0
                   ? ERR_OK
                   : error_field(e, "url", "create_topics is true or false");
    }
    if (strcmp(name, "partitions") == 0) return number(name, value, &s->partitions, e);
    if (strcmp(name, "replication") == 0) return number(name, value, &s->replication, e);
    if (strcmp(name, "source") == 0) {
        int n = snprintf(s->source, sizeof s->source, "%s", value);
        return n < (int)sizeof s->source ? ERR_OK : error_field(e, "url", "source is longer than 255 bytes");
    }
    if (is_ours(name)) return error_field(e, "url", "the setting %s is not free: the bus depends on it", name);
    switch (rd_kafka_conf_set(s->conf, name, value, why, sizeof why)) {
    case RD_KAFKA_CONF_OK: return ERR_OK;
    case RD_KAFKA_CONF_UNKNOWN: return error_field(e, "url", "Kafka's client library has no setting %s", name);
    default: return error_field(e, "url", "the setting %s does not take this value", name);
    }
}

static enum err set_one(struct kafka_settings *s, const char *at, size_t length, struct error *e) {
    char name[NAME_MAX_], value[VALUE_MAX];
    const char *equals = memchr(at, '=', length);
    if (!equals || !decode(at, (size_t)(equals - at), name, sizeof name) ||
        !decode(equals + 1, length - (size_t)(equals + 1 - at), value, sizeof value))
        return error_field(e, "url", "a setting is NAME=VALUE, percent-encoded");
    return set(s, name, value, e);
}

static enum err read_url(struct kafka_settings *s, const char *url, struct error *e) {
    char servers[VALUE_MAX];
    const char *at = url + strlen(SCHEME);
    size_t length = strcspn(at, "?");
    size_t bare = length > 0 && at[length - 1] == '/' ? length - 1 : length;
    if (bare == 0 || memchr(at, '/', bare) || memchr(at, '@', bare) || !decode(at, bare, servers, sizeof servers))
        return error_field(e, "url", "kafka://HOST:PORT[,HOST:PORT…][?NAME=VALUE&…]");
    kafka_conf_set(s->conf, "bootstrap.servers", servers, NULL);
    for (at += length; *at; at += length) {
        length = strcspn(++at, "&");
        enum err code = length > 0 ? set_one(s, at, length, e) : ERR_OK;
        if (code) return code;
    }
    return ERR_OK;
}

enum err kafka_settings_init(struct kafka_settings *s, const char *url, struct error *e) {
    ASSERT(strncmp(url, SCHEME, strlen(SCHEME)) == 0);
    *s = (struct kafka_settings){.conf = rd_kafka_conf_new(), .partitions = -1, .replication = -1, .source = "barid"};
    defaults(s->conf);
    rd_kafka_conf_set_log_cb(s->conf, on_log);
    enum err code = read_url(s, url, e);
    if (code) kafka_settings_release(s);
    return code;
}

void kafka_settings_release(struct kafka_settings *s) { rd_kafka_conf_destroy(s->conf); }
