// What the client's subcommands share: options, output, exit codes.
//
//   0 done   1 failed or rejected   2 wrong usage   75 not yet: kept, and resumed by a later command
#ifndef BARID_CLI_CLIENT_CLI_H
#define BARID_CLI_CLIENT_CLI_H

#include "cli/cli.h"
#include "cli/password.h"
#include "client/client.h"
#include "client/render.h"

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>

#define EXIT_FAILED 1
#define EXIT_LATER  75

#define CLIENT_OPTIONS_HELP                                                                                            \
    "  --server URL     the service (default: $BARID_SERVER or http://127.0.0.1:8080)\n"                               \
    "  --as USER        which user's profile (default: $BARID_USER, or the only one there is)\n"                       \
    "  --json           one JSON object a line\n"                                                                      \
    "  --help           this text\n"

struct client_cli {
    const char *name; // of the subcommand
    const char *server, *as;
    bool json;
    struct style out, err; // of the two outputs
    bool out_tty, err_tty;
};

// A subcommand's own options: `own` ends with a zero row, its values are 256 and up, `take` gets each.
struct client_command {
    const char *help;
    const struct option *own;
    bool (*take)(void *arg, int value, const char *text);
    void *arg;
};
// Parses; `*first` becomes the index of the first operand. False: over, with this exit code.
bool cli_client_options(struct client_cli *cli, const struct client_command *command, int argc, char **argv, int *first,
                        int *exit_code);
int cli_usage(const struct client_cli *cli, const char *complaint);
int cli_fail(const struct client_cli *cli, const struct error *e); // says it; the exit code that fits
// cli_fail is said already when false.
bool cli_open(struct client_cli *cli, struct client *c, int *exit_code);
bool cli_seconds(const char *text, uint64_t *ms); // "2.5", "0" is 0

void cli_json(json_t *object); // prints and releases
void cli_text(struct buf *b);  // prints and empties
void cli_warn(const struct client_cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
json_t *cli_json_out(const struct out_message *m, enum tick tick);
json_t *cli_json_in(const struct in_message *m);

uint64_t cli_deadline(const struct client *c, uint64_t timeout_ms); // 0: never
enum err cli_downloads(struct client *c, const char *dir, struct io **io, char *path, size_t size, struct error *e);
// One line on a terminal's standard error while something is transferred.
void cli_progress(const char *name, uint64_t done, uint64_t total);

// Recipients → the id of their conversation, remembered in the store to be made when needed.
enum err cli_conversation_with(struct client *c, char **users, int n, char out[static NAME_MAX_LENGTH + 1],
                               struct error *e);

#endif
