// barid listen: stay connected; show what comes and what becomes of what was sent.
#include "cli/cli.h"
#include "cli/client_cli.h"
#include "cli/line_input.h"
#include "client/label.h"
#include "client/live.h"
#include "client/outbox_send.h"

#include "base/assert.h"
#include "base/io.h"
#include "base/loop.h"
#include "base/time.h"
#include "base/utf8.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#define SHOWN_MAX 256
#define TO_MAX    64

static const char help[] =
    "barid listen: receive messages as they come, send what waits, show ticks\n"
    "\n"
    "  …  sending   ✓  sent: safe in the service   ✓✓  delivered: on every recipient's device   ✓✓ read\n"
    "\n"
    "Lines that are typed (or piped, with --to or --conversation) are sent.\n"
    "\n"
    "  --to USER[,USER…]  whom the lines go to\n"
    "  --conversation ID  the conversation that the lines go to\n"
    "  --read             what is shown counts as read (default on a terminal; --no-read: not)\n"
    "  --once             end when all that waited has been received and sent\n"
    "  --downloads DIR    where media are saved (default: in the profile)\n" CLIENT_OPTIONS_HELP;

struct shown {
    char message_id[ID_TEXT];
    enum tick tick;
};

struct listen {
    struct client_cli cli;
    struct client c;
    struct loop *loop;
    struct live *live;
    struct line_input *input;
    bool input_ended, once, read, read_told, no_read;
    const char *to, *conversation, *downloads;
    char target[NAME_MAX_LENGTH + 1]; // the conversation that lines go to; "": none yet
    struct shown shown[SHOWN_MAX];    // messages of our own whose next state is to be shown
    size_t shown_n;
    uint64_t seen; // the outbox's last position that is shown
    uv_signal_t signals[2];
    struct buf b;
    int code;
};

enum { TO = 256, CONVERSATION, READ, NO_READ, ONCE, DOWNLOADS };
static const struct option own[] = {{"to", required_argument, NULL, TO},
                                    {"conversation", required_argument, NULL, CONVERSATION},
                                    {"read", no_argument, NULL, READ},
                                    {"no-read", no_argument, NULL, NO_READ},
                                    {"once", no_argument, NULL, ONCE},
                                    {"downloads", required_argument, NULL, DOWNLOADS},
                                    {0}};

static bool take(void *arg, int value, const char *text) {
    struct listen *l = arg;
    switch (value) {
    case TO: l->to = text; return true;
    case CONVERSATION: l->conversation = text; return name_valid(text, strlen(text));
    case READ: l->read = true; return true;
    case NO_READ: l->no_read = true; return true;
    case ONCE: l->once = true; return true;
    default: l->downloads = text; return true;
    }
}

// ---- showing ----------------------------------------------------------------------------------------------

static void notice(struct listen *l, const char *event, const char *text) {
    if (l->cli.json) {
        json_t *object = json_pack("{s:s}", "event", event);
        if (text) json_object_set_new(object, "reason", json_string(text));
        cli_json(object);
        return;
    }
    struct buf *b = &l->b;
    buf_clear(b);
    buf_add_str(b, "-- ");
    render_safe(b, text ? text : event, false);
    buf_add_str(b, "\n");
    fputs(buf_cstr(b), stderr);
    buf_clear(b);
}

static void show_out(struct listen *l, const struct out_message *m, enum tick tick, const struct entry *receipt) {
    if (l->cli.json) {
        json_t *object = cli_json_out(m, tick);
        json_object_set_new(object, "event", json_string("state"));
        if (receipt && *receipt->by_user_id)
            json_object_set_new(object, "by_user_id", json_string(receipt->by_user_id));
        if (receipt) {
            char at[TIME_TEXT];
            time_format_ms(receipt->at, at);
            json_object_set_new(object, "at", json_string(at));
        }
        cli_json(object);
        return;
    }
    char label[LABEL_MAX], by[NAME_MAX_LENGTH + 16] = "";
    label_of(&l->c, m->conversation_id, label);
    if (tick == TICK_READ && receipt && strcmp(label, receipt->by_user_id) != 0) {
        size_t reads, readers; // one of several has read it: the tick stays what is true of all
        snprintf(by, sizeof by, "read by %s", receipt->by_user_id);
        tick = label_tick(&l->c, m, &reads, &readers);
    }
    render_out_message(&l->b, l->cli.out, m, label, tick, by);
    cli_text(&l->b);
}

