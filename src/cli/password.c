#include "cli/password.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define PASSWORD_MAX 1024

static char *read_line(FILE *from) {
    char *line = NULL;
    size_t size = 0;
    ssize_t n = getline(&line, &size, from);
    if (n < 0) {
        free(line);
        return NULL;
    }
    line[strcspn(line, "\r\n")] = 0;
    return line;
}

static char *ask(const char *question) {
    struct termios before, quiet;
    if (tcgetattr(STDIN_FILENO, &before)) return NULL;
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    fputs(question, stderr);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    char *line = read_line(stdin);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    fputc('\n', stderr);
    return line;
}

static char *from_file(const char *path, struct error *e) {
    FILE *file = strcmp(path, "-") ? fopen(path, "r") : stdin;
    char *line = file ? read_line(file) : NULL;
    if (file && file != stdin) fclose(file);
    if (!line) error_field(e, "password", "no password can be read from %.150s", path);
    return line;
}

static char *from_terminal(const struct password_source *s, bool twice, struct error *e) {
    char *first = isatty(STDIN_FILENO) ? ask(s->question) : NULL;
    if (!first) {
        error_field(e, "password", "no terminal to ask for the password: give %s or %s", s->option, s->environment);
        return NULL;
    }
    char *second = twice ? ask("Again: ") : NULL;
    if (twice && (!second || strcmp(first, second) != 0)) {
        error_field(e, "password", "the two are not the same");
        cli_password_release(first);
        first = NULL;
    }
    cli_password_release(second);
    return first;
}

char *cli_password(const char *file, bool twice, struct error *e) {
    static const struct password_source own = {"--password-file", "BARID_PASSWORD", "Password: "};
    return cli_password_of(&own, file, twice, e);
}

char *cli_password_of(const struct password_source *s, const char *file, bool twice, struct error *e) {
    const char *environment = getenv(s->environment);
    char *password = file                          ? from_file(file, e)
                     : environment && *environment ? strdup(environment)
                                                   : from_terminal(s, twice, e);
    if (password && strlen(password) > PASSWORD_MAX) {
        error_field(e, "password", "longer than %d bytes", PASSWORD_MAX);
        cli_password_release(password);
        password = NULL;
    }
    return password;
}

void cli_password_release(char *password) {
    if (!password) return;
    explicit_bzero(password, strlen(password));
    free(password);
}
