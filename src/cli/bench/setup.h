// What every benchmark of the messaging service needs first: a server (its own, or one that runs), users,
// sessions, conversations; and what the server says of its own CPU and memory.
#ifndef BARID_CLI_BENCH_SETUP_H
#define BARID_CLI_BENCH_SETUP_H

#include "base/id.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct bench_server {
    char url[128]; // "http://127.0.0.1:8080"
    char host[64]; // "127.0.0.1:8080"
    char amqp[96]; // "amqp://127.0.0.1:5672", of the server we started
    struct sockaddr_in address;
    pid_t pid;      // of the server we started; 0 when it was there before
    char data[256]; // its temporary data directory
};

// url NULL: starts `barid serve` of this very binary on a free port over a new directory below `dir`. Dies on failure.
void bench_server_start(struct bench_server *s, const char *url, const char *dir);
void bench_server_stop(struct bench_server *s);

struct bench_user {
    char user_id[NAME_MAX_LENGTH + 1];
    char token[65];
};
// Makes the user and its session. Dies on failure.
void bench_user_add(const struct bench_server *s, const char *user_id, struct bench_user *out);
void bench_conversation_add(const struct bench_server *s, const struct bench_user *who, const char *with,
                            char out[static NAME_MAX_LENGTH + 1]);

struct bench_usage {
    double cpu_seconds;
    uint64_t resident_bytes;
};
// From the server's /metrics (process_cpu_seconds_total, process_resident_memory_bytes).
struct bench_usage bench_usage(const struct bench_server *s);

#endif
