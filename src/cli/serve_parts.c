#include "cli/serve_parts.h"

#include "amqp/claims.h"
#include "base/id.h"
#include "base/io.h"
#include "base/list.h"
#include "base/log.h"
#include "bus/bus.h"
#include "chat/chat.h"
#include "chat/servers.h"
#include "cli/server_database.h"
#include "cli/shown.h"
#include "database/database.h"
#include "datastore/datastore.h"

#include <stdio.h>
#include <stdlib.h> // _Exit
#include <string.h>
#include <unistd.h>

#define BUS_LOW_WATER_MAX (UINT64_C(64) << 20)
#define NAME_TEXT         512

// ---- which they are ------------------------------------------------------------------------------------

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

// Kafka: the topics of the service are made when they are not there, unless the URL says otherwise.
static bool bus_settings(struct serve_parts *p, const char *url) {
    p->embedded = strcmp(url, "embedded") == 0 || strcmp(url, "embedded:") == 0;
    bool kafka = begins(url, "kafka://");
    if (!p->embedded && !kafka && !begins(url, "amqp://") && !begins(url, "amqps://")) {
        fprintf(stderr, "barid serve: --bus is embedded, kafka://HOST:PORT or amqp://USER:PASSWORD@HOST:PORT/VHOST\n");
        return false;
    }
    bool create = kafka && strstr(url, "create_topics=") == NULL;
    int n = snprintf(p->bus_url, sizeof p->bus_url, "%s%s", p->embedded ? "embedded:" : url,
                     !create                    ? ""
                     : strchr(url, '?') != NULL ? "&create_topics=true"
                                                : "?create_topics=true");
    if (n < (int)sizeof p->bus_url) return true;
    fprintf(stderr, "barid serve: --bus is too long\n");
    return false;
}

