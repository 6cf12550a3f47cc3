// barid outbox list | flush
#include "cli/cli.h"
#include "cli/client_cli.h"
#include "client/label.h"
#include "client/outbox_send.h"

#include <stdio.h>
#include <string.h>

#define CONVERSATIONS_MAX 1024

static const char help[] =
    "barid outbox list       messages of your own that are not accepted yet; with --all all of them\n"
    "barid outbox flush      send what waits\n"
    "\n"
    "  --all            also accepted and rejected ones\n"
    "  --timeout S      give up after S seconds, exit code 75 (default: wait for ever)\n" CLIENT_OPTIONS_HELP;

struct outbox_command {
    struct client_cli cli;
    struct client c;
    bool all, rejected;
    uint64_t timeout_ms;
    struct buf b;
};

enum { ALL = 256, TIMEOUT };
static const struct option own[] = {
    {"all", no_argument, NULL, ALL}, {"timeout", required_argument, NULL, TIMEOUT}, {0}};

static bool take(void *arg, int value, const char *text) {
    struct outbox_command *o = arg;
    if (value == ALL) o->all = true;
    return value == ALL || cli_seconds(text, &o->timeout_ms);
}

static void show(struct outbox_command *o, const struct out_message *m, enum tick tick, const char *reads) {
    char label[LABEL_MAX];
    if (o->cli.json) {
        cli_json(cli_json_out(m, tick));
        return;
    }
    label_of(&o->c, m->conversation_id, label);
    render_out_message(&o->b, o->cli.out, m, label, tick, reads);
    cli_text(&o->b);
}

static bool list_one(void *arg, const struct out_message *m) {
    struct outbox_command *o = arg;
    size_t reads, readers;
    char text[64] = "";
    enum tick tick = label_tick(&o->c, m, &reads, &readers);
    if (reads > 0 && reads < readers) snprintf(text, sizeof text, "read by %zu of %zu", reads, readers);
    show(o, m, tick, text);
    return true;
}

static void on_changed(void *arg, const struct out_message *m, uint32_t retry_ms) {
    struct outbox_command *o = arg;
    if (m->state == OUT_REJECTED) o->rejected = true;
    show(o, m, tick_of(m, retry_ms), NULL);
}

static void on_progress(void *arg, const struct out_message *m, uint64_t done, uint64_t total) {
    cli_progress(m->filename, done, total);
}

static int flush(struct outbox_command *o) {
    static char waiting[CONVERSATIONS_MAX][NAME_MAX_LENGTH + 1];
    struct send_events events = {.changed = on_changed, .progress = on_progress, .arg = o};
    struct error e = {0};
    uint64_t deadline = cli_deadline(&o->c, o->timeout_ms);
    if (client_need_login(&o->c, &e)) return cli_fail(&o->cli, &e);
    size_t n;
    while ((n = store_outbox_conversations(o->c.store, waiting, CONVERSATIONS_MAX)) > 0)
        for (size_t i = 0; i < n; i++)
            if (outbox_flush(&o->c, waiting[i], NULL, deadline, &events, &e)) return cli_fail(&o->cli, &e);
    return o->rejected ? EXIT_FAILED : 0;
}

static int list(struct outbox_command *o) {
    struct error e = {0};
    return store_outbox_each(o->c.store, 0, !o->all, list_one, o, &e) ? cli_fail(&o->cli, &e) : 0;
}

int cli_outbox(int argc, char **argv) {
    struct outbox_command o = {0};
    int first, code;
    if (!cli_client_options(&o.cli, &(struct client_command){help, own, take, &o}, argc, argv, &first, &code))
        return code;
    const char *verb = argc - first == 1 ? argv[first] : "";
    bool flushing = !strcmp(verb, "flush");
    if (!flushing && strcmp(verb, "list") != 0) return cli_usage(&o.cli, "it wants: list or flush");
    if (!cli_open(&o.cli, &o.c, &code)) return code;
    buf_init(&o.b, 1 << 20);
    code = flushing ? flush(&o) : list(&o);
    buf_release(&o.b);
    client_release(&o.c);
    return code;
}
