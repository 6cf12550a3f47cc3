#include "cli/broker.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/crash.h"
#include "cli/cli.h"
#include "client/render.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct broker {
    const struct broker_kind *kind;
    void *self;
};

// ---- the command line -----------------------------------------------------------------------------------

enum {
    SERVER = 256,
    USER,
    PASSWORD_FILE,
    PASSWORD,
    DATA,
    DATABASE,
    JSON,
    HELP,
    TAGS,
    DESCRIPTION,
    VHOST,
    QUEUE,
    NEW_PASSWORD_FILE
};

static const struct option options[] = {{"server", required_argument, NULL, SERVER},
                                        {"user", required_argument, NULL, USER},
                                        {"password-file", required_argument, NULL, PASSWORD_FILE},
                                        {"password", optional_argument, NULL, PASSWORD},
                                        {"data", required_argument, NULL, DATA},
                                        {"database", required_argument, NULL, DATABASE},
                                        {"json", no_argument, NULL, JSON},
                                        {"help", no_argument, NULL, HELP},
                                        {"tags", required_argument, NULL, TAGS},
                                        {"description", required_argument, NULL, DESCRIPTION},
                                        {"vhost", required_argument, NULL, VHOST},
                                        {"queue", required_argument, NULL, QUEUE},
                                        {"new-password-file", required_argument, NULL, NEW_PASSWORD_FILE},
                                        {0}};

int broker_usage(const struct broker_command *c, const char *complaint) {
    fprintf(stderr, "barid %s: %s; see barid %s --help\n", c->name, complaint, c->name);
    return EXIT_USAGE;
}

static unsigned own_of(int option) {
    switch (option) {
    case TAGS: return OWN_TAGS;
    case DESCRIPTION: return OWN_DESCRIPTION;
    case VHOST: return OWN_VHOST;
    case QUEUE: return OWN_QUEUE;
    case NEW_PASSWORD_FILE: return OWN_NEW_PASSWORD;
    default: return 0;
    }
}

static void take(struct broker_command *c, int option) {
    switch (option) {
    case SERVER: c->server = optarg; break;
    case USER: c->user = optarg; break;
    case PASSWORD_FILE: c->password_file = optarg; break;
    case DATA: c->data = optarg; break;
    case DATABASE: c->database = optarg; break;
    case JSON: c->json = true; break;
    case TAGS: c->tags = optarg; break;
    case DESCRIPTION: c->description = optarg; break;
    case VHOST: c->vhost = optarg; break;
    case QUEUE: c->queue = optarg; break;
    case NEW_PASSWORD_FILE: c->new_password_file = optarg; break;
    default: ASSERT(false);
    }
}

static const char *environment(const char *name, const char *otherwise) {
    const char *v = getenv(name);
    return v != NULL && *v != '\0' ? v : otherwise;
}

static bool parse_options(struct broker_command *c, int argc, char **argv, int *exit_code) {
    optind = 0;
    opterr = 0;
    *exit_code = EXIT_USAGE;
    for (int o; (o = getopt_long(argc, argv, ":h", options, NULL)) != -1;) {
        char complaint[160];
        if (o == 'h' || o == HELP) {
            fputs(c->help, stdout);
            *exit_code = 0;
            return false;
        }
        if (o == PASSWORD) {
            broker_usage(c, "a password on the command line can be read by everybody on this machine: use "
                            "--password-file, a variable, or wait to be asked");
            return false;
        }
        bool known = o != '?' && o != ':' && (own_of(o) == 0 || (c->own & own_of(o)) != 0);
        if (!known) {
            snprintf(complaint, sizeof complaint, o == ':' ? "%.100s wants a value" : "there is no option %.100s",
                     o == '?' || o == ':' ? argv[optind - 1] : "of that name here");
            broker_usage(c, complaint);
            return false;
        }
        take(c, o);
    }
    return true;
}

bool broker_parse(struct broker_command *c, int argc, char **argv, int *exit_code) {
    c->server = environment("BARID_BROKER", "http://127.0.0.1:15672");
    c->user = environment("BARID_BROKER_USER", "guest");
    if (!parse_options(c, argc, argv, exit_code)) return false;
    for (int i = optind; i < argc; i++) {
        if (c->count == BROKER_WORDS_MAX) {
            broker_usage(c, "too many words");
            return false;
        }
        c->words[c->count++] = argv[i];
    }
    return true;
}

// ---- telling --------------------------------------------------------------------------------------------

