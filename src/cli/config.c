// Reading settings; see config.h.
#include "cli/config.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX      (1 << 20)
#define VARIABLE_TEXT 64

static size_t find(const struct config *c, const char *name, size_t n) {
    size_t i = 0;
    while (c->settings[i].name != NULL && (strlen(c->settings[i].name) != n || memcmp(c->settings[i].name, name, n)))
        i++;
    return i;
}

static bool known(const struct config *c, size_t i) { return c->settings[i].name != NULL; }

// "BARID_LOW_WATER"
static void variable_of(const struct setting *setting, char name[static VARIABLE_TEXT]) {
    size_t at = (size_t)snprintf(name, VARIABLE_TEXT, "BARID_");
    for (const char *s = setting->name; *s != '\0' && at + 1 < VARIABLE_TEXT; s++)
        name[at++] = *s == '-' ? '_' : (char)toupper((unsigned char)*s);
    name[at] = '\0';
}

// ---- help -----------------------------------------------------------------------------------------------

// One with two words shows best what becomes of them.
static const struct setting *example_of(const struct config *c) {
    for (const struct setting *s = c->settings; s->name != NULL; s++)
        if (s->help != NULL && strchr(s->name, '-') != NULL) return s;
    return c->settings;
}

static void print_help(const struct config *c, const char *about) {
    printf("Usage: barid %s [options]\n\n%s\n\n", c->command, about);
    for (const struct setting *s = c->settings; s->name != NULL; s++) {
        char left[64];
        if (s->help == NULL) continue;
        snprintf(left, sizeof left, "--%s%s%s", s->name, s->argument ? " " : "", s->argument ? s->argument : "");
        printf("  %-28s%s", left, s->help);
        if (s->standard != NULL && *s->standard) printf(" (default %s)", s->standard);
        putchar('\n');
    }
    printf("  %-28s%s\n  %-28s%s\n", "--config FILE", "settings as `name = value` lines, below [section] or before any",
           "--help", "this");
    const struct setting *example = example_of(c);
    char name[VARIABLE_TEXT];
    variable_of(example, name);
    printf("\nEach option is also an environment variable: --%s is %s. Flags win over the\n"
           "environment, the environment over the file.\n",
           example->name, name);
}

// ---- flags ----------------------------------------------------------------------------------------------

static enum config_read wrong(const struct config *c, const char *text, const char *what) {
    fprintf(stderr, "barid %s: %s %s\n`barid %s --help` tells the options.\n", c->command, text, what, c->command);
    return CONFIG_WRONG;
}

static enum config_read read_flag(struct config *c, const char **config_file, int argc, char **argv, int *at) {
    const char *flag = argv[*at];
    if (strncmp(flag, "--", 2) != 0) return wrong(c, "what is", flag);
    const char *equals = strchr(flag, '=');
    size_t n = equals != NULL ? (size_t)(equals - flag) - 2 : strlen(flag) - 2;
    bool is_file = n == 6 && strncmp(flag + 2, "config", 6) == 0;
    size_t i = find(c, flag + 2, n);
    if (!is_file && !known(c, i)) return wrong(c, "unknown option", flag);
    const char *value = equals != NULL ? equals + 1 : "yes";
    if (equals == NULL && (is_file || c->settings[i].argument != NULL)) {
        if (*at + 1 >= argc) return wrong(c, "a value is missing after", flag);
        value = argv[++*at];
    }
    if (is_file) *config_file = value;
    else c->values[i] = value;
    return CONFIG_OK;
}

static enum config_read read_flags(struct config *c, const char *about, const char **config_file, int argc,
                                   char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(c, about);
            return CONFIG_HELP;
        }
        enum config_read r = read_flag(c, config_file, argc, argv, &i);
        if (r != CONFIG_OK) return r;
    }
    return CONFIG_OK;
}

// ---- environment ----------------------------------------------------------------------------------------

static void read_environment(struct config *c) {
    for (size_t i = 0; known(c, i); i++) {
        char name[VARIABLE_TEXT];
        variable_of(&c->settings[i], name);
        if (c->values[i] == NULL) c->values[i] = getenv(name);
    }
}

// ---- file -----------------------------------------------------------------------------------------------

static char *trim(char *s) {
    s += strspn(s, " \t\r");
    size_t n = strlen(s);
    while (n > 0 && strchr(" \t\r", s[n - 1]) != NULL) s[--n] = '\0';
    return s;
}

// One line of our own section (or of none).
static bool read_setting(struct config *c, char *line, bool own_section) {
    char *equals = strchr(line, '=');
    if (equals == NULL) return false;
    *equals = '\0';
    char *name = trim(line);
    size_t i = find(c, name, strlen(name));
    if (!known(c, i)) return !own_section; // before any section stands what other commands may know
    if (c->values[i] == NULL) c->values[i] = trim(equals + 1);
    return true;
}

static bool read_lines(struct config *c, const char *path) {
    bool ours = true, own_section = false;
    unsigned number = 0;
    for (char *line = c->file, *next; line != NULL; line = next) {
        next = strchr(line, '\n');
        if (next != NULL) *next++ = '\0';
        number++;
        line = trim(line);
        size_t n = strlen(line);
        if (n == 0 || *line == '#' || *line == ';') continue;
        if (*line == '[' && line[n - 1] == ']') {
            line[n - 1] = '\0';
            ours = own_section = strcmp(line + 1, c->command) == 0;
        } else if (ours && !read_setting(c, line, own_section)) {
            fprintf(stderr, "barid %s: %s, line %u: what is \"%s\"?\n", c->command, path, number, line);
            return false;
        }
    }
    return true;
}

