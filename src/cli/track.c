// barid track: the journey of a message.
#include "cli/cli.h"
#include "cli/client_cli.h"
#include "client/label.h"
#include "client/store_outbox.h"
#include "client/timeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOCAL_POINTS_MAX 64
#define TIMEOUT_MS       5000
#define FOLLOW_MS        500

static const char help[] =
    "barid track ID: the journey of a message, every safe point it has passed\n"
    "\n"
    "An ID is a message's id, or 4 or more characters of its beginning or end. Without a connection it shows what\n"
    "this device knows.\n"
    "\n"
    "  --follow         go on showing until it is read by everyone, rejected or expired\n"
    "  --offline        do not ask the service\n" CLIENT_OPTIONS_HELP;

struct track {
    struct client_cli cli;
    struct client c;
    bool follow, offline;
    char id[ID_TEXT];
    struct timeline timeline;
    size_t readers; // how many have to read it for the journey to end
    struct error offline_why;
    struct buf b;
};

enum { FOLLOW = 256, OFFLINE };
static const struct option own[] = {
    {"follow", no_argument, NULL, FOLLOW}, {"offline", no_argument, NULL, OFFLINE}, {0}};

static bool take(void *arg, int value, const char *text) {
    struct track *t = arg;
    *(value == FOLLOW ? &t->follow : &t->offline) = true;
    return true;
}

static void refresh(struct track *t) {
    struct store_point local[LOCAL_POINTS_MAX];
    struct answer a = {0};
    char path[80];
    t->offline_why.code = ERR_OK;
    if (!t->offline && !client_need_login(&t->c, &t->offline_why)) {
        snprintf(path, sizeof path, "/message/%s/journey", t->id);
        web_set_timeout(t->c.web, TIMEOUT_MS);
        web_call(t->c.web, "GET", path, NULL, &a);
        t->offline_why = a.error;
    }
    bool known = answer_verdict(&a) == VERDICT_DONE && a.status;
    size_t n = store_points(t->c.store, t->id, local, LOCAL_POINTS_MAX);
    timeline_fill(&t->timeline, local, n, known ? a.body : NULL);
    answer_release(&a);
}

// Who sent what to whom, as far as it is known here.
static void head(struct track *t) {
    struct out_message out;
    struct in_message in;
    char label[LABEL_MAX];
    t->readers = 1;
    buf_printf(&t->b, "%s\n", t->id);
    if (!store_outbox_get(t->c.store, t->id, &out, NULL)) {
        struct known_conversation known;
        if (!store_conversation(t->c.store, out.conversation_id, &known, NULL)) {
            json_t *members = json_loads(known.members, 0, NULL);
            if (json_array_size(members) > 2) t->readers = json_array_size(members) - 1;
            json_decref(members);
        }
        known_conversation_release(&known);
        label_of(&t->c, out.conversation_id, label);
        buf_printf(&t->b, "%s → ", t->c.profile.user_id);
        render_safe(&t->b, label, false);
        buf_add_str(&t->b, ": ");
        render_safe(&t->b, out.text ? out.text : out.filename, false);
        buf_add_str(&t->b, "\n");
    } else if (!store_message_get(t->c.store, t->id, &in, NULL)) {
        buf_printf(&t->b, "%s → %s: ", in.by_user_id, t->c.profile.user_id);
        render_safe(&t->b, in.text ? in.text : in.filename ? in.filename : "", false);
        buf_add_str(&t->b, "\n");
        in_message_release(&in);
    }
    out_message_release(&out);
    buf_add_str(&t->b, "\n");
}

static json_t *as_json(const struct track *t) {
    json_t *points = json_array();
    for (size_t i = 0; i < t->timeline.n; i++)
        json_array_append_new(points, timeline_point_json(&t->timeline.points[i]));
    return json_pack("{s:s, s:b, s:o}", "message_id", t->id, "from_service", t->timeline.from_service, "points",
                     points);
}

static int once(struct track *t) {
    refresh(t);
    bool unknown = t->timeline.n == 0;
    if (unknown && t->offline_why.code) return cli_fail(&t->cli, &t->offline_why);
    if (t->cli.json) {
        cli_json(as_json(t));
    } else {
        head(t);
        timeline_render(&t->timeline, t->cli.out, t->c.account.device_id, &t->b);
        cli_text(&t->b);
        if (t->offline_why.code) cli_warn(&t->cli, "only what this device knows: %s", t->offline_why.text);
    }
    return unknown ? EXIT_FAILED : 0;
}

static bool same_point(const struct timeline_point *a, const struct timeline_point *b) {
    return !strcmp(a->point, b->point) && !strcmp(a->user_id, b->user_id) && !strcmp(a->device_id, b->device_id) &&
           (a->at == b->at || a->local != b->local);
}

static bool shown_before(const struct timeline *seen, const struct timeline_point *p) {
    for (size_t i = 0; i < seen->n; i++)
        if (same_point(&seen->points[i], p)) return true;
    return false;
}

static void show_fresh(struct track *t, struct timeline *seen) {
    for (size_t i = 0; i < t->timeline.n; i++) {
        const struct timeline_point *p = &t->timeline.points[i];
        if (shown_before(seen, p) || seen->n == TIMELINE_POINTS_MAX) continue;
        seen->points[seen->n++] = *p;
        if (t->cli.json) {
            json_t *object = timeline_point_json(p);
            json_object_set_new(object, "message_id", json_string(t->id));
            cli_json(object);
        } else {
            timeline_render_point(&t->timeline, i, t->cli.out, t->c.account.device_id, &t->b);
            cli_text(&t->b);
        }
    }
}

static int follow(struct track *t) {
    struct timeline seen;
    timeline_init(&seen);
    head(t);
    if (t->cli.json) buf_clear(&t->b);
    int code = 0;
    for (;;) {
        refresh(t);
        if (t->timeline.n == 0 && t->offline_why.code && t->offline_why.code != ERR_UNAVAILABLE) {
            code = cli_fail(&t->cli, &t->offline_why);
            break;
        }
        show_fresh(t, &seen);
        if (timeline_ended(&t->timeline, t->readers)) break;
        client_sleep(FOLLOW_MS);
    }
    timeline_release(&seen);
    return code;
}

int cli_track(int argc, char **argv) {
    struct track t = {0};
    int first, code;
    if (!cli_client_options(&t.cli, &(struct client_command){help, own, take, &t}, argc, argv, &first, &code))
        return code;
    if (argc - first != 1) return cli_usage(&t.cli, "it wants: ID");
    if (!cli_open(&t.cli, &t.c, &code)) return code;
    struct error e = {0};
    buf_init(&t.b, 4 << 20);
    timeline_init(&t.timeline);
    if (store_resolve(t.c.store, argv[first], t.id, &e)) code = cli_fail(&t.cli, &e);
    else code = t.follow && !t.offline ? follow(&t) : once(&t);
    timeline_release(&t.timeline);
    buf_release(&t.b);
    client_release(&t.c);
    return code;
}