static bool open_fresh(void *arg, const struct out_message *m) {
    struct listen *l = arg;
    if (l->shown_n == SHOWN_MAX) return false;
    struct shown *s = &l->shown[l->shown_n++];
    snprintf(s->message_id, sizeof s->message_id, "%s", m->message_id);
    s->tick = TICK_SENDING;
    l->seen = m->position;
    show_out(l, m, TICK_SENDING, NULL);
    return true;
}

static void show_changes(struct listen *l) {
    size_t kept = 0;
    for (size_t i = 0; i < l->shown_n; i++) {
        struct shown s = l->shown[i];
        struct out_message m;
        if (store_outbox_get(l->c.store, s.message_id, &m, NULL) == ERR_OK) {
            bool waits = m.next_at > io_wall_ms(l->c.io) && m.error;
            enum tick tick = tick_of(&m, waits ? 1 : 0);
            if (tick != s.tick) show_out(l, &m, tick, NULL);
            s.tick = tick;
            if (tick == TICK_SENDING || tick == TICK_WAITING) l->shown[kept++] = s;
        }
        out_message_release(&m);
    }
    l->shown_n = kept;
}

// Shows what has changed in the outbox, by whomever.
static void on_outbox_changed(void *arg) {
    struct listen *l = arg;
    uint64_t before;
    do {
        before = l->seen;
        store_outbox_each(l->c.store, l->seen, false, open_fresh, l, NULL);
        show_changes(l);
    } while (l->seen != before);
}

static bool last_position(void *arg, const struct out_message *m) {
    struct listen *l = arg;
    if (m->state == OUT_CREATED || m->state == OUT_SENDING) return false;
    l->seen = m->position;
    return true;
}

// Nobody reads what is shown any more: it must not count as read.
static void stop_if_unheard(struct listen *l) {
    if (ferror(stdout)) loop_stop(l->loop);
}

static void on_message(void *arg, const struct in_message *m) {
    struct listen *l = arg;
    if (!l->to && !l->conversation) snprintf(l->target, sizeof l->target, "%s", m->conversation_id);
    if (l->cli.json) {
        json_t *object = cli_json_in(m);
        json_object_set_new(object, "event", json_string("message"));
        cli_json(object);
        stop_if_unheard(l);
        return;
    }
    char label[LABEL_MAX];
    label_learn_about(&l->c, m->conversation_id, m->by_user_id);
    label_beside(&l->c, m->conversation_id, m->by_user_id, label);
    render_in_message(&l->b, l->cli.out, m, label);
    cli_text(&l->b);
    stop_if_unheard(l);
}

static void on_receipt(void *arg, const struct entry *receipt) {
    struct listen *l = arg;
    struct out_message m;
    enum tick tick = receipt->type == ENTRY_IS_READ      ? TICK_READ
                     : receipt->type == ENTRY_IS_EXPIRED ? TICK_EXPIRED
                                                         : TICK_DELIVERED;
    on_outbox_changed(l); // sent comes before delivered
    if (store_outbox_get(l->c.store, receipt->message_id, &m, NULL) == ERR_OK) show_out(l, &m, tick, receipt);
    out_message_release(&m);
}

static void on_connected(void *arg) {
    struct listen *l = arg;
    if (l->cli.json || l->cli.err_tty) notice(l, "connected", NULL);
}

static void on_disconnected(void *arg, const char *why, uint32_t retry_ms) {
    char text[256];
    snprintf(text, sizeof text, "not connected: %.160s; trying again in %.1f s", why, (double)retry_ms / 1000);
    notice(arg, "disconnected", text);
}

static void on_drained(void *arg) {
    struct listen *l = arg;
    if (l->cli.json) notice(l, "drained", NULL);
}

static void on_trouble(void *arg, const char *text) { notice(arg, "trouble", text); }

static void on_ended(void *arg, const struct error *e) {
    struct listen *l = arg;
    l->code = e->code ? cli_fail(&l->cli, e) : 0;
    loop_stop(l->loop);
}

// ---- lines ------------------------------------------------------------------------------------------------

