// Media on this side of the wire: the type of a file by its name, the name of a file that came, and fetching it.
#ifndef BARID_CLIENT_MEDIA_H
#define BARID_CLIENT_MEDIA_H

#include "base/io.h"
#include "client/web.h"

#define MEDIA_NAME_MAX 200

const char *media_type_of(const char *filename); // "application/octet-stream" when the extension says nothing
const char *media_base_name(const char *path);

// A name to save under: the message's id, then what the sender called the file without anything that could leave the
// directory, hide, or confuse a terminal. The whole id, because its maker chose it: two may be made to end alike, and
// the second file would take the place of the first.
void media_safe_name(const char *message_id, const char *filename, char out[static MEDIA_NAME_MAX]);

// What the service said of it before.
struct media_announced {
    const char *sha256; // 64 hex digits; "" to skip
    uint64_t bytes;     // 0: not known
};

// GET /message/:id/media into `name` below `downloads`: written beside as name.part, checked against what was
// announced, synced, renamed. What is there already is replaced. `a` says how the request went; when it is 2xx the
// return value says whether the file is safe. A body that ends too early is no answer, whatever its status was: nothing
// of it stays, and it may be asked for again.
enum err media_download(struct web *h, struct io *downloads, const char *message_id, const char *name,
                        const struct media_announced *announced, web_progress_fn *progress, void *arg, struct answer *a,
                        struct error *e);

#endif
