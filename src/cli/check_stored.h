// The media of a server whose database is PostgreSQL: what is stored there against the SHA-256 that names it, and what
// the service needs and is nowhere. Servers may be running: what comes or goes meanwhile is no finding.
#ifndef BARID_CLI_CHECK_STORED_H
#define BARID_CLI_CHECK_STORED_H

#include "base/error.h"
#include "cli/check_media.h"

struct stored_result {
    struct media_result media; // in the database
    uint64_t missing;
};

// `files`: a data directory whose media/ is looked into for what is not in the database, or NULL.
enum err check_stored(const char *url, struct io *files, media_finding_fn *lost, void *arg, struct stored_result *out,
                      struct error *e);

#endif
