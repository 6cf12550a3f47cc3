// barid parked: the events that gave up after their attempts; look at them, send them on again, drop them. With --queue
// it is about a queue of the broker: parked_queue.c; with --bus about what Kafka keeps: parked_bus.c.
//
// Works on the database itself, also while others run on it. A server on a data directory finds an event that was sent
// on again at its next safety check, at most 30 seconds later, or when it starts; on PostgreSQL a notice tells at once.
#include "base/id.h"
#include "base/loop.h"
#include "base/time.h"
#include "cli/cli.h"
#include "cli/parked_help.h"
#include "cli/waited_unit.h"
#include "database/database.h"
#include "outbox/outbox.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum action { ACTION_LIST, ACTION_SHOW, ACTION_RETRY, ACTION_DROP };

struct parked {
    struct waited_unit unit; // first
    struct loop *loop;
    const char *data, *database; // the latter: PostgreSQL
    struct outbox_parked_choice choice;
    bool json;
    enum action action;
    int64_t *numbers;
    size_t count;
    bool found; // show
    uint64_t listed;
};

static bool wanted(const struct parked *p, int64_t number) {
    return p->action == ACTION_LIST || (p->count && p->numbers[0] == number);
}

static void print_json(const struct parked *p, const struct outbox_parked *e, const char *id, const char *stored,
                       const char *at) {
    json_t *o =
        json_pack("{s:I,s:s,s:s,s:s,s:i,s:s,s:s,s:s}", "number", (json_int_t)e->id, "event_id", id, "topic", e->topic,
                  "key", e->key, "attempts", (int)e->attempts, "error", e->error, "stored_at", stored, "parked_at", at);
    if (!o) return;
    if (p->database) json_object_set_new(o, "blocked", json_boolean(e->blocked));
    if (e->consumer) json_object_set_new(o, "consumer", json_string(e->consumer));
    if (e->place) json_object_set_new(o, "place", json_string(e->place));
    if (p->action == ACTION_SHOW) {
        json_t *text = json_stringn(e->payload, e->payload_length);
        json_object_set_new(o, "payload", text ? text : json_null()); // null: it is not UTF-8
    }
    json_dumpf(o, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(o);
}

static void print_text(const struct parked *p, const struct outbox_parked *e, const char *id, const char *stored,
                       const char *at) {
    if (p->action == ACTION_LIST) {
        printf("%6lld  %s  %s%s%-18s %-24s %u attempts: %s%s\n", (long long)e->id, at, e->consumer ? e->consumer : "",
               e->consumer ? "  " : "", e->topic, e->key, e->attempts, e->error,
               e->blocked ? " (its key waits for it)" : "");
        return;
    }
    if (e->consumer) printf("consumer  %s\n", e->consumer);
    if (e->place) printf("from      %s\n", e->place);
    if (e->blocked) puts("blocked   its key waits for it");
    printf("number    %lld\nevent     %s\ntopic     %s\nkey       %s\nstored    %s\nparked    %s\nattempts  %u\n"
           "error     %s\npayload   %zu bytes\n",
           (long long)e->id, id, e->topic, e->key, stored, at, e->attempts, e->error, e->payload_length);
    fwrite(e->payload, 1, e->payload_length, stdout);
    putchar('\n');
}

// On the database thread, while the loop waits: nobody else prints.
static void print_one(void *arg, const struct outbox_parked *e) {
    struct parked *p = arg;
    if (!wanted(p, e->id)) return;
    char id[ID_TEXT], stored[TIME_TEXT], at[TIME_TEXT];
    id_format(&e->event_id, id);
    time_format_ms(e->stored_at_ms, stored);
    time_format_ms(e->parked_at_ms, at);
    p->found = true;
    p->listed++;
    if (p->json) print_json(p, e, id, stored, at);
    else print_text(p, e, id, stored, at);
}

static enum err run(struct db *db, struct db_unit *u) {
    struct parked *p = (struct parked *)u;
    struct outbox_parked_choice which = p->choice;
    enum err err = ERR_OK;
    if (p->action == ACTION_LIST || p->action == ACTION_SHOW) {
        which.id = p->action == ACTION_SHOW ? p->numbers[0] : 0;
        err = outbox_parked_each(db, &which, print_one, p);
        if (!err && p->action == ACTION_SHOW && !p->found)
            err =
                error_set(db_error(db), ERR_NOT_FOUND, "no parked event has the number %lld", (long long)p->numbers[0]);
        return err;
    }
    for (size_t i = 0; !err && i < p->count; i++) {
        which.id = p->numbers[i];
        err = p->action == ACTION_RETRY ? outbox_parked_retry(db, &which) : outbox_parked_drop(db, &which);
    }
    return err;
}

static void report(const struct parked *p) {
    if (p->action == ACTION_LIST && !p->listed && !p->json) puts("Nothing is parked.");
    if (p->action != ACTION_RETRY && p->action != ACTION_DROP) return;
    const char *what = p->action == ACTION_RETRY ? "retried" : "dropped";
    for (size_t i = 0; i < p->count; i++)
        printf(p->json ? "{\"number\":%lld,\"result\":\"%s\"}\n" : "%lld %s\n", (long long)p->numbers[i], what);
}

static enum err work(struct parked *p, struct error *e) {
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/" DATABASE_FILE, p->data) >= sizeof path)
        return error_set(e, ERR_INVALID, "the path of the data directory is too long");
    enum err err = loop_new(&p->loop, e);
    if (err) return err;
    struct database *d = NULL;
    struct database_options options = {.url = p->database ? p->database : path, .connections = 1};
    err = database_open(&d, p->loop, &options, NULL, e);
    if (!err) {
        bool looks = p->action == ACTION_LIST || p->action == ACTION_SHOW;
        err = unit_wait(&p->unit, p->loop, d, run, looks, e);
        database_close(d);
    }
    loop_free(p->loop);
    return err;
}

static bool parse_action(struct parked *p, const char *word) {
    static const char *const words[] = {"list", "show", "retry", "drop"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(word, words[i]) != 0) continue;
        p->action = (enum action)i;
        return true;
    }
    return false;
}

