// Settings of a command, from three places in order of precedence: flags, environment, INI file.
//
//   --low-water 256M      BARID_LOW_WATER=256M      low-water = 256M   (below [serve], or before any section)
//
// The file is named by --config or BARID_CONFIG. A setting that the command does not know is an error wherever it is
// a flag or stands in its section of the file.
#ifndef BARID_CLI_CONFIG_H
#define BARID_CLI_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct setting {
    const char *name;     // "low-water"
    const char *argument; // "BYTES"; NULL: a switch, "yes" when it is set
    const char *standard; // what it is when nobody says anything; NULL: nothing
    const char *help;     // NULL: not shown
};

struct config {
    const struct setting *settings; // ends with a NULL name
    const char *command;
    const char **values;
    char *file; // its text, values point into it
};

enum config_read { CONFIG_OK, CONFIG_HELP /* printed */, CONFIG_WRONG /* told on stderr */ };
enum config_read config_read(struct config *c, const char *command, const char *about, const struct setting *settings,
                             int argc, char **argv);
void config_release(struct config *c);

const char *config_text(const struct config *c, const char *name); // NULL: not set
bool config_given(const struct config *c, const char *name);       // somebody said so; it is not what it is by itself
bool config_switch(const struct config *c, const char *name);
// "256M", "1G", "4096": false after telling that it makes no sense.
bool config_bytes(const struct config *c, const char *name, uint64_t *out);
// "30d", "12h", "15m", "10s", "500ms"
bool config_duration_ms(const struct config *c, const char *name, uint64_t *out);
bool config_number(const struct config *c, const char *name, uint64_t max, uint64_t *out);
// "127.0.0.1:8080", "[::1]:0", ":8080" (loopback)
bool config_address(const struct config *c, const char *name, char *address, size_t size, uint16_t *port);

#endif