static bool read_file(struct config *c, const char *path) {
    FILE *f = fopen(path, "re");
    c->file = calloc(1, FILE_MAX + 1);
    size_t n = f != NULL && c->file != NULL ? fread(c->file, 1, FILE_MAX, f) : 0;
    bool ok = f != NULL && c->file != NULL && !ferror(f) && n < FILE_MAX;
    if (f != NULL) fclose(f);
    if (!ok) fprintf(stderr, "barid %s: cannot read %s\n", c->command, path);
    return ok && read_lines(c, path);
}

// ---- all together ---------------------------------------------------------------------------------------

enum config_read config_read(struct config *c, const char *command, const char *about, const struct setting *settings,
                             int argc, char **argv) {
    size_t n = 0;
    while (settings[n].name != NULL) n++;
    *c = (struct config){.settings = settings, .command = command, .values = calloc(n + 1, sizeof *c->values)};
    if (c->values == NULL) return wrong(c, "out of", "memory");
    const char *file = NULL;
    enum config_read r = read_flags(c, about, &file, argc, argv);
    if (r == CONFIG_OK) {
        read_environment(c);
        if (file == NULL) file = getenv("BARID_CONFIG");
        if (file != NULL && !read_file(c, file)) r = CONFIG_WRONG;
    }
    for (size_t i = 0; i < n; i++)
        if (c->values[i] == NULL) c->values[i] = settings[i].standard;
    if (r != CONFIG_OK) config_release(c);
    return r;
}

void config_release(struct config *c) {
    free(c->values);
    free(c->file);
    *c = (struct config){0};
}

// ---- values ---------------------------------------------------------------------------------------------

bool config_given(const struct config *c, const char *name) {
    size_t i = find(c, name, strlen(name));
    return c->values[i] != NULL && c->values[i] != c->settings[i].standard;
}

const char *config_text(const struct config *c, const char *name) { return c->values[find(c, name, strlen(name))]; }

bool config_switch(const struct config *c, const char *name) {
    const char *v = config_text(c, name);
    return v != NULL && strcmp(v, "no") != 0 && strcmp(v, "0") != 0 && strcmp(v, "false") != 0 && *v != '\0';
}

static bool complain(const struct config *c, const char *name, const char *want) {
    fprintf(stderr, "barid %s: --%s %s: %s\n", c->command, name, config_text(c, name), want);
    return false;
}

// A whole number, then one of `units` (a list of name and factor).
struct unit {
    const char *name;
    uint64_t factor;
};

static bool read_amount(const char *text, const struct unit *units, uint64_t *out) {
    char *end;
    if (!isdigit((unsigned char)*text) || strlen(text) > 18) return false;
    uint64_t n = strtoull(text, &end, 10);
    for (const struct unit *u = units; u->name != NULL; u++)
        if (strcmp(end, u->name) == 0) {
            if (n > UINT64_MAX / u->factor) return false;
            *out = n * u->factor;
            return true;
        }
    return false;
}

bool config_bytes(const struct config *c, const char *name, uint64_t *out) {
    static const struct unit units[] = {{"", 1},       {"K", 1 << 10},   {"M", 1 << 20},   {"G", 1 << 30},
                                        {"KiB", 1024}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {NULL, 0}};
    const char *text = config_text(c, name);
    *out = 0;
    return text == NULL || read_amount(text, units, out) || complain(c, name, "want bytes, as 4096, 256M or 1G");
}

bool config_duration_ms(const struct config *c, const char *name, uint64_t *out) {
    static const struct unit units[] = {{"ms", 1},      {"s", 1000},     {"m", 60000},
                                        {"h", 3600000}, {"d", 86400000}, {NULL, 0}};
    const char *text = config_text(c, name);
    *out = 0;
    return text == NULL || read_amount(text, units, out) ||
           complain(c, name, "want a time, as 30d, 12h, 15m, 10s or 500ms");
}

bool config_number(const struct config *c, const char *name, uint64_t max, uint64_t *out) {
    static const struct unit units[] = {{"", 1}, {NULL, 0}};
    const char *text = config_text(c, name);
    *out = 0;
    if (text == NULL || (read_amount(text, units, out) && *out <= max)) return true;
    return complain(c, name, "want a whole number in range");
}

bool config_address(const struct config *c, const char *name, char *address, size_t size, uint16_t *port) {
    const char *text = config_text(c, name), *colon = text != NULL ? strrchr(text, ':') : NULL;
    if (colon == NULL) return complain(c, name, "want ADDRESS:PORT, as 127.0.0.1:8080");
    size_t n = (size_t)(colon - text);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    if (n == 0) {
        text = "127.0.0.1";
        n = strlen(text);
    }
    if (n == 9 && strncmp(text, "localhost", 9) == 0) text = "127.0.0.1";
    char *end;
    unsigned long v = strtoul(colon + 1, &end, 10);
    if (n >= size || colon[1] == '\0' || *end != '\0' || v > 65535) return complain(c, name, "want ADDRESS:PORT");
    memcpy(address, text, n);
    address[n] = '\0';
    *port = (uint16_t)v;
    return true;
}
