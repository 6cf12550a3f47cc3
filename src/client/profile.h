// Where a user's local store lives:
//
//   $BARID_HOME (default ~/.local/share/barid)
//     alice@127.0.0.1_8080/        one profile: one user at one server, one device
//       client.db                  the store, mode 0600
//       downloads/                 media that came
//       outgoing/                  our copies of media to be sent
//       locks/                     one file a conversation: held by the process that sends its outbox
#ifndef BARID_CLIENT_PROFILE_H
#define BARID_CLIENT_PROFILE_H

#include "base/error.h"
#include "base/id.h"

#include <stdbool.h>

#define PROFILE_PATH_MAX 1024

struct profile {
    char server[512]; // normalised: scheme://host[:port], no slash at the end
    char user_id[NAME_MAX_LENGTH + 1];
    char dir[PROFILE_PATH_MAX];
};

// ERR_INVALID when it is not an http(s) URL of a host.
enum err profile_server(const char *url, char *out, size_t size, struct error *e);
// `user` NULL: the only profile there is for this server; ERR_NOT_FOUND when there is none, ERR_CONFLICT, naming
// them, when there are several. `make`: a profile that does not exist yet is wanted.
enum err profile_find(struct profile *out, const char *url, const char *user, bool make, struct error *e);

#endif
