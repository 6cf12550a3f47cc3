// barid parked --bus: what a consumer could not store at all, as Kafka keeps it in the topic CONSUMER.parked.
#include "base/id.h"
#include "bus/bus.h"
#include "cli/cli.h"
#include "cli/parked_help.h"

#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct parked_bus {
    const char *url, *consumer, *wanted; // wanted: PARTITION@OFFSET; NULL: all
    bool json;
    uint64_t shown;
};

static void print_json(const struct parked_bus *b, const struct bus_parked *p, const char *number, const char *id) {
    const char *key = p->event.key ? p->event.key : "";
    json_t *o =
        json_pack("{s:s,s:s,s:s,s:s,s:i,s:s,s:s,s:s}", "number", number, "event_id", id, "topic", p->event.topic, "key",
                  key, "attempts", (int)p->attempts, "error", p->reason, "parked_at", p->parked_at, "place", p->from);
    if (!o) return; // not ours, and no text
    if (b->wanted) {
        json_t *text = json_stringn(p->event.payload, p->event.payload_length);
        json_object_set_new(o, "payload", text ? text : json_null()); // null: it is not UTF-8
    }
    json_dumpf(o, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(o);
}

static void print_text(const struct parked_bus *b, const struct bus_parked *p, const char *number, const char *id) {
    const char *key = p->event.key ? p->event.key : "";
    if (!b->wanted) {
        printf("%6s  %s  %-18s %-24s %u attempts: %s\n", number, p->parked_at, p->event.topic, key, p->attempts,
               p->reason);
        return;
    }
    printf("from      %s\nnumber    %s\nevent     %s\ntopic     %s\nkey       %s\nparked    %s\nattempts  %u\n"
           "error     %s\n",
           p->from, number, id, p->event.topic, key, p->parked_at, p->attempts, p->reason);
    for (size_t i = 0; i < p->event.header_count; i++)
        printf("header    %s=%s\n", p->event.headers[i].name, p->event.headers[i].value);
    printf("payload   %zu bytes\n", p->event.payload_length);
    fwrite(p->event.payload, 1, p->event.payload_length, stdout);
    putchar('\n');
}

static void show(void *arg, const struct bus_parked *p) {
    struct parked_bus *b = arg;
    char number[40], id[ID_TEXT];
    snprintf(number, sizeof number, "%" PRId32 "@%" PRId64, p->at.partition, p->at.offset);
    if (b->wanted && strcmp(b->wanted, number) != 0) return;
    id_format(&p->event.event_id, id);
    b->shown++;
    if (b->json) print_json(b, p, number, id);
    else print_text(b, p, number, id);
}

static int usage(const char *why) {
    fprintf(stderr, "barid parked: %s\n", why);
    return EXIT_USAGE;
}

static int look(struct parked_bus *b) {
    struct error e = {0};
    enum err err = bus_each_parked(b->url, b->consumer, show, b, &e);
    if (err) fprintf(stderr, "barid parked: %s\n", e.text[0] ? e.text : err_text(err));
    else if (!b->shown && b->wanted) fprintf(stderr, "barid parked: no parked event has the number %s\n", b->wanted);
    else if (!b->shown && !b->json) puts("Nothing is parked.");
    return err || (b->wanted && !b->shown) ? 1 : 0;
}

int cli_parked_bus(int argc, char **argv) {
    static const struct option options[] = {{"bus", required_argument, NULL, 'b'},
                                            {"consumer", required_argument, NULL, 'c'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct parked_bus b = {0};
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'b': b.url = optarg; break;
        case 'c': b.consumer = optarg; break;
        case 'j': b.json = true; break;
        case 'h': fputs(parked_help, stdout); return 0;
        default: return EXIT_USAGE;
        }
    }
    const char *verb = optind < argc ? argv[optind] : "";
    int words = argc - optind - 1;
    if (!b.consumer) return usage("--bus wants --consumer NAME, too");
    if (strcmp(verb, "retry") == 0 || strcmp(verb, "drop") == 0)
        return usage("Kafka takes nothing out of a topic: with --bus there are list and show only");
    bool list = strcmp(verb, "list") == 0 && words == 0;
    if (!list && (strcmp(verb, "show") != 0 || words != 1))
        return usage("expected list, or show and a number as list shows it; try --help");
    b.wanted = list ? NULL : argv[optind + 1];
    return look(&b);
}
