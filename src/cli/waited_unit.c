#include "cli/waited_unit.h"

#include "base/loop.h"

static void done(struct db_unit *u, enum err err) {
    struct waited_unit *w = (struct waited_unit *)u;
    w->err = err;
    loop_stop(w->loop);
}

enum err unit_wait(struct waited_unit *w, struct loop *loop, struct database *d,
                   enum err (*run)(struct db *db, struct db_unit *u), bool read_only, struct error *e) {
    w->unit = (struct db_unit){.run = run, .done = done, .read_only = read_only, .frees_space = true};
    w->loop = loop;
    enum err err = database_submit(d, &w->unit);
    if (err == ERR_OK) {
        loop_run(loop);
        err = w->err;
    }
    if (err != ERR_OK) *e = w->unit.error;
    return err;
}
