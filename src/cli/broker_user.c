// barid user list | add | delete | password | tags
#include "cli/broker.h"
#include "cli/cli.h"
#include "cli/password.h"
#include "cli/table.h"

#include <stdlib.h>
#include <string.h>

static const char help[] =
    "barid user list                        users of the broker\n"
    "barid user add NAME [--tags T]         a new one; it may do nothing before `barid permission set`\n"
    "barid user delete NAME                 its connections are closed\n"
    "barid user password NAME               another password\n"
    "barid user tags NAME [TAG ...]         other tags; none takes them away\n"
    "\n"
    "(People who write to each other have accounts with the messaging service: `barid register`.)\n"
    "\n"
    "The tags administrator, monitoring, policymaker and management let a user use the management API.\n"
    "\n"
    "  --new-password-file F  add, password: the user's password is the first line of F ('-': standard input), or\n"
    "                         $BARID_NEW_PASSWORD, or asked for\n"
    "  --tags T,T           add: the tags, separated by commas\n" BROKER_OPTIONS_HELP;

static const struct password_source new_password = {"--new-password-file", "BARID_NEW_PASSWORD",
                                                    "Password for the new user: "};
static const struct password_source other_password = {"--new-password-file", "BARID_NEW_PASSWORD", "New password: "};

static enum err get(struct broker *b, const char *name, json_t **user, struct error *e) {
    return broker_call(b, "GET", (const char *[]){"users", name, NULL}, NULL, user, e);
}

static enum err put(struct broker *b, const char *name, json_t *body, struct error *e) {
    json_t *answer;
    if (body == NULL) return error_field(e, "name", "name, password and tags must be UTF-8");
    enum err err = broker_call(b, "PUT", (const char *[]){"users", name, NULL}, body, &answer, e);
    json_decref(answer);
    json_decref(body);
    return err;
}

static enum err list(const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    json_t *users, *user;
    size_t i;
    struct table t;
    enum err err = broker_list(b, "users", &users, e);
    if (err != ERR_OK) return err;
    table_init(&t, 2);
    table_row(&t, (const char *[]){"USER", "TAGS"});
    json_array_foreach(users, i, user) {
        char *tags = broker_tags(json_object_get(user, "tags"));
        const char *name = broker_text(user, "name");
        if (c->json) broker_done(c, json_pack("{s:s, s:s}", "name", name, "tags", tags), " ");
        else table_row(&t, (const char *[]){name, tags});
        free(tags);
    }
    if (!c->json) table_print(&t);
    table_release(&t);
    json_decref(users);
    return ERR_OK;
}

// The API's PUT would change one that is there; whoever says add does not mean that.
static enum err must_be_new(struct broker *b, const char *name, struct error *e) {
    json_t *user;
    enum err err = get(b, name, &user, e);
    json_decref(user);
    if (err == ERR_OK)
        return error_set(e, ERR_CONFLICT, "there is a user %.60s: `barid user password` and `tags` change it", name);
    if (err == ERR_NOT_FOUND) *e = (struct error){0};
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err add(const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    const char *tags = c->tags != NULL ? c->tags : "";
    enum err err = must_be_new(b, words[0], e);
    if (err != ERR_OK) return err;
    char *password = cli_password_of(&new_password, c->new_password_file, true, e);
    if (password == NULL) return e->code;
    err = put(b, words[0], json_pack("{s:s, s:s}", "password", password, "tags", tags), e);
    cli_password_release(password);
    if (err == ERR_OK)
        broker_done(c, json_pack("{s:s, s:s}", "name", words[0], "tags", tags),
                    "%s is added; `barid permission set %s '.*' '.*' '.*'` lets it do everything in /", words[0],
                    words[0]);
    return err;
}

static enum err delete (const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    json_t *answer;
    enum err err = broker_call(b, "DELETE", (const char *[]){"users", words[0], NULL}, NULL, &answer, e);
    json_decref(answer);
    if (err == ERR_OK)
        broker_done(c, json_pack("{s:s, s:b}", "name", words[0], "deleted", 1), "%s is deleted", words[0]);
    return err;
}

static enum err change_password(const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    json_t *user;
    enum err err = get(b, words[0], &user, e);
    if (err != ERR_OK) return err;
    char *tags = broker_tags(json_object_get(user, "tags"));
    char *password = cli_password_of(&other_password, c->new_password_file, true, e);
    err = password == NULL ? e->code : put(b, words[0], json_pack("{s:s, s:s}", "password", password, "tags", tags), e);
    if (err == ERR_OK)
        broker_done(c, json_pack("{s:s, s:s}", "name", words[0], "tags", tags),
                    "%s has another password; open connections stay", words[0]);
    cli_password_release(password);
    free(tags);
    json_decref(user);
    return err;
}

static void join(char **words, char *out, size_t size) {
    out[0] = '\0';
    for (size_t n = 0; *words != NULL && n < size; words++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", n > 0 ? "," : "", *words);
}

// A PUT that names no password takes it away: the hash goes there and back.
static enum err change_tags(const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    json_t *user;
    char tags[2048];
    enum err err = get(b, words[0], &user, e);
    if (err != ERR_OK) return err;
    join(words + 1, tags, sizeof tags);
    err = put(b, words[0],
              json_pack("{s:s, s:s, s:s}", "password_hash", broker_text(user, "password_hash"), "hashing_algorithm",
                        broker_text(user, "hashing_algorithm"), "tags", tags),
              e);
    if (err == ERR_OK)
        broker_done(c, json_pack("{s:s, s:s}", "name", words[0], "tags", tags), "%s has %s%s", words[0],
                    *tags != '\0' ? "the tags " : "no tags", tags);
    json_decref(user);
    return err;
}

int cli_user(int argc, char **argv) {
    static const struct broker_verb verbs[] = {{"list", "", 0, 0, list},
                                               {"add", "NAME", 1, 1, add},
                                               {"delete", "NAME", 1, 1, delete},
                                               {"password", "NAME", 1, 1, change_password},
                                               {"tags", "NAME [TAG ...]", 1, BROKER_WORDS_MAX - 1, change_tags},
                                               {0}};
    struct broker_command c = {.name = "user", .help = help, .own = OWN_TAGS | OWN_NEW_PASSWORD};
    return broker_run(&c, verbs, argc, argv);
}
