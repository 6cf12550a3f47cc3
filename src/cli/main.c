// barid: one binary, many subcommands.
#include "cli/cli.h"
#include "http/http.h"

#include <stdio.h>
#include <string.h>

// Hidden: the operations of the HTTP door, for the test that holds docs/openapi.yaml against them.
static int run_routes(int argc, char **argv) {
    (void)argc;
    (void)argv;
    const char *method, *pattern;
    for (size_t i = 0; http_operation(i, &method, &pattern); i++) printf("%s %s\n", method, pattern);
    return 0;
}

static const struct command commands[] = {
    {"serve", "run the server", cli_serve},
    {"register", "make an account with the messaging service", cli_register},
    {"login", "make this place a device of a user", cli_login},
    {"logout", "end the session of this device", cli_logout},
    {"whoami", "which user and device this is", cli_whoami},
    {"conversation", "conversations: list, new, show", cli_conversation},
    {"send", "send a text or a file", cli_send},
    {"outbox", "messages not accepted yet: list, flush", cli_outbox},
    {"listen", "stay connected: receive, send, show ticks", cli_listen},
    {"inbox", "fetch what waits and list it", cli_inbox},
    {"read", "mark messages as read", cli_read},
    {"track", "the journey of a message", cli_track},
    {"user", "users of the broker: list, add, delete, password, tags", cli_user},
    {"vhost", "virtual hosts of the broker: list, add, delete", cli_vhost},
    {"permission", "what a broker's user may do: list, set, clear", cli_permission},
    {"definitions", "users, permissions, queues and all as a file: export, import", cli_definitions},
    {"relay", "publish the outbox of a PostgreSQL database to Kafka or AMQP", cli_relay},
    {"migrate", "bring the tables in a PostgreSQL database up to date", cli_migrate},
    {"status", "look at a running server", cli_status},
    {"check", "verify a data directory, salvage a damaged one", cli_check},
    {"bench", "measure a server", cli_bench},
    {"receive", "events from Kafka or AMQP into PostgreSQL, and to a handler", cli_receive},
    {"parked", "what gave up, and why: list, show, retry, drop", cli_parked},
    {"consumer", "consumers of an inbox in PostgreSQL: list, drop", cli_consumer},
    {"routes", NULL, run_routes},
};

#define COMMANDS (sizeof commands / sizeof commands[0])

static void print_help(FILE *to) {
    fputs("barid " BARID_VERSION ": messages that arrive, and tell you so.\n\nUsage: barid COMMAND [options]\n\n", to);
    for (size_t i = 0; i < COMMANDS; i++)
        if (commands[i].summary != NULL) fprintf(to, "  %-14s%s\n", commands[i].name, commands[i].summary);
    fputs("\n`barid COMMAND --help` tells what a command takes. `barid --version` tells the version.\n"
          "To begin: `barid serve --data ./data`, then open http://127.0.0.1:8080/\n",
          to);
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "--help";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(argc > 1 ? stdout : stderr);
        return argc > 1 ? 0 : EXIT_USAGE;
    }
    if (strcmp(name, "--version") == 0) {
        puts("barid " BARID_VERSION);
        return 0;
    }
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0) return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "barid: there is no command \"%s\"\n\n", name);
    print_help(stderr);
    return EXIT_USAGE;
}
