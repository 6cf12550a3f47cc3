// `barid bench …`: measure a server from outside, as its users would meet it.
#include "cli/bench/bench.h"
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static const char help[] =
    "usage: barid bench journey|connections|amqp [options]\n"
    "\n"
    "  journey      complete journeys (accepted, delivered, read seen by the sender) over WebSockets\n"
    "  connections  memory of the server for idle connections\n"
    "  amqp         messages published to and consumed from a broker, this one or any other\n"
    "\n"
    "`barid bench WHAT --help` tells the options. Without --url each starts a server of its own.\n";

int cli_bench(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "journey") == 0) return bench_journey(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "connections") == 0) return bench_connections(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "amqp") == 0) return bench_amqp(argc - 1, argv + 1);
    int asked = argc > 1 && strcmp(argv[1], "--help") == 0;
    fputs(help, asked ? stdout : stderr);
    return asked ? 0 : 2;
}