static void on_line(void *arg, char *text) {
    struct listen *l = arg;
    struct error e = {0};
    if (!text) {
        notice(l, "trouble", "that line is longer than a message may be; it is not sent");
        return;
    }
    if (strspn(text, " \t\r") == strlen(text)) return;
    if (!*l->target) {
        notice(l, "trouble", "to whom? start with --to USER, or answer somebody's message");
        return;
    }
    if (!utf8_valid(text, strlen(text))) {
        notice(l, "trouble", "that line is not UTF-8");
        return;
    }
    struct out_message m = {.text = text};
    snprintf(m.conversation_id, sizeof m.conversation_id, "%s", l->target);
    if (outbox_create(&l->c, &m, &e)) notice(l, "trouble", e.text);
    else live_look(l->live);
}

static void on_input_end(void *arg) {
    struct listen *l = arg;
    l->input_ended = true;
    if (l->once) live_end_when_done(l->live);
}

static enum err set_target(struct listen *l, struct error *e) {
    if (l->conversation) snprintf(l->target, sizeof l->target, "%s", l->conversation);
    if (!l->to) return ERR_OK;
    char *copy = strdup(l->to), *users[TO_MAX], *rest = copy;
    int n = 0;
    for (char *user; copy && n < TO_MAX && (user = strsep(&rest, ",")) != NULL;) users[n++] = user;
    enum err err =
        copy ? cli_conversation_with(&l->c, users, n, l->target, e) : error_set(e, ERR_NOMEM, "out of memory");
    free(copy);
    return err;
}

// ---- the whole --------------------------------------------------------------------------------------------

static void on_signal(uv_signal_t *handle, int number) {
    struct listen *l = handle->data;
    loop_stop(l->loop);
}

static void watch_signals(struct listen *l) {
    static const int numbers[] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        uv_signal_init(loop_uv(l->loop), &l->signals[i]);
        l->signals[i].data = l;
        uv_signal_start(&l->signals[i], on_signal, numbers[i]);
    }
}

static void go(struct listen *l, struct io *downloads, const char *path) {
    struct error e = {0};
    bool lines = isatty(STDIN_FILENO) || *l->target;
    struct live_options o = {.client = &l->c,
                             .loop = l->loop,
                             .downloads = downloads,
                             .downloads_path = path,
                             .mark_read = !l->no_read && (l->read || l->cli.out_tty),
                             .once = l->once && !lines,
                             .events = {on_connected, on_disconnected, on_drained, on_message, on_receipt,
                                        on_outbox_changed, on_trouble, on_ended, l}};
    store_outbox_each(l->c.store, 0, false, last_position, l, NULL);
    if (live_new(&l->live, &o, &e)) {
        l->code = cli_fail(&l->cli, &e);
        return;
    }
    if (lines) l->input = line_input_new(l->loop, on_line, on_input_end, l);
    watch_signals(l);
    loop_run(l->loop);
    line_input_free(l->input);
    live_free(l->live);
    for (int i = 0; i < 2; i++) uv_close((uv_handle_t *)&l->signals[i], NULL);
}

static void run(struct listen *l) {
    struct error e = {0};
    struct io *downloads = NULL;
    char path[PROFILE_PATH_MAX];
    int lock = -1;
    enum err err = client_need_login(&l->c, &e);
    if (!err) err = set_target(l, &e);
    if (!err) err = cli_downloads(&l->c, l->downloads, &downloads, path, sizeof path, &e);
    if (!err && (err = client_lock(&l->c, ".listen", &lock, &e)) == ERR_LOCKED)
        error_set(&e, err, "another `barid listen` of %.64s is running here", l->c.profile.user_id);
    if (!err) err = loop_new(&l->loop, &e);
    if (err) {
        l->code = cli_fail(&l->cli, &e);
    } else {
        label_learn(&l->c);
        go(l, downloads, path);
        loop_free(l->loop);
    }
    if (lock >= 0 && err != ERR_LOCKED) client_unlock(&l->c, lock);
    io_os_free(downloads);
}

int cli_listen(int argc, char **argv) {
    struct listen *l = calloc(1, sizeof *l);
    int first, code;
    if (!l) die("out of memory");
    if (!cli_client_options(&l->cli, &(struct client_command){help, own, take, l}, argc, argv, &first, &code)) {
        free(l);
        return code;
    }
    if (argc > first) code = cli_usage(&l->cli, "it wants no operand");
    else if (cli_open(&l->cli, &l->c, &code)) {
        buf_init(&l->b, 1 << 20);
        run(l);
        code = l->code;
        buf_release(&l->b);
        client_release(&l->c);
    }
    free(l);
    return code;
}
