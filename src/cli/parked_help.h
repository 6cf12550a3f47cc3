// The help of `barid parked`, which is three: parked.c, parked_bus.c and parked_queue.c.
#ifndef BARID_CLI_PARKED_HELP_H
#define BARID_CLI_PARKED_HELP_H

#include "cli/broker.h"

static const char parked_help[] =
    "barid parked list             --queue Q   messages of a queue declared with x-park that were rejected, or\n"
    "                                          whose attempts are spent, and why\n"
    "barid parked retry ID…|all    --queue Q   puts them back into the queue, their attempts counted from zero\n"
    "barid parked drop ID…|all     --queue Q   deletes them for good\n"
    "\n"
    "  --vhost V            the queue's virtual host (default /)\n"
    "  --server URL         the server's management API ($BARID_BROKER, default http://127.0.0.1:15672)\n"
    "  --user NAME          as whom, who may read the queue ($BARID_BROKER_USER, default guest)\n"
    "  --password-file F    its password: the first line of F ('-': standard input), or $BARID_BROKER_PASSWORD, or\n"
    "                       asked for; guest's is guest\n"
    "  --json               JSON instead of text\n"
    "  --help               this\n"
    "\n"
    "Without --queue: events of the messaging service that could not be published.\n"
    "\n"
    "barid parked list             --data DIR   all of them, oldest first\n"
    "barid parked show NUMBER      --data DIR   one, with its payload\n"
    "barid parked retry NUMBER…    --data DIR   sends it on again, its attempts counted from zero\n"
    "barid parked drop NUMBER…     --data DIR   deletes it for good\n"
    "\n"
    "  --data DIR           the server's data directory; also BARID_DATA; default ./data\n"
    "A running server takes a retried event up within 30 seconds.\n"
    "\n"
    "Of an outbox or an inbox in PostgreSQL (`barid relay`, `barid receive`): the same words, and\n"
    "\n"
    "  --database URL       postgresql://…; also BARID_DATABASE\n"
    "  --inbox [CONSUMER]   what a consumer's handler did not take, of all consumers or of one; otherwise the outbox\n"
    "A retried event is taken up at once. With --on-failure block its key waits until it is retried or dropped.\n"
    "\n"
    "What a consumer could not even store, which Kafka keeps in the topic CONSUMER.parked:\n"
    "\n"
    "barid parked list                       --bus URL --consumer NAME   all of them\n"
    "barid parked show PARTITION@OFFSET      --bus URL --consumer NAME   one, with its headers and its payload\n"
    "\n"
    "  --bus URL            kafka://…, as the consumer's --from\n"
    "  --consumer NAME      whose\n";

#endif
