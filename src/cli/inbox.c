// barid inbox: fetch what waits, list what is here.
#include "cli/cli.h"
#include "cli/client_cli.h"
#include "client/label.h"
#include "client/receive.h"

#include "base/io.h"

#include <stdio.h>
#include <string.h>

#define TIMEOUT_MS 10000

static const char help[] = "barid inbox: fetch what waits at the service, store it here, and list what is unread\n"
                           "\n"
                           "Ticks of your own messages that came meanwhile are shown first.\n"
                           "\n"
                           "  --all              list all messages, not only unread ones\n"
                           "  --conversation ID  only of this conversation\n"
                           "  --offline          do not ask the service\n"
                           "  --downloads DIR    where media are saved (default: in the profile)\n"
                           "  --timeout S        give up asking after S seconds (default: 10)\n" CLIENT_OPTIONS_HELP;

struct inbox {
    struct client_cli cli;
    struct client c;
    bool all, offline;
    const char *conversation, *downloads;
    uint64_t timeout_ms, listed;
    struct buf b;
};

enum { ALL = 256, CONVERSATION, OFFLINE, DOWNLOADS, TIMEOUT };
static const struct option own[] = {{"all", no_argument, NULL, ALL},
                                    {"conversation", required_argument, NULL, CONVERSATION},
                                    {"offline", no_argument, NULL, OFFLINE},
                                    {"downloads", required_argument, NULL, DOWNLOADS},
                                    {"timeout", required_argument, NULL, TIMEOUT},
                                    {0}};

static bool take(void *arg, int value, const char *text) {
    struct inbox *o = arg;
    switch (value) {
    case ALL: o->all = true; return true;
    case CONVERSATION: o->conversation = text; return name_valid(text, strlen(text));
    case OFFLINE: o->offline = true; return true;
    case DOWNLOADS: o->downloads = text; return true;
    default: return cli_seconds(text, &o->timeout_ms);
    }
}

static void on_progress(void *arg, const char *name, uint64_t done, uint64_t total) { cli_progress(name, done, total); }

static void on_receipt(void *arg, const struct entry *receipt) {
    struct inbox *o = arg;
    struct out_message m;
    if (o->cli.json || store_outbox_get(o->c.store, receipt->message_id, &m, NULL)) return;
    char label[LABEL_MAX], reads_text[64] = "";
    size_t reads, readers;
    label_of(&o->c, m.conversation_id, label);
    enum tick tick = label_tick(&o->c, &m, &reads, &readers);
    if (reads > 0 && reads < readers) snprintf(reads_text, sizeof reads_text, "read by %zu of %zu", reads, readers);
    render_out_message(&o->b, o->cli.out, &m, label, tick, reads_text);
    cli_text(&o->b);
    out_message_release(&m);
}

static enum err fetch(struct inbox *o, struct error *e) {
    char path[PROFILE_PATH_MAX];
    struct io *downloads;
    struct receive_events events = {.receipt = on_receipt, .progress = on_progress, .arg = o};
    enum err err = client_need_login(&o->c, e);
    if (!err) err = cli_downloads(&o->c, o->downloads, &downloads, path, sizeof path, e);
    if (err) return err;
    uint64_t deadline = cli_deadline(&o->c, o->timeout_ms);
    err = inbox_fetch(&o->c, downloads, path, deadline, &events, e);
    if (!err) err = inbox_tell_read(&o->c, deadline, e);
    if (!err) label_learn(&o->c);
    io_os_free(downloads);
    return err;
}

static bool list_one(void *arg, const struct in_message *m) {
    struct inbox *o = arg;
    char label[LABEL_MAX];
    o->listed++;
    if (o->cli.json) {
        cli_json(cli_json_in(m));
        return true;
    }
    label_beside(&o->c, m->conversation_id, m->by_user_id, label);
    render_in_message(&o->b, o->cli.out, m, label);
    cli_text(&o->b);
    return true;
}

static int run(struct inbox *o) {
    struct error fetching = {0}, e = {0};
    if (!o->offline) fetch(o, &fetching);
    enum err err = store_message_each(o->c.store, o->all ? INBOX_ALL : INBOX_UNREAD, o->conversation, list_one, o, &e);
    if (err) return cli_fail(&o->cli, &e);
    if (!o->listed && !o->cli.json) puts(o->all ? "no messages" : "nothing unread");
    // What is here is shown all the same.
    return fetching.code ? cli_fail(&o->cli, &fetching) : 0;
}

int cli_inbox(int argc, char **argv) {
    struct inbox o = {.timeout_ms = TIMEOUT_MS};
    int first, code;
    if (!cli_client_options(&o.cli, &(struct client_command){help, own, take, &o}, argc, argv, &first, &code))
        return code;
    if (argc > first) return cli_usage(&o.cli, "it wants no operand");
    if (!cli_open(&o.cli, &o.c, &code)) return code;
    buf_init(&o.b, 1 << 20);
    code = run(&o);
    buf_release(&o.b);
    client_release(&o.c);
    return code;
}
