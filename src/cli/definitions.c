// barid definitions export | import
#include "base/assert.h"
#include "cli/broker.h"
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "barid definitions export [FILE]    users, virtual hosts, permissions, exchanges, queues and bindings of the\n"
    "                                   broker as one JSON file, in RabbitMQ's format; to standard output, or to "
    "FILE,\n"
    "                                   which only its owner may read: there are password hashes in it\n"
    "barid definitions import FILE      makes all that is in such a file, barid's or RabbitMQ's ('-': standard "
    "input);\n"
    "                                   what is there and not in the file stays\n"
    "\n"
    "With --data: users, virtual hosts and permissions alone.\n"
    "\n" BROKER_OPTIONS_HELP;

// Only the server has them at hand.
static const char *const servers_own[] = {"exchanges", "queues", "bindings"};
// RabbitMQ has them, barid does not.
static const char *const unknown[] = {"policies", "parameters", "global_parameters", "topic_permissions"};
static const char *const known[] = {"users", "vhosts", "permissions", "exchanges", "queues", "bindings"};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *const definitions_path[] = {"definitions", NULL};

// ---- export ---------------------------------------------------------------------------------------------

static enum err file_failed(const char *file, const char *what, struct error *e) {
    return error_set(e, ERR_IO, "%s cannot be %s: %s", file, what, strerror(errno));
}

// Beside it first, so that an older file is there until the new one is whole.
static enum err write_file(const char *path, const json_t *definitions, struct error *e) {
    char beside[4096];
    if ((size_t)snprintf(beside, sizeof beside, "%s.part", path) >= sizeof beside)
        return error_set(e, ERR_INVALID, "the file's name is too long");
    unlink(beside);
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (f == NULL) return file_failed(beside, "made", e);
    bool ok =
        json_dumpf(definitions, f, JSON_INDENT(2)) == 0 && fputc('\n', f) != EOF && fflush(f) == 0 && fsync(fd) == 0;
    ok = fclose(f) == 0 && ok;
    if (ok && rename(beside, path) == 0) return ERR_OK;
    enum err err = file_failed(path, "written", e);
    unlink(beside);
    return err;
}

static enum err write_stdout(const json_t *definitions, struct error *e) {
    bool ok = json_dumpf(definitions, stdout, JSON_INDENT(2)) == 0 && putchar('\n') != EOF && fflush(stdout) == 0;
    return ok ? ERR_OK : file_failed("standard output", "written", e);
}

static void note_what_is_missing(const struct broker_command *c) {
    if (c->data != NULL)
        fputs("barid definitions: exchanges, queues and bindings are not in it; a running server exports them\n",
              stderr);
}

static enum err export(const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    json_t *definitions; bool to_file = words[0] != NULL && strcmp(words[0], "-") != 0;
    enum err err = broker_call(b, "GET", definitions_path, NULL, &definitions, e);
    if (err != ERR_OK) return err;
    err = to_file ? write_file(words[0], definitions, e) : write_stdout(definitions, e);
    if (err == ERR_OK && to_file) broker_done(c, json_pack("{s:s}", "file", words[0]), "exported to %s", words[0]);
    if (err == ERR_OK) note_what_is_missing(c);
    json_decref(definitions);
    return err;
}

// ---- import ---------------------------------------------------------------------------------------------

static enum err read_file(const char *path, json_t **out, struct error *e) {
    json_error_t where;
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (f == NULL) return file_failed(path, "read", e);
    json_t *definitions = json_loadf(f, JSON_REJECT_DUPLICATES, &where);
    if (f != stdin) fclose(f);
    *out = definitions;
    if (definitions == NULL)
        return error_set(e, ERR_INVALID, "%.100s, line %d, is not JSON: %.100s", path, where.line, where.text);
    if (json_is_object(definitions)) return ERR_OK;
    json_decref(definitions);
    return error_set(e, ERR_INVALID, "%.150s is no definitions file: it wants an object", path);
}

// A list of objects, or not there.
static enum err check_lists(const json_t *definitions, struct error *e) {
    for (size_t k = 0; k < COUNT(known); k++) {
        const json_t *all = json_object_get(definitions, known[k]), *one;
        size_t i;
        if (all != NULL && !json_is_array(all)) return error_field(e, known[k], "must be a list");
        json_array_foreach(all, i, one) {
            if (!json_is_object(one)) return error_field(e, known[k], "must be a list of objects");
        }
    }
    return ERR_OK;
}

static void note_what_is_left_out(const struct broker_command *c, const json_t *definitions, const char *const *keys,
                                  size_t n, const char *why) {
    for (size_t k = 0; k < n; k++) {
        size_t count = json_array_size(json_object_get(definitions, keys[k]));
        if (count > 0) fprintf(stderr, "barid definitions: left out: %zu %s, %s\n", count, keys[k], why);
    }
}

static json_t *summary(const struct broker_command *c, const json_t *definitions, char *text, size_t size) {
    json_t *counts = json_object();
    size_t n = 0;
    text[0] = '\0';
    for (size_t k = 0; k < COUNT(known); k++) {
        bool left_out = c->data != NULL && k >= COUNT(known) - COUNT(servers_own);
        size_t count = left_out ? 0 : json_array_size(json_object_get(definitions, known[k]));
        json_object_set_new(counts, known[k], json_integer((json_int_t)count));
        if (count > 0 && n < size)
            n += (size_t)snprintf(text + n, size - n, "%s%zu %s", n > 0 ? ", " : "", count, known[k]);
    }
    return counts;
}

static enum err import(const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    json_t *definitions = NULL, *answer = NULL;
    char text[256];
    enum err err = read_file(words[0], &definitions, e);
    if (err != ERR_OK) return err;
    err = check_lists(definitions, e);
    if (err == ERR_OK) err = broker_call(b, "POST", definitions_path, definitions, &answer, e);
    json_decref(answer);
    if (err == ERR_OK) {
        json_t *counts = summary(c, definitions, text, sizeof text);
        broker_done(c, counts, "imported: %s", *text != '\0' ? text : "nothing");
        if (c->data != NULL)
            note_what_is_left_out(c, definitions, servers_own, COUNT(servers_own), "which take a running server");
        note_what_is_left_out(c, definitions, unknown, COUNT(unknown), "which barid does not have");
    }
    json_decref(definitions);
    return err;
}

int cli_definitions(int argc, char **argv) {
    static const struct broker_verb verbs[] = {
        {"export", "[FILE]", 0, 1, export}, {"import", "FILE", 1, 1, import}, {0}};
    struct broker_command c = {.name = "definitions", .help = help};
    return broker_run(&c, verbs, argc, argv);
}
