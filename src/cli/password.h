// Passwords: from a file, from the environment, or asked for without echo; never from the command line, where other
// users of the machine could see them.
#ifndef BARID_CLI_PASSWORD_H
#define BARID_CLI_PASSWORD_H

#include "base/error.h"

#include <stdbool.h>

struct password_source {
    const char *option, *environment, *question; // "--password-file", "BARID_PASSWORD", "Password: "
};
// `file` is what the option said, NULL: nothing ('-': standard input). `twice`: asked for twice, to be sure. NULL with
// the error filled. Release with cli_password_release.
char *cli_password_of(const struct password_source *s, const char *file, bool twice, struct error *e);
char *cli_password(const char *file, bool twice, struct error *e); // of the messaging service's user
void cli_password_release(char *password);                         // NULL is fine

#endif
