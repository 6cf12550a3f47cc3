// barid read: mark messages as read.
#include "cli/cli.h"
#include "cli/client_cli.h"
#include "client/receive.h"

#include "base/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 10000

static const char help[] =
    "barid read ID…     mark messages as read and tell the service, which tells the sender\n"
    "barid read --all   all that is unread here\n"
    "\n"
    "An ID is a message's id, or 4 or more characters of its beginning or end. What cannot be told now is told by a\n"
    "later command.\n"
    "\n"
    "  --timeout S      give up telling after S seconds, exit code 75 (default: 10)\n" CLIENT_OPTIONS_HELP;

struct read_command {
    struct client_cli cli;
    struct client c;
    bool all;
    uint64_t timeout_ms;
    char (*ids)[ID_TEXT];
    size_t n, room;
};

enum { ALL = 256, TIMEOUT };
static const struct option own[] = {
    {"all", no_argument, NULL, ALL}, {"timeout", required_argument, NULL, TIMEOUT}, {0}};

static bool take(void *arg, int value, const char *text) {
    struct read_command *o = arg;
    if (value == ALL) o->all = true;
    return value == ALL || cli_seconds(text, &o->timeout_ms);
}

static bool add_id(void *arg, const struct in_message *m) {
    struct read_command *o = arg;
    if (o->n == o->room) {
        o->room = o->room ? 2 * o->room : 64;
        void *longer = realloc(o->ids, o->room * sizeof *o->ids);
        if (!longer) return false;
        o->ids = longer;
    }
    snprintf(o->ids[o->n++], ID_TEXT, "%s", m->message_id);
    return true;
}

static enum err collect(struct read_command *o, char **words, int n, struct error *e) {
    if (o->all) return store_message_each(o->c.store, INBOX_UNREAD, NULL, add_id, o, e);
    for (int i = 0; i < n; i++) {
        struct in_message m;
        char id[ID_TEXT];
        enum err err = store_resolve(o->c.store, words[i], id, e);
        if (!err) err = store_message_get(o->c.store, id, &m, e);
        if (err) return err;
        bool added = add_id(o, &m);
        in_message_release(&m);
        if (!added) return error_set(e, ERR_NOMEM, "out of memory");
    }
    return ERR_OK;
}

static void show(struct read_command *o, const char *id) {
    struct in_message m;
    if (store_message_get(o->c.store, id, &m, NULL)) return;
    if (o->cli.json) {
        cli_json(cli_json_in(&m));
    } else {
        struct buf b;
        buf_init(&b, 1 << 20);
        render_tick(&b, o->cli.out, TICK_READ);
        buf_add_str(&b, "  ");
        render_in_message(&b, o->cli.out, &m, NULL);
        cli_text(&b);
        buf_release(&b);
    }
    in_message_release(&m);
}

static int run(struct read_command *o, char **words, int n) {
    struct error e = {0};
    enum err err = collect(o, words, n, &e);
    for (size_t i = 0; i < o->n && !err; i++) err = store_message_read(o->c.store, o->ids[i], io_wall_ms(o->c.io), &e);
    for (size_t i = 0; i < o->n && !err; i++) show(o, o->ids[i]);
    if (!err) err = client_need_login(&o->c, &e);
    if (!err) err = inbox_tell_read(&o->c, cli_deadline(&o->c, o->timeout_ms), &e);
    return err ? cli_fail(&o->cli, &e) : 0;
}

int cli_read(int argc, char **argv) {
    struct read_command o = {.timeout_ms = TIMEOUT_MS};
    int first, code;
    if (!cli_client_options(&o.cli, &(struct client_command){help, own, take, &o}, argc, argv, &first, &code))
        return code;
    if (o.all != (argc == first)) return cli_usage(&o.cli, "it wants: ID… or --all");
    if (!cli_open(&o.cli, &o.c, &code)) return code;
    code = run(&o, argv + first, argc - first);
    free(o.ids);
    client_release(&o.c);
    return code;
}
