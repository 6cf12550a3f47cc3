// What the screen, the log and other processes are shown of a command: where it is, and what it works with. No
// passwords.
#ifndef BARID_CLI_SHOWN_H
#define BARID_CLI_SHOWN_H

#include <stddef.h>
#include <stdint.h>

#define URL_SHOWN 512

// Without the password and without settings, which may hold another. Gives back `out`.
const char *url_shown(const char *url, char out[static URL_SHOWN]);
// A line of what stands before "ready": "  metrics  http://[::1]:9464/metrics".
void door_print(const char *what, const char *scheme, const char *address, uint16_t port, const char *path);
// What others see a process as: what it was given, or NULL: machine and process, "host:4711".
void process_name(const char *given, char *out, size_t size);

#endif
