// barid permission list | set | clear
#include "cli/broker.h"
#include "cli/cli.h"
#include "cli/table.h"

#include <string.h>

static const char help[] =
    "barid permission list [USER]                       who may do what where\n"
    "barid permission set USER CONFIGURE WRITE READ     in --vhost; three regular expressions over the names of\n"
    "                                                   exchanges and queues\n"
    "barid permission clear USER                        the user may not enter --vhost any more\n"
    "\n"
    "CONFIGURE allows to declare and delete, WRITE to publish to an exchange and to bind a queue, READ to consume,\n"
    "purge, and bind to an exchange. An expression matches anywhere in the name unless it begins with ^ and ends with\n"
    "$; '' allows nothing, '.*' everything. The default exchange is called amq.default here.\n"
    "\n"
    "  --vhost V            the virtual host (default /; list: of this one only)\n" BROKER_OPTIONS_HELP;

static bool wanted(const struct broker_command *c, const json_t *permission, const char *user) {
    return (c->vhost == NULL || strcmp(c->vhost, broker_text(permission, "vhost")) == 0) &&
           (user == NULL || strcmp(user, broker_text(permission, "user")) == 0);
}

static enum err list(const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    static const char *const keys[] = {"user", "vhost", "configure", "write", "read"};
    json_t *permissions, *permission;
    size_t i;
    struct table t;
    enum err err = broker_list(b, "permissions", &permissions, e);
    if (err != ERR_OK) return err;
    table_init(&t, 5);
    table_row(&t, (const char *[]){"USER", "VIRTUAL HOST", "CONFIGURE", "WRITE", "READ"});
    json_array_foreach(permissions, i, permission) {
        const char *cells[5];
        if (!wanted(c, permission, words[0])) continue;
        for (size_t k = 0; k < 5; k++) cells[k] = broker_text(permission, keys[k]);
        if (c->json)
            broker_done(c,
                        json_pack("{s:s, s:s, s:s, s:s, s:s}", keys[0], cells[0], keys[1], cells[1], keys[2], cells[2],
                                  keys[3], cells[3], keys[4], cells[4]),
                        " ");
        else table_row(&t, cells);
    }
    if (!c->json) table_print(&t);
    table_release(&t);
    json_decref(permissions);
    return ERR_OK;
}

static const char *vhost_of(const struct broker_command *c) { return c->vhost != NULL ? c->vhost : "/"; }

static enum err must_exist(struct broker *b, const char *what, const char *name, struct error *e) {
    json_t *answer;
    enum err err = broker_call(b, "GET", (const char *[]){what, name, NULL}, NULL, &answer, e);
    json_decref(answer);
    return err;
}

// Which of the two is not there is better told than guessed.
static enum err set(const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    const char *vhost = vhost_of(c);
    json_t *answer;
    enum err err = must_exist(b, "users", words[0], e);
    if (err == ERR_OK) err = must_exist(b, "vhosts", vhost, e);
    if (err != ERR_OK) return err;
    json_t *body = json_pack("{s:s, s:s, s:s}", "configure", words[1], "write", words[2], "read", words[3]);
    if (body == NULL) return error_set(e, ERR_INVALID, "the expressions must be UTF-8");
    err = broker_call(b, "PUT", (const char *[]){"permissions", vhost, words[0], NULL}, body, &answer, e);
    json_decref(answer);
    json_object_set_new(body, "user", json_string(words[0]));
    json_object_set_new(body, "vhost", json_string(vhost));
    if (err == ERR_OK)
        broker_done(c, body, "%s in %s: configure '%s', write '%s', read '%s'", words[0], vhost, words[1], words[2],
                    words[3]);
    else json_decref(body);
    return err;
}

static enum err clear(const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    const char *vhost = vhost_of(c);
    json_t *answer;
    enum err err = broker_call(b, "DELETE", (const char *[]){"permissions", vhost, words[0], NULL}, NULL, &answer, e);
    json_decref(answer);
    if (err == ERR_OK)
        broker_done(c, json_pack("{s:s, s:s, s:b}", "user", words[0], "vhost", vhost, "cleared", 1),
                    "%s may not enter %s any more", words[0], vhost);
    return err;
}

int cli_permission(int argc, char **argv) {
    static const struct broker_verb verbs[] = {{"list", "[USER]", 0, 1, list},
                                               {"set", "USER CONFIGURE WRITE READ", 4, 4, set},
                                               {"clear", "USER", 1, 1, clear},
                                               {0}};
    struct broker_command c = {.name = "permission", .help = help, .own = OWN_VHOST};
    return broker_run(&c, verbs, argc, argv);
}
