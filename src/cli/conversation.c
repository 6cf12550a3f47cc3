// barid conversation list | new | show
#include "cli/cli.h"
#include "cli/client_cli.h"
#include "client/members.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 10000

static const char help[] =
    "barid conversation list             the conversations you are in\n"
    "barid conversation new MEMBER…      make one, or find the one these members have already\n"
    "barid conversation show ID          who is in it\n"
    "\n"
    "Without --title or --id the id follows from the members, so that making it twice makes one.\n"
    "\n"
    "  --title S        what it is called\n"
    "  --id ID          its id: a-z, 0-9, '.', '_', '-'\n" CLIENT_OPTIONS_HELP;

struct conversation_options {
    const char *title, *id;
};

enum { TITLE = 256, ID_OPTION };
static const struct option own[] = {
    {"title", required_argument, NULL, TITLE}, {"id", required_argument, NULL, ID_OPTION}, {0}};

static bool take(void *arg, int value, const char *text) {
    struct conversation_options *o = arg;
    if (value == TITLE) o->title = text;
    if (value == ID_OPTION) o->id = text;
    return value != ID_OPTION || name_valid(text, strlen(text));
}

static void print_one(const struct client_cli *cli, const json_t *conversation) {
    if (cli->json) {
        cli_json(json_incref((json_t *)conversation));
        return;
    }
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_printf(&b, "%-36s ", member_text(conversation, "conversation_id", "?"));
    const char *title = member_text(conversation, "title", "");
    if (*title) {
        render_safe(&b, title, false);
        buf_add_str(&b, ": ");
    }
    size_t i;
    const json_t *member;
    json_array_foreach(json_object_get(conversation, "members"), i, member) {
        buf_add_str(&b, i ? ", " : "");
        render_safe(&b, json_string_value(member) ? json_string_value(member) : "?", false);
    }
    buf_printf(&b, " (%llu messages)\n", (unsigned long long)member_count(conversation, "last_seq"));
    cli_text(&b);
    buf_release(&b);
}

// One call, and printing what it gives.
static int ask(const struct client_cli *cli, struct client *c, const char *method, const char *path,
               const json_t *body) {
    struct error e = {0};
    struct answer a;
    int code = 0;
    if (client_call(c, method, path, body, cli_deadline(c, TIMEOUT_MS), &a, &e)) {
        code = cli_fail(cli, &e);
    } else {
        const json_t *list = json_object_get(a.body, "conversations"), *one;
        size_t i;
        if (!list) {
            client_learn_conversation(c, a.body, NULL);
            print_one(cli, a.body);
        }
        json_array_foreach(list, i, one) {
            client_learn_conversation(c, one, NULL);
            print_one(cli, one);
        }
    }
    answer_release(&a);
    return code;
}

static int make(const struct client_cli *cli, struct client *c, const struct conversation_options *o, char **members,
                int n) {
    const char **names = calloc((size_t)n + 1, sizeof *names);
    if (!names) return EXIT_FAILED;
    for (int i = 0; i < n; i++) names[i] = members[i];
    names[n] = c->profile.user_id;
    json_t *sorted = members_sorted(names, (size_t)n + 1);
    free(names);
    char id[NAME_MAX_LENGTH + 1];
    struct id fresh = id_new(c->io); // made here, so that a try after a lost answer makes no second one
    id_format(&fresh, id);
    if (o->id) snprintf(id, sizeof id, "%s", o->id);
    else if (!o->title) members_derive_id(sorted, id);
    json_t *body = json_pack("{s:s, s:o}", "conversation_id", id, "members", sorted);
    if (o->title) json_object_set_new(body, "title", json_string(o->title));
    int code = ask(cli, c, "POST", "/conversation", body);
    json_decref(body);
    return code;
}

static int run(const struct client_cli *cli, struct client *c, const struct conversation_options *o, char **words,
               int n) {
    struct error e = {0};
    if (client_need_login(c, &e)) return cli_fail(cli, &e);
    if (n == 1 && !strcmp(words[0], "list")) return ask(cli, c, "GET", "/conversation", NULL);
    if (n >= 2 && !strcmp(words[0], "new")) return make(cli, c, o, words + 1, n - 1);
    if (n == 2 && !strcmp(words[0], "show") && name_valid(words[1], strlen(words[1]))) {
        char path[128];
        snprintf(path, sizeof path, "/conversation/%s", words[1]);
        return ask(cli, c, "GET", path, NULL);
    }
    return cli_usage(cli, "it wants: list, new MEMBER… or show ID");
}

int cli_conversation(int argc, char **argv) {
    struct client_cli cli;
    struct conversation_options o = {0};
    struct client c;
    int first, code;
    if (!cli_client_options(&cli, &(struct client_command){help, own, take, &o}, argc, argv, &first, &code))
        return code;
    if (argc == first) return cli_usage(&cli, "it wants: list, new MEMBER… or show ID");
    if (!cli_open(&cli, &c, &code)) return code;
    code = run(&cli, &c, &o, argv + first, argc - first);
    client_release(&c);
    return code;
}
