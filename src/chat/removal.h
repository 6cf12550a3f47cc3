// Removing the files of contents nobody refers to any more, without ever taking away one that an upload is just about
// to refer to: removals run only while no upload is between finishing its file and writing down its ticket, each
// re-checks the references in the database first, and uploads that finish meanwhile wait.
//
// What is forgotten here (a crash, a full list) the sweep finds.
#ifndef BARID_CHAT_REMOVAL_H
#define BARID_CHAT_REMOVAL_H

#include "chat/internal.h"

struct removals *removals_new(struct chat *c);
void removals_free(struct removals *r);
void removal_add(struct chat *c, const uint8_t hash[CHAT_HASH]);
void removal_add_upload(struct chat *c, const uint8_t hash[CHAT_HASH]); // of an upload that came to no ticket

// An upload that wants to finish: `go` is called, at once or when the removals under way are done; the upload leaves
// when its ticket is committed or it has failed.
struct finishing {
    struct list_node node;
    void (*go)(struct finishing *f);
};
void finishing_enter(struct chat *c, struct finishing *f);
void finishing_cancel(struct finishing *f); // before go
void finishing_leave(struct chat *c);

#endif
