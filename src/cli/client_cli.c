#include "cli/client_cli.h"

#include "base/crash.h"
#include "base/io.h"
#include "base/time.h"
#include "client/members.h"
#include "client/progress.h"

#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define OWN_OPTIONS_MAX 16

enum { OPTION_SERVER = 1, OPTION_AS, OPTION_JSON };

static const struct option common[] = {{"server", required_argument, NULL, OPTION_SERVER},
                                       {"as", required_argument, NULL, OPTION_AS},
                                       {"json", no_argument, NULL, OPTION_JSON},
                                       {"help", no_argument, NULL, 'h'}};
#define COMMON (sizeof common / sizeof *common)

static void set_defaults(struct client_cli *cli, const char *name) {
    signal(SIGPIPE, SIG_IGN); // `barid read --all | head` is to do its work all the same
    memset(cli, 0, sizeof *cli);
    cli->name = name;
    cli->server = getenv("BARID_SERVER");
    if (!cli->server || !*cli->server) cli->server = "http://127.0.0.1:8080";
    cli->as = getenv("BARID_USER");
    if (cli->as && !*cli->as) cli->as = NULL;
    cli->out_tty = isatty(STDOUT_FILENO);
    cli->err_tty = isatty(STDERR_FILENO);
    const char *no_colour = getenv("NO_COLOR");
    cli->out.colour = cli->out_tty && !(no_colour && *no_colour);
    cli->err.colour = cli->err_tty && !(no_colour && *no_colour);
}

static bool take_common(struct client_cli *cli, int value) {
    switch (value) {
    case OPTION_SERVER: cli->server = optarg; return true;
    case OPTION_AS: cli->as = optarg; return true;
    case OPTION_JSON: cli->json = true; return true;
    default: return false;
    }
}

bool cli_client_options(struct client_cli *cli, const struct client_command *command, int argc, char **argv, int *first,
                        int *exit_code) {
    struct option all[COMMON + OWN_OPTIONS_MAX + 1] = {0};
    set_defaults(cli, argv[0]);
    memcpy(all, common, sizeof common);
    for (size_t i = 0; command->own && command->own[i].name && i < OWN_OPTIONS_MAX; i++)
        all[COMMON + i] = command->own[i];
    *exit_code = EXIT_USAGE;
    optind = 0;
    opterr = 0;
    for (int value; (value = getopt_long(argc, argv, ":h", all, NULL)) != -1;) {
        char complaint[160];
        if (value == 'h') {
            fputs(command->help, stdout);
            *exit_code = 0;
            return false;
        }
        if (take_common(cli, value)) continue;
        if (value == '?' || value == ':')
            snprintf(complaint, sizeof complaint, value == ':' ? "%.100s wants a value" : "there is no option %.100s",
                     argv[optind - 1]);
        else if (command->take(command->arg, value, optarg)) continue;
        else snprintf(complaint, sizeof complaint, "'%.100s' is not what that option wants", optarg ? optarg : "");
        cli_usage(cli, complaint);
        return false;
    }
    *first = optind;
    return true;
}

int cli_usage(const struct client_cli *cli, const char *complaint) {
    fprintf(stderr, "barid %s: %s; see barid %s --help\n", cli->name, complaint, cli->name);
    return EXIT_USAGE;
}

int cli_fail(const struct client_cli *cli, const struct error *e) {
    if (cli->json) {
        json_t *error = json_pack("{s:s, s:s}", "code", err_name(e->code), "reason", e->text);
        if (e->field[0]) json_object_set_new(error, "field", json_string(e->field));
        cli_json(json_pack("{s:o}", "error", error));
    } else {
        cli_warn(cli, "%s", e->text);
    }
    bool later = e->code == ERR_TIMEOUT || e->code == ERR_UNAVAILABLE || e->code == ERR_BUSY || e->code == ERR_RATE;
    return later ? EXIT_LATER : EXIT_FAILED;
}

void cli_warn(const struct client_cli *cli, const char *format, ...) {
    char text[2 * ERROR_TEXT_MAX]; // of which the service may have written some
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct buf safe;
    buf_init(&safe, 8 * sizeof text);
    render_safe(&safe, text, false);
    fprintf(stderr, "barid %s: %s\n", cli->name, buf_cstr(&safe));
    buf_release(&safe);
}

bool cli_open(struct client_cli *cli, struct client *c, int *exit_code) {
    struct error e = {0};
    crash_init();
    enum err err = client_open(c, cli->server, cli->as, &e);
    if (!err) return true;
    client_release(c);
    *exit_code = cli_fail(cli, &e);
    return false;
}

bool cli_seconds(const char *text, uint64_t *ms) {
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds >= 0 && seconds <= 1e6)) return false;
    *ms = (uint64_t)(seconds * 1000);
    return true;
}

