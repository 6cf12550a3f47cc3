// `barid bench amqp`: a load on an AMQP broker, by barid's own client.
#include "cli/bench/bench.h"
#include "cli/bench/load.h"
#include "cli/bench/setup.h"

int bench_amqp(int argc, char **argv) {
    static struct bench_server server;
    struct load_options o;
    int code = load_options_parse(&o, argc, argv,
                                  "usage: barid bench amqp [options]\n\n"
                                  "Publishes and consumes. Without --url it starts a server of its own below --dir.\n");
    if (code >= 0) return code;
    if (!o.url) {
        bench_server_start(&server, NULL, o.dir);
        load_url_parse(&o, server.amqp);
    }
    code = load_run(&o, &load_driver_barid);
    if (!o.url) bench_server_stop(&server);
    return code;
}