static bool prefix_settings(struct serve_parts *p) {
    p->bus_prefix = config_text(p->config, "bus-prefix");
    size_t n = strlen(p->bus_prefix);
    static const char fit[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (p->embedded && n > 0) {
        fprintf(stderr, "barid serve: --bus-prefix is for a --bus that others use, too\n");
        return false;
    }
    if (n <= CHAT_PREFIX_MAX && strspn(p->bus_prefix, fit) == n) return true;
    fprintf(stderr, "barid serve: --bus-prefix is at most %d of the characters a-z A-Z 0-9 . _ -\n", CHAT_PREFIX_MAX);
    return false;
}

static bool database_settings(struct serve_parts *p) {
    const char *url = config_text(p->config, "database"), *data = config_text(p->config, "data");
    bool here = strcmp(url, "sqlite") == 0;
    p->postgres = !here && database_kind(url) == DATABASE_POSTGRES;
    if (!here && !p->postgres) {
        fprintf(stderr, "barid serve: --database is sqlite (below --data) or postgresql://USER@HOST/NAME\n");
        return false;
    }
    int n = here ? snprintf(p->database_url, sizeof p->database_url, "sqlite:%s/" DATABASE_FILE, data)
                 : snprintf(p->database_url, sizeof p->database_url, "%s", url);
    if (n < (int)sizeof p->database_url) return true;
    fprintf(stderr, "barid serve: %s is too long\n", here ? "--data" : "--database");
    return false;
}

static bool store_settings(struct serve_parts *p) {
    const char *store = config_text(p->config, "data-store");
    p->files = strcmp(store, "files") == 0;
    if (!p->files && strcmp(store, "postgresql") != 0) {
        fprintf(stderr, "barid serve: --data-store is files (below --data) or postgresql (in --database)\n");
        return false;
    }
    if (p->files || p->postgres) return true;
    fprintf(stderr, "barid serve: --data-store postgresql needs --database postgresql://…\n");
    return false;
}

bool serve_parts_settings(struct serve_parts *p, const struct config *c, uint64_t low_water) {
    p->config = c;
    p->low_water = low_water;
    // The bus goes on for longer than the database: what was accepted must still reach mailboxes, to be let go of.
    p->bus_low_water = low_water / 4 < BUS_LOW_WATER_MAX ? low_water / 4 : BUS_LOW_WATER_MAX;
    p->lock_fd = -1;
    return database_settings(p) && bus_settings(p, config_text(c, "bus")) && prefix_settings(p) && store_settings(p);
}

bool serve_parts_local(const struct serve_parts *p) { return !p->postgres || p->embedded || p->files; }

// ---- opening -------------------------------------------------------------------------------------------

// Without anything of its own the server needs the clock and randomness only.
static enum err open_directory(struct serve_parts *p, struct error *e) {
    const char *data = config_text(p->config, "data");
    enum err err = io_os_new(&p->io, serve_parts_local(p) ? data : "/", e);
    if (err != ERR_OK || !serve_parts_local(p)) return err;
    err = p->io->v->open(p->io, "lock", IO_READ | IO_WRITE | IO_CREATE, &p->lock_fd);
    if (err == ERR_OK) err = p->io->v->lock(p->io, p->lock_fd);
    if (err == ERR_LOCKED) return error_set(e, err, "another barid is running on %s", data);
    return err == ERR_OK ? ERR_OK : error_set(e, err, "cannot lock %s", data);
}

// Who has this directory, whatever its path and its machine are called: the id is in the file that is locked.
static enum err directory_id(struct serve_parts *p, struct id *id) {
    size_t got = 0;
    enum err err = p->io->v->pread(p->io, p->lock_fd, id->b, sizeof id->b, 0, &got);
    if (err != ERR_OK || got == sizeof id->b) return err;
    *id = id_new(p->io);
    err = p->io->v->pwrite(p->io, p->lock_fd, id->b, sizeof id->b, 0);
    return err == ERR_OK ? p->io->v->datasync(p->io, p->lock_fd) : err;
}

static enum err server_name(struct serve_parts *p, char name[static NAME_TEXT]) {
    char host[128] = "", text[ID_TEXT];
    gethostname(host, sizeof host - 1);
    if (!serve_parts_local(p)) {
        snprintf(name, NAME_TEXT, "%s (process %ld)", host, (long)getpid());
        return ERR_OK;
    }
    struct id id;
    enum err err = directory_id(p, &id);
    if (err != ERR_OK) return err;
    id_format(&id, text);
    snprintf(name, NAME_TEXT, "%s with its data in %.100s (%s)", host, config_text(p->config, "data"), text);
    return ERR_OK;
}

static enum err open_store(struct serve_parts *p, struct error *e) {
    char media[PARTS_URL];
    if (!p->files)
        return datastore_open(&p->datastore, p->loop, &(struct datastore_options){.database = p->database}, e);
    if (snprintf(media, sizeof media, "%s/media", config_text(p->config, "data")) >= (int)sizeof media)
        return error_set(e, ERR_INVALID, "--data is too long");
    enum err err = datastore_open(&p->datastore, p->loop, &(struct datastore_options){.directory = media}, e);
    if (err == ERR_OK) datastore_low_water(p->datastore, p->low_water);
    return err;
}

static enum err open_embedded(struct serve_parts *p, struct error *e) {
    char bodies[PARTS_URL];
    if (snprintf(bodies, sizeof bodies, "%s/bodies", config_text(p->config, "data")) >= (int)sizeof bodies)
        return error_set(e, ERR_INVALID, "--data is too long");
    enum err err = claims_open(&p->claims, p->loop, p->io, bodies, p->bus_low_water, e);
    if (err != ERR_OK) return err;
    struct bus_options b = {.url = p->bus_url,
                            .io = p->io,
                            .claim = claims_count,
                            .claim_arg = p->claims,
                            .low_water_bytes = p->bus_low_water};
    err = bus_open(&p->bus, p->loop, &b, e);
    if (err == ERR_OK) claims_start(p->claims, bus_engine(p->bus));
    return err;
}

static enum err open_bus(struct serve_parts *p, struct error *e) {
    if (p->embedded) return open_embedded(p, e);
    return bus_open(&p->bus, p->loop, &(struct bus_options){.url = p->bus_url, .io = p->io}, e);
}

static enum err open_rest(struct serve_parts *p, struct error *e) {
    enum err err = open_store(p, e);
    return err == ERR_OK ? open_bus(p, e) : err;
}

static void on_joined(void *arg, enum err err, const struct error *why) {
    struct serve_parts *p = arg;
    struct error e = *why;
    if (err == ERR_OK) err = open_rest(p, &e);
    p->opened(p->arg, err, &e);
}

static void on_posted(struct loop_post *post) {
    struct error none = {0};
    on_joined(LIST_ITEM(post, struct serve_parts, post), ERR_OK, &none);
}

// Whoever has the place now does the same work: two would do it with two buses.
static void on_lost(void *arg, const struct error *e) {
    log_text(LOG_ERROR, "place_lost", "this server was away for too long: %s", e->text);
    _Exit(1);
}

static enum err join(struct serve_parts *p, struct error *e) {
    char name[NAME_TEXT];
    enum err err = server_name(p, name);
    if (err != ERR_OK) return error_set(e, err, "cannot write to the lock file: %s", err_text(err));
    struct servers_options o = {.loop = p->loop,
                                .io = p->io,
                                .database = p->database,
                                .name = name,
                                .alone = serve_parts_local(p),
                                .lost = on_lost,
                                .arg = p};
    p->servers = servers_join(&o, on_joined);
    return ERR_OK;
}

enum err serve_parts_open(struct serve_parts *p, struct loop *loop,
                          void (*opened)(void *arg, enum err err, const struct error *e), void *arg, struct error *e) {
    p->loop = loop;
    p->opened = opened;
    p->arg = arg;
    struct database_options d = {.url = p->database_url, .low_water_bytes = p->low_water};
    enum err err = open_directory(p, e);
    if (err == ERR_OK)
        err = database_open(&p->database, loop, &d, p->postgres ? server_postgres_migrations : server_migrations, e);
    if (err != ERR_OK) return err;
    if (p->postgres) return join(p, e);
    p->post.fn = on_posted;
    loop_post(loop, &p->post);
    return ERR_OK;
}

void serve_parts_close(struct serve_parts *p) {
    servers_leave(p->servers);
    bus_close(p->bus);
    if (p->claims != NULL) claims_close(p->claims);
    datastore_close(p->datastore);
    database_close(p->database);
}

void serve_parts_free(struct serve_parts *p) {
    if (p->lock_fd >= 0) p->io->v->close(p->io, p->lock_fd);
    io_os_free(p->io);
}

// ---- telling -------------------------------------------------------------------------------------------

void serve_parts_print(const struct serve_parts *p) {
    char shown[URL_SHOWN];
    if (p->postgres) printf("  database %s\n", url_shown(p->database_url, shown));
    if (!p->embedded) printf("  bus      %s\n", url_shown(p->bus_url, shown));
    if (serve_parts_local(p)) printf("  data     %s\n", config_text(p->config, "data"));
}
