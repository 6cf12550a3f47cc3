// barid consumer: the consumers of the inbox in a PostgreSQL database; and forgetting one that will not come back.
#include "base/loop.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "cli/waited_unit.h"
#include "database/database.h"
#include "inbox/consumers.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "barid consumer list        consumers of `barid receive` that the database knows\n"
    "barid consumer drop NAME   forgets one that will not come back: its events, the ids it has taken in, how far it "
    "has\n"
    "                           read. None of its processes may be running. What the broker keeps for it (a group in\n"
    "                           Kafka, a queue over AMQP) is the broker's; one that begins again under the name "
    "begins\n"
    "                           there, and handles what it is given a second time\n"
    "\n"
    "  --database URL   postgresql://…; also BARID_DATABASE\n"
    "  --force          drop: also events that were not handled\n"
    "  --json           one JSON object a line\n"
    "  --help           this\n";

struct consumer_command {
    struct waited_unit unit; // first
    struct loop *loop;
    struct database *database;
    const char *url, *drop; // drop: its name, NULL: list
    bool force, json, more;
    struct table table;
};

static enum err do_unit(struct consumer_command *c, enum err (*run)(struct db *db, struct db_unit *u), bool read_only,
                        struct error *e) {
    return unit_wait(&c->unit, c->loop, c->database, run, read_only, e);
}

// ---- list

static void print_json(const struct consumer *one) {
    json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:I}", "consumer", one->name, "processes", (json_int_t)one->processes,
                          "waiting", (json_int_t)one->waiting, "parked", (json_int_t)one->parked, "remembered",
                          (json_int_t)one->remembered);
    json_dumpf(o, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(o);
}

static void add_row(void *arg, const struct consumer *one) {
    struct consumer_command *c = arg;
    if (c->json) {
        print_json(one);
        return;
    }
    const uint64_t numbers[] = {one->processes, one->waiting, one->parked, one->remembered};
    char text[4][24];
    for (size_t i = 0; i < 4; i++) {
        bool more = numbers[i] > CONSUMERS_COUNTED_MAX;
        snprintf(text[i], sizeof text[i], "%s%llu", more ? "> " : "",
                 (unsigned long long)(more ? CONSUMERS_COUNTED_MAX : numbers[i]));
    }
    table_row(&c->table, (const char *[]){one->name, text[0], text[1], text[2], text[3]});
}

static enum err list_run(struct db *db, struct db_unit *u) {
    struct consumer_command *c = (struct consumer_command *)u;
    table_release(&c->table);
    table_init(&c->table, 5);
    table_row(&c->table, (const char *[]){"CONSUMER", "PROCESSES", "WAITING", "PARKED", "IDS"});
    return consumers_each(db, add_row, c);
}

static enum err list(struct consumer_command *c, struct error *e) {
    table_init(&c->table, 5);
    enum err err = do_unit(c, list_run, true, e);
    if (err == ERR_OK && !c->json) table_print(&c->table);
    table_release(&c->table);
    return err;
}

// ---- drop

static enum err ask_run(struct db *db, struct db_unit *u) {
    struct consumer_command *c = (struct consumer_command *)u;
    return consumer_may_go(db, c->drop, c->force);
}

static enum err drop_run(struct db *db, struct db_unit *u) {
    struct consumer_command *c = (struct consumer_command *)u;
    return consumer_drop(db, c->drop, &c->more);
}

static enum err drop(struct consumer_command *c, struct error *e) {
    enum err err = do_unit(c, ask_run, true, e);
    do
        if (err == ERR_OK) err = do_unit(c, drop_run, false, e);
    while (err == ERR_OK && c->more);
    if (err == ERR_OK) printf(c->json ? "{\"consumer\":\"%s\",\"result\":\"dropped\"}\n" : "%s dropped\n", c->drop);
    return err;
}

// ---- the command

static enum err work(struct consumer_command *c, struct error *e) {
    enum err err = loop_new(&c->loop, e);
    if (err != ERR_OK) return err;
    err = database_open(&c->database, c->loop, &(struct database_options){.url = c->url, .connections = 1}, NULL, e);
    if (err == ERR_OK) {
        err = c->drop != NULL ? drop(c, e) : list(c, e);
        database_close(c->database);
    }
    loop_free(c->loop);
    return err;
}

static bool parse_words(struct consumer_command *c, int argc, char **argv) {
    bool listing = argc == 1 && strcmp(argv[0], "list") == 0;
    if (argc == 2 && strcmp(argv[0], "drop") == 0) c->drop = argv[1];
    if (!listing && c->drop == NULL) fprintf(stderr, "barid consumer: expected list, or drop NAME; try --help\n");
    else if (c->url == NULL || database_kind(c->url) != DATABASE_POSTGRES)
        fprintf(stderr, "barid consumer: it wants --database postgresql://…\n");
    else return true;
    return false;
}

static bool parse(struct consumer_command *c, int argc, char **argv) {
    static const struct option options[] = {{"database", required_argument, NULL, 'b'},
                                            {"force", no_argument, NULL, 'f'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    c->url = getenv("BARID_DATABASE");
    optind = 0;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'b': c->url = optarg; break;
        case 'f': c->force = true; break;
        case 'j': c->json = true; break;
        case 'h': fputs(help, stdout); exit(0);
        default: return false;
        }
    }
    return parse_words(c, argc - optind, argv + optind);
}

int cli_consumer(int argc, char **argv) {
    struct consumer_command c = {0};
    struct error e = {0};
    if (!parse(&c, argc, argv)) return EXIT_USAGE;
    enum err err = work(&c, &e);
    if (err != ERR_OK) fprintf(stderr, "barid consumer: %s\n", e.text[0] != 0 ? e.text : err_text(err));
    return err != ERR_OK;
}
