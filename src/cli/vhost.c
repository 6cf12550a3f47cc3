// barid vhost list | add | delete
#include "cli/broker.h"
#include "cli/cli.h"
#include "cli/table.h"

#include <stdlib.h>

static const char help[] = "barid vhost list          virtual hosts of the broker\n"
                           "barid vhost add NAME      a new one; nobody may enter it before `barid permission set`\n"
                           "barid vhost delete NAME   with all its exchanges, queues and messages\n"
                           "\n"
                           "  --description S      add: what it is for\n"
                           "  --tags T,T           add: tags, separated by commas\n" BROKER_OPTIONS_HELP;

static enum err list(const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    json_t *vhosts, *vhost;
    size_t i;
    struct table t;
    enum err err = broker_list(b, "vhosts", &vhosts, e);
    if (err != ERR_OK) return err;
    table_init(&t, 3);
    table_row(&t, (const char *[]){"VIRTUAL HOST", "DESCRIPTION", "TAGS"});
    json_array_foreach(vhosts, i, vhost) {
        char *tags = broker_tags(json_object_get(vhost, "tags"));
        const char *name = broker_text(vhost, "name"), *description = broker_text(vhost, "description");
        if (c->json)
            broker_done(c, json_pack("{s:s, s:s, s:s}", "name", name, "description", description, "tags", tags), " ");
        else table_row(&t, (const char *[]){name, description, tags});
        free(tags);
    }
    if (!c->json) table_print(&t);
    table_release(&t);
    json_decref(vhosts);
    return ERR_OK;
}

static enum err add(const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    json_t *answer, *body = json_object();
    if (c->description != NULL) json_object_set_new(body, "description", json_string(c->description));
    if (c->tags != NULL) json_object_set_new(body, "tags", json_string(c->tags));
    enum err err = broker_call(b, "PUT", (const char *[]){"vhosts", words[0], NULL}, body, &answer, e);
    json_decref(answer);
    json_decref(body);
    if (err == ERR_OK) broker_done(c, json_pack("{s:s}", "name", words[0]), "%s is added", words[0]);
    return err;
}

static enum err delete (const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    json_t *answer;
    enum err err = broker_call(b, "DELETE", (const char *[]){"vhosts", words[0], NULL}, NULL, &answer, e);
    json_decref(answer);
    if (err == ERR_OK)
        broker_done(c, json_pack("{s:s, s:b}", "name", words[0], "deleted", 1), "%s is deleted", words[0]);
    return err;
}

int cli_vhost(int argc, char **argv) {
    static const struct broker_verb verbs[] = {
        {"list", "", 0, 0, list}, {"add", "NAME", 1, 1, add}, {"delete", "NAME", 1, 1, delete}, {0}};
    struct broker_command c = {.name = "vhost", .help = help, .own = OWN_TAGS | OWN_DESCRIPTION};
    return broker_run(&c, verbs, argc, argv);
}