static void say(FILE *to, const char *before, const char *text) {
    struct buf safe;
    buf_init(&safe, 1 << 20);
    render_safe(&safe, text, false);
    fprintf(to, "%s%s\n", before, buf_cstr(&safe));
    buf_release(&safe);
}

int broker_fail(const struct broker_command *c, const struct error *e) {
    const char *text = e->text[0] != '\0' ? e->text : err_text(e->code);
    if (c->json) {
        json_t *error = json_pack("{s:{s:s, s:s}}", "error", "code", err_name(e->code), "reason", text);
        json_dumpf(error, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(error);
        return 1;
    }
    char before[64];
    snprintf(before, sizeof before, "barid %s: %s%s", c->name, e->field, e->field[0] != '\0' ? ": " : "");
    say(stderr, before, text);
    return 1;
}

void broker_done(const struct broker_command *c, json_t *result, const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (c->json) {
        json_dumpf(result, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        say(stdout, "", text);
    }
    json_decref(result);
}

// ---- calls ----------------------------------------------------------------------------------------------

enum err broker_open(struct broker **out, const struct broker_command *c, struct error *e) {
    struct broker *b = calloc(1, sizeof *b);
    if (b == NULL) return error_set(e, ERR_NOMEM, "out of memory");
    bool offline = c->data != NULL || c->database != NULL;
    b->kind = offline ? &broker_data : &broker_http;
    enum err err = offline ? broker_data_open(&b->self, c, e) : broker_http_open(&b->self, c, e);
    if (err == ERR_OK) *out = b;
    else free(b);
    return err;
}

void broker_close(struct broker *b) {
    b->kind->close(b->self);
    free(b);
}

enum err broker_call(struct broker *b, const char *method, const char *const *path, const json_t *body, json_t **answer,
                     struct error *e) {
    *answer = NULL;
    return b->kind->call(b->self, method, path, body, answer, e);
}

enum err broker_list(struct broker *b, const char *what, json_t **answer, struct error *e) {
    enum err err = broker_call(b, "GET", (const char *[]){what, NULL}, NULL, answer, e);
    if (err != ERR_OK || json_is_array(*answer)) return err;
    json_decref(*answer);
    return error_set(e, ERR_UNSUPPORTED, "the server's answer is no list: is it a management API?");
}

const char *broker_text(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

char *broker_tags(const json_t *tags) {
    struct buf b;
    buf_init(&b, 1 << 20);
    size_t i;
    json_t *tag;
    if (json_is_string(tags)) buf_add_str(&b, json_string_value(tags));
    json_array_foreach(tags, i, tag) {
        if (i > 0) buf_add_str(&b, ",");
        if (json_is_string(tag)) buf_add_str(&b, json_string_value(tag));
    }
    char *text = strdup(buf_cstr(&b));
    buf_release(&b);
    if (text == NULL) die("out of memory");
    return text;
}

// ---- all together ---------------------------------------------------------------------------------------

static const struct broker_verb *verb_of(const struct broker_command *c, const struct broker_verb *verbs) {
    for (const struct broker_verb *v = verbs; v->name != NULL; v++)
        if (c->count > 0 && strcmp(v->name, c->words[0]) == 0) return v;
    return NULL;
}

static int wrong_verb(const struct broker_command *c, const struct broker_verb *verbs) {
    char text[256];
    size_t n = (size_t)snprintf(text, sizeof text, "it wants one of");
    for (const struct broker_verb *v = verbs; v->name != NULL && n < sizeof text; v++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s %s", v == verbs ? "" : ",", v->name);
    return broker_usage(c, text);
}

int broker_run(struct broker_command *c, const struct broker_verb *verbs, int argc, char **argv) {
    int code;
    struct broker *b;
    struct error e = {0};
    crash_init();
    if (!broker_parse(c, argc, argv, &code)) return code;
    const struct broker_verb *v = verb_of(c, verbs);
    if (v == NULL) return wrong_verb(c, verbs);
    if (c->count - 1 < v->least || c->count - 1 > v->most) {
        char text[160];
        snprintf(text, sizeof text, "%s wants: %s", v->name, *v->wants != '\0' ? v->wants : "nothing more");
        return broker_usage(c, text);
    }
    if (broker_open(&b, c, &e) != ERR_OK) return broker_fail(c, &e);
    enum err err = v->run(c, b, c->words + 1, &e);
    broker_close(b);
    if (err == ERR_OK) return 0;
    e.code = err;
    return broker_fail(c, &e);
}
