// What `barid user`, `vhost`, `permission` and `definitions` share. They speak to the management API of a running
// server, or, with --data or --database, to the data of one
// that is not running. Either way in the objects of RabbitMQ's API:
//
//   broker_call(b, "PUT", (const char *[]){"users", "ann", NULL}, body, &answer, &e)
#ifndef BARID_CLI_BROKER_H
#define BARID_CLI_BROKER_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>

#define BROKER_WORDS_MAX 64

enum broker_option { OWN_TAGS = 1, OWN_DESCRIPTION = 2, OWN_VHOST = 4, OWN_NEW_PASSWORD = 8, OWN_QUEUE = 16 };

struct broker_command {
    const char *name; // of the subcommand
    const char *help;
    unsigned own;                              // options it takes, of enum broker_option
    const char *server, *user, *password_file; // whom to ask, as whom
    const char *data, *database;               // one of them not NULL: nobody is asked
    const char *tags, *description, *vhost, *queue, *new_password_file;
    bool json;
    char *words[BROKER_WORDS_MAX + 1]; // "add", "ann"; ends with NULL
    int count;
};
// False: over, with this exit code.
bool broker_parse(struct broker_command *c, int argc, char **argv, int *exit_code);
int broker_usage(const struct broker_command *c, const char *complaint);
int broker_fail(const struct broker_command *c, const struct error *e); // says it
void broker_done(const struct broker_command *c, json_t *result, const char *format, ...)
    __attribute__((format(printf, 3, 4))); // prints one or the other, releases the result

#define BROKER_OPTIONS_HELP                                                                                            \
    "  --server URL         the server's management API ($BARID_BROKER, default http://127.0.0.1:15672)\n"             \
    "  --user NAME          as whom, with the tag administrator ($BARID_BROKER_USER, default guest)\n"                 \
    "  --password-file F    its password: the first line of F ('-': standard input), or $BARID_BROKER_PASSWORD, or\n"  \
    "                       asked for; guest's is guest\n"                                                             \
    "  --data DIR           work on the data of a server that is not running, instead of asking one\n"                 \
    "  --database URL       the same, of a server whose database is PostgreSQL: postgresql://USER@HOST/NAME\n"         \
    "  --json               JSON instead of text\n"                                                                    \
    "  --help               this\n"

struct broker;
enum err broker_open(struct broker **out, const struct broker_command *c, struct error *e);
void broker_close(struct broker *b);
// `body` (may be NULL) stays the caller's, `*answer` becomes the caller's; NULL when there is none, as after changes.
enum err broker_call(struct broker *b, const char *method, const char *const *path, const json_t *body, json_t **answer,
                     struct error *e);
// A list, in order. Always calls of GET.
enum err broker_list(struct broker *b, const char *what, json_t **answer, struct error *e);

const char *broker_text(const json_t *object, const char *key); // "" when it is not there or no text
char *broker_tags(const json_t *tags);                          // ["a","b"] or "a,b" as "a,b"; to be freed

// One verb of a subcommand, with the number of words after it.
struct broker_verb {
    const char *name, *wants; // "add", "NAME"
    int least, most;
    enum err (*run)(const struct broker_command *c, struct broker *b, char **words, struct error *e);
};
int broker_run(struct broker_command *c, const struct broker_verb *verbs, int argc, char **argv);

// ---- the two of them: broker_http.c, broker_data.c
struct broker_kind {
    enum err (*call)(void *self, const char *method, const char *const *path, const json_t *body, json_t **answer,
                     struct error *e);
    void (*close)(void *self);
};
enum err broker_http_open(void **self, const struct broker_command *c, struct error *e);
extern const struct broker_kind broker_http;
enum err broker_data_open(void **self, const struct broker_command *c, struct error *e);
extern const struct broker_kind broker_data;

#endif