static bool is_action(const char *word) {
    struct parked scratch;
    return parse_action(&scratch, word);
}

// --inbox, --inbox=CONSUMER, --inbox CONSUMER
static void parse_inbox(struct parked *p, const char *value, int argc, char **argv) {
    p->choice.inbox = true;
    p->choice.consumer = value;
    if (value || optind >= argc || is_action(argv[optind]) || strchr("-0123456789", argv[optind][0])) return;
    p->choice.consumer = argv[optind++];
}

static bool parse_number(struct parked *p, const char *word) {
    char *end;
    errno = 0;
    long long v = strtoll(word, &end, 10);
    if (errno || *end || end == word || v <= 0) {
        fprintf(stderr, "barid parked: '%s' is not the number of an event\n", word);
        return false;
    }
    p->numbers[p->count++] = v;
    return true;
}

static bool parse_words(struct parked *p, int argc, char **argv) {
    if (argc == 0 || !parse_action(p, argv[0])) {
        fprintf(stderr, "barid parked: expected list, show, retry or drop; try --help\n");
        return false;
    }
    for (int i = 1; i < argc; i++)
        if (!parse_number(p, argv[i])) return false;
    bool fits = p->action == ACTION_LIST ? p->count == 0 : p->action == ACTION_SHOW ? p->count == 1 : p->count > 0;
    if (!fits) fprintf(stderr, "barid parked: which event? Give its number as `barid parked list` shows it\n");
    return fits;
}

static bool parse(struct parked *p, int argc, char **argv) {
    static const struct option options[] = {
        {"data", required_argument, NULL, 'd'},  {"database", required_argument, NULL, 'b'},
        {"inbox", optional_argument, NULL, 'i'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},        {0}};
    const char *data = getenv("BARID_DATA"), *database = getenv("BARID_DATABASE");
    p->data = data && *data ? data : "data";
    if (database && *database && !(data && *data)) p->database = database;
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'd':
            p->data = optarg;
            p->database = NULL;
            break;
        case 'b': p->database = optarg; break;
        case 'i': parse_inbox(p, optarg, argc, argv); break;
        case 'j': p->json = true; break;
        case 'h': fputs(parked_help, stdout); exit(0);
        default: return false;
        }
    }
    if (p->database && database_kind(p->database) != DATABASE_POSTGRES) {
        fprintf(stderr, "barid parked: --database is a postgresql:// URL; --data names a server's data directory\n");
        return false;
    }
    if (p->choice.inbox && !p->database) {
        fprintf(stderr, "barid parked: --inbox needs --database postgresql://…\n");
        return false;
    }
    return parse_words(p, argc - optind, argv + optind);
}

int cli_parked(int argc, char **argv) {
    struct parked p = {0};
    struct error e = {0};
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--queue") == 0 || strncmp(argv[i], "--queue=", 8) == 0)
            return cli_parked_queue(argc, argv);
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--bus") == 0 || strncmp(argv[i], "--bus=", 6) == 0) return cli_parked_bus(argc, argv);
    p.numbers = calloc((size_t)argc + 1, sizeof *p.numbers);
    if (!p.numbers || !parse(&p, argc, argv)) {
        free(p.numbers);
        return 2;
    }
    enum err err = work(&p, &e);
    if (err) fprintf(stderr, "barid parked: %s\n", e.text[0] ? e.text : err_text(err));
    else report(&p);
    free(p.numbers);
    return err ? 1 : 0;
}
