// barid register
#include "cli/cli.h"
#include "cli/client_cli.h"

#include <stdio.h>
#include <string.h>

static const char help[] =
    "barid register NAME: register a user with the messaging service\n"
    "\n"
    "The password is read from --password-file, from $BARID_PASSWORD, or asked for without echo.\n"
    "\n"
    "  --password-file F   its first line ('-': standard input)\n"
    "  --display-name S    how others see the user\n" CLIENT_OPTIONS_HELP;

struct register_options {
    const char *password_file, *display_name;
};

enum { PASSWORD_FILE = 256, DISPLAY_NAME };
static const struct option own[] = {{"password-file", required_argument, NULL, PASSWORD_FILE},
                                    {"display-name", required_argument, NULL, DISPLAY_NAME},
                                    {0}};

static bool take(void *arg, int value, const char *text) {
    struct register_options *o = arg;
    if (value == PASSWORD_FILE) o->password_file = text;
    if (value == DISPLAY_NAME) o->display_name = text;
    return true;
}

static int enrol(const struct client_cli *cli, const struct register_options *o, const char *name) {
    struct error e = {0};
    char server[ACCOUNT_SERVER_MAX];
    if (profile_server(cli->server, server, sizeof server, &e)) return cli_fail(cli, &e);
    char *password = cli_password(o->password_file, true, &e);
    if (!password) return cli_fail(cli, &e);
    json_t *body = json_pack("{s:s, s:s}", "user_id", name, "password", password);
    cli_password_release(password);
    if (!body) {
        error_field(&e, "password", "must be UTF-8");
        return cli_fail(cli, &e);
    }
    if (o->display_name) json_object_set_new(body, "display_name", json_string(o->display_name));
    struct web *web = web_new(server, NULL, NULL);
    struct answer a;
    web_call(web, "POST", "/users", body, &a);
    web_free(web);
    json_decref(body);
    int code = 0;
    if (answer_verdict(&a) != VERDICT_DONE) code = cli_fail(cli, &a.error);
    else if (cli->json) cli_json(json_incref(a.body));
    else printf("%s is registered; `barid login %s` logs in\n", name, name);
    answer_release(&a);
    return code;
}

int cli_register(int argc, char **argv) {
    struct client_cli cli;
    struct register_options o = {0};
    int first, code;
    if (!cli_client_options(&cli, &(struct client_command){help, own, take, &o}, argc, argv, &first, &code))
        return code;
    if (argc - first != 1) return cli_usage(&cli, "it wants: NAME");
    return enrol(&cli, &o, argv[first]);
}
