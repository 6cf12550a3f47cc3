// barid migrate: brings the schema `barid` of a PostgreSQL database up to date, for the outbox and inbox or for the
// server.
//
// Any number of programs may do it at once; what is there already stays as it is.
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/server_database.h"
#include "outbox/outbox.h"

#include <stdio.h>
#include <string.h>

static const struct setting settings[] = {
    {"database", "URL", NULL, "postgresql://…; who connects may make the schema barid, or it is there"},
    {"for", "relay|server", "relay", "outbox and inbox only, or all that `barid serve` needs"},
    {0},
};

static void applied(void *arg, uint32_t number, const char *name) {
    ++*(unsigned *)arg;
    printf("applied %04u %s\n", number, name);
}

static int migrate_it(const struct config *c) {
    const char *url = config_text(c, "database"), *what = config_text(c, "for");
    bool server = what && strcmp(what, "server") == 0;
    if (!url || (!server && strcmp(what, "relay") != 0)) {
        fprintf(stderr, "barid migrate: %s\n",
                url ? "--for is relay or server" : "which database? --database postgresql://…");
        return EXIT_USAGE;
    }
    if (database_kind(url) != DATABASE_POSTGRES) {
        fprintf(stderr, "barid migrate: --database is a postgresql:// URL; an embedded one is brought up to date by "
                        "`barid serve` itself\n");
        return EXIT_USAGE;
    }
    struct error e = {0};
    unsigned n = 0;
    enum err err = database_migrate(url, server ? server_postgres_migrations : outbox_component, applied, &n, &e);
    if (err) {
        fprintf(stderr, "barid migrate: %s\n", e.text[0] ? e.text : err_text(err));
        return 1;
    }
    if (n == 0) puts("Everything is up to date.");
    return 0;
}

int cli_migrate(int argc, char **argv) {
    struct config c = {0};
    enum config_read read = config_read(
        &c, "migrate", "Brings the tables of barid in a PostgreSQL database up to date.", settings, argc, argv);
    if (read != CONFIG_OK) return read == CONFIG_HELP ? 0 : EXIT_USAGE;
    int code = migrate_it(&c);
    config_release(&c);
    return code;
}
