// barid send: store, show, send until accepted.
#include "cli/cli.h"
#include "cli/client_cli.h"
#include "client/label.h"
#include "client/media.h"
#include "client/outbox_send.h"

#include "base/utf8.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TEXT_MAX (64 * 1024)

static const char help[] =
    "barid send TO… TEXT                     send a text to one or more users ('-': read it from standard input)\n"
    "barid send TO… --media FILE             send a file\n"
    "barid send --conversation ID TEXT       send into a conversation\n"
    "\n"
    "The message is stored here first; from then on it is not lost. It is tried again, ever more slowly, until the\n"
    "service accepts or rejects it. When this is interrupted, the next `barid send`, `barid listen` or\n"
    "`barid outbox flush` goes on with it.\n"
    "\n"
    "  --conversation ID  instead of recipients\n"
    "  --media FILE       send this file instead of a text\n"
    "  --media-type TYPE  what the file is (default: by its extension)\n"
    "  --no-wait          only store it; a running `barid listen` sends it, or a later command\n"
    "  --timeout S        give up waiting after S seconds, exit code 75 (default: wait for ever)\n" CLIENT_OPTIONS_HELP;

struct send {
    struct client_cli cli;
    struct client c;
    const char *conversation, *media, *media_type;
    bool no_wait;
    uint64_t timeout_ms;
    char label[LABEL_MAX];
    struct out_message m;
    char path[PATH_MAX];
    bool line_open; // the terminal's line says "sending" and will be written over
};

enum { CONVERSATION = 256, MEDIA, MEDIA_TYPE, NO_WAIT, TIMEOUT };
static const struct option own[] = {
    {"conversation", required_argument, NULL, CONVERSATION}, {"media", required_argument, NULL, MEDIA},
    {"media-type", required_argument, NULL, MEDIA_TYPE},     {"no-wait", no_argument, NULL, NO_WAIT},
    {"timeout", required_argument, NULL, TIMEOUT},           {0}};

static bool take(void *arg, int value, const char *text) {
    struct send *s = arg;
    switch (value) {
    case CONVERSATION: s->conversation = text; return name_valid(text, strlen(text));
    case MEDIA: s->media = text; return true;
    case MEDIA_TYPE: s->media_type = text; return strchr(text, '/') && strlen(text) < 128;
    case NO_WAIT: s->no_wait = true; return true;
    default: return cli_seconds(text, &s->timeout_ms);
    }
}

// ---- what is shown ----------------------------------------------------------------------------------------

static void show(struct send *s, const struct out_message *m, enum tick tick) {
    if (s->cli.json) {
        cli_json(cli_json_out(m, tick));
        return;
    }
    struct buf b;
    buf_init(&b, 4096);
    if (s->line_open) buf_add_str(&b, "\r\033[K");
    buf_add_str(&b, "→ ");
    render_safe(&b, s->label, false);
    buf_add_str(&b, "  ");
    render_tick(&b, s->cli.out, tick);
    if (m->seq) buf_printf(&b, "  #%llu", (unsigned long long)m->seq);
    buf_printf(&b, "  (id %s)", short_id(m->message_id));
    if (m->error && (tick == TICK_REJECTED || tick == TICK_WAITING)) {
        buf_add_str(&b, ": ");
        render_safe(&b, m->error, false);
    }
    s->line_open = s->cli.out_tty && (tick == TICK_SENDING || tick == TICK_WAITING);
    if (!s->line_open) buf_add_str(&b, "\n");
    cli_text(&b);
    buf_release(&b);
}

static void on_changed(void *arg, const struct out_message *m, uint32_t retry_ms) {
    show(arg, m, tick_of(m, retry_ms));
}

static void on_progress(void *arg, const struct out_message *m, uint64_t done, uint64_t total) {
    struct send *s = arg;
    if (s->line_open) fputs("\r\033[K", stdout);
    if (s->line_open) fflush(stdout);
    cli_progress(m->filename, done, total);
}

// ---- what is sent -----------------------------------------------------------------------------------------

