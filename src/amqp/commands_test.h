// For tests of the commands: a real engine on a simulated machine, connections and channels that write down in words
// what was sent, and an access that refuses what it is told to.
#ifndef BARID_AMQP_COMMANDS_TEST_H
#define BARID_AMQP_COMMANDS_TEST_H

#include "engine/rig_test.h"

#include "amqp/basic.h"

struct house {
    struct rig *rig;
    struct loop *loop;
    struct amqp amqp;
    struct connection connection[2];
    struct channel *channel[2]; // one a connection
    struct access_user user;
    int holds;       // of large bodies
    char said[8192]; // a line for each thing that was sent or ended, since it was read last
};

int house_setup(void **state);
int house_teardown(void **state);

// "write amq.topic": is refused from now on; NULL: nothing is.
void house_refuse(struct house *h, const char *what);
// The engine is driven until it rests, and what a loop's pass does is done.
void house_run(struct house *h);
// Runs, and compares all that was said since the last time.
void house_expect(struct house *h, const char *lines);
// A command of the first or the second client; it does not run the engine.
void house_do(struct house *h, int client, struct method m);
void house_publish(struct house *h, int client, struct basic_publish p, const struct properties *properties,
                   const char *body);
// The channel, or the connection, had ended: begin anew.
void house_again(struct house *h, int client);

// The disk takes nothing more, and does again.
void house_fill(struct house *h);
void house_make_room(struct house *h);

// Arguments: a table made by `put`, valid until the next.
struct buf *house_table(struct house *h);
struct view house_table_done(struct house *h);

#define DO(h, ID, place, ...) house_do(h, 0, (struct method){.id = METHOD_##ID, .place = (struct place){__VA_ARGS__}})
#define DO_OTHER(h, ID, place, ...)                                                                                    \
    house_do(h, 1, (struct method){.id = METHOD_##ID, .place = (struct place){__VA_ARGS__}})

#endif
