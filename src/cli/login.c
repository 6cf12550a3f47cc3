// barid login, logout, whoami
#include "cli/cli.h"
#include "cli/client_cli.h"
#include "client/label.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char login_help[] =
    "barid login NAME: make this place a device of the user\n"
    "\n"
    "Logging in again keeps the device and its mailbox. The password is read from --password-file, from\n"
    "$BARID_PASSWORD, or asked for without echo.\n"
    "\n"
    "  --password-file F   its first line ('-': standard input)\n"
    "  --device-name S     how the device is called (default: the host's name)\n" CLIENT_OPTIONS_HELP;
static const char logout_help[] =
    "barid logout: end the session of this device; what is stored here stays\n\n" CLIENT_OPTIONS_HELP;
static const char whoami_help[] = "barid whoami: which user and device this is\n\n" CLIENT_OPTIONS_HELP;

struct login_options {
    const char *password_file, *device_name;
};

enum { PASSWORD_FILE = 256, DEVICE_NAME };
static const struct option own[] = {{"password-file", required_argument, NULL, PASSWORD_FILE},
                                    {"device-name", required_argument, NULL, DEVICE_NAME},
                                    {0}};

static bool take(void *arg, int value, const char *text) {
    struct login_options *o = arg;
    if (value == PASSWORD_FILE) o->password_file = text;
    if (value == DEVICE_NAME) o->device_name = text;
    return true;
}

static void ask_session(struct client *c, const char *password, const char *device_name, const char *device_id,
                        struct answer *a) {
    json_t *body =
        json_pack("{s:s, s:s, s:s}", "user_id", c->profile.user_id, "password", password, "device_name", device_name);
    if (!body) {
        answer_none(a, ERR_INVALID, "password and device name must be UTF-8");
        return;
    }
    if (*device_id) json_object_set_new(body, "device_id", json_string(device_id));
    web_set_token(c->web, NULL);
    web_call(c->web, "POST", "/sessions", body, a);
    json_decref(body);
}

static enum err keep_session(struct client *c, const json_t *session, struct error *e) {
    enum err err = client_make(c, e);
    if (err) return err;
    struct account *account = &c->account;
    snprintf(account->server, sizeof account->server, "%s", c->profile.server);
    snprintf(account->user_id, sizeof account->user_id, "%s", c->profile.user_id);
    snprintf(account->device_id, sizeof account->device_id, "%s", member_text(session, "device_id", ""));
    snprintf(account->token, sizeof account->token, "%s", member_text(session, "token", ""));
    if (!*account->device_id || !*account->token)
        return error_set(e, ERR_UNSUPPORTED, "the service's answer has no token: is %.100s a barid server?",
                         c->profile.server);
    err = store_account_set(c->store, account, e);
    if (err) return err;
    web_set_token(c->web, account->token);
    label_learn(c);
    return ERR_OK;
}

static int login(const struct client_cli *cli, struct client *c, const struct login_options *o, char *password) {
    char host[64] = "terminal";
    gethostname(host, sizeof host - 1);
    const char *device_name = o->device_name ? o->device_name : host;
    struct error e = {0};
    struct answer a;
    ask_session(c, password, device_name, c->account.device_id, &a);
    bool device_unknown = *c->account.device_id && (a.status == 404 || !strcmp(a.error.field, "device_id"));
    if (device_unknown) { // the service has forgotten it: a new device then
        answer_release(&a);
        ask_session(c, password, device_name, "", &a);
    }
    int code = 0;
    if (answer_verdict(&a) != VERDICT_DONE) code = cli_fail(cli, &a.error);
    else if (keep_session(c, a.body, &e)) code = cli_fail(cli, &e);
    else if (cli->json)
        cli_json(json_pack("{s:s, s:s, s:s, s:s}", "user_id", c->account.user_id, "device_id", c->account.device_id,
                           "server", c->profile.server, "expires_at", member_text(a.body, "expires_at", "")));
    else
        printf("logged in to %s as %s, device %s\n", c->profile.server, c->account.user_id,
               short_id(c->account.device_id));
    answer_release(&a);
    return code;
}

int cli_login(int argc, char **argv) {
    struct client_cli cli;
    struct login_options o = {0};
    int first, code;
    if (!cli_client_options(&cli, &(struct client_command){login_help, own, take, &o}, argc, argv, &first, &code))
        return code;
    if (argc - first == 1) cli.as = argv[first];
    if (argc - first > 1 || !cli.as) return cli_usage(&cli, "it wants: NAME");
    struct client c;
    struct error e = {0};
    char *password = cli_password(o.password_file, false, &e);
    if (!password) return cli_fail(&cli, &e);
    code = client_begin(&c, cli.server, cli.as, &e) ? cli_fail(&cli, &e) : login(&cli, &c, &o, password);
    client_release(&c);
    cli_password_release(password);
    return code;
}

static int logout(const struct client_cli *cli, struct client *c) {
    struct error e = {0};
    struct answer a;
    if (client_need_login(c, &e)) return cli_fail(cli, &e);
    web_call(c->web, "DELETE", "/sessions/current", NULL, &a);
    enum verdict verdict = answer_verdict(&a);
    e = a.error;
    answer_release(&a);
    if (verdict != VERDICT_DONE && verdict != VERDICT_LOGIN) return cli_fail(cli, &e);
    c->account.token[0] = c->account.device_id[0] = 0;
    if (store_account_set(c->store, &c->account, &e)) return cli_fail(cli, &e);
    if (cli->json) cli_json(json_pack("{s:s, s:b}", "user_id", c->profile.user_id, "logged_in", 0));
    else printf("%s is logged out here\n", c->profile.user_id);
    return 0;
}

int cli_logout(int argc, char **argv) {
    struct client_cli cli;
    struct client c;
    int first, code;
    if (!cli_client_options(&cli, &(struct client_command){.help = logout_help}, argc, argv, &first, &code))
        return code;
    if (argc > first) return cli_usage(&cli, "it wants no operand");
    if (!cli_open(&cli, &c, &code)) return code;
    code = logout(&cli, &c);
    client_release(&c);
    return code;
}

int cli_whoami(int argc, char **argv) {
    struct client_cli cli;
    struct client c;
    int first, code;
    if (!cli_client_options(&cli, &(struct client_command){.help = whoami_help}, argc, argv, &first, &code))
        return code;
    if (argc > first) return cli_usage(&cli, "it wants no operand");
    if (!cli_open(&cli, &c, &code)) return code;
    bool logged_in = *c.account.token;
    if (cli.json)
        cli_json(json_pack("{s:s, s:s, s:s, s:b, s:s}", "user_id", c.account.user_id, "server", c.profile.server,
                           "device_id", c.account.device_id, "logged_in", logged_in, "store", c.profile.dir));
    else if (logged_in)
        printf("%s at %s, device %s\n", c.account.user_id, c.profile.server, short_id(c.account.device_id));
    else printf("%s at %s, not logged in\n", c.account.user_id, c.profile.server);
    client_release(&c);
    return logged_in ? 0 : EXIT_FAILED;
}