static char *read_all(struct error *e) {
    struct buf b;
    buf_init(&b, TEXT_MAX + 1);
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, stdin)) > 0;) buf_add(&b, part, n);
    char *text = NULL;
    if (!buf_ok(&b)) error_field(e, "message_text", "longer than %d bytes", TEXT_MAX);
    else if (b.len > 0 && memchr(b.data, 0, b.len)) error_field(e, "message_text", "must not hold zero bytes");
    else text = strdup(buf_cstr(&b));
    buf_release(&b);
    return text;
}

static enum err set_text(struct send *s, const char *text, struct error *e) {
    s->m.text = strcmp(text, "-") ? strdup(text) : read_all(e);
    if (!s->m.text) return e->code ? e->code : error_set(e, ERR_NOMEM, "out of memory");
    size_t n = strlen(s->m.text);
    if (n > TEXT_MAX) return error_field(e, "message_text", "longer than %d bytes", TEXT_MAX);
    if (!utf8_valid(s->m.text, n)) return error_field(e, "message_text", "must be UTF-8");
    return ERR_OK;
}

static enum err set_media(struct send *s, struct error *e) {
    struct stat info;
    if (!realpath(s->media, s->path) || stat(s->path, &info))
        return error_field(e, "media", "there is no file %.150s", s->media);
    if (!S_ISREG(info.st_mode)) return error_field(e, "media", "%.150s is no regular file", s->media);
    const char *name = media_base_name(s->path);
    if (!utf8_valid(s->path, strlen(s->path))) return error_field(e, "media", "the file's name must be UTF-8");
    s->m.media_path = strdup(s->path);
    s->m.filename = strdup(name);
    s->m.media_type = strdup(s->media_type ? s->media_type : media_type_of(name));
    if (s->m.media_path && s->m.filename && s->m.media_type) return ERR_OK;
    return error_set(e, ERR_NOMEM, "out of memory");
}

static enum err prepare(struct send *s, char **words, int n, struct error *e) {
    enum err err = client_need_login(&s->c, e);
    if (!err) err = s->media ? set_media(s, e) : set_text(s, words[n - 1], e);
    if (err) return err;
    if (s->conversation) snprintf(s->m.conversation_id, sizeof s->m.conversation_id, "%s", s->conversation);
    else err = cli_conversation_with(&s->c, words, s->media ? n : n - 1, s->m.conversation_id, e);
    if (!err) label_of(&s->c, s->m.conversation_id, s->label);
    return err;
}

static int deliver(struct send *s) {
    struct error e = {0};
    struct send_events events = {.changed = on_changed, .progress = on_progress, .arg = s};
    enum err err =
        outbox_flush(&s->c, s->m.conversation_id, s->m.message_id, cli_deadline(&s->c, s->timeout_ms), &events, &e);
    if (s->line_open) fputc('\n', stdout);
    if (err) return cli_fail(&s->cli, &e);
    struct out_message now;
    bool accepted = !store_outbox_get(s->c.store, s->m.message_id, &now, &e) && now.state == OUT_ACCEPTED;
    out_message_release(&now);
    return accepted ? 0 : EXIT_FAILED;
}

static int run(struct send *s, char **words, int n) {
    struct error e = {0};
    enum err err = prepare(s, words, n, &e);
    if (!err) err = outbox_create(&s->c, &s->m, &e);
    if (err) return cli_fail(&s->cli, &e);
    show(s, &s->m, TICK_SENDING);
    if (!s->no_wait) return deliver(s);
    if (s->line_open) fputc('\n', stdout);
    return 0;
}

int cli_send(int argc, char **argv) {
    struct send s = {0};
    int first, code;
    if (!cli_client_options(&s.cli, &(struct client_command){help, own, take, &s}, argc, argv, &first, &code))
        return code;
    int n = argc - first, wanted = (s.conversation ? 0 : 1) + (s.media ? 0 : 1);
    if (n < wanted || (s.conversation && n != wanted)) return cli_usage(&s.cli, "it wants: TO… TEXT");
    if (!cli_open(&s.cli, &s.c, &code)) return code;
    code = run(&s, argv + first, n);
    out_message_release(&s.m);
    client_release(&s.c);
    return code;
}