uint64_t cli_deadline(const struct client *c, uint64_t timeout_ms) {
    return timeout_ms ? client_now_ms(c) + timeout_ms : UINT64_MAX;
}

// ---- output ---------------------------------------------------------------------------------------------

void cli_json(json_t *object) {
    json_dumpf(object, stdout, JSON_COMPACT);
    fputc('\n', stdout);
    fflush(stdout);
    json_decref(object);
}

void cli_text(struct buf *b) {
    fwrite(b->data, 1, b->len, stdout);
    fflush(stdout);
    buf_clear(b);
}

static void set_text(json_t *object, const char *key, const char *text) {
    if (text && *text) json_object_set_new(object, key, json_string(text));
}

static void set_time(json_t *object, const char *key, int64_t ms) {
    char text[TIME_TEXT];
    if (!ms) return;
    time_format_ms(ms, text);
    json_object_set_new(object, key, json_string(text));
}

json_t *cli_json_out(const struct out_message *m, enum tick tick) {
    json_t *object = json_pack("{s:s, s:s, s:s}", "message_id", m->message_id, "conversation_id", m->conversation_id,
                               "state", tick_name(tick));
    if (m->seq) json_object_set_new(object, "seq", json_integer((json_int_t)m->seq));
    set_text(object, "message_text", m->text);
    set_text(object, "media_type", m->media_type);
    set_text(object, "filename", m->filename);
    if (m->attempts) json_object_set_new(object, "attempts", json_integer(m->attempts));
    set_time(object, "created_at", m->created_at);
    set_time(object, "accepted_at", m->accepted_at);
    set_text(object, "error", m->error);
    return object;
}

json_t *cli_json_in(const struct in_message *m) {
    json_t *object = json_pack("{s:s, s:s, s:I, s:s, s:s, s:I}", "message_id", m->message_id, "conversation_id",
                               m->conversation_id, "seq", (json_int_t)m->seq, "by_user_id", m->by_user_id, "state",
                               m->read_at ? "read" : "received", "bytes", (json_int_t)m->bytes);
    if (m->text) json_object_set_new(object, "message_text", json_string(m->text));
    set_text(object, "media_type", m->media_type);
    set_text(object, "filename", m->filename);
    set_text(object, "media_path", m->media_path);
    if (m->gone) json_object_set_new(object, "gone", json_true());
    set_time(object, "accepted_at", m->accepted_at);
    set_time(object, "received_at", m->received_at);
    set_time(object, "read_at", m->read_at);
    return object;
}

void cli_progress(const char *name, uint64_t done, uint64_t total) {
    static struct progress progress;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    if (total == 0 || !isatty(STDERR_FILENO) || !progress_due(&progress, now_ms, done, total)) return;
    struct buf line;
    buf_init(&line, 1024);
    progress_render(&line, name, done, total, now_ms - progress.started_ms);
    fprintf(stderr, "\r%s\033[K%s", buf_cstr(&line), done >= total ? "\r\033[K" : "");
    buf_release(&line);
    if (done >= total) memset(&progress, 0, sizeof progress);
}

// ---- places and people ----------------------------------------------------------------------------------

enum err cli_downloads(struct client *c, const char *dir, struct io **io, char *path, size_t size, struct error *e) {
    char wanted[PROFILE_PATH_MAX + 16], full[PATH_MAX];
    snprintf(wanted, sizeof wanted, "%s%s", dir ? dir : c->profile.dir, dir ? "" : "/downloads");
    enum err err = io_os_new(io, wanted, e);
    if (err) return err;
    int n = snprintf(path, size, "%s", realpath(wanted, full) ? full : wanted);
    if (n >= 0 && (size_t)n < size) return ERR_OK;
    io_os_free(*io);
    *io = NULL;
    return error_set(e, ERR_TOO_LARGE, "the path of the downloads directory is too long");
}

enum err cli_conversation_with(struct client *c, char **users, int n, char out[static NAME_MAX_LENGTH + 1],
                               struct error *e) {
    const char **names = calloc((size_t)n + 1, sizeof *names);
    if (!names) return error_set(e, ERR_NOMEM, "out of memory");
    enum err err = ERR_OK;
    for (int i = 0; i < n && !err; i++) {
        names[i] = users[i];
        if (!name_valid(users[i], strlen(users[i])))
            err = error_field(e, "to", "'%.64s' is no user's name: a-z, 0-9, '.', '_', '-', at most 64", users[i]);
    }
    names[n] = c->profile.user_id;
    if (!err) {
        char derived[CONVERSATION_ID_DERIVED];
        json_t *members = members_sorted(names, (size_t)n + 1);
        members_derive_id(members, derived);
        snprintf(out, NAME_MAX_LENGTH + 1, "%s", derived);
        char *text = json_dumps(members, JSON_COMPACT);
        json_decref(members);
        err = store_conversation_set(c->store, derived, NULL, text, false, e);
        free(text);
    }
    free(names);
    return err;
}
